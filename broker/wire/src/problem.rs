//! Errors of the HTTP API: problem documents (RFC 9457) with stable codes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a problem document (RFC 9457 §3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error as the API answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Identifies the code; `docs/errors.md` explains each.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    #[schema(value_type = String)]
    pub code: Code,
    /// What went wrong with this request, in one sentence, lower case, without a full stop.
    pub detail: String,
    /// The next step, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
    /// The policies that decided, by `@id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// The request's id, as the broker's log has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Seconds after which trying again makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The login that would help, where one does (as RFC 9470 §3 names its parts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<StepUp>,
}

/// A login that would help.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepUp {
    /// Authentication contexts to ask the provider for, separated by blanks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr_values: Option<String>,
    /// How old the authentication may be, in seconds.
    pub max_age: u64,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $status:literal, $title:literal, $next:literal;)+) => {
        /// The stable codes. A client that meets one it does not know treats it by its HTTP status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ /// A code newer than this build.
            Unknown }

        impl Code {
            /// Every code that this build knows.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as it stands in the answer.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ Self::Unknown => "unknown" }
            }

            /// The HTTP status that goes with the code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ Self::Unknown => 500 }
            }

            /// The code in words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ Self::Unknown => "unknown problem" }
            }

            /// What to do about it, in one sentence.
            #[must_use]
            pub const fn next_step(self) -> &'static str {
                match self { $(Self::$name => $next,)+ Self::Unknown => "update the client" }
            }
        }

        impl std::str::FromStr for Code {
            type Err = std::convert::Infallible;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(match text { $($text => Self::$name,)+ _ => Self::Unknown })
            }
        }
    };
}

codes! {
    /// The request is not what the API takes.
    BadRequest = "bad-request", 400, "the request cannot be read", "correct the request as the message says";
    /// A field is not known.
    UnknownField = "unknown-field", 400, "the request has an unknown field", "remove the field, or update the broker";
    /// The body, a header or the URL is too large.
    TooLarge = "too-large", 413, "the request is too large", "send less";
    /// The certificate request is not usable.
    BadCsr = "bad-csr", 400, "the certificate request is not usable", "make a new key and request with a current client";
    /// The role is not of the closed list.
    UnknownRole = "unknown-role", 400, "the role is unknown", "name one of the roles that `ichor clusters` lists";
    /// No token, or one that is not a session's.
    NotLoggedIn = "not-logged-in", 401, "no valid session", "run `ichor login`";
    /// The session has ended.
    SessionEnded = "session-ended", 401, "the session has ended", "run `ichor login`";
    /// The proof of possession is missing or does not fit.
    BadProof = "bad-proof", 401, "the proof of possession does not fit", "run `ichor login` again; check this machine's clock";
    /// The proof needs the nonce sent along.
    UseNonce = "use-dpop-nonce", 401, "the proof needs a fresh nonce", "repeat the request with the nonce of the `DPoP-Nonce` header";
    /// Policy says no.
    Refused = "refused", 403, "policy refuses", "see the help of this answer";
    /// Policies could not be evaluated; everything is refused.
    PolicyError = "policy-error", 403, "a policy could not be evaluated, so the request is refused", "tell the broker's operator";
    /// No such cluster, or none that this person may see.
    UnknownCluster = "unknown-cluster", 404, "no such cluster", "run `ichor clusters`";
    /// No such path.
    NotFound = "not-found", 404, "no such resource", "check the address; update the client";
    /// The path exists for other methods.
    MethodNotAllowed = "method-not-allowed", 405, "the resource does not take this method", "update the client";
    /// Something changed underneath; nothing was done.
    Conflict = "conflict", 409, "something changed meanwhile", "try again";
    /// No such break-glass request, or none that this person may see.
    UnknownRequest = "unknown-request", 404, "no such break-glass request", "run `ichor break-glass list`";
    /// The break-glass request is not in a state for what was asked: over, not approved yet, used up, or bound to another key.
    WrongState = "wrong-state", 409, "the break-glass request is not in a state for that", "run `ichor break-glass show ID`";
    /// What was approved is not what the break-glass request says.
    OtherContents = "other-contents", 409, "the request says something else than what was approved", "look at it again with `ichor break-glass show ID`, then decide";
    /// The database says something else of the break-glass request than the broker's marks and the audit log.
    Suspect = "suspect", 409, "the request is not what was recorded", "tell the broker's operator at once: someone else may write the database; ask again with `ichor break-glass request`";
    /// A lock holds on the user, the session, the cluster, the grant, or everything.
    Locked = "locked", 403, "a lock stops this", "ask whoever may lift it; they see it with `ichor locks`";
    /// No such lock, or none that holds.
    UnknownLock = "unknown-lock", 404, "no such lock that holds", "run `ichor locks`";
    /// The client is too old for this broker.
    ClientTooOld = "client-too-old", 426, "the client is too old for this broker", "install the version that the message names";
    /// Too many requests of this person or address.
    TooManyRequests = "too-many-requests", 429, "too many requests", "wait as long as `Retry-After` says";
    /// A bug. Nothing was issued.
    Internal = "internal", 500, "the broker failed", "give the request id to the broker's operator";
    /// The OpenID provider cannot be reached or does not answer usefully.
    ProviderUnavailable = "provider-unavailable", 503, "the identity provider is out of reach", "try again in a moment; see the provider's status";
    /// The store cannot record, so nothing is issued.
    StoreUnavailable = "store-unavailable", 503, "the record cannot be written, so nothing is issued", "try again; tell the broker's operator";
    /// The log is recorded, but neither signed nor anchored for longer than configured.
    AuditUnavailable = "audit-unavailable", 503, "the audit log is not vouched for, so nothing is issued", "try again in a moment; tell the broker's operator";
    /// The CA cannot sign.
    CustodyUnavailable = "custody-unavailable", 503, "the cluster's CA cannot sign now", "tell the broker's operator";
    /// What the CA made is not what was granted.
    CertificateMismatch = "certificate-mismatch", 502, "the CA made another certificate than was granted, and it was dropped", "tell the broker's operator at once: someone should look at that CA";
    /// The broker is overloaded or shutting down.
    Unavailable = "unavailable", 503, "the broker is busy or stopping", "try again in a moment";
    /// The request took too long.
    Timeout = "timeout", 504, "the request took too long", "try again in a moment";
}

impl Problem {
    /// A problem with the code's title and status, and `detail` for this request.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:ichor:problem:{}", code.as_str()),
            title: code.title().into(),
            status: code.status(),
            code,
            detail: detail.into(),
            help: Vec::new(),
            policies: Vec::new(),
            request_id: None,
            retry_after: None,
            step_up: None,
        }
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(text.parse().unwrap_or(Self::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_has_a_next_step() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(!code.next_step().is_empty());
            assert!((400..600).contains(&code.status()));
        }
    }

    #[test]
    fn a_code_from_the_future_is_unknown_not_an_error() {
        let mut value = serde_json::to_value(Problem::new(Code::Refused, "no")).unwrap();
        value["code"] = "from-the-future".into();
        assert_eq!(serde_json::from_value::<Problem>(value).unwrap().code, Code::Unknown);
    }
}
