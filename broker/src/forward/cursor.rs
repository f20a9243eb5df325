//! A place in the log that brokers share, and that one of them at a time goes on from.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::clock::SharedClock;
use crate::entropy::{self, EntropyError};
use crate::store::{Store, StoreError};

/// So long a broker holds a cursor. Once one has died, another goes on after that.
const HELD: SignedDuration = SignedDuration::from_secs(30);

/// With less than this left a holder holds it anew before it does anything: longer than whatever it does may take, and than
/// brokers' clocks may differ.
const LEFT: SignedDuration = SignedDuration::from_secs(20);

/// A cursor of this name, as one broker has it.
pub(crate) struct Cursor {
    store: Arc<dyn Store>,
    clock: SharedClock,
    name: String,
    /// Tells this process from others.
    holder: [u8; 16],
    held_until: Option<Timestamp>,
}

// === impl Cursor ===

impl Cursor {
    /// # Errors
    /// When there is no randomness to tell this process from others.
    pub(crate) fn new(store: Arc<dyn Store>, clock: SharedClock, name: String) -> Result<Self, EntropyError> {
        Ok(Self { store, clock, name, holder: entropy::bytes()?, held_until: None })
    }

    /// Whether this broker holds it now; where it is free, it does from now on. One that never was begins at the log's end.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn hold(&mut self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let is_held = |until: Timestamp| until.duration_since(now) > LEFT && until.duration_since(now) <= HELD;
        if self.held_until.is_some_and(is_held) {
            return Ok(true);
        }
        self.held_until = None;
        let until = now.saturating_add(HELD).unwrap_or(now);
        let end = self.store.head().await?.size;
        if self.store.hold_forward(&self.name, &self.holder, now, until, end).await? {
            self.held_until = Some(until);
        }
        Ok(self.held_until.is_some())
    }

    /// The entry that is next.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn next(&self) -> Result<u64, StoreError> {
        Ok(self.store.forward_cursor(&self.name).await?.unwrap_or(0))
    }

    /// Returns once the next entry is durably `next`, or one behind it.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn advance(&self, next: u64) -> Result<(), StoreError> {
        self.store.advance_forward(&self.name, next).await.map(drop)
    }

    /// Lets go of it, so that another need not wait. If the store fails, it does.
    pub(crate) async fn release(&mut self) {
        let now = self.clock.now();
        if self.held_until.take().is_some() {
            let _ = self.store.hold_forward(&self.name, &self.holder, now, now, 0).await;
        }
    }
}
