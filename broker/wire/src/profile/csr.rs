//! Certificate requests: the public key, and the proof that the sender has the private one. All else is ignored.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::key::{KeyAlgorithm, KeyError};
use super::pem::{self, PemError};

/// The largest request, PEM, in bytes (16 KiB): several times what an RSA 4096 request with a long subject needs.
pub const MAX_CSR: usize = 16 * 1024;

/// What is used of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsrKey {
    /// The key to certify: SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// Its kind.
    pub algorithm: KeyAlgorithm,
    /// The request as it came, DER, for whoever certifies and wants to see the proof too.
    pub der: Vec<u8>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// Larger than [`MAX_CSR`].
    #[error("the certificate request has {0} bytes; at most 16384 are allowed")]
    TooLarge(usize),
    /// Not PEM.
    #[error("the certificate request is not PEM: {0}")]
    Pem(#[from] PemError),
    /// Not exactly one block with the label of a request.
    #[error("send exactly one PEM block labelled `CERTIFICATE REQUEST`")]
    Label,
    /// Not the DER of a PKCS#10 request.
    #[error("the certificate request is malformed")]
    Malformed,
    /// A key that we do not certify.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signature does not prove that the sender has the private key.
    #[error("the certificate request's signature does not match its key")]
    Signature,
}

/// Reads a PKCS#10 request and proves that its sender has the private key. Names, extensions and attributes in it have no
/// effect whatever they say.
///
/// # Errors
/// When it is too large, malformed, of a kind of key that we do not certify, or not signed by that key.
pub fn read_csr(text: &str) -> Result<CsrKey, CsrError> {
    if text.len() > MAX_CSR {
        return Err(CsrError::TooLarge(text.len()));
    }
    let blocks = pem::blocks(text)?;
    let [block] = blocks.as_slice() else { return Err(CsrError::Label) };
    if !matches!(block.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err(CsrError::Label);
    }
    let (rest, request) = X509CertificationRequest::from_der(&block.der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let spki = request.certification_request_info.subject_pki.raw;
    let algorithm = KeyAlgorithm::of_leaf(spki)?;
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(CsrKey { spki: spki.to_vec(), algorithm, der: block.der.to_vec() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, RsaKeySize};

    use super::*;

    fn request(key: &KeyPair) -> String {
        CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn takes_the_four_kinds_of_keys() {
        let of = |algorithm| read_csr(&request(&KeyPair::generate_for(algorithm).unwrap())).unwrap().algorithm;
        assert_eq!(of(&rcgen::PKCS_ED25519), KeyAlgorithm::Ed25519);
        assert_eq!(of(&rcgen::PKCS_ECDSA_P256_SHA256), KeyAlgorithm::P256);
        assert_eq!(of(&rcgen::PKCS_ECDSA_P384_SHA384), KeyAlgorithm::P384);
        assert_eq!(of(&rcgen::PKCS_RSA_SHA256), KeyAlgorithm::Rsa { bits: 2048 });
        let large = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096).unwrap();
        assert_eq!(read_csr(&request(&large)).unwrap().algorithm, KeyAlgorithm::Rsa { bits: 4096 });
    }

    #[test]
    fn the_key_is_the_requests() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert_eq!(read_csr(&request(&key)).unwrap().spki, rcgen::PublicKeyData::subject_public_key_info(&key));
    }

    #[test]
    fn refuses_other_keys_and_forms() {
        let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        assert_eq!(read_csr(&request(&p521)), Err(CsrError::Key(KeyError::Unsupported)));
        let good = request(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
        assert_eq!(read_csr(&good.replace("CERTIFICATE REQUEST", "CERTIFICATE")), Err(CsrError::Label));
        assert_eq!(read_csr(&format!("{good}{good}")), Err(CsrError::Label));
        assert_eq!(read_csr(""), Err(CsrError::Label));
        assert_eq!(read_csr(&format!("{good}{}", " ".repeat(MAX_CSR))), Err(CsrError::TooLarge(MAX_CSR + good.len())));
        let mut der = pem::blocks(&good).unwrap().remove(0).der.to_vec();
        der.push(0);
        assert_eq!(read_csr(&pem::encode("CERTIFICATE REQUEST", &der)), Err(CsrError::Malformed));
    }

    #[test]
    fn the_sender_must_have_the_key() {
        let (own, victims) = (
            KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
            KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
        );
        // The victim's key, put into a request that another key signed.
        let mut der = pem::blocks(&request(&own)).unwrap().remove(0).der.to_vec();
        let position = der.windows(32).position(|w| w == own.public_key_raw()).unwrap();
        der[position..position + 32].copy_from_slice(victims.public_key_raw());
        assert_eq!(read_csr(&pem::encode("CERTIFICATE REQUEST", &der)), Err(CsrError::Signature));
    }

    proptest! {
        #[test]
        fn damaged_requests_never_panic(edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..8), cut in any::<u16>()) {
            let good = request(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap());
            let whole = pem::blocks(&good).unwrap().remove(0).der.to_vec();
            let mut der = whole.clone();
            for (position, value) in edits {
                let position = usize::from(position) % der.len();
                der[position] = value;
            }
            if cut % 4 == 0 {
                der.truncate(usize::from(cut) % whole.len());
            }
            // What is still accepted is still the same key, and nothing else of a request is used.
            if let Ok(key) = read_csr(&pem::encode("CERTIFICATE REQUEST", &der)) {
                prop_assert_eq!(key.spki, read_csr(&good).unwrap().spki);
            }
        }

        #[test]
        fn case_09_garbage_never_panics(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read_csr(&pem::encode("CERTIFICATE REQUEST", &der)).is_err());
            let _ = KeyAlgorithm::of_leaf(&der);
        }
    }
}
