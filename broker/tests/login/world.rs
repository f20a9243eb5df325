//! A broker's login room behind real HTTP, a provider, and one clock for both.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Extension;
use ichor_broker::audit::{Sequencer, Settings as SequencerSettings};
use ichor_broker::clock::{Clock, FrozenClock};
use ichor_broker::custody::DataKey;
use ichor_broker::domain::{ClaimsInForce, ProviderAlias};
use ichor_broker::http::limits::Limits;
use ichor_broker::http::{ClientAddress, oauth};
use ichor_broker::identity::{GroupsFrom, LocalGroups, Mapping};
use ichor_broker::login::{Login, NonceKey, Presented, ProviderSettings, Recheck, SessionError, Settings};
use ichor_broker::store::sqlite::{Options, SqliteStore};
use ichor_broker::store::{SessionRow, Store};
use ichor_standins::browser::{Browser, Page};
use ichor_standins::provider::{Client as Registered, Provider, ProviderOptions};
use ichor_wire::log::{Entry, Kind};
use jiff::SignedDuration;
use serde_json::Value;
use url::Url;

use super::client::{Client, Proof};
use super::faults::Fragile;

pub(super) const REDIRECT: &str = "http://127.0.0.1:45123/callback";
pub(super) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) struct World {
    pub(super) provider: Arc<Provider>,
    pub(super) login: Arc<Login>,
    pub(super) limits: Arc<Limits>,
    pub(super) store: Arc<dyn Store>,
    pub(super) sequencer: Sequencer,
    pub(super) clock: Arc<FrozenClock>,
    pub(super) base: String,
    pub(super) http: reqwest::Client,
    pub(super) folder: tempfile::TempDir,
    pub(super) commits_fail: Arc<AtomicBool>,
}

/// A session as its client holds it.
pub(super) struct Session {
    pub(super) token: String,
    pub(super) client: Client,
}

/// An answer of the token endpoint.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) json: Value,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A world with other settings.
    pub(super) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        ichor_standins::install_tls_provider();
        let start = "2026-11-22T12:00:00Z".parse().unwrap();
        let clock = FrozenClock::at(start);
        let now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let callbacks = [format!("{base}/oauth/callback/corp"), format!("{base}/oauth/callback/other")];
        let callbacks = callbacks.each_ref().map(String::as_str);
        let registered = Registered::confidential("ichor-broker", "s3cret:/+ %", callbacks);
        let options = ProviderOptions { clients: vec![registered], now, ..ProviderOptions::default() };
        let provider = Provider::start(options).await.unwrap();
        let mut settings = Settings {
            public_url: Url::parse(&base).unwrap(),
            session_life: SignedDuration::from_hours(12),
            idle: None,
            paste: false,
            device: false,
            max_pending: 100,
            max_pending_of_one: 100,
            minimum_client: None,
            nonce_key: NonceKey(zeroize::Zeroizing::new([7; 32])),
            providers: vec![provider_settings("corp", provider.issuer())],
        };
        change(&mut settings);
        let folder = tempfile::tempdir().unwrap();
        let inner = Arc::new(SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap());
        let commits_fail = Arc::new(AtomicBool::new(false));
        let store: Arc<dyn Store> = Arc::new(Fragile { inner, fails: commits_fail.clone() });
        let (sequencer, _) = Sequencer::start(store.clone(), clock.clone(), SequencerSettings::named("test"));
        let data_key = Arc::new(data_key());
        let login = Login::new(settings, store.clone(), sequencer.clone(), clock.clone(), data_key).unwrap();
        // beyond what a test does, and so few that none comes back while one looks
        let limits = Arc::new(Limits::per_minute(100, 100, store.clone(), clock.clone()));
        let router = oauth::routes(login.clone(), limits.clone()).layer(Extension(ClientAddress(HERE)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        #[expect(clippy::disallowed_methods, reason = "a test speaks as a client")]
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap();
        Self { provider: Arc::new(provider), login, limits, store, sequencer, clock, base, http, folder, commits_fail }
    }

    pub(super) fn authorize_url(&self, client: &Client, more: &[(&str, &str)]) -> String {
        let mut pairs: Vec<(String, String)> = [
            ("response_type", "code"),
            ("client_id", "ichor"),
            ("redirect_uri", REDIRECT),
            ("code_challenge", &client.challenge()),
            ("code_challenge_method", "S256"),
            ("state", &client.state),
            ("dpop_jkt", &client.thumbprint()),
            ("client_host", "wks-7.example"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, value) in more {
            pairs.retain(|(known, _)| known != name);
            if !value.is_empty() {
                pairs.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        Url::parse_with_params(&format!("{}/oauth/authorize", self.base), pairs).unwrap().into()
    }

    /// Opens the login and signs in at the provider, up to what comes after.
    pub(super) async fn sign_in(&self, browser: &Browser, url: &str, who: &str) -> Page {
        let page = browser.open_until(url, at_client).await.unwrap();
        if page.stopped || !page.forms().iter().any(|form| form.has("login")) {
            return page;
        }
        browser.submit_until(&page, |form| form.has("login"), &[("login", who)], at_client).await.unwrap()
    }

    /// Presses a button of the confirmation page.
    pub(super) async fn decide(&self, browser: &Browser, page: &Page, decision: &str) -> Page {
        assert_eq!(page.url.path(), "/oauth/confirm", "{}", page.body);
        browser.submit_until(page, |form| form.has("csrf"), &[("decision", decision)], at_client).await.unwrap()
    }

    /// The code of a login that the person confirms.
    pub(super) async fn code(&self, browser: &Browser, client: &Client, who: &str) -> String {
        let page = self.sign_in(browser, &self.authorize_url(client, &[]), who).await;
        let page = self.decide(browser, &page, "continue").await;
        assert!(page.stopped, "{}", page.body);
        page.query("code").unwrap_or_else(|| panic!("no code in {}", page.url))
    }

    pub(super) fn proof(&self, client: &Client, method: &str, path: &str) -> Proof {
        client.proof(method, &format!("{}{path}", self.base), self.clock.now(), &self.login.dpop_nonce())
    }

    pub(super) async fn post(&self, path: &str, form: &[(&str, &str)], proofs: &[String]) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.base)).form(form);
        for proof in proofs {
            request = request.header("dpop", proof);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.headers().contains_key("dpop-nonce"));
        let status = answer.status().as_u16();
        Answer { status, json: answer.json().await.unwrap_or_default() }
    }

    pub(super) async fn exchange(&self, client: &Client, code: &str) -> Answer {
        let proof = client.sign(&self.proof(client, "POST", "/oauth/token"));
        self.post("/oauth/token", &code_form(client, code), &[proof]).await
    }

    pub(super) async fn log_in(&self, who: &str) -> Session {
        let client = Client::new();
        let code = self.code(&Browser::new(&[]).unwrap(), &client, who).await;
        let answer = self.exchange(&client, &code).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        Session { token: answer.json["access_token"].as_str().unwrap().into(), client }
    }

    /// Calls `GET /v1/session` as the session does.
    pub(super) async fn call(&self, session: &Session) -> Result<SessionRow, SessionError> {
        let proof = self.proof(&session.client, "GET", "/v1/session").token(&session.token);
        self.present(&session.token, &[&session.client.sign(&proof)], "GET", b"").await
    }

    pub(super) async fn present(
        &self,
        token: &str,
        proofs: &[&str],
        method: &str,
        body: &[u8],
    ) -> Result<SessionRow, SessionError> {
        let authorization = format!("DPoP {token}");
        let presented =
            Presented { authorization: Some(&authorization), proofs, method, path: "/v1/session", address: HERE };
        let proven = self.login.prove(&presented).await?;
        self.login.admit(proven, body).await
    }

    pub(super) async fn entries(&self) -> Vec<Entry> {
        let stored = self.store.entry_range(0..u64::MAX).await.unwrap();
        stored.iter().map(|entry| Entry::decode(entry.body.as_ref().unwrap()).unwrap()).collect()
    }

    pub(super) async fn count(&self, kind: Kind) -> usize {
        self.entries().await.iter().filter(|entry| entry.content.kind == kind).count()
    }

    pub(super) fn clock_seconds(&self) -> i64 {
        self.clock.now().as_second()
    }

    pub(super) fn wait_minutes(&self, minutes: i64) {
        self.clock.advance(SignedDuration::from_mins(minutes));
    }
}

/// The key that this world's database is sealed and tagged with.
pub(super) fn data_key() -> DataKey {
    DataKey::new(&[3; 32]).unwrap()
}

pub(super) fn provider_settings(alias: &str, issuer: &str) -> ProviderSettings {
    ProviderSettings {
        mapping: Mapping {
            provider: ProviderAlias::new(alias).unwrap(),
            groups_claim: "groups".into(),
            groups_from: GroupsFrom::IdToken,
            user_claims: vec!["email".into()],
            local_groups: LocalGroups::default(),
            human_claim: None,
            claims_in_force: ClaimsInForce::default(),
        },
        issuer: issuer.into(),
        client_id: "ichor-broker".into(),
        client_secret: Some("s3cret:/+ %".into()),
        scopes: ["openid", "profile", "email", "groups", "offline_access"].map(String::from).into(),
        recheck: Recheck::Refresh,
        acr_values: Vec::new(),
        max_age: None,
        ca: None,
        authorize_params: Vec::new(),
        groups_file: None,
    }
}

pub(super) fn code_form<'a>(client: &'a Client, code: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", "ichor"),
        ("code", code),
        ("code_verifier", &client.verifier),
        ("redirect_uri", REDIRECT),
    ]
}

/// Whether the browser is about to leave for the client's listener.
pub(super) fn at_client(url: &Url) -> bool {
    url.path() == "/callback" && url.port() == Some(45123)
}
