//! Login: a relying party towards OpenID providers, a small OAuth 2.1 authorization server towards our clients, and the
//! sessions in between.
//!
//! The way of a login: [`Login::authorize`] → the provider → [`Login::callback`] → [`Login::confirmation`], the page →
//! [`Login::confirm`] → the client → [`Login::token`]. Then every request: [`Login::prove`] and [`Login::admit`], and before a grant
//! [`Login::fresh_identity`].

mod ask;
mod authorize;
mod callback;
mod confirm;
mod crowd;
mod device;
mod discovery;
mod dpop;
mod errors;
mod http_client;
mod known_keys;
mod metadata;
mod page;
mod pending;
mod provider;
mod recheck;
mod replay;
mod session;
mod settings;
mod tagged;
mod token;
mod token_endpoint;

use std::net::IpAddr;
use std::sync::Arc;

use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::Code;
use sha2::{Digest, Sha256};

use crate::audit::{Sequencer, Tally};
use crate::clock::SharedClock;
use crate::custody::DataKey;
use crate::domain::SessionId;
use crate::store::{SessionRow, Store};
pub use ask::Ask;
pub use authorize::{Begun, Start};
pub use callback::{Answer, Arrived};
pub use confirm::{Confirmation, Confirmed};
pub use device::DeviceStart;
pub use dpop::ProofError;
pub use errors::{LoginError, OauthError};
pub use http_client::ClientError;
pub use metadata::Metadata;
pub use page::{Deciding, PageError, PageOpened};
pub use provider::{ProviderError, another_issuer};
pub use recheck::FreshError;
pub use session::{Presented, Proven, SessionError};
pub use settings::{
    CLIENT_ID, LONGEST_PAGE_SESSION, LONGEST_SESSION, LONGEST_UNCHECKED_SESSION, NonceKey, PAGE_IDLE, ProviderSettings,
    Recheck, Settings, SettingsError,
};
pub use token::{TokenAnswer, TokenGrant, TokenRequest};

/// Everything about logins and sessions. Shared by all handlers.
pub struct Login {
    settings: Settings,
    providers: Vec<Arc<provider::Provider>>,
    store: Arc<dyn Store>,
    sequencer: Sequencer,
    clock: SharedClock,
    data_key: Arc<DataKey>,
    dpop: dpop::Dpop,
    flights: recheck::Flights,
    polls: device::Polls,
    logins: crowd::UnderWay,
    devices: crowd::UnderWay,
    wrong_codes: crowd::WrongCodes,
    tally: Tally,
}

/// Login cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// A setting cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A provider's HTTP client cannot be built.
    #[error(transparent)]
    Client(#[from] ClientError),
}

// === impl Login ===

impl Login {
    /// Checks the settings and builds the providers' HTTP clients. Nobody is called yet: a provider that is out must not
    /// keep the broker from starting.
    ///
    /// # Errors
    /// When a setting cannot be, or a CA file is no certificate.
    pub fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        sequencer: Sequencer,
        clock: SharedClock,
        data_key: Arc<DataKey>,
    ) -> Result<Arc<Self>, BeginError> {
        settings.check()?;
        let mut providers = Vec::with_capacity(settings.providers.len());
        for one in &settings.providers {
            let http = http_client::build(one.alias().as_str(), one.ca.as_deref())?;
            providers.push(Arc::new(provider::Provider::new(one.clone(), http, clock.clone(), store.clone())));
        }
        let dpop = dpop::Dpop::new(&settings.nonce_key);
        let (flights, polls) = (recheck::Flights::default(), device::Polls::default());
        let tally = Tally::new(sequencer.clone(), clock.clone());
        Ok(Arc::new(Self {
            settings,
            providers,
            store,
            sequencer,
            clock,
            data_key,
            dpop,
            flights,
            polls,
            logins: crowd::UnderWay::default(),
            devices: crowd::UnderWay::default(),
            wrong_codes: crowd::WrongCodes::default(),
            tally,
        }))
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The nonce to send along as `DPoP-Nonce`.
    #[must_use]
    pub fn dpop_nonce(&self) -> String {
        self.dpop.nonce(self.clock.now())
    }

    /// Whether each provider answers discovery, by alias: for readiness and `check`.
    pub async fn probe(&self) -> Vec<(String, Result<(), ProviderError>)> {
        let mut results = Vec::with_capacity(self.providers.len());
        for provider in &self.providers {
            results.push((provider.settings.alias().to_string(), provider.known().await.map(|_| ())));
        }
        results
    }

    fn provider(&self, alias: &str) -> Option<&Arc<provider::Provider>> {
        self.providers.iter().find(|provider| provider.settings.alias().as_str() == alias)
    }

    /// Records the refusals of strangers that were counted in the minutes that are over; at the end of the process also
    /// those of the running one, which would else be two entries. To be called about once a minute. What cannot be recorded
    /// now is counted still.
    pub async fn flush_tally(&self, at_the_end: bool) {
        if let Err(error) = self.tally.flush(at_the_end).await {
            tracing::warn!(%error, "refused logins could not be recorded yet");
        }
    }

    /// Notes a login or a request that did not come about. Strangers cause these, so they are only counted.
    fn refused(&self, address: IpAddr, code: Code) {
        tracing::debug!(%address, code = code.as_str(), "refused");
        metrics::counter!("ichor_refused_total", "code" => code.as_str()).increment(1);
        self.tally.count(address, code);
    }
}

/// SHA-256, as hashes of tokens, codes and cookies are kept.
fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// What sealed provider tokens are bound to: their column and row.
fn seal_context(session: SessionId) -> Vec<u8> {
    [b"session.refresh\0".as_slice(), session.0.as_bytes()].concat()
}

/// An entry's content about a session.
fn about(kind: Kind, row: &SessionRow) -> Content {
    Content {
        person: Some(row.person.logged(&row.name, &row.user)),
        session: Some(row.id.0.as_bytes().to_vec()),
        ..Content::of(kind)
    }
}
