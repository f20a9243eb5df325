//! One task owns appends: it takes what has gathered, commits it as one transaction, and answers each writer.
//!
//! While a commit runs, the next batch gathers and is encoded; it starts when the commit has ended. So a lone writer waits
//! for one commit, and a crowd shares one. What was committed is then vouched for: the tree is signed and anchored while the
//! next batch commits, and what was committed meanwhile shares the next checkpoint.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ichor_wire::api::Receipt;
use ichor_wire::log::{Content, Entry, VERSION};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::clock::SharedClock;
use crate::entropy;
use crate::store::{Append, Change, Condition, NewEntry, Store, StoreError};

use super::notary::Notary;
use super::recorded::{Place, Recordable, Recorded};
use super::standing::Standing;
use super::task::Task;

/// How the sequencer works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker's name in entries.
    pub broker: String,
    /// At most so many entries a commit.
    pub max_batch: usize,
    /// At most so many writers may wait; more are refused at once.
    pub max_waiting: usize,
    /// How often what is out is tried again, and what nobody waits for is done: signing the last entries, keeping the newest
    /// checkpoint.
    pub pace: Duration,
}

/// Why something was not recorded. Nothing that needed the record may go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A condition failed in the record's own transaction.
    #[error(transparent)]
    Refused(#[from] Condition),
    /// The store could not commit.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log has not been vouched for for too long.
    #[error("nothing is issued: {0}")]
    NotVouched(String),
    /// Too many writers wait, or the sequencer has stopped.
    #[error("the record is overloaded or stopping")]
    Overloaded,
    /// The entry cannot be encoded.
    #[error("the entry cannot be encoded: {0}")]
    Entry(String),
}

/// A handle to the sequencer; cheap to clone.
#[derive(Clone)]
pub struct Sequencer {
    queue: mpsc::Sender<Waiting>,
    /// As many permits as writers may wait, from being taken in to being answered.
    places: Arc<Semaphore>,
    clock: SharedClock,
    standing: watch::Receiver<Standing>,
}

/// When a writer is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Once the entry is durable: for a step that another entry follows before anything leaves the broker.
    Step,
    /// Once the entry is vouched for.
    Vouched,
    /// The same, with the proof.
    Proven,
}

/// A writer that waits.
pub(super) struct Waiting {
    pub(super) content: Content,
    pub(super) change: Option<Change>,
    pub(super) care: Care,
    pub(super) answer: Answer,
}

/// The way back to a writer.
pub(super) struct Answer {
    to: oneshot::Sender<Result<Place, RecordError>>,
    _place: OwnedSemaphorePermit,
}

// === impl Settings ===

impl Settings {
    /// The settings for a broker of this name.
    #[must_use]
    pub fn named(broker: impl Into<String>) -> Self {
        Self { broker: broker.into(), ..Self::default() }
    }

    /// A new entry of this content, stamped and encoded.
    pub(super) fn stamp(
        &self,
        now: Timestamp,
        content: Content,
        change: Option<Change>,
    ) -> Result<Append, RecordError> {
        let unstamped = |error: entropy::EntropyError| RecordError::Entry(error.to_string());
        let entry = Entry {
            version: VERSION,
            id: entropy::uuid_v7(now).map_err(unstamped)?.into_bytes().to_vec(),
            time: now.as_microsecond(),
            salt: entropy::bytes::<16>().map_err(unstamped)?.to_vec(),
            broker: self.broker.clone(),
            content,
        };
        let encoded = entry.encode().map_err(|error| RecordError::Entry(error.to_string()))?;
        Ok(Append { entry: NewEntry { entry, encoded }, change: change.map(|change| change.at(now)) })
    }
}

impl Default for Settings {
    /// Batches of 512 keep one commit near a millisecond; 4,096 waiting writers are a second's work of a slow disk.
    fn default() -> Self {
        Self { broker: "ichor".into(), max_batch: 512, max_waiting: 4096, pace: Duration::from_secs(1) }
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// Starts the task without a notary: what it records is durable, and vouched for by whoever opens the log next. It ends,
    /// with everything accepted committed, when the last handle is dropped; the returned handle can be awaited for that.
    #[must_use]
    pub fn start(store: Arc<dyn Store>, clock: SharedClock, settings: Settings) -> (Self, tokio::task::JoinHandle<()>) {
        Self::with(store, clock, settings, None, Standing::default())
    }

    /// The same with a notary that vouches for what is recorded. `standing` is what opening the log found.
    #[must_use]
    pub fn vouched(
        store: Arc<dyn Store>,
        clock: SharedClock,
        settings: Settings,
        notary: Arc<Notary>,
        standing: Standing,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        Self::with(store, clock, settings, Some(notary), standing)
    }

    fn with(
        store: Arc<dyn Store>,
        clock: SharedClock,
        settings: Settings,
        notary: Option<Arc<Notary>>,
        standing: Standing,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let places = settings.max_waiting.clamp(1, Semaphore::MAX_PERMITS);
        let (queue, waiting) = mpsc::channel(places);
        let (told, standing) = watch::channel(standing);
        let task = Task::new(store, Arc::clone(&clock), settings, notary, told);
        let ended = tokio::spawn(task.run(waiting));
        (Self { queue, places: Arc::new(Semaphore::new(places)), clock, standing }, ended)
    }

    /// Returns once the value's entry is durable and its change made, and, unless it is a step towards another entry, vouched
    /// for.
    ///
    /// # Errors
    /// When it is not: the value is gone and must not take effect. A step is refused once the log has not been vouched for for
    /// longer than configured.
    pub async fn record<T: Recordable>(&self, value: T) -> Result<Recorded<T>, RecordError> {
        let now = self.clock.now();
        if T::CARE == Care::Step
            && let Some(why) = self.standing.borrow().refusal(now)
        {
            return Err(RecordError::NotVouched(why));
        }
        let place = self.append(value.content(), value.change(now), T::CARE).await?;
        Ok(Recorded::new(value, place))
    }

    /// Returns once the entry is durable, the change made and the log vouched for: for entries that are no evidence for
    /// anything to follow. The change's `now` is replaced by the entry's time.
    ///
    /// # Errors
    /// When it is not.
    pub async fn note(&self, content: Content, change: Option<Change>) -> Result<Receipt, RecordError> {
        let place = self.append(content, change, Care::Vouched).await?;
        Ok(place.receipt())
    }

    /// What vouches for the log, and every change of that.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// How many more writers may wait now.
    #[must_use]
    pub fn free_places(&self) -> usize {
        self.places.available_permits()
    }

    async fn append(&self, content: Content, change: Option<Change>, care: Care) -> Result<Place, RecordError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| RecordError::Overloaded)?;
        let (to, answered) = oneshot::channel();
        let waiting = Waiting { content, change, care, answer: Answer { to, _place: place } };
        self.queue.try_send(waiting).map_err(|_| RecordError::Overloaded)?;
        answered.await.map_err(|_| RecordError::Overloaded)?
    }
}

impl fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequencer").field("free_places", &self.free_places()).finish_non_exhaustive()
    }
}

// === impl Answer ===

impl Answer {
    pub(super) fn give(self, answer: Result<Place, RecordError>) {
        // The writer may have gone, as a dropped connection does; its entry stands without effect.
        let _ = self.to.send(answer);
    }
}

/// Shows how many entries the log has.
pub(crate) fn note_size(entries: u64) {
    // exact up to 2⁵³ entries
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
    metrics::gauge!("ichor_log_entries").set(entries as f64);
}
