//! One task owns appends: it takes what has gathered, commits it as one transaction, and answers each writer.
//!
//! While a commit runs, the next batch gathers and is encoded; it starts when the commit has ended. So a lone writer waits
//! for one commit, and a crowd shares one.

use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use ichor_wire::api::Receipt;
use ichor_wire::log::{Content, Entry, VERSION};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::clock::SharedClock;
use crate::entropy;
use crate::store::{Append, Appended, Change, Condition, NewEntry, Store, StoreError};

use super::recorded::{Recordable, Recorded};

/// How the sequencer works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker's name in entries.
    pub broker: String,
    /// At most so many entries a commit.
    pub max_batch: usize,
    /// At most so many writers may wait; more are refused at once.
    pub max_waiting: usize,
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
}

/// Where the log has an entry.
type Place = (u64, [u8; 32]);

/// A writer that waits.
struct Waiting {
    content: Content,
    change: Option<Change>,
    answer: Answer,
}

/// The way back to a writer.
struct Answer {
    to: oneshot::Sender<Result<Place, RecordError>>,
    _place: OwnedSemaphorePermit,
}

/// A batch whose commit runs, with the writers to answer.
type Commit = Pin<Box<dyn Future<Output = (Result<Vec<Appended>, StoreError>, Vec<Answer>)> + Send>>;

/// The task.
struct Task {
    store: Arc<dyn Store>,
    clock: SharedClock,
    settings: Settings,
    /// Encoded and stamped, for the next commit.
    gathered: Vec<(Append, Answer)>,
}

// === impl Settings ===

impl Settings {
    /// The settings for a broker of this name.
    #[must_use]
    pub fn named(broker: impl Into<String>) -> Self {
        Self { broker: broker.into(), ..Self::default() }
    }
}

impl Default for Settings {
    /// Batches of 512 keep one commit near a millisecond; 4,096 waiting writers are a second's work of a slow disk.
    fn default() -> Self {
        Self { broker: "ichor".into(), max_batch: 512, max_waiting: 4096 }
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// Starts the task. It ends, with everything accepted committed, when the last handle is dropped; the returned handle
    /// can be awaited for that.
    #[must_use]
    pub fn start(store: Arc<dyn Store>, clock: SharedClock, settings: Settings) -> (Self, tokio::task::JoinHandle<()>) {
        let places = settings.max_waiting.clamp(1, Semaphore::MAX_PERMITS);
        let (queue, waiting) = mpsc::channel(places);
        let task = Task { store, clock: Arc::clone(&clock), settings, gathered: Vec::new() };
        let ended = tokio::spawn(task.run(waiting));
        (Self { queue, places: Arc::new(Semaphore::new(places)), clock }, ended)
    }

    /// Returns once the value's entry is durable and its change made.
    ///
    /// # Errors
    /// When it is not: the value is gone and must not take effect.
    pub async fn record<T: Recordable>(&self, value: T) -> Result<Recorded<T>, RecordError> {
        let change = value.change(self.clock.now());
        let (index, leaf_hash) = self.append(value.content(), change).await?;
        Ok(Recorded::new(value, index, leaf_hash))
    }

    /// Returns once the entry is durable and the change made: for entries that are no evidence for anything to follow.
    /// The change's `now` is replaced by the entry's time.
    ///
    /// # Errors
    /// When it is not.
    pub async fn note(&self, content: Content, change: Option<Change>) -> Result<Receipt, RecordError> {
        let (index, leaf_hash) = self.append(content, change).await?;
        Ok(Receipt::pending(index, &leaf_hash))
    }

    /// How many more writers may wait now.
    #[must_use]
    pub fn free_places(&self) -> usize {
        self.places.available_permits()
    }

    async fn append(&self, content: Content, change: Option<Change>) -> Result<Place, RecordError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| RecordError::Overloaded)?;
        let (to, answered) = oneshot::channel();
        let waiting = Waiting { content, change, answer: Answer { to, _place: place } };
        self.queue.try_send(waiting).map_err(|_| RecordError::Overloaded)?;
        answered.await.map_err(|_| RecordError::Overloaded)?
    }
}

impl fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequencer").field("free_places", &self.free_places()).finish_non_exhaustive()
    }
}

// === impl Task ===

impl Task {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        let max_batch = self.settings.max_batch.max(1);
        let mut arrived = Vec::with_capacity(max_batch);
        let mut commit: Option<Commit> = None;
        let mut open = true;
        loop {
            if commit.is_none() && !self.gathered.is_empty() {
                commit = Some(self.commit());
            }
            if commit.is_none() && !open {
                return;
            }
            let room = max_batch - self.gathered.len().min(max_batch);
            tokio::select! {
                // What has arrived joins the batch before the batch may start.
                biased;
                count = waiting.recv_many(&mut arrived, room), if open && room > 0 => {
                    open = count > 0;
                    for writer in arrived.drain(..) {
                        self.gather(writer);
                    }
                }
                (committed, writers) = async { match &mut commit { Some(commit) => commit.await, None => pending().await } } => {
                    commit = None;
                    answer(committed, writers);
                }
            }
        }
    }

    /// Stamps and encodes one entry. A writer whose entry cannot be is answered at once.
    fn gather(&mut self, Waiting { content, change, answer }: Waiting) {
        match self.stamp(content, change) {
            Ok(append) => self.gathered.push((append, answer)),
            Err(error) => answer.give(Err(error)),
        }
    }

    fn stamp(&self, content: Content, change: Option<Change>) -> Result<Append, RecordError> {
        let now = self.clock.now();
        let unstamped = |error: entropy::EntropyError| RecordError::Entry(error.to_string());
        let entry = Entry {
            version: VERSION,
            id: entropy::uuid_v7(now).map_err(unstamped)?.into_bytes().to_vec(),
            time: now.as_microsecond(),
            salt: entropy::bytes::<16>().map_err(unstamped)?.to_vec(),
            broker: self.settings.broker.clone(),
            content,
        };
        let encoded = entry.encode().map_err(|error| RecordError::Entry(error.to_string()))?;
        Ok(Append { entry: NewEntry { entry, encoded }, change: change.map(|change| change.at(now)) })
    }

    fn commit(&mut self) -> Commit {
        let (batch, writers): (Vec<_>, Vec<_>) = self.gathered.drain(..).unzip();
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            let began = tokio::time::Instant::now();
            let committed = store.append(batch).await;
            metrics::histogram!("ichor_commit_seconds").record(began.elapsed());
            (committed, writers)
        })
    }
}

/// Tells each writer what became of its part.
fn answer(committed: Result<Vec<Appended>, StoreError>, writers: Vec<Answer>) {
    match committed {
        Ok(parts) => {
            let newest = parts.iter().rev().find_map(|part| match part {
                Appended::Recorded { index, .. } => Some(*index),
                Appended::Refused(_) => None,
            });
            if let Some(newest) = newest {
                note_size(newest.saturating_add(1));
            }
            // A store that answers fewer parts than it was given drops the last writers' answers: they are refused.
            for (part, writer) in parts.into_iter().zip(writers) {
                writer.give(match part {
                    Appended::Recorded { index, leaf_hash } => Ok((index, leaf_hash)),
                    Appended::Refused(condition) => Err(condition.into()),
                });
            }
        }
        Err(error) => {
            tracing::error!(entries = writers.len(), %error, "entries could not be recorded");
            for writer in writers {
                writer.give(Err(error.clone().into()));
            }
        }
    }
}

/// Shows how many entries the log has.
pub(crate) fn note_size(entries: u64) {
    // exact up to 2⁵³ entries
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
    metrics::gauge!("ichor_log_entries").set(entries as f64);
}

impl Answer {
    fn give(self, answer: Result<Place, RecordError>) {
        // The writer may have gone, as a dropped connection does; its entry stands without effect.
        let _ = self.to.send(answer);
    }
}
