//! Several brokers on one log: what one has signed and anchored is the other's too, and neither takes it for a fork.
//!
//! On Postgres each has a store of its own; here they share one, for SQLite's takes no other writer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use data_encoding::BASE64;
use ichor_standins::openbao::{OpenBao, OpenBaoOptions};
use ichor_wire::log::tree::{Hash, empty_root, verify_consistency};
use ichor_wire::log::{Checkpoint, Content, Kind};
use jiff::SignedDuration;
use tempfile::TempDir;

use super::anchor::{Anchor, AnchorError, FileAnchor, KvAnchor, Witness, cosigned};
use super::vouching_tests::{Outcome, Step, holds};
use super::*;
use crate::clock::FrozenClock;
use crate::custody::audit_key_fixture::flaky;
use crate::openbao::{self as bao, Auth, Client, Kv};
use crate::store::conformance::noon;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Append, Store};

/// A log and what several brokers share beside it.
struct Shared {
    store: Arc<dyn Store>,
    folder: TempDir,
}

/// One broker.
struct Broker {
    notary: Arc<Notary>,
    sequencer: Sequencer,
    is_key_out: Arc<AtomicBool>,
}

impl Shared {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap();
        Self { store: Arc::new(store), folder }
    }

    fn anchor(&self) -> PathBuf {
        self.folder.path().join("checkpoint")
    }

    fn anchored(&self, notary: &Notary) -> Checkpoint {
        let note = std::fs::read_to_string(self.anchor()).unwrap();
        Checkpoint::parse_and_verify(&note, notary.log()).unwrap()
    }

    /// A broker that has no patience with its anchors.
    async fn broker(&self, name: &str, anchors: Vec<Anchor>) -> Result<Broker, OpenError> {
        self.at_pace(name, anchors, Duration::from_millis(2)).await
    }

    /// One that does nothing unasked.
    async fn still(&self, name: &str, anchors: Vec<Anchor>) -> Broker {
        self.at_pace(name, anchors, Duration::from_secs(3600)).await.unwrap()
    }

    async fn at_pace(&self, name: &str, anchors: Vec<Anchor>, pace: Duration) -> Result<Broker, OpenError> {
        let is_key_out = Arc::default();
        let grace = Grace { key: SignedDuration::from_hours(1), anchor: SignedDuration::ZERO };
        let notary = Arc::new(Notary::new(flaky(7, &is_key_out), "log.example", anchors, grace).unwrap());
        let opened = open(&*self.store, &notary, &Known::default(), noon()).await?;
        let settings = Settings { pace, ..Settings::named(name) };
        let (store, clock) = (Arc::clone(&self.store), FrozenClock::at(noon()));
        let (sequencer, _) = Sequencer::vouched(store, clock, settings, Arc::clone(&notary), opened.standing);
        Ok(Broker { notary, sequencer, is_key_out })
    }

    async fn filed(&self, name: &str) -> Broker {
        self.broker(name, vec![Anchor::File(FileAnchor::new(self.anchor()))]).await.unwrap()
    }
}

/// Has both record so many outcomes at once; each is refused nothing and proves what it is answered.
async fn race(brokers: [&Broker; 2], rounds: usize) {
    let mut running = tokio::task::JoinSet::new();
    for broker in brokers {
        let (sequencer, notary) = (broker.sequencer.clone(), Arc::clone(&broker.notary));
        running.spawn(async move {
            for _ in 0..rounds {
                sequencer.record(Step).await.unwrap();
                let recorded = sequencer.record(Outcome).await.unwrap();
                // the tiles that the other completed come with Postgres' commits alone
                if recorded.place().proof.is_some() || recorded.place().index % 256 < 128 {
                    holds(&recorded, &notary);
                }
            }
        });
    }
    running.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_with_one_anchor_file_do_not_take_each_other_for_a_fork_and_it_does_not_go_back() {
    let shared = Shared::new();
    let (one, two) = (shared.filed("broker-1").await, shared.filed("broker-2").await);
    race([&one, &two], 100).await;
    assert_eq!(shared.anchored(&one.notary).size(), 400);
    for broker in [&one, &two] {
        let standing = broker.sequencer.standing();
        assert_eq!((standing.borrow().key_out.clone(), standing.borrow().anchor_out.clone()), (None, None));
    }
    // one that starts beside them as well
    let three = shared.filed("broker-3").await;
    race([&one, &three], 10).await;
}

/// The secret is written over with check-and-set, so each sees what the other put there.
#[tokio::test(flavor = "multi_thread")]
async fn brokers_with_one_secret_in_kv_do_not_take_each_other_for_a_fork() {
    let options = OpenBaoOptions { now: Arc::new(noon), tls: false, ..OpenBaoOptions::default() };
    let (bao, shared) = (OpenBao::start(options).await.unwrap(), Shared::new());
    let file = shared.folder.path().join("token");
    std::fs::write(&file, bao.token().unwrap()).unwrap();
    let secret = || {
        let (address, auth) = (bao.url().parse().unwrap(), Auth::Token { file: file.clone() });
        let deadline = Duration::from_secs(5);
        let settings =
            bao::Settings { name: "main".into(), address, ca: None, namespace: None, deadline, pace: deadline, auth };
        let kv = Kv::new(Client::new(settings).unwrap(), "secret").unwrap();
        vec![Anchor::Kv(KvAnchor::new(kv, "heads/ichor".into(), "the secret".into()))]
    };
    let one = shared.broker("broker-1", secret()).await.unwrap();
    let two = shared.broker("broker-2", secret()).await.unwrap();
    race([&one, &two], 40).await;
    let note = bao.secret("heads/ichor").unwrap();
    let note = note["checkpoint"].as_str().unwrap();
    assert_eq!(Checkpoint::parse_and_verify(note, one.notary.log()).unwrap().size(), 160);
}

/// What stands at the anchor must be of this log, whoever wrote it there.
#[tokio::test]
async fn more_entries_at_the_anchor_are_another_brokers_only_if_the_database_has_them() {
    for (size, is_ours) in [(9, false), (3, false), (3, true)] {
        let shared = Shared::new();
        let broker = shared.filed("broker-1").await;
        holds(&broker.sequencer.record(Outcome).await.unwrap(), &broker.notary);
        let held = std::fs::read_to_string(shared.anchor()).unwrap();
        // another's entries, which this broker has not signed yet
        let part = || Append { entry: anothers(), change: None };
        let tree = shared.store.append(vec![part(), part()], None).await.unwrap().tree;
        let root = if is_ours { tree.edge.root() } else { [7; 32] };
        let edge = Checkpoint::new(broker.notary.log(), size, root);
        let signature = signature_of(&edge);
        std::fs::write(shared.anchor(), edge.signed(broker.notary.log(), &signature).unwrap()).unwrap();
        // signed for one entry, as if the two had come in meanwhile
        let before = broker.sequencer.standing().borrow().newest.clone().unwrap();
        let (_, anchored) = broker.notary.anchor(&*shared.store, (*before).clone()).await;
        match is_ours {
            true => anchored.unwrap(),
            false => {
                let said = anchored.unwrap_err().to_string();
                assert!(said.contains("knows another log than ours"), "{said}");
            }
        }
        assert_ne!(std::fs::read_to_string(shared.anchor()).unwrap(), held, "and it stays");
    }
}

/// An entry of another broker.
fn anothers() -> crate::store::NewEntry {
    crate::store::conformance::entry(Content::of(Kind::Reload), noon())
}

/// What the key that all of these brokers have signs of a checkpoint.
fn signature_of(checkpoint: &Checkpoint) -> [u8; 64] {
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    pair.sign(checkpoint.unsigned_text().as_bytes()).as_ref().try_into().unwrap()
}

#[tokio::test]
async fn a_broker_that_records_nothing_shows_what_others_recorded() {
    let shared = Shared::new();
    let (busy, idle) = (shared.filed("broker-1").await, shared.filed("broker-2").await);
    for _ in 0..5 {
        busy.sequencer.record(Outcome).await.unwrap();
    }
    let mut standing = idle.sequencer.standing();
    let shown = standing.wait_for(|it| it.newest.as_ref().is_some_and(|signed| signed.checkpoint.size() == 5)).await;
    let newest = shown.unwrap().newest.clone().unwrap();
    for index in 0..5 {
        inclusion(&*shared.store, &newest.tree, index).await.unwrap();
    }
    assert_eq!(shared.store.head().await.unwrap().size, 5, "and nothing was added for it");
}

/// Else a key that is out for a day beside a busy broker would cost the memory of a day's entries.
#[tokio::test]
async fn what_others_append_while_the_key_is_out_is_looked_at_in_one_stretch_afterwards() {
    for hands_over in [false, true] {
        let shared = Shared::new();
        let broker = shared.filed("broker-1").await;
        holds(&broker.sequencer.record(Outcome).await.unwrap(), &broker.notary);
        broker.is_key_out.store(true, Ordering::SeqCst);
        for number in 0..300 {
            let part = match number == 7 && hands_over {
                true => crate::store::conformance::entry(handing_over(), noon()),
                false => anothers(),
            };
            shared.store.append(vec![Append { entry: part, change: None }], None).await.unwrap();
            assert_eq!(broker.sequencer.record(Outcome).await.unwrap().place().proof, None);
        }
        broker.is_key_out.store(false, Ordering::SeqCst);
        let mut standing = broker.sequencer.standing();
        if hands_over {
            let said =
                |it: &Standing| it.key_out.as_ref().is_some_and(|out| out.why.contains("entry 15 names another key"));
            standing.wait_for(said).await.unwrap();
        } else {
            let is_whole = |it: &Standing| it.newest.as_ref().is_some_and(|signed| signed.checkpoint.size() == 601);
            standing.wait_for(is_whole).await.unwrap();
            holds(&broker.sequencer.record(Outcome).await.unwrap(), &broker.notary);
        }
    }
}

/// An entry that hands the log over to a key to which nobody changed.
fn handing_over() -> Content {
    let key = |seed: u8| ichor_wire::log::LogKey::ed25519("log.example", &[seed; 32]).unwrap().to_string();
    let change = ichor_wire::log::KeyChange { origin: "log.example".into(), new: key(9), old: Some(key(8)) };
    Content { log_key: Some(change), ..Content::of(Kind::AuditKey) }
}

/// What a witness has cosigned last.
struct Seen {
    size: u64,
    root: Hash,
    /// Shown to have grown by this much behind the back of whoever asks next.
    grows: Option<(u64, Hash)>,
    /// The next who asks has been overtaken by another broker, which appended here.
    behind_our_back: Option<Arc<dyn Store>>,
}

/// As C2SP tlog-witness has it.
async fn add_checkpoint(State(seen): State<Arc<Mutex<Seen>>>, body: String) -> (StatusCode, String) {
    let (head, note) = body.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
    let proof: Vec<Hash> = lines.map(|line| BASE64.decode(line.as_bytes()).unwrap().try_into().unwrap()).collect();
    let checkpoint = Checkpoint::parse_unverified(note).unwrap();
    let overtaking = seen.lock().unwrap().behind_our_back.take();
    if let Some(store) = overtaking {
        let tree = store.append(vec![Append { entry: anothers(), change: None }], None).await.unwrap().tree;
        seen.lock().unwrap().grows = Some((tree.edge.size(), tree.edge.root()));
    }
    let mut seen = seen.lock().unwrap();
    if let Some((size, root)) = seen.grows.take() {
        (seen.size, seen.root) = (size, root);
    }
    if old != seen.size {
        return (StatusCode::CONFLICT, format!("{}\n", seen.size));
    }
    if verify_consistency(old, checkpoint.size(), &seen.root, checkpoint.root(), &proof).is_err() {
        return (StatusCode::UNPROCESSABLE_ENTITY, String::new());
    }
    (seen.size, seen.root) = (checkpoint.size(), *checkpoint.root());
    (StatusCode::OK, cosigned(3, "witness.example", &checkpoint.unsigned_text(), 1_764_000_000).1)
}

/// A witness, and what it has seen.
async fn witness() -> (impl Fn() -> Anchor, Arc<Mutex<Seen>>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let seen = Arc::new(Mutex::new(Seen { size: 0, root: empty_root(), grows: None, behind_our_back: None }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let routes = axum::Router::new().route("/add-checkpoint", post(add_checkpoint)).with_state(Arc::clone(&seen));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let (key, _) = cosigned(3, "witness.example", "x\n", 1);
    (move || Anchor::Witness(Witness::new(&url, key.clone()).unwrap()), seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_with_one_witness_do_not_take_each_other_for_a_fork() {
    let (witness, seen) = witness().await;
    let shared = Shared::new();
    let one = shared.broker("broker-1", vec![witness()]).await.unwrap();
    let two = shared.broker("broker-2", vec![witness()]).await.unwrap();
    race([&one, &two], 40).await;
    assert_eq!(seen.lock().unwrap().size, 160);
}

/// Another broker's checkpoint reached the witness first: who waits is answered with the tree that has both.
#[tokio::test]
async fn a_tree_that_a_witness_has_seen_more_of_is_read_anew_before_anyone_is_answered() {
    let (witness, seen) = witness().await;
    let shared = Shared::new();
    let broker = shared.still("broker-1", vec![witness()]).await;
    for size in [2, 4, 6] {
        seen.lock().unwrap().behind_our_back = Some(Arc::clone(&shared.store));
        let recorded = broker.sequencer.record(Outcome).await.unwrap();
        assert_eq!(holds(&recorded, &broker.notary).size(), size);
        assert_eq!(seen.lock().unwrap().size, size);
    }
}

fn tree_of(edge: ichor_wire::log::tree::Edge) -> Arc<crate::store::Grown> {
    Arc::new(crate::store::Grown { edge, tiles: Vec::new() })
}

/// A broker that is far from the witness would never be the first there.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_witness_signed_of_another_broker_covers_what_came_before() {
    let (witness, seen) = witness().await;
    let shared = Shared::new();
    let one = shared.still("broker-1", vec![witness()]).await;
    let two = shared.still("broker-2", vec![witness()]).await;
    let mut edge = shared.store.edge(0).await.unwrap();
    edge.push(one.sequencer.record(Step).await.unwrap().place().leaf_hash);
    let before = one.notary.sign(tree_of(edge)).await.unwrap();
    holds(&two.sequencer.record(Outcome).await.unwrap(), &two.notary);
    // with which the checkpoint is kept
    two.sequencer.record(Step).await.unwrap();
    let (noted, anchored) = one.notary.anchor(&*shared.store, before.clone()).await;
    assert_eq!((anchored, noted.note), (Ok(()), before.note.clone()), "it has no line of its own");
    // one that no witness signed covers nothing
    let kept = shared.store.checkpoint().await.unwrap().unwrap();
    let bare = kept.note.lines().take_while(|line| !line.contains("witness.example")).map(|line| format!("{line}\n"));
    rusqlite::Connection::open(shared.folder.path().join("ichor.db"))
        .unwrap()
        .execute("UPDATE checkpoint SET note = ?1", [bare.collect::<String>()])
        .unwrap();
    let (_, anchored) = one.notary.anchor(&*shared.store, before).await;
    assert!(matches!(anchored, Err(AnchorError::Ahead { .. })), "{anchored:?}");
    assert_eq!(seen.lock().unwrap().size, 2);
}

/// The witness' own word decides nothing: that many entries must be in the database.
#[tokio::test]
async fn a_witness_that_has_seen_more_than_there_is_knows_another_log() {
    let (witness, seen) = witness().await;
    let shared = Shared::new();
    let broker = shared.broker("broker-1", vec![witness()]).await.unwrap();
    seen.lock().unwrap().grows = Some((99, [7; 32]));
    broker.sequencer.record(Outcome).await.unwrap();
    let said = broker.sequencer.record(Step).await.unwrap_err().to_string();
    assert!(said.contains("it has cosigned 99 entries, ours has 1"), "{said}");
    let refused = shared.broker("broker-2", vec![witness()]).await.err().unwrap().to_string();
    assert!(refused.contains("it has cosigned 99 entries, ours has 1"), "{refused}");
}
