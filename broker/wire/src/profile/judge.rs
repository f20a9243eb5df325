//! Judges a finished certificate by reading it anew, with a parser that shares nothing with the builder.

use std::collections::BTreeSet;

use der::{Decode, Encode};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name, X509Version};

use super::build::{MAX_BACKDATE, MAX_KEPT, MAX_TTL};
use super::ca::CaCertificate;
use super::{GrantName, organizations};
use crate::role::Role;

/// What was granted, and so what a certificate has to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The key of the request: SubjectPublicKeyInfo, DER.
    pub public_key: &'a [u8],
    /// The roles granted.
    pub roles: &'a [Role],
    /// What stands beside the roles: that depends on who makes the certificate.
    pub names: Names<'a>,
    /// The grant's end; nothing lasts longer.
    pub until: Timestamp,
    /// When it was made.
    pub now: Timestamp,
}

/// Who makes the certificate, and so what it says beside the roles. What one maker writes, another's may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names<'a> {
    /// We do, by the profile: `user:` and `grant:` beside the roles, the user as CN; basic constraints that say CA:FALSE.
    Whole {
        /// The value behind `user:`, and the CN.
        user: &'a str,
        /// The grant.
        grant: GrantName,
    },
    /// The ceremony of a kit does, by the same profile, and once: it is good until exactly the grant's end, at most [`MAX_KEPT`] after
    /// its start, which may lie long behind.
    Kept {
        /// The value behind `user:`, and the CN.
        user: &'a str,
        /// The grant.
        grant: GrantName,
    },
    /// A certificate engine does (Vault's or OpenBao's PKI), from a role of its own: it cannot name the grant. Basic
    /// constraints are absent or say CA:FALSE, as the engine's role asks.
    Engine {
        /// The value behind `user:`, where there is an engine's role for this person; else no `user:` at all.
        user: Option<&'a str>,
        /// The CN that was asked for; `None`: it is absent or empty.
        common_name: Option<&'a str>,
    },
    /// A node does (`MachineService/GenerateClientConfiguration`): the roles and nothing else, no CN, no basic constraints.
    /// The node's clock sets the start, see [`CLOCK_SLACK`].
    Talos,
}

/// How far the clock of a node that makes certificates may be ahead of ours. It writes its own time as the start, so a start
/// may lie so far ahead; whoever asks it for a lifetime asks for that much less, and the end is never later than granted.
pub const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(10);

/// What the certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The serial number, big-endian, without a leading zero.
    pub serial: Vec<u8>,
    /// SHA-256 of the DER.
    pub fingerprint: [u8; 32],
    /// The start.
    pub not_before: Timestamp,
    /// The end.
    pub not_after: Timestamp,
}

/// The first thing found that is not as granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Not one X.509 version 3 certificate.
    #[error("it is not one whole version 3 certificate")]
    Malformed,
    /// Another issuer than the CA.
    #[error("it names another issuer")]
    Issuer,
    /// The signature algorithm is not the CA's, or named differently inside and outside.
    #[error("the signature algorithm is another")]
    Algorithm,
    /// Not signed by the CA's key.
    #[error("the CA did not sign it")]
    Signature,
    /// Another key than the request's.
    #[error("the public key is another")]
    PublicKey,
    /// The serial number is not positive, short of 64 bits or longer than 20 bytes (RFC 5280 §4.1.2.2).
    #[error("the serial number is out of bounds")]
    Serial,
    /// The Organization values are not exactly the roles, and the user and the grant where the maker names them.
    #[error("the organizations are not what was granted")]
    Organizations,
    /// The CN is another than expected, or there is one where none is.
    #[error("the common name is another")]
    CommonName,
    /// Something else stands in the subject.
    #[error("the subject holds more than organizations and common name")]
    Subject,
    /// It begins or ends outside of grant, CA or limits.
    #[error("the validity is outside of what was granted")]
    Validity,
    /// It could act as a CA, or its basic constraints are not written as this maker writes them.
    #[error("the basic constraints are not those of a client certificate")]
    BasicConstraints,
    /// The key usage is not exactly digitalSignature, critical.
    #[error("the key usage is not exactly digitalSignature")]
    KeyUsage,
    /// The extended key usage is not exactly clientAuth.
    #[error("the extended key usage is not exactly clientAuth")]
    ExtendedKeyUsage,
    /// The authority key identifier is not the CA's subject key identifier.
    #[error("the authority key identifier is another")]
    AuthorityKeyId,
    /// An extension, or a unique identifier, that the profile does not have.
    #[error("it holds an extension that the profile does not have")]
    Extension,
}

/// The certificate's facts, if it is exactly what was granted and the CA signed it.
///
/// Everything is compared that a node or a verifier reads; extensions are a closed list. A subject key identifier is the one
/// thing that may be there or not.
///
/// # Errors
/// The first difference found.
pub fn judge(der: &[u8], expected: &Expected<'_>, ca: &CaCertificate) -> Result<Facts, Mismatch> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Mismatch::Malformed)?;
    let whole_bytes = certificate.signature_value.unused_bits == 0;
    if !rest.is_empty() || !whole_bytes || certificate.version() != X509Version::V3 || !is_canonical(der) {
        return Err(Mismatch::Malformed);
    }
    check_signature(&certificate, ca)?;
    if certificate.public_key().raw != expected.public_key {
        return Err(Mismatch::PublicKey);
    }
    let serial = check_serial(certificate.raw_serial())?;
    check_subject(certificate.subject(), expected)?;
    let (not_before, not_after) = check_validity(&certificate, expected, ca)?;
    check_extensions(&certificate, expected.names, ca)?;
    Ok(Facts { serial: serial.to_vec(), fingerprint: Sha256::digest(der).into(), not_before, not_after })
}

/// The key that a certificate is about: SubjectPublicKeyInfo, DER. Nothing else of it is looked at.
///
/// # Errors
/// When it is no certificate.
pub fn subject_key(der: &[u8]) -> Result<Vec<u8>, Mismatch> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Mismatch::Malformed)?;
    Ok(certificate.public_key().raw.to_vec())
}

/// Whether this is the one DER encoding of what it says. Our parser lets a few others pass that Go's may refuse.
fn is_canonical(der: &[u8]) -> bool {
    Certificate::from_der(der).and_then(|c| c.to_der()).is_ok_and(|again| again == der)
}

fn check_signature(certificate: &X509Certificate<'_>, ca: &CaCertificate) -> Result<(), Mismatch> {
    if certificate.issuer().as_raw() != ca.subject_der {
        return Err(Mismatch::Issuer);
    }
    let oid = ca.algorithm.signature_algorithm().oid().to_string();
    if certificate.signature_algorithm != certificate.tbs_certificate.signature
        || certificate.signature_algorithm.algorithm.to_id_string() != oid
    {
        return Err(Mismatch::Algorithm);
    }
    let (_, key) = SubjectPublicKeyInfo::from_der(&ca.spki).map_err(|_| Mismatch::Signature)?;
    certificate.verify_signature(Some(&key)).map_err(|_| Mismatch::Signature)
}

/// The number without the zero byte that only keeps it positive.
fn check_serial(serial: &[u8]) -> Result<&[u8], Mismatch> {
    let positive = serial.first().is_some_and(|first| first & 0x80 == 0);
    if !positive || !(8..=20).contains(&serial.len()) {
        return Err(Mismatch::Serial);
    }
    Ok(serial.strip_prefix(&[0]).unwrap_or(serial))
}

fn check_subject(subject: &X509Name<'_>, expected: &Expected<'_>) -> Result<(), Mismatch> {
    let mut found = Vec::new();
    let mut names = Vec::new();
    for attribute in subject.iter_attributes() {
        let text = matches!(attribute.attr_value().tag(), Tag::Utf8String | Tag::PrintableString);
        let value = attribute.as_str().ok().filter(|_| text).ok_or(Mismatch::Subject)?;
        if *attribute.attr_type() == OID_X509_ORGANIZATION_NAME {
            found.push(value);
        } else if *attribute.attr_type() == OID_X509_COMMON_NAME {
            names.push(value);
        } else {
            return Err(Mismatch::Subject);
        }
    }
    let (user, grant) = match expected.names {
        Names::Whole { user, grant } | Names::Kept { user, grant } => (Some(user), Some(grant)),
        Names::Engine { user, .. } => (user, None),
        Names::Talos => (None, None),
    };
    let granted = organizations(expected.roles, user, grant);
    let same = found.len() == granted.len()
        && found.iter().copied().collect::<BTreeSet<_>>() == granted.iter().map(String::as_str).collect();
    if !same {
        return Err(Mismatch::Organizations);
    }
    let named = match expected.names {
        Names::Whole { user, .. } | Names::Kept { user, .. } => names == [user],
        Names::Engine { common_name: Some(name), .. } => names == [name],
        Names::Engine { common_name: None, .. } => names.is_empty() || names == [""],
        Names::Talos => names.is_empty(),
    };
    if named { Ok(()) } else { Err(Mismatch::CommonName) }
}

fn check_validity(
    certificate: &X509Certificate<'_>,
    expected: &Expected<'_>,
    ca: &CaCertificate,
) -> Result<(Timestamp, Timestamp), Mismatch> {
    let time = |at: i64| Timestamp::from_second(at).map_err(|_| Mismatch::Validity);
    let not_before = time(certificate.validity().not_before.timestamp())?;
    let not_after = time(certificate.validity().not_after.timestamp())?;
    // A second of slack: NotBefore is rounded down to a whole second after the largest backdating.
    let oldest = MAX_BACKDATE + SignedDuration::from_secs(1);
    if matches!(expected.names, Names::Kept { .. }) {
        let within = not_before >= ca.not_before
            && not_before <= expected.now
            && not_after > expected.now
            && not_after <= ca.not_after
            && not_after == expected.until
            && not_after.duration_since(not_before) <= MAX_KEPT + oldest;
        return if within { Ok((not_before, not_after)) } else { Err(Mismatch::Validity) };
    }
    let ahead = if expected.names == Names::Talos { CLOCK_SLACK } else { SignedDuration::ZERO };
    let within = not_before >= ca.not_before
        && not_before.duration_since(expected.now) <= ahead
        && expected.now.duration_since(not_before) <= oldest
        && not_after > expected.now
        && not_after <= ca.not_after
        && not_after <= expected.until
        && not_after.duration_since(expected.now) <= MAX_TTL;
    if within { Ok((not_before, not_after)) } else { Err(Mismatch::Validity) }
}

fn check_extensions(certificate: &X509Certificate<'_>, names: Names<'_>, ca: &CaCertificate) -> Result<(), Mismatch> {
    let tbs = &certificate.tbs_certificate;
    if tbs.issuer_uid.is_some() || tbs.subject_uid.is_some() {
        return Err(Mismatch::Extension);
    }
    // Where nothing says CA:TRUE, X.509 version 3 says that it is none.
    let mut constraints = !matches!(names, Names::Whole { .. } | Names::Kept { .. });
    let (mut usage, mut extended) = (false, false);
    // A CA without a subject key identifier leaves nothing to copy.
    let mut authority = ca.key_id.is_none();
    let mut seen: Vec<&Oid<'_>> = Vec::new();
    for extension in tbs.extensions() {
        if seen.contains(&&extension.oid) {
            return Err(Mismatch::Extension);
        }
        seen.push(&extension.oid);
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(_) => {
                constraints = names != Names::Talos && is_end_entity(extension);
            }
            ParsedExtension::KeyUsage(found) => usage = extension.critical && found.flags == 1,
            ParsedExtension::ExtendedKeyUsage(found) => {
                extended = found.client_auth
                    && !(found.any
                        || found.server_auth
                        || found.code_signing
                        || found.email_protection
                        || found.time_stamping
                        || found.ocsp_signing)
                    && found.other.is_empty();
            }
            ParsedExtension::AuthorityKeyIdentifier(found) => {
                authority = ca.key_id.is_some()
                    && found.key_identifier.as_ref().map(|id| id.0) == ca.key_id.as_deref()
                    && found.authority_cert_issuer.is_none()
                    && found.authority_cert_serial.is_none()
                    && !extension.critical;
            }
            ParsedExtension::SubjectKeyIdentifier(_) if !extension.critical => {}
            _ => return Err(Mismatch::Extension),
        }
    }
    match (constraints, usage, extended, authority) {
        (false, ..) => Err(Mismatch::BasicConstraints),
        (_, false, ..) => Err(Mismatch::KeyUsage),
        (_, _, false, _) => Err(Mismatch::ExtendedKeyUsage),
        (_, _, _, false) => Err(Mismatch::AuthorityKeyId),
        _ => Ok(()),
    }
}

/// CA:FALSE is the default and therefore, in DER, written as nothing at all: an empty sequence.
fn is_end_entity(extension: &X509Extension<'_>) -> bool {
    extension.critical && extension.value == [0x30, 0x00]
}

#[cfg(test)]
mod tests {
    use der::asn1::{AnyRef, OctetString};
    use proptest::prelude::*;
    use x509_cert::certificate::Version;
    use x509_cert::ext::Extension;
    use x509_cert::name::RelativeDistinguishedName;
    use x509_cert::serial_number::SerialNumber;

    use super::super::build::{Tbs, draft};
    use super::super::fixtures::{Ca, GRANT, at, expected, public_key};
    use super::super::{Profile, Span};
    use super::*;

    type Bend = Box<dyn Fn(&mut Tbs<'_>)>;

    /// Builds the usual certificate with one thing bent, signed all the same.
    fn bent(ca: &Ca, key: &[u8], bend: impl FnOnce(&mut Tbs<'_>)) -> Result<Facts, Mismatch> {
        let profile = ca.profile(key);
        let mut draft = draft(&profile).unwrap();
        bend(&mut draft);
        judge(&ca.finish(&draft.to_der().unwrap()), &expected(key), &ca.certificate)
    }

    fn extension(oid: &str, critical: bool, value: &[u8]) -> Extension {
        Extension { extn_id: oid.parse().unwrap(), critical, extn_value: OctetString::new(value).unwrap() }
    }

    #[test]
    fn what_a_kit_keeps_is_good_until_exactly_its_end_and_no_other_maker_may_write_it() {
        use super::super::{MAX_KEPT, kept_span};
        let (ca, key) = (Ca::ed25519(), public_key());
        let ends = ca.certificate.not_after;
        let made = ends - MAX_KEPT;
        let names = Names::Kept { user: "alice@example.com", grant: GRANT.into() };
        let at = |now: Timestamp| Expected { names, until: ends, now, ..expected(&key) };
        let span = kept_span(&ca.certificate, made).unwrap();
        let der = ca.issue(&Profile { span, ..ca.profile(&key) });
        let second = SignedDuration::from_secs(1);
        assert_eq!(judge(&der, &at(made), &ca.certificate).unwrap().not_after, ends);
        assert!(judge(&der, &at(ends - second), &ca.certificate).is_ok(), "long after it was made");
        let refused = |expected: &Expected<'_>| judge(&der, expected, &ca.certificate).unwrap_err();
        assert_eq!(refused(&at(ends)), Mismatch::Validity, "it is over");
        assert_eq!(refused(&at(span.not_before - second)), Mismatch::Validity, "it has not begun");
        assert_eq!(refused(&Expected { until: ends - second, ..at(made) }), Mismatch::Validity, "another end");
        let whole = Names::Whole { user: "alice@example.com", grant: GRANT.into() };
        assert_eq!(refused(&Expected { names: whole, ..at(made) }), Mismatch::Validity, "a broker's ends within a day");
        let bob = Names::Kept { user: "bob", grant: GRANT.into() };
        assert_eq!(refused(&Expected { names: bob, ..at(made) }), Mismatch::Organizations);
        let early = span.not_before - SignedDuration::from_hours(24);
        let long = ca.issue(&Profile { span: Span { not_before: early, ..span }, ..ca.profile(&key) });
        assert_eq!(judge(&long, &at(made), &ca.certificate), Err(Mismatch::Validity), "more than a year");
        let error = kept_span(&ca.certificate, made - second).unwrap_err();
        assert_eq!(error, super::super::BuildError::KeptTooLong(ends));
        assert_eq!(subject_key(&der), Ok(key));
    }

    #[test]
    fn the_profile_passes_under_every_kind_of_ca() {
        let kinds = [
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
        ];
        for kind in kinds {
            let ca = Ca::of(kind);
            let key = public_key();
            let der = ca.issue(&ca.profile(&key));
            let facts = judge(&der, &expected(&key), &ca.certificate).unwrap();
            assert_eq!(facts.serial, vec![0xFF; 16]);
            assert_eq!(facts.not_before, at("2026-11-22T11:59:30Z"));
            assert_eq!(facts.not_after, at("2026-11-22T13:00:00Z"));
            assert_eq!(facts.fingerprint, <[u8; 32]>::from(Sha256::digest(&der)));
        }
    }

    #[test]
    fn another_grant_is_found() {
        let ca = Ca::ed25519();
        let key = public_key();
        let der = ca.issue(&ca.profile(&key));
        let found = |change: &dyn Fn(&mut Expected<'_>)| {
            let mut expected = expected(&key);
            change(&mut expected);
            judge(&der, &expected, &ca.certificate).unwrap_err()
        };
        assert_eq!(found(&|e| e.roles = &[Role::Reader]), Mismatch::Organizations);
        assert_eq!(found(&|e| e.roles = &[Role::Reader, Role::Admin]), Mismatch::Organizations);
        assert_eq!(found(&|e| e.roles = &[Role::Reader, Role::Reader]), Mismatch::Organizations);
        let mallory = Names::Whole { user: "mallory@example.com", grant: GRANT.into() };
        assert_eq!(found(&|e| e.names = mallory), Mismatch::Organizations);
        let nil = Names::Whole { user: "alice@example.com", grant: uuid::Uuid::nil().into() };
        assert_eq!(found(&|e| e.names = nil), Mismatch::Organizations);
        assert_eq!(found(&|e| e.until = at("2026-11-22T12:59:59Z")), Mismatch::Validity);
        assert_eq!(found(&|e| e.now = at("2026-11-22T13:00:00Z")), Mismatch::Validity);
        assert_eq!(found(&|e| e.now = at("2026-11-22T11:59:29Z")), Mismatch::Validity);
        assert_eq!(found(&|e| e.now = at("2026-11-22T12:30:00Z")), Mismatch::Validity, "backdated too far");
        let other = public_key();
        assert_eq!(judge(&der, &expected(&other), &ca.certificate), Err(Mismatch::PublicKey));
    }

    #[test]
    fn another_ca_is_found() {
        let (ca, other) = (Ca::ed25519(), Ca::ed25519());
        let key = public_key();
        let der = ca.issue(&ca.profile(&key));
        // The other one has the same name and key identifier, but not the key.
        assert_eq!(judge(&der, &expected(&key), &other.certificate), Err(Mismatch::Signature));
        let p256 = Ca::of(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(judge(&der, &expected(&key), &p256.certificate), Err(Mismatch::Algorithm));
    }

    #[test]
    fn every_bent_field_is_found() {
        let ca = Ca::ed25519();
        let key = public_key();
        assert!(bent(&ca, &key, |_| ()).is_ok());

        let other = public_key();
        let cases: Vec<(Mismatch, Bend)> = vec![
            (Mismatch::Malformed, Box::new(|t| t.version = Version::V1)),
            (Mismatch::Serial, Box::new(|t| t.serial = SerialNumber::new(&[1]).unwrap())),
            (
                Mismatch::BasicConstraints,
                Box::new(|t| {
                    t.extensions[0] = extension("2.5.29.19", true, &[0x30, 3, 1, 1, 0xFF]);
                }),
            ),
            (Mismatch::BasicConstraints, Box::new(|t| t.extensions[0].critical = false)),
            (Mismatch::BasicConstraints, Box::new(|t| drop(t.extensions.remove(0)))),
            (
                Mismatch::KeyUsage,
                Box::new(|t| {
                    // digitalSignature and keyCertSign
                    t.extensions[1] = extension("2.5.29.15", true, &[3, 2, 2, 0x84]);
                }),
            ),
            (Mismatch::KeyUsage, Box::new(|t| t.extensions[1].critical = false)),
            (Mismatch::KeyUsage, Box::new(|t| drop(t.extensions.remove(1)))),
            (
                Mismatch::ExtendedKeyUsage,
                Box::new(|t| {
                    // serverAuth beside clientAuth
                    t.extensions[2] = extension(
                        "2.5.29.37",
                        false,
                        &[0x30, 20, 6, 8, 0x2B, 6, 1, 5, 5, 7, 3, 2, 6, 8, 0x2B, 6, 1, 5, 5, 7, 3, 1],
                    );
                }),
            ),
            (
                Mismatch::ExtendedKeyUsage,
                Box::new(|t| {
                    // a private purpose beside clientAuth
                    t.extensions[2] =
                        extension("2.5.29.37", false, &[0x30, 15, 6, 8, 0x2B, 6, 1, 5, 5, 7, 3, 2, 6, 3, 0x2A, 3, 4]);
                }),
            ),
            (Mismatch::ExtendedKeyUsage, Box::new(|t| drop(t.extensions.remove(2)))),
            (
                Mismatch::AuthorityKeyId,
                Box::new(|t| {
                    t.extensions[3] = extension("2.5.29.35", false, &[0x30, 3, 0x80, 1, 7]);
                }),
            ),
            (Mismatch::AuthorityKeyId, Box::new(|t| drop(t.extensions.remove(3)))),
            (
                Mismatch::Extension,
                Box::new(|t| {
                    // an alternative name: DNS a
                    t.extensions.push(extension("2.5.29.17", false, &[0x30, 3, 0x82, 1, b'a']));
                }),
            ),
            (Mismatch::Extension, Box::new(|t| t.extensions.push(extension("1.2.3.4", false, &[5, 0])))),
            (
                Mismatch::Extension,
                Box::new(|t| {
                    let again = t.extensions[2].clone();
                    t.extensions.push(again);
                }),
            ),
            (
                Mismatch::CommonName,
                Box::new(|t| {
                    let first = t.subject.iter().next().unwrap().clone();
                    t.subject = [first].into_iter().collect::<Vec<_>>().into();
                }),
            ),
            (
                Mismatch::Organizations,
                Box::new(|t| {
                    let rdns: Vec<RelativeDistinguishedName> = t.subject.iter().skip(1).cloned().collect();
                    t.subject = rdns.into();
                }),
            ),
            (
                Mismatch::Subject,
                Box::new(|t| {
                    let mut rdns: Vec<RelativeDistinguishedName> = t.subject.iter().cloned().collect();
                    rdns.push("OU=x".parse().unwrap());
                    t.subject = rdns.into();
                }),
            ),
            (
                Mismatch::Organizations,
                Box::new(|t| {
                    let mut rdns: Vec<RelativeDistinguishedName> = t.subject.iter().cloned().collect();
                    rdns.push("O=os:admin".parse().unwrap());
                    t.subject = rdns.into();
                }),
            ),
        ];
        for (number, (expected, bend)) in cases.into_iter().enumerate() {
            assert_eq!(bent(&ca, &key, |t| bend(t)), Err(expected), "case {number}");
        }
        let swapped =
            bent(&ca, &key, |t| t.public_key = AnyRef::from_der(Box::leak(other.clone().into_boxed_slice())).unwrap());
        assert_eq!(swapped, Err(Mismatch::PublicKey));
    }

    #[test]
    fn validity_beyond_ca_grant_or_limit_is_found() {
        let ca = Ca::ed25519();
        let key = public_key();
        let span = |from: &str, to: &str| Span { not_before: at(from), not_after: at(to) };
        let with = |span: Span, until: Timestamp, now: Timestamp| {
            let der = ca.issue(&Profile { span, ..ca.profile(&key) });
            judge(&der, &Expected { until, now, ..expected(&key) }, &ca.certificate).map(|_| ())
        };
        let now = at("2026-11-22T12:00:00Z");
        let far = at("2040-01-01T00:00:00Z");
        assert_eq!(with(span("2026-11-22T11:59:30Z", "2026-11-23T12:00:00Z"), far, now), Ok(()));
        assert_eq!(with(span("2026-11-22T11:59:30Z", "2026-11-23T12:00:01Z"), far, now), Err(Mismatch::Validity));
        assert_eq!(with(span("2026-11-22T12:00:01Z", "2026-11-22T13:00:00Z"), far, now), Err(Mismatch::Validity));
        // Past the CA's end.
        let end = at("2030-12-31T23:30:00Z");
        assert_eq!(with(span("2030-12-31T23:29:30Z", "2031-01-01T00:00:00Z"), far, end), Ok(()));
        assert_eq!(with(span("2030-12-31T23:29:30Z", "2031-01-01T00:00:01Z"), far, end), Err(Mismatch::Validity));
        // Before the CA's start.
        let start = at("2026-01-01T00:00:10Z");
        assert_eq!(with(span("2025-12-31T23:59:59Z", "2026-01-01T01:00:00Z"), far, start), Err(Mismatch::Validity));
    }

    #[test]
    fn a_ca_without_key_identifier_leaves_none_to_copy() {
        let mut ca = Ca::ed25519();
        ca.certificate.key_id = None;
        let key = public_key();
        let der = ca.issue(&ca.profile(&key));
        assert!(judge(&der, &expected(&key), &ca.certificate).is_ok());
        let guessed = bent(&ca, &key, |t| t.extensions.push(extension("2.5.29.35", false, &[0x30, 3, 0x80, 1, 7])));
        assert_eq!(guessed, Err(Mismatch::AuthorityKeyId));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let ca = Ca::ed25519();
        let key = public_key();
        let mut der = ca.issue(&ca.profile(&key));
        for bit in 0..der.len() * 8 {
            der[bit / 8] ^= 1 << (bit % 8);
            assert!(judge(&der, &expected(&key), &ca.certificate).is_err(), "bit {bit}");
            der[bit / 8] ^= 1 << (bit % 8);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(der in proptest::collection::vec(any::<u8>(), 0..400)) {
            let ca = Ca::ed25519();
            prop_assert!(judge(&der, &expected(&[]), &ca.certificate).is_err());
            prop_assert!(CaCertificate::from_der(&der).is_err());
        }

        /// What is built passes, for any roles, user, grant and serial.
        #[test]
        fn what_is_built_passes(
            roles in proptest::sample::subsequence(Role::ALL.to_vec(), 1..=6),
            user in "[!-~]{1,59}",
            grant in any::<u128>(),
            kit in any::<u16>(),
            serial in any::<[u8; 16]>().prop_filter("not small", |s| s[0] != 0),
        ) {
            prop_assume!(super::super::user_fits(&user));
            let ca = Ca::ed25519();
            let key = public_key();
            let id = uuid::Uuid::from_u128(grant);
            let grant = if kit == 0 { id.into() } else { GrantName::Kit { number: kit, id } };
            let der = ca.issue(&Profile { roles: &roles, user: &user, grant, serial, ..ca.profile(&key) });
            let expected = Expected { roles: &roles, names: Names::Whole { user: &user, grant }, ..expected(&key) };
            prop_assert_eq!(judge(&der, &expected, &ca.certificate).unwrap().serial, serial);
        }
    }
}
