//! Which dependency is out. `app` reports here; the health listener and `check` read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock::SharedClock;
use crate::store::{LogHead, Store};

/// The state of one dependency or of the last reload of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked, as `store`, `provider corp`, `policies`.
    pub name: String,
    /// Whether it works.
    pub ok: bool,
    /// Whether the broker as a whole is not ready without it.
    pub required: bool,
    /// What is wrong, or a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The board of all checks.
pub struct Readiness {
    store: Arc<dyn Store>,
    /// The clock that entries are recorded by, and how far one may lie behind the newest.
    clock: Option<(SharedClock, SignedDuration)>,
    reported: Mutex<BTreeMap<String, Check>>,
}

impl Readiness {
    /// A board that asks the store itself and keeps what others report.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, clock: None, reported: Mutex::default() }
    }

    /// The same, which also holds this clock against the newest entry.
    #[must_use]
    pub fn by(self, clock: SharedClock, skew: SignedDuration) -> Self {
        Self { clock: Some((clock, skew)), ..self }
    }

    /// Notes the newest state of a check, replacing the one of that name.
    pub fn report(&self, check: Check) {
        metrics::gauge!("ichor_ready", "check" => check.name.clone()).set(if check.ok { 1.0 } else { 0.0 });
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(check.name.clone(), check);
    }

    /// Forgets a check of what is no longer there.
    pub fn forget(&self, name: &str) {
        metrics::gauge!("ichor_ready", "check" => name.to_owned()).set(1.0);
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Every check, the store asked now.
    pub async fn checks(&self) -> Vec<Check> {
        let store = self.store.probe().await;
        let store = Check {
            name: "store".into(),
            ok: store.is_ok(),
            required: true,
            detail: store.err().map(|error| error.to_string()),
        };
        let clock = self.clock().await;
        let reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(store).chain(clock).chain(reported.values().cloned()).collect()
    }
}

impl Readiness {
    /// Whether entries can be recorded by the clock; nothing while there is none to hold it against.
    pub async fn clock(&self) -> Option<Check> {
        let (clock, skew) = self.clock.as_ref()?;
        // a store that does not answer has a check of its own; its answer comes before the time
        let head = self.store.head().await.ok()?;
        let (newest, by) = ahead(head, clock.now())?;
        let ok = by <= *skew;
        metrics::gauge!("ichor_newest_entry_ahead_seconds").set(by.max(SignedDuration::ZERO).as_secs_f64());
        metrics::gauge!("ichor_ready", "check" => "clock").set(if ok { 1.0 } else { 0.0 });
        Some(Check { name: "clock".into(), ok, required: true, detail: (!ok).then(|| behind(newest, by)) })
    }
}

/// The time of the log's newest entry, and how far it lies ahead of this one; `None` without an entry.
#[must_use]
pub fn ahead(head: LogHead, now: Timestamp) -> Option<(Timestamp, SignedDuration)> {
    let newest = Timestamp::from_microsecond(head.time).ok().filter(|_| head.size > 0)?;
    Some((newest, newest.duration_since(now)))
}

/// What is said where the newest entry lies so far ahead.
#[must_use]
pub fn behind(newest: Timestamp, by: SignedDuration) -> String {
    let by = SignedDuration::from_secs(by.as_secs());
    format!(
        "the newest entry of the log is of {newest:.0}, {by:#} ahead of this host's clock, and nothing is recorded until then: set the clock right, \
         or, where it was ahead when that was recorded, wait, or go back to a backup of before (docs/emergencies.md has each step)"
    )
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").finish_non_exhaustive()
    }
}
