//! Proof of possession (RFC 9449) as both sides must agree on it, without the signing.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The only algorithm: ES256, so that a hardware key can take over later.
pub const ALGORITHM: &str = "ES256";

/// The `typ` header of a proof (RFC 9449 §4.2).
pub const TYPE: &str = "dpop+jwt";

/// A P-256 public key as a JSON Web Key. Only these members are allowed: a proof with a private member is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicJwk {
    /// Always `EC`.
    pub kty: String,
    /// Always `P-256`.
    pub crv: String,
    /// The x coordinate, 32 bytes, base64url without padding.
    pub x: String,
    /// The y coordinate, 32 bytes, base64url without padding.
    pub y: String,
}

/// The header of a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofHeader {
    /// Always [`TYPE`].
    pub typ: String,
    /// Always [`ALGORITHM`].
    pub alg: String,
    /// The public key that verifies the proof.
    pub jwk: PublicJwk,
}

/// The claims of a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofClaims {
    /// Unique per proof; the broker remembers it while the proof could be accepted.
    pub jti: String,
    /// The HTTP method, upper case.
    pub htm: String,
    /// The request's URL without query and fragment, under the broker's configured `public_url`.
    pub htu: String,
    /// Seconds since the epoch.
    pub iat: i64,
    /// SHA-256 of the access token, base64url without padding (RFC 9449 §4.2). Absent only at the token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ath: Option<String>,
    /// The broker's last `DPoP-Nonce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// SHA-256 of the request's body, base64url without padding. Required on requests that change state, so that a
    /// replayed proof can at most repeat the very same request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
}

impl PublicJwk {
    /// A P-256 key from its coordinates, 32 bytes each.
    #[must_use]
    pub fn p256(x: &[u8; 32], y: &[u8; 32]) -> Self {
        Self { kty: "EC".into(), crv: "P-256".into(), x: BASE64URL_NOPAD.encode(x), y: BASE64URL_NOPAD.encode(y) }
    }

    /// The key's thumbprint (RFC 7638): SHA-256 over the required members in lexical order, base64url without padding.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let canonical = serde_json::json!({ "crv": self.crv, "kty": self.kty, "x": self.x, "y": self.y });
        sha256_base64url(canonical.to_string().as_bytes())
    }
}

/// SHA-256 as base64url without padding: the form of `ath`, `body_sha256` and thumbprints.
#[must_use]
pub fn sha256_base64url(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(bytes))
}

/// How many login numbers there are: 16 decimal digits, 53 bits.
///
/// Whoever makes a person log in at a broker of theirs learns that terminal's thumbprint, and can make keys until one of
/// theirs has the same number; that key would then be shown as the terminal's at the real broker. Graphics cards make some
/// 10⁸ P-256 keys a second, and a login waits 600 s: 6·10¹⁰ keys for 10¹⁶ numbers, a chance of 6 in a million. Six digits
/// took seconds. A store of keys made beforehand helps as little: with 10¹² of them the chance is 1 in 10 000.
const LOGIN_NUMBERS: u64 = 10_000_000_000_000_000;

/// The number that the terminal prints and the confirmation page shows, as `1234 5678 9012 3456`: derived from the
/// thumbprint of the key that the login will be bound to, so that a person sees whether the page belongs to *their*
/// terminal.
#[must_use]
pub fn login_number(thumbprint: &str) -> String {
    let digest = Sha256::new().chain_update(b"ichor login number\0").chain_update(thumbprint.as_bytes()).finalize();
    let number = digest.iter().take(8).fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte)) % LOGIN_NUMBERS;
    let group = |divisor: u64| number / divisor % 10_000;
    format!("{:04} {:04} {:04} {:04}", group(1_000_000_000_000), group(100_000_000), group(10_000), group(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_uses_lexical_order_and_required_members_only() {
        let key = PublicJwk::p256(&[1; 32], &[2; 32]);
        let expected = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, key.x, key.y);
        assert_eq!(key.thumbprint(), sha256_base64url(expected.as_bytes()));
    }

    #[test]
    fn a_private_key_is_not_a_public_key() {
        assert!(serde_json::from_str::<PublicJwk>(r#"{"kty":"EC","crv":"P-256","x":"a","y":"b","d":"c"}"#).is_err());
    }

    #[test]
    fn the_login_number_has_sixteen_digits_in_groups_of_four_and_every_one_of_them_varies() {
        let mut seen = vec![std::collections::HashSet::new(); 19];
        for key in 0..200 {
            let number = login_number(&format!("thumbprint {key}"));
            let groups: Vec<&str> = number.split(' ').collect();
            assert_eq!(groups.len(), 4, "{number}");
            assert!(
                groups.iter().all(|group| group.len() == 4 && group.bytes().all(|c| c.is_ascii_digit())),
                "{number}"
            );
            for (place, digit) in number.bytes().enumerate() {
                seen[place].insert(digit);
            }
        }
        let digits = seen.iter().filter(|digits| digits.len() == 10).count();
        assert_eq!(digits, 16, "a digit that does not vary guards nothing");
    }
}
