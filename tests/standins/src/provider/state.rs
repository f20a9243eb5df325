//! What the provider remembers, and how it behaves.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::keys::{Algorithm, SigningKey};
use super::people::{Client, Person};

/// Where people's groups are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GroupsIn {
    /// As the claim `groups` in ID token and userinfo.
    #[default]
    IdToken,
    /// As the claim `groups` in userinfo only.
    UserinfoOnly,
    /// Nowhere.
    Nowhere,
    /// Behind a link, as Microsoft Entra tells them of a person with too many (`_claim_names`, `_claim_sources`).
    EntraOverage,
    /// In ID token and userinfo at a path of nested objects, as `["realm_access", "roles"]`.
    Nested(Vec<String>),
}

/// A wrong ID token. One fault at a time; all else in the token is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `aud` names another client.
    WrongAudience,
    /// `aud` names this client and another one, and there is no `azp`.
    ExtraAudience,
    /// `iss` is another issuer.
    WrongIssuer,
    /// `sub` is another person's: on a refresh this must end a session.
    WrongSubject,
    /// `nonce` is another one.
    WrongNonce,
    /// No `nonce`.
    NoNonce,
    /// No `exp`.
    NoExpiry,
    /// `exp` is an hour ago.
    Expired,
    /// `nbf` is in an hour.
    NotYetValid,
    /// `iat` is in an hour.
    IssuedInFuture,
    /// `alg` is `none`, no signature.
    Unsigned,
    /// `alg` is `HS256`, keyed with the public key.
    Hs256WithPublicKey,
    /// The right header, the signature of something else.
    BadSignature,
    /// Signed with a key that the provider never published, under a key id of its own.
    UnknownKey,
    /// Signed with a key that the provider never published, under the key id of the published one.
    ForeignKey,
    /// No ID token at all.
    Missing,
}

/// What RFC 9207's `iss` says in redirects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectIssuer {
    /// The issuer, and discovery advertises it.
    #[default]
    Right,
    /// Nothing, though discovery advertises it.
    Missing,
    /// Another issuer's.
    Wrong,
    /// Nothing, and discovery does not advertise it.
    Unsupported,
}

/// Everything that changes. One lock guards it; nobody holds it across an await.
pub(super) struct State {
    pub(super) people: BTreeMap<String, Person>,
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) keys: Vec<SigningKey>,
    pub(super) behaviour: Behaviour,
    pub(super) pending: BTreeMap<String, Asked>,
    pub(super) browsers: BTreeMap<String, SignedIn>,
    pub(super) codes: BTreeMap<String, Code>,
    pub(super) grants: BTreeMap<String, Grant>,
    pub(super) refresh: BTreeMap<String, Refresh>,
    pub(super) access: BTreeMap<String, Access>,
    pub(super) refreshes: u64,
    pub(super) revocations: watch::Sender<u64>,
}

/// The knobs.
pub(super) struct Behaviour {
    pub(super) algorithm: Algorithm,
    pub(super) groups_in: GroupsIn,
    pub(super) fault: Option<Fault>,
    pub(super) redirect_issuer: RedirectIssuer,
    pub(super) refresh_tokens: bool,
    pub(super) rotate_refresh: bool,
    pub(super) id_token_on_refresh: bool,
    pub(super) id_token_life: SignedDuration,
    pub(super) revocation: bool,
    pub(super) asks_anew: bool,
}

/// An authorization request that was found right.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) client: String,
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
    pub(super) nonce: Option<String>,
    pub(super) scope: String,
    pub(super) challenge: String,
    pub(super) login_hint: Option<String>,
    pub(super) wants_auth_time: bool,
    pub(super) wants_acr: bool,
}

/// A browser's single sign-on.
#[derive(Clone)]
pub(super) struct SignedIn {
    pub(super) login: String,
    pub(super) at: Timestamp,
}

/// A one-time code.
pub(super) struct Code {
    pub(super) grant: String,
    pub(super) asked: Asked,
    pub(super) until: Timestamp,
    pub(super) used: bool,
}

/// What a person let a client have; codes and tokens hang on it and end with it.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) client: String,
    pub(super) login: String,
    pub(super) scope: String,
    pub(super) nonce: Option<String>,
    pub(super) auth_time: Option<Timestamp>,
    pub(super) acr: bool,
}

pub(super) struct Refresh {
    pub(super) grant: String,
    pub(super) used: bool,
}

pub(super) struct Access {
    pub(super) grant: String,
    pub(super) until: Timestamp,
}

// === impl State ===

impl State {
    /// Ends a grant and everything that hangs on it.
    pub(super) fn end_grant(&mut self, id: &str) {
        self.grants.remove(id);
        self.access.retain(|_, access| access.grant != id);
    }

    /// The person behind `login`, unless disabled.
    pub(super) fn active(&self, login: &str) -> Option<&Person> {
        self.people.get(login).filter(|person| !person.disabled)
    }
}

// === impl Grant ===

impl Grant {
    pub(super) fn has_scope(&self, name: &str) -> bool {
        self.scope.split(' ').any(|scope| scope == name)
    }
}
