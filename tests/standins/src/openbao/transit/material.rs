//! One key version's secret, and what can be done with it.

use anyhow::{Context as _, bail};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use crate::{authority, random};

/// A type of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ed25519,
    P256,
    P384,
    Rsa2048,
    Rsa3072,
    Rsa4096,
    Aes256,
}

pub(super) enum Material {
    Ed25519(Box<Ed25519KeyPair>),
    /// PKCS#8, because the pair is bound to one form of signature.
    Ec(Kind, Vec<u8>),
    Rsa(Box<RsaKeyPair>),
    Aes([u8; 32]),
}

/// How a signature is wanted.
pub(super) struct Form<'a> {
    pub(super) hash: &'a str,
    pub(super) pkcs1: bool,
    pub(super) jws: bool,
}

// === impl Kind ===

impl Kind {
    pub(super) const ALL: [(&str, Self); 7] = [
        ("ed25519", Self::Ed25519),
        ("ecdsa-p256", Self::P256),
        ("ecdsa-p384", Self::P384),
        ("rsa-2048", Self::Rsa2048),
        ("rsa-3072", Self::Rsa3072),
        ("rsa-4096", Self::Rsa4096),
        ("aes256-gcm96", Self::Aes256),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// What the `name` of a version says: the curve's for elliptic curves.
    pub(super) fn version_name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            other => other.name(),
        }
    }

    pub(super) fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }

    pub(super) fn signs(self) -> bool {
        self != Self::Aes256
    }

    pub(super) fn encrypts(self) -> bool {
        self == Self::Aes256 || self.is_rsa()
    }

    fn ec(self, jws: bool) -> anyhow::Result<&'static EcdsaSigningAlgorithm> {
        match (self, jws) {
            (Self::P256, false) => Ok(&ECDSA_P256_SHA256_ASN1_SIGNING),
            (Self::P256, true) => Ok(&ECDSA_P256_SHA256_FIXED_SIGNING),
            (Self::P384, false) => Ok(&ECDSA_P384_SHA384_ASN1_SIGNING),
            (Self::P384, true) => Ok(&ECDSA_P384_SHA384_FIXED_SIGNING),
            _ => bail!("not a key on a curve"),
        }
    }
}

// === impl Material ===

impl Material {
    pub(super) fn generate(kind: Kind) -> anyhow::Result<Self> {
        let rsa = |size| RsaKeyPair::generate(size).map(|pair| Self::Rsa(Box::new(pair))).ok();
        let made = match kind {
            Kind::Ed25519 => Ed25519KeyPair::generate().map(|pair| Self::Ed25519(Box::new(pair))).ok(),
            Kind::P256 | Kind::P384 => EcdsaKeyPair::generate_pkcs8(kind.ec(false)?, &SystemRandom::new())
                .map(|pkcs8| Self::Ec(kind, pkcs8.as_ref().to_vec()))
                .ok(),
            Kind::Rsa2048 => rsa(KeySize::Rsa2048),
            Kind::Rsa3072 => rsa(KeySize::Rsa3072),
            Kind::Rsa4096 => rsa(KeySize::Rsa4096),
            Kind::Aes256 => Some(Self::Aes(random::bytes()?)),
        };
        made.context("the system gave no key")
    }

    /// The key of that kind in `content`: PKCS#8, or 32 octets for AES.
    pub(super) fn import(kind: Kind, content: &[u8]) -> anyhow::Result<Self> {
        let read = match kind {
            Kind::Ed25519 => {
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(content).map(|pair| Self::Ed25519(Box::new(pair))).ok()
            }
            Kind::P256 | Kind::P384 => {
                EcdsaKeyPair::from_pkcs8(kind.ec(false)?, content).map(|_| Self::Ec(kind, content.to_vec())).ok()
            }
            Kind::Aes256 => content.try_into().map(Self::Aes).ok(),
            _ => RsaKeyPair::from_pkcs8(content).map(|pair| Self::Rsa(Box::new(pair))).ok(),
        };
        read.with_context(|| format!("not a private key of type {}", kind.name()))
    }

    /// As `public_key` tells it: base64 of 32 octets for Ed25519, PEM of a SubjectPublicKeyInfo for the others, nothing for AES.
    pub(super) fn public(&self) -> anyhow::Result<Option<String>> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Ed25519(pair) => return Ok(Some(BASE64_STANDARD.encode(pair.public_key().as_ref()))),
            Self::Ec(kind, pkcs8) => ec(*kind, pkcs8, false)?.public_key().as_der()?,
            Self::Rsa(pair) => pair.public_key().as_der()?,
            Self::Aes(_) => return Ok(None),
        };
        Ok(Some(authority::pem("PUBLIC KEY", der.as_ref())))
    }

    /// The signature over `message`, encoded as it stands behind `vault:v1:`.
    pub(super) fn sign(&self, message: &[u8], form: &Form<'_>) -> anyhow::Result<String> {
        let random = SystemRandom::new();
        let signature = match self {
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Ec(kind, pkcs8) => {
                if !matches!((kind, form.hash), (Kind::P256, "sha2-256") | (Kind::P384, "sha2-384")) {
                    bail!("the stand-in signs with {} only over a hash of its curve's size", kind.name());
                }
                ec(*kind, pkcs8, form.jws)?.sign(&random, message)?.as_ref().to_vec()
            }
            Self::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(form)?, &random, message, &mut out)?;
                out
            }
            Self::Aes(_) => bail!("a key that does not sign"),
        };
        Ok(if form.jws { BASE64_URL_SAFE_NO_PAD.encode(signature) } else { BASE64_STANDARD.encode(signature) })
    }

    /// Nonce, ciphertext and tag, as they stand behind `vault:v1:`.
    pub(super) fn encrypt(&self, plaintext: &[u8], associated: &[u8]) -> anyhow::Result<Vec<u8>> {
        let nonce = random::bytes::<NONCE_LEN>()?;
        let mut sealed = plaintext.to_vec();
        let tag_added = self.aes()?;
        tag_added.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated), &mut sealed)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    pub(super) fn decrypt(&self, sealed: &[u8], associated: &[u8]) -> anyhow::Result<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).context("invalid ciphertext length")?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce)?;
        let opened = self.aes()?.open_in_place(nonce, Aad::from(associated), &mut sealed);
        Ok(opened.ok().context("cipher: message authentication failed")?.to_vec())
    }

    fn aes(&self) -> anyhow::Result<LessSafeKey> {
        let Self::Aes(key) = self else { bail!("the stand-in seals with aes256-gcm96 only") };
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?))
    }
}

fn ec(kind: Kind, pkcs8: &[u8], jws: bool) -> anyhow::Result<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(kind.ec(jws)?, pkcs8).ok().context("the key cannot be read")
}

fn rsa_encoding(form: &Form<'_>) -> anyhow::Result<&'static dyn RsaEncoding> {
    Ok(match (form.pkcs1, form.hash) {
        (true, "sha2-256") => &RSA_PKCS1_SHA256,
        (true, "sha2-384") => &RSA_PKCS1_SHA384,
        (true, "sha2-512") => &RSA_PKCS1_SHA512,
        (false, "sha2-256") => &RSA_PSS_SHA256,
        (false, "sha2-384") => &RSA_PSS_SHA384,
        (false, "sha2-512") => &RSA_PSS_SHA512,
        (_, other) => bail!("the stand-in knows no RSA signature over {other}"),
    })
}
