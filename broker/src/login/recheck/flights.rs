//! The refreshes under way in this broker: one a session, the others wait for its result.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::FreshError;
use crate::domain::{Group, SessionId};

/// The refreshes under way in this broker, by session.
#[derive(Default)]
pub(in crate::login) struct Flights(Mutex<HashMap<SessionId, Arc<Flight>>>);

/// One session's refreshes, one after another.
#[derive(Default)]
pub(super) struct Flight {
    /// Counts finished ones.
    pub(super) finished: AtomicU64,
    pub(super) last: tokio::sync::Mutex<Last>,
}

/// What the last refresh left behind.
#[derive(Default)]
pub(super) struct Last {
    pub(super) error: Option<FreshError>,
    /// Told by the provider, but not recorded yet: a rotated token that is lost ends the session at many providers.
    pub(super) unrecorded: Option<Told>,
}

/// What the provider told, ready to be recorded.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) groups: Vec<Group>,
    pub(super) groups_at: Timestamp,
    pub(super) sealed: Option<Vec<u8>>,
}

// === impl Flights ===

impl Flights {
    pub(super) fn enter(&self, id: SessionId) -> Arc<Flight> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(flights.entry(id).or_default())
    }

    /// Forgets the flight if nobody else is in it and nothing is left to record.
    pub(super) fn leave(&self, id: SessionId, flight: Arc<Flight>) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = flight.last.try_lock().is_ok_and(|last| last.unrecorded.is_none());
        // the map's own and this one
        if is_idle && Arc::strong_count(&flight) <= 2 {
            flights.remove(&id);
        }
    }
}
