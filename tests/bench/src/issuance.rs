//! `issuance`: certificates over HTTPS with DPoP, two durable entries each, at full load and at 500 a second.
//!
//! Each request has a key, a signing request and a proof of its own. They are made before the clock starts, so that what is
//! measured is the broker and not the generator; connections are kept, as the client keeps them. Broker and generator share
//! the machine's cores.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ichor_client::dpop::{DpopKey, ProofOf};
use ichor_client::session::KeptIn;
use ichor_client::{Environment, SessionStore};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use url::Url;

use crate::Settings;
use crate::connection::{Connection, Target, header};
use crate::meter::{Times, each, micros, millis, rate};
use crate::report::{Goal, Report};
use crate::step_ca::StepCa;
use crate::world::{self, World};

/// Connections at full load.
const CONNECTIONS: usize = 64;
/// Requests a second of the steady load.
const STEADY: u64 = 500;
/// More than a broker could answer in one second; as many requests are prepared for each.
const PREPARED: u64 = 6000;

/// A session as the wire has it.
struct Caller {
    token: String,
    key: DpopKey,
    url: Url,
    nonce: String,
}

type Requests = Arc<Mutex<VecDeque<Vec<u8>>>>;

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("issuance");
    let mut world = World::start(settings).await?;
    let target = Target::new(&world.url, &world.tls_ca)?;
    let caller = Caller::log_in(&world, &target).await?;
    let time = Duration::from_secs(settings.seconds);
    report.note(format!(
        "Ed25519 keys, {CONNECTIONS} kept connections, requests signed beforehand; SQLite, synchronous=FULL"
    ));

    let requests = caller.requests(PREPARED * settings.seconds)?;
    let (count, took, cpu, mut times) = full_load(&target, requests, time, || world.broker_cpu()).await?;
    report.hold("certificates", rate(count, took), "1/s", Goal::AtLeast(3800.0));
    report.hold("broker CPU each", micros(each(cpu, count)?), "µs", Goal::AtMost(220.0));
    report.add("at full load, p50", millis(times.percentile(0.5)), "ms");
    report.add("at full load, p99", millis(times.percentile(0.99)), "ms");

    let mut times = steady_load(&target, &caller, time).await?;
    report.add(format!("at {STEADY}/s, p50"), millis(times.percentile(0.5)), "ms");
    report.hold(format!("at {STEADY}/s, p99"), millis(times.percentile(0.99)), "ms", Goal::AtMost(10.0));

    match StepCa::start(&settings.step_ca, &settings.dir).await? {
        Some(peer) => {
            let ours = rate(count, took);
            let requests = peer.requests(PREPARED * settings.seconds)?;
            let (count, took, cpu, _) = full_load(&peer.target()?, requests, time, || world::cpu(peer.pid())).await?;
            report.add("step-ca with badger beside", rate(count, took), "1/s");
            report.add("step-ca CPU each", micros(each(cpu, count)?), "µs");
            report.hold("ratio to step-ca", ours / rate(count, took), "×", Goal::AtLeast(3.0));
        }
        None => report.note(format!("`{}` was not found, so nothing ran beside", settings.step_ca.display())),
    }

    let verified = world.verify_log()?;
    report.note(format!("afterwards: {}", verified.lines().next().unwrap_or_default()));
    Ok(report)
}

/// Every connection sends its next request when the last was answered.
async fn full_load(
    target: &Target,
    requests: Vec<Vec<u8>>,
    time: Duration,
    used: impl Fn() -> anyhow::Result<Duration>,
) -> anyhow::Result<(usize, Duration, Duration, Times)> {
    let requests: Requests = Arc::new(Mutex::new(requests.into()));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(target.connect().await?);
    }
    let (began, cpu) = (Instant::now(), used()?);
    let end = began + time;
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let requests = Arc::clone(&requests);
            tokio::spawn(async move {
                let mut times = Times::default();
                while Instant::now() < end {
                    let next = requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let request = next.context("the prepared requests have run out: prepare more")?;
                    let sent = Instant::now();
                    issue(&mut connection, &request).await?;
                    times.push(sent.elapsed());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Times::default();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok((times.len(), began.elapsed(), used()?.saturating_sub(cpu), times))
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
            issue(&mut connection, &request).await?;
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

async fn issue(connection: &mut Connection, request: &[u8]) -> anyhow::Result<()> {
    let answer = connection.send(request).await?;
    ensure!([200, 201].contains(&answer.status), "{}\n{}", answer.head, String::from_utf8_lossy(&answer.body));
    Ok(())
}

// === impl Caller ===

impl Caller {
    /// Logs in with the client's library and takes token and key from where it keeps them.
    async fn log_in(world: &World, target: &Target) -> anyhow::Result<Self> {
        let session = world.log_in().await?;
        let kept = SessionStore::new(&Environment::isolated(world.scratch()))?.save(&session)?;
        let KeptIn::File(file) = kept else { anyhow::bail!("the session went into a keyring") };
        let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let text = |name: &str| kept.get(name).and_then(|value| value.as_str()).context("another form of session file");
        let key = DpopKey::from_pkcs8(BASE64_STANDARD.decode(text("key")?)?.into())?;
        let url = world.url.join("v1/clusters/prod/certificates")?;
        let mut caller = Self { token: text("token")?.into(), key, url, nonce: String::new() };
        let answer = target.connect().await?.send(&caller.request(None)?).await?;
        caller.nonce = header(&answer.head, "dpop-nonce").context("the broker gave no nonce")?.into();
        Ok(caller)
    }

    fn requests(&self, count: u64) -> anyhow::Result<Vec<Vec<u8>>> {
        let half = count / 2;
        std::thread::scope(|scope| {
            let make =
                |count| move || (0..count).map(|_| self.request(Some(&self.nonce))).collect::<Result<Vec<_>, _>>();
            let other = scope.spawn(make(half));
            let mut requests = make(count - half)()?;
            requests.extend(other.join().map_err(|_| anyhow::anyhow!("a thread failed"))??);
            Ok(requests)
        })
    }

    /// A whole HTTP request with a key, a signing request and a proof of its own.
    fn request(&self, nonce: Option<&str>) -> anyhow::Result<Vec<u8>> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
        let body = serde_json::to_vec(&serde_json::json!({ "csr": csr }))?;
        let of = ProofOf { method: "POST", url: &self.url, token: Some(&self.token), nonce, body: Some(&body) };
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs in the machine's own time")]
        let proof = self.key.proof(of, Timestamp::now())?;
        let mut request = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nauthorization: DPoP {}\r\ndpop: {proof}\r\ncontent-type: application/json\r\n\
             ichor-client-version: {}\r\ncontent-length: {}\r\n\r\n",
            self.url.path(),
            self.url.authority(),
            self.token,
            env!("CARGO_PKG_VERSION"),
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        Ok(request)
    }
}
