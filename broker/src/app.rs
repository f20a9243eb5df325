//! Wires everything. The only file that names concrete backends.

mod live;
mod serve;
mod tls;

use std::net::TcpListener;
use std::sync::Arc;

use crate::audit;
use crate::clock::SharedClock;
use crate::config::{ConfigError, Settings};
use crate::custody::{Vault, VaultError};
use crate::login::LoginError;
use crate::policy::LoadError;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Store, StoreError};

pub use live::{Live, ca_warning, check_policies};
pub use serve::Running;

/// What a broker is started with, beside its config folder.
pub struct Parts {
    /// The clock; tests give a frozen one.
    pub clock: SharedClock,
    /// The vault, open.
    pub vault: Vault,
    /// A listener bound before, so that its port can stand in `public_url`; `None` binds as configured.
    pub listener: Option<TcpListener>,
    /// Wraps the store; tests inject faults here.
    pub wrap_store: Option<fn(Arc<dyn Store>) -> Arc<dyn Store>>,
}

/// Why the broker does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policies are refused.
    #[error("the policies are refused: {0}")]
    Policies(#[from] LoadError),
    /// The vault cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The login room refuses its settings.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The start could not be recorded.
    #[error("the start cannot be recorded: {0}")]
    Record(#[from] audit::RecordError),
    /// A listener cannot be bound.
    #[error("cannot listen on {at}: {why}")]
    Listen {
        /// Where.
        at: String,
        /// The system's reason.
        why: String,
    },
    /// The TLS certificate or its key is not usable.
    #[error("the TLS certificate cannot be used: {0}")]
    Tls(String),
}

/// The store as configured, its writer lock taken.
///
/// # Errors
/// When another process holds the lock, or the database cannot be opened.
pub fn open_store(settings: &Settings) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&settings.database, Options::default())
}

/// How the sequencer works for this broker.
#[must_use]
pub fn sequencer_settings(settings: &Settings) -> audit::Settings {
    audit::Settings::named(settings.name.clone())
}

/// Whether the TLS certificate and its key can be served.
///
/// # Errors
/// In one sentence, when they cannot.
pub fn check_tls(chain: &std::path::Path, key: &std::path::Path) -> Result<(), String> {
    tls::server_config(chain, key).map(drop)
}
