//! An OpenID provider: discovery, authorization code with PKCE, refresh with rotation, userinfo, revocation, and a login page
//! that lists its people as buttons.
//!
//! It behaves as the well-known ones do where that matters to a relying party: a code or refresh token used twice ends the
//! whole grant, `auth_time` and `acr` are told only when asked for, a refresh token is given only for `offline_access`.
//! Every knob may be turned while it runs.

mod authorize;
mod gate;
mod id_token;
mod keys;
mod metadata;
mod page;
mod people;
mod serve;
mod state;
mod token;
mod userinfo;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use gate::{Endpoint, Hold, Outage};
pub use keys::Algorithm;
pub use people::{Client, Person};
pub use state::{Fault, GroupsIn, RedirectIssuer};

use crate::clock::{self, Now};
use crate::lock;
use gate::Gate;
use keys::SigningKey;
use state::{Behaviour, State};

/// A running provider. Dropping it stops it.
pub struct Provider {
    inner: Inner,
    task: AbortHandle,
}

/// How a provider begins.
pub struct ProviderOptions {
    /// Who may sign in.
    pub people: Vec<Person>,
    /// Which programs may ask.
    pub clients: Vec<Client>,
    /// How ID tokens are signed.
    pub algorithm: Algorithm,
    /// The provider's time.
    pub now: Now,
}

type Inner = Arc<Shared>;

struct Shared {
    issuer: String,
    now: Now,
    gate: Gate,
    state: Mutex<State>,
}

/// Something went wrong in the stand-in itself.
struct Failed(anyhow::Error);

// === impl ProviderOptions ===

impl Default for ProviderOptions {
    /// Alice in `sre`, Bob in `dev`, Carol in no group; no clients; ES256; the machine's time.
    fn default() -> Self {
        Self {
            people: vec![
                Person::new("alice", "Alice Example", ["sre"]),
                Person::new("bob", "Bob Example", ["dev"]),
                Person::new("carol", "Carol Example", []),
            ],
            clients: Vec::new(),
            algorithm: Algorithm::default(),
            now: clock::system(),
        }
    }
}

// === impl Provider ===

impl Provider {
    /// Returns once the provider answers at its issuer URL, `http://127.0.0.1:<any port>`.
    ///
    /// # Errors
    /// When no port can be had, or no key.
    pub async fn start(options: ProviderOptions) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await.context("no port to listen on")?;
        let issuer = format!("http://{}", listener.local_addr()?);
        let state = State {
            people: options.people.into_iter().map(|person| (person.login.clone(), person)).collect(),
            clients: options.clients.into_iter().map(|client| (client.id.clone(), client)).collect(),
            keys: vec![SigningKey::generate(options.algorithm)?],
            behaviour: Behaviour {
                algorithm: options.algorithm,
                groups_in: GroupsIn::default(),
                fault: None,
                redirect_issuer: RedirectIssuer::default(),
                refresh_tokens: true,
                rotate_refresh: true,
                id_token_on_refresh: true,
                id_token_life: SignedDuration::from_secs(300),
                revocation: true,
                asks_anew: true,
            },
            pending: BTreeMap::new(),
            browsers: BTreeMap::new(),
            codes: BTreeMap::new(),
            grants: BTreeMap::new(),
            refresh: BTreeMap::new(),
            access: BTreeMap::new(),
            refreshes: 0,
            revocations: watch::Sender::new(0),
        };
        let inner = Arc::new(Shared { issuer, now: options.now, gate: Gate::default(), state: Mutex::new(state) });
        let task = tokio::spawn(serve::serve(listener, Arc::clone(&inner))).abort_handle();
        Ok(Self { inner, task })
    }

    /// The issuer URL, without a trailing slash.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.inner.issuer
    }

    /// Registers a client, or replaces the one of that id.
    pub fn add_client(&self, client: Client) {
        lock(&self.inner.state).clients.insert(client.id.clone(), client);
    }

    /// Adds a person, or replaces the one of that login.
    pub fn add_person(&self, person: Person) {
        lock(&self.inner.state).people.insert(person.login.clone(), person);
    }

    /// Changes the person of that login. Returns false where there is none.
    pub fn change_person(&self, login: &str, change: impl FnOnce(&mut Person)) -> bool {
        lock(&self.inner.state).people.get_mut(login).map(change).is_some()
    }

    /// From now on the person cannot sign in, and their refresh gives `invalid_grant`.
    pub fn disable(&self, login: &str) -> bool {
        self.change_person(login, |person| person.disabled = true)
    }

    /// Changes a person's groups.
    pub fn set_groups<'a>(&self, login: &str, groups: impl IntoIterator<Item = &'a str>) -> bool {
        self.change_person(login, |person| person.groups = groups.into_iter().map(str::to_owned).collect())
    }

    /// Where groups are told.
    pub fn set_groups_in(&self, groups_in: GroupsIn) {
        lock(&self.inner.state).behaviour.groups_in = groups_in;
    }

    /// Spoils every ID token from now on; `None` ends it.
    pub fn set_fault(&self, fault: Option<Fault>) {
        lock(&self.inner.state).behaviour.fault = fault;
    }

    /// What `iss` says in redirects.
    pub fn set_redirect_issuer(&self, redirect_issuer: RedirectIssuer) {
        lock(&self.inner.state).behaviour.redirect_issuer = redirect_issuer;
    }

    /// Whether refresh tokens are given at all.
    pub fn set_refresh_tokens(&self, given: bool) {
        lock(&self.inner.state).behaviour.refresh_tokens = given;
    }

    /// Whether each refresh gives a new refresh token and uses up the old one.
    pub fn set_refresh_rotation(&self, rotates: bool) {
        lock(&self.inner.state).behaviour.rotate_refresh = rotates;
    }

    /// Whether a refresh answers with an ID token.
    pub fn set_id_token_on_refresh(&self, given: bool) {
        lock(&self.inner.state).behaviour.id_token_on_refresh = given;
    }

    /// How long ID tokens live; 5 minutes at first.
    pub fn set_id_token_life(&self, life: SignedDuration) {
        lock(&self.inner.state).behaviour.id_token_life = life;
    }

    /// Signs with a new key from now on, and no longer publishes the old ones.
    ///
    /// # Errors
    /// When the system gives no key.
    pub fn rotate_keys(&self) -> anyhow::Result<()> {
        let algorithm = lock(&self.inner.state).behaviour.algorithm;
        self.sign_with(algorithm)
    }

    /// As [`Provider::rotate_keys`], to another algorithm.
    ///
    /// # Errors
    /// When the system gives no key.
    pub fn sign_with(&self, algorithm: Algorithm) -> anyhow::Result<()> {
        let key = SigningKey::generate(algorithm)?;
        let mut state = lock(&self.inner.state);
        state.keys = vec![key];
        state.behaviour.algorithm = algorithm;
        Ok(())
    }

    /// Takes the provider out, or brings it back.
    pub fn set_outage(&self, outage: Outage) {
        self.inner.gate.set_outage(outage);
    }

    /// `true` answers every request with 503 from now on, `false` brings the provider back.
    pub fn set_down(&self, down: bool) {
        self.set_outage(if down { Outage::Unavailable } else { Outage::None });
    }

    /// Makes requests to `endpoint` wait until the returned value is released or dropped.
    #[must_use]
    pub fn hold(&self, endpoint: Endpoint) -> Hold {
        self.inner.gate.hold(endpoint)
    }

    /// How many requests came to `endpoint`.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> u64 {
        self.inner.gate.count(endpoint)
    }

    /// How many refreshes were asked for, granted or not.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        lock(&self.inner.state).refreshes
    }

    /// Whether a person who is signed in is asked anew where `max_age` or `prompt` want it. A provider that does not still tells
    /// the right `auth_time`.
    pub fn set_asks_anew(&self, asks: bool) {
        lock(&self.inner.state).behaviour.asks_anew = asks;
    }

    /// Whether discovery advertises the revocation endpoint.
    pub fn set_revocation(&self, advertised: bool) {
        lock(&self.inner.state).behaviour.revocation = advertised;
    }

    /// Counts the grants that were ended by revoking one of their tokens.
    #[must_use]
    pub fn revocations(&self) -> watch::Receiver<u64> {
        lock(&self.inner.state).revocations.subscribe()
    }

    /// Ends everything that was granted to the person, as an administrator's "sign out everywhere" does.
    pub fn end_grants(&self, login: &str) {
        let mut state = lock(&self.inner.state);
        let ended: Vec<String> =
            state.grants.iter().filter(|(_, grant)| grant.login == login).map(|(id, _)| id.clone()).collect();
        for grant in ended {
            state.end_grant(&grant);
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Failed ===

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{:#}", self.0)).into_response()
    }
}
