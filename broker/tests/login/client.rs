//! A client as the protocol describes it, written without the product's: so that a mistake is not made twice.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// A client's key, verifier and state.
pub(super) struct Client {
    key: EcdsaKeyPair,
    pub(super) verifier: String,
    pub(super) state: String,
}

/// A proof to be made: right in all, until something is changed.
pub(super) struct Proof {
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
}

impl Client {
    pub(super) fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { key, verifier: random(), state: random() }
    }

    pub(super) fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (BASE64URL_NOPAD.encode(&point[1..33]), BASE64URL_NOPAD.encode(&point[33..65]));
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
    }

    pub(super) fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        digest(format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]).as_bytes())
    }

    pub(super) fn challenge(&self) -> String {
        digest(self.verifier.as_bytes())
    }

    /// A proof for one request.
    pub(super) fn proof(&self, method: &str, url: &str, now: Timestamp, nonce: &str) -> Proof {
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk() });
        let claims = json!({ "jti": random(), "htm": method, "htu": url, "iat": now.as_second(), "nonce": nonce });
        let object = |value: Value| value.as_object().cloned().unwrap();
        Proof { header: object(header), claims: object(claims) }
    }

    pub(super) fn sign(&self, proof: &Proof) -> String {
        let encode = |map: &Map<String, Value>| BASE64URL_NOPAD.encode(&serde_json::to_vec(map).unwrap());
        let signed = format!("{}.{}", encode(&proof.header), encode(&proof.claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

impl Proof {
    pub(super) fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(claim.into(), value.into());
        self
    }

    pub(super) fn without(mut self, claim: &str) -> Self {
        self.claims.remove(claim);
        self
    }

    pub(super) fn token(self, token: &str) -> Self {
        let ath = digest(token.as_bytes());
        self.with("ath", ath)
    }

    pub(super) fn body(self, body: &[u8]) -> Self {
        let told = digest(body);
        self.with("body_sha256", told)
    }
}

pub(super) fn digest(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(bytes))
}

pub(super) fn random() -> String {
    ichor_broker::entropy::secret().unwrap().to_string()
}
