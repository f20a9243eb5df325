//! A cluster's standing credential: certificate and key of an `os:admin` talosconfig, with which the cluster's own API makes
//! client certificates. It is for those who have neither the cluster's CA key nor a CA in `acceptedCAs`.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ichor_wire::profile::pem::{self, PemError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::{KeyLoadError, LocalSigner, LockedBytes, Signer};

/// The one role that a node lets make certificates.
const ADMIN: &str = "os:admin";

/// Certificate and key of a talosconfig's context. They belong together and name `os:admin`; whether the certificate is valid
/// *now* is [`Self::check_time`]'s.
pub struct StandingCredential {
    certificate: Vec<u8>,
    key: LockedBytes,
    roles: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a certificate and key are no standing credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StandingError {
    /// Not PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Not exactly one certificate.
    #[error("the credential's certificate cannot be read; take the talosconfig that `talosctl` works with")]
    Certificate,
    /// Not exactly one key, or one that nobody can use.
    #[error("the credential's key cannot be read; take the talosconfig that `talosctl` works with")]
    Key,
    /// Key and certificate are of different credentials.
    #[error("the credential's key and certificate differ; take a talosconfig in which they belong together")]
    Mismatch,
    /// The certificate cannot make others.
    #[error("the credential has the roles {0}, not `os:admin`; nodes let only `os:admin` make certificates")]
    NotAdmin(String),
    /// The certificate is no client's.
    #[error(
        "the credential's certificate is not for clients (clientAuth); take the talosconfig that `talosctl` works with"
    )]
    NotAClient,
    /// Its time has not come.
    #[error("the credential is not valid before {0}; set this host's clock, or wait")]
    NotYetValid(Timestamp),
    /// Its time is over.
    #[error("the credential expired at {0}; adopt a new one with `ichor-broker cluster add --adopt FILE --replace`")]
    Expired(Timestamp),
    /// What was sealed is not one.
    #[error("what was sealed is not a credential")]
    Unreadable,
}

/// The credential as it is sealed, JSON. The key is base64 of PKCS#8: base64 needs no escapes, so reading it makes no copy.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept<'a> {
    certificate: &'a str,
    key: &'a str,
}

/// A private key that was made elsewhere, with its public half.
pub struct ForeignKey {
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// PKCS#8 version 1, DER, written anew: nothing else that came with the key is in it.
    pub pkcs8: LockedBytes,
}

// === impl StandingCredential ===

impl StandingCredential {
    /// Puts certificate and key together, both PEM; the key under any label ending in `PRIVATE KEY`. The caller wipes the
    /// texts.
    ///
    /// # Errors
    /// When they do not belong together or cannot make certificates, each reason by its name; nothing of the key is quoted.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, StandingError> {
        let credential = Self::of_any_role(certificate, key)?;
        if !credential.roles.iter().any(|role| role == ADMIN) {
            return Err(StandingError::NotAdmin(shown(&credential.roles)));
        }
        Ok(credential)
    }

    /// The same of a certificate that need not be os:admin: it can ask nodes, and have no certificates made.
    ///
    /// # Errors
    /// As [`Self::from_pem`], but for the role.
    pub fn of_any_role(certificate: &str, key: &str) -> Result<Self, StandingError> {
        let (certificates, keys) = (pem::blocks(certificate)?, pem::blocks(key)?);
        let ([certificate], [key]) = (certificates.as_slice(), keys.as_slice()) else {
            return Err(if certificates.len() == 1 { StandingError::Key } else { StandingError::Certificate });
        };
        if certificate.label != "CERTIFICATE" {
            return Err(StandingError::Certificate);
        }
        if !key.label.ends_with("PRIVATE KEY") {
            return Err(StandingError::Key);
        }
        Self::new(certificate.der.to_vec(), &key.der)
    }

    fn new(certificate: Vec<u8>, key: &[u8]) -> Result<Self, StandingError> {
        let (rest, parsed) = X509Certificate::from_der(&certificate).map_err(|_| StandingError::Certificate)?;
        let key = ForeignKey::read(key).map_err(|_| StandingError::Key)?;
        if !rest.is_empty() {
            return Err(StandingError::Certificate);
        }
        if parsed.public_key().raw != key.public_key {
            return Err(StandingError::Mismatch);
        }
        let usage = parsed.extended_key_usage().ok().flatten();
        if !usage.is_some_and(|usage| usage.value.client_auth) {
            return Err(StandingError::NotAClient);
        }
        let values = parsed.subject().iter_organization().filter_map(|value| value.as_str().ok());
        let roles: Vec<String> = values.map(|role| role.trim().to_owned()).collect();
        let time = |at: i64| Timestamp::from_second(at).map_err(|_| StandingError::Certificate);
        let not_before = time(parsed.validity().not_before.timestamp())?;
        let not_after = time(parsed.validity().not_after.timestamp())?;
        Ok(Self { not_before, not_after, roles, key: key.pkcs8, certificate })
    }

    /// Whether it is valid at `now`.
    ///
    /// # Errors
    /// When it is not valid yet, or not any more.
    pub fn check_time(&self, now: Timestamp) -> Result<(), StandingError> {
        if now < self.not_before {
            return Err(StandingError::NotYetValid(self.not_before));
        }
        if now > self.not_after {
            return Err(StandingError::Expired(self.not_after));
        }
        Ok(())
    }

    /// The certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The private key, PKCS#8, DER.
    #[must_use]
    pub fn key(&self) -> &LockedBytes {
        &self.key
    }

    /// The roles that it names.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// The certificate's start.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The certificate's end.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// SHA-256 of the certificate's DER, lower-case hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(&self.certificate))
    }

    /// What is sealed.
    pub(super) fn to_sealed(&self) -> Zeroizing<Vec<u8>> {
        let certificate = BASE64.encode(&self.certificate);
        let key = Zeroizing::new(BASE64.encode(self.key.as_slice()));
        // Room for all at once, so that growing leaves no copy behind.
        let mut json = Zeroizing::new(Vec::with_capacity(certificate.len() + key.len() + 100));
        // Writing into memory does not fail, and half a text would not open.
        let _ = serde_json::to_writer(&mut *json, &Kept { certificate: &certificate, key: &key });
        json
    }

    /// What was sealed.
    pub(super) fn from_sealed(json: &[u8]) -> Result<Self, StandingError> {
        let kept: Kept<'_> = serde_json::from_slice(json).map_err(|_| StandingError::Unreadable)?;
        let certificate = BASE64.decode(kept.certificate.as_bytes()).map_err(|_| StandingError::Unreadable)?;
        let len = BASE64.decode_len(kept.key.len()).map_err(|_| StandingError::Unreadable)?;
        let mut key = LockedBytes::zeroed(len);
        let len = BASE64.decode_mut(kept.key.as_bytes(), key.as_mut_slice()).map_err(|_| StandingError::Unreadable)?;
        key.truncate(len);
        Self::new(certificate, key.as_slice())
    }
}

impl fmt::Debug for StandingCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandingCredential").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

// === impl ForeignKey ===

impl ForeignKey {
    /// Reads an unencrypted private key, DER.
    ///
    /// # Errors
    /// When it is none of a kind that we use.
    pub fn read(der: &[u8]) -> Result<Self, KeyLoadError> {
        let signer = LocalSigner::from_der(der)?;
        Ok(Self { public_key: signer.public_key().to_vec(), pkcs8: signer.to_pkcs8()? })
    }
}

impl fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeignKey(..)")
    }
}

fn shown(roles: &[String]) -> String {
    let one = |role: &String| format!("`{}`", role.chars().filter(|c| !c.is_control()).take(64).collect::<String>());
    if roles.is_empty() { "of nobody".to_owned() } else { roles.iter().take(8).map(one).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, KeyPair};

    use super::*;

    fn made(roles: &[&str], usage: &[ExtendedKeyUsagePurpose]) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for role in roles {
            params.distinguished_name.push(DnType::OrganizationName, DnValue::Utf8String((*role).to_owned()));
        }
        params.extended_key_usages = usage.to_vec();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, pem::encode("ED25519 PRIVATE KEY", key.serialized_der()).to_string())
    }

    #[test]
    fn what_is_sealed_is_the_same_and_shows_nothing() {
        let (certificate, key) = made(&["os:admin"], &[ExtendedKeyUsagePurpose::ClientAuth]);
        let credential = StandingCredential::from_pem(&certificate, &key).unwrap();
        let again = StandingCredential::from_sealed(&credential.to_sealed()).unwrap();
        assert_eq!(again.certificate(), credential.certificate());
        assert_eq!(again.key().as_slice(), credential.key().as_slice());
        let shown = format!("{again:?}");
        assert!(shown.contains("2027-01-01") && !shown.contains("key"), "{shown}");
        for bad in [&b"{}"[..], b"", b"{\"certificate\":\"AAAA\",\"key\":\"AAAA\"}"] {
            assert!(StandingCredential::from_sealed(bad).is_err());
        }
    }

    #[test]
    fn each_refusal_has_its_name() {
        let client = [ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = made(&["os:admin"], &client);
        let (reader, reader_key) = made(&["os:reader"], &client);
        let (server, server_key) = made(&["os:admin"], &[ExtendedKeyUsagePurpose::ServerAuth]);
        let refused = |certificate: &str, key: &str| StandingCredential::from_pem(certificate, key).unwrap_err();
        assert_eq!(refused(&certificate, &reader_key), StandingError::Mismatch);
        assert_eq!(refused(&reader, &reader_key), StandingError::NotAdmin("`os:reader`".into()));
        assert_eq!(refused(&server, &server_key), StandingError::NotAClient);
        assert_eq!(refused(&key, &key), StandingError::Certificate);
        assert_eq!(refused(&certificate, &certificate), StandingError::Key);
        assert_eq!(refused("", &key), StandingError::Certificate);
        assert_eq!(refused(&certificate, ""), StandingError::Key);
        assert_eq!(refused(&[certificate.as_str(), &certificate].concat(), &key), StandingError::Certificate);
        let credential = StandingCredential::from_pem(&certificate, &key).unwrap();
        let at = |text: &str| credential.check_time(text.parse().unwrap());
        assert_eq!(at("2026-06-01T00:00:00Z"), Ok(()));
        assert!(matches!(at("2025-12-31T23:59:59Z"), Err(StandingError::NotYetValid(_))));
        assert!(matches!(at("2027-01-01T00:00:01Z"), Err(StandingError::Expired(_))));
    }
}
