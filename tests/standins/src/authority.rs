//! A certificate authority for tests: Ed25519, and able to sign what a real one must not.

use std::net::IpAddr;

use anyhow::Context as _;
use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};

use crate::{der, random};

const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// An Ed25519 certificate authority.
pub struct Authority {
    name: Vec<u8>,
    key: Ed25519KeyPair,
    key_id: [u8; 20],
    certificate: Vec<u8>,
}

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8 under the label `PRIVATE KEY`.
    pub key: String,
}

/// What an extended key usage says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// id-kp-clientAuth.
    Client,
    /// id-kp-serverAuth.
    Server,
    /// anyExtendedKeyUsage.
    Any,
    /// A purpose that nobody knows.
    Private,
}

/// The shape of a leaf. [`Leaf::client`] gives a right one to change.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Organization values, in one RDN.
    pub organization: Vec<String>,
    /// The common name, if any.
    pub common_name: Option<String>,
    /// The first second of its life.
    pub not_before: Timestamp,
    /// The last second of its life.
    pub not_after: Timestamp,
    /// Extended key usage; empty leaves the extension out.
    pub usage: Vec<Usage>,
    /// `basicConstraints` says CA:TRUE.
    pub ca: bool,
    /// `basicConstraints` is left out where it would say CA:FALSE, as Talos does.
    pub bare: bool,
    /// Addresses in the subject alternative name.
    pub addresses: Vec<IpAddr>,
    /// DNS names in the subject alternative name.
    pub names: Vec<String>,
}

// === impl Leaf ===

impl Leaf {
    /// A client certificate with `roles` (and whatever else) as its O values, good for an hour around `now`.
    #[must_use]
    pub fn client<'a>(roles: impl IntoIterator<Item = &'a str>, now: Timestamp) -> Self {
        Self {
            organization: roles.into_iter().map(str::to_owned).collect(),
            common_name: Some("someone".into()),
            not_before: now.saturating_sub(SignedDuration::from_secs(30)).unwrap_or(now),
            not_after: now.saturating_add(SignedDuration::from_hours(1)).unwrap_or(now),
            usage: vec![Usage::Client],
            ca: false,
            bare: false,
            addresses: Vec::new(),
            names: Vec::new(),
        }
    }

    /// A server certificate for the addresses and names. It lives from 2000 to 2099, so that it is valid at a frozen time and
    /// at the machine's.
    #[must_use]
    pub fn server(addresses: Vec<IpAddr>, names: Vec<String>) -> Self {
        Self {
            organization: Vec::new(),
            common_name: names.first().cloned(),
            not_before: century().0,
            not_after: century().1,
            usage: vec![Usage::Server],
            ca: false,
            bare: false,
            addresses,
            names,
        }
    }
}

// === impl Authority ===

impl Authority {
    /// A new authority with `O=organization` as its whole subject, as Talos names its own (`O=talos`). It lives from 2000 to
    /// 2099, with a random subject key identifier, as Talos makes it, and no extended key usage.
    ///
    /// # Errors
    /// When the system gives no random values.
    pub fn new(organization: &str) -> anyhow::Result<Self> {
        Self::with_usage(organization, &[])
    }

    /// As [`Authority::new`], with an extended key usage.
    ///
    /// # Errors
    /// When the system gives no random values.
    pub fn with_usage(organization: &str, usage: &[Usage]) -> anyhow::Result<Self> {
        let key = generate()?;
        let name = name(&[organization.to_owned()], None);
        let key_id = random::bytes()?;
        let mut extensions = vec![
            extension(&[0x55, 0x1d, 0x13], true, &der::sequence(&[der::element(0x01, &[0xff])])),
            extension(&[0x55, 0x1d, 0x0f], true, &der::element(0x03, &[1, 0x06])),
            extension(&[0x55, 0x1d, 0x0e], false, &der::element(0x04, &key_id)),
        ];
        extensions.extend(extended_usage(usage));
        let unsigned = unsigned(&name, &name, century(), ed25519_info(key.public_key().as_ref()), extensions)?;
        let certificate = signed(unsigned, &key);
        Ok(Self { name, key, key_id, certificate })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// The authority's private key, PKCS#8, PEM with the label that Talos writes.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn key(&self) -> anyhow::Result<String> {
        Ok(pem("ED25519 PRIVATE KEY", &pkcs8(&self.key)?))
    }

    /// Signs a leaf with a new Ed25519 key.
    ///
    /// # Errors
    /// When the system gives no random values.
    pub fn issue(&self, leaf: &Leaf) -> anyhow::Result<Certified> {
        let key = generate()?;
        let certificate = self.issue_for(leaf, key.public_key().as_ref())?;
        Ok(Certified { certificate, key: pem("PRIVATE KEY", &pkcs8(&key)?) })
    }

    /// Signs a leaf for the Ed25519 public key (32 bytes) of somebody's request; PEM.
    ///
    /// # Errors
    /// When the system gives no random values.
    pub fn issue_for(&self, leaf: &Leaf, public_key: &[u8]) -> anyhow::Result<String> {
        let mut extensions = Vec::new();
        let constraints = if leaf.ca { vec![der::element(0x01, &[0xff])] } else { Vec::new() };
        if leaf.ca || !leaf.bare {
            extensions.push(extension(&[0x55, 0x1d, 0x13], true, &der::sequence(&constraints)));
        }
        extensions.push(extension(&[0x55, 0x1d, 0x0f], true, &der::element(0x03, &[7, 0x80])));
        extensions.extend(extended_usage(&leaf.usage));
        extensions.push(extension(&[0x55, 0x1d, 0x23], false, &der::sequence(&[der::element(0x80, &self.key_id)])));
        extensions.extend(alternative_names(&leaf.addresses, &leaf.names));
        let subject = name(&leaf.organization, leaf.common_name.as_deref());
        let life = (leaf.not_before, leaf.not_after);
        let certificate = self.sign(&subject, life, ed25519_info(public_key), extensions)?;
        Ok(pem("CERTIFICATE", &certificate))
    }

    /// Signs whatever it is given, with a new serial number: DER. `key` is a SubjectPublicKeyInfo.
    pub(crate) fn sign(
        &self,
        subject: &[u8],
        life: (Timestamp, Timestamp),
        key: Vec<u8>,
        extensions: Vec<Vec<u8>>,
    ) -> anyhow::Result<Vec<u8>> {
        Ok(signed(unsigned(&self.name, subject, life, key, extensions)?, &self.key))
    }

    /// The subject key identifier of the authority.
    pub(crate) fn key_id(&self) -> &[u8] {
        &self.key_id
    }
}

/// 2000-01-01 to 2099-12-31.
fn century() -> (Timestamp, Timestamp) {
    (
        Timestamp::from_second(946_684_800).unwrap_or(Timestamp::MIN),
        Timestamp::from_second(4_102_444_799).unwrap_or(Timestamp::MAX),
    )
}

fn generate() -> anyhow::Result<Ed25519KeyPair> {
    Ed25519KeyPair::generate().ok().context("the system gave no key")
}

fn pkcs8(key: &Ed25519KeyPair) -> anyhow::Result<Vec<u8>> {
    Ok(key.to_pkcs8v1().ok().context("the key cannot be encoded")?.as_ref().to_vec())
}

fn name(organization: &[String], common_name: Option<&str>) -> Vec<u8> {
    let attribute = |kind, value: &str| der::sequence(&[der::oid(kind), der::utf8(value)]);
    let mut parts = Vec::new();
    if !organization.is_empty() {
        parts.push(der::set(organization.iter().map(|value| attribute(ORGANIZATION, value)).collect()));
    }
    parts.extend(common_name.map(|value| der::set(vec![attribute(COMMON_NAME, value)])));
    der::sequence(&parts)
}

fn unsigned(
    issuer: &[u8],
    subject: &[u8],
    (not_before, not_after): (Timestamp, Timestamp),
    key: Vec<u8>,
    extensions: Vec<Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    Ok(der::sequence(&[
        der::element(0xa0, &der::integer(&[2])),
        der::integer(&random::bytes::<16>()?),
        der::sequence(&[der::oid(ED25519)]),
        issuer.to_vec(),
        der::sequence(&[der::time(not_before), der::time(not_after)]),
        subject.to_vec(),
        key,
        der::element(0xa3, &der::sequence(&extensions)),
    ]))
}

/// The SubjectPublicKeyInfo (RFC 8410 §4) of an Ed25519 public key of 32 bytes.
fn ed25519_info(public_key: &[u8]) -> Vec<u8> {
    der::sequence(&[der::sequence(&[der::oid(ED25519)]), der::bit_string(public_key)])
}

fn signed(unsigned: Vec<u8>, key: &Ed25519KeyPair) -> Vec<u8> {
    let signature = der::bit_string(key.sign(&unsigned).as_ref());
    der::sequence(&[unsigned, der::sequence(&[der::oid(ED25519)]), signature])
}

pub(crate) fn extension(id: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let mut parts = vec![der::oid(id)];
    if critical {
        parts.push(der::element(0x01, &[0xff]));
    }
    parts.push(der::element(0x04, content));
    der::sequence(&parts)
}

fn extended_usage(usage: &[Usage]) -> Option<Vec<u8>> {
    if usage.is_empty() {
        return None;
    }
    let purposes: Vec<Vec<u8>> = usage
        .iter()
        .map(|usage| {
            der::oid(match usage {
                Usage::Client => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02],
                Usage::Server => &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01],
                Usage::Any => &[0x55, 0x1d, 0x25, 0x00],
                Usage::Private => &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xe1, 0x2b, 0x01],
            })
        })
        .collect();
    Some(extension(&[0x55, 0x1d, 0x25], false, &der::sequence(&purposes)))
}

fn alternative_names(addresses: &[IpAddr], names: &[String]) -> Option<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = names.iter().map(|name| der::element(0x82, name.as_bytes())).collect();
    parts.extend(addresses.iter().map(|address| match address {
        IpAddr::V4(v4) => der::element(0x87, &v4.octets()),
        IpAddr::V6(v6) => der::element(0x87, &v6.octets()),
    }));
    (!parts.is_empty()).then(|| extension(&[0x55, 0x1d, 0x11], false, &der::sequence(&parts)))
}

/// `content` as PEM under `label`.
pub(crate) fn pem(label: &str, content: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(content);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// The certificate's SHA-256 fingerprint, lower-case hex.
///
/// # Errors
/// When `certificate` is not PEM.
pub fn fingerprint(certificate: &str) -> anyhow::Result<String> {
    use rustls_pki_types::pem::PemObject as _;
    let der = rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes())?;
    Ok(digest::digest(&digest::SHA256, &der).as_ref().iter().map(|octet| format!("{octet:02x}")).collect())
}
