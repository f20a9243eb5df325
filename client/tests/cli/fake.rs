//! A broker of a few hundred lines: it keeps the protocol's promises, checks the client's, and says what a test tells it
//! to.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use data_encoding::BASE64URL_NOPAD;
use ichor_client::Clock;
use ichor_standins::authority::{Authority, Leaf};
use ichor_wire::api::*;
use ichor_wire::dpop::{ProofClaims, ProofHeader, sha256_base64url};
use ichor_wire::problem::{Code, Problem};
use ichor_wire::role::Role;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

const TOKEN: &str = "the-access-token";
const NONCE: &str = "nonce-2";

/// What a test may change, and what it may look at.
#[derive(Default)]
pub struct State {
    /// Answer the next requests for certificates with this.
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
    /// Answer a certificate with another end than it has.
    pub lie: bool,
    /// Answer a certificate with this as its CA's, or with none, instead of the CA's own.
    pub issuing_ca: Option<Option<String>>,
    /// The sessions are over.
    pub session_ended: bool,
    /// How often a device login is answered `authorization_pending`.
    pub pending: u32,
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

struct Asked {
    method: String,
    target: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
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
        let Some(asked) = read(&stream) else { return };
        let reply = self.answer(&asked);
        let mut head =
            format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\nconnection: close\r\n", reply.status, reply.body.len());
        for (name, value) in reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut stream = stream;
        let _ = stream.write_all(&[head.as_bytes(), b"\r\n", &reply.body].concat());
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
                self.proved(asked, &url, None).unwrap_or_else(|| self.token(&form, &thumbprint(asked)))
            }
            ("POST", "/device") => {
                let answer = json!({ "device_code": "the-device-code", "user_code": "WXYZ-1234", "verification_uri": format!("{}/device", self.url), "expires_in": 600, "interval": 1 });
                Reply::json(200, &answer)
            }
            ("POST", "/revoke") => self.proved(asked, &url, Some(TOKEN)).unwrap_or_else(|| {
                assert_eq!(form.get("token").map(String::as_str), Some(TOKEN));
                state.lock().unwrap().session_ended = true;
                Reply::json(200, &json!({}))
            }),
            (_, path) if path.starts_with("/v1/") => {
                let path: Vec<&str> = path.split('/').skip(2).collect();
                self.proved(asked, &url, Some(TOKEN)).unwrap_or_else(|| self.api(&path, asked, &query))
            }
            _ => Reply::problem(Problem::new(Code::NotFound, "no such path")),
        }
    }

    fn metadata(&self) -> Reply {
        let mut metadata = json!({
            "issuer": self.url, "authorization_endpoint": format!("{}/authorize", self.url),
            "token_endpoint": format!("{}/token", self.url), "revocation_endpoint": format!("{}/revoke", self.url),
            "ichor_providers": ["corp"],
        });
        for (name, value) in &self.state.lock().unwrap().metadata {
            metadata[name] = match value.as_str() {
                Some(path) if path.starts_with('/') => json!(format!("{}{path}", self.url)),
                _ => value.clone(),
            };
        }
        Reply::json(200, &metadata)
    }

    /// The browser: whoever comes here has confirmed everything.
    fn authorize(&self, query: HashMap<String, String>) -> Reply {
        let mut state = self.state.lock().unwrap();
        let redirect = query["redirect_uri"].clone();
        for (name, expected) in [("response_type", "code"), ("client_id", "ichor"), ("code_challenge_method", "S256")] {
            if query.get(name).map(String::as_str) != Some(expected) {
                state.broken.push(format!("authorization without {name}={expected}"));
            }
        }
        let mut back: Url = redirect.parse().unwrap();
        let tamper = state.tamper;
        {
            let mut pairs = back.query_pairs_mut();
            match tamper {
                Some(Tamper::Denied) => {
                    pairs.append_pair("error", "access_denied").append_pair("error_description", "you said no")
                }
                _ => pairs.append_pair("code", "the-code"),
            };
            pairs.append_pair("state", if tamper == Some(Tamper::WrongState) { "wrong" } else { &query["state"] });
            match tamper {
                Some(Tamper::NoIssuer) => {}
                Some(Tamper::WrongIssuer) => drop(pairs.append_pair("iss", "https://evil.example")),
                _ => drop(pairs.append_pair("iss", &self.url)),
            }
        }
        let bound = (query["code_challenge"].clone(), query["dpop_jkt"].clone(), redirect);
        state.codes.insert("the-code".into(), bound);
        state.authorizations.push(query);
        Reply { status: 302, headers: vec![("location", back.into())], body: Vec::new() }
    }

    fn token(&self, form: &HashMap<String, String>, thumbprint: &str) -> Reply {
        let mut state = self.state.lock().unwrap();
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        if field("client_id") != "ichor" {
            state.broken.push("token request without client_id".into());
        }
        if field("grant_type").ends_with("device_code") {
            if state.pending > 0 {
                state.pending -= 1;
                return Reply::json(400, &json!({ "error": "authorization_pending" }));
            }
        } else {
            let Some((challenge, jkt, redirect)) = state.codes.remove(&field("code")) else {
                return Reply::json(
                    400,
                    &json!({ "error": "invalid_grant", "error_description": "the code is not known" }),
                );
            };
            if sha256_base64url(field("code_verifier").as_bytes()) != challenge
                || jkt != thumbprint
                || redirect != field("redirect_uri")
            {
                state.broken.push("the code is not redeemed by the one who asked for it".into());
            }
        }
        state.session_ended = false;
        Reply::json(
            200,
            &json!({ "access_token": TOKEN, "token_type": "DPoP", "expires_in": 43200, "session_id": Uuid::nil() }),
        )
    }

    fn api(&self, path: &[&str], asked: &Asked, query: &HashMap<String, String>) -> Reply {
        let mut state = self.state.lock().unwrap();
        if state.session_ended {
            return Reply::problem(Problem::new(Code::SessionEnded, "the session has ended"));
        }
        match (asked.method.as_str(), path) {
            ("GET", ["session"]) => Reply::json(200, &session()),
            ("GET", ["clusters"]) => Reply::json(
                200,
                &ClustersAnswer { clusters: vec![cluster("prod", "prod"), cluster("staging", "staging")] },
            ),
            ("GET", ["clusters", name]) => Reply::json(200, &cluster(name, name)),
            ("POST", ["clusters", name, "certificates"]) => {
                let request: CertificateRequest = serde_json::from_slice(&asked.body).unwrap();
                state.asked.push(request.clone());
                match &state.refuse {
                    Some(problem) => Reply::problem(problem.clone()),
                    None => Reply::json(200, &self.certificate(&state, name, &request)),
                }
            }
            ("GET", ["audit", "entries"]) => audit(query),
            _ => Reply::problem(Problem::new(Code::NotFound, "no such path")),
        }
    }

    fn certificate(&self, state: &State, cluster: &str, request: &CertificateRequest) -> CertificateAnswer {
        let now = Timestamp::from_second(Clock::system().now().as_second()).unwrap();
        let roles: Vec<Role> = match request.roles.as_slice() {
            [] => vec![Role::Reader],
            roles => roles.iter().map(|role| role.parse().unwrap()).collect(),
        };
        let grant_id = Uuid::from_u128(state.asked.len() as u128);
        let mut organization: Vec<String> = roles.iter().map(ToString::to_string).collect();
        organization.extend([format!("grant:{grant_id}"), "user:alice@example.com".into()]);
        let not_before = now - SignedDuration::from_secs(30);
        let not_after =
            now + SignedDuration::from_secs(request.ttl.map_or(state.life, |ttl| i64::try_from(ttl).unwrap()));
        let leaf = Leaf { organization, not_before, not_after, ..Leaf::client([], now) };
        let (_, pem) = x509_parser::pem::parse_x509_pem(request.csr.as_bytes()).unwrap();
        use x509_parser::prelude::FromDer;
        let (_, csr) = x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).unwrap();
        let key = csr.certification_request_info.subject_pki.subject_public_key.data.to_vec();
        CertificateAnswer {
            cluster: cluster.into(),
            grant_id,
            certificate: self.ca.issue_for(&leaf, &key).unwrap(),
            issuing_ca: state.issuing_ca.clone().unwrap_or_else(|| Some(self.ca.certificate())),
            ca: state.node_ca.clone(),
            endpoints: state.endpoints.clone(),
            nodes: state.nodes.clone(),
            roles,
            not_before,
            not_after: if state.lie { not_after + SignedDuration::from_secs(1) } else { not_after },
            user: "alice@example.com".into(),
            receipt: Receipt { index: 7, leaf_hash: "00".into() },
        }
    }

    /// `None` if the proof is right; else what a broker says.
    fn proved(&self, asked: &Asked, url: &Url, token: Option<&str>) -> Option<Reply> {
        let broken =
            |what: String| self.state.lock().unwrap().broken.push(format!("{} {}: {what}", asked.method, asked.target));
        let (header, claims) = match proof(asked) {
            Ok(proof) => proof,
            Err(why) => {
                broken(why);
                return Some(Reply::problem(Problem::new(Code::BadProof, "the proof does not fit")));
            }
        };
        if claims.nonce.as_deref() != Some(NONCE) {
            return Some(
                match token {
                    Some(_) => Reply::problem(Problem::new(Code::UseNonce, "a nonce is needed")),
                    None => Reply::json(400, &json!({ "error": "use_dpop_nonce" })),
                }
                .with("dpop-nonce", NONCE),
            );
        }
        let mut plain = url.clone();
        plain.set_query(None);
        if claims.htu != plain.as_str() || claims.htm != asked.method {
            broken(format!("htu {} htm {}", claims.htu, claims.htm));
        }
        if claims.ath != token.map(|token| sha256_base64url(token.as_bytes())) {
            broken("ath".into());
        }
        if claims.body_sha256 != (asked.method == "POST").then(|| sha256_base64url(&asked.body)) {
            broken("body_sha256".into());
        }
        if (claims.iat - Clock::system().now().as_second()).abs() > 60 || header.alg != "ES256" || claims.jti.len() < 20
        {
            broken("iat, alg or jti".into());
        }
        let authorization = token.map(|token| format!("DPoP {token}"));
        if asked.headers.get("authorization") != authorization.as_ref() {
            return Some(Reply::problem(Problem::new(Code::NotLoggedIn, "no valid session")));
        }
        if !asked.headers.contains_key(CLIENT_VERSION_HEADER) {
            broken("no client version".into());
        }
        None
    }
}

impl Reply {
    fn json(status: u16, value: &impl serde::Serialize) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".into())],
            body: serde_json::to_vec(value).unwrap(),
        }
    }

    fn problem(problem: Problem) -> Self {
        Self::json(problem.status, &problem)
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let (method, rest) = lines.first()?.split_once(' ')?;
    let target = rest.split(' ').next()?.to_owned();
    let headers: HashMap<String, String> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method: method.into(), target, headers, body })
}

fn proof(asked: &Asked) -> Result<(ProofHeader, ProofClaims), String> {
    let proof = asked.headers.get("dpop").ok_or("no proof")?;
    let (signed, signature) = proof.rsplit_once('.').ok_or("not a JWT")?;
    let (header, claims) = signed.split_once('.').ok_or("not a JWT")?;
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| "not base64url".to_owned());
    let header: ProofHeader = serde_json::from_slice(&decode(header)?).map_err(|error| error.to_string())?;
    let claims = serde_json::from_slice(&decode(claims)?).map_err(|error| error.to_string())?;
    let point = [&[4][..], &decode(&header.jwk.x)?, &decode(&header.jwk.y)?].concat();
    let verified =
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &decode(signature)?);
    verified.map_err(|_| "the signature does not fit".to_owned())?;
    Ok((header, claims))
}

fn thumbprint(asked: &Asked) -> String {
    proof(asked).map(|(header, _)| header.jwk.thumbprint()).unwrap_or_default()
}

fn session() -> SessionAnswer {
    let now = Clock::system().now();
    SessionAnswer {
        session_id: Uuid::nil(),
        provider: "corp".into(),
        issuer: "https://login.example".into(),
        subject: "42".into(),
        name: "Alice Example".into(),
        user: "alice@example.com".into(),
        groups: vec!["sre".into()],
        groups_at: now,
        acr: None,
        auth_time: None,
        expires_at: now + SignedDuration::from_secs(43_190),
    }
}

fn cluster(name: &str, env: &str) -> ClusterAnswer {
    let yes = |role, max_ttl| RoleAnswer {
        role,
        allowed: true,
        max_ttl: Some(max_ttl),
        why: None,
        help: Vec::new(),
        policies: vec!["sre".into()],
    };
    let no = |role, why: &str, help: &str| RoleAnswer {
        role,
        allowed: false,
        max_ttl: None,
        why: Some(why.into()),
        help: vec![help.into()],
        policies: Vec::new(),
    };
    let operator = if env == "prod" {
        no(Role::Operator, "no policy permits it", "ask for it with a reason")
    } else {
        yes(Role::Operator, 5400)
    };
    ClusterAnswer {
        name: name.into(),
        labels: BTreeMap::from([("env".into(), env.into())]),
        endpoints: vec!["10.0.0.2".into()],
        nodes: Vec::new(),
        unavailable: None,
        roles: vec![yes(Role::Reader, 28_800), operator],
    }
}

/// Five entries in pages as large as asked for, at most two.
fn audit(query: &HashMap<String, String>) -> Reply {
    let start: u64 = query.get("cursor").map_or(5, |cursor| cursor.parse().unwrap());
    let limit: u64 = query["limit"].parse().unwrap();
    let indexes: Vec<u64> = (0..start).rev().take(usize::try_from(limit.min(2)).unwrap()).collect();
    let entries = indexes.iter().map(|index| AuditEntry {
        index: *index,
        id: Uuid::from_u128(u128::from(*index)),
        time: Timestamp::from_second(1_800_000_000 + i64::try_from(*index).unwrap()).unwrap(),
        kind: "grant".into(),
        user: Some("alice@example.com".into()),
        issuer: None,
        subject: None,
        cluster: Some("prod".into()),
        grant_id: Some(Uuid::from_u128(u128::from(*index))),
        session_id: None,
        detail: BTreeMap::from([("reason".into(), "INC-42\u{1b}[2J".into())]),
        leaf_hash: "00".into(),
    });
    let next = indexes.last().filter(|last| **last > 0).map(ToString::to_string);
    Reply::json(200, &AuditAnswer { entries: entries.collect(), next })
}
