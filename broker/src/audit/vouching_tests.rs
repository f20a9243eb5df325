//! The sequencer with a notary: what is proven, what waits, what goes on while key or anchor are out, and for how long.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ichor_wire::log::tree::verify_inclusion;
use ichor_wire::log::{Checkpoint, Content, Entry, KeyChange, Kind, Leaf, leaf_hash};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::anchor::{Anchor, FileAnchor};
use super::*;
use crate::clock::FrozenClock;
use crate::custody::audit_key_fixture::{flaky, lying};
use crate::custody::{AuditKey, SignError};
use crate::store::conformance::{entry, noon};
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Append, Change, Store};

const GRACE: Grace = Grace { key: SignedDuration::from_mins(5), anchor: SignedDuration::from_mins(10) };

/// What a certificate is to the sequencer, and what a grant is.
#[derive(Debug)]
pub(super) struct Outcome;
#[derive(Debug)]
pub(super) struct Step;

impl sealed::Sealed for Outcome {}
impl sealed::Sealed for Step {}

impl Recordable for Outcome {
    const CARE: Care = Care::Proven;

    fn content(&self) -> Content {
        Content::of(Kind::Issued)
    }

    fn change(&self, _now: Timestamp) -> Option<Change> {
        None
    }
}

impl Recordable for Step {
    const CARE: Care = Care::Step;

    fn content(&self) -> Content {
        Content::of(Kind::Grant)
    }

    fn change(&self, _now: Timestamp) -> Option<Change> {
        None
    }
}

struct Vouched {
    store: Arc<FaultyStore>,
    clock: Arc<FrozenClock>,
    notary: Arc<Notary>,
    sequencer: Sequencer,
    ended: JoinHandle<()>,
    is_key_out: Arc<AtomicBool>,
    anchor: PathBuf,
    _folder: TempDir,
}

impl Vouched {
    async fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sqlite: Arc<dyn Store> =
            Arc::new(SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap());
        let clock = FrozenClock::at(noon());
        std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
        let anchor = folder.path().join("elsewhere/checkpoint");
        let is_key_out = Arc::new(AtomicBool::new(false));
        let anchors = vec![Anchor::File(FileAnchor::new(anchor.clone()))];
        let notary = Arc::new(Notary::new(flaky(7, &is_key_out), "log.example", anchors, GRACE).unwrap());
        let opened = open(&*sqlite, &notary, &Known::default(), noon()).await.unwrap();
        let store = FaultyStore::new(sqlite, faults);
        let settings = Settings { pace: Duration::from_millis(2), ..Settings::named("broker-1") };
        let (sequencer, ended) =
            Sequencer::vouched(store.clone(), clock.clone(), settings, Arc::clone(&notary), opened.standing);
        Self { store, clock, notary, sequencer, ended, is_key_out, anchor, _folder: folder }
    }

    /// The checkpoint at the anchor, verified.
    fn anchored(&self) -> Checkpoint {
        let note = std::fs::read_to_string(&self.anchor).unwrap();
        Checkpoint::parse_and_verify(&note, self.notary.log()).unwrap()
    }

    /// Returns once nothing is out.
    async fn recovered(&self) {
        let mut standing = self.sequencer.standing();
        let well = standing.wait_for(|standing| standing.key_out.is_none() && standing.anchor_out.is_none());
        well.await.unwrap();
    }
}

/// Whether a recorded value's proof holds, with the log's key alone.
pub(super) fn holds<T>(recorded: &Recorded<T>, notary: &Notary) -> Checkpoint {
    let place = recorded.place();
    let proof = place.proof.as_ref().expect("a proof");
    let checkpoint = Checkpoint::parse_and_verify(&proof.checkpoint, notary.log()).unwrap();
    let entry = Entry::decode(&proof.entry).unwrap();
    let leaf = Leaf::of(place.index, &proof.entry, entry.time).encode().unwrap();
    assert_eq!(leaf_hash(&leaf), place.leaf_hash);
    let (size, root) = (checkpoint.size(), checkpoint.root());
    verify_inclusion(place.index, size, &place.leaf_hash, &proof.path, root).unwrap();
    checkpoint
}

#[tokio::test]
async fn promise_6_what_leaves_has_a_proof_that_the_logs_key_alone_verifies() {
    let room = Vouched::new([]).await;
    for number in 0..300 {
        let recorded = room.sequencer.record(Outcome).await.unwrap();
        let checkpoint = holds(&recorded, &room.notary);
        assert_eq!(checkpoint.size(), number + 1);
        // before the answer it lay outside the database
        assert!(room.anchored().size() > number);
    }
}

#[tokio::test]
async fn what_another_key_signed_is_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap();
    let of = |key| Notary::new(key, "log.example", Vec::new(), GRACE).unwrap();
    let error = open(&store, &of(lying(7, 8)), &Known::default(), noon()).await.unwrap_err();
    assert!(matches!(error, OpenError::Sign(NotSigned::Key(SignError::Wrong))), "{error}");
    open(&store, &of(lying(7, 7)), &Known::default(), noon()).await.unwrap();
}

#[tokio::test]
async fn a_step_is_answered_at_its_commit_and_what_is_no_outcome_has_no_proof() {
    let room = Vouched::new([]).await;
    let step = room.sequencer.record(Step).await.unwrap();
    assert_eq!((step.place().index, &step.place().proof), (0, &None));
    room.sequencer.note(Content::of(Kind::Login), None).await.unwrap();
    assert_eq!(room.anchored().size(), 2, "the login's checkpoint speaks of the step before too");
}

#[tokio::test]
async fn what_is_committed_while_another_tree_is_vouched_for_is_proven_by_the_next() {
    let gate = Arc::new(Semaphore::new(0));
    let room = Vouched::new([Fault::Hold(gate.clone())]).await;
    let mut outcomes = tokio::task::JoinSet::new();
    for _ in 0..400 {
        let sequencer = room.sequencer.clone();
        outcomes.spawn(async move { sequencer.record(Outcome).await.unwrap() });
    }
    room.store.held(1).await;
    gate.add_permits(1);
    let recorded = outcomes.join_all().await;
    assert_eq!(recorded.len(), 400);
    for one in &recorded {
        holds(one, &room.notary);
    }
}

#[tokio::test]
async fn without_the_key_receipts_are_pending_for_a_while_then_nothing_is_issued_and_it_recovers_by_itself() {
    let room = Vouched::new([]).await;
    room.is_key_out.store(true, Ordering::SeqCst);
    let pending = room.sequencer.record(Outcome).await.unwrap();
    assert_eq!(pending.place().proof, None);
    room.clock.advance(SignedDuration::from_secs(299));
    assert!(room.sequencer.record(Step).await.is_ok(), "within the grace");
    room.clock.advance(SignedDuration::from_secs(1));
    let refused = room.sequencer.record(Step).await.unwrap_err().to_string();
    assert!(refused.starts_with("nothing is issued: the key that signs the audit log is out since 2026-"), "{refused}");
    // what was granted before gets its outcome, and what is no certificate goes on
    assert!(room.sequencer.record(Outcome).await.is_ok());
    assert!(room.sequencer.note(Content::of(Kind::SessionEnd), None).await.is_ok());

    room.is_key_out.store(false, Ordering::SeqCst);
    room.recovered().await;
    assert!(room.sequencer.record(Step).await.is_ok());
    assert!(room.anchored().size() >= 4, "the pending ones are vouched for without a new entry");
    holds(&room.sequencer.record(Outcome).await.unwrap(), &room.notary);
}

#[tokio::test]
async fn while_an_anchor_fails_issuing_goes_on_for_a_while_and_it_recovers_by_itself() {
    let room = Vouched::new([]).await;
    let (disk, away) = (room.anchor.parent().unwrap().to_owned(), room.anchor.with_file_name("").join("../away"));
    std::fs::rename(&disk, &away).unwrap();
    let unanchored = room.sequencer.record(Outcome).await.unwrap();
    holds(&unanchored, &room.notary);
    room.clock.advance(SignedDuration::from_mins(9));
    assert!(room.sequencer.record(Step).await.is_ok(), "within the grace");
    room.clock.advance(SignedDuration::from_mins(1));
    let refused = room.sequencer.record(Step).await.unwrap_err().to_string();
    assert!(refused.starts_with("nothing is issued: the audit log is not anchored since"), "{refused}");
    assert!(refused.contains("the anchor file `"), "{refused}");
    std::fs::rename(disk.with_file_name("away"), &disk).unwrap();
    room.recovered().await;
    assert!(room.sequencer.record(Step).await.is_ok());
    // what was recorded meanwhile is anchored without anyone who waits for it
    while room.anchored().size() < 3 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_newest_checkpoint_is_kept_at_the_end() {
    let Vouched { store, notary, sequencer, ended, _folder, .. } = Vouched::new([]).await;
    sequencer.record(Outcome).await.unwrap();
    sequencer.record(Step).await.unwrap();
    drop(sequencer);
    ended.await.unwrap();
    let kept = store.checkpoint().await.unwrap().unwrap();
    assert_eq!(Checkpoint::parse_and_verify(&kept.note, notary.log()).unwrap().size(), 2, "the last step too");
    assert_eq!(store.head().await.unwrap().size, 2, "and nothing was added for it");
}

#[tokio::test]
async fn an_idle_log_is_signed_to_its_end_and_keeps_that() {
    let room = Vouched::new([]).await;
    room.sequencer.record(Step).await.unwrap();
    let mut standing = room.sequencer.standing();
    standing.wait_for(|it| it.newest.as_ref().is_some_and(|signed| signed.checkpoint.size() == 1)).await.unwrap();
    while room.store.checkpoint().await.unwrap().is_none_or(|kept| kept.size < 1) {
        tokio::task::yield_now().await;
    }
    assert_eq!(room.anchored().size(), 1);
}

#[tokio::test]
async fn a_checkpoint_whose_keeping_fails_or_is_not_answered_costs_nothing() {
    for fault in [Fault::Before, Fault::After] {
        let was_written = matches!(fault, Fault::After);
        // the entry's own commit goes through
        let room = Vouched::new([Fault::Hold(Arc::new(Semaphore::new(1))), fault]).await;
        holds(&room.sequencer.record(Outcome).await.unwrap(), &room.notary);
        let kept = async || room.store.checkpoint().await.unwrap().unwrap().size;
        while !room.store.is_well() || (was_written && kept().await == 0) {
            tokio::task::yield_now().await;
        }
        assert_eq!(kept().await, u64::from(was_written), "the one of the start, or the new one");
        // a start after that goes on from what is kept, and reads what came behind it
        let anchored = vec![room.notary.anchors()[0].said()];
        let known = Known { is_signed: true, anchored, ..Known::default() };
        let opened = open(&*room.store, &room.notary, &known, noon()).await.unwrap();
        assert_eq!(opened.entries, 1);
        holds(&room.sequencer.record(Outcome).await.unwrap(), &room.notary);
        while kept().await < 2 {
            tokio::task::yield_now().await;
        }
    }
}

/// On Postgres other brokers append too, and so can whoever writes the database: what a batch was appended to is signed, unless it hands
/// the log over.
#[tokio::test]
async fn entries_of_others_are_signed_but_none_that_hands_the_log_over() {
    let notary =
        |seed| Notary::new(AuditKey::from_seed(&[seed; 32]).unwrap(), "log.example", Vec::new(), GRACE).unwrap();
    let theirs = notary(9);
    let handing_over = |to: &Notary| KeyChange {
        origin: "log.example".into(),
        new: to.log().to_string(),
        old: Some(notary(7).log().to_string()),
    };
    let to = |to: &Notary| Content { log_key: Some(handing_over(to)), ..Content::of(Kind::AuditKey) };
    for (content, edit, refused) in [
        (Content::of(Kind::Reload), None, None),
        (to(&notary(7)), None, None),
        (to(&theirs), None, Some("entry 1 names another key of the log")),
        (to(&theirs), Some("DELETE FROM body WHERE idx = 1"), Some("entry 1 has no body")),
        (
            to(&theirs),
            Some("UPDATE body SET body = (SELECT body FROM body WHERE idx = 0) WHERE idx = 1"),
            Some("entry 1 has another body"),
        ),
    ] {
        let room = Vouched::new([]).await;
        holds(&room.sequencer.record(Outcome).await.unwrap(), &room.notary);
        // beside the sequencer, as another broker's
        let part = Append { entry: entry(content, noon()), change: None };
        room.store.append(vec![part], None).await.unwrap();
        if let Some(sql) = edit {
            rusqlite::Connection::open(room._folder.path().join("ichor.db")).unwrap().execute_batch(sql).unwrap();
        }
        let recorded = room.sequencer.record(Outcome).await.unwrap();
        match refused {
            None => assert_eq!(holds(&recorded, &room.notary).size(), 3),
            Some(why) => {
                assert_eq!(recorded.place().proof, None);
                let said = room.sequencer.record(Step).await.unwrap_err().to_string();
                assert!(said.contains(why), "{why}: {said}");
                assert_eq!(room.anchored().size(), 1);
            }
        }
    }
}

/// What is checked is what is signed: a leaf that is put back for the look does not make the tree.
#[tokio::test]
async fn an_entry_that_was_another_one_when_it_was_appended_to_is_not_signed() {
    let room = Vouched::new([]).await;
    holds(&room.sequencer.record(Outcome).await.unwrap(), &room.notary);
    let other = entry(Content { message: Some("x".into()), ..Content::of(Kind::Reload) }, noon());
    let leaf = Leaf::of(1, &other.encoded, other.entry.time).encode().unwrap();
    room.store
        .append(vec![Append { entry: entry(Content::of(Kind::Reload), noon()), change: None }], None)
        .await
        .unwrap();
    // as if the broker had appended to an entry that is gone by now
    let db = rusqlite::Connection::open(room._folder.path().join("ichor.db")).unwrap();
    db.execute("UPDATE leaf SET leaf = ?1 WHERE idx = 1", [leaf]).unwrap();
    db.execute("UPDATE body SET body = ?1 WHERE idx = 1", [other.encoded]).unwrap();
    assert_eq!(room.sequencer.record(Outcome).await.unwrap().place().proof, None);
    let said = room.sequencer.record(Step).await.unwrap_err().to_string();
    assert!(said.contains("the entries from 1 to 1, which were changed since they were read"), "{said}");
}
