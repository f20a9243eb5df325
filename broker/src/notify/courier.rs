//! One sink's way through the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ichor_wire::api::AuditEntry;
use tokio::sync::watch;

use super::event::is_of;
use super::sink::{Failure, Sink};
use super::{BadSink, Event, Settings};
use crate::audit::{self, Standing};
use crate::break_glass::BreakGlass;
use crate::clock::SharedClock;
use crate::custody::DataKey;
use crate::forward::{Backoff, Cursor, CursorError};
use crate::readiness::{Check, Readiness};
use crate::store::{CallClass, Store, StoreError};

/// So many entries are looked at in one go.
const BATCH: u32 = 200;

/// How often the log is looked at where nothing wakes the courier: another broker's entries do not.
const LOOK: Duration = Duration::from_millis(500);

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// So long it waits at least from one look to the next, however often it is woken.
const BREATH: Duration = Duration::from_millis(50);

/// How often a broker asks whether a sink that another sends to is free.
const ASK: Duration = Duration::from_secs(5);

/// The longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// So often a sink may refuse one entry for good before it is left behind.
const TRIES: u32 = 3;

/// So often where the sink is shut to all: by the waits in between that is some minutes, as a restart, a deployment or a new secret takes.
const TRIES_SHUT: u32 = 12;

/// After so many entries that nobody is told of, the place behind them is kept: a restart looks at no more of them again.
const UNKEPT: u64 = 1_000;

/// Sends to one sink what it is to be told of.
pub struct Courier {
    name: String,
    events: BTreeSet<Event>,
    classes: Option<BTreeSet<CallClass>>,
    sink: Sink,
    store: Arc<dyn Store>,
    break_glass: Arc<BreakGlass>,
    clock: SharedClock,
    cursor: Cursor,
    /// The entry that is next, while this broker sends.
    next: Option<u64>,
    /// What the store says is next.
    kept: u64,
    /// How often the entry that is next was refused.
    refused: u32,
    /// Why the last one was left behind, until another is accepted.
    behind: Option<String>,
    /// Why a recipient went without the last one.
    without: Option<String>,
    /// Why nobody is told any more: what was to be told is not known.
    lost: Option<String>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The sink has accepted a notification; there may be more.
    Sent,
    /// Nothing is left to be told.
    Idle,
    /// Another broker sends.
    Elsewhere,
}

/// Why a step led to nothing. Trying again may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotTold {
    /// In one sentence, for the broker's log and readiness.
    pub why: String,
    /// How long the sink asks to be left alone.
    pub after: Option<Duration>,
}

// === impl Courier ===

impl Courier {
    /// A courier to this sink. `broker` is the URL that people know the broker by. A sink of a name that never was begins at the
    /// log's end: nobody is told of what is long past.
    ///
    /// # Errors
    /// When the sink cannot be made as configured.
    pub fn new(
        settings: Settings,
        broker: &str,
        store: Arc<dyn Store>,
        break_glass: Arc<BreakGlass>,
        clock: SharedClock,
        key: Arc<DataKey>,
    ) -> Result<Self, BadSink> {
        let sink = Sink::new(&settings, broker, Arc::clone(&clock))?;
        let Settings { name, events, classes, .. } = settings;
        // no forwarding has such a name
        let cursor = Cursor::new(Arc::clone(&store), Arc::clone(&clock), key, format!("notify/{name}"));
        let cursor = cursor.map_err(|error| BadSink { name: name.clone(), why: error.to_string() })?;
        Ok(Self {
            name,
            events,
            classes,
            sink,
            store,
            break_glass,
            clock,
            cursor,
            next: None,
            kept: 0,
            refused: 0,
            behind: None,
            without: None,
            lost: None,
        })
    }

    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its place in the log.
    #[must_use]
    pub fn place(&self) -> &str {
        self.cursor.name()
    }

    /// Returns once the sink has a place in the log: one of a name that never was begins here. Where the log `is_known` to have had
    /// its place, and that is not what a broker wrote, it tells nobody and says so.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(&mut self, is_known: bool) -> Result<(), StoreError> {
        let end = self.store.head().await?.size;
        match self.cursor.begin(end, is_known).await {
            Ok(()) => Ok(()),
            Err(CursorError::Store(error)) => Err(error),
            Err(forged @ CursorError::Forged(_)) => {
                self.lose(&forged);
                Ok(())
            }
        }
    }

    /// Sends the next notification, if there is one. Returns once the sink has accepted it, what follows from that is
    /// recorded, and the cursor is durable behind it.
    ///
    /// # Errors
    /// When the store or the sink fails: then the same is sent again.
    pub async fn step(&mut self) -> Result<Step, NotTold> {
        if let Some(lost) = &self.lost {
            return Err(NotTold::new(lost));
        }
        if !self.cursor.hold().await? {
            self.next = None;
            return Ok(Step::Elsewhere);
        }
        // another broker may have told of more since, where this one let it go in between
        let kept = self.cursor.next().await.map_err(|error| self.lost(error))?;
        if kept != self.kept {
            (self.next, self.kept, self.refused) = (None, kept, 0);
        }
        let mut next = self.next.unwrap_or(kept);
        loop {
            let batch = audit::every_entry_from(&*self.store, next, BATCH).await?;
            let is_last = batch.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
            for entry in batch {
                let event = self.event_of(&entry);
                let behind = entry.index.saturating_add(1);
                if let Some(event) = event
                    && self.deliver(&entry, event).await?
                {
                    self.keep(behind).await?;
                    return Ok(Step::Sent);
                }
                next = behind;
                self.next = Some(next);
                if event.is_some() || next.saturating_sub(self.kept) >= UNKEPT {
                    self.keep(next).await?;
                }
            }
            self.next = Some(next);
            if is_last {
                return Ok(Step::Idle);
            }
            // a long way through what nobody is told of
            if !self.cursor.hold().await? {
                self.next = None;
                return Ok(Step::Elsewhere);
            }
        }
    }

    /// What the sink is to be told of the entry as, if it is.
    fn event_of(&self, entry: &AuditEntry) -> Option<Event> {
        let is_wanted = || self.classes.as_ref().is_none_or(|classes| is_of(entry, classes));
        Event::among(entry, &self.events).filter(|event| *event != Event::NodeAlarm || is_wanted())
    }

    /// Whether the sink has accepted it; not so where it is left behind.
    async fn deliver(&mut self, entry: &AuditEntry, event: Event) -> Result<bool, NotTold> {
        let labels = [("sink", self.name.clone()), ("event", event.as_str().to_owned())];
        match self.sink.send(entry).await {
            Ok(accepted) => {
                // before the cursor moves: else a stop in between would leave someone waiting for what has come
                self.break_glass.told(entry, &self.name).await.map_err(|error| NotTold::new(error.to_string()))?;
                self.refused = 0;
                self.behind = None;
                if let Some(why) = &accepted.without {
                    tracing::warn!(
                        sink = self.name,
                        entry = entry.index,
                        kind = entry.kind,
                        why,
                        "a recipient goes without a notification"
                    );
                    metrics::counter!("ichor_notification_recipients_without_total", "sink" => self.name.clone())
                        .increment(1);
                }
                self.without = accepted.without;
                metrics::counter!("ichor_notifications_total", &labels).increment(1);
                let took = self.clock.now().duration_since(entry.time).as_secs_f64().max(0.0);
                metrics::histogram!("ichor_notification_seconds", "sink" => self.name.clone()).record(took);
                Ok(true)
            }
            Err(failure @ (Failure::Refused(_) | Failure::Shut(_))) => {
                let (why, tries) = match failure {
                    Failure::Shut(why) => (why, TRIES_SHUT),
                    Failure::Refused(why) | Failure::Out { why, .. } => (why, TRIES),
                };
                self.refused += 1;
                if self.refused < tries {
                    return Err(NotTold::new(why));
                }
                self.refused = 0;
                metrics::counter!("ichor_notifications_refused_total", &labels).increment(1);
                tracing::error!(
                    sink = self.name,
                    entry = entry.index,
                    kind = entry.kind,
                    why,
                    "a notification is refused for good and left behind: nobody was told of it here"
                );
                self.behind = Some(why);
                Ok(false)
            }
            Err(Failure::Out { why, after }) => Err(NotTold { why, after }),
        }
    }

    /// Why the last notification was left behind, where no other was accepted since.
    #[must_use]
    pub fn behind(&self) -> Option<&str> {
        self.behind.as_deref()
    }

    /// Why a recipient went without the last notification.
    #[must_use]
    pub fn without(&self) -> Option<&str> {
        self.without.as_deref()
    }

    async fn keep(&mut self, next: u64) -> Result<(), NotTold> {
        self.cursor.advance(next).await.map_err(|error| self.lost(error))?;
        self.kept = next;
        self.next = Some(next);
        Ok(())
    }

    fn lost(&mut self, error: CursorError) -> NotTold {
        match error {
            CursorError::Store(error) => error.into(),
            forged @ CursorError::Forged(_) => NotTold::new(self.lose(&forged)),
        }
    }

    /// Tells nobody from now on: to go on from a place that someone else chose would pass over what they do not want told.
    fn lose(&mut self, forged: &CursorError) -> &str {
        metrics::counter!("ichor_forged_rows_total", "table" => "forward").increment(1);
        self.lost
            .insert(format!("{forged}; nobody is told until the sink has another name, and what was is in the audit"))
    }

    /// Sends until told to stop, woken by whatever is recorded here, and reports how it goes.
    pub async fn run(
        mut self,
        readiness: Arc<Readiness>,
        mut woken: watch::Receiver<Standing>,
        stopped: watch::Receiver<bool>,
    ) {
        let stop = async move {
            let mut stopped = stopped;
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let mut stop = std::pin::pin!(stop);
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            woken.mark_unchanged();
            let (pause, is_to_be_woken) = tokio::select! {
                () = &mut stop => break,
                step = self.step() => match step {
                    Ok(step) => {
                        backoff.reset();
                        self.report(&readiness, None).await;
                        match step {
                            Step::Sent => continue,
                            Step::Idle => (LOOK, true),
                            Step::Elsewhere => (ASK, false),
                        }
                    }
                    Err(error) => {
                        tracing::warn!(sink = self.name, %error, "people are not told");
                        metrics::counter!("ichor_notification_failures_total", "sink" => self.name.clone()).increment(1);
                        self.report(&readiness, Some(&error)).await;
                        (error.after.unwrap_or_default().max(backoff.wait()), false)
                    }
                },
            };
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(pause) => {}
                () = wake(&mut woken), if is_to_be_woken => {}
            }
        }
        self.cursor.release().await;
    }

    async fn report(&self, readiness: &Readiness, error: Option<&NotTold>) {
        // who does not send tells how far it has come all the same: whoever should may be gone
        let next = match self.next {
            Some(next) => next,
            None => self.cursor.next().await.unwrap_or(0),
        };
        let lag = self.store.head().await.map_or(0, |head| head.size).saturating_sub(next);
        // exact up to 2⁵³ entries
        #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
        metrics::gauge!("ichor_notify_lag_entries", "sink" => self.name.clone()).set(lag as f64);
        let failing = error.map(|error| format!("{error}; {lag} entries of the log wait to be looked at"));
        let behind =
            self.behind().map(|why| format!("the last notification was refused for good and left behind: {why}"));
        let without = self.without.as_ref().map(|why| format!("a recipient went without the last notification: {why}"));
        let detail = failing.or(behind).or(without);
        readiness.report(Check {
            name: format!("notify {}", self.name),
            ok: detail.is_none(),
            required: false,
            detail,
        });
    }
}

/// Returns once something was recorded, and not at once.
async fn wake(woken: &mut watch::Receiver<Standing>) {
    if woken.changed().await.is_err() {
        // nothing is recorded any more
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(BREATH).await;
}

// === impl NotTold ===

impl NotTold {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), after: None }
    }
}

impl From<StoreError> for NotTold {
    fn from(error: StoreError) -> Self {
        Self::new(error.to_string())
    }
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").field("name", &self.name).finish_non_exhaustive()
    }
}
