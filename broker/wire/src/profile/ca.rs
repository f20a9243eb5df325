//! A CA certificate that may sign client certificates.

use data_encoding::BASE64;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::key::{KeyAlgorithm, KeyError};
use super::pem::{self, PemError};

/// The largest CA certificate, PEM, in bytes.
const MAX_CA: usize = 64 * 1024;

/// A CA certificate whose form allows it to issue client certificates. Whether it is valid *now* is [`Self::check_time`]'s.
#[derive(Clone, PartialEq, Eq)]
pub struct CaCertificate {
    pub(super) der: Vec<u8>,
    pub(super) subject_der: Vec<u8>,
    pub(super) spki: Vec<u8>,
    pub(super) algorithm: KeyAlgorithm,
    pub(super) key_id: Option<Vec<u8>>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    subject: String,
}

/// Why a certificate cannot issue client certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// Not PEM.
    #[error("the CA certificate is not PEM: {0}")]
    Pem(#[from] PemError),
    /// Not exactly one certificate.
    #[error("there must be exactly one PEM block labelled `CERTIFICATE`; there are {0}")]
    Count(usize),
    /// Larger than 64 KiB.
    #[error("the CA certificate has {0} bytes; at most 65536 are allowed")]
    TooLarge(usize),
    /// Not the DER of an X.509 version 3 certificate.
    #[error("the CA certificate is malformed")]
    Malformed,
    /// Basic constraints are missing or say no.
    #[error("the certificate is not a CA (basic constraints do not say CA:TRUE)")]
    NotACa,
    /// Key usage leaves out keyCertSign.
    #[error("the CA's key usage does not allow it to sign certificates")]
    KeyUsage,
    /// Extended key usage leaves out clientAuth: nodes would refuse every client certificate under it.
    #[error("the CA's extended key usage does not allow client certificates (clientAuth)")]
    ExtendedKeyUsage,
    /// A critical extension that we do not know, by its object identifier.
    #[error("the CA has a critical extension that is not supported: {0}")]
    UnknownCritical(String),
    /// The subject is empty, so nothing could name it as issuer.
    #[error("the CA certificate has no subject")]
    NoSubject,
    /// The key is of a kind or size that is not used.
    #[error("the CA's key: {0}")]
    Key(#[from] KeyError),
    /// It names itself as issuer but did not sign itself.
    #[error("the CA certificate's own signature is wrong")]
    SelfSignature,
    /// Its time has not come.
    #[error("the CA certificate is not valid before {0}")]
    NotYetValid(Timestamp),
    /// Its time is over.
    #[error("the CA certificate expired at {0}")]
    Expired(Timestamp),
}

// === impl CaCertificate ===

impl CaCertificate {
    /// Reads the PEM of exactly one certificate and checks its form; a private key beside it is not accepted.
    ///
    /// # Errors
    /// When it cannot issue client certificates, each reason by its name.
    pub fn parse(text: &str) -> Result<Self, CaError> {
        if text.len() > MAX_CA {
            return Err(CaError::TooLarge(text.len()));
        }
        let blocks = pem::blocks(text)?;
        match blocks.as_slice() {
            [block] if block.label == "CERTIFICATE" => Self::from_der(&block.der),
            _ => Err(CaError::Count(blocks.iter().filter(|b| b.label == "CERTIFICATE").count())),
        }
    }

    /// As [`Self::parse`], from DER.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_der(der: &[u8]) -> Result<Self, CaError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CaError::Malformed)?;
        if !rest.is_empty() || certificate.version() != X509Version::V3 {
            return Err(CaError::Malformed);
        }
        let (mut is_ca, mut key_id) = (false, None);
        let mut seen = Vec::new();
        for extension in certificate.extensions() {
            if seen.contains(&&extension.oid) {
                return Err(CaError::Malformed);
            }
            seen.push(&extension.oid);
            match extension.parsed_extension() {
                ParsedExtension::ParseError { .. } => return Err(CaError::Malformed),
                // Any path length will do: what we issue is always an end entity.
                ParsedExtension::BasicConstraints(constraints) => is_ca = constraints.ca,
                ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign() => return Err(CaError::KeyUsage),
                ParsedExtension::ExtendedKeyUsage(usage) if !(usage.client_auth || usage.any) => {
                    return Err(CaError::ExtendedKeyUsage);
                }
                ParsedExtension::KeyUsage(_) | ParsedExtension::ExtendedKeyUsage(_) => {}
                ParsedExtension::SubjectKeyIdentifier(id) => key_id = Some(id.0.to_vec()),
                _ if extension.critical => return Err(CaError::UnknownCritical(extension.oid.to_id_string())),
                _ => {}
            }
        }
        if !is_ca {
            return Err(CaError::NotACa);
        }
        if certificate.subject().iter_attributes().next().is_none() {
            return Err(CaError::NoSubject);
        }
        let spki = certificate.public_key().raw;
        let algorithm = KeyAlgorithm::of_ca(spki)?;
        let self_issued = certificate.subject().as_raw() == certificate.issuer().as_raw();
        if self_issued && certificate.verify_signature(None).is_err() {
            return Err(CaError::SelfSignature);
        }
        let time = |at: i64| Timestamp::from_second(at).map_err(|_| CaError::Malformed);
        Ok(Self {
            subject_der: certificate.subject().as_raw().to_vec(),
            spki: spki.to_vec(),
            algorithm,
            key_id,
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            subject: certificate.subject().to_string(),
            der: der.to_vec(),
        })
    }

    /// Whether it is valid at `now`.
    ///
    /// # Errors
    /// When it is not valid yet, or not any more.
    pub fn check_time(&self, now: Timestamp) -> Result<(), CaError> {
        if now < self.not_before {
            return Err(CaError::NotYetValid(self.not_before));
        }
        if now >= self.not_after {
            return Err(CaError::Expired(self.not_after));
        }
        Ok(())
    }

    /// The certificate, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der).to_string()
    }

    /// What makes nodes accept client certificates of this CA: a machine config patch that adds it to
    /// `machine.acceptedCAs`. Talos merges lists by appending, so applied twice it lists the CA twice.
    #[must_use]
    pub fn accepting_patch(&self) -> String {
        format!("machine:\n  acceptedCAs:\n    - crt: {}\n", self.accepted_crt())
    }

    /// The value of `crt` in the entry of `machine.acceptedCAs` by which a node accepts this CA.
    #[must_use]
    pub fn accepted_crt(&self) -> String {
        BASE64.encode(self.pem().as_bytes())
    }

    /// The subject, for people to read.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The subject, DER: as TLS names an accepted CA.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// The public key: SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.spki
    }

    /// The key's kind, and with it how the CA signs.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The subject key identifier, where the CA has one. Talos makes it at random, so it cannot be computed.
    #[must_use]
    pub fn key_id(&self) -> Option<&[u8]> {
        self.key_id.as_deref()
    }

    /// The CA's start.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The CA's end.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// SHA-256 of the DER.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn key_fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.spki).into()
    }
}

impl std::fmt::Debug for CaCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaCertificate").field("subject", &self.subject).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

    use super::super::fixtures::{at, ca_params, ca_pem};
    use super::*;

    fn parsed(change: impl FnOnce(&mut CertificateParams)) -> Result<CaCertificate, CaError> {
        let mut params = ca_params();
        change(&mut params);
        CaCertificate::parse(&ca_pem(params, &rcgen::PKCS_ED25519).0)
    }

    #[test]
    fn reads_a_good_one() {
        let ca = parsed(|_| ()).unwrap();
        assert_eq!(ca.key_id(), Some([0xAB; 20].as_slice()));
        assert_eq!(ca.algorithm(), KeyAlgorithm::Ed25519);
        assert_eq!(ca.not_after(), at("2031-01-01T00:00:00Z"));
        assert_eq!(CaCertificate::parse(&ca.pem()).as_ref(), Ok(&ca));
        assert!(ca.subject().contains("ichor client CA test"));
        // As Talos makes its own: no extended key usage but server and client.
        assert!(parsed(|p| p.extended_key_usages = vec![]).is_ok());
        assert!(parsed(|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth)).is_ok());
        assert!(parsed(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).is_ok());
    }

    #[test]
    fn refuses_each_by_name() {
        assert_eq!(parsed(|p| p.is_ca = IsCa::ExplicitNoCa), Err(CaError::NotACa));
        assert_eq!(parsed(|p| p.is_ca = IsCa::NoCa), Err(CaError::NotACa));
        assert_eq!(parsed(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]), Err(CaError::KeyUsage));
        assert_eq!(
            parsed(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            Err(CaError::ExtendedKeyUsage)
        );
        assert_eq!(
            parsed(|p| {
                let mut unknown = rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
                unknown.set_criticality(true);
                p.custom_extensions = vec![unknown];
            }),
            Err(CaError::UnknownCritical("1.2.3".into()))
        );
        assert_eq!(parsed(|p| p.distinguished_name = rcgen::DistinguishedName::new()), Err(CaError::NoSubject));
        assert_eq!(CaCertificate::parse("nothing"), Err(CaError::Count(0)));
        let pem = parsed(|_| ()).unwrap().pem();
        assert_eq!(CaCertificate::parse(&format!("{pem}{pem}")), Err(CaError::Count(2)));
        assert!(CaCertificate::parse(&pem.replace("CERTIFICATE", "ED25519 PRIVATE KEY")).is_err());
    }

    #[test]
    fn a_wrong_self_signature_is_found() {
        let mut der = parsed(|_| ()).unwrap().der().to_vec();
        *der.last_mut().unwrap() ^= 1;
        assert_eq!(CaCertificate::from_der(&der), Err(CaError::SelfSignature));
    }

    #[test]
    fn knows_its_time() {
        let ca = parsed(|_| ()).unwrap();
        assert_eq!(ca.check_time(at("2026-01-01T00:00:00Z")), Ok(()));
        assert_eq!(ca.check_time(at("2025-12-31T23:59:59Z")), Err(CaError::NotYetValid(ca.not_before())));
        assert_eq!(ca.check_time(at("2031-01-01T00:00:00Z")), Err(CaError::Expired(ca.not_after())));
    }
}
