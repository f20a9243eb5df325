//! Wires everything. Concrete backends are made here, and in `cli`, alone.

mod acceptance;
mod adopted;
mod aliases;
mod background;
mod connections;
mod delegating;
mod digests;
mod endpoints;
mod issuers;
mod kits;
mod listen;
mod live;
mod locks;
mod log;
mod log_time;
mod looks;
mod naming;
mod nodelog;
mod places;
mod prober;
mod serve;
mod stores;
mod telling;
mod tls;
mod watching;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use crate::audit::{self, Sequencer};
use crate::clock::{SharedClock, SystemClock};
use crate::config::{self, ConfigError, Loaded, Settings};
use crate::custody::{Custody, CustodyError, DataKey, Vault, VaultError};
use crate::entropy;
use crate::forward::ForwardError;
use crate::login::{BeginError, Login, NonceKey, ProviderError};
use crate::notify::BadSink;
use crate::policy::LoadError;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Store, StoreError};

pub use adopted::{Adopted, AdoptedError, End, adopted};
pub use aliases::foreign_issuers;
pub use endpoints::foreign_endpoints;
pub use issuers::newer;
pub use live::{Live, check_policies};
pub use log::{LogError, anchors, check_database_is_there, next_origin, notary, notary_over, open_log, pin_log};
pub use log_time::{ClockError, check_both, check_clock};
pub use prober::{Answer, Own, ProbeError, Prober, addresses, ask, request};
pub use serve::Running;
pub use stores::{
    MoveError, known_cas, migrate_store, move_store, open_alone, open_store, place_of, read_store, store_warning,
};
pub use watching::NO_ANCHOR;

/// What a broker is started with, beside its config folder.
pub struct Parts {
    /// The clock; tests give a frozen one.
    pub clock: SharedClock,
    /// The vault, open.
    pub vault: Vault,
    /// A listener bound before, so that its port can stand in `public_url`; `None` binds as configured.
    pub listener: Option<TcpListener>,
    /// Wraps the store; tests inject faults here.
    pub wrap_store: Option<WrapStore>,
    /// Whether a clock far ahead of the newest entry is right: somebody said so.
    pub accept_clock: bool,
    /// How often files are looked at for changes.
    pub look: Duration,
}

/// How often a broker looks at its files, where nothing speaks for another pace.
pub const LOOK: Duration = Duration::from_secs(2);

/// Puts a store around the broker's own.
pub type WrapStore = Box<dyn FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send>;

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
    /// The data key cannot be had.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// Nothing can be recorded by this clock.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log is not opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A provider's alias belongs to another issuer: nobody could log in there.
    #[error("provider `{alias}`: {why}")]
    Alias {
        /// The alias.
        alias: String,
        /// Whose it is, and what to do.
        why: String,
    },
    /// The login room refuses its settings.
    #[error(transparent)]
    Login(#[from] BeginError),
    /// The log cannot be forwarded as configured.
    #[error("the audit log cannot be forwarded: {0}")]
    Forward(#[from] ForwardError),
    /// People cannot be told as configured.
    #[error("people cannot be notified: {0}")]
    Notify(#[from] BadSink),
    /// The start could not be recorded.
    #[error("the start cannot be recorded: {0}")]
    Record(#[from] audit::RecordError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] entropy::EntropyError),
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

/// How the sequencer works for this broker.
#[must_use]
pub fn sequencer_settings(settings: &Settings) -> audit::Settings {
    audit::Settings::named(settings.name.clone())
}

/// Whether the TLS certificate and its key can be served, and the CA of clients, if any, can be asked for.
///
/// # Errors
/// In one sentence, when they cannot.
pub fn check_tls(
    chain: &std::path::Path,
    key: &std::path::Path,
    clients: Option<&std::path::Path>,
) -> Result<(), String> {
    tls::server_config(chain, key, clients).map(drop)
}

/// The login room over a store and a sequencer.
///
/// # Errors
/// When a setting cannot be.
pub fn login(
    loaded: &Loaded,
    data_key: Arc<DataKey>,
    store: Arc<dyn Store>,
    sequencer: Sequencer,
    clock: SharedClock,
) -> Result<Arc<Login>, StartError> {
    let nonce = NonceKey(zeroize::Zeroizing::new(match loaded.settings.postgres {
        // The same at every broker, so that a proof made with one's nonce is good at another; the store remembers for all of
        // them which proofs were used.
        Some(_) => data_key.tag(b"ichor dpop nonce key 1\0", &[]),
        // Made anew for each process: which proofs were used is remembered in memory alone, so one of a process that has ended
        // could be used again at the next if that took its nonce.
        None => entropy::bytes()?,
    }));
    let settings = config::login_settings(&loaded.folder, &loaded.file, &loaded.settings, nonce)?;
    Ok(Login::new(settings, store, sequencer, clock, data_key)?)
}

/// Custody over the vault and the servers of the configuration. Nothing is sent yet.
///
/// # Errors
/// When a server's settings cannot be.
pub fn custody(loaded: &Loaded, vault: Vault) -> Result<Custody, ConfigError> {
    Ok(Custody::new(vault, config::openbao_clients(&loaded.folder, &loaded.file)?))
}

/// Whether each provider answers discovery, by alias, asked over a throwaway store: nothing of the broker's own is touched.
///
/// # Errors
/// When a provider's settings cannot be, or there is no room for the throwaway store.
pub async fn probe_providers(loaded: &Loaded) -> Result<Vec<(String, Result<(), ProviderError>)>, StartError> {
    let room = tempfile::tempdir().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(room.path().join("probe.db"), Options::default())?);
    let clock: SharedClock = Arc::new(SystemClock);
    let (sequencer, _) = Sequencer::start(Arc::clone(&store), Arc::clone(&clock), sequencer_settings(&loaded.settings));
    let nonce = NonceKey(zeroize::Zeroizing::new([0; 32]));
    let settings = config::login_settings(&loaded.folder, &loaded.file, &loaded.settings, nonce)?;
    let key = DataKey::new(&[0; 32]).map_err(VaultError::from)?;
    Ok(Login::new(settings, store, sequencer, clock, Arc::new(key))?.probe().await)
}
