//! Reads a cluster's own CA from the files that people have.

use std::fmt;

use ichor_wire::profile::pem::{self, PemError};
use ichor_wire::profile::{CaCertificate, CaError};
use jiff::Timestamp;

use super::documents::{self, Document, DocumentError, Pair};
use super::{CaMaterial, KeyMismatch};
use crate::custody::{KeyLoadError, LocalSigner};

/// What kind of file the CA came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// `secrets.yaml` of `talosctl gen secrets`: `certs.os`.
    Secrets,
    /// A control-plane machine config: `machine.ca`.
    MachineConfig,
    /// Certificate and key as PEM, in one text.
    Pem,
}

/// Why a CA was not imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The YAML cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The PEM cannot be read.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Nothing that could hold a CA.
    #[error("no CA found; give secrets.yaml, a control-plane machine config, or the CA's certificate and key as PEM")]
    Nothing,
    /// A worker's config has the certificate alone.
    #[error("this is a worker's machine config: it holds the CA certificate without its key; give a control-plane one")]
    Worker,
    /// The certificate is there, its key is not.
    #[error(
        "the CA's key is missing; give secrets.yaml, a control-plane machine config, or the key beside the certificate"
    )]
    NoKey,
    /// The key is there, its certificate is not.
    #[error("the CA's certificate is missing; give it beside the key")]
    NoCertificate,
    /// More than one CA, so that one would have to be guessed.
    #[error("there is more than one CA or key in this; give one")]
    Several,
    /// The certificate cannot issue client certificates, or not now.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyLoadError),
    /// They do not belong together.
    #[error(transparent)]
    Mismatch(#[from] KeyMismatch),
}

/// The CA in `text`, which may be `secrets.yaml`, a machine config of one or several documents, or certificate and key as
/// PEM (one text, in any order; also `ED25519 PRIVATE KEY`, `EC PRIVATE KEY`, `RSA PRIVATE KEY`). The caller wipes the text.
///
/// # Errors
/// When there is no usable CA, each reason by its name; nothing of the key is ever quoted.
pub fn import(text: &str, now: Timestamp) -> Result<(CaMaterial, Imported), ImportError> {
    if text.contains("-----BEGIN ") {
        return Ok((from_pem(text, now)?, Imported::Pem));
    }
    let documents = documents::read(text)?;
    let mut secrets = documents.iter().filter_map(|d| d.certs.as_ref()?.os.as_ref());
    if let Some(pair) = secrets.next() {
        return if secrets.next().is_some() {
            Err(ImportError::Several)
        } else {
            Ok((from_pair(pair, now)?, Imported::Secrets))
        };
    }
    Ok((from_machine(&documents, now)?, Imported::MachineConfig))
}

fn from_machine(documents: &[Document], now: Timestamp) -> Result<CaMaterial, ImportError> {
    let mut machines = documents.iter().filter_map(|d| d.machine.as_ref());
    let (Some(machine), None) = (machines.next(), machines.next()) else {
        let none = documents.iter().all(|d| d.machine.is_none());
        return Err(if none { ImportError::Nothing } else { ImportError::Several });
    };
    let pair = machine.ca.as_ref().ok_or(ImportError::Nothing)?;
    match from_pair(pair, now) {
        Err(ImportError::NoKey) if machine.kind.as_deref() == Some("worker") => Err(ImportError::Worker),
        other => other,
    }
}

fn from_pair(pair: &Pair, now: Timestamp) -> Result<CaMaterial, ImportError> {
    let certificate = pair.crt.as_deref().filter(|c| !c.is_empty()).ok_or(ImportError::NoCertificate)?;
    let key = pair.key.as_ref().map(documents::SecretText::as_str).filter(|k| !k.is_empty());
    let key = key.ok_or(ImportError::NoKey)?;
    let mut whole = documents::pem_text("crt", certificate)?;
    whole.push('\n');
    // Grown to its final size at once, so that the key is not left behind in an outgrown buffer.
    let key = documents::pem_text("key", key)?;
    let mut both = zeroize::Zeroizing::new(String::with_capacity(whole.len() + key.len()));
    both.push_str(&whole);
    both.push_str(&key);
    from_pem(&both, now)
}

fn from_pem(text: &str, now: Timestamp) -> Result<CaMaterial, ImportError> {
    let (mut certificates, mut keys) = (Vec::new(), Vec::new());
    for block in pem::blocks(text)? {
        // Talos labels PKCS#8 `ED25519 PRIVATE KEY`; what the key is, its DER says.
        match block.label.as_str() {
            "CERTIFICATE" => certificates.push(block.der),
            "PRIVATE KEY" => keys.push(block.der),
            label if label.ends_with(" PRIVATE KEY") => keys.push(block.der),
            _ => {}
        }
    }
    let (certificate, key) = match (certificates.as_slice(), keys.as_slice()) {
        ([certificate], [key]) => (certificate, key),
        ([], []) => return Err(ImportError::Nothing),
        ([], _) => return Err(ImportError::NoCertificate),
        (_, []) => return Err(ImportError::NoKey),
        _ => return Err(ImportError::Several),
    };
    let certificate = CaCertificate::from_der(certificate)?;
    certificate.check_time(now)?;
    Ok(CaMaterial::new(certificate, LocalSigner::from_der(key)?)?)
}

// === impl Imported ===

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secrets => "secrets.yaml",
            Self::MachineConfig => "machine config",
            Self::Pem => "PEM",
        })
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use ichor_wire::profile::KeyError;
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    /// A CA as Talos makes its own: certificate and key as PEM.
    fn ca(change: impl FnOnce(&mut CertificateParams), kind: &'static rcgen::SignatureAlgorithm) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "talos");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2036, 1, 1);
        change(&mut params);
        let key = KeyPair::generate_for(kind).unwrap();
        let label = if kind == &rcgen::PKCS_ED25519 { "ED25519 PRIVATE KEY" } else { "PRIVATE KEY" };
        let key_pem = pem::encode(label, key.serialized_der()).to_string();
        (params.self_signed(&key).unwrap().pem(), key_pem)
    }

    fn usual() -> (String, String) {
        ca(|_| (), &rcgen::PKCS_ED25519)
    }

    fn b64(text: &str) -> String {
        BASE64.encode(text.as_bytes())
    }

    fn machine(kind: &str, crt: &str, key: &str) -> String {
        format!(
            "version: v1alpha1\nmachine:\n  type: {kind}\n  token: abc\n  ca:\n    crt: {}\n    key: {}\ncluster:\n  id: x\n",
            b64(crt),
            if key.is_empty() { "\"\"".to_owned() } else { b64(key) },
        )
    }

    #[test]
    fn reads_what_people_have() {
        let (crt, key) = usual();
        let read = |text: &str| import(text, now()).map(|(ca, from)| (ca.certificate().pem(), from));
        let secrets = format!(
            "cluster:\n  id: x\n  secret: y\nsecrets:\n  bootstraptoken: z\ncerts:\n  etcd:\n    crt: AAAA\n    key: AAAA\n  os:\n    crt: {}\n    key: {}\n",
            b64(&crt),
            b64(&key)
        );
        let canonical = CaCertificate::parse(&crt).unwrap().pem();
        assert_eq!(read(&secrets), Ok((canonical.clone(), Imported::Secrets)));
        let config = machine("controlplane", &crt, &key);
        assert_eq!(read(&config), Ok((canonical.clone(), Imported::MachineConfig)));
        let documents = format!(
            "---\napiVersion: v1alpha1\nkind: HostnameConfig\nhostname: n1\n---\n{config}---\n# nothing here\n---\napiVersion: v1alpha1\nkind: UserVolumeConfig\nname: data\n"
        );
        assert_eq!(read(&documents), Ok((canonical.clone(), Imported::MachineConfig)));
        assert_eq!(read(&format!("{crt}{key}")), Ok((canonical.clone(), Imported::Pem)));
        assert_eq!(read(&format!("{key}{crt}").replace('\n', "\r\n")), Ok((canonical, Imported::Pem)));
    }

    #[test]
    fn reads_every_kind_of_key() {
        for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256] {
            let (crt, key) = ca(|_| (), kind);
            import(&format!("{crt}{key}"), now()).unwrap();
        }
    }

    #[test]
    fn refuses_each_by_name() {
        let (crt, key) = usual();
        let (_, other) = usual();
        let refused = |text: &str| import(text, now()).unwrap_err();
        assert_eq!(refused(&format!("{crt}{other}")), ImportError::Mismatch(KeyMismatch));
        assert_eq!(refused(&machine("controlplane", &crt, &other)), ImportError::Mismatch(KeyMismatch));
        assert_eq!(refused(&machine("worker", &crt, "")), ImportError::Worker);
        assert_eq!(refused(&machine("controlplane", &crt, "")), ImportError::NoKey);
        assert_eq!(refused(&crt), ImportError::NoKey);
        assert_eq!(refused(&key), ImportError::NoCertificate);
        assert_eq!(refused(&format!("{crt}{crt}{key}")), ImportError::Several);
        assert_eq!(refused("a: b\n"), ImportError::Nothing);
        assert_eq!(refused(""), ImportError::Nothing);
        let twice = format!("{}---\n{}", machine("controlplane", &crt, &key), machine("controlplane", &crt, &key));
        assert_eq!(refused(&twice), ImportError::Several);
        assert!(matches!(refused("machine: [\n"), ImportError::Document(DocumentError::Yaml { .. })));

        let with = |change: fn(&mut CertificateParams)| {
            let (crt, key) = ca(change, &rcgen::PKCS_ED25519);
            refused(&format!("{crt}{key}"))
        };
        assert_eq!(with(|p| p.is_ca = IsCa::ExplicitNoCa), ImportError::Ca(CaError::NotACa));
        assert_eq!(
            with(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            ImportError::Ca(CaError::ExtendedKeyUsage)
        );
        assert!(matches!(
            with(|p| p.not_after = rcgen::date_time_ymd(2026, 2, 1)),
            ImportError::Ca(CaError::Expired(_))
        ));
        assert!(matches!(
            with(|p| p.not_before = rcgen::date_time_ymd(2027, 1, 1)),
            ImportError::Ca(CaError::NotYetValid(_))
        ));
    }

    #[test]
    fn refuses_weak_rsa() {
        // Made once with OpenSSL: a 1024-bit CA; no key of it is kept.
        let text = format!("{}{}", include_str!("weak_rsa_ca.pem"), usual().1);
        assert_eq!(import(&text, now()).unwrap_err(), ImportError::Ca(CaError::Key(KeyError::WeakRsa { bits: 1024 })));
    }

    #[test]
    fn never_quotes_the_key() {
        let (crt, key) = usual();
        let secret = b64(&key);
        let broken = format!("{}    key: {secret}\n", machine("controlplane", &crt, &key));
        let error = import(&broken, now()).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(&secret[80..100]), "{shown}");
        let (ca, _) = import(&format!("{crt}{key}"), now()).unwrap();
        assert!(!format!("{ca:?}").contains("PRIVATE"));
    }
}
