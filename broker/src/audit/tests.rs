//! The sequencer on a real store: what is durable, what is refused, and what happens when the store fails.

use std::sync::Arc;
use std::task::Poll;

use ichor_wire::log::{Content, Entry, Kind, MAX_ENTRY};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::*;
use crate::clock::FrozenClock;
use crate::store::conformance::{login, noon, session};
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Change, Condition, EntryFilter, Store, StoreError};

pub(crate) struct Room {
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) clock: Arc<FrozenClock>,
    pub(crate) sequencer: Sequencer,
    ended: JoinHandle<()>,
    folder: TempDir,
}

/// A value that may be recorded, beginning a session.
#[derive(Debug)]
struct Evidence(&'static str);

impl sealed::Sealed for Evidence {}

impl Recordable for Evidence {
    const CARE: Care = Care::Proven;

    fn content(&self) -> Content {
        Content { message: Some(self.0.into()), ..Content::of(Kind::Login) }
    }

    fn change(&self, now: Timestamp) -> Option<Change> {
        Some(Change::SessionCreate { session: Box::new(session(1)), code_hash: [101; 32], now })
    }
}

impl Room {
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::with(faults, Settings::named("broker-1"))
    }

    fn with(faults: impl IntoIterator<Item = Fault>, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap();
        let store = FaultyStore::new(Arc::new(sqlite), faults);
        let clock = FrozenClock::at(noon());
        let (sequencer, ended) = Sequencer::start(store.clone(), clock.clone(), settings);
        Self { store, clock, sequencer, ended, folder }
    }

    /// Does to the database what someone who writes there could. What they keep for later is in a database of their own, `aside`.
    pub(crate) fn edit(&self, sql: &str) {
        let [path, aside] = ["ichor.db", "aside.db"].map(|name| self.folder.path().join(name));
        let db = rusqlite::Connection::open(path).unwrap();
        db.execute("ATTACH ?1 AS aside", [aside.to_str()]).unwrap();
        db.execute_batch(sql).unwrap();
    }

    async fn note(&self, kind: Kind) -> Result<u64, RecordError> {
        self.sequencer.note(Content::of(kind), None).await.map(|receipt| receipt.index)
    }

    /// Starts `count` writers and returns once all of them wait.
    async fn crowd(&self, count: usize) -> JoinSet<Result<u64, RecordError>> {
        let free = self.sequencer.free_places();
        let mut writers = JoinSet::new();
        for _ in 0..count {
            let sequencer = self.sequencer.clone();
            writers.spawn(async move { Ok(sequencer.note(Content::of(Kind::Reload), None).await?.index) });
        }
        while self.sequencer.free_places() > free - count {
            tokio::task::yield_now().await;
        }
        writers
    }

    pub(crate) async fn log(&self) -> Vec<Entry> {
        let stored = self.store.entry_range(0..1000).await.unwrap();
        stored.iter().map(|entry| Entry::decode(entry.body.as_ref().unwrap()).unwrap()).collect()
    }
}

#[tokio::test]
async fn a_recorded_value_stands_in_the_log_with_its_change() {
    let room = Room::new([]);
    assert!(room.store.begin_login(login(1, noon() + SignedDuration::from_secs(9)), 9, noon()).await.unwrap());
    let recorded = room.sequencer.record(Evidence("first")).await.unwrap();
    assert_eq!(recorded.value().0, "first");
    assert!(room.store.session(session(1).id).await.unwrap().is_some());

    let stored = room.store.entry_range(0..1).await.unwrap().remove(0);
    let hash = ichor_wire::log::leaf_hash(&stored.leaf);
    assert_eq!(recorded.receipt().leaf_hash, data_encoding::HEXLOWER.encode(&hash));
    assert_eq!(recorded.receipt().index, 0);

    room.note(Kind::Start).await.unwrap();
    let log = room.log().await;
    assert_eq!(log[0].content, Evidence("first").content());
    assert_eq!(log[0].broker, "broker-1");
    assert_eq!(log[0].time, noon().as_microsecond());
    assert_eq!(log[0].id[6] >> 4, 7, "a UUIDv7");
    assert_ne!(log[0].id, log[1].id);
    assert_ne!(log[0].salt, log[1].salt);
}

#[tokio::test]
async fn a_condition_is_held_against_the_entrys_own_time() {
    let room = Room::new([]);
    let expires = noon() + SignedDuration::from_secs(60);
    assert!(room.store.begin_login(login(1, expires), 9, noon()).await.unwrap());
    let change = Evidence("late").change(noon()).unwrap();
    // Decided at noon, recorded a minute later: the code has expired by then.
    room.clock.advance(SignedDuration::from_secs(60));
    let refused = room.sequencer.note(Content::of(Kind::Login), Some(change)).await.unwrap_err();
    assert_eq!(refused, RecordError::Refused(Condition::CodeGone));
    assert_eq!(room.log().await.len(), 0);
}

#[tokio::test]
async fn a_clock_going_back_records_nothing_until_it_has_caught_up() {
    let room = Room::new([]);
    room.note(Kind::Start).await.unwrap();
    room.clock.advance(SignedDuration::from_micros(-1));
    assert_eq!(room.note(Kind::Reload).await, Err(RecordError::Refused(Condition::ClockWentBack)));
    room.clock.advance(SignedDuration::from_micros(1));
    assert_eq!(room.note(Kind::Reload).await, Ok(1));
}

#[tokio::test]
async fn what_gathers_during_a_commit_shares_the_next() {
    let gate = Arc::new(Semaphore::new(0));
    let room = Room::new([Fault::Hold(gate.clone())]);
    let first = room.crowd(1).await;
    room.store.held(1).await;
    let crowd = room.crowd(40).await;
    gate.add_permits(1);
    assert_eq!(first.join_all().await, [Ok(0)]);
    let mut places: Vec<_> = crowd.join_all().await.into_iter().map(Result::unwrap).collect();
    places.sort_unstable();
    assert_eq!(places, (1..=40).collect::<Vec<_>>());
    assert_eq!(*room.store.batches.lock().unwrap(), [1, 40]);
}

#[tokio::test]
async fn a_batch_has_a_largest_size() {
    let gate = Arc::new(Semaphore::new(0));
    let room = Room::with([Fault::Hold(gate.clone())], Settings { max_batch: 4, ..Settings::default() });
    let first = room.crowd(1).await;
    room.store.held(1).await;
    let crowd = room.crowd(9).await;
    gate.add_permits(1);
    first.join_all().await;
    assert!(crowd.join_all().await.iter().all(Result::is_ok));
    assert_eq!(*room.store.batches.lock().unwrap(), [1, 4, 4, 1]);
}

#[tokio::test]
async fn one_writer_too_many_is_refused_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let room =
        Room::with([Fault::Hold(gate.clone())], Settings { max_waiting: 3, max_batch: 1, ..Settings::default() });
    let crowd = room.crowd(3).await;
    room.store.held(1).await;
    // At once, while the first is still being committed: polled, not waited for.
    let refused = futures_util::poll!(std::pin::pin!(room.note(Kind::Start)));
    assert_eq!(refused, Poll::Ready(Err(RecordError::Overloaded)));
    gate.add_permits(1);
    assert!(crowd.join_all().await.iter().all(Result::is_ok));
    assert_eq!(room.note(Kind::Start).await, Ok(3));
}

#[tokio::test]
async fn a_commit_that_fails_fails_all_its_writers_and_the_next_works() {
    let gate = Arc::new(Semaphore::new(0));
    let room = Room::new([Fault::Hold(gate.clone()), Fault::Before]);
    let first = room.crowd(1).await;
    room.store.held(1).await;
    let crowd = room.crowd(5).await;
    gate.add_permits(1);
    assert_eq!(first.join_all().await, [Ok(0)]);
    let answers = crowd.join_all().await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(RecordError::Store(StoreError::Unavailable(_))))));
    assert_eq!(room.log().await.len(), 1, "none of them happened");
    assert_eq!(room.note(Kind::Start).await, Ok(1), "and the index has no gap");
}

#[tokio::test]
async fn an_answer_that_is_lost_is_an_error_though_the_entry_stands() {
    let room = Room::new([Fault::After]);
    assert!(matches!(room.note(Kind::Start).await, Err(RecordError::Store(_))));
    assert_eq!(room.note(Kind::Reload).await, Ok(1));
    assert_eq!(room.log().await.len(), 2);
}

#[tokio::test]
async fn an_entry_that_cannot_be_encoded_hurts_nobody_else() {
    let gate = Arc::new(Semaphore::new(0));
    let room = Room::new([Fault::Hold(gate.clone())]);
    let first = room.crowd(1).await;
    room.store.held(1).await;
    let crowd = room.crowd(2).await;
    let large = Content { message: Some("x".repeat(MAX_ENTRY)), ..Content::of(Kind::Admin) };
    // Answered while the store is held: it never gets into a batch.
    assert!(matches!(room.sequencer.note(large, None).await, Err(RecordError::Entry(why)) if why.contains("65536")));
    gate.add_permits(1);
    first.join_all().await;
    assert!(crowd.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn what_was_accepted_is_committed_before_the_end() {
    let gate = Arc::new(Semaphore::new(0));
    let Room { store, sequencer, ended, folder: _folder, .. } =
        Room::with([Fault::Hold(gate.clone())], Settings { max_batch: 2, ..Settings::default() });
    let mut writers = Vec::new();
    for _ in 0..7 {
        let sequencer = sequencer.clone();
        // Polled once, then dropped: the writer is gone, its entry is not.
        let mut writer = Box::pin(async move { sequencer.note(Content::of(Kind::Reload), None).await });
        assert!(futures_util::poll!(&mut writer).is_pending());
        writers.push(writer);
    }
    drop((writers, sequencer));
    gate.add_permits(1);
    ended.await.unwrap();
    assert_eq!(store.head().await.unwrap().size, 7);
}

#[tokio::test]
async fn entries_are_found_by_what_they_say() {
    let room = Room::new([]);
    room.note(Kind::Start).await.unwrap();
    room.note(Kind::Reload).await.unwrap();
    let reloads = EntryFilter { kind: Some(Kind::Reload), ..EntryFilter::default() };
    assert_eq!(room.store.entries(&reloads, None, 9).await.unwrap().len(), 1);
}
