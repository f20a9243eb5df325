//! A login on its way, as a state machine: at the provider → confirming → released.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::custody::TAG;
use crate::domain::{BreakGlassId, Group, HumanClaim, PageUse, Person, ProviderAlias, SessionId};
use crate::identity::Identity;
use crate::store::SessionRow;

/// A pending login's state, as it lies in its row. The one-time secrets in it (state, nonce, verifier) are worth nothing
/// without the provider's code and this browser's cookie.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Where the login leads.
    pub(super) target: Target,
    /// Who asked.
    pub(super) client: Client,
    /// The provider's alias.
    pub(super) provider: String,
    /// How far it is.
    pub(super) stage: Stage,
}

/// Where a login leads when it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Target {
    /// A code to the loopback address where the client listens.
    Loopback { redirect_uri: String, state: String, challenge: String },
    /// A code on a page, to be pasted.
    Paste { redirect_uri: String, challenge: String },
    /// A device login is approved.
    Device { user_code: String },
    /// A session of this very browser at the pages, which goes on to `to`, a path of ours. Where it is to `decide`, that is the
    /// request and the SHA-256 of its contents. The session that it follows ends with it.
    Page { to: String, decide: Option<(Uuid, [u8; 32])>, follows: Option<Uuid> },
}

/// The client as it introduced itself: nothing of it is verified but the thumbprint, at the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Client {
    /// The thumbprint of the key that the session will be bound to.
    pub(super) jkt: String,
    /// The name of the client's host.
    pub(super) host: String,
    /// Where the request came from.
    pub(super) address: IpAddr,
}

/// How far a login is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Stage {
    /// The browser is at the provider.
    AtProvider { state: String, nonce: String, verifier: String, auth_since: Option<Timestamp> },
    /// The provider's code is being exchanged.
    Exchanging,
    /// The person is known, and must confirm.
    Confirming { person: Box<Known>, csrf: String },
    /// Confirmed; a code was given out.
    Released { person: Box<Known> },
}

/// A verified person, as far as their session needs it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Known {
    /// The id that the session will have: what is sealed is bound to it.
    session: Uuid,
    issuer: String,
    subject: String,
    pub(super) name: String,
    pub(super) user: String,
    groups: Vec<String>,
    groups_at: Timestamp,
    acr: Option<String>,
    auth_time: Option<Timestamp>,
    sealed: Option<Vec<u8>>,
    /// As [`HumanClaim::to_bytes`] has it.
    #[serde(default)]
    human: Option<Vec<u8>>,
}

/// A device login's state (RFC 8628), as it lies in its row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) client: Client,
    pub(super) decision: Decision,
}

/// What became of a device login.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Decision {
    /// Nobody decided.
    Waiting,
    /// Someone confirmed.
    Approved { provider: String, person: Box<Known> },
    /// Someone cancelled.
    Denied,
}

/// A row's state cannot be read: written by another build, or by someone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the login's state cannot be read")]
pub(super) struct Unreadable;

// === impl Pending, Device ===

macro_rules! stored {
    ($($kind:ty),+) => {
        $(impl $kind {
            pub(super) fn encode(&self) -> Result<Vec<u8>, Unreadable> {
                serde_json::to_vec(self).map_err(|_| Unreadable)
            }

            pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
                serde_json::from_slice(bytes).map_err(|_| Unreadable)
            }
        })+
    };
}

stored!(Pending, Device);

impl Target {
    /// The redirect URI and PKCE challenge that the token request must fit; none for a device login.
    pub(super) fn redirect(&self) -> Option<(&str, &str)> {
        match self {
            Self::Loopback { redirect_uri, challenge, .. } | Self::Paste { redirect_uri, challenge } => {
                Some((redirect_uri, challenge))
            }
            Self::Device { .. } | Self::Page { .. } => None,
        }
    }

    /// What the session may do at the pages, where it will be a browser's.
    pub(super) fn page(&self) -> Option<PageUse> {
        match self {
            Self::Page { decide: None, .. } => Some(PageUse::Look),
            Self::Page { decide: Some((request, hash)), .. } => {
                Some(PageUse::Decide { request: BreakGlassId(*request), hash: *hash })
            }
            _ => None,
        }
    }
}

// === impl Known ===

impl Known {
    pub(super) fn new(identity: &Identity, session: SessionId, sealed: Option<Vec<u8>>) -> Self {
        Self {
            session: session.0,
            issuer: identity.person().issuer.clone(),
            subject: identity.person().subject.clone(),
            name: identity.name().into(),
            user: identity.user().into(),
            groups: identity.groups().iter().map(|group| group.name.clone()).collect(),
            groups_at: identity.groups_at(),
            acr: identity.acr().map(String::from),
            auth_time: identity.auth_time(),
            sealed,
            human: identity.human_claim().to_bytes(),
        }
    }

    /// The session that begins at `now`, for the token with this hash; not vouched for yet.
    pub(super) fn into_session(
        self,
        provider: &ProviderAlias,
        jkt: String,
        token_hash: [u8; 32],
        page: Option<PageUse>,
        (now, expires_at): (Timestamp, Timestamp),
    ) -> SessionRow {
        let group = |name| Group { provider: provider.clone(), name };
        SessionRow {
            id: SessionId(self.session),
            token_hash,
            jkt,
            person: Person { provider: provider.clone(), issuer: self.issuer, subject: self.subject },
            name: self.name,
            user: self.user,
            groups: self.groups.into_iter().map(group).collect(),
            groups_at: self.groups_at,
            acr: self.acr,
            auth_time: self.auth_time,
            refresh_sealed: self.sealed,
            version: 0,
            created_at: now,
            expires_at,
            used_at: now,
            ended_at: None,
            tag: [0; TAG],
            // what cannot be read tells nothing
            human: HumanClaim::from_bytes(self.human.as_deref()).unwrap_or(HumanClaim::Untold),
            page,
        }
    }
}
