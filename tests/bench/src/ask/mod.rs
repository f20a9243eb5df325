//! `ask`: what questions to the audit cost, and how that grows with the log.
//!
//! A generator fills one database step by step, through the store's own way in: as many calls at nodes as entries, over
//! [`history::DAYS`] days, of [`history::CLUSTERS`] clusters with [`history::NODES`] nodes each. At every size the same questions are asked, each about
//! another node, person or cluster, over the newest 30 days, the newest hundred answers each; then the log is opened anew as a
//! start does, and at the end it is verified whole. Memory is that of a process of its own, which does all but the filling: the
//! generator's batches are none of the broker's.

mod history;
mod place;
mod question;

use std::path::Path;

use anyhow::ensure;
use ichor_broker::audit::{self, Grace, Known, Notary};
use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::custody::AuditKey;
use ichor_broker::store::sqlite::{Options, SqliteStore};
use jiff::SignedDuration;
use tokio::time::Instant;

use crate::meter::{millis, peak, rate};
use crate::report::{Goal, Report};
use crate::{Settings, postgres};
pub(crate) use history::entry;
use history::{CLUSTERS, DAYS, History, NODES, PERSONS, begin};
use place::Place;
use question::{ANSWERS, QUESTIONS, Question};

/// The smallest size, from which sizes grow tenfold.
const FIRST: u64 = 10_000;
/// So many entries without a call tell what an entry takes on disk.
const ALONE: u64 = 100_000;
/// So many MiB more than at [`FIRST`] the process that asks may need at a larger size.
const GROWTH: f64 = 16.0;

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("ask");
    report.note(format!(
        "{DAYS} days, {CLUSTERS} clusters of {NODES} nodes, {PERSONS} persons; as many calls as entries; each question over the \
         newest 30 days, at most {ANSWERS} answers; {QUESTIONS} questions of each kind at each size"
    ));
    let folder = tempfile::tempdir_in(&settings.dir)?;
    sweep(&mut report, &Place::Sqlite(folder.path().join("ichor.db")), settings.entries).await?;
    let bytes = each(size_of(folder.path())?, settings.entries);
    report.add("SQLite: bytes an entry and a call, with tree and indexes", bytes, "B");
    drop(folder);
    report.add("SQLite: bytes an entry, with tree and indexes", alone(&settings.dir).await?, "B");

    if let Some(url) = &settings.postgres {
        postgres::empty(url).await?;
        sweep(&mut report, &Place::Postgres(url.clone()), settings.entries).await?;
        let sizes = postgres::sizes(url)?;
        let bytes = each(sizes.database, settings.entries);
        report.add("Postgres: bytes an entry and a call, with tree and indexes", bytes, "B");
        report.add("Postgres: bytes an entry, with tree and indexes", each(sizes.log, settings.entries), "B");
    } else {
        report.note("Postgres was not asked: name an empty database with --postgres");
    }
    Ok(report)
}

/// What the process of its own does with the database at this place, and the most memory that it had resident on the way, in
/// MiB: it opens it as a start does, asks all questions, and verifies the whole log where that is wanted.
pub(crate) async fn peak_at(place: &str, with_verification: bool) -> anyhow::Result<f64> {
    let store = Place::named(place).open().await?;
    audit::open(&*store, &notary()?, &known(), SystemClock.now()).await?;
    for question in Question::ALL {
        question.ask(&*store).await?;
    }
    if with_verification {
        audit::verify_log(&*store).await?;
    }
    peak()
}

/// Bytes of SQLite's files for each entry of a log that has no calls.
async fn alone(dir: &Path) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir_in(dir)?;
    let store = SqliteStore::open(folder.path().join("ichor.db"), Options::default())?;
    History { began: begin()?, entries: ALONE, has_calls: false }.fill(&store, ALONE).await?;
    drop(store);
    Ok(each(size_of(folder.path())?, ALONE))
}

#[expect(clippy::cast_precision_loss, reason = "a database's size fits into 53 bits")]
fn each(bytes: u64, entries: u64) -> f64 {
    bytes as f64 / entries.max(1) as f64
}

/// Bytes in the folder's files.
fn size_of(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder)? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}

fn notary() -> anyhow::Result<Notary> {
    let grace = Grace { key: SignedDuration::from_mins(1), anchor: SignedDuration::from_mins(1) };
    Ok(Notary::new(AuditKey::from_seed(&[1; 32])?, "bench", Vec::new(), grace)?)
}

/// What a start knows of a log that was signed before.
fn known() -> Known {
    Known { is_signed: true, ..Known::default() }
}

/// Fills up to `entries`, and asks at every tenfold size on the way.
async fn sweep(report: &mut Report, place: &Place, entries: u64) -> anyhow::Result<()> {
    let engine = place.engine();
    let history = History { began: begin()?, entries, has_calls: true };
    let notary = notary()?;
    let sizes = std::iter::successors(Some(FIRST), |size| size.checked_mul(10)).take_while(|size| *size < entries);
    let (mut first, mut at_first, mut store) = (None, None, place.open().await?);
    audit::open(&*store, &notary, &Known::default(), SystemClock.now()).await?;
    for size in sizes.chain([entries]) {
        let began = (Instant::now(), store.head().await?.size);
        history.fill(&*store, size).await?;
        let grown = usize::try_from(size - began.1)?;
        let at = format!("{engine}, {size} entries");
        report.add(format!("{at}: filled at"), rate(grown, began.0.elapsed()), "1/s");

        // what a start does: open, compare from the last checkpoint on, sign
        drop(store);
        let began = Instant::now();
        store = place.open().await?;
        audit::open(&*store, &notary, &known(), SystemClock.now()).await?;
        report.add(format!("{at}: first start, all since unsigned"), began.elapsed().as_secs_f64(), "s");
        drop(store);
        let began = Instant::now();
        store = place.open().await?;
        audit::open(&*store, &notary, &known(), SystemClock.now()).await?;
        report.hold(format!("{at}: start"), began.elapsed().as_secs_f64(), "s", Goal::AtMost(1.0));

        for kind in Question::ALL {
            let mut times = kind.ask(&*store).await?;
            report.add(format!("{at}: {}, p50", kind.said()), millis(times.percentile(0.5)), "ms");
            let p99 = millis(times.percentile(0.99));
            report.hold(format!("{at}: {}, p99", kind.said()), p99, "ms", Goal::AtMost(50.0));
            if kind == Question::Who {
                let first = *first.get_or_insert(p99);
                report.add(format!("{at}: that p99 over the one at {FIRST}"), p99 / first, "×");
            }
        }
        drop(store);
        let memory = place.peak(false).await?;
        report.add(format!("{at}: memory of a process that starts and asks, at its peak"), memory, "MiB");
        let more = memory - *at_first.get_or_insert(memory);
        report.hold(format!("{at}: that memory less the one at {FIRST}"), more, "MiB", Goal::AtMost(GROWTH));
        store = place.open().await?;
    }
    let began = Instant::now();
    let verified = audit::verify_log(&*store).await?;
    let took = began.elapsed();
    ensure!(verified.entries >= entries, "{} entries of {entries}", verified.entries);
    report.add(format!("{engine}: verified at the database"), rate(usize::try_from(verified.entries)?, took), "1/s");
    drop(store);
    let more = place.peak(true).await? - at_first.unwrap_or_default();
    report.hold(format!("{engine}: memory with that, less the one at {FIRST}"), more, "MiB", Goal::AtMost(GROWTH));
    Ok(())
}
