//! CAs, keys and signatures for this folder's tests.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
};
use uuid::Uuid;

use super::{CaCertificate, Expected, Names, Profile, SignatureAlgorithm, Span, assemble, span, tbs};
use crate::role::Role;

/// A CA of any kind that the profile knows.
pub(super) struct Ca {
    pub(super) certificate: CaCertificate,
    key: rcgen::KeyPair,
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The time at which the tests issue; a fraction of a second, because real clocks have one.
pub(super) fn now() -> Timestamp {
    at("2026-11-22T12:00:00.75Z")
}

/// How CA certificates are usually made: as the dedicated CA.
pub(super) fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "ichor");
    params.distinguished_name.push(DnType::CommonName, "ichor client CA test");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![0xAB; 20]);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2031, 1, 1);
    params
}

pub(super) fn ca_pem(
    params: CertificateParams,
    algorithm: &'static rcgen::SignatureAlgorithm,
) -> (String, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    (params.self_signed(&key).unwrap().pem(), key)
}

impl Ca {
    pub(super) fn ed25519() -> Self {
        Self::of(&rcgen::PKCS_ED25519)
    }

    pub(super) fn of(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let (pem, key) = ca_pem(ca_params(), algorithm);
        Self { certificate: CaCertificate::parse(&pem).unwrap(), key }
    }

    /// Signs as the CA's key does, whatever the bytes are.
    pub(super) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let pkcs8 = self.key.serialized_der();
        let random = SystemRandom::new();
        match self.certificate.algorithm().signature_algorithm() {
            SignatureAlgorithm::Ed25519 => Ed25519KeyPair::from_pkcs8(pkcs8).unwrap().sign(bytes).as_ref().to_vec(),
            SignatureAlgorithm::EcdsaSha256 => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).unwrap();
                key.sign(&random, bytes).unwrap().as_ref().to_vec()
            }
            SignatureAlgorithm::EcdsaSha384 => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8).unwrap();
                key.sign(&random, bytes).unwrap().as_ref().to_vec()
            }
            SignatureAlgorithm::RsaSha256 => {
                let key = RsaKeyPair::from_pkcs8(pkcs8).unwrap();
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).unwrap();
                signature
            }
        }
    }

    pub(super) fn span(&self) -> Span {
        span(&self.certificate, now(), super::DEFAULT_BACKDATE, until()).unwrap()
    }

    pub(super) fn profile<'a>(&'a self, public_key: &'a [u8]) -> Profile<'a> {
        Profile {
            ca: &self.certificate,
            serial: [0xFF; 16],
            public_key,
            roles: &ROLES,
            user: "alice@example.com",
            grant: GRANT.into(),
            span: self.span(),
        }
    }

    pub(super) fn issue(&self, profile: &Profile<'_>) -> Vec<u8> {
        self.finish(&tbs(profile).unwrap())
    }

    pub(super) fn finish(&self, tbs: &[u8]) -> Vec<u8> {
        assemble(tbs, self.certificate.algorithm().signature_algorithm(), &self.sign(tbs)).unwrap()
    }
}

pub(super) const ROLES: [Role; 2] = [Role::Reader, Role::EtcdBackup];
pub(super) const GRANT: Uuid = Uuid::from_u128(0x0193_5a2b_7c4d_7e8f_9011_2233_4455_6677);

pub(super) fn until() -> Timestamp {
    at("2026-11-22T13:00:00.5Z")
}

pub(super) fn expected(public_key: &[u8]) -> Expected<'_> {
    let names = Names::Whole { user: "alice@example.com", grant: GRANT.into() };
    Expected { public_key, roles: &ROLES, names, until: until(), now: now() }
}

/// An Ed25519 public key, SubjectPublicKeyInfo.
pub(super) fn public_key() -> Vec<u8> {
    let key = Ed25519KeyPair::generate().unwrap();
    key.public_key().as_der().unwrap().as_ref().to_vec()
}
