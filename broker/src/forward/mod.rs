//! Forwarding the audit log: entry by entry, in order, each at least once.
//!
//! Each destination has a cursor in the store: the entry that is next. It moves on only once the destination has taken what was
//! before, so an outage or a restart repeats some entries and leaves none out; who receives tells them apart by their log and index.
//! Nothing waits for it: it reads the log as any reader does. Of several brokers one sends, and another once that one is gone; a
//! cursor that no broker wrote is not believed: everything is sent again from the first entry, and that is said.

mod backoff;
mod cursor;
mod file;
pub(crate) mod http;
mod lines;
mod otlp;
mod pipe;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::audit;
use crate::clock::SharedClock;
use crate::custody::DataKey;
use crate::readiness::{Check, Readiness};
use crate::store::{Store, StoreError};

pub(crate) use backoff::Backoff;
pub(crate) use cursor::{Cursor, CursorError, SURELY_HELD};
pub use otlp::Collector;

use lines::Lines;
use otlp::Otlp;

/// So many entries are sent at a time.
const BATCH: u32 = 200;

/// How often a log that was forwarded to its end is looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// How often a broker asks whether a forwarding that another goes on with is free.
const ASK: Duration = Duration::from_secs(5);

/// The longest wait after a failure; the first is [`LOOK`], each doubles.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// So many entries behind its end a forwarding is well; beyond, readiness warns.
const FINE_LAG: u64 = 10_000;

/// One forwarding.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name; the cursor is kept under it.
    pub name: String,
    /// Where to.
    pub to: Destination,
}

/// Where entries are sent.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A file or named pipe, a line of JSON for each entry.
    Lines(PathBuf),
    /// A collector of OpenTelemetry logs.
    Otlp(Collector),
}

/// Why nothing was sent, in one sentence for the broker's log and readiness. Trying again may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ForwardError(pub(crate) String);

/// A forwarding at work.
pub struct Forwarder {
    name: String,
    /// The log's name, which is sent with each entry: after a restore the next log counts from where this one does.
    log: String,
    store: Arc<dyn Store>,
    cursor: Cursor,
    sink: Sink,
    /// Why everything was sent again, since this broker was started.
    again: Option<String>,
}

/// An open destination.
enum Sink {
    Lines(Lines),
    Otlp(Otlp),
}

// === impl Forwarder ===

impl Forwarder {
    /// A forwarding of the log of this name from this store. Nothing is opened or sent yet.
    ///
    /// # Errors
    /// When its HTTP client cannot be built, or there is no randomness.
    pub fn new(
        settings: Settings,
        log: &str,
        store: Arc<dyn Store>,
        clock: SharedClock,
        key: Arc<DataKey>,
    ) -> Result<Self, ForwardError> {
        let sink = match settings.to {
            Destination::Lines(path) => Sink::Lines(Lines::new(path)),
            Destination::Otlp(collector) => Sink::Otlp(Otlp::new(collector)?),
        };
        let cursor = Cursor::new(Arc::clone(&store), clock, key, settings.name.clone());
        let cursor = cursor.map_err(|error| ForwardError(error.to_string()))?;
        Ok(Self { name: settings.name, log: log.to_owned(), store, cursor, sink, again: None })
    }

    /// Its cursor's name.
    #[must_use]
    pub fn place(&self) -> &str {
        self.cursor.name()
    }

    /// Returns once it has a place in the log: one of a name that never was begins at the first entry, and so does one whose place
    /// the log `is_known` to have had and that is not what a broker wrote there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(&mut self, is_known: bool) -> Result<(), StoreError> {
        match self.cursor.begin(0, is_known).await {
            Ok(()) => Ok(()),
            Err(CursorError::Store(error)) => Err(error),
            Err(forged @ CursorError::Forged(_)) => self.restart(&forged).await,
        }
    }

    /// Sends the next entries, if there are any, and answers how many are left; `None` where another broker sends. Returns once
    /// the destination has taken them and the cursor is durable behind them.
    ///
    /// # Errors
    /// When the store or the destination fails: then the cursor stays, and the same entries are sent again.
    pub async fn step(&mut self) -> Result<Option<u64>, ForwardError> {
        if !self.cursor.hold().await? {
            return Ok(None);
        }
        let next = match self.cursor.next().await {
            Ok(next) => next,
            Err(CursorError::Store(error)) => return Err(error.into()),
            Err(forged @ CursorError::Forged(_)) => {
                self.restart(&forged).await?;
                0
            }
        };
        let batch = audit::every_entry_from(&*self.store, next, BATCH).await?;
        let Some(last) = batch.last().map(|entry| entry.index) else { return Ok(Some(0)) };
        match &mut self.sink {
            Sink::Lines(lines) => lines.send(&self.log, &batch).await?,
            Sink::Otlp(otlp) => otlp.send(&self.log, &batch).await?,
        }
        let next = last.saturating_add(1);
        self.cursor.advance(next).await.map_err(|error| ForwardError(error.to_string()))?;
        Ok(Some(self.store.head().await?.size.saturating_sub(next)))
    }

    async fn restart(&mut self, forged: &CursorError) -> Result<(), StoreError> {
        tracing::error!(forward = self.name, %forged, "the audit log is forwarded again from its first entry");
        metrics::counter!("ichor_forged_rows_total", "table" => "forward").increment(1);
        self.cursor.restart().await?;
        self.again = Some(format!("{forged}; so everything is sent again, from the first entry on"));
        Ok(())
    }

    /// Forwards until told to stop, and reports how far behind it is.
    pub async fn run(mut self, readiness: Arc<Readiness>, stopped: watch::Receiver<bool>) {
        let stop = async move {
            let mut stopped = stopped;
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let mut stop = std::pin::pin!(stop);
        let mut backoff = Backoff::new(LOOK, LONGEST_WAIT);
        loop {
            let pause = tokio::select! {
                () = &mut stop => break,
                sent = self.step() => match sent {
                    Ok(left) => {
                        backoff.reset();
                        // who does not send tells how far it has come all the same: whoever should may be gone
                        let lag = match left {
                            Some(left) => left,
                            None => self.lag().await,
                        };
                        self.report(&readiness, lag, None);
                        match left {
                            None => ASK,
                            Some(0) => LOOK,
                            Some(_) => Duration::ZERO,
                        }
                    }
                    Err(error) => {
                        tracing::warn!(forward = self.name, %error, "the audit log is not forwarded");
                        let lag = self.lag().await;
                        self.report(&readiness, lag, Some(error));
                        backoff.wait()
                    }
                },
            };
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.cursor.release().await;
    }

    async fn lag(&self) -> u64 {
        let head = self.store.head().await.map_or(0, |head| head.size);
        let next = self.cursor.next().await.unwrap_or(0);
        head.saturating_sub(next)
    }

    fn report(&self, readiness: &Readiness, lag: u64, error: Option<ForwardError>) {
        // exact up to 2⁵³ entries
        #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
        metrics::gauge!("ichor_forward_lag_entries", "forward" => self.name.clone()).set(lag as f64);
        let detail = match (error, &self.again) {
            (Some(error), _) => Some(format!("{error}; {lag} entries wait")),
            (None, Some(again)) => Some(format!("{again}; {lag} entries wait")),
            (None, None) if lag > FINE_LAG => Some(format!("{lag} entries wait")),
            (None, None) => None,
        };
        readiness.report(Check {
            name: format!("forward {}", self.name),
            ok: detail.is_none(),
            required: false,
            detail,
        });
    }
}

impl From<StoreError> for ForwardError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").field("name", &self.name).finish_non_exhaustive()
    }
}
