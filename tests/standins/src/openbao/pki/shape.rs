//! The parts of a certificate in DER, as Go's crypto/x509 writes them.

use std::net::IpAddr;

use aws_lc_rs::digest;

use crate::authority::extension;
use crate::der;

/// Names in a subject alternative name.
#[derive(Default)]
pub(super) struct Names {
    pub(super) dns: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
}

const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// O values in one RDN, then the common name.
pub(super) fn subject(organization: &[String], common_name: &str) -> Vec<u8> {
    let attribute = |kind, value: &str| der::sequence(&[der::oid(kind), text(value)]);
    let mut parts = Vec::new();
    if !organization.is_empty() {
        parts.push(der::set(organization.iter().map(|value| attribute(ORGANIZATION, value)).collect()));
    }
    if !common_name.is_empty() {
        parts.push(der::set(vec![attribute(COMMON_NAME, common_name)]));
    }
    der::sequence(&parts)
}

/// `keyUsage` from its names, as Go and the API write them; nothing where none is known.
pub(super) fn key_usage(names: &[String]) -> Option<Vec<u8>> {
    let bit = |name: &str| {
        Some(match name.trim_start_matches("KeyUsage") {
            "DigitalSignature" => 0x80,
            "ContentCommitment" => 0x40,
            "KeyEncipherment" => 0x20,
            "DataEncipherment" => 0x10,
            "KeyAgreement" => 0x08,
            "CertSign" => 0x04,
            "CRLSign" => 0x02,
            _ => return None,
        })
    };
    let bits = names.iter().filter_map(|name| bit(name)).fold(0_u8, |all, bit| all | bit);
    let unused = u8::try_from(bits.trailing_zeros()).unwrap_or_default();
    (bits != 0).then(|| extension(&[0x55, 0x1d, 0x0f], true, &der::element(0x03, &[unused, bits])))
}

/// `extKeyUsage` from names of purposes; nothing where none is known.
pub(super) fn extended_usage(names: &[String]) -> Option<Vec<u8>> {
    let purpose = |name: &str| {
        let last = match name.trim_start_matches("ExtKeyUsage") {
            "Any" => return Some(der::oid(&[0x55, 0x1d, 0x25, 0x00])),
            "ServerAuth" => 1,
            "ClientAuth" => 2,
            "CodeSigning" => 3,
            "EmailProtection" => 4,
            _ => return None,
        };
        Some(der::oid(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, last]))
    };
    let purposes: Vec<Vec<u8>> = names.iter().filter_map(|name| purpose(name)).collect();
    (!purposes.is_empty()).then(|| extension(&[0x55, 0x1d, 0x25], false, &der::sequence(&purposes)))
}

/// CA:FALSE.
pub(super) fn not_a_ca() -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x13], true, &der::sequence(&[]))
}

/// Subject key identifier, from the SubjectPublicKeyInfo, and the authority's.
pub(super) fn identifiers(key: &[u8], authority: &[u8]) -> [Vec<u8>; 2] {
    let digest = digest::digest(&digest::SHA256, key);
    let own = digest.as_ref().get(..20).unwrap_or_default();
    [
        extension(&[0x55, 0x1d, 0x0e], false, &der::element(0x04, own)),
        extension(&[0x55, 0x1d, 0x23], false, &der::sequence(&[der::element(0x80, authority)])),
    ]
}

/// The subject alternative name; nothing where there is none.
pub(super) fn alternative_names(names: &Names) -> Option<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = names.dns.iter().map(|name| der::element(0x82, name.as_bytes())).collect();
    parts.extend(names.addresses.iter().map(|address| match address {
        IpAddr::V4(v4) => der::element(0x87, &v4.octets()),
        IpAddr::V6(v6) => der::element(0x87, &v6.octets()),
    }));
    (!parts.is_empty()).then(|| extension(&[0x55, 0x1d, 0x11], false, &der::sequence(&parts)))
}

/// PrintableString where the characters allow it, UTF8String where not.
fn text(value: &str) -> Vec<u8> {
    let printable = |letter: char| letter.is_ascii_alphanumeric() || " '()+,-./:=?".contains(letter);
    if value.chars().all(printable) { der::element(0x13, value.as_bytes()) } else { der::utf8(value) }
}
