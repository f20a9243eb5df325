//! What went wrong at a server.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A call that came to nothing. It names the server, and its request where it told the id; never a token or a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaoError {
    server: Arc<str>,
    kind: Kind,
    request: Option<String>,
}

/// In which way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// No connection came about, so nothing was sent.
    NotConnected(String),
    /// The connection broke.
    Unreachable(String),
    /// It did not answer within the deadline.
    Late,
    /// It is sealed.
    Sealed,
    /// It was never initialised.
    Uninitialized,
    /// It is a standby that does not forward.
    Standby,
    /// Too many requests for its quotas.
    Limited,
    /// It takes our token no more.
    Token,
    /// Its policy does not allow this path to our token.
    Denied(String),
    /// No such key, role or secret.
    Missing(String),
    /// Nothing of its API is at this path: no such mount or namespace, or an engine of another kind.
    NoRoute(String),
    /// It refuses what was asked, in its words.
    Refused(String),
    /// It failed by itself, with this status, in its words.
    Failed(u16, String),
    /// What it answered is not what its API says.
    Garbled(&'static str),
    /// We could not log in: what is missing here, or its words.
    Login(String),
}

/// The body of an error.
#[derive(Deserialize)]
struct Body {
    errors: Option<Vec<String>>,
    /// What an answer has that tells of something gone.
    data: Option<IgnoredAny>,
    #[serde(default)]
    request_id: Option<String>,
}

/// How much of a server's words is looked at, in characters.
const LOOKED_AT: usize = 1_000;

/// How much of a server's words is passed on, in characters.
const WORDS: usize = 200;

/// So many bytes in a row of a token or secret id are too many to be passed on.
const PART: usize = 12;

/// The same for a request's body, which is names for the most part: shorter than any key is as base64.
const BODY_PART: usize = 32;

/// What was sent and must not come back in words.
#[derive(Default)]
pub(super) struct Sent<'a> {
    /// A token, a secret id, a JWT.
    pub(super) secret: Option<&'a str>,
    pub(super) body: &'a [u8],
    /// What else is known of us: tokens of before, and what we log in with.
    pub(super) held: &'a [SecretString],
}

// === impl Sent ===

impl Sent<'_> {
    /// A server's own words, printable, on one line and short; others in their stead if they hold what was sent.
    pub(super) fn words_of(&self, text: &str) -> String {
        // what is cut off is neither passed on nor worth the search
        let text: String = text.chars().take(LOOKED_AT).collect();
        let text = text.as_str();
        let is_told = self.secret.is_some_and(|secret| holds(text, secret.as_bytes(), PART));
        if is_told || tells(text, self.held) || holds(text, self.body, BODY_PART) {
            return "(its words are withheld: they hold a secret that we sent)".into();
        }
        let text = text.replace("1 error occurred:", "");
        let printable: String = text.chars().map(|c| if c.is_control() || !c.is_ascii() { ' ' } else { c }).collect();
        let words = printable.split_whitespace().collect::<Vec<_>>().join(" ");
        words.trim_start_matches("* ").chars().take(WORDS).collect()
    }
}

// === impl BaoError ===

impl BaoError {
    pub(super) fn new(server: &Arc<str>, kind: Kind, request: Option<String>) -> Self {
        Self { server: Arc::clone(server), kind, request }
    }

    /// In which way it failed.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The server's name here.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The server's id of the request, by which its audit log knows it.
    #[must_use]
    pub fn request(&self) -> Option<&str> {
        self.request.as_deref()
    }

    /// Whether the same call may succeed later without anyone changing a setting.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.kind.is_passing()
    }

    /// Whether the server as such may be out, and not only this call.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        self.kind.is_outage()
    }
}

impl std::error::Error for BaoError {}

impl fmt::Display for BaoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenBao `{}` ", self.server)?;
        match &self.kind {
            Kind::NotConnected(why) | Kind::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            Kind::Late => f.write_str("did not answer in time"),
            Kind::Sealed => f.write_str("is sealed; unseal it"),
            Kind::Uninitialized => f.write_str("was never initialised; run its `operator init`"),
            Kind::Standby => f.write_str("is a standby that forwards nothing; give the address of the active one"),
            Kind::Limited => f.write_str("turns requests away by its rate quota"),
            Kind::Token => f.write_str("takes our token no more"),
            Kind::Denied(path) => {
                write!(
                    f,
                    "does not allow `{path}` to our token, or has no engine mounted there; give its policy what deploy/openbao has, or, where a \
                     command makes or writes what the broker only uses, an operator's token with `--token-file`"
                )
            }
            Kind::Missing(what) => write!(f, "has no `{what}`"),
            Kind::NoRoute(path) => write!(f, "has no `{path}`: no such engine is mounted there"),
            Kind::Refused(words) => write!(f, "refuses: {words}"),
            Kind::Failed(status, words) => write!(f, "failed with status {status}: {words}"),
            Kind::Garbled(what) => write!(f, "gave an answer that is none: {what}"),
            Kind::Login(why) => write!(f, "did not log us in: {why}"),
        }?;
        match &self.request {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

// === impl Kind ===

impl Kind {
    /// One word for it, for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotConnected(_) | Self::Unreachable(_) => "unreachable",
            Self::Late => "late",
            Self::Sealed => "sealed",
            Self::Uninitialized => "uninitialized",
            Self::Standby => "standby",
            Self::Limited => "limited",
            Self::Token => "token",
            Self::Denied(_) => "denied",
            Self::Missing(_) | Self::NoRoute(_) => "missing",
            Self::Refused(_) => "refused",
            Self::Failed(..) => "failed",
            Self::Garbled(_) => "garbled",
            Self::Login(_) => "login",
        }
    }

    /// Whether the same call may succeed later without anyone changing a setting.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::NotConnected(_) | Self::Unreachable(_) | Self::Late => true,
            Self::Sealed | Self::Standby | Self::Limited | Self::Failed(..) => true,
            Self::Uninitialized | Self::Token | Self::Login(_) => true,
            Self::Denied(_) | Self::Missing(_) | Self::NoRoute(_) | Self::Refused(_) | Self::Garbled(_) => false,
        }
    }

    /// Whether another try of the same call, now, is worth its while: 412, 429 and 5xx, and what never arrived. Never 403.
    pub(super) fn is_worth_a_try(&self) -> bool {
        match self {
            Self::NotConnected(_) | Self::Unreachable(_) | Self::Late => true,
            Self::Sealed | Self::Standby | Self::Limited | Self::Failed(..) => true,
            Self::Uninitialized | Self::Token | Self::Login(_) => false,
            Self::Denied(_) | Self::Missing(_) | Self::NoRoute(_) | Self::Refused(_) | Self::Garbled(_) => false,
        }
    }

    /// Whether nothing was done: nothing was sent, or the server turned the call away before, by a quota, because it is sealed, is not the
    /// active one, or does not have yet what the caller has seen.
    pub(super) fn did_nothing(&self) -> bool {
        matches!(self, Self::NotConnected(_) | Self::Limited | Self::Sealed | Self::Standby | Self::Failed(412, _))
    }

    /// Whether the server as such may be out, and not only this call.
    pub(super) fn is_outage(&self) -> bool {
        use Kind::{Denied, Garbled, Missing, NoRoute, Refused};
        !matches!(self, Denied(_) | Missing(_) | NoRoute(_) | Refused(_) | Garbled(_))
    }

    /// What a status and its body mean, and the request's id. Words that hold something of `sent`, which is secret, are not
    /// passed on.
    pub(super) fn of(status: StatusCode, body: &[u8], path: &str, sent: &Sent<'_>) -> (Self, Option<String>) {
        // a body that is no error of its API says nothing
        let body: Option<Body> = serde_json::from_slice(body).ok();
        let request = body.as_ref().and_then(|body| body.request_id.as_deref()).and_then(id);
        let is_of_api = body.as_ref().is_some_and(|body| body.errors.is_some() || body.data.is_some());
        let errors = body.and_then(|body| body.errors).unwrap_or_default();
        let words = errors.first().map_or_else(|| "(without a reason)".into(), |first| sent.words_of(first));
        let says = |words: &str| errors.iter().any(|error| error.contains(words));
        // OpenBao tells a bad token by a bare "permission denied" alone; HashiCorp Vault adds "invalid token"
        let is_bare = errors.iter().any(|e| e.contains("permission denied") && !e.contains("error occurred"));
        let kind = match status.as_u16() {
            307 | 308 | 472 | 473 => Self::Standby,
            300..400 => Self::Refused(format!(
                "it sends elsewhere with status {status}; write that address",
                status = status.as_u16()
            )),
            403 if is_bare || says("invalid token") => Self::Token,
            403 => Self::Denied(path.to_owned()),
            // what is not there is told without a reason, in the API's own form; a mount that is not, or a gateway, tells it otherwise
            404 if is_of_api && errors.is_empty() => Self::Missing(path.to_owned()),
            404 => Self::NoRoute(path.to_owned()),
            429 => Self::Limited,
            501 => Self::Uninitialized,
            400 | 500.. if says("not initialized") || says("not yet initialized") => Self::Uninitialized,
            503 if says("sealed") => Self::Sealed,
            500.. if says("node not active") => Self::Standby,
            412 | 500.. => Self::Failed(status.as_u16(), words),
            _ => Self::Refused(words),
        };
        (kind, request)
    }
}

/// A request's id as servers make them; anything else is not passed on.
pub(super) fn id(text: &str) -> Option<String> {
    let fits = (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    fits.then(|| text.to_owned())
}

/// Whether `text` holds one of these, or so many bytes in a row of it that it may not be passed on.
pub(super) fn tells(text: &str, held: &[SecretString]) -> bool {
    held.iter().any(|secret| holds(text, secret.expose_secret().as_bytes(), PART))
}

/// Whether `text` holds `secret`, or so many bytes in a row of it.
fn holds(text: &str, secret: &[u8], part: usize) -> bool {
    let part = part.min(secret.len());
    part > 0 && text.as_bytes().windows(part).any(|some| secret.windows(part).any(|of| of == some))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> Kind {
        let sent = Sent {
            secret: Some("s.token-of-ours"),
            body: br#"{"key":"MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAA"}"#,
            held: &["s.token-of-before".into()],
        };
        Kind::of(StatusCode::from_u16(status).unwrap(), body.as_bytes(), "transit/sign/k", &sent).0
    }

    #[test]
    fn each_answer_of_a_server_has_its_kind() {
        let denied = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
        assert_eq!(kind(403, denied), Kind::Denied("transit/sign/k".into()));
        assert_eq!(kind(403, r#"{"errors":["permission denied"]}"#), Kind::Token);
        assert_eq!(kind(403, "proxy says no"), Kind::Denied("transit/sign/k".into()));
        assert_eq!(kind(503, r#"{"errors":["Vault is sealed"]}"#), Kind::Sealed);
        assert_eq!(kind(503, ""), Kind::Failed(503, "(without a reason)".into()));
        assert_eq!(kind(429, r#"{"errors":["x"]}"#), Kind::Limited);
        assert_eq!(kind(404, r#"{"errors":[]}"#), Kind::Missing("transit/sign/k".into()));
        let gone =
            r#"{"data":{"data":null,"metadata":{"version":2}},"request_id":"0b4a1bb2-1111-2222-3333-444455556666"}"#;
        assert_eq!(kind(404, gone), Kind::Missing("transit/sign/k".into()));
        let nowhere = r#"{"errors":["no handler for route \"transit/sign/k\". route entry not found."]}"#;
        let gateways = r#"{"message":"no Route matched with those values"}"#;
        for other in [nowhere, "<h1>Not Found</h1>", "", "{}", gateways] {
            assert_eq!(kind(404, other), Kind::NoRoute("transit/sign/k".into()), "{other}");
        }
        assert_eq!(kind(307, ""), Kind::Standby);
        let vault = r#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#;
        assert_eq!(kind(403, vault), Kind::Token);
        assert_eq!(
            kind(500, r#"{"errors":["local node not active but active cluster node not found"]}"#),
            Kind::Standby
        );
        assert_eq!(kind(501, ""), Kind::Uninitialized);
        assert_eq!(kind(503, r#"{"errors":["server is not yet initialized"]}"#), Kind::Uninitialized);
        assert!(matches!(kind(301, ""), Kind::Refused(words) if words.contains("status 301")));
        assert_eq!(
            kind(400, r#"{"errors":["signing key\n not found"]}"#),
            Kind::Refused("signing key not found".into())
        );
    }

    #[test]
    fn words_hold_no_token_and_no_control() {
        for echoed in ["bad s.token-of-ours", "s.token-of-o", r#"{\"key\":\"MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAA"#] {
            let said = kind(400, &format!("{{\"errors\":[\"{echoed}\"]}}"));
            assert!(matches!(&said, Kind::Refused(words) if words.contains("withheld")), "{said:?}");
        }
        assert_eq!(kind(400, "{\"errors\":[\"a\\u001b[31mb\"]}"), Kind::Refused("a [31mb".into()));
        let long = format!("{{\"errors\":[\"{}\"]}}", "x".repeat(5_000));
        assert_eq!(kind(400, &long), Kind::Refused("x".repeat(WORDS)));
    }

    #[test]
    fn the_request_is_named_if_it_has_an_id() {
        let server: Arc<str> = "main".into();
        let error = BaoError::new(&server, Kind::Sealed, id("0b4a1bb2-1111-2222-3333-444455556666"));
        assert_eq!(
            error.to_string(),
            "OpenBao `main` is sealed; unseal it (request 0b4a1bb2-1111-2222-3333-444455556666)"
        );
        assert_eq!(id("not an id"), None);
    }
}
