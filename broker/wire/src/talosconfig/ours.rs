//! Which contexts are ours, and the form of certificates and keys in the file.

use data_encoding::{BASE64, BASE64_MIME, HEXLOWER};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::pem::Pem;

use super::Context;
use crate::role::Role;

/// What the certificate of a context says that Ichor issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// The value behind `grant:`.
    pub grant: String,
    /// The value behind `user:`, if any.
    pub user: Option<String>,
    /// The roles, in the order of the type.
    pub roles: Vec<Role>,
    /// The certificate's start.
    pub not_before: Timestamp,
    /// The certificate's end.
    pub not_after: Timestamp,
}

/// Bytes that are not the certificate or key they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not base64 of a PEM certificate")]
pub struct PemError;

impl Context {
    /// SHA-256 of its certificate's DER, lower-case hex; `None` where there is none that can be read.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        fingerprint(&decode(self.crt.as_deref()?).ok()?)
    }

    /// As [`Self::ours`], of a certificate that is known from elsewhere to be this grant's.
    #[must_use]
    pub fn ours_granted(&self, grant: &str) -> Option<Ours> {
        Ours::read_granted(&decode(self.crt.as_deref()?).ok()?, grant)
    }

    /// What its certificate says, where Ichor issued it: a certificate whose Organization has a `grant:` value. `None` for
    /// every other one, and for what cannot be read.
    #[must_use]
    pub fn ours(&self) -> Option<Ours> {
        Ours::read(&decode(self.crt.as_deref()?).ok()?)
    }
}

impl Ours {
    /// Reads the first certificate of a PEM text; `None` where it is not one that Ichor issued.
    #[must_use]
    pub fn read(pem: &[u8]) -> Option<Self> {
        Self::read_as(pem, None)
    }

    /// The same of a certificate that Ichor had made by somebody who cannot name the grant: a certificate engine, or the
    /// cluster itself. Whoever calls this knows from elsewhere that the certificate is this grant's; one that names a grant is
    /// only read as that.
    #[must_use]
    pub fn read_granted(pem: &[u8], grant: &str) -> Option<Self> {
        Self::read_as(pem, Some(grant))
    }

    fn read_as(pem: &[u8], grant: Option<&str>) -> Option<Self> {
        let pem = Pem::iter_from_buffer(pem).find_map(Result::ok).filter(|pem| pem.label == "CERTIFICATE")?;
        let certificate = pem.parse_x509().ok()?;
        let values = || certificate.subject().iter_organization().filter_map(|value| value.as_str().ok());
        let behind = |prefix: &str| values().find_map(|value| value.strip_prefix(prefix)).map(str::to_owned);
        let mut roles: Vec<Role> = values().filter_map(|value| value.parse().ok()).collect();
        roles.sort_unstable();
        roles.dedup();
        Some(Self {
            grant: behind("grant:").or_else(|| grant.map(str::to_owned))?,
            user: behind("user:"),
            roles,
            not_before: Timestamp::from_second(certificate.validity().not_before.timestamp()).ok()?,
            not_after: Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?,
        })
    }

    /// Whether the certificate still serves; see [`is_fresh`].
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        is_fresh(self.not_before, self.not_after, now)
    }
}

/// Whether a certificate of this life is still used rather than renewed: it is valid and at least a fifth of its life is
/// left.
#[must_use]
pub fn is_fresh(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> bool {
    let life = not_after.as_second().saturating_sub(not_before.as_second());
    let left = not_after.as_second().saturating_sub(now.as_second());
    now >= not_before && left > 0 && left.saturating_mul(5) >= life
}

/// SHA-256 of the first certificate's DER of a PEM text, lower-case hex.
#[must_use]
pub fn fingerprint(pem: &[u8]) -> Option<String> {
    let pem = Pem::iter_from_buffer(pem).find_map(Result::ok).filter(|pem| pem.label == "CERTIFICATE")?;
    Some(HEXLOWER.encode(&Sha256::digest(&pem.contents)))
}

/// PEM as the file holds it: base64 on one line.
pub(super) fn encode(pem: &str) -> String {
    BASE64.encode(pem.as_bytes())
}

fn decode(value: &str) -> Result<Vec<u8>, PemError> {
    let compact: String = value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64.decode(compact.as_bytes()).or_else(|_| BASE64_MIME.decode(compact.as_bytes())).map_err(|_| PemError)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn context(organization: &str) -> Context {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        Context { crt: Some(encode(&pem)), ..Context::default() }
    }

    #[test]
    fn a_grant_makes_it_ours() {
        assert_eq!(context("grant:0190").ours().unwrap().grant, "0190");
        assert_eq!(context("os:admin").ours(), None);
        assert_eq!(context("x-grant:0190").ours(), None);
        assert_eq!(context("os:admin").ours_granted("0190").unwrap().grant, "0190");
        assert_eq!(context("grant:0190").ours_granted("0191").unwrap().grant, "0190", "what it names is what it is");
        assert_eq!(context("os:admin").fingerprint().unwrap().len(), 64);
        assert_eq!(Context::default().fingerprint(), None);
        assert_eq!(Context { crt: Some("not base64".into()), ..Context::default() }.ours(), None);
        assert_eq!(Context::default().ours(), None);
    }

    #[test]
    fn fresh_means_valid_with_a_fifth_left() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let fresh = |now| is_fresh(at(1000), at(2000), at(now));
        assert_eq!([999, 1000, 1800, 1801, 2000, 2001].map(fresh), [false, true, true, false, false, false]);
    }
}
