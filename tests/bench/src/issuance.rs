//! `issuance`: certificates over HTTPS with DPoP, two durable entries each, at full load and at 500 a second.
//!
//! Each request has a key, a signing request and a proof of its own. They are made before the clock starts, so that what is
//! measured is the broker and not the generator; connections are kept, as the client keeps them. Broker and generator share
//! the machine's cores.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use crate::Settings;
use crate::caller::Caller;
use crate::connection::{Connection, Target};
use crate::load::{self, Requests};
use crate::meter::{Times, micros, millis};
use crate::report::{Goal, Report};
use crate::step_ca::StepCa;
use crate::tree_cost;
use crate::world::{self, World};

/// Connections at full load.
const CONNECTIONS: usize = 64;
/// Requests a second of the steady load.
const STEADY: u64 = 500;
/// More than a broker could answer in one second; as many requests are prepared for each.
const PREPARED: u64 = 20_000;

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("issuance");
    let mut world = World::start(settings).await?;
    let target = Target::new(&world.url, &world.tls_ca)?;
    let caller = Caller::log_in(&world, &target).await?;
    let time = Duration::from_secs(settings.seconds);
    report.note(format!(
        "Ed25519 keys, {CONNECTIONS} kept connections, requests signed beforehand; SQLite, synchronous=FULL"
    ));

    let requests = Requests::once(caller.requests(PREPARED * settings.seconds)?);
    let mut ours = load::full(&target, CONNECTIONS, requests, time, || world.broker_cpu()).await?;
    report.hold("certificates", ours.rate(), "1/s", Goal::AtLeast(3800.0));
    report.hold("broker CPU each", micros(ours.cpu_each()?), "µs", Goal::AtMost(220.0));
    let tree = tree_cost::each_certificate(&settings.dir).await?;
    report.add("tree, checkpoints and proofs of that", micros(tree), "µs");
    let part = 100.0 * tree.as_secs_f64() / ours.cpu_each()?.as_secs_f64();
    report.hold("so the tree takes, one CPU time over the other", part, "%", Goal::AtMost(5.0));
    report.add("at full load, p50", millis(ours.times.percentile(0.5)), "ms");
    report.add("at full load, p99", millis(ours.times.percentile(0.99)), "ms");

    let mut times = steady_load(&target, &caller, time).await?;
    report.add(format!("at {STEADY}/s, p50"), millis(times.percentile(0.5)), "ms");
    report.hold(format!("at {STEADY}/s, p99"), millis(times.percentile(0.99)), "ms", Goal::AtMost(10.0));

    match StepCa::start(&settings.step_ca, &settings.dir).await? {
        Some(peer) => {
            let requests = Requests::once(peer.requests(PREPARED * settings.seconds)?);
            let target = peer.target()?;
            let theirs = load::full(&target, CONNECTIONS, requests, time, || world::cpu(peer.pid())).await?;
            report.add("step-ca with badger beside", theirs.rate(), "1/s");
            report.add("step-ca CPU each", micros(theirs.cpu_each()?), "µs");
            report.hold("ratio to step-ca", ours.rate() / theirs.rate(), "×", Goal::AtLeast(3.0));
        }
        None => report.note(format!("`{}` was not found, so nothing ran beside", settings.step_ca.display())),
    }

    let verified = world.verify_log()?;
    report.note(format!("afterwards: {}", verified.lines().next().unwrap_or_default()));
    Ok(report)
}

/// Requests begin by the clock, whether or not earlier ones were answered; a time counts from when it should have begun.
async fn steady_load(target: &Target, caller: &Caller, time: Duration) -> anyhow::Result<Times> {
    let requests = caller.requests(STEADY * time.as_secs())?;
    let (idle, free) = mpsc::channel::<Connection>(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        idle.send(target.connect().await?).await?;
    }
    let free = Arc::new(AsyncMutex::new(free));
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(STEADY)?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = Vec::with_capacity(requests.len());
    for request in requests {
        let due = ticks.tick().await;
        let (idle, free) = (idle.clone(), Arc::clone(&free));
        tasks.push(tokio::spawn(async move {
            let mut connection = free.lock().await.recv().await.context("no connection")?;
            load::answered(&mut connection, &request).await?;
            let took = due.elapsed();
            idle.send(connection).await?;
            anyhow::Ok(took)
        }));
    }
    let mut times = Times::default();
    for task in tasks {
        times.push(task.await??);
    }
    Ok(times)
}
