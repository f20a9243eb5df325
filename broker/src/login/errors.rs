//! What goes wrong on the way to a session, in two texts: one for whoever asks, the cause for the log.

use http::StatusCode;
use ichor_wire::problem::Code;
use url::Url;

use super::dpop::ProofError;
use super::provider::{ProviderError, printable};
use crate::audit::RecordError;
use crate::entropy::EntropyError;
use crate::identity::{ClaimsError, IdTokenError};
use crate::store::{Condition, StoreError};

/// Why a browser gets a page that says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The request cannot be trusted enough to send it anywhere.
    #[error("this login link is not valid: {0}")]
    Request(String),
    /// No cookie, or its login is over.
    #[error("this login is over, or was begun in another browser; begin again with `ichor login` in your terminal")]
    Over,
    /// The code that a person typed is unknown, expired or used.
    #[error("this code is unknown or has expired; compare it with your terminal, or begin again")]
    UserCode,
    /// Too many wrong codes, or too many logins under way.
    #[error("too many logins are under way; try again in a few minutes")]
    TooMany,
    /// The flow is not configured.
    #[error(
        "this way of logging in is switched off at this broker; use `ichor login` with a browser on the same machine"
    )]
    SwitchedOff,
    /// The person is known, and may not log in.
    #[error("{0}")]
    Denied(String),
    /// The provider gave nobody.
    #[error("{}", explain(.0))]
    Provider(ProviderError),
    /// The broker's own trouble.
    #[error("the broker cannot log anyone in now; try again in a moment, or tell the broker's operator")]
    Broken(String),
    /// As another error, but the client listens on loopback and can be told.
    #[error("{error}")]
    Back {
        /// The error.
        error: Box<LoginError>,
        /// Where the browser takes it.
        to: Url,
    },
}

/// An error of the token, device or revocation endpoint (RFC 6749 §5.2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {description}")]
pub struct OauthError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The code of RFC 6749, 8628 or 9449.
    pub code: &'static str,
    /// One sentence.
    pub description: String,
}

// === impl LoginError ===

impl LoginError {
    /// The page's HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) | Self::Over | Self::UserCode => StatusCode::BAD_REQUEST,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::SwitchedOff
            | Self::Denied(_)
            | Self::Provider(ProviderError::Refused(_) | ProviderError::IdToken(_)) => StatusCode::FORBIDDEN,
            Self::Provider(ProviderError::Claims(_)) => StatusCode::FORBIDDEN,
            Self::Provider(_) | Self::Broken(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Back { .. } => StatusCode::SEE_OTHER,
        }
    }

    /// The code of RFC 6749 §4.1.2.1 for a redirect back, and for the count of refusals.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Request(_) => "invalid_request",
            Self::Over | Self::UserCode | Self::SwitchedOff | Self::Denied(_) => "access_denied",
            Self::TooMany => "temporarily_unavailable",
            Self::Provider(ProviderError::Unavailable(_) | ProviderError::Store(_)) => "temporarily_unavailable",
            Self::Provider(ProviderError::Misconfigured(_)) | Self::Broken(_) => "server_error",
            Self::Provider(_) => "access_denied",
            Self::Back { error, .. } => error.code(),
        }
    }

    /// The code under which the refusal is counted.
    pub(super) fn problem(&self) -> Code {
        match self {
            Self::Request(_) => Code::BadRequest,
            Self::Over | Self::UserCode => Code::NotLoggedIn,
            Self::TooMany => Code::TooManyRequests,
            Self::SwitchedOff | Self::Denied(_) => Code::Refused,
            Self::Provider(ProviderError::Unavailable(_) | ProviderError::Misconfigured(_)) => {
                Code::ProviderUnavailable
            }
            Self::Provider(ProviderError::Store(_)) | Self::Broken(_) => Code::StoreUnavailable,
            Self::Provider(_) => Code::Refused,
            Self::Back { error, .. } => error.problem(),
        }
    }

    /// The cause, for the log.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::Provider(error) => error.to_string(),
            Self::Broken(cause) => cause.clone(),
            Self::Back { error, .. } => error.cause(),
            other => other.to_string(),
        }
    }
}

impl From<ProviderError> for LoginError {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}

impl From<StoreError> for LoginError {
    fn from(error: StoreError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<EntropyError> for LoginError {
    fn from(error: EntropyError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<super::pending::Unreadable> for LoginError {
    fn from(_: super::pending::Unreadable) -> Self {
        Self::Over
    }
}

/// What a person is told about the provider.
fn explain(error: &ProviderError) -> String {
    match error {
        ProviderError::Unavailable(_) => "the identity provider is out of reach; try again in a moment".into(),
        ProviderError::Refused(text) => format!("the identity provider refused: {}", printable(text)),
        ProviderError::Misconfigured(_) => {
            "the identity provider and the broker's configuration do not fit together; tell the broker's operator"
                .into()
        }
        ProviderError::IdToken(error @ (IdTokenError::AuthTime | IdTokenError::NotYetValid)) => error.to_string(),
        ProviderError::IdToken(_) => {
            "the identity provider's answer cannot be trusted; tell the broker's operator".into()
        }
        ProviderError::Claims(error @ ClaimsError::Overage) => format!("{error}; tell the broker's operator"),
        ProviderError::Claims(error) => format!("the identity provider's answer is of no use: {error}"),
        ProviderError::Store(_) => "the broker's database is unavailable; try again in a moment".into(),
    }
}

// === impl OauthError ===

impl OauthError {
    /// The code under which the refusal is counted; `None` for what belongs to the protocol.
    pub(super) fn problem(&self) -> Option<Code> {
        match self.code {
            "authorization_pending" | "slow_down" | "use_dpop_nonce" => None,
            "invalid_dpop_proof" => Some(Code::BadProof),
            "temporarily_unavailable" => Some(Code::Unavailable),
            "access_denied" => Some(Code::Refused),
            "invalid_grant" | "expired_token" => Some(Code::NotLoggedIn),
            _ => Some(Code::BadRequest),
        }
    }

    pub(super) fn new(code: &'static str, description: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, description: description.into() }
    }

    pub(super) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    pub(super) fn invalid_grant() -> Self {
        Self::new("invalid_grant", "the code is unknown, expired or was used; run `ichor login` again")
    }

    /// The broker's own trouble: nothing happened, trying again may help.
    pub(super) fn unavailable(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "login failed");
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "temporarily_unavailable",
            description: "the broker cannot log anyone in now; try again in a moment".into(),
        }
    }
}

impl From<StoreError> for OauthError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<EntropyError> for OauthError {
    fn from(error: EntropyError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<super::pending::Unreadable> for OauthError {
    fn from(_: super::pending::Unreadable) -> Self {
        Self::invalid_grant()
    }
}

impl From<RecordError> for OauthError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Refused(Condition::CodeGone) => Self::invalid_grant(),
            RecordError::Refused(Condition::Locked) => {
                Self::new("access_denied", "you are locked; ask whoever may lift it (they see it with `ichor locks`)")
            }
            other => Self::unavailable(&other),
        }
    }
}

impl From<ProofError> for OauthError {
    fn from(error: ProofError) -> Self {
        match error {
            // RFC 9449 §8: the client repeats the request with the nonce sent along
            ProofError::UseNonce => Self::new("use_dpop_nonce", error.to_string()),
            ProofError::Full => Self::unavailable(&error),
            _ => Self::new("invalid_dpop_proof", error.to_string()),
        }
    }
}
