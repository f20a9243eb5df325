//! The host's clock, held against the newest entry of the log: entries' times never decrease, so one of a time to come keeps everything
//! from being recorded until then.

use jiff::{SignedDuration, Timestamp};

use crate::config::Settings;
use crate::readiness::{ahead, behind};
use crate::store::{Store, StoreError};

/// A clock that is so far ahead of the newest entry wants a human's word: a broker is seldom off, or used by nobody, for longer.
const IMPLAUSIBLE: SignedDuration = SignedDuration::from_hours(180 * 24);

/// Why nothing is recorded by this clock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The newest entry lies ahead of it.
    #[error("{0}")]
    Behind(String),
    /// It lies far ahead of the newest entry.
    #[error(
        "this host's clock says {now:.0}, and the newest entry of the log is of {newest:.0}: where the clock is wrong, one entry of its time \
         would keep everything from being recorded until then; set it right, or, where it is, start the broker once with `ichor-broker serve --accept-clock`"
    )]
    Ahead {
        /// What it says.
        now: Timestamp,
        /// The newest entry's time.
        newest: Timestamp,
    },
}

/// How far an entry may lie behind the newest: none on SQLite, which has one broker and one clock.
pub(super) fn skew(settings: &Settings) -> SignedDuration {
    settings.postgres.as_ref().map_or(SignedDuration::ZERO, |postgres| postgres.options.skew)
}

/// Returns unless the newest entry lies further ahead of this time than is borne.
///
/// # Errors
/// When it does, or the store cannot be read.
pub async fn check_clock(settings: &Settings, store: &dyn Store, now: Timestamp) -> Result<(), ClockError> {
    match ahead(store.head().await?, now) {
        Some((newest, by)) if by > skew(settings) => Err(ClockError::Behind(behind(newest, by))),
        _ => Ok(()),
    }
}

/// The same, and unless this time lies so far ahead of the newest entry that it is more likely wrong.
///
/// # Errors
/// When either is so, or the store cannot be read.
pub async fn check_both(settings: &Settings, store: &dyn Store, now: Timestamp) -> Result<(), ClockError> {
    check_clock(settings, store, now).await?;
    match ahead(store.head().await?, now) {
        Some((newest, by)) if -by > IMPLAUSIBLE => Err(ClockError::Ahead { now, newest }),
        _ => Ok(()),
    }
}
