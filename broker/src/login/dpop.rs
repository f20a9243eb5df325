//! Proofs of possession (RFC 9449), checked.

use std::sync::Arc;

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use ichor_wire::dpop::{ALGORITHM, ProofClaims, ProofHeader, TYPE, sha256_base64url};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use url::Url;

use super::known_keys::{Key, KnownKeys, NoKey};
use super::replay::{ProofId, Remembered, Seen};
use super::settings::NonceKey;

/// How far `iat` may lie from our time, in seconds, either way.
const WINDOW: i64 = 60;

/// For how many seconds one nonce is given out; it is taken for as long again.
const NONCE_SECONDS: i64 = 120;

/// The longest proof, in bytes.
const LONGEST_PROOF: usize = 4096;

/// The longest `jti`, in bytes.
const LONGEST_JTI: usize = 256;

/// What the proof must be for.
#[derive(Clone, Copy, Debug)]
pub(super) struct For<'a> {
    /// The method, upper case.
    pub(super) method: &'a str,
    /// The URL under `public_url`, without query.
    pub(super) url: &'a str,
    /// The access token; `None` only where one is asked for.
    pub(super) token: Option<&'a str>,
}

/// What the proof must say about the body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    /// The request changes nothing.
    Free,
    /// Its digest, if the proof has one: where the request can have its effect only once anyhow.
    IfTold(&'a [u8]),
    /// Its digest.
    Told(&'a [u8]),
}

/// A proof that holds, not yet remembered as used.
#[derive(Debug)]
pub(super) struct Proof {
    key: Arc<Key>,
    body_sha256: Option<String>,
    id: ProofId,
}

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// None, or several.
    #[error("the request needs exactly one `DPoP` header")]
    Missing,
    /// Not a proof's form; a private key in it is one way.
    #[error("the proof is malformed")]
    Malformed,
    /// Another `typ`.
    #[error("the proof's `typ` is not `dpop+jwt`")]
    Type,
    /// Another algorithm.
    #[error("the proof is not signed with ES256")]
    Algorithm,
    /// Not a P-256 key.
    #[error("the proof's key is not a P-256 public key")]
    Key,
    /// The signature is wrong.
    #[error("the proof's signature is wrong")]
    Signature,
    /// Made for another method.
    #[error("the proof is for another method (`htm`)")]
    Method,
    /// Made for another URL.
    #[error("the proof is for another URL (`htu`); compare the broker's `public_url` with the address you use")]
    Url,
    /// Made too long ago, or in the future.
    #[error("the proof's time (`iat`) is more than 60 seconds away from the broker's; check this machine's clock")]
    Time,
    /// Made for another token.
    #[error("the proof is for another token (`ath`)")]
    Token,
    /// Made for another body.
    #[error("the proof is for another body (`body_sha256`)")]
    Body,
    /// The nonce is missing or old.
    #[error("the proof needs the nonce of the `DPoP-Nonce` header")]
    UseNonce,
    /// The key is not the one that token or code are bound to.
    #[error("the proof is made with another key than the login's")]
    OtherKey,
    /// Used before.
    #[error("the proof was used before (`jti`)")]
    Replayed,
    /// No room to remember it.
    #[error("the broker cannot take more proofs now; try again in two minutes")]
    Full,
}

/// Checks proofs.
pub(super) struct Dpop {
    nonce_key: hmac::Key,
    seen: Seen,
    known: KnownKeys,
}

// === impl Dpop ===

impl Dpop {
    pub(super) fn new(key: &NonceKey) -> Self {
        Self {
            nonce_key: hmac::Key::new(hmac::HMAC_SHA256, key.0.as_slice()),
            seen: Seen::default(),
            known: KnownKeys::default(),
        }
    }

    /// The nonce for now: an HMAC over the time, so that none need be kept.
    pub(super) fn nonce(&self, now: Timestamp) -> String {
        self.nonce_of(now.as_second().div_euclid(NONCE_SECONDS))
    }

    fn nonce_of(&self, period: i64) -> String {
        let mut context = hmac::Context::with_key(&self.nonce_key);
        context.update(b"ichor dpop nonce\0");
        context.update(&period.to_be_bytes());
        BASE64URL_NOPAD.encode(context.sign().as_ref().get(..16).unwrap_or_default())
    }

    /// Checks everything but the body, whether the proof was used before, and whose key it is.
    ///
    /// # Errors
    /// With the first check that fails. The nonce comes last, so that [`ProofError::UseNonce`] means that
    /// all else here is right.
    pub(super) fn verify(&self, proof: &str, what: &For<'_>, now: Timestamp) -> Result<Proof, ProofError> {
        let (key, claims) = verify_signature(proof, &self.known)?;
        if claims.htm != what.method {
            return Err(ProofError::Method);
        }
        if !same_url(&claims.htu, what.url) {
            return Err(ProofError::Url);
        }
        if claims.iat.abs_diff(now.as_second()) > WINDOW.unsigned_abs() {
            return Err(ProofError::Time);
        }
        if claims.ath != what.token.map(|token| sha256_base64url(token.as_bytes())) {
            return Err(ProofError::Token);
        }
        if claims.jti.is_empty() || claims.jti.len() > LONGEST_JTI {
            return Err(ProofError::Malformed);
        }
        let period = now.as_second().div_euclid(NONCE_SECONDS);
        let nonce = claims.nonce.ok_or(ProofError::UseNonce)?;
        if nonce != self.nonce_of(period) && nonce != self.nonce_of(period - 1) {
            return Err(ProofError::UseNonce);
        }
        let id = proof_id(key.jkt(), &claims.jti);
        Ok(Proof { key, body_sha256: claims.body_sha256, id })
    }

    /// Uses the proof up, as far as this process knows. Comes last, when key and token are known to fit, so that strangers cannot
    /// fill the memory; then the key is a session's, and is remembered.
    ///
    /// # Errors
    /// When it was used before, or there is no room.
    pub(super) fn use_up(&self, proof: &Proof, now: Timestamp) -> Result<(), ProofError> {
        match self.seen.remember(proof.id, now) {
            Remembered::New => {
                self.known.remember(&proof.key);
                Ok(())
            }
            Remembered::Replayed => Err(ProofError::Replayed),
            Remembered::Full => Err(ProofError::Full),
        }
    }
}

// === impl Proof ===

impl Proof {
    /// The thumbprint of the key that made it.
    pub(super) fn jkt(&self) -> &str {
        self.key.jkt()
    }

    /// What other brokers know the proof by, and until when they must: from 60 s before its `iat` to 60 s after it is
    /// accepted, and their clocks may differ by as much again.
    pub(super) fn elsewhere(&self, now: Timestamp) -> (&ProofId, Timestamp) {
        (&self.id, now.saturating_add(SignedDuration::from_secs(3 * WINDOW)).unwrap_or(Timestamp::MAX))
    }

    /// Whether the proof says about the body what it must.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn check_body(&self, body: Body<'_>) -> Result<(), ProofError> {
        let told = self.body_sha256.as_deref();
        let fits = match body {
            Body::Free => true,
            Body::IfTold(bytes) => told.is_none_or(|told| told == sha256_base64url(bytes)),
            Body::Told(bytes) => told.is_some_and(|told| told == sha256_base64url(bytes)),
        };
        if fits { Ok(()) } else { Err(ProofError::Body) }
    }
}

/// The key and claims of a proof whose signature verifies with the key inside it.
fn verify_signature(proof: &str, known: &KnownKeys) -> Result<(Arc<Key>, ProofClaims), ProofError> {
    if proof.len() > LONGEST_PROOF {
        return Err(ProofError::Malformed);
    }
    let (signed, signature) = proof.rsplit_once('.').ok_or(ProofError::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(ProofError::Malformed)?;
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| ProofError::Malformed);
    let header: ProofHeader = serde_json::from_slice(&decode(header)?).map_err(|_| ProofError::Malformed)?;
    if header.typ != TYPE {
        return Err(ProofError::Type);
    }
    if header.alg != ALGORITHM {
        return Err(ProofError::Algorithm);
    }
    let key = known.read(&header.jwk).map_err(|error| match error {
        NoKey::Form => ProofError::Key,
        NoKey::Point => ProofError::Signature,
    })?;
    if !key.verifies(signed.as_bytes(), &decode(signature)?) {
        return Err(ProofError::Signature);
    }
    let claims = serde_json::from_slice(&decode(claims)?).map_err(|_| ProofError::Malformed)?;
    Ok((key, claims))
}

/// Whether two URLs are one (RFC 9449 §4.3: by their normal form). A query or fragment in `told` never fits.
fn same_url(told: &str, expected: &str) -> bool {
    told == expected || matches!((Url::parse(told), Url::parse(expected)), (Ok(told), Ok(expected)) if told == expected)
}

fn proof_id(jkt: &str, jti: &str) -> ProofId {
    let digest = Sha256::new().chain_update(jkt).chain_update([0]).chain_update(jti).finalize();
    let mut id = ProofId::default();
    id.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
    id
}

#[cfg(test)]
mod tests {
    use ichor_client::dpop::{DpopKey, ProofOf};
    use ichor_wire::dpop::PublicJwk;
    use zeroize::Zeroizing;

    use super::*;

    const URL: &str = "https://ichor.example/v1/session";

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn what() -> For<'static> {
        For { method: "GET", url: URL, token: Some("token") }
    }

    /// A proof with the broker's nonce, and the key as it shows it.
    fn proof(dpop: &Dpop, key: &DpopKey) -> (String, PublicJwk) {
        let (url, nonce) = (URL.parse().unwrap(), dpop.nonce(now()));
        let of = ProofOf { method: "GET", url: &url, token: Some("token"), nonce: Some(&nonce), body: None };
        let proof = key.proof(of, now()).unwrap();
        let header: ProofHeader = {
            let part = proof.split('.').next().unwrap();
            serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
        };
        (proof, header.jwk)
    }

    fn is_remembered(dpop: &Dpop, jwk: &PublicJwk) -> bool {
        Arc::ptr_eq(&dpop.known.read(jwk).unwrap(), &dpop.known.read(jwk).unwrap())
    }

    #[test]
    fn a_key_is_remembered_when_its_proof_is_used_up_and_not_before() {
        let (dpop, key) = (Dpop::new(&NonceKey(Zeroizing::new([7; 32]))), DpopKey::generate().unwrap());
        let (text, jwk) = proof(&dpop, &key);
        let held = dpop.verify(&text, &what(), now()).unwrap();
        assert!(!is_remembered(&dpop, &jwk), "a stranger's proof holds too");
        dpop.use_up(&held, now()).unwrap();
        assert!(is_remembered(&dpop, &jwk));
    }

    #[test]
    fn a_known_key_vouches_for_nothing_that_it_did_not_sign() {
        let (dpop, key) = (Dpop::new(&NonceKey(Zeroizing::new([7; 32]))), DpopKey::generate().unwrap());
        dpop.use_up(&dpop.verify(&proof(&dpop, &key).0, &what(), now()).unwrap(), now()).unwrap();
        let ((one, jwk), (other, _)) = (proof(&dpop, &key), proof(&dpop, &key));
        assert!(is_remembered(&dpop, &jwk));
        let (signed, _) = one.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        let forged = dpop.verify(&format!("{signed}.{signature}"), &what(), now());
        assert_eq!(forged.unwrap_err(), ProofError::Signature);
        dpop.verify(&one, &what(), now()).unwrap();
    }
}
