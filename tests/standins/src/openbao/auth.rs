//! Logins, and tokens with a life.

use std::collections::BTreeMap;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::Answer;
use super::call::{Call, Verb, no_path};
use super::sys::short_duration;
use super::{Login, OpenBao, State};
use crate::random;

/// The tokens given so far.
pub(super) struct Tokens {
    live: BTreeMap<String, Token>,
    ttl: SignedDuration,
    max_ttl: SignedDuration,
    renewable: bool,
}

struct Token {
    accessor: String,
    display: String,
    created: Timestamp,
    expires: Timestamp,
    ttl: SignedDuration,
    max_ttl: SignedDuration,
}

// === impl Tokens ===

impl Tokens {
    pub(super) fn new(ttl: SignedDuration, max_ttl: SignedDuration, renewable: bool) -> Self {
        Self { live: BTreeMap::new(), ttl, max_ttl, renewable }
    }

    pub(super) fn set_life(&mut self, ttl: SignedDuration, max_ttl: SignedDuration) {
        (self.ttl, self.max_ttl) = (ttl, max_ttl);
    }

    pub(super) fn set_renewable(&mut self, renewable: bool) {
        self.renewable = renewable;
    }

    pub(super) fn revoke_all(&mut self) {
        self.live.clear();
    }

    pub(super) fn count(&self) -> usize {
        self.live.len()
    }

    pub(super) fn create(&mut self, now: Timestamp) -> anyhow::Result<String> {
        self.create_as("token", now)
    }

    fn create_as(&mut self, display: &str, now: Timestamp) -> anyhow::Result<String> {
        let id = format!("s.{}", random::token()?);
        let token = Token {
            accessor: random::token()?,
            display: display.to_owned(),
            created: now,
            expires: later(now, self.ttl.min(self.max_ttl)),
            ttl: self.ttl,
            max_ttl: self.max_ttl,
        };
        self.live.insert(id.clone(), token);
        Ok(id)
    }

    pub(super) fn is_live(&self, id: &str, now: Timestamp) -> bool {
        id == OpenBao::ROOT_TOKEN || self.live.get(id).is_some_and(|token| now < token.expires)
    }

    fn renew(&mut self, id: &str, increment: Option<SignedDuration>, now: Timestamp) -> Answer {
        let renewable = self.renewable;
        let Some(token) = self.live.get_mut(id).filter(|_| renewable) else {
            return Answer::bad("lease is not renewable");
        };
        let mut warnings = Vec::new();
        let wanted = increment.unwrap_or(token.ttl);
        let left = later(token.created, token.max_ttl).duration_since(now);
        if wanted > left {
            warnings.push(format!(
                "TTL of \"{}\" exceeded the effective max_ttl of \"{}\"; TTL value is capped accordingly",
                short_duration(wanted),
                short_duration(left)
            ));
        }
        token.expires = later(now, wanted.min(left));
        Answer::auth(self.auth(id, now), warnings)
    }

    /// The `auth` block of a login or renewal.
    fn auth(&self, id: &str, now: Timestamp) -> Value {
        let Some(token) = self.live.get(id) else { return Value::Null };
        json!({
            "client_token": id,
            "accessor": token.accessor,
            "policies": ["default", "ichor"],
            "token_policies": ["default", "ichor"],
            "metadata": null,
            "lease_duration": token.expires.duration_since(now).as_secs(),
            "renewable": self.renewable,
            "entity_id": "",
            "token_type": "service",
            "orphan": true,
            "mfa_requirement": null,
            "num_uses": 0,
        })
    }

    fn lookup(&self, id: &str, now: Timestamp) -> Answer {
        let Some(token) = self.live.get(id) else {
            return Answer::data(json!({
                "id": id, "display_name": "token", "policies": ["root"], "renewable": false, "ttl": 0, "creation_ttl": 0,
                "expire_time": null, "explicit_max_ttl": 0, "num_uses": 0, "orphan": true, "type": "service",
                "path": "auth/token/create", "entity_id": "", "meta": null,
            }));
        };
        Answer::data(json!({
            "accessor": token.accessor,
            "creation_time": token.created.as_second(),
            "creation_ttl": token.ttl.as_secs(),
            "display_name": token.display,
            "entity_id": "",
            "expire_time": token.expires.to_string(),
            "explicit_max_ttl": 0,
            "id": id,
            "issue_time": token.created.to_string(),
            "meta": null,
            "num_uses": 0,
            "orphan": true,
            "path": format!("auth/{}/login", token.display),
            "policies": ["default", "ichor"],
            "renewable": self.renewable,
            "ttl": token.expires.duration_since(now).as_secs(),
            "type": "service",
        }))
    }
}

/// `auth/<mount>/login`, which needs no token.
pub(super) fn login(state: &mut State, call: &Call, mount: &str, now: Timestamp) -> Answer {
    let Some(logins) = state.logins.get(mount) else { return Answer::bad_token() };
    if let Err(refused) = admit(logins, call) {
        return refused;
    }
    if let Some(reason) = &state.login_refusal {
        return Answer::bad(reason);
    }
    let Ok(id) = state.tokens.create_as(mount, now) else {
        return Answer::failed("the system gave no random values");
    };
    state.login_count += 1;
    Answer::auth(state.tokens.auth(&id, now), Vec::new())
}

/// Whether one of the mount's logins fits; the refusals are those of the real methods.
fn admit(logins: &[Login], call: &Call) -> Result<(), Answer> {
    let mut refusal = no_path();
    for login in logins {
        refusal = match login {
            Login::AppRole { .. } if call.text("role_id").is_empty() => {
                Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "missing role_id")
            }
            Login::AppRole { role_id, secret_id } => {
                if (call.text("role_id"), call.text("secret_id")) == (role_id, secret_id) {
                    return Ok(());
                }
                Answer::bad("invalid role or secret ID")
            }
            Login::Jwt { role, .. } if call.text("role") != role => {
                Answer::bad(format!("role {:?} could not be found", call.text("role")))
            }
            Login::Kubernetes { role, .. } if call.text("role") != role => {
                Answer::bad(format!("invalid role name {:?}", call.text("role")))
            }
            Login::Jwt { jwt, .. } | Login::Kubernetes { jwt, .. } if call.text("jwt") == jwt => return Ok(()),
            Login::Jwt { .. } => Answer::bad(
                "error validating token: error verifying token signature: no known key successfully validated the token signature",
            ),
            Login::Kubernetes { .. } => Answer::bad_token(),
            Login::Certificate if call.certified => return Ok(()),
            Login::Certificate => Answer::bad("no client certificate found"),
        };
    }
    Err(refusal)
}

/// What a token may do to itself: `auth/token/<act>`.
pub(super) fn own(state: &mut State, call: &Call, id: &str, act: &str, now: Timestamp) -> Answer {
    match (act, call.verb) {
        ("lookup-self", Verb::Read) => state.tokens.lookup(id, now),
        ("renew-self", Verb::Write) => {
            state.tokens.renew(id, call.body.get("increment").and_then(super::sys::duration), now)
        }
        ("revoke-self", Verb::Write) => {
            state.tokens.live.remove(id);
            Answer::empty()
        }
        _ => no_path(),
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}
