//! A broker of a few hundred lines: it keeps the protocol's promises, checks the client's, and says what a test tells it
//! to.

mod api;
mod break_glass;
mod http;
pub mod log;
mod oauth;
mod proof;

use std::collections::{BTreeMap, HashMap};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use ichor_standins::authority::Authority;
use ichor_wire::api::{BreakGlassAsk, CertificateRequest, DropAsk, KitReportAsk, LockAsk, UnlockAsk};
use ichor_wire::problem::{Code, Problem, StepUp};
use serde_json::{Value, json};
use url::Url;

use http::{Asked, Reply};

const TOKEN: &str = "the-access-token";

/// A broker that does not show what it has.
#[derive(Clone, Copy, Debug)]
pub enum Hides {
    /// It calls the receipt pending.
    Pending,
    /// It refuses.
    Refused,
}

/// What a test may change, and what it may look at.
#[derive(Default)]
pub struct State {
    /// Answer the next requests for certificates, or for lines of the audit, with this.
    pub refuse: Option<Problem>,
    /// Leave this out of, or change this in, the redirect back to the client.
    pub tamper: Option<Tamper>,
    /// Extra metadata.
    pub metadata: BTreeMap<String, Value>,
    /// The cluster's endpoints.
    pub endpoints: Vec<String>,
    /// The cluster's nodes.
    pub nodes: Vec<String>,
    /// The PEM of the CA that nodes show.
    pub node_ca: String,
    /// How long certificates live, in seconds.
    pub life: i64,
    /// The longest that policy gives, in seconds.
    pub max_life: Option<i64>,
    /// Answer a certificate with another end than it has.
    pub lie: bool,
    /// Answer a certificate with this as its CA's, or with none, instead of the CA's own.
    pub issuing_ca: Option<Option<String>>,
    /// Make the key too, as a cluster does that makes the certificates itself.
    pub makes_key: Option<MakesKey>,
    /// The sessions are over.
    pub session_ended: bool,
    /// What a hostile provider or broker adds to every name and message.
    pub hostile: String,
    /// Where a device login sends the person, instead of to a page of its own.
    pub verification_uri: Option<String>,
    /// How often a device login is answered `authorization_pending`.
    pub pending: u32,
    /// The receipt of every certificate, instead of a pending one.
    pub receipt: Option<ichor_wire::api::Receipt>,
    /// Which of the published log's checkpoints is the newest, instead of the last.
    pub head: Option<&'static str>,
    /// So often an older one is shown first: by another broker, which is behind.
    pub behind: u32,
    /// How receipts are answered that are asked for, instead of with themselves.
    pub hides: Option<Hides>,
    /// So many who follow the log are told that they ask too often.
    pub crowded: u32,
    /// So many who look at one break-glass request are told that the broker cannot answer now.
    pub restarts: u32,
    /// So many pages of requests in which there is none that the caller may see, before the one that there is.
    pub requests_behind: u128,
    /// The quota took calls, and none is left.
    pub taken: bool,
    /// Who asks may not read what others called.
    pub own_calls_alone: bool,
    /// Nodes' own logs are taken in.
    pub node_logs: bool,
    /// How often a request to drop bodies was approved.
    pub approvals: u32,
    /// What was asked to be dropped.
    pub drops: Vec<DropAsk>,
    /// What was asked to be locked.
    pub locks: Vec<LockAsk>,
    /// Which locks were asked to be lifted.
    pub unlocks: Vec<(String, UnlockAsk)>,
    /// Which fresh login policy wants before a break-glass request is made or decided, until someone has logged in so.
    pub step_up: Option<StepUp>,
    /// Not even such a login is enough.
    pub no_login_helps: bool,
    /// The state of every break-glass request, instead of `approved`.
    pub request_state: Option<&'static str>,
    /// Every break-glass request that was made.
    pub requests: Vec<BreakGlassAsk>,
    /// What was done with break-glass requests: how, and what was said with it.
    pub decided: Vec<(String, Value)>,
    /// Every record of an opened kit that was brought.
    pub reports: Vec<KitReportAsk>,
    /// Every request: method and target.
    pub seen: Vec<String>,
    /// Every certificate request.
    pub asked: Vec<CertificateRequest>,
    /// The queries of the authorization endpoint.
    pub authorizations: Vec<HashMap<String, String>>,
    /// Promises that the client broke.
    pub broken: Vec<String>,
    codes: HashMap<String, (String, String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakesKey {
    /// The certificate's.
    Right,
    /// Another's.
    Another,
    /// None at all: text.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tamper {
    WrongIssuer,
    NoIssuer,
    WrongState,
    Denied,
}

pub struct Fake {
    pub url: String,
    pub state: Arc<Mutex<State>>,
}

struct Broker {
    url: String,
    ca: Authority,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            endpoints: vec!["10.0.0.2".into()],
            nodes: vec!["10.0.0.5".into()],
            node_ca: "CA".into(),
            life: 3600,
            ..State::default()
        }));
        Self::serve(listener, url.clone(), state.clone(), Authority::new("ichor").unwrap());
        Self { url, state }
    }

    /// As [`Fake::start`], signing with `ca`.
    pub fn start_with(ca: Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { life: 3600, ..State::default() }));
        Self::serve(listener, url.clone(), state.clone(), ca);
        Self { url, state }
    }

    fn serve(listener: TcpListener, url: String, state: Arc<Mutex<State>>, ca: Authority) {
        let broker = Arc::new(Broker { url, ca, state });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let broker = broker.clone();
                std::thread::spawn(move || broker.connection(stream));
            }
        });
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// Fails if the client broke a promise.
    pub fn assert_kept(&self) {
        self.with(|state| assert!(state.broken.is_empty(), "{:#?}", state.broken));
    }
}

impl Broker {
    fn connection(&self, stream: TcpStream) {
        let Some(asked) = http::read(&stream) else { return };
        self.answer(&asked).send(stream);
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let url: Url = format!("{}{}", self.url, asked.target).parse().unwrap();
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        let form: HashMap<String, String> = url::form_urlencoded::parse(&asked.body).into_owned().collect();
        let state = self.state.clone();
        state.lock().unwrap().seen.push(format!("{} {}", asked.method, asked.target));
        match (asked.method.as_str(), url.path()) {
            ("GET", "/.well-known/oauth-authorization-server") => self.metadata(),
            ("GET", "/authorize") => self.authorize(query),
            ("POST", "/token") => {
                self.proved(asked, &url, None).unwrap_or_else(|| self.token(&form, &proof::thumbprint(asked)))
            }
            ("POST", "/device") => {
                let (page, hostile) = {
                    let state = state.lock().unwrap();
                    (state.verification_uri.clone(), state.hostile.clone())
                };
                let page = page.unwrap_or_else(|| format!("{}/device", self.url));
                let answer = json!({ "device_code": "the-device-code", "user_code": format!("WXYZ-1234{hostile}"), "verification_uri": page, "expires_in": 600, "interval": 1 });
                Reply::json(200, &answer)
            }
            ("POST", "/revoke") => self.proved(asked, &url, Some(TOKEN)).unwrap_or_else(|| {
                assert_eq!(form.get("token").map(String::as_str), Some(TOKEN));
                state.lock().unwrap().session_ended = true;
                Reply::json(200, &json!({}))
            }),
            ("GET", path) if path.starts_with("/log/") => log::tiles(asked, path),
            (_, path) if path.starts_with("/v1/") => {
                let path: Vec<&str> = path.split('/').skip(2).collect();
                self.proved(asked, &url, Some(TOKEN)).unwrap_or_else(|| self.api(&path, asked, &query))
            }
            _ => Reply::problem(Problem::new(Code::NotFound, "no such path")),
        }
    }
}
