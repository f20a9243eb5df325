//! A place in the log that brokers share, and that one of them at a time goes on from.
//!
//! It lies in the database, so it bears the broker's own mark: whoever writes there and moves it on would keep from others what
//! they were to be told of. Between two steps it only goes on.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::clock::SharedClock;
use crate::custody::DataKey;
use crate::entropy::{self, EntropyError};
use crate::store::{ForwardRow, Store, StoreError};

/// So long a broker holds a cursor. Once one has died, another goes on after that.
const HELD: SignedDuration = SignedDuration::from_secs(30);

/// With less than this left a holder holds it anew before it does anything: longer than whatever it does may take, and than
/// brokers' clocks may differ.
pub(crate) const SURELY_HELD: SignedDuration = SignedDuration::from_secs(25);

/// What the mark is made for.
const MARK: &[u8] = b"ichor place in the log 1\0";

/// A cursor of this name, as one broker has it.
pub(crate) struct Cursor {
    store: Arc<dyn Store>,
    clock: SharedClock,
    key: Arc<DataKey>,
    name: String,
    /// Tells this process from others.
    holder: [u8; 16],
    held_until: Option<Timestamp>,
}

/// Why it is not known what is next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the database says is not what a broker wrote there last.
    #[error("its place in the log was changed by someone else than a broker: {0}")]
    Forged(&'static str),
}

// === impl Cursor ===

impl Cursor {
    /// # Errors
    /// When there is no randomness to tell this process from others.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: SharedClock,
        key: Arc<DataKey>,
        name: String,
    ) -> Result<Self, EntropyError> {
        Ok(Self { store, clock, key, name, holder: entropy::bytes()?, held_until: None })
    }

    /// Its name in the database.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns once there is a place to go on from: one that never was begins at `first`, and one of before there were marks gets
    /// its own. Neither where the log `is_known` to have had it, marked: then someone took that away.
    ///
    /// # Errors
    /// When the store fails or the place is not what a broker wrote; then nothing was written.
    pub(crate) async fn begin(&self, first: u64, is_known: bool) -> Result<(), CursorError> {
        let kept = self.store.forward_cursor(&self.name).await?;
        let to = match &kept {
            Some(ForwardRow { tag: Some(_), .. }) => return self.check(kept).await.map(drop),
            Some(_) if is_known => return Err(CursorError::Forged("it lost the broker's mark")),
            None if is_known => return Err(CursorError::Forged("it is gone")),
            Some(unmarked) => {
                tracing::warn!(
                    place = self.name,
                    next = unmarked.next,
                    "this place in the log is of a build that did not mark it: it is believed this once"
                );
                unmarked.next
            }
            None => first,
        };
        // where another broker does the same at this moment, its row is as good
        self.store.move_forward(&self.name, kept.as_ref(), &self.row(to)).await?;
        Ok(())
    }

    /// Whether this broker holds it now; where it is free, it does from now on.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn hold(&mut self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let is_held = |until: Timestamp| until.duration_since(now) > SURELY_HELD && until.duration_since(now) <= HELD;
        if self.held_until.is_some_and(is_held) {
            return Ok(true);
        }
        self.held_until = None;
        let until = now.saturating_add(HELD).unwrap_or(now);
        if self.store.hold_forward(&self.name, &self.holder, now, until).await? {
            self.held_until = Some(until);
        }
        Ok(self.held_until.is_some())
    }

    /// The entry that is next.
    ///
    /// # Errors
    /// When the store fails, or what it says was not written by a broker.
    pub(crate) async fn next(&self) -> Result<u64, CursorError> {
        Ok(self.check(self.store.forward_cursor(&self.name).await?).await?.next)
    }

    /// Returns once the next entry is durably `next`, or one behind it.
    ///
    /// # Errors
    /// As [`Self::next`]; also when another broker moved it at this moment.
    pub(crate) async fn advance(&self, next: u64) -> Result<(), CursorError> {
        let kept = self.check(self.store.forward_cursor(&self.name).await?).await?;
        if kept.next >= next || self.store.move_forward(&self.name, Some(&kept), &self.row(next)).await? {
            return Ok(());
        }
        Err(StoreError::Unavailable(format!("another broker goes on from `{}` at this moment", self.name)).into())
    }

    /// Returns once it stands at the log's first entry, whatever was there.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn restart(&self) -> Result<(), StoreError> {
        let kept = self.store.forward_cursor(&self.name).await?;
        // where it was changed meanwhile the next look finds out
        self.store.move_forward(&self.name, kept.as_ref(), &self.row(0)).await.map(drop)
    }

    /// Lets go of it, so that another need not wait. If the store fails, it does.
    pub(crate) async fn release(&mut self) {
        let now = self.clock.now();
        if self.held_until.take().is_some() {
            let _ = self.store.hold_forward(&self.name, &self.holder, now, now).await;
        }
    }

    async fn check(&self, kept: Option<ForwardRow>) -> Result<ForwardRow, CursorError> {
        let Some(row) = kept else { return Err(CursorError::Forged("it is gone")) };
        let tag = row.tag.as_deref().ok_or(CursorError::Forged("it lost the broker's mark"))?;
        if !self.key.has_tagged(MARK, &self.said(row.next), tag) {
            return Err(CursorError::Forged("it does not fit the broker's mark"));
        }
        if row.next > self.store.head().await?.size {
            return Err(CursorError::Forged("it lies behind the log's end"));
        }
        Ok(row)
    }

    fn row(&self, next: u64) -> ForwardRow {
        ForwardRow { next, tag: Some(self.key.tag(MARK, &self.said(next)).to_vec()) }
    }

    fn said(&self, next: u64) -> Vec<u8> {
        [&next.to_be_bytes(), self.name.as_bytes()].concat()
    }
}
