//! `ask`: what questions to the audit cost, and how that grows with the log.
//!
//! A generator fills one database step by step, through the store's own way in: as many calls at nodes as entries, over
//! [`DAYS`] days, of [`CLUSTERS`] clusters with [`NODES`] nodes each. At every size the same questions are asked, each about
//! another node, person or cluster, over the newest 30 days, the newest hundred answers each; then the log is opened anew as a
//! start does, and at the end it is verified whole.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use ichor_broker::audit::{self, Grace, Known, Notary};
use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::custody::AuditKey;
use ichor_broker::domain::{GrantId, Person, ProviderAlias};
use ichor_broker::store::postgres::PostgresStore;
use ichor_broker::store::rows::NewEntry;
use ichor_broker::store::sqlite::{Options, SqliteStore};
use ichor_broker::store::{Append, Call, CallClass, CallFilter, Change, EntryFilter, NodeName, NodeService, Store};
use ichor_wire::log::{Content, Entry, Kind, Person as LogPerson, VERSION};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

use crate::meter::{Times, millis, rate, resident};
use crate::report::{Goal, Report};
use crate::{Settings, postgres};

/// Questions of one kind at one size.
const QUESTIONS: u64 = 300;
/// Rows that each answer may have.
const ANSWERS: u32 = 100;
/// What the log covers, in days.
const DAYS: i64 = 120;
/// What a question covers.
const ASKED: SignedDuration = SignedDuration::from_hours(30 * 24);
const CLUSTERS: u64 = 50;
const NODES: u64 = 10;
const PERSONS: u64 = 200;
const METHODS: [&str; 8] = ["Version", "Dmesg", "Logs", "ServiceList", "Reboot", "Read", "Containers", "Events"];
/// Entries of one batch, and calls kept with each: so many that the pages of the indexes, which every batch touches, are not
/// written once for each few rows.
const BATCH: u64 = 20_000;
/// The smallest size, from which sizes grow tenfold.
const FIRST: u64 = 10_000;
/// So many entries without a call tell what an entry takes on disk.
const ALONE: u64 = 100_000;
/// So many MiB more than at [`FIRST`] this process may have resident at a larger size.
const GROWTH: f64 = 64.0;

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("ask");
    report.note(format!(
        "{DAYS} days, {CLUSTERS} clusters of {NODES} nodes, {PERSONS} persons; as many calls as entries; each question over the \
         newest 30 days, at most {ANSWERS} answers; {QUESTIONS} questions of each kind at each size"
    ));
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let path = folder.path().join("ichor.db");
    let store = || anyhow::Ok(Arc::new(SqliteStore::open(&path, Options::default())?) as Arc<dyn Store>);
    sweep(&mut report, "SQLite", settings.entries, async || store()).await?;
    let bytes = each(size_of(folder.path())?, settings.entries);
    report.add("SQLite: bytes an entry and a call, with tree and indexes", bytes, "B");
    drop(folder);
    report.add("SQLite: bytes an entry, with tree and indexes", alone(&settings.dir).await?, "B");

    if let Some(url) = &settings.postgres {
        let address = postgres::empty(url).await?;
        let store = async || Ok(Arc::new(PostgresStore::open(&address, &postgres::options()).await?) as Arc<dyn Store>);
        sweep(&mut report, "Postgres", settings.entries, store).await?;
        let sizes = postgres::sizes(url)?;
        let bytes = each(sizes.database, settings.entries);
        report.add("Postgres: bytes an entry and a call, with tree and indexes", bytes, "B");
        report.add("Postgres: bytes an entry, with tree and indexes", each(sizes.log, settings.entries), "B");
    } else {
        report.note("Postgres was not asked: name an empty database with --postgres");
    }
    Ok(report)
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

/// Fills up to `entries`, and asks at every tenfold size on the way.
async fn sweep(
    report: &mut Report,
    engine: &str,
    entries: u64,
    open: impl AsyncFn() -> anyhow::Result<Arc<dyn Store>>,
) -> anyhow::Result<()> {
    let history = History { began: begin()?, entries, has_calls: true };
    let grace = Grace { key: SignedDuration::from_mins(1), anchor: SignedDuration::from_mins(1) };
    let notary = Arc::new(Notary::new(AuditKey::from_seed(&[1; 32])?, "bench", Vec::new(), grace)?);
    let sizes = std::iter::successors(Some(FIRST), |size| size.checked_mul(10)).take_while(|size| *size < entries);
    let (mut first, mut at_first, mut store) = (None, None, open().await?);
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
        store = open().await?;
        let known = Known { is_signed: true, ..Known::default() };
        audit::open(&*store, &notary, &known, SystemClock.now()).await?;
        report.add(format!("{at}: first start, all since unsigned"), began.elapsed().as_secs_f64(), "s");
        drop(store);
        let began = Instant::now();
        store = open().await?;
        audit::open(&*store, &notary, &known, SystemClock.now()).await?;
        report.hold(format!("{at}: start"), began.elapsed().as_secs_f64(), "s", Goal::AtMost(1.0));

        for kind in Question::ALL {
            let mut times = history.ask(&*store, kind, size).await?;
            report.add(format!("{at}: {}, p50", kind.said()), millis(times.percentile(0.5)), "ms");
            let p99 = millis(times.percentile(0.99));
            report.hold(format!("{at}: {}, p99", kind.said()), p99, "ms", Goal::AtMost(50.0));
            if kind == Question::Who {
                let first = *first.get_or_insert(p99);
                report.add(format!("{at}: that p99 over the one at {FIRST}"), p99 / first, "×");
            }
        }
        let memory = resident()?;
        report.add(format!("{at}: memory of this process"), memory, "MiB");
        let more = memory - *at_first.get_or_insert(memory);
        report.hold(format!("{at}: that memory less the one at {FIRST}"), more, "MiB", Goal::AtMost(GROWTH));
    }
    let began = Instant::now();
    let verified = audit::verify_log(&*store).await?;
    let took = began.elapsed();
    ensure!(verified.entries >= entries, "{} entries of {entries}", verified.entries);
    report.add(format!("{engine}: verified at the database"), rate(usize::try_from(verified.entries)?, took), "1/s");
    let more = resident()? - at_first.unwrap_or_default();
    report.hold(format!("{engine}: memory after it less the one at {FIRST}"), more, "MiB", Goal::AtMost(GROWTH));
    Ok(())
}

/// The first entry's time.
fn begin() -> anyhow::Result<Timestamp> {
    let now = SystemClock.now();
    Ok(now.checked_sub(SignedDuration::from_hours(DAYS * 24))?)
}

/// A question to the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Who called this node?
    Who,
    /// Who called this node by this method?
    Method,
    /// What calls did this person make?
    Calls,
    /// What entries has this person?
    Person,
    /// Which certificates were issued for this cluster?
    Issued,
    /// Which calls does no grant explain?
    Unexplained,
}

// === impl Question ===

impl Question {
    const ALL: [Self; 6] = [Self::Who, Self::Method, Self::Calls, Self::Person, Self::Issued, Self::Unexplained];

    fn said(self) -> &'static str {
        match self {
            Self::Who => "who called a node",
            Self::Method => "who rebooted a node",
            Self::Calls => "calls of a person",
            Self::Person => "entries of a person",
            Self::Issued => "certificates of a cluster",
            Self::Unexplained => "unexplained calls",
        }
    }
}

/// The log as the generator makes it.
struct History {
    began: Timestamp,
    /// How many entries there will be in the end; they lie evenly over the days.
    entries: u64,
    /// Whether calls are kept with the entries, as many as these.
    has_calls: bool,
}

// === impl History ===

impl History {
    fn time(&self, index: u64) -> anyhow::Result<Timestamp> {
        let whole = i128::from(DAYS) * 24 * 3_600_000_000;
        let micros = whole * i128::from(index) / i128::from(self.entries.max(1));
        Ok(self.began.checked_add(SignedDuration::from_micros(i64::try_from(micros)?))?)
    }

    /// Appends until there are `size` entries or a few more: where there are calls, each batch's last entry keeps a batch of them.
    async fn fill(&self, store: &dyn Store, size: u64) -> anyhow::Result<()> {
        let mut next = store.head().await?.size;
        while next < size {
            let end = (next + BATCH).min(size).max(next + 1);
            let mut batch = Vec::new();
            for index in next..end {
                let is_last = self.has_calls && index + 1 == end;
                let content = if is_last { Content::of(Kind::NodeLog) } else { content(index) };
                let calls = if is_last {
                    (next..end).map(|number| self.call(number)).collect::<Result<_, _>>()?
                } else {
                    Vec::new()
                };
                let change = is_last.then_some(Change::CallsKept { calls, most: u64::MAX });
                batch.push(Append { entry: entry(index, content, self.time(index)?)?, change });
            }
            store.append(batch, None).await?;
            next = end;
        }
        Ok(())
    }

    fn call(&self, number: u64) -> anyhow::Result<Call> {
        let spread = scattered(number);
        let person = spread % PERSONS;
        let method = METHODS.get(usize::try_from(spread / 7 % 8)?).copied().unwrap_or_default();
        let is_explained = !spread.is_multiple_of(1000);
        Ok(Call {
            cluster: cluster(spread / 3 % CLUSTERS),
            node: node(spread / 3 % CLUSTERS, spread / 151 % NODES),
            service: NodeService::Machined,
            method: format!("/machine.MachineService/{method}"),
            code: Some(0),
            started: self.time(number)?,
            duration: 93,
            roles: "os:reader".into(),
            owner: is_explained.then(|| owner(person)).transpose()?,
            user: Some(user(person)),
            grant: Some(grant(number)),
            peer: None,
            class: if is_explained { CallClass::Explained } else { CallClass::Unexplained },
            why: None,
            entry: None,
        })
    }

    async fn ask(&self, store: &dyn Store, kind: Question, size: u64) -> anyhow::Result<Times> {
        let since = self.time(size)?.checked_sub(ASKED)?;
        let mut times = Times::default();
        let mut found = 0;
        for number in 0..QUESTIONS {
            let spread = scattered(number);
            let (of, person) = (spread % CLUSTERS, user(spread % PERSONS));
            let calls = CallFilter { since: Some(since), ..CallFilter::default() };
            let entries = EntryFilter { since: Some(since), ..EntryFilter::default() };
            let named = NodeName { cluster: None, node: node(of, spread / 50 % NODES) };
            let at_node = CallFilter { cluster: Some(cluster(of)), nodes: vec![named], ..calls.clone() };
            let began = Instant::now();
            found += match kind {
                Question::Who => store.calls(&at_node, None, ANSWERS).await?.len(),
                Question::Method => {
                    store.calls(&CallFilter { method: Some("Reboot".into()), ..at_node }, None, ANSWERS).await?.len()
                }
                Question::Calls => store.calls(&CallFilter { user: Some(person), ..calls }, None, ANSWERS).await?.len(),
                Question::Person => {
                    store.entries(&EntryFilter { person: Some(person), ..entries }, None, ANSWERS).await?.len()
                }
                Question::Issued => {
                    let filter = EntryFilter { cluster: Some(cluster(of)), kind: Some(Kind::Issued), ..entries };
                    store.entries(&filter, None, ANSWERS).await?.len()
                }
                Question::Unexplained => {
                    let classes = CallClass::ALL.into_iter().filter(|class| *class != CallClass::Explained).collect();
                    store.calls(&CallFilter { classes, ..calls }, None, ANSWERS).await?.len()
                }
            };
            times.push(began.elapsed());
        }
        ensure!(found > 0, "{kind:?} found nothing at {size}");
        Ok(times)
    }
}

/// Spreads numbers: neighbours differ in everything (the finaliser of splitmix64).
fn scattered(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn cluster(number: u64) -> String {
    format!("prod-{number}")
}

fn node(cluster: u64, number: u64) -> String {
    format!("10.{cluster}.0.{number}")
}

fn user(number: u64) -> String {
    format!("person{number}@example.com")
}

fn grant(number: u64) -> GrantId {
    GrantId(Uuid::from_u128(0x0193_533d_9c00_7000_8000_0000_0000_0000 + u128::from(number / 2)))
}

fn owner(number: u64) -> anyhow::Result<Person> {
    let provider = ProviderAlias::new("corp").context("an alias")?;
    Ok(Person { provider, issuer: ISSUER.into(), subject: format!("248289761001-{number}") })
}

const ISSUER: &str = "https://login.example.com/realms/company";

/// A grant, and at the next place its certificate.
fn content(index: u64) -> Content {
    let spread = scattered(index / 2);
    let person = spread % PERSONS;
    let is_issued = index % 2 == 1;
    let bytes = |salt: u64| [scattered(index ^ salt), scattered(index ^ salt ^ 1)].map(u64::to_be_bytes).concat();
    Content {
        person: Some(LogPerson {
            provider: "corp".into(),
            issuer: ISSUER.into(),
            subject: format!("248289761001-{person}"),
            name: "Alice Example".into(),
            user: user(person),
        }),
        cluster: Some(cluster(spread / 3 % CLUSTERS)),
        grant: Some(grant(index).0.into_bytes().to_vec()),
        session: Some(vec![8; 16]),
        address: (!is_issued).then(|| "203.0.113.17".into()),
        roles: Some(vec!["os:reader".into()]),
        not_after: Some(1_800_000_000),
        reason: (!is_issued).then(|| "INC-4242: drops packets, looking at dmesg and the link's counters".into()),
        serial: is_issued.then(|| bytes(2)),
        fingerprint: is_issued.then(|| [bytes(4), bytes(6)].concat()),
        ..Content::of(if is_issued { Kind::Issued } else { Kind::Grant })
    }
}

/// An entry as the log has it; what is random in others follows from `index`.
pub(crate) fn entry(index: u64, content: Content, at: Timestamp) -> anyhow::Result<NewEntry> {
    let random = [scattered(index), scattered(!index)].map(u64::to_be_bytes).concat();
    let entry = Entry {
        version: VERSION,
        id: random.clone(),
        time: at.as_microsecond(),
        salt: random,
        broker: "bench".into(),
        content,
    };
    let encoded = entry.encode()?;
    Ok(NewEntry { entry, encoded })
}
