//! `audit`: durable appends through the sequencer, at several numbers of writers.
//!
//! Each writer waits for its entry before it sends the next, as requests do. SQLite with synchronous=FULL on the file system
//! that is named above; entries are of the size and shape of a grant's, about 600 bytes. Each load is run once with a notary that
//! signs the tree, without an anchor, and once without one; the tree itself grows in both. The two brokers on Postgres sign, and are
//! two stores, sequencers and notaries with one key in this process: they share its cores as two hosts would not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use ichor_broker::audit::{self, Grace, Known, Notary, Sequencer, Settings as SequencerSettings};
use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::custody::AuditKey;
use ichor_broker::store::Store;
use ichor_broker::store::postgres::PostgresStore;
use ichor_broker::store::sqlite::{Options, SqliteStore};
use ichor_wire::log::{Content, Kind, Person};
use tokio::time::Instant;

use crate::meter::{Times, each, micros, millis, own_cpu, rate};
use crate::report::{Goal, Report};
use crate::{Settings, postgres};

/// Appends a second that the best of the loads must reach.
const GOAL_RATE: f64 = 50_000.0;
/// The same for two brokers on one Postgres.
const GOAL_POSTGRES: f64 = 10_000.0;

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("audit");
    report.note(
        "sequencer and SQLite, synchronous=FULL, entries of a grant's size; CPU is that of writers and log together",
    );
    let time = Duration::from_secs(settings.seconds);
    let mut best: f64 = 0.0;
    for writers in [1, 64, 512, 2048] {
        for is_signed in [false, true] {
            let folder = tempfile::tempdir_in(&settings.dir)?;
            let mut load = load(folder.path(), writers, time, is_signed).await?;
            let rate = rate(load.times.len(), load.took);
            let who = format!("{writers} writers, {}", if is_signed { "signed" } else { "not signed" });
            if is_signed {
                best = best.max(rate);
            }
            report.add(format!("{who}: appends"), rate, "1/s");
            report.add(format!("{who}: p50"), millis(load.times.percentile(0.5)), "ms");
            report.add(format!("{who}: p99"), millis(load.times.percentile(0.99)), "ms");
            report.add(format!("{who}: CPU each"), micros(each(load.cpu, load.times.len())?), "µs");
        }
    }
    report.hold("signed appends, at the best of these", best, "1/s", Goal::AtLeast(GOAL_RATE));
    match &settings.postgres {
        Some(url) => two_brokers(&mut report, url, time).await?,
        None => report.note("Postgres was not asked: name an empty database with --postgres"),
    }
    Ok(report)
}

/// Two brokers append to one Postgres database: one log, each batch under its row lock, its tree signed by whoever appended it.
async fn two_brokers(report: &mut Report, url: &str, time: Duration) -> anyhow::Result<()> {
    let address = postgres::empty(url).await?;
    let mut best: f64 = 0.0;
    for writers in [1, 64, 512] {
        let open =
            async || anyhow::Ok(Arc::new(PostgresStore::open(&address, &postgres::options()).await?) as Arc<dyn Store>);
        let before = open().await?.head().await?.size;
        let brokers = [open().await?, open().await?];
        let loads = brokers.map(|store| tokio::spawn(appends(store, writers, time, true)));
        let (mut times, mut took) = (Times::default(), Duration::ZERO);
        for load in loads {
            let load = load.await??;
            times.extend(load.times);
            took = took.max(load.took);
        }
        let recorded = usize::try_from(open().await?.head().await?.size - before)?;
        ensure!(recorded == times.len(), "{recorded} entries for {} answers", times.len());
        let rate = rate(times.len(), took);
        best = best.max(rate);
        let who = format!("Postgres, two brokers of {writers} writers each, signed");
        report.add(format!("{who}: appends"), rate, "1/s");
        report.add(format!("{who}: p50"), millis(times.percentile(0.5)), "ms");
        report.add(format!("{who}: p99"), millis(times.percentile(0.99)), "ms");
    }
    report.hold(
        "Postgres, two brokers: signed appends, at the best of these",
        best,
        "1/s",
        Goal::AtLeast(GOAL_POSTGRES),
    );
    Ok(())
}

struct Load {
    times: Times,
    took: Duration,
    cpu: Duration,
}

async fn load(folder: &Path, writers: usize, time: Duration, is_signed: bool) -> anyhow::Result<Load> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.join("ichor.db"), Options::default())?);
    let load = appends(Arc::clone(&store), writers, time, is_signed).await?;
    let recorded = store.head().await?.size;
    ensure!(
        recorded == u64::try_from(load.times.len()).context("a count")?,
        "{recorded} entries for {} answers",
        load.times.len()
    );
    Ok(load)
}

/// The load of one broker's writers.
async fn appends(store: Arc<dyn Store>, writers: usize, time: Duration, is_signed: bool) -> anyhow::Result<Load> {
    let settings = SequencerSettings { broker: "bench".into(), ..SequencerSettings::default() };
    let (sequencer, ended) = if is_signed {
        let grace = Grace { key: jiff::SignedDuration::from_mins(1), anchor: jiff::SignedDuration::from_mins(1) };
        let notary = Arc::new(Notary::new(AuditKey::from_seed(&[1; 32])?, "bench", Vec::new(), grace)?);
        let opened = audit::open(&*store, &notary, &Known::default(), SystemClock.now()).await?;
        Sequencer::vouched(Arc::clone(&store), Arc::new(SystemClock), settings, notary, opened.standing)
    } else {
        Sequencer::start(Arc::clone(&store), Arc::new(SystemClock), settings)
    };
    let (began, cpu) = (Instant::now(), own_cpu()?);
    let end = began + time;
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let sequencer = sequencer.clone();
            tokio::spawn(async move {
                let mut times = Times::default();
                while Instant::now() < end {
                    let sent = Instant::now();
                    sequencer.note(like_a_grant(), None).await?;
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
    let (took, cpu) = (began.elapsed(), own_cpu()?.saturating_sub(cpu));
    drop(sequencer);
    ended.await?;
    Ok(Load { times, took, cpu })
}

/// What a grant's entry says.
pub(crate) fn like_a_grant() -> Content {
    Content {
        person: Some(Person {
            provider: "corp".into(),
            issuer: "https://login.example.com/realms/company".into(),
            subject: "248289761001-4fd1-9d31".into(),
            name: "Alice Example".into(),
            user: "alice@example.com".into(),
        }),
        cluster: Some("prod-eu-central-1".into()),
        grant: Some(vec![7; 16]),
        session: Some(vec![8; 16]),
        address: Some("203.0.113.17".into()),
        roles: Some(vec!["os:reader".into()]),
        not_after: Some(1_800_000_000),
        reason: Some("INC-4242: node 10.0.0.5 drops packets, looking at dmesg and the link's counters".into()),
        policies: Some(vec!["sre-read-prod".into()]),
        public_key: Some(vec![9; 32]),
        mode: Some("direct".into()),
        policy_digest: Some(vec![10; 32]),
        ..Content::of(Kind::Grant)
    }
}
