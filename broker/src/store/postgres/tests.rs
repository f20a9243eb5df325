//! The conformance suite on Postgres, and what is Postgres' own. Each test has a database of its own on the server that
//! `ICHOR_TEST_POSTGRES` names.

use std::sync::Arc;

use ichor_wire::log::Kind;
use tokio_postgres::NoTls;

use super::*;
use crate::store::conformance::{self, after, append, keys, logged_in, noon, note, one, with};
use crate::store::copy::{Place, copy};
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{Change, Condition};

/// The server's URL, a superuser's, as `postgres://ichor@/postgres?host=/folder`; its name of the database is replaced.
#[expect(clippy::disallowed_methods, reason = "tests are told their server by the environment")]
fn server() -> String {
    std::env::var("ICHOR_TEST_POSTGRES").expect("ICHOR_TEST_POSTGRES names a server; run tests/interop/run postgres")
}

/// For servers that share their disk with a build.
const PATIENT: Duration = Duration::from_secs(60);

/// Runs a statement on the server, in this database.
pub(super) async fn run(database: &str, sql: &str) {
    let mut config: tokio_postgres::Config = server().parse().unwrap();
    let (db, connection) = config.dbname(database).connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    db.batch_execute(sql).await.unwrap();
    drop(db);
    connection.await.unwrap().unwrap();
}

/// A database that nobody else uses, migrated; its name.
pub(super) async fn fresh() -> (String, Address) {
    let name = format!("t{}", crate::entropy::uuid_v7(noon()).unwrap().simple());
    run("postgres", &format!("CREATE DATABASE {name}")).await;
    let address = address(&name);
    assert_eq!(PostgresStore::migrate(&address).await.unwrap(), schema::STEPS.len());
    (name, address)
}

pub(super) fn address(database: &str) -> Address {
    let url = server().replacen("/postgres?", &format!("/{database}?"), 1);
    Address::parse(&url.into(), TlsFiles::default()).unwrap()
}

pub(super) async fn open(address: &Address) -> Arc<PostgresStore> {
    let options = Options { skew: SignedDuration::ZERO, deadline: PATIENT, ..Options::default() };
    Arc::new(PostgresStore::open(address, &options).await.unwrap())
}

macro_rules! conforms {
    ($($case:ident),+) => { $(
        #[tokio::test]
        #[ignore = "needs a PostgreSQL server: tests/interop/run postgres"]
        async fn $case() {
            let (name, address) = fresh().await;
            let store = open(&address).await;
            conformance::$case(Arc::<PostgresStore>::clone(&store)).await;
            drop(store);
            run("postgres", &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    )+ };
}
mod conforms {
    use super::*;
    conformance::cases!(conforms);
}

/// Runs a case on a database of its own.
macro_rules! case {
    ($name:ident, |$database:ident, $address:ident| $body:block) => {
        #[tokio::test]
        #[ignore = "needs a PostgreSQL server: tests/interop/run postgres"]
        async fn $name() {
            let ($database, $address) = fresh().await;
            $body
            run("postgres", &format!("DROP DATABASE {} WITH (FORCE)", $database)).await;
        }
    };
}

case!(brokers_make_one_log_and_their_batches_follow_each_other, |_database, address| {
    let (a, b) = (open(&address).await, open(&address).await);
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..40 {
        let store = if number % 2 == 0 { Arc::clone(&a) } else { Arc::clone(&b) };
        tries.spawn(async move { append(&*store, vec![note(Kind::Start, noon()), note(Kind::Reload, noon())]).await });
    }
    let mut places: Vec<u64> = Vec::new();
    for answers in tries.join_all().await {
        let [Appended::Recorded { index: first, .. }, Appended::Recorded { index: second, .. }] = answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!(second, first + 1, "a batch is not torn apart");
        places.extend([first, second]);
    }
    places.sort_unstable();
    assert_eq!(places, (0..80).collect::<Vec<_>>());
    assert_eq!(a.head().await.unwrap(), b.head().await.unwrap());
});

case!(who_holds_the_database_alone_has_nobody_beside_it, |_database, address| {
    let options = || Options { deadline: PATIENT, ..Options::default() };
    let (a, b) = (open(&address).await, open(&address).await);
    assert_eq!(PostgresStore::open_alone(&address, &options()).await.map(drop), Err(StoreError::Locked));
    drop(a);
    assert_eq!(PostgresStore::open_alone(&address, &options()).await.map(drop), Err(StoreError::Locked));
    drop(b);
    // the server sees a moment later that they are gone
    let mut held = Err(StoreError::Locked);
    for _ in 0..20 {
        held = PostgresStore::open_alone(&address, &options()).await;
        if held.is_ok() {
            break;
        }
    }
    let alone = held.unwrap();
    append(&alone, vec![note(Kind::AuditKey, noon())]).await;
    let refused = PostgresStore::open(&address, &options()).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("holds it alone at this moment"), "{refused}");
    assert_eq!(PostgresStore::open_alone(&address, &options()).await.map(drop), Err(StoreError::Locked));
    drop(alone);
    let mut is_free = false;
    for _ in 0..400 {
        is_free = is_free || PostgresStore::open(&address, &options()).await.is_ok();
        if is_free {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(is_free, "nobody holds it any more");
});

case!(two_brokers_give_no_number_of_a_kit_twice_and_tell_once_that_it_is_due, |_database, address| {
    use crate::audit::{Sequencer, Settings};
    use crate::clock::{Clock, FrozenClock};
    use crate::kit::ledger::tests::made;
    use crate::kit::{DRILL_EVERY, Register, RegisterError, read_with_size, remind};
    let clock = FrozenClock::at(noon());
    let broker = async || {
        let store: Arc<dyn Store> = open(&address).await;
        let (sequencer, _) = Sequencer::start(Arc::clone(&store), clock.clone(), Settings::default());
        (Register::new(Arc::clone(&store), sequencer.clone()), store, sequencer)
    };
    let (a, b) = (broker().await, broker().await);
    let (first, second) = tokio::join!(a.0.note(made()), b.0.note(made()));
    let refused: Vec<_> = [first, second].into_iter().filter_map(Result::err).collect();
    assert_eq!(refused, [RegisterError::Taken(7)]);

    clock.advance(DRILL_EVERY);
    let (kits, size) = read_with_size(&*a.1).await.unwrap();
    assert_eq!(read_with_size(&*b.1).await.unwrap().1, size);
    let told = tokio::join!(remind(&kits, size, &a.2, clock.now()), remind(&kits, size, &b.2, clock.now()));
    assert_eq!(told, (Ok(()), Ok(())));
    let filter = EntryFilter { kind: Some(Kind::KitOverdue), ..EntryFilter::default() };
    assert_eq!(a.1.entries(&filter, None, 10).await.unwrap().len(), 1);
});

case!(of_several_brokers_one_holds_a_forwarding, |database, address| {
    let (a, b) = (open(&address).await, open(&address).await);
    let hold = async |store: &PostgresStore, holder: u8, now, until| {
        store.hold_forward("notify/pager", &[holder; 16], now, until).await.unwrap()
    };
    assert!(hold(&a, 1, noon(), after(30)).await);
    assert!(!hold(&b, 2, after(29), after(59)).await);
    assert!(hold(&a, 1, after(20), after(50)).await, "its holder goes on");
    assert!(!hold(&b, 2, after(49), after(79)).await);
    assert!(hold(&b, 2, after(50), after(80)).await, "once it is over, another does");
    assert!(!hold(&a, 1, after(51), after(81)).await);
    assert!(hold(&b, 2, after(52), after(52)).await, "and lets go of it");
    assert!(hold(&a, 1, after(52), after(82)).await);
    // of a clock that was ahead, or of who writes the database
    run(&database, "UPDATE forward_holder SET until = until + 3600000000").await;
    assert!(hold(&b, 2, after(53), after(83)).await, "no broker holds it for so long");
    assert!(hold(&b, 2, after(63), after(93)).await);
    assert!(!hold(&a, 1, after(53), after(83)).await, "a clock that is ten seconds ahead takes it from nobody");
});

// Else each entry would come from both, in whatever order they are.
case!(two_brokers_forward_in_one_order, |_database, address| {
    use crate::clock::FrozenClock;
    use crate::forward::{Destination, Forwarder, Settings};
    let clock = FrozenClock::at(noon());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let mut brokers = Vec::new();
    for _ in 0..2 {
        let store: Arc<dyn Store> = open(&address).await;
        let to = Settings { name: "siem".into(), to: Destination::Lines(path.clone()) };
        let key = Arc::new(crate::identity::fixture::key());
        let mut forwarder = Forwarder::new(to, "ichor.example.com", Arc::clone(&store), clock.clone(), key).unwrap();
        forwarder.begin(false).await.unwrap();
        brokers.push((store, forwarder));
    }
    let (_, mut other) = brokers.pop().unwrap();
    let (store, mut first) = brokers.pop().unwrap();
    append(&*store, (0..900).map(|_| note(Kind::Reload, noon())).collect()).await;
    for left in [700, 500] {
        let (sent, waits) = tokio::join!(first.step(), other.step());
        // whichever came first
        if sent == Ok(None) {
            std::mem::swap(&mut first, &mut other);
            assert_eq!(waits, Ok(Some(left)));
        } else {
            assert_eq!((sent, waits), (Ok(Some(left)), Ok(None)));
        }
    }
    // it stands still
    clock.advance(SignedDuration::from_secs(29));
    assert_eq!(other.step().await, Ok(None), "it may be slow");
    clock.advance(SignedDuration::from_secs(1));
    assert_eq!(other.step().await, Ok(Some(300)));
    assert_eq!(first.step().await, Ok(None), "what comes back does not send beside the other");
    while other.step().await.unwrap() > Some(0) {}
    let text = std::fs::read_to_string(&path).unwrap();
    let index = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["index"].as_u64().unwrap();
    assert_eq!(text.lines().map(index).collect::<Vec<_>>(), (0..900).collect::<Vec<_>>());
});

// One tells while the other waits; when it dies in the middle, the other goes on where it was.
case!(two_brokers_tell_in_one_order, |_database, address| {
    use crate::audit::{self, Sequencer};
    use crate::break_glass::{BreakGlass, Settings};
    use crate::clock::FrozenClock;
    use crate::domain::Clusters;
    use crate::notify::tests::{Hook, webhook};
    use crate::notify::{Courier, Step};
    use ichor_wire::log::Content;
    let clock = FrozenClock::at(noon());
    let (hook, url) = Hook::new(&[]).await;
    let policies = || Arc::new(crate::policy::PolicySet::load(&[], crate::policy::Limits::default()).unwrap());
    let mut brokers = Vec::new();
    for name in ["a", "b"] {
        let store: Arc<dyn Store> = open(&address).await;
        let (sequencer, _) = Sequencer::start(Arc::clone(&store), clock.clone(), audit::Settings::named(name));
        let glass = BreakGlass::new(
            Arc::clone(&store),
            sequencer.clone(),
            clock.clone(),
            Arc::new(crate::identity::fixture::key()),
            tokio::sync::watch::channel(policies()).1,
            tokio::sync::watch::channel(Clusters::default()).1,
            Settings {
                review_within: SignedDuration::from_hours(24),
                sinks: tokio::sync::watch::channel(Vec::new()).1,
                apart: crate::break_glass::Apart::default(),
                bounds: crate::store::AskBounds { open: 5, hourly: 10, unreviewed_alone: 3 },
            },
        );
        let courier = Courier::new(
            webhook(&url),
            "https://x",
            store,
            Arc::new(glass),
            clock.clone(),
            Arc::new(crate::identity::fixture::key()),
        )
        .unwrap();
        brokers.push((sequencer, courier));
    }
    let (other_log, mut other) = brokers.pop().unwrap();
    let (log, mut first) = brokers.pop().unwrap();
    first.begin(false).await.unwrap();
    other.begin(false).await.unwrap();
    assert_eq!(first.step().await, Ok(Step::Idle), "it holds the place from now on");
    for number in 0..10 {
        let log = if number % 2 == 0 { &log } else { &other_log };
        log.note(Content::of(Kind::KitInUse), None).await.unwrap();
    }
    for _ in 0..4 {
        assert_eq!(other.step().await, Ok(Step::Elsewhere));
        assert_eq!(first.step().await, Ok(Step::Sent));
    }
    drop(first);
    clock.advance(SignedDuration::from_secs(29));
    assert_eq!(other.step().await, Ok(Step::Elsewhere), "it may be slow");
    clock.advance(SignedDuration::from_secs(1));
    while other.step().await.unwrap() == Step::Sent {}
    assert_eq!(hook.places(), (0..10).collect::<Vec<_>>());
});

case!(who_writes_the_database_undoes_nothing, |database, address| {
    let store = open(&address).await;
    crate::break_glass::suspect_tests::who_writes_the_database_undoes_nothing(store, |sql| run(&database, sql)).await;
});

case!(changes_of_one_batch_are_made_in_their_order, |_database, address| {
    let store = open(&address).await;
    let row = logged_in(&*store, 1).await;
    // more than are polled at once, each of which only the first can make
    let ends = (0..200).map(|_| with(Change::SessionEnd { session: row.id, now: after(5) }));
    let grant =
        || with(Change::GrantMade { session: row.id, now: noon(), not_after: after(60), using: None, keys: keys() });
    let batch: Vec<_> = std::iter::once(grant()).chain(ends).chain([grant()]).collect();
    let answers = append(&*store, batch).await;
    assert!(matches!(answers[0], Appended::Recorded { index: 1, .. }));
    assert!(matches!(answers[1], Appended::Recorded { index: 2, .. }));
    assert!(answers[2..].iter().all(|answer| *answer == Appended::Refused(Condition::SessionEnded)), "{answers:?}");
});

case!(a_broker_that_stops_in_a_batch_loses_the_lock_and_its_batch, |_database, address| {
    let options = Options { deadline: Duration::from_secs(4), ..Options::default() };
    let store = PostgresStore::open(&address, &options).await.unwrap();
    let mut stopped = store.connections.one().await.unwrap();
    let transaction = stopped.transaction().await.unwrap();
    log::lock(&transaction).await.unwrap();
    // it does nothing more: another waits for the lock, and gets it
    assert!(matches!(one(&store, note(Kind::Start, noon())).await, Appended::Recorded { index: 0, .. }));
    let late = LogHead { size: 1, time: 1 };
    let late = log::insert(&transaction, &log::Rows::default(), late, &[0; 32]).await;
    let committed = transaction.commit().await;
    assert!(late.is_err() || committed.is_err(), "what comes back cannot append to a log that moved");
    assert_eq!(store.head().await.unwrap().size, 1);
});

// Else the receipt would have bytes that are not what the leaf stands for, and every client would call it false.
case!(an_entry_behind_another_brokers_is_answered_as_it_was_recorded, |_database, address| {
    let skewed = || Options { skew: SignedDuration::from_secs(10), deadline: PATIENT, ..Options::default() };
    let a = PostgresStore::open(&address, &skewed()).await.unwrap();
    let b = PostgresStore::open(&address, &skewed()).await.unwrap();
    append(&a, vec![note(Kind::Start, after(3))]).await;
    let behind = note(Kind::Reload, after(1));
    let given = behind.entry.encoded.clone();
    let answers = append(&b, vec![behind, note(Kind::Reload, after(5))]).await;
    let stored = b.entry_range(1..3).await.unwrap();
    let Appended::Recorded { retimed: Some(retimed), .. } = &answers[0] else { panic!("{answers:?}") };
    assert_eq!(stored[0].body.as_ref(), Some(retimed));
    assert_ne!(*retimed, given);
    assert!(matches!(answers[1], Appended::Recorded { retimed: None, .. }), "{answers:?}");
});

// Else a start would refuse a certificate whose body it saw and whose names it did not.
case!(an_entry_is_read_with_its_names_as_of_one_moment, |_database, address| {
    let store = open(&address).await;
    let issued = ichor_wire::log::Content {
        serial: Some(vec![1, 2, 3, 4, 5]),
        fingerprint: Some(vec![8; 32]),
        ..ichor_wire::log::Content::of(Kind::Issued)
    };
    append(&*store, vec![Append { entry: conformance::entry(issued, noon()), change: None }]).await;
    let (mut drops, looks) = (store.connections.one().await.unwrap(), store.connections.one().await.unwrap());
    let transaction = drops.transaction().await.unwrap();
    // whoever reads the names waits for this one's end
    transaction.batch_execute("LOCK TABLE certificate IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let reading = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.indexed_range(0..1).await.unwrap().remove(0) }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'certificate'::regclass AND NOT granted";
    while looks.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!reading.is_finished(), "it does not look for the names");
    }
    transaction.batch_execute("DELETE FROM body; DELETE FROM certificate").await.unwrap();
    transaction.commit().await.unwrap();
    let seen = reading.await.unwrap();
    let body = ichor_wire::log::Entry::decode(seen.entry.body.as_deref().unwrap()).unwrap();
    assert_eq!(seen.columns, crate::store::rows::Columns::of(&body));
    assert_eq!(store.indexed_range(0..1).await.unwrap()[0].entry.body, None);
});

// The table is looked at by stretches: a row is found wherever in them it lies, and none is passed over between two.
case!(a_name_of_a_certificate_that_no_entry_has_is_found_and_named, |database, address| {
    let store = open(&address).await;
    let issued = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let content = ichor_wire::log::Content {
            serial: Some(vec![1, high, low, 4, 5]),
            fingerprint: Some(vec![8; 32]),
            ..ichor_wire::log::Content::of(Kind::Issued)
        };
        Append { entry: conformance::entry(content, noon()), change: None }
    };
    // some 2,500 rows
    append(&*store, (0..1250).map(issued).collect()).await;
    let verified = async || crate::audit::verify_log(&*store).await.map(|report| report.entries);
    assert_eq!(verified().await, Ok(1250));
    // at the beginning, around the end of the first stretch, in the last, and behind all
    let (before, end, behind) = ((0x0103_e505, 997), (0x0103_e605, 998), (0x0103_e705, 999));
    for (first, index) in [(0_i64, 3_i64), before, end, behind, (0x0808_0808, -1), (0x0101_0101_0101, 7)] {
        run(&database, &format!("INSERT INTO certificate (prefix, idx) VALUES ({first}, {index})")).await;
        let said = format!("begins with {first:08x} and leads to entry {index}");
        let found = verified().await.unwrap_err().to_string();
        assert!(found.contains(&said), "{said}: {found}");
        run(&database, &format!("DELETE FROM certificate WHERE prefix = {first} AND idx = {index}")).await;
    }
    assert_eq!(verified().await, Ok(1250));
});

case!(a_broker_does_not_go_on_with_a_tree_that_it_does_not_know, |database, address| {
    let (a, b) = (open(&address).await, open(&address).await);
    append(&*a, (0..300).map(|_| note(Kind::Start, noon())).collect()).await;
    append(&*b, vec![note(Kind::Start, noon())]).await;
    append(&*a, vec![note(Kind::Start, noon())]).await;
    assert_eq!(a.edge(302).await.unwrap(), b.edge(302).await.unwrap());
    // as many entries, another log: put there by who restored a copy that had gone on
    run(&database, "UPDATE log_head SET root = sha256('another')").await;
    let refused = a.append(vec![note(Kind::Start, noon())], None).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Damaged(why) if why.contains("another root at 302")), "{refused}");
    assert_eq!(a.head().await.unwrap().size, 302);
});

case!(a_tile_that_another_broker_completed_proves_what_came_before, |_database, address| {
    let (a, b) = (open(&address).await, open(&address).await);
    let first = a.append(vec![note(Kind::Start, noon())], None).await.unwrap();
    append(&*b, (0..300).map(|_| note(Kind::Reload, noon())).collect()).await;
    let later = a.append(vec![note(Kind::Start, noon())], None).await.unwrap();
    let tree = first.tree.followed_by(&later.tree);
    let Appended::Recorded { index, leaf_hash, .. } = first.parts[0].clone() else { panic!("{first:?}") };
    let proof = tree.edge.prover(&tree.tiles).inclusion(index).unwrap();
    ichor_wire::log::tree::verify_inclusion(index, 302, &leaf_hash, &proof, &tree.edge.root()).unwrap();
});

case!(the_settings_of_a_session_are_ours, |database, address| {
    run(&database, &format!("ALTER DATABASE {database} SET synchronous_commit = off")).await;
    run(&database, &format!("ALTER DATABASE {database} SET default_transaction_isolation = serializable")).await;
    let store = open(&address).await;
    let db = store.connections.one().await.unwrap();
    for (name, value) in [
        ("synchronous_commit", "on"),
        ("default_transaction_isolation", "read committed"),
        ("statement_timeout", "1min"),
        ("lock_timeout", "45s"),
        ("idle_in_transaction_session_timeout", "30s"),
    ] {
        let found: String = db.query_one("SELECT current_setting($1)", &[&name]).await.unwrap().get(0);
        assert_eq!(found, value, "{name}");
    }
});

case!(a_log_that_got_shorter_is_not_continued, |database, address| {
    let store = open(&address).await;
    append(&*store, vec![note(Kind::Start, noon()), note(Kind::Reload, noon())]).await;
    run(&database, "DELETE FROM leaf WHERE idx = 1; DELETE FROM body WHERE idx = 1; UPDATE log_head SET size = 1")
        .await;
    let refused = store.append(vec![note(Kind::Start, noon())], None).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Damaged(why) if why.contains("1 entries where this broker has seen 2")),
        "{refused}"
    );
});

case!(a_batch_that_cannot_stand_leaves_nothing_and_the_next_one_does, |database, address| {
    let store = open(&address).await;
    // a body without a leaf, where the second entry of the batch will go
    run(&database, "INSERT INTO body (idx, body) VALUES (1, '\\x00')").await;
    let content = ichor_wire::log::Content {
        person: Some(conformance::log_person("s", "ada")),
        ..ichor_wire::log::Content::of(Kind::Login)
    };
    let named = || Append { entry: conformance::entry(content.clone(), noon()), change: None };
    assert!(store.append(vec![named(), named()], None).await.is_err());
    assert_eq!(store.head().await.unwrap().size, 0);
    run(&database, "DELETE FROM body").await;
    // its name was forgotten with it: it is given a number again
    assert!(matches!(one(&*store, named()).await, Appended::Recorded { index: 0, .. }));
    let columns = &store.indexed_range(0..1).await.unwrap()[0].columns;
    assert_eq!(columns.person.as_ref().unwrap()[3], "ada");
});

case!(a_proof_is_used_once_at_whichever_broker, |_database, address| {
    let (a, b) = (open(&address).await, open(&address).await);
    assert!(a.use_once(&[1; 16], after(180)).await.unwrap());
    assert!(!b.use_once(&[1; 16], after(180)).await.unwrap());
    assert!(b.use_once(&[2; 16], after(180)).await.unwrap());
    a.sweep(after(179)).await.unwrap();
    assert!(!a.use_once(&[1; 16], after(180)).await.unwrap());
    a.sweep(after(180)).await.unwrap();
    assert!(a.use_once(&[1; 16], after(400)).await.unwrap(), "forgotten when its time is over");
});

case!(an_allowance_is_counted_over_all_brokers_and_refills, |_database, address| {
    let (a, b) = (open(&address).await, open(&address).await);
    for number in 0..6 {
        let store = if number % 2 == 0 { &a } else { &b };
        assert!(store.take_allowance(&[1; 32], 6, noon()).await.unwrap(), "{number}");
    }
    assert!(!a.take_allowance(&[1; 32], 6, noon()).await.unwrap());
    assert!(a.take_allowance(&[2; 32], 6, noon()).await.unwrap(), "another's is another's");
    assert!(b.take_allowance(&[1; 32], 6, after(10)).await.unwrap(), "a sixth of a minute gives one back");
    assert!(!a.take_allowance(&[1; 32], 6, after(10)).await.unwrap());
});

case!(who_migrates_at_the_same_time_waits, |_database, _address| {
    let name = format!("m{}", crate::entropy::uuid_v7(noon()).unwrap().simple());
    run("postgres", &format!("CREATE DATABASE {name}")).await;
    let address = address(&name);
    let refused = PostgresStore::open(&address, &Options::default()).await.err().unwrap();
    assert!(refused.to_string().contains("store migrate"), "{refused}");
    let options = Options::default();
    let (one, two) = tokio::join!(PostgresStore::migrate(&address), PostgresStore::migrate(&address));
    let mut steps = [one.unwrap(), two.unwrap()];
    steps.sort_unstable();
    assert_eq!(steps, [0, schema::STEPS.len()]);
    run(&name, "UPDATE schema_step SET step = step + 1").await;
    let newer = PostgresStore::open(&address, &options).await.err().unwrap();
    assert!(newer.to_string().contains("newer build"), "{newer}");
    assert!(PostgresStore::migrate(&address).await.is_err());
    run("postgres", &format!("DROP DATABASE {name} WITH (FORCE)")).await;
});

case!(a_copy_there_and_back_is_the_same_and_goes_on, |database, address| {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first.db"), folder.path().join("second.db"));
    {
        let store = SqliteStore::open(&first, sqlite::Options::default()).unwrap();
        logged_in(&store, 1).await;
        let content = ichor_wire::log::Content {
            person: Some(conformance::log_person("s", "ada")),
            cluster: Some("prod".into()),
            ..ichor_wire::log::Content::of(Kind::Grant)
        };
        let batch = (0..5000).map(|_| Append { entry: conformance::entry(content.clone(), noon()), change: None });
        append(&store, batch.collect()).await;
    }
    let (from, between) = (Place::Sqlite(first.clone()), Place::Postgres(Box::new(address.clone())));
    let there = copy(&from, &between).await.unwrap();
    assert_eq!(there.entries, 5001);
    let again = copy(&from, &between).await.unwrap_err();
    assert!(again.to_string().contains("not empty"), "{again}");
    let back = copy(&between, &Place::Sqlite(second.clone())).await.unwrap();
    assert_eq!(back, there);
    assert!(copy(&between, &Place::Sqlite(second.clone())).await.is_err(), "a file that is there stays");

    let store = open(&address).await;
    assert_eq!(store.head().await.unwrap().size, 5001);
    let bob = ichor_wire::log::Content {
        person: Some(conformance::log_person("t", "bob")),
        ..ichor_wire::log::Content::of(Kind::Grant)
    };
    let bob = Append { entry: conformance::entry(bob, noon()), change: None };
    assert!(
        matches!(one(&*store, bob).await, Appended::Recorded { index: 5001, .. }),
        "a new person finds a free number"
    );
    let kept = SqliteStore::open(&second, sqlite::Options::default()).unwrap();
    assert_eq!(kept.indexed_range(0..5001).await.unwrap(), store.indexed_range(0..5001).await.unwrap());
    assert_eq!(
        kept.session(conformance::session(1).id).await.unwrap(),
        store.session(conformance::session(1).id).await.unwrap()
    );
    run(&database, "TRUNCATE body").await;
    let cut = folder.path().join("cut.db");
    assert!(copy(&between, &Place::Sqlite(cut)).await.is_ok(), "bodies may be dropped");
});

/// Counts the statements that write where calls are kept.
const COUNTING: &str = "CREATE TABLE counted (what text);
    CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO counted VALUES (TG_OP || TG_TABLE_NAME); RETURN NULL; END';
    CREATE TRIGGER one AFTER INSERT OR UPDATE OR DELETE ON call FOR EACH STATEMENT EXECUTE FUNCTION count_it();
    CREATE TRIGGER one AFTER INSERT OR UPDATE OR DELETE ON call_node FOR EACH STATEMENT EXECUTE FUNCTION count_it();
    CREATE TRIGGER one AFTER INSERT OR UPDATE OR DELETE ON call_method FOR EACH STATEMENT EXECUTE FUNCTION count_it();";

case!(two_thousand_calls_are_kept_and_as_many_dropped_by_a_few_statements, |database, address| {
    let store = open(&address).await;
    run(&database, COUNTING).await;
    let call = |number: i64| crate::store::Call {
        method: format!("/a.B/M{}", number % 60),
        ..conformance::call(&format!("node-{}", number % 50), "ada", number)
    };
    for batch in 0..2 {
        let calls = (0..2_048).map(|number| call(number + batch)).collect();
        one(&*store, conformance::kept(calls, 2_048, noon())).await;
    }
    assert_eq!(store.call_range(0, 9_999).await.unwrap().len(), 2_048);
    let few = "DO 'BEGIN IF (SELECT count(*) FROM counted) > 20 THEN RAISE EXCEPTION ''too many''; END IF; END'";
    run(&database, few).await;
});

/// What the owner of a table can put between our statements and its rows.
const BETWEEN: [(&str, &str, &str); 5] = [
    (
        "ALTER TABLE lock ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE lock DISABLE ROW LEVEL SECURITY",
        "its table `lock` has row security",
    ),
    (
        "CREATE RULE none AS ON DELETE TO session DO INSTEAD NOTHING",
        "DROP RULE none ON session",
        "its table `session` has a rule",
    ),
    (
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER none BEFORE INSERT ON body FOR EACH ROW EXECUTE FUNCTION nothing()",
        "DROP TRIGGER none ON body",
        "its table `body` has a trigger",
    ),
    ("CREATE TABLE heir () INHERITS (leaf)", "DROP TABLE heir", "its table `leaf` inherits"),
    (
        "ALTER TABLE lock RENAME TO others; CREATE VIEW lock AS SELECT * FROM others WHERE kind <> 4",
        "DROP VIEW lock; ALTER TABLE others RENAME TO lock",
        "its table `lock` is no table",
    ),
];

case!(whatever_stands_between_us_and_a_table_is_refused_and_told, |database, address| {
    let store = open(&address).await;
    for (put, take, said) in BETWEEN {
        run(&database, put).await;
        assert!(store.unsound().await.unwrap().unwrap().starts_with(said), "{said}");
        let refused = PostgresStore::open(&address, &Options::default()).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains(said) && refused.contains("find out who changes the database"), "{refused}");
        assert!(store.between().await.unwrap().unwrap().starts_with(said), "{said}");
        run(&database, take).await;
        assert_eq!(store.unsound().await.unwrap(), None, "{said}");
    }
    assert_eq!(store.locks(false, 9).await.unwrap(), []);
});
