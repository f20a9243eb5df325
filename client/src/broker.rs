//! The broker, as the client talks to it.

mod lines;
mod metadata;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use ichor_wire::api::CLIENT_VERSION_HEADER;
use ichor_wire::log::LogKey;
use ichor_wire::problem::{Code, Problem};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::dpop::{DpopKey, ProofOf};
use crate::error::Error;
use crate::session::Session;
use crate::settings::{Settings, Source};
use crate::tls::{self, Trust};

pub use metadata::Metadata;

/// This client's version, as it tells the broker.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The client's name at the broker's authorization server.
pub const CLIENT_ID: &str = "ichor";

/// The largest answer that is read, in bytes (8 MiB).
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// One broker; cheap to clone. Connections are kept, and none is made before the first request.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    url: Url,
    trust: Trust,
    clock: Clock,
    audit_key: Option<LogKey>,
    trusting: Option<PathBuf>,
    pinned: Option<PathBuf>,
    http: OnceLock<reqwest::Client>,
    /// The last `DPoP-Nonce` that the broker sent (RFC 9449 §8).
    nonce: Mutex<Option<String>>,
    /// By how many seconds the broker's last `Date` was ahead of our clock.
    skew: Mutex<Option<i64>>,
}

/// An answer's status, headers and body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

/// An OAuth error (RFC 6749 §5.2).
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct OAuthError {
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) error_description: Option<String>,
}

// === impl Broker ===

impl Broker {
    /// The broker at `url` (without a slash at the end), believed if its certificate leads to `trust`. No connection is
    /// made yet.
    #[must_use]
    pub fn new(url: Url, trust: Trust, clock: Clock) -> Self {
        Self::with_audit_key(url, trust, clock, None)
    }

    /// The same, where the key of its audit log is known from elsewhere.
    #[must_use]
    pub fn with_audit_key(url: Url, trust: Trust, clock: Clock, audit_key: Option<LogKey>) -> Self {
        let source = Source::Flag;
        Self::found(Settings { broker: url, trust, audit_key, source, trusting: None, pinned: None }, clock)
    }

    /// The broker that the settings name. No connection is made yet.
    #[must_use]
    pub fn found(settings: Settings, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            url: settings.broker,
            trust: settings.trust,
            clock,
            audit_key: settings.audit_key,
            trusting: settings.trusting,
            pinned: settings.pinned,
            http: OnceLock::new(),
            nonce: Mutex::new(None),
            skew: Mutex::new(None),
        }))
    }

    /// The broker's URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url.as_str().trim_end_matches('/').to_owned()
    }

    /// The key of its audit log, where the settings pin it.
    #[must_use]
    pub fn audit_key(&self) -> Option<&LogKey> {
        self.0.audit_key.as_ref()
    }

    /// What its certificate must lead to.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    /// The project's file that says so, where neither the person nor the machine does.
    #[must_use]
    pub fn trusting(&self) -> Option<&Path> {
        self.0.trusting.as_deref()
    }

    /// The clock that proofs are dated with.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// By how many seconds the broker's clock was ahead of ours at its last answer (negative: behind), to the second.
    #[must_use]
    pub fn clock_skew(&self) -> Option<i64> {
        *self.0.skew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `GET` of an API path with its query, for a session.
    ///
    /// # Errors
    /// The broker's problem, or that it cannot be reached.
    pub async fn get<T: DeserializeOwned>(
        &self,
        session: &Session,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Error> {
        self.call(session, Method::GET, &self.asking(path, query)?, None).await
    }

    /// `GET` of an API path whose answer is bytes, at most `most` of them, for a session.
    ///
    /// # Errors
    /// The broker's problem, or that it cannot be reached.
    pub async fn get_bytes(
        &self,
        session: &Session,
        path: &[&str],
        query: &[(&str, String)],
        most: usize,
    ) -> Result<Vec<u8>, Error> {
        let url = self.asking(path, query)?;
        let answer = self.proved_within(Method::GET, &url, session.key(), Some(session.token()), None, most).await?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(self.problem(&answer)) }
    }

    /// `GET` of an API path whose answer is text, for a session.
    ///
    /// # Errors
    /// The broker's problem, or that it cannot be reached.
    pub async fn get_text(&self, session: &Session, path: &[&str]) -> Result<String, Error> {
        let bytes = self.get_bytes(session, path, &[], MAX_ANSWER).await?;
        String::from_utf8(bytes).map_err(|_| self.not_a_broker("its answer is no text"))
    }

    /// `POST` of a JSON body to an API path, for a session.
    ///
    /// # Errors
    /// The broker's problem, or that it cannot be reached.
    pub async fn post<T: DeserializeOwned>(
        &self,
        session: &Session,
        path: &[&str],
        body: &impl serde::Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|_| Error::Bug("a request is not JSON"))?;
        self.call(session, Method::POST, &self.api(path)?, Some(body)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        session: &Session,
        method: Method,
        url: &Url,
        body: Option<Vec<u8>>,
    ) -> Result<T, Error> {
        let json = body.map(|body| ("application/json", body));
        let answer = self.proved(method, url, session.key(), Some(session.token()), json).await?;
        if answer.status.is_success() {
            // It may hold a private key.
            let body = Zeroizing::new(answer.body);
            return serde_json::from_slice(&body).map_err(|_| self.not_a_broker("its answer cannot be read"));
        }
        Err(self.problem(&answer))
    }

    /// A request with a proof; repeated once where the broker wants a fresh nonce.
    pub(crate) async fn proved(
        &self,
        method: Method,
        url: &Url,
        key: &DpopKey,
        token: Option<&str>,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Answer, Error> {
        self.proved_within(method, url, key, token, body, MAX_ANSWER).await
    }

    async fn proved_within(
        &self,
        method: Method,
        url: &Url,
        key: &DpopKey,
        token: Option<&str>,
        body: Option<(&'static str, Vec<u8>)>,
        most: usize,
    ) -> Result<Answer, Error> {
        let mut repeated = false;
        loop {
            let nonce = self.nonce();
            let changes = method != Method::GET;
            let bytes = body.as_ref().map_or(&[][..], |(_, bytes)| bytes);
            let of = ProofOf {
                method: method.as_str(),
                url,
                token,
                nonce: nonce.as_deref(),
                body: changes.then_some(bytes),
            };
            let headers = self.proof(key, of)?;
            let answer = self.send_within(method.clone(), url, headers, body.clone(), most).await?;
            if repeated || !wants_nonce(&answer) || self.nonce() == nonce {
                return Ok(answer);
            }
            repeated = true;
        }
    }

    /// The headers that prove who asks.
    fn proof(&self, key: &DpopKey, of: ProofOf<'_>) -> Result<HeaderMap, Error> {
        let token = of.token;
        let proof = key.proof(of, self.0.clock.now())?;
        let mut headers = HeaderMap::new();
        headers.insert("dpop", header(&proof)?);
        if let Some(token) = token {
            let mut value = header(&format!("DPoP {token}"))?;
            value.set_sensitive(true);
            headers.insert(http::header::AUTHORIZATION, value);
        }
        Ok(headers)
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Answer, Error> {
        self.send_within(method, url, headers, body, MAX_ANSWER).await
    }

    async fn send_within(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<(&'static str, Vec<u8>)>,
        most: usize,
    ) -> Result<Answer, Error> {
        let mut request = self.http()?.request(method, url.clone()).headers(headers);
        if let Some((media_type, bytes)) = body {
            request = request.header(http::header::CONTENT_TYPE, media_type).body(bytes);
        }
        self.read(self.begin(request).await?, most).await
    }

    /// Sends the request and returns once the head of the answer is here.
    async fn begin(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Error> {
        let request = request.header(CLIENT_VERSION_HEADER, HeaderValue::from_static(VERSION));
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if let Some(nonce) = response.headers().get("dpop-nonce").and_then(|nonce| nonce.to_str().ok()) {
            *self.0.nonce.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.to_owned());
        }
        if let Some(date) = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok()) {
            // The form of HTTP is that of RFC 2822 (RFC 9110 §5.6.7).
            let date = jiff::fmt::rfc2822::parse(date).ok().map(|date| date.timestamp());
            let skew = date.map(|date| date.as_second() - self.0.clock.now().as_second());
            *self.0.skew.lock().unwrap_or_else(PoisonError::into_inner) = skew;
        }
        Ok(response)
    }

    /// The whole answer.
    async fn read(&self, mut response: reqwest::Response, most: usize) -> Result<Answer, Error> {
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > most {
                return Err(self.not_a_broker(&format!("its answer is larger than {} MiB", most / (1024 * 1024))));
            }
        }
        Ok(Answer { status, body })
    }

    fn nonce(&self) -> Option<String> {
        self.0.nonce.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn asking(&self, path: &[&str], query: &[(&str, String)]) -> Result<Url, Error> {
        let mut url = self.api(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn api(&self, path: &[&str]) -> Result<Url, Error> {
        let mut url = self.at("/v1")?;
        url.path_segments_mut().map_err(|()| Error::Bug("the broker's URL has no path"))?.extend(path);
        Ok(url)
    }

    fn at(&self, path: &str) -> Result<Url, Error> {
        format!("{}{path}", self.url()).parse().map_err(|_| Error::Bug("the broker's URL takes no path"))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that builds an HTTP client")]
    fn http(&self) -> Result<&reqwest::Client, Error> {
        if let Some(client) = self.0.http.get() {
            return Ok(client);
        }
        let tls = match (self.0.url.scheme(), &self.0.trust) {
            // Plain HTTP, to this machine only, shows no certificate: reading the system's hundred and more CAs, at the start
            // of every command, would be for nothing.
            ("http", Trust::System { .. }) => tls::believing_nobody()?,
            (_, trust) => trust.client_config()?,
        };
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("ichor/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(40));
        let client = builder.build().map_err(|_| Error::Bug("no HTTP client could be built"))?;
        Ok(self.0.http.get_or_init(|| client))
    }

    /// Refuses a URL that is not the broker's own, by scheme, host and port (so that it is http or https too): nobody is
    /// sent anywhere else in the broker's name. `what` names it.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn own_page(&self, url: &Url, what: &str) -> Result<(), Error> {
        if url.origin() == self.0.url.origin() {
            Ok(())
        } else {
            Err(self.not_a_broker(&format!("{what} names another host")))
        }
    }

    /// The error that an unsuccessful answer stands for.
    pub(crate) fn problem(&self, answer: &Answer) -> Error {
        let Ok(problem) = serde_json::from_slice::<Problem>(&answer.body) else {
            return self.not_a_broker(&format!("it answers {} without saying why", answer.status.as_u16()));
        };
        match problem.code {
            Code::NotLoggedIn | Code::SessionEnded | Code::BadProof => Error::SessionEnded { detail: problem.detail },
            _ => Error::Problem(Box::new(problem)),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let mut reason = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            reason = error.to_string();
            cause = error.source();
        }
        if let Some(file) = self.0.pinned.as_ref().filter(|_| reason.contains("UnknownIssuer")) {
            return Error::Unreachable {
                url: self.url(),
                reason: format!("its CA is not the one that `ca_pin` in `{}` names", file.display()),
                next: "compare `ca_pin` with whoever runs the broker, which must send its CA's certificate along"
                    .into(),
            };
        }
        let next = match &reason {
            reason if error.is_timeout() || reason.contains("deadline") => {
                "check the network, and whether the broker runs"
            }
            reason if reason.contains("ertificate") => {
                "name the broker's CA with `--ca FILE`, or `ca_file` or `ca_pin` in .ichor.toml"
            }
            _ => "check the URL, the network, and whether the broker runs",
        };
        if error.is_timeout() {
            reason = "it did not answer in time".into();
        }
        Error::Unreachable { url: self.url(), reason, next: next.into() }
    }

    pub(crate) fn not_a_broker(&self, reason: &str) -> Error {
        Error::Unreachable {
            url: self.url(),
            reason: reason.into(),
            next: "check that the URL is an Ichor broker's".into(),
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Broker").field(&self.url()).finish()
    }
}

// === impl Answer ===

impl Answer {
    /// The OAuth error of an unsuccessful answer of the authorization server.
    pub(crate) fn oauth_error(&self) -> Option<OAuthError> {
        serde_json::from_slice(&self.body).ok()
    }
}

fn wants_nonce(answer: &Answer) -> bool {
    if !matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST) {
        return false;
    }
    let problem = serde_json::from_slice::<Problem>(&answer.body).is_ok_and(|problem| problem.code == Code::UseNonce);
    problem || answer.oauth_error().is_some_and(|error| error.error == "use_dpop_nonce")
}

fn header(value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(value).map_err(|_| Error::failed("the kept session cannot be used", "run `ichor login`"))
}
