//! The verification of an ID token (OpenID Connect Core §3.1.3.7), whole or not at all.

use std::str::FromStr;
use std::time::SystemTime;

use data_encoding::BASE64URL_NOPAD;
use jiff::{SignedDuration, Timestamp};
use openidconnect::core::{CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm};
use openidconnect::{ClaimsVerificationError, ClientId, IssuerUrl, Nonce, SignatureVerificationError};
use serde_json::{Map, Value};

use super::claims::Claims;

/// The provider's signing keys, as its `jwks_uri` gives them.
pub type KeySet = CoreJsonWebKeySet;

/// How far the provider's clock may differ from ours.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// The longest subject (OpenID Connect Core §2: 255 ASCII characters).
const LONGEST_SUBJECT: usize = 255;

/// What the token must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The issuer, byte for byte.
    pub issuer: &'a str,
    /// Our client id at the provider: the one audience.
    pub client_id: &'a str,
    /// The nonce of our authorization request. `None` only for a token that answers a refresh, which has none (§12.2).
    pub nonce: Option<&'a str>,
    /// The person must have authenticated at this time or later: when we asked, less the `max_age` that we asked with.
    pub auth_since: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

/// The claims of a token that was verified whole. Made only by [`verify`].
#[derive(Debug)]
pub struct Verified {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) acr: Option<String>,
    pub(super) auth_time: Option<Timestamp>,
    pub(super) claims: Claims,
}

/// Why an ID token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdTokenError {
    /// Not a JWT of an ID token's form; a token without `exp`, `iat`, `aud` or `sub` is none.
    #[error("the ID token is malformed: {0}")]
    Malformed(String),
    /// Its key is not in the set; fetching the set again may help.
    #[error("the ID token is signed by a key that the provider does not list")]
    UnknownKey,
    /// Its algorithm is not an allowed one: `none` and symmetric ones never are.
    #[error("the ID token's signature algorithm is not allowed")]
    Algorithm,
    /// The signature does not verify.
    #[error("the ID token's signature is wrong")]
    Signature,
    /// Another issuer.
    #[error("the ID token is of another issuer")]
    Issuer,
    /// Not for us, or not for us alone.
    #[error("the ID token is for another audience")]
    Audience,
    /// `azp` names another client.
    #[error("the ID token was given to another client (`azp`)")]
    AuthorizedParty,
    /// Past `exp`.
    #[error("the ID token has expired")]
    Expired,
    /// Before `nbf`, or issued in the future.
    #[error("the ID token is not valid yet; compare the clocks of provider and broker")]
    NotYetValid,
    /// Another nonce, or none.
    #[error("the ID token belongs to another login (`nonce`)")]
    Nonce,
    /// `auth_time` is missing or older than asked for.
    #[error("the provider did not tell of an authentication as recent as was asked for (`auth_time`)")]
    AuthTime,
}

/// Verifies `token` whole: form, algorithm, signature, issuer, audience, authorized party, times, nonce.
///
/// # Errors
/// With the first check that fails. [`IdTokenError::UnknownKey`] is worth another try with newer keys.
pub fn verify(token: &str, keys: &KeySet, expected: &Expected<'_>) -> Result<Verified, IdTokenError> {
    let parsed = CoreIdToken::from_str(token).map_err(|error| IdTokenError::Malformed(error.to_string()))?;
    let issuer = IssuerUrl::new(expected.issuer.into()).map_err(|_| IdTokenError::Issuer)?;
    let verifier =
        CoreIdTokenVerifier::new_public_client(ClientId::new(expected.client_id.into()), issuer, keys.clone())
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(|| SystemTime::from(expected.now).into());
    let nonce_check = |told: Option<&Nonce>| match expected.nonce {
        Some(nonce) => openidconnect::NonceVerifier::verify(&Nonce::new(nonce.into()), told),
        None => Ok(()),
    };
    let typed = parsed.claims(&verifier, nonce_check).map_err(explain)?;
    // The library leaves to us: issue times ahead of ours, `nbf`, `azp`, `auth_time`.
    let latest = expected.now.saturating_add(SKEW).unwrap_or(Timestamp::MAX).as_second();
    let issued = typed.issue_time().timestamp();
    let auth_time = typed.auth_time().map(|time| time.timestamp());
    let subject = typed.subject().as_str().to_owned();
    let acr = typed.auth_context_ref().map(|acr| acr.as_str().to_owned());
    let raw = payload(token)?;
    let not_before = match raw.get("nbf") {
        None | Some(Value::Null) => None,
        Some(value) => Some(seconds(value).ok_or_else(|| IdTokenError::Malformed("`nbf` is not a time".into()))?),
    };
    if issued > latest || not_before.is_some_and(|time| time > latest) {
        return Err(IdTokenError::NotYetValid);
    }
    if raw.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err(IdTokenError::Issuer);
    }
    match raw.get("azp") {
        None | Some(Value::Null) => {}
        Some(azp) if azp.as_str() == Some(expected.client_id) => {}
        Some(_) => return Err(IdTokenError::AuthorizedParty),
    }
    if subject.is_empty() || subject.len() > LONGEST_SUBJECT {
        return Err(IdTokenError::Malformed("the subject is empty or too long".into()));
    }
    // no provider means them, and a database may refuse them as text
    if [Some(&subject), acr.as_ref()].into_iter().flatten().any(|text| text.contains(char::is_control)) {
        return Err(IdTokenError::Malformed("the subject or `acr` has control characters".into()));
    }
    let auth_time = auth_time.map(Timestamp::from_second).transpose().map_err(|_| IdTokenError::AuthTime)?;
    if let Some(since) = expected.auth_since {
        let time = auth_time.ok_or(IdTokenError::AuthTime)?;
        if since.duration_since(time) > SKEW {
            return Err(IdTokenError::AuthTime);
        }
    }
    if auth_time.is_some_and(|time| time.as_second() > latest) {
        return Err(IdTokenError::AuthTime);
    }
    Ok(Verified { issuer: expected.issuer.into(), subject, acr, auth_time, claims: Claims::new(raw) })
}

/// Asymmetric ones only. With a symmetric one in the list, whoever knows the client secret or, by confusion, the public
/// key could sign.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

// === impl Verified ===

impl Verified {
    /// The issuer, as expected.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The subject, byte for byte.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When the person authenticated, where told.
    #[must_use]
    pub fn auth_time(&self) -> Option<Timestamp> {
        self.auth_time
    }

    /// All claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
}

fn explain(error: ClaimsVerificationError) -> IdTokenError {
    use {ClaimsVerificationError as C, SignatureVerificationError as S};
    match error {
        C::Expired(_) => IdTokenError::Expired,
        C::InvalidAudience(_) => IdTokenError::Audience,
        C::InvalidIssuer(_) => IdTokenError::Issuer,
        C::InvalidNonce(_) => IdTokenError::Nonce,
        C::SignatureVerification(S::NoMatchingKey) => IdTokenError::UnknownKey,
        C::SignatureVerification(S::DisallowedAlg(_) | S::UnsupportedAlg(_) | S::NoSignature) => {
            IdTokenError::Algorithm
        }
        C::SignatureVerification(S::CryptoError(_) | S::InvalidKey(_)) => IdTokenError::Signature,
        other => IdTokenError::Malformed(other.to_string()),
    }
}

/// The claims as they were signed: the typed ones leave out what a provider adds.
fn payload(token: &str) -> Result<Map<String, Value>, IdTokenError> {
    let part = token.split('.').nth(1).unwrap_or_default();
    let bytes = BASE64URL_NOPAD.decode(part.as_bytes());
    let bytes = bytes.map_err(|_| IdTokenError::Malformed("its claims are not base64url".into()))?;
    serde_json::from_slice(&bytes).map_err(|_| IdTokenError::Malformed("its claims are not a JSON object".into()))
}

/// A NumericDate (RFC 7519 §2) in whole seconds, rounded up: later is stricter for `nbf`.
#[expect(clippy::cast_possible_truncation, reason = "a float beyond i64 saturates, and is refused as a far future")]
fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|float| float.ceil() as i64))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// A token of an Ed25519 key, its claims right but for `change`, and the key set that verifies it.
    fn signed(change: Value) -> (String, KeySet) {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
        let key = Ed25519KeyPair::generate().unwrap();
        let pkcs8 = key.to_pkcs8v1().unwrap();
        let mut claims = json!({
            "iss": "https://idp.example", "sub": "s1", "aud": "ichor", "nonce": "n",
            "iat": NOW, "exp": NOW + 300, "auth_time": NOW - 100,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let token =
            jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &EncodingKey::from_ed_der(pkcs8.as_ref()));
        let x = BASE64URL_NOPAD.encode(key.public_key().as_ref());
        let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] });
        (token.unwrap(), serde_json::from_value(keys).unwrap())
    }

    fn judge(change: Value, auth_since: Option<i64>) -> Result<Verified, IdTokenError> {
        let (token, keys) = signed(change);
        let time = |seconds| Timestamp::from_second(seconds).unwrap();
        let expected = Expected {
            issuer: "https://idp.example",
            client_id: "ichor",
            nonce: Some("n"),
            auth_since: auth_since.map(time),
            now: time(NOW),
        };
        verify(&token, &keys, &expected)
    }

    fn error(change: Value) -> Option<IdTokenError> {
        judge(change, None).err()
    }

    #[test]
    fn a_right_token_is_taken_with_all_it_says() {
        let verified =
            judge(json!({"acr": "mfa", "azp": "ichor", "nbf": NOW, "groups": ["a"]}), Some(NOW - 100)).unwrap();
        assert_eq!((verified.subject(), verified.acr.as_deref()), ("s1", Some("mfa")));
        assert_eq!(verified.auth_time().map(Timestamp::as_second), Some(NOW - 100));
    }

    #[test]
    fn times_have_a_minutes_tolerance_and_an_end() {
        assert_eq!(error(json!({"exp": NOW})), Some(IdTokenError::Expired));
        assert_eq!(error(json!({"exp": NOW + 1})), None);
        assert_eq!(error(json!({"iat": NOW + 60})), None);
        assert_eq!(error(json!({"iat": NOW + 61})), Some(IdTokenError::NotYetValid));
        assert_eq!(error(json!({"nbf": NOW + 60})), None);
        assert_eq!(error(json!({"nbf": NOW + 61})), Some(IdTokenError::NotYetValid));
        assert_eq!(error(json!({"nbf": 1e300})), Some(IdTokenError::NotYetValid));
        assert!(matches!(error(json!({"nbf": "soon"})), Some(IdTokenError::Malformed(_))));
    }

    #[test]
    fn another_party_or_audience_is_refused_even_beside_ours() {
        assert_eq!(error(json!({"azp": "other"})), Some(IdTokenError::AuthorizedParty));
        assert_eq!(error(json!({"aud": ["ichor", "other"], "azp": "ichor"})), Some(IdTokenError::Audience));
        assert_eq!(error(json!({"aud": ["ichor"]})), None);
        assert_eq!(error(json!({"aud": "ICHOR"})), Some(IdTokenError::Audience));
        assert_eq!(error(json!({"iss": "https://idp.example/"})), Some(IdTokenError::Issuer));
    }

    #[test]
    fn a_recent_authentication_is_shown_where_it_was_asked_for() {
        let since = |change: Value, at: i64| judge(change, Some(at)).err();
        assert_eq!(since(json!({}), NOW - 40), None);
        assert_eq!(since(json!({}), NOW - 39), Some(IdTokenError::AuthTime));
        assert_eq!(since(json!({"auth_time": null}), NOW - 100), Some(IdTokenError::AuthTime));
        assert_eq!(error(json!({"auth_time": NOW + 61})), Some(IdTokenError::AuthTime));
    }

    #[test]
    fn a_subject_has_a_form() {
        assert!(matches!(error(json!({"sub": ""})), Some(IdTokenError::Malformed(_))));
        assert!(matches!(error(json!({"sub": "x".repeat(256)})), Some(IdTokenError::Malformed(_))));
        assert!(matches!(error(json!({"sub": "a\u{0}b"})), Some(IdTokenError::Malformed(_))));
        assert!(matches!(error(json!({"acr": "a\u{0}b"})), Some(IdTokenError::Malformed(_))));
    }

    #[test]
    fn garbage_is_malformed() {
        let (_, keys) = signed(json!({}));
        let now = Timestamp::from_second(NOW).unwrap();
        let expected =
            Expected { issuer: "https://idp.example", client_id: "ichor", nonce: None, auth_since: None, now };
        for garbage in ["", ".", "..", "a.b.c", "e30.e30.e30", "e30.e30.e30.e30.e30"] {
            assert!(matches!(verify(garbage, &keys, &expected), Err(IdTokenError::Malformed(_))), "{garbage}");
        }
    }
}
