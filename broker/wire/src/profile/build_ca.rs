//! The dedicated CA's own certificate.

use const_oid::db::rfc4519::{COMMON_NAME, ORGANIZATION_NAME};
use const_oid::db::rfc5280::ID_KP_CLIENT_AUTH;
use der::asn1::{AnyRef, OctetString};
use der::{Decode, Encode};
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier};
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};
use x509_cert::time::Validity;

use super::build::{BuildError, Span, Tbs, attribute, extension, serial, time};
use super::key::KeyAlgorithm;

/// The longest common name, in characters (X.520 ub-common-name).
const MAX_NAME: usize = 64;

/// What a dedicated CA's certificate is made of.
#[derive(Clone, Copy, Debug)]
pub struct CaProfile<'a> {
    /// The common name; cut to 64 characters.
    pub name: &'a str,
    /// The CA's own key: SubjectPublicKeyInfo, DER.
    pub public_key: &'a [u8],
    /// The key identifier, random as Talos makes its own.
    pub key_id: [u8; 20],
    /// 128 random bits, not all zero.
    pub serial: [u8; 16],
    /// From when to when; cut to whole seconds.
    pub span: Span,
}

/// The bytes that the CA signs for itself: subject and issuer `O=ichor, CN=<name>`, CA:TRUE with path length 0, key usage
/// keyCertSign, extended key usage clientAuth. Such a CA makes no other CA, and no certificate that a node would present.
///
/// # Errors
/// When the key is of a kind that does not sign, or something cannot be encoded.
pub fn ca_tbs(profile: &CaProfile<'_>) -> Result<Vec<u8>, BuildError> {
    let algorithm = KeyAlgorithm::of_ca(profile.public_key)?;
    let name: String = profile.name.chars().take(MAX_NAME).collect();
    let mut subject = RdnSequence::default();
    subject.push(RelativeDistinguishedName::try_from(vec![attribute(ORGANIZATION_NAME, "ichor")?])?);
    subject.push(RelativeDistinguishedName::try_from(vec![attribute(COMMON_NAME, &name)?])?);
    let issuer = subject.to_der()?;
    let tbs = Tbs {
        version: Version::V3,
        serial: serial(profile.serial)?,
        signature: algorithm.signature_algorithm().identifier(),
        issuer: AnyRef::from_der(&issuer)?,
        validity: Validity::new(time(profile.span.not_before)?, time(profile.span.not_after)?),
        subject,
        public_key: AnyRef::from_der(profile.public_key)?,
        extensions: vec![
            extension(true, &BasicConstraints { ca: true, path_len_constraint: Some(0) })?,
            extension(true, &KeyUsage(KeyUsages::KeyCertSign.into()))?,
            extension(false, &ExtendedKeyUsage(vec![ID_KP_CLIENT_AUTH]))?,
            extension(false, &SubjectKeyIdentifier(OctetString::new(profile.key_id)?))?,
        ],
    };
    Ok(tbs.to_der()?)
}
