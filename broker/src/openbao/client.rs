//! The client: calls with a token, within a deadline, tried again where that is safe.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::error::{Sent, tells};
use super::gate::{Gate, NoToken, Token};
use super::settings::{Auth, Settings, SettingsError};
use super::state::State;
use super::transport::{self, Request, Shows};
use super::{Answer, BaoError, Kind, keeper, login};
use crate::entropy;

/// The waits between tries: doubled each time from the first to the second, give or take half.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A client of one server. A clone is the same client: one login serves them all. Its token is renewed in the background as
/// long as a clone is alive.
#[derive(Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    name: Arc<str>,
    settings: Settings,
    http: RwLock<reqwest::Client>,
    places: Semaphore,
    pub(super) gate: Gate,
    pub(super) state: watch::Sender<State>,
    /// How many calls the server denied to our token.
    pub(super) denials: AtomicU64,
    keeper: Mutex<Option<AbortHandle>>,
    /// What no error may tell, the newest last: tokens, and what we logged in with.
    held: Mutex<VecDeque<SecretString>>,
}

/// So many of those are remembered.
const HELD: usize = 8;

/// A token as far as its holder can tell that it may do what it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenStanding {
    login: Option<u64>,
    denials: u64,
}

/// Whether a call may be made again after it may have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Twice is the same as once.
    Safe,
    /// Once it was sent, it is not sent again, unless the server said that it did nothing.
    Never,
}

/// A call that failed, and the login whose token it was made with; `None` when it was not sent.
struct Failed {
    error: BaoError,
    generation: Option<u64>,
}

// === impl Client ===

impl Client {
    /// A client. Nothing is sent yet: the first call logs in.
    ///
    /// # Errors
    /// When the settings cannot be.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let http = RwLock::new(transport::build(&settings, Shows::Nothing)?);
        let (state, _) = watch::channel(State { ok: true, detail: None });
        let (places, gate, keeper) = (Semaphore::new(transport::AT_ONCE), Gate::default(), Mutex::new(None));
        let name = settings.name.as_str().into();
        let shared = Shared {
            name,
            settings,
            http,
            places,
            gate,
            state,
            denials: AtomicU64::new(0),
            keeper,
            held: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The server's name here.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether another client's calls go to the same server and namespace.
    #[must_use]
    pub fn is_of_the_same(&self, other: &Self) -> bool {
        let (one, other) = (self.settings(), &other.shared.settings);
        one.address.origin() == other.address.origin() && one.namespace == other.namespace
    }

    /// What our token was last seen to be: another after each login and after each denial, when what it may do may be another.
    #[must_use]
    pub fn standing(&self) -> TokenStanding {
        let login = self.shared.gate.current().map(|token| token.generation);
        TokenStanding { login, denials: self.shared.denials.load(Ordering::Relaxed) }
    }

    /// How the server last was, and every change of that.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// The answer of a call below `/v1/`, once it succeeded. At most the deadline of the settings passes, with login, tries
    /// and waits.
    ///
    /// # Errors
    /// The last try's.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
        retry: Retry,
    ) -> Result<Answer, BaoError> {
        self.keep();
        // the tries and what is left out of errors share it; it is wiped with the last of them
        let body = body.map(Bytes::from_owner);
        let end = Instant::now() + self.shared.settings.deadline;
        let result = self.tries(method, path, body, retry, end).await;
        self.note_outcome(result.as_ref().map(|_| ()));
        if let Err(error) = &result {
            self.count(error.kind().label());
        }
        result.map(Answer::counted)
    }

    /// Tells metrics how a call ended.
    pub(super) fn count(&self, outcome: &'static str) {
        let server = self.name().to_owned();
        metrics::counter!("ichor_openbao_calls_total", "server" => server, "outcome" => outcome).increment(1);
    }

    /// Returns once our token is no longer good for anything, as far as the server could be told within `within`. A token that
    /// something else writes stays: it is not ours to end. A later call logs in anew.
    pub async fn end(&self, within: Duration) {
        // or it would renew the token, or log in anew
        if let Some(keeper) = self.shared.keeper.lock().unwrap_or_else(PoisonError::into_inner).take() {
            keeper.abort();
        }
        let Some(token) = self.shared.gate.leave() else { return };
        if matches!(self.settings().auth, Auth::Token { .. }) {
            return;
        }
        let end = Instant::now() + within.min(self.settings().deadline);
        let revoked = self.once(Method::POST, "auth/token/revoke-self", None, Some(&token.secret), None, end).await;
        match revoked {
            Ok(_) => tracing::info!(server = self.name(), "our token at OpenBao is ended"),
            Err(error) => tracing::warn!(server = self.name(), %error, "our token was not ended; it lasts its lease"),
        }
    }

    async fn tries(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        retry: Retry,
        end: Instant,
    ) -> Result<Answer, BaoError> {
        let mut wait = WAITS.0;
        let mut refused = None;
        let mut before = None;
        loop {
            let Failed { error, generation } = match self.attempt(&method, path, body.clone(), refused, end).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if *error.kind() == Kind::Token && generation.is_some() && refused.is_none() {
                // it was revoked, or its server restarted: one new login, and nothing was done with the old token
                refused = generation;
                continue;
            }
            if let (Kind::Late, Some(before)) = (error.kind(), before) {
                // the deadline ended this try: what ended the one before says more
                return Err(before);
            }
            let may_repeat = retry == Retry::Safe || generation.is_none() || error.kind().did_nothing();
            let pause = jitter(wait);
            if !may_repeat || !error.kind().is_worth_a_try() || Instant::now() + pause >= end {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(WAITS.1);
            before = Some(error);
        }
    }

    async fn attempt(
        &self,
        method: &Method,
        path: &str,
        body: Option<Bytes>,
        refused: Option<u64>,
        end: Instant,
    ) -> Result<Answer, Failed> {
        let unsent = |error| Failed { error, generation: None };
        // logins and renewals need no place: they go on while calls that hang hold all of them
        let place = tokio::time::timeout_at(end, self.shared.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(unsent(self.error(Kind::Late, None))) };
        let token = self.token(refused, end).await.map_err(unsent)?;
        let result = self.once(method.clone(), path, body, Some(&token.secret), None, end).await;
        result.map_err(|error| Failed { error, generation: Some(token.generation) })
    }

    async fn token(&self, refused: Option<u64>, end: Instant) -> Result<Arc<Token>, BaoError> {
        if let Some(token) = self.shared.gate.usable(refused) {
            return Ok(token);
        }
        // in a task of its own and with a deadline of its own: who goes away, or came late, ends no login of the others
        let client = self.clone();
        let turn = tokio::spawn(async move {
            let login = async || login::log_in(&client, Instant::now() + client.settings().deadline).await;
            client.shared.gate.token(refused, login).await
        });
        match tokio::time::timeout_at(end, turn).await {
            Ok(Ok(Ok(token))) => Ok(token),
            Ok(Ok(Err(NoToken::Login(error)))) => Err(error),
            Ok(Ok(Err(NoToken::Refused))) => Err(self.error(Kind::Token, None)),
            Ok(Err(_)) | Err(_) => Err(self.error(Kind::Late, None)),
        }
    }

    /// One exchange, with this token or none. `secret` is what else of the request no error may tell.
    pub(super) async fn once(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        token: Option<&SecretString>,
        secret: Option<&SecretString>,
        end: Instant,
    ) -> Result<Answer, BaoError> {
        let http = self.shared.http.read().unwrap_or_else(PoisonError::into_inner).clone();
        let within = end.saturating_duration_since(Instant::now());
        let sent = body.clone();
        let request = Request { method, path, body, token };
        let exchanged = transport::exchange(&http, &self.shared.settings, request, within).await;
        let (status, body) = exchanged.map_err(|kind| self.error(kind, None))?;
        if status.is_success() {
            return Ok(Answer::new(self.clone(), body));
        }
        let secret = secret.or(token).map(|secret| secret.expose_secret());
        // a login's body is its secret, which is looked for by itself, and the names that its errors are about
        let sent = sent.as_deref().filter(|_| token.is_some()).unwrap_or_default();
        let held = self.shared.held();
        let (kind, request) = Kind::of(status, &body, path, &Sent { secret, body: sent, held: &held });
        Err(self.error(kind, request))
    }

    /// A server's own words from within an answer, as an error may have them.
    pub(super) fn words(&self, text: &str) -> String {
        let token = self.shared.gate.current();
        let (secret, held) = (token.as_ref().map(|token| token.secret.expose_secret()), self.shared.held());
        Sent { secret, body: &[], held: &held }.words_of(text)
    }

    /// An error of this server's. What it calls the request's id is left out where that is a secret of ours.
    #[must_use]
    pub fn error(&self, kind: Kind, request: Option<String>) -> BaoError {
        let request = request.filter(|id| !tells(id, &self.shared.held()));
        BaoError::new(&self.shared.name, kind, request)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Reads the client certificate's files anew.
    pub(super) fn rebuild(&self) -> Result<(), SettingsError> {
        let http = transport::build(&self.shared.settings, Shows::ItsCertificate)?;
        *self.shared.http.write().unwrap_or_else(PoisonError::into_inner) = http;
        Ok(())
    }

    /// Sees to it that the keeper runs.
    fn keep(&self) {
        let mut keeper = self.shared.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.as_ref().is_none_or(AbortHandle::is_finished) {
            *keeper = Some(tokio::spawn(keeper::keep(Arc::downgrade(&self.shared))).abort_handle());
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.shared.name).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// No error tells this from now on.
    pub(super) fn hold(&self, secret: &SecretString) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|other| other.expose_secret() != secret.expose_secret());
        held.push_back(secret.clone());
        if held.len() > HELD {
            held.pop_front();
        }
    }

    fn held(&self) -> Vec<SecretString> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take() {
            keeper.abort();
        }
    }
}

/// Half to one and a half of it: who failed together does not come back together.
fn jitter(wait: Duration) -> Duration {
    let [byte] = entropy::bytes::<1>().unwrap_or([128]);
    wait / 2 + wait * u32::from(byte) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_differ_and_stay_near_what_they_should_be() {
        let waits: Vec<_> = (0..64).map(|_| jitter(WAITS.1)).collect();
        assert!(waits.iter().all(|wait| (WAITS.1 / 2..=WAITS.1 * 3 / 2).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "who failed together would come back together");
    }
}
