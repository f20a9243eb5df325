//! Public keys and signature algorithms that the profile knows.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1,
    SHA_256_WITH_RSA_ENCRYPTION,
};
use const_oid::db::rfc8410::ID_ED_25519;
use der::asn1::{AnyRef, UintRef};
use der::{Decode, Encode, Sequence};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

/// The largest RSA key of a person, in bits: what a laptop makes; larger ones only cost the broker and the nodes time.
pub(super) const MAX_LEAF_RSA: u32 = 4096;

/// The largest RSA key of a CA, in bits: what the verifier can check.
pub(super) const MAX_CA_RSA: u32 = 8192;

/// A public key's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA with a modulus of so many bits.
    Rsa {
        /// The modulus' length in bits.
        bits: u32,
    },
}

/// How a CA signs: it follows from its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// ECDSA with SHA-256, for P-256 (RFC 5758).
    EcdsaSha256,
    /// ECDSA with SHA-384, for P-384 (RFC 5758).
    EcdsaSha384,
    /// RSA PKCS#1 v1.5 with SHA-256 (RFC 8017).
    RsaSha256,
}

/// Why a public key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not the DER of a public key, or not the one canonical encoding.
    #[error("the public key is malformed")]
    Malformed,
    /// Another kind of key.
    #[error("this kind of key is not supported; use Ed25519, P-256, P-384 or RSA with at least 2048 bits")]
    Unsupported,
    /// An Ed25519 key of small order, for which a signature proves nothing, or one that is not encoded canonically.
    #[error("the Ed25519 key is none that a generator makes; make a new one")]
    Ed25519Point,
    /// An RSA key too short to be safe.
    #[error("the RSA key has {bits} bits; at least 2048 are needed")]
    WeakRsa {
        /// The modulus' length.
        bits: u32,
    },
    /// An RSA key too long to be worth its time.
    #[error("the RSA key has {bits} bits; at most {max} are allowed")]
    LargeRsa {
        /// The modulus' length.
        bits: u32,
        /// The limit.
        max: u32,
    },
    /// An exponent that is even, below 65537, or more than Go's crypto/x509 reads (31 bits).
    #[error("the RSA key's exponent is not usable; 65537 is the usual one")]
    RsaExponent,
}

/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410 §4).
pub const ED25519_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The 32 bytes of an Ed25519 key, of its SubjectPublicKeyInfo (DER); `None` of any other.
#[must_use]
pub fn ed25519_key(spki: &[u8]) -> Option<[u8; 32]> {
    spki.strip_prefix(&ED25519_HEAD)?.try_into().ok()
}

/// RFC 8017 A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

// === impl KeyAlgorithm ===

impl KeyAlgorithm {
    /// The kind of a person's key, from its SubjectPublicKeyInfo (DER).
    ///
    /// # Errors
    /// When it is malformed, of another kind, or an RSA key outside 2048–4096 bits or with a strange exponent.
    pub fn of_leaf(spki: &[u8]) -> Result<Self, KeyError> {
        Self::of(spki, MAX_LEAF_RSA)
    }

    /// The kind of a CA's key, from its SubjectPublicKeyInfo (DER).
    ///
    /// # Errors
    /// As [`Self::of_leaf`], with RSA up to 8192 bits.
    pub fn of_ca(spki: &[u8]) -> Result<Self, KeyError> {
        Self::of(spki, MAX_CA_RSA)
    }

    fn of(spki: &[u8], max_rsa: u32) -> Result<Self, KeyError> {
        let parsed = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| KeyError::Malformed)?;
        if parsed.to_der().ok().as_deref() != Some(spki) {
            return Err(KeyError::Malformed);
        }
        let key = parsed.subject_public_key.as_bytes().ok_or(KeyError::Malformed)?;
        let parameters = parsed.algorithm.parameters;
        match parsed.algorithm.oid {
            ID_ED_25519 if parameters.is_some() || key.len() != 32 => Err(KeyError::Malformed),
            ID_ED_25519 if !is_sound_point(key) => Err(KeyError::Ed25519Point),
            ID_ED_25519 => Ok(Self::Ed25519),
            ID_EC_PUBLIC_KEY => {
                let curve: ObjectIdentifier =
                    parameters.and_then(|p| p.decode_as().ok()).ok_or(KeyError::Unsupported)?;
                let (kind, coordinate) = match curve {
                    SECP_256_R_1 => (Self::P256, 32),
                    SECP_384_R_1 => (Self::P384, 48),
                    _ => return Err(KeyError::Unsupported),
                };
                // Uncompressed points only: Go's crypto/x509 reads no others.
                let whole = key.first() == Some(&4) && key.len() == 1 + 2 * coordinate;
                if whole { Ok(kind) } else { Err(KeyError::Malformed) }
            }
            RSA_ENCRYPTION if parameters == Some(AnyRef::NULL) => rsa(key, max_rsa),
            RSA_ENCRYPTION => Err(KeyError::Malformed),
            _ => Err(KeyError::Unsupported),
        }
    }

    /// How a CA with this key signs.
    #[must_use]
    pub const fn signature_algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::Ed25519 => SignatureAlgorithm::Ed25519,
            Self::P256 => SignatureAlgorithm::EcdsaSha256,
            Self::P384 => SignatureAlgorithm::EcdsaSha384,
            Self::Rsa { .. } => SignatureAlgorithm::RsaSha256,
        }
    }
}

impl std::fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::Rsa { bits } => write!(f, "RSA {bits}"),
        }
    }
}

// === impl SignatureAlgorithm ===

impl SignatureAlgorithm {
    /// The algorithm's object identifier.
    #[must_use]
    pub const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Ed25519 => ID_ED_25519,
            Self::EcdsaSha256 => ECDSA_WITH_SHA_256,
            Self::EcdsaSha384 => ECDSA_WITH_SHA_384,
            Self::RsaSha256 => SHA_256_WITH_RSA_ENCRYPTION,
        }
    }

    /// The identifier as it stands in a certificate: RSA has NULL parameters (RFC 4055 §5), the others none.
    pub(super) const fn identifier(self) -> AlgorithmIdentifierRef<'static> {
        let parameters = match self {
            Self::RsaSha256 => Some(AnyRef::NULL),
            Self::Ed25519 | Self::EcdsaSha256 | Self::EcdsaSha384 => None,
        };
        AlgorithmIdentifierRef { oid: self.oid(), parameters }
    }
}

/// The y coordinates of the points of order 8 on the curve of RFC 8032 §5.1, little-endian: twice such a point has y = 0, so
/// x = ±√(−1)·y, and the curve's equation leaves two values of y.
const ORDER_8: [[u8; 32]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Whether 32 bytes may be a person's Ed25519 point. The cofactor is 8, so eight points have a small order (1, 2, 4 or 8):
/// y is 1, −1, 0 or one of [`ORDER_8`] (RFC 8032 §5.1; RFC 7748 §7 says why such a point must be thought of). For them a
/// signature can be made without a private key. A y of p = 2²⁵⁵ − 19 or more is another encoding of a smaller one, which
/// RFC 8032 §5.1.3 refuses. The top bit, the sign of x, is set aside: with x = 0 it would be another non-canonical encoding
/// of y = 1 and −1.
fn is_sound_point(key: &[u8]) -> bool {
    let Ok(mut y) = <[u8; 32]>::try_from(key) else { return false };
    if let Some(top) = y.last_mut() {
        *top &= 0x7f;
    }
    let (Some((&low, rest)), Some((&high, _))) = (y.split_first(), y.split_last()) else { return false };
    let middle = rest.get(..30).unwrap_or_default();
    // −1 is p − 1, whose lowest byte is 0xec: with all else set, that and everything above is refused
    let at_the_end = low >= 0xec && high == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    let at_the_start = low <= 1 && rest.iter().all(|byte| *byte == 0);
    !at_the_end && !at_the_start && !ORDER_8.contains(&y)
}

fn rsa(key: &[u8], max: u32) -> Result<KeyAlgorithm, KeyError> {
    let key = RsaPublicKey::from_der(key).map_err(|_| KeyError::Malformed)?;
    let modulus = key.modulus.as_bytes();
    let (Some(first), Some(last)) = (modulus.first(), modulus.last()) else { return Err(KeyError::Malformed) };
    let bytes = u32::try_from(modulus.len()).map_err(|_| KeyError::Malformed)?;
    let bits = bytes.saturating_mul(8).saturating_sub(first.leading_zeros());
    if bits < 2048 {
        return Err(KeyError::WeakRsa { bits });
    }
    if bits > max {
        return Err(KeyError::LargeRsa { bits, max });
    }
    if last % 2 == 0 {
        return Err(KeyError::Malformed);
    }
    let exponent = key.exponent.as_bytes();
    let value = exponent.iter().take(5).fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    if exponent.len() > 4 || value % 2 == 0 || !(65537..=0x7fff_ffff).contains(&value) {
        return Err(KeyError::RsaExponent);
    }
    Ok(KeyAlgorithm::Rsa { bits })
}

#[cfg(test)]
mod tests {
    use der::asn1::BitStringRef;

    use super::*;

    /// A key with these numbers, whoever may have the private one.
    fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let key = RsaPublicKey { modulus: UintRef::new(modulus).unwrap(), exponent: UintRef::new(exponent).unwrap() };
        let key = key.to_der().unwrap();
        let algorithm = AlgorithmIdentifierRef { oid: RSA_ENCRYPTION, parameters: Some(AnyRef::NULL) };
        let spki = SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(&key).unwrap() };
        spki.to_der().unwrap()
    }

    #[test]
    fn rsa_has_bounds() {
        const F4: &[u8] = &[1, 0, 1];
        let of = |bytes: usize, exponent: &[u8]| KeyAlgorithm::of_leaf(&rsa_key(&vec![0xFF; bytes], exponent));
        assert_eq!(of(256, F4), Ok(KeyAlgorithm::Rsa { bits: 2048 }));
        assert_eq!(of(512, F4), Ok(KeyAlgorithm::Rsa { bits: 4096 }));
        assert_eq!(of(128, F4), Err(KeyError::WeakRsa { bits: 1024 }));
        assert_eq!(of(513, F4), Err(KeyError::LargeRsa { bits: 4104, max: 4096 }));
        for exponent in [&[3][..], &[1, 0, 0], &[0x80, 0, 0, 1], &[1, 0, 0, 0, 1]] {
            assert_eq!(of(256, exponent), Err(KeyError::RsaExponent), "{exponent:?}");
        }
        let mut short = vec![0xFF; 256];
        short[0] = 0x7F;
        assert_eq!(KeyAlgorithm::of_leaf(&rsa_key(&short, F4)), Err(KeyError::WeakRsa { bits: 2047 }));
        assert!(KeyAlgorithm::of_ca(&rsa_key(&[0xFF; 1024], F4)).is_ok());
    }

    fn ed25519_key(point: &[u8; 32]) -> Vec<u8> {
        let algorithm = AlgorithmIdentifierRef { oid: ID_ED_25519, parameters: None };
        let spki = SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(point).unwrap() };
        spki.to_der().unwrap()
    }

    /// All eight points of small order, then every encoding that is not canonical: y from p on, and a sign for x = 0.
    #[test]
    fn points_of_small_order_and_second_encodings_are_no_keys() {
        let mut refused: Vec<[u8; 32]> = Vec::new();
        let mut push = |mut y: [u8; 32]| {
            for sign in [0, 0x80] {
                y[31] = y[31] & 0x7f | sign;
                refused.push(y);
            }
        };
        let small = |low: u8| {
            let mut y = [0; 32];
            y[0] = low;
            y
        };
        let large = |low: u8| {
            let mut y = [0xff; 32];
            y[0] = low;
            y
        };
        // order 1, 4, 2, then 8
        [small(1), small(0), large(0xec)].into_iter().chain(ORDER_8).for_each(&mut push);
        (0xed..=0xff).map(large).for_each(&mut push);
        assert_eq!(refused.len(), 2 * (5 + 19));
        for point in refused {
            assert_eq!(KeyAlgorithm::of_leaf(&ed25519_key(&point)), Err(KeyError::Ed25519Point), "{point:02x?}");
            assert_eq!(KeyAlgorithm::of_ca(&ed25519_key(&point)), Err(KeyError::Ed25519Point), "{point:02x?}");
        }
        // their neighbours, and the base point (y = 4/5)
        let mut base = [0x66; 32];
        base[0] = 0x58;
        let mut beside = ORDER_8[0];
        beside[7] ^= 1;
        let mut high = large(0xff);
        high[12] = 0;
        for point in [small(2), small(3), large(0xeb), base, beside, high] {
            assert_eq!(KeyAlgorithm::of_leaf(&ed25519_key(&point)), Ok(KeyAlgorithm::Ed25519), "{point:02x?}");
        }
    }

    #[test]
    fn only_the_canonical_encoding_is_a_key() {
        let mut key = super::super::fixtures::public_key();
        assert_eq!(KeyAlgorithm::of_leaf(&key), Ok(KeyAlgorithm::Ed25519));
        key.push(0);
        assert_eq!(KeyAlgorithm::of_leaf(&key), Err(KeyError::Malformed));
    }
}
