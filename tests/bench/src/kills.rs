//! `kills`: kill -9 while certificates are issued, `--rounds` times, and then everything that the client holds against the log.
//!
//! Eight clients ask for one certificate after the other and keep each with its receipt. On SQLite the broker is killed in each
//! round; on Postgres by turns the broker, the server, and both. In the end the log is verified whole, and each receipt that the
//! client was given is checked as a third party would: under the log's key, its entry at its place, its checkpoint a state that
//! the final tree was in.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use ichor_broker::audit;
use ichor_broker::store::Store;
use ichor_broker::store::postgres::PostgresStore;
use ichor_broker::store::sqlite::{Options, SqliteStore};
use ichor_client::{Held, Session, Wish, certificate};
use ichor_wire::log::{Checkpoint, LogKey, leaf_hash};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::Settings;
use crate::postgres::{self, Server};
use crate::report::{Goal, Report};
use crate::world::{World, admin};

/// Requests under way at once.
const CLIENTS: usize = 8;
/// A round's kill comes after so many answers at the most; each round another number.
const ANSWERS: u64 = 24;
/// How long a broker or a server may take to be back.
const BACK: Duration = Duration::from_secs(60);

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("kills");
    let world = World::start(settings).await?;
    let store = async |world: &World| {
        Ok(Arc::new(SqliteStore::open_to_read(world.broker_dir().join("data/ichor.db"), Options::default())?)
            as Arc<dyn Store>)
    };
    campaign(&mut report, "SQLite", settings.rounds, world, None, store).await?;

    let Some(server) = Server::start(&settings.postgres_start)? else {
        report.note(format!("`{}` started no PostgreSQL, so none was killed", settings.postgres_start.display()));
        return Ok(report);
    };
    let url = server.database("kills")?;
    let address = postgres::empty(&url).await?;
    let world = World::start_on(settings, Some(&url)).await?;
    let store =
        async |_: &World| Ok(Arc::new(PostgresStore::open(&address, &postgres::options()).await?) as Arc<dyn Store>);
    campaign(&mut report, "Postgres", settings.rounds.div_ceil(5), world, Some(server), store).await?;
    Ok(report)
}

/// What the client has.
#[derive(Default)]
struct Ledger {
    held: Vec<Held>,
    cut_off: usize,
}

async fn campaign(
    report: &mut Report,
    engine: &str,
    rounds: u32,
    mut world: World,
    mut server: Option<Server>,
    open: impl AsyncFn(&World) -> anyhow::Result<Arc<dyn Store>>,
) -> anyhow::Result<()> {
    let session = Arc::new(world.log_in().await?);
    let (began, mut ledger) = (Instant::now(), Ledger::default());
    for round in 0..rounds {
        let mut answers = clients(&session);
        let mut left = 1 + u64::from(round) * 7 % ANSWERS;
        while left > 0 {
            match timeout(BACK, answers.recv()).await.context("no answer, and no failure either")? {
                Some(Some(held)) => ledger.held.push(held),
                Some(None) => ledger.cut_off += 1,
                None => anyhow::bail!("round {round}: every client failed before the kill"),
            }
            left -= 1;
        }
        // not always at the same moment of an answer
        sleep(Duration::from_micros(u64::from(round) * 137 % 3_000)).await;
        let (kills_broker, kills_server) = (server.is_none() || round % 3 != 1, round % 3 != 0);
        if kills_broker {
            world.kill()?;
        }
        if let Some(server) = server.as_mut().filter(|_| kills_server) {
            server.kill()?;
        }
        let is_over = async {
            while let Some(answer) = answers.recv().await {
                match answer {
                    Some(held) => ledger.held.push(held),
                    None => ledger.cut_off += 1,
                }
            }
        };
        timeout(BACK, is_over).await.with_context(|| format!("round {round}: a request has no end"))?;
        if let Some(server) = server.as_mut().filter(|_| kills_server) {
            server.again()?;
        }
        if kills_broker {
            world.serve_again()?;
        }
        is_back(&session, &mut ledger).await.with_context(|| format!("round {round}"))?;
    }
    let took = began.elapsed();
    let key: LogKey =
        admin(&["audit", "key", "--dir", world.broker_dir().to_str().context("a folder's name")?])?.trim().parse()?;
    let verified = world.verify_log()?;
    let found = compare(&*open(&world).await?, &ledger, &key).await?;
    report.note(format!("{engine}: {}", verified.lines().next().unwrap_or_default()));
    report.add(format!("{engine}: kills"), f64::from(rounds), "");
    report.add(format!("{engine}: seconds each"), took.as_secs_f64() / f64::from(rounds.max(1)), "s");
    report.add(format!("{engine}: certificates held"), count(ledger.held.len()), "");
    report.add(format!("{engine}: requests cut off"), count(ledger.cut_off), "");
    report.add(format!("{engine}: receipts still pending"), count(found.pending), "");
    report.hold(format!("{engine}: held, and not in the log"), count(found.missing), "", Goal::AtMost(0.0));
    report.hold(format!("{engine}: proofs that prove nothing"), count(found.unproven), "", Goal::AtMost(0.0));
    report.hold(format!("{engine}: two certificates of one grant"), count(found.twice), "", Goal::AtMost(0.0));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Clients that ask for one certificate after the other, each until a request fails; a failure is told as `None`.
fn clients(session: &Arc<Session>) -> mpsc::UnboundedReceiver<Option<Held>> {
    let (told, answers) = mpsc::unbounded_channel();
    for _ in 0..CLIENTS {
        let (session, told) = (Arc::clone(session), told.clone());
        tokio::spawn(async move {
            loop {
                let held = certificate(&session, &wish()).await.ok();
                let is_over = held.is_none();
                if told.send(held).is_err() || is_over {
                    return;
                }
            }
        });
    }
    answers
}

fn wish() -> Wish {
    Wish { cluster: "prod".into(), ..Wish::default() }
}

/// Returns once a certificate is issued again.
async fn is_back(session: &Session, ledger: &mut Ledger) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        match certificate(session, &wish()).await {
            Ok(held) => {
                ledger.held.push(held);
                return Ok(());
            }
            Err(error) if began.elapsed() > BACK => return Err(error).context("the broker does not come back"),
            Err(_) => {
                ledger.cut_off += 1;
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[derive(Default)]
struct Found {
    missing: usize,
    unproven: usize,
    pending: usize,
    twice: usize,
}

/// Holds all that the client has against the log.
async fn compare(store: &dyn Store, ledger: &Ledger, key: &LogKey) -> anyhow::Result<Found> {
    audit::verify_log(store).await?;
    let (mut found, mut grants) = (Found::default(), HashSet::new());
    for held in &ledger.held {
        let receipt = &held.answer.receipt;
        found.twice += usize::from(!grants.insert(held.answer.grant_id));
        let end = receipt.index.checked_add(1).context("an index")?;
        let stored = store.entry_range(receipt.index..end).await?;
        let is_there = stored.first().is_some_and(|entry| hex(&leaf_hash(&entry.leaf)) == receipt.leaf_hash);
        found.missing += usize::from(!is_there);
        let Some(note) = &receipt.checkpoint else {
            found.pending += 1;
            continue;
        };
        let is_proven = receipt.verify(key).is_ok_and(|proven| proven.leaf.index == receipt.index);
        let checkpoint = Checkpoint::parse_and_verify(note, key)?;
        let is_state = store.edge(checkpoint.size()).await?.root() == *checkpoint.root();
        found.unproven += usize::from(!(is_proven && is_state));
    }
    ensure!(!ledger.held.is_empty(), "nobody ever held a certificate");
    Ok(found)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
