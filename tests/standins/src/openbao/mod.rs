//! An OpenBao server: logins, tokens and their policy, the engines transit, KV version 2 and PKI, and a handle to make each of
//! them fail.
//!
//! Statuses and bodies are those of OpenBao 2.7.2 where a client can tell the difference; what is refused there is refused
//! here, and so is what is surprisingly *not* refused there (a key created twice, a key version in a batch item, `sign-verbatim`).
//! Every knob may be turned while it runs. Paths are written as in policies: without `/v1/` and without a leading slash; a `*` at
//! the end of a pattern stands for any rest, a `+` for one segment.

mod answer;
mod auth;
mod call;
mod control;
mod gate;
mod kv;
mod pki;
mod policy;
mod serve;
mod sys;
mod tls;
mod transit;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub use gate::{Fault, Hold, Request};
pub use pki::ISSUER_ID;
pub use policy::Rule;

use crate::authority::{Authority, Certified, Leaf};
use crate::clock::{self, Now};
use gate::Gate;
use policy::Policy;

/// A running server. Dropping it stops it and closes its connections.
pub struct OpenBao {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// How a server begins.
pub struct OpenBaoOptions {
    /// The server's time.
    pub now: Now,
    /// Whether it speaks https; the certificate comes from [`OpenBao::ca_pem`].
    pub tls: bool,
    /// The namespace that everything lies in; `None` is the root namespace.
    pub namespace: Option<String>,
    /// Engines by mount.
    pub mounts: Vec<(String, Engine)>,
    /// How long tokens live before they must be renewed.
    pub token_ttl: SignedDuration,
    /// How long a token lives in all, however often it is renewed.
    pub token_max_ttl: SignedDuration,
    /// Whether tokens may be renewed at all.
    pub renewable: bool,
    /// PEM certificates that client certificates must come from, for the `cert` login; `None` asks for none.
    pub client_ca: Option<String>,
    /// The CA of the PKI engines, and so the issuer of what they sign.
    pub authority: Option<Arc<Authority>>,
    /// The size of transit's wrapping key in bits, 2048 or 4096. The real one has 4096; at first it is 2048 here, because in a
    /// debug build the bigger one takes seconds.
    pub wrapping_key_bits: usize,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Keys that sign and seal.
    Transit,
    /// Secrets with versions.
    Kv,
    /// Certificates by role.
    Pki,
}

/// Who may log in how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A role id and a secret id, both as given.
    AppRole {
        /// The role id.
        role_id: String,
        /// The secret id.
        secret_id: String,
    },
    /// A role and the token that is good for it. The stand-in compares the token, it does not verify it.
    Jwt {
        /// The role.
        role: String,
        /// The JSON web token, whole.
        jwt: String,
    },
    /// As [`Login::Jwt`], with a service account's token.
    Kubernetes {
        /// The role.
        role: String,
        /// The service account's token, whole.
        jwt: String,
    },
    /// Any client certificate from [`OpenBaoOptions::client_ca`].
    Certificate,
}

struct Shared {
    url: String,
    now: Now,
    namespace: Option<String>,
    tls: Option<tls::Tls>,
    gate: Gate,
    state: Mutex<State>,
}

struct State {
    sealed: bool,
    standby: bool,
    logins: BTreeMap<String, Vec<Login>>,
    login_refusal: Option<String>,
    login_count: u64,
    tokens: auth::Tokens,
    policy: Policy,
    mounts: BTreeMap<String, Mounted>,
}

enum Mounted {
    Transit(Box<transit::Transit>),
    Kv(kv::Kv),
    Pki(Box<pki::Pki>),
}

// === impl OpenBaoOptions ===

impl Default for OpenBaoOptions {
    /// https, root namespace, `transit`, `secret` and `pki`, tokens of one hour that live four, the machine's time.
    fn default() -> Self {
        Self {
            now: clock::system(),
            tls: true,
            namespace: None,
            mounts: vec![
                ("transit".into(), Engine::Transit),
                ("secret".into(), Engine::Kv),
                ("pki".into(), Engine::Pki),
            ],
            token_ttl: SignedDuration::from_hours(1),
            token_max_ttl: SignedDuration::from_hours(4),
            renewable: true,
            client_ca: None,
            authority: None,
            wrapping_key_bits: 2048,
        }
    }
}

// === impl OpenBao ===

impl OpenBao {
    /// The token that policy does not bind, and that never expires.
    pub const ROOT_TOKEN: &str = "root";

    /// Returns once the server answers, unsealed, at [`OpenBao::url`].
    ///
    /// # Errors
    /// When no port can be had, no key, or `client_ca` is not PEM.
    pub async fn start(options: OpenBaoOptions) -> anyhow::Result<Self> {
        crate::install_tls_provider();
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await.context("no port to listen on")?;
        let address = listener.local_addr()?;
        let tls = if options.tls { Some(tls::Tls::new(address.ip(), options.client_ca.as_deref())?) } else { None };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let authority = match options.authority {
            Some(authority) => authority,
            None => Arc::new(Authority::new("talos")?),
        };
        let mounts = options.mounts.into_iter().map(|(mount, engine)| {
            let mounted = match engine {
                Engine::Transit => Mounted::Transit(Box::new(transit::Transit::new(options.wrapping_key_bits))),
                Engine::Kv => Mounted::Kv(kv::Kv::default()),
                Engine::Pki => Mounted::Pki(Box::new(pki::Pki::new(Arc::clone(&authority)))),
            };
            (mount, mounted)
        });
        let state = State {
            sealed: false,
            standby: false,
            logins: BTreeMap::new(),
            login_refusal: None,
            login_count: 0,
            tokens: auth::Tokens::new(options.token_ttl, options.token_max_ttl, options.renewable),
            policy: Policy::default(),
            mounts: mounts.collect(),
        };
        let shared = Arc::new(Shared {
            url: format!("{scheme}://{address}"),
            now: options.now,
            namespace: options.namespace.map(|name| name.trim_matches('/').to_owned()),
            tls,
            gate: Gate::default(),
            state: Mutex::new(state),
        });
        let task = tokio::spawn(serve::serve(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, task })
    }

    /// Where the server answers, `https://127.0.0.1:<any port>`, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The certificate that a client trusts it by, PEM; empty where it speaks http.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.shared.tls.as_ref().map(tls::Tls::ca).unwrap_or_default()
    }

    /// A client certificate for the `cert` login, from `authority` (whose certificate is then [`OpenBaoOptions::client_ca`]).
    ///
    /// # Errors
    /// When the system gives no random values.
    pub fn client_certificate(&self, authority: &Authority) -> anyhow::Result<Certified> {
        authority.issue(&Leaf::client([], (self.shared.now)()))
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Mounted ===

impl Mounted {
    fn kv(&mut self) -> Option<&mut kv::Kv> {
        match self {
            Self::Kv(kv) => Some(kv),
            _ => None,
        }
    }
}
