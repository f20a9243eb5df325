//! Builds the bytes to sign, and the certificate from them.

use std::time::Duration;

use const_oid::AssociatedOid;
use const_oid::ObjectIdentifier;
use const_oid::db::rfc4519::{COMMON_NAME, ORGANIZATION_NAME};
use const_oid::db::rfc5280::ID_KP_CLIENT_AUTH;
use der::asn1::{Any, AnyRef, BitStringRef, GeneralizedTime, OctetString, Utf8StringRef};
use der::{Decode, Encode, Sequence};
use jiff::{SignedDuration, Timestamp};
use spki::AlgorithmIdentifierRef;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::certificate::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages};
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};

use super::ca::{CaCertificate, CaError};
use super::key::{KeyAlgorithm, KeyError, SignatureAlgorithm};
use super::{GrantName, organizations, user_fits};
use crate::role::Role;

/// Nothing is issued for longer, whatever policy and configuration say.
pub const MAX_TTL: SignedDuration = SignedDuration::from_hours(24);

/// A kit's certificate that is made once and kept ([`kept_span`]) lasts at most so long.
pub const MAX_KEPT: SignedDuration = SignedDuration::from_hours(24 * 365);

/// How far NotBefore lies in the past unless configured. A node whose clock is behind refuses a certificate that is not
/// valid yet, without any tolerance.
pub const DEFAULT_BACKDATE: SignedDuration = SignedDuration::from_secs(30);

/// The most that can be configured.
pub const MAX_BACKDATE: SignedDuration = SignedDuration::from_mins(10);

/// What a certificate is made of.
#[derive(Clone, Copy, Debug)]
pub struct Profile<'a> {
    /// Who signs.
    pub ca: &'a CaCertificate,
    /// 128 random bits. A certificate's number must be positive, so not all zero.
    pub serial: [u8; 16],
    /// The key to certify: SubjectPublicKeyInfo, DER.
    pub public_key: &'a [u8],
    /// The roles; at least one, none twice.
    pub roles: &'a [Role],
    /// The value behind `user:`, and the CN.
    pub user: &'a str,
    /// The grant.
    pub grant: GrantName,
    /// From when to when; see [`span`].
    pub span: Span,
}

/// A certificate's validity, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The start.
    pub not_before: Timestamp,
    /// The end.
    pub not_after: Timestamp,
}

/// Why no certificate can be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The CA is not valid now.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The key is not one that we certify.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The end has been reached already.
    #[error("what was granted ended at {0}")]
    Over(Timestamp),
    /// The end lies more than [`MAX_TTL`] ahead.
    #[error("what was granted lasts until {0}, more than 24 hours from now")]
    TooLong(Timestamp),
    /// The end of a certificate that is kept lies more than [`MAX_KEPT`] ahead.
    #[error("a certificate that is kept lasts at most 365 days; this would last until {0}")]
    KeptTooLong(Timestamp),
    /// More than [`MAX_BACKDATE`], or negative.
    #[error("certificates can be backdated by at most ten minutes")]
    Backdate,
    /// The serial number is zero: it was not made at random.
    #[error("the serial number is zero")]
    Serial,
    /// There is no role, or one of them twice.
    #[error("a certificate needs at least one role, and none twice")]
    Roles,
    /// The user does not fit, see [`user_fits`].
    #[error("the user `{0}` cannot stand in a certificate")]
    User(String),
    /// The bytes could not be encoded.
    #[error("the certificate cannot be encoded: {0}")]
    Encoding(String),
}

/// RFC 5280 §4.1. Issuer and key are taken over as they stand, byte for byte.
#[derive(Sequence)]
pub(super) struct Tbs<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub(super) version: Version,
    pub(super) serial: SerialNumber,
    pub(super) signature: AlgorithmIdentifierRef<'a>,
    pub(super) issuer: AnyRef<'a>,
    pub(super) validity: Validity,
    pub(super) subject: RdnSequence,
    pub(super) public_key: AnyRef<'a>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    pub(super) extensions: Vec<Extension>,
}

/// RFC 5280 §4.1.
#[derive(Sequence)]
struct Whole<'a> {
    tbs: AnyRef<'a>,
    algorithm: AlgorithmIdentifierRef<'a>,
    signature: BitStringRef<'a>,
}

/// From when to when a certificate is valid that is made at `now` for a grant until `until`: backdated by `backdate`, clipped
/// to the CA's validity, in whole seconds.
///
/// # Errors
/// When the CA is not valid at `now`, or the end lies behind or more than [`MAX_TTL`] ahead.
pub fn span(
    ca: &CaCertificate,
    now: Timestamp,
    backdate: SignedDuration,
    until: Timestamp,
) -> Result<Span, BuildError> {
    ca.check_time(now)?;
    if backdate.is_negative() || backdate > MAX_BACKDATE {
        return Err(BuildError::Backdate);
    }
    if until.duration_since(now) > MAX_TTL {
        return Err(BuildError::TooLong(until));
    }
    let not_after = whole_second(until.min(ca.not_after));
    if not_after <= now {
        return Err(BuildError::Over(until));
    }
    let start = now.checked_sub(backdate).map_err(|e| BuildError::Encoding(e.to_string()))?;
    // A CA's start is a whole second, so rounding down cannot fall below it.
    let not_before = whole_second(start.max(ca.not_before));
    Ok(Span { not_before, not_after })
}

/// From when to when a certificate is valid that a kit keeps: from `now`, backdated, until its CA's end.
///
/// # Errors
/// When the CA is not valid at `now`, or ends more than [`MAX_KEPT`] ahead.
pub fn kept_span(ca: &CaCertificate, now: Timestamp) -> Result<Span, BuildError> {
    ca.check_time(now)?;
    if ca.not_after.duration_since(now) > MAX_KEPT {
        return Err(BuildError::KeptTooLong(ca.not_after));
    }
    let start = now.checked_sub(DEFAULT_BACKDATE).map_err(|e| BuildError::Encoding(e.to_string()))?;
    Ok(Span { not_before: whole_second(start.max(ca.not_before)), not_after: ca.not_after })
}

/// The bytes that the CA has to sign.
///
/// # Errors
/// When roles, user or key do not fit the profile.
pub fn tbs(profile: &Profile<'_>) -> Result<Vec<u8>, BuildError> {
    Ok(draft(profile)?.to_der()?)
}

/// The certificate, DER, from what was signed and the signature.
///
/// # Errors
/// When `tbs` is not DER.
pub fn assemble(tbs: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Result<Vec<u8>, BuildError> {
    let whole = Whole {
        tbs: AnyRef::from_der(tbs)?,
        algorithm: algorithm.identifier(),
        signature: BitStringRef::from_bytes(signature)?,
    };
    Ok(whole.to_der()?)
}

pub(super) fn draft<'a>(profile: &Profile<'a>) -> Result<Tbs<'a>, BuildError> {
    KeyAlgorithm::of_leaf(profile.public_key)?;
    if !user_fits(profile.user) {
        return Err(BuildError::User(profile.user.chars().filter(|c| !c.is_control()).take(80).collect()));
    }
    let mut roles = profile.roles.to_vec();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() || roles.len() != profile.roles.len() {
        return Err(BuildError::Roles);
    }
    Ok(Tbs {
        version: Version::V3,
        serial: serial(profile.serial)?,
        signature: profile.ca.algorithm.signature_algorithm().identifier(),
        issuer: AnyRef::from_der(&profile.ca.subject_der)?,
        validity: Validity::new(time(profile.span.not_before)?, time(profile.span.not_after)?),
        subject: subject(&organizations(&roles, Some(profile.user), Some(profile.grant)), profile.user)?,
        public_key: AnyRef::from_der(profile.public_key)?,
        extensions: extensions(profile.ca)?,
    })
}

/// The 128 bits as a number; DER puts a zero byte in front where the first bit would make it negative.
pub(super) fn serial(bits: [u8; 16]) -> Result<SerialNumber, BuildError> {
    if bits == [0; 16] {
        return Err(BuildError::Serial);
    }
    Ok(SerialNumber::new(&bits)?)
}

/// One RDN with all Organizations, as Go writes them and apid reads them, then one with the CN. Built from values, never
/// from text: a name's text is a syntax, and what people call themselves could speak it.
fn subject(organizations: &[String], user: &str) -> Result<RdnSequence, BuildError> {
    let organizations: Result<Vec<_>, _> = organizations.iter().map(|o| attribute(ORGANIZATION_NAME, o)).collect();
    // Made from a list, the set is put into the order that DER asks for.
    let organizations = RelativeDistinguishedName::try_from(organizations?)?;
    let name = RelativeDistinguishedName::try_from(vec![attribute(COMMON_NAME, user)?])?;
    let mut subject = RdnSequence::default();
    subject.push(organizations);
    subject.push(name);
    Ok(subject)
}

pub(super) fn attribute(oid: ObjectIdentifier, value: &str) -> Result<AttributeTypeAndValue, BuildError> {
    Ok(AttributeTypeAndValue { oid, value: Any::from(Utf8StringRef::new(value)?) })
}

fn extensions(ca: &CaCertificate) -> Result<Vec<Extension>, BuildError> {
    let mut all = vec![
        extension(true, &BasicConstraints { ca: false, path_len_constraint: None })?,
        extension(true, &KeyUsage(KeyUsages::DigitalSignature.into()))?,
        extension(false, &ExtendedKeyUsage(vec![ID_KP_CLIENT_AUTH]))?,
    ];
    if let Some(id) = &ca.key_id {
        let id = AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new(id.as_slice())?),
            ..AuthorityKeyIdentifier::default()
        };
        all.push(extension(false, &id)?);
    }
    Ok(all)
}

pub(super) fn extension<T: Encode + AssociatedOid>(critical: bool, value: &T) -> Result<Extension, BuildError> {
    Ok(Extension { extn_id: T::OID, critical, extn_value: OctetString::new(value.to_der()?)? })
}

pub(super) fn time(at: Timestamp) -> Result<Time, BuildError> {
    let seconds = u64::try_from(at.as_second()).map_err(|e| BuildError::Encoding(e.to_string()))?;
    // The encoder turns it into UTCTime up to 2049 (RFC 5280 §4.1.2.5).
    Ok(Time::GeneralTime(GeneralizedTime::from_unix_duration(Duration::from_secs(seconds))?))
}

fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

// === impl BuildError ===

impl From<der::Error> for BuildError {
    fn from(error: der::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use x509_cert::Certificate;

    use super::super::CsrKey;
    use super::super::fixtures::{Ca, at, ca_params, ca_pem, now, public_key};
    use super::*;

    #[test]
    fn one_rdn_holds_every_organization_in_set_order() {
        let ca = Ca::ed25519();
        let key = public_key();
        let der = ca.issue(&ca.profile(&key));
        let certificate = Certificate::from_der(&der).unwrap();
        let rdns: Vec<_> = certificate.tbs_certificate().subject().iter_rdn().collect();
        assert_eq!(rdns.len(), 2);
        let encoded: Vec<Vec<u8>> = rdns[0].iter().map(|a| a.to_der().unwrap()).collect();
        assert_eq!(encoded.len(), 4);
        // X.690 §11.6: ascending as octet strings.
        assert!(encoded.is_sorted());
        assert!(rdns[0].iter().all(|a| a.oid == ORGANIZATION_NAME));
        assert_eq!(rdns[1].len(), 1);
    }

    #[test]
    fn the_issuer_is_the_cas_subject_byte_for_byte() {
        let ca = Ca::ed25519();
        let key = public_key();
        let der = ca.issue(&ca.profile(&key));
        let needle = &ca.certificate.subject_der;
        assert!(der.windows(needle.len()).any(|w| w == needle));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let ca = Ca::ed25519();
        let key = public_key();
        let usual = ca.profile(&key);
        assert_eq!(tbs(&Profile { roles: &[], ..usual }), Err(BuildError::Roles));
        assert_eq!(tbs(&Profile { roles: &[Role::Reader, Role::Reader], ..usual }), Err(BuildError::Roles));
        assert_eq!(tbs(&Profile { serial: [0; 16], ..usual }), Err(BuildError::Serial));
        assert!(matches!(tbs(&Profile { user: "a,os:admin", ..usual }), Err(BuildError::User(_))));
        assert!(matches!(tbs(&Profile { user: "Ångström", ..usual }), Err(BuildError::User(_))));
        assert_eq!(tbs(&Profile { public_key: &[0x30, 0], ..usual }), Err(BuildError::Key(KeyError::Malformed)));
    }

    #[test]
    fn a_span_is_clipped_to_ca_and_grant() {
        let ca = &Ca::ed25519().certificate;
        let of = |now: &str, until: &str| span(ca, at(now), DEFAULT_BACKDATE, at(until));
        let whole = |from: &str, to: &str| Ok(Span { not_before: at(from), not_after: at(to) });
        assert_eq!(
            of("2026-11-22T12:00:00.9Z", "2026-11-22T13:00:00.9Z"),
            whole("2026-11-22T11:59:30Z", "2026-11-22T13:00:00Z")
        );
        assert_eq!(
            of("2026-01-01T00:00:10Z", "2026-01-01T01:00:00Z"),
            whole("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z")
        );
        assert_eq!(
            of("2030-12-31T23:30:00Z", "2031-01-01T10:00:00Z"),
            whole("2030-12-31T23:29:30Z", "2031-01-01T00:00:00Z")
        );
        let over = at("2026-11-22T12:00:00Z");
        assert_eq!(of("2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z"), Err(BuildError::Over(over)));
        let long = at("2026-11-23T12:00:01Z");
        assert_eq!(of("2026-11-22T12:00:00Z", "2026-11-23T12:00:01Z"), Err(BuildError::TooLong(long)));
        assert!(matches!(of("2031-01-01T00:00:00Z", "2031-01-01T01:00:00Z"), Err(BuildError::Ca(CaError::Expired(_)))));
        assert!(matches!(
            of("2025-12-31T23:59:59Z", "2026-01-01T01:00:00Z"),
            Err(BuildError::Ca(CaError::NotYetValid(_)))
        ));
        let far = span(ca, now(), SignedDuration::from_mins(11), at("2026-11-22T13:00:00Z"));
        assert_eq!(far, Err(BuildError::Backdate));
    }

    #[test]
    fn a_ca_of_2050_is_written_as_generalized_time() {
        let mut params = ca_params();
        params.not_after = rcgen::date_time_ymd(2060, 1, 1);
        let (pem, _) = ca_pem(params, &rcgen::PKCS_ED25519);
        let ca = CaCertificate::parse(&pem).unwrap();
        let key = public_key();
        let now = at("2055-01-01T00:00:00Z");
        let span = span(&ca, now, DEFAULT_BACKDATE, at("2055-01-01T01:00:00Z")).unwrap();
        let profile = Profile {
            ca: &ca,
            serial: [1; 16],
            public_key: &key,
            roles: &[Role::Reader],
            user: "alice",
            grant: uuid::Uuid::nil().into(),
            span,
        };
        let text = tbs(&profile).unwrap();
        assert!(text.windows(15).any(|w| w == b"20550101010000Z"));
    }

    proptest! {
        #[test]
        fn set_order_holds_for_any_user(user in "[a-z~@.]{1,59}") {
            let ca = Ca::ed25519();
            let key = public_key();
            let der = ca.issue(&Profile { user: &user, ..ca.profile(&key) });
            let certificate = Certificate::from_der(&der).unwrap();
            let rdn = certificate.tbs_certificate().subject().iter_rdn().next().unwrap();
            let encoded: Vec<Vec<u8>> = rdn.iter().map(|a| a.to_der().unwrap()).collect();
            prop_assert!(encoded.is_sorted());
        }
    }

    #[test]
    fn a_request_only_gives_its_key() {
        use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa};
        let mut params = CertificateParams::new(vec!["evil.example.com".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "os:admin");
        params.distinguished_name.push(DnType::CommonName, "mallory");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        // rcgen refuses CA:TRUE in a request; the extension is put in as bytes.
        params.is_ca = IsCa::NoCa;
        params.custom_extensions =
            vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xFF])];
        let request = params.serialize_request(&request_key).unwrap().pem().unwrap();
        let CsrKey { spki, .. } = super::super::read_csr(&request).unwrap();

        let ca = Ca::ed25519();
        let der = ca.issue(&ca.profile(&spki));
        let holds = |needle: &[u8]| der.windows(needle.len()).any(|w| w == needle);
        assert!(holds(&spki));
        for text in ["os:admin", "mallory", "evil.example.com"] {
            assert!(!holds(text.as_bytes()), "{text} came through");
        }
        assert!(!holds(&[0x30, 3, 1, 1, 0xFF]), "CA:TRUE came through");
        super::super::judge(&der, &super::super::fixtures::expected(&spki), &ca.certificate).unwrap();
    }
}
