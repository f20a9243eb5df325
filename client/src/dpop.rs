//! Our half of proof of possession (RFC 9449): a P-256 key, and a signed proof for each request.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use ichor_wire::dpop::{ALGORITHM, ProofClaims, ProofHeader, PublicJwk, TYPE, login_number, sha256_base64url};
use jiff::Timestamp;
use url::Url;
use zeroize::Zeroizing;

use crate::entropy;
use crate::error::Error;

/// The key that a session is bound to. It never leaves this machine.
pub struct DpopKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    jwk: PublicJwk,
}

/// What a proof is for.
#[derive(Clone, Copy, Debug)]
pub struct ProofOf<'a> {
    /// The HTTP method, upper case.
    pub method: &'a str,
    /// The request's URL; query and fragment are left out of the proof.
    pub url: &'a Url,
    /// The access token, except at the token endpoint.
    pub token: Option<&'a str>,
    /// The broker's last nonce.
    pub nonce: Option<&'a str>,
    /// The body's bytes, where the request changes state.
    pub body: Option<&'a [u8]>,
}

// === impl DpopKey ===

impl DpopKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system's generator fails.
    pub fn generate() -> Result<Self, Error> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Self::from_pkcs8(Zeroizing::new(pkcs8.map_err(|_| Error::Bug("no key could be made"))?.as_ref().to_vec()))
    }

    /// A kept key (PKCS#8, DER).
    ///
    /// # Errors
    /// When it is not a P-256 key.
    pub fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        let not_a_key = || Error::failed("the kept session's key cannot be read", "run `ichor login`");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map_err(|_| not_a_key())?;
        // An uncompressed point: 0x04, x, y (SEC 1 §2.3.3).
        let point = pair.public_key().as_ref().strip_prefix(&[4]).and_then(|point| point.split_first_chunk::<32>());
        let (x, y) = point.ok_or_else(not_a_key)?;
        let jwk = PublicJwk::p256(x, y.try_into().map_err(|_| not_a_key())?);
        Ok(Self { pair, pkcs8, jwk })
    }

    /// The private key, PKCS#8 DER, for keeping.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key's thumbprint (RFC 7638), as `dpop_jkt` carries it.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.jwk.thumbprint()
    }

    /// The number that the terminal prints and the confirmation page shows.
    #[must_use]
    pub fn login_number(&self) -> String {
        login_number(&self.thumbprint())
    }

    /// A signed proof, good for one request.
    ///
    /// # Errors
    /// When the system's generator fails.
    pub fn proof(&self, of: ProofOf<'_>, now: Timestamp) -> Result<String, Error> {
        let header = ProofHeader { typ: TYPE.into(), alg: ALGORITHM.into(), jwk: self.jwk.clone() };
        let mut htu = of.url.clone();
        htu.set_query(None);
        htu.set_fragment(None);
        let claims = ProofClaims {
            jti: entropy::secret()?.to_string(),
            htm: of.method.into(),
            htu: htu.into(),
            iat: now.as_second(),
            ath: of.token.map(|token| sha256_base64url(token.as_bytes())),
            nonce: of.nonce.map(Into::into),
            body_sha256: of.body.map(sha256_base64url),
        };
        let signed = format!("{}.{}", part(&header)?, part(&claims)?);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| Error::Bug("no signature could be made"))?;
        Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref())))
    }
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DpopKey").field(&self.thumbprint()).finish()
    }
}

fn part(value: &impl serde::Serialize) -> Result<String, Error> {
    let json = serde_json::to_vec(value).map_err(|_| Error::Bug("a proof is not JSON"))?;
    Ok(BASE64URL_NOPAD.encode(&json))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_proof_verifies_with_the_key_it_carries_and_says_what_it_is_for() {
        let key = DpopKey::generate().unwrap();
        let url: Url = "https://broker.example/v1/clusters/prod/certificates?x=1#y".parse().unwrap();
        let of = ProofOf { method: "POST", url: &url, token: Some("token"), nonce: Some("n"), body: Some(b"{}") };
        let proof = key.proof(of, Timestamp::from_second(1_800_000_000).unwrap()).unwrap();
        let parts: Vec<&str> = proof.split('.').collect();
        let json = |part: &str| {
            serde_json::from_slice::<serde_json::Value>(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
        };
        let header: ProofHeader = serde_json::from_value(json(parts[0])).unwrap();
        let claims: ProofClaims = serde_json::from_value(json(parts[1])).unwrap();
        let decode = |text: &String| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        let point = [&[4][..], &decode(&header.jwk.x), &decode(&header.jwk.y)].concat();
        let signature = BASE64URL_NOPAD.decode(parts[2].as_bytes()).unwrap();
        assert_eq!(signature.len(), 64);
        let signed = format!("{}.{}", parts[0], parts[1]);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).unwrap();
        assert_eq!(header.jwk.thumbprint(), key.thumbprint());
        assert_eq!(claims.htu, "https://broker.example/v1/clusters/prod/certificates");
        assert_eq!((claims.htm.as_str(), claims.iat, claims.nonce.as_deref()), ("POST", 1_800_000_000, Some("n")));
        assert_eq!(claims.ath, Some(sha256_base64url(b"token")));
        assert_eq!(claims.body_sha256, Some(sha256_base64url(b"{}")));
    }

    #[test]
    fn a_kept_key_is_the_same_key() {
        let key = DpopKey::generate().unwrap();
        let again = DpopKey::from_pkcs8(Zeroizing::new(key.pkcs8().to_vec())).unwrap();
        assert_eq!(again.thumbprint(), key.thumbprint());
        assert!(DpopKey::from_pkcs8(Zeroizing::new(vec![1, 2, 3])).is_err());
    }
}
