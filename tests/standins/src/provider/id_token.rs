//! ID tokens, right ones and wrong ones, and the claims about a person.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::keys::SigningKey;
use super::people::Person;
use super::state::{Fault, Grant, GroupsIn, State};

const HOUR: i64 = 3600;

/// The compact ID token for `grant`, or `None` where the fault is that there is none.
pub(super) fn id_token(
    issuer: &str,
    state: &State,
    grant: &Grant,
    person: &Person,
    now: Timestamp,
) -> anyhow::Result<Option<String>> {
    let fault = state.behaviour.fault;
    if fault == Some(Fault::Missing) {
        return Ok(None);
    }
    let mut claims = about(issuer, person, grant, &state.behaviour.groups_in, Told::IdToken);
    let at = now.as_second();
    claims.insert("iss".into(), issuer.into());
    claims.insert("aud".into(), grant.client.clone().into());
    claims.insert("iat".into(), at.into());
    claims.insert("exp".into(), (at + seconds(state.behaviour.id_token_life)).into());
    if let Some(nonce) = &grant.nonce {
        claims.insert("nonce".into(), nonce.clone().into());
    }
    if let Some(auth_time) = grant.auth_time {
        claims.insert("auth_time".into(), auth_time.as_second().into());
    }
    if let (true, Some(acr)) = (grant.acr, &person.acr) {
        claims.insert("acr".into(), acr.clone().into());
    }
    if let Some(fault) = fault {
        spoil(&mut claims, fault, grant, at);
    }
    let key = state.keys.last().ok_or_else(|| anyhow::anyhow!("the provider has no signing key"))?;
    sign(&claims, key, fault).map(Some)
}

/// Where claims are told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    IdToken,
    Userinfo,
}

/// The claims about a person that `grant`'s scopes let out (OpenID Connect Core §5.4), with the groups where they belong.
pub(super) fn about(
    issuer: &str,
    person: &Person,
    grant: &Grant,
    groups_in: &GroupsIn,
    told: Told,
) -> Map<String, Value> {
    let mut claims = person.claims.clone();
    claims.insert("sub".into(), person.sub.clone().into());
    if grant.has_scope("profile") {
        claims.insert("name".into(), person.name.clone().into());
        claims.insert("preferred_username".into(), person.preferred_username.clone().into());
    }
    if grant.has_scope("email") {
        claims.insert("email".into(), person.email.clone().into());
        claims.insert("email_verified".into(), true.into());
    }
    match groups_in {
        GroupsIn::IdToken => {
            claims.insert("groups".into(), person.groups.clone().into());
        }
        GroupsIn::UserinfoOnly if told == Told::Userinfo => {
            claims.insert("groups".into(), person.groups.clone().into());
        }
        GroupsIn::UserinfoOnly | GroupsIn::Nowhere => {}
        GroupsIn::EntraOverage => {
            claims.insert("_claim_names".into(), json!({ "groups": "src1" }));
            let endpoint = format!("{issuer}/graph/users/{}/getMemberObjects", person.sub);
            claims.insert("_claim_sources".into(), json!({ "src1": { "endpoint": endpoint } }));
        }
        GroupsIn::Nested(path) => {
            if let Some((first, rest)) = path.split_first() {
                let mut value = json!(person.groups);
                for name in rest.iter().rev() {
                    let mut outer = Map::new();
                    outer.insert(name.clone(), value);
                    value = Value::Object(outer);
                }
                claims.insert(first.clone(), value);
            }
        }
    }
    claims
}

fn spoil(claims: &mut Map<String, Value>, fault: Fault, grant: &Grant, at: i64) {
    match fault {
        Fault::WrongAudience => claims.insert("aud".into(), "another-client".into()),
        Fault::ExtraAudience => claims.insert("aud".into(), json!([grant.client, "another-client"])),
        Fault::WrongIssuer => claims.insert("iss".into(), "https://another.example".into()),
        Fault::WrongSubject => claims.insert("sub".into(), "sub-someone-else".into()),
        Fault::WrongNonce => claims.insert("nonce".into(), "another-nonce".into()),
        Fault::NoNonce => claims.remove("nonce"),
        Fault::NoExpiry => claims.remove("exp"),
        Fault::Expired => {
            claims.insert("iat".into(), (at - 2 * HOUR).into());
            claims.insert("exp".into(), (at - HOUR).into())
        }
        Fault::NotYetValid => claims.insert("nbf".into(), (at + HOUR).into()),
        Fault::IssuedInFuture => {
            claims.insert("exp".into(), (at + 2 * HOUR).into());
            claims.insert("iat".into(), (at + HOUR).into())
        }
        Fault::Unsigned
        | Fault::Hs256WithPublicKey
        | Fault::BadSignature
        | Fault::UnknownKey
        | Fault::ForeignKey
        | Fault::Missing => None,
    };
}

fn sign(claims: &Map<String, Value>, key: &SigningKey, fault: Option<Fault>) -> anyhow::Result<String> {
    let other = match fault {
        Some(Fault::UnknownKey | Fault::ForeignKey) => Some(SigningKey::generate(key.algorithm())?),
        _ => None,
    };
    let signer = other.as_ref().unwrap_or(key);
    let named = if fault == Some(Fault::UnknownKey) { signer } else { key };
    let algorithm = match fault {
        Some(Fault::Unsigned) => "none",
        Some(Fault::Hs256WithPublicKey) => "HS256",
        _ => key.algorithm().name(),
    };
    let header = json!({ "typ": "JWT", "alg": algorithm, "kid": named.id });
    let encode = |octets: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(octets);
    let message = format!("{}.{}", encode(&serde_json::to_vec(&header)?), encode(&serde_json::to_vec(claims)?));
    let signature = match fault {
        Some(Fault::Unsigned) => Vec::new(),
        Some(Fault::Hs256WithPublicKey) => {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.public()), message.as_bytes()).as_ref().to_vec()
        }
        Some(Fault::BadSignature) => key.sign(b"something else")?,
        _ => signer.sign(message.as_bytes())?,
    };
    Ok(format!("{message}.{}", encode(&signature)))
}

fn seconds(life: SignedDuration) -> i64 {
    life.as_secs()
}
