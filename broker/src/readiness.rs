//! Which dependency is out. `app` reports here; the health listener and `check` read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::store::Store;

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
    reported: Mutex<BTreeMap<String, Check>>,
}

impl Readiness {
    /// A board that asks the store itself and keeps what others report.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, reported: Mutex::default() }
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
        let reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(store).chain(reported.values().cloned()).collect()
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").finish_non_exhaustive()
    }
}
