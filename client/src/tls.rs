//! Whom we believe to be the broker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::private_file;

/// Where the usual systems keep their CA certificates.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// What the broker's certificate must lead to. There is no way to accept any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The system's CA certificates.
    System {
        /// `SSL_CERT_FILE`, where set.
        bundle: Option<PathBuf>,
    },
    /// The CA certificates in this PEM file, and no others.
    CaFile(PathBuf),
    /// The CA certificates in this PEM text, and no others.
    CaPem(String),
    /// The one CA whose key has this digest.
    Pin(Pin),
}

/// SHA-256 of the SubjectPublicKeyInfo of a CA certificate (or of the server's own, where that is self-signed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin([u8; 32]);

/// The text is not a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin is `sha256:` and the digest of the CA's public key, 64 hex digits or base64")]
pub struct PinError;

/// Picks the pinned CA from what the server sends, and then lets the standard verifier judge with it as the only root.
///
/// The pin chooses a root; it replaces no check: name, dates, usage, signatures are the standard verifier's.
#[derive(Debug)]
struct PinnedVerifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

// === impl Trust ===

impl Trust {
    /// What this believes, in one line without its source: `system`, a pin as it stands in the settings, or
    /// `sha256s:` and the SHA-256 digest of the SHA-256 digests of a file's certificates, in order, each once. Two files with the
    /// same certificates are the same trust, and a file that was changed is another.
    ///
    /// # Errors
    /// When a file cannot be read or holds no certificate.
    pub fn fingerprint(&self) -> Result<String, Error> {
        let certificates = match self {
            Self::System { .. } => return Ok("system".into()),
            Self::Pin(pin) => return Ok(pin.to_string()),
            Self::CaFile(_) | Self::CaPem(_) => self.certificates()?,
        };
        let mut whole = Sha256::new();
        certificates.keys().for_each(|digest| whole.update(digest));
        Ok(format!("sha256s:{}", data_encoding::HEXLOWER.encode(&whole.finalize())))
    }

    /// What a person compares with whoever runs the broker, in one line: of a file with one certificate its pin, which is the value
    /// of `ca_pin` and can be told with openssl; else [`Self::fingerprint`].
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn to_compare(&self) -> Result<String, Error> {
        let certificates = self.certificates()?;
        let mut pins = certificates.values().map(Pin::of);
        match (pins.next().flatten(), pins.next()) {
            (Some(pin), None) => Ok(pin.to_string()),
            _ => self.fingerprint(),
        }
    }

    /// The certificates of a file or a text by their SHA-256 digests; none of what is trusted otherwise.
    fn certificates(&self) -> Result<BTreeMap<[u8; 32], CertificateDer<'static>>, Error> {
        let pem = match self {
            Self::System { .. } | Self::Pin(_) => return Ok(BTreeMap::new()),
            Self::CaFile(path) => read_ca(path)?,
            Self::CaPem(pem) => pem.clone().into_bytes(),
        };
        let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
        Ok(certificates.map(|der| (Sha256::digest(&der).into(), der)).collect())
    }

    /// A TLS configuration that believes only this; TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// When a file cannot be read or holds no certificate.
    pub fn client_config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = builder(&provider)?;
        Ok(match self {
            Self::System { bundle } => {
                builder.with_root_certificates(system_roots(bundle.as_deref())?).with_no_client_auth()
            }
            Self::CaFile(path) => builder
                .with_root_certificates(roots(&read_ca(path)?, &path.display().to_string())?)
                .with_no_client_auth(),
            Self::CaPem(pem) => builder.with_root_certificates(roots(pem.as_bytes(), "the CA")?).with_no_client_auth(),
            Self::Pin(pin) => {
                let verifier = PinnedVerifier { pin: *pin, provider };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
            }
        })
    }
}

// === impl Pin ===

impl Pin {
    /// The pin of a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(Self(Sha256::digest(parsed.public_key().raw).into()))
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let digest = text.strip_prefix("sha256:").ok_or(PinError)?.as_bytes();
        let bytes = match digest.len() {
            64 => HEXLOWER_PERMISSIVE.decode(digest),
            _ => BASE64.decode(digest),
        };
        Ok(Self(bytes.map_err(|_| PinError)?.try_into().map_err(|_| PinError)?))
    }
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", data_encoding::HEXLOWER.encode(&self.0))
    }
}

// === impl PinnedVerifier ===

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = std::iter::once(end_entity).chain(intermediates).find(|sent| Pin::of(sent) == Some(self.pin));
        let pinned = pinned.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let standard = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        standard.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS configuration that believes no server at all.
pub(crate) fn believing_nobody() -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(builder(&provider)?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder(provider: &Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    let versions = ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
    versions.map_err(|_| Error::Bug("the TLS library has no protocol version"))
}

/// The largest file of a broker's CA, in bytes: a stranger's `.ichor.toml` may have named it.
const LARGEST_CA: u64 = 1024 * 1024;

/// The largest bundle of a system's CAs, in bytes.
const LARGEST_BUNDLE: u64 = 16 * 1024 * 1024;

fn read_ca(path: &Path) -> Result<Vec<u8>, Error> {
    private_file::read_regular(path, LARGEST_CA).map_err(|error| {
        let message = format!("cannot read the CA file `{}`: {error}", path.display());
        Error::usage(message, "name a file that is there, with `--ca` or as `ca_file` in the settings")
    })
}

fn roots(pem: &[u8], name: &str) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem).filter_map(Result::ok) {
        // Old bundles hold a certificate or two that webpki cannot use; the rest counts.
        let _ = store.add(certificate);
    }
    if store.is_empty() {
        return Err(Error::usage(
            format!("`{name}` holds no usable CA certificate"),
            "name a PEM file with the broker's CA",
        ));
    }
    Ok(store)
}

fn system_roots(bundle: Option<&Path>) -> Result<RootCertStore, Error> {
    if let Some(path) = bundle {
        let pem = private_file::read_regular(path, LARGEST_BUNDLE).map_err(Error::file("read", path))?;
        return roots(&pem, &path.display().to_string());
    }
    match BUNDLES.iter().find_map(|path| Some((path, std::fs::read(path).ok()?))) {
        Some((path, pem)) => roots(&pem, path),
        None => Ok(RootCertStore::empty()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    struct Served {
        chain: Vec<CertificateDer<'static>>,
        ca: CertificateDer<'static>,
    }

    fn served(name: &str) -> Served {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap();
        Served { chain: vec![leaf.der().clone(), ca.der().clone()], ca: ca.der().clone() }
    }

    fn verify(pin: Pin, chain: &[CertificateDer<'_>], name: &'static str) -> Result<(), rustls::Error> {
        let verifier = PinnedVerifier { pin, provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()) };
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).map(|_| ())
    }

    #[test]
    fn a_chain_to_the_pinned_ca_is_believed() {
        let served = served("broker.example");
        verify(Pin::of(&served.ca).unwrap(), &served.chain, "broker.example").unwrap();
    }

    #[test]
    fn a_pin_is_not_a_licence() {
        let (ours, other) = (served("broker.example"), served("broker.example"));
        let pin = Pin::of(&ours.ca).unwrap();
        verify(pin, &ours.chain, "evil.example").unwrap_err();
        verify(pin, &other.chain, "broker.example").unwrap_err();
        // The pinned CA is sent along, but the certificate is another CA's.
        verify(pin, &[other.chain[0].clone(), ours.ca.clone()], "broker.example").unwrap_err();
        verify(pin, &ours.chain[..1], "broker.example").unwrap_err();
    }

    #[test]
    fn pins_read_in_hex_and_base64() {
        let pin = Pin([7; 32]);
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(format!("sha256:{}", BASE64.encode(&[7; 32])).parse(), Ok(pin));
        for bad in ["", "sha256:", "sha256:00", "md5:00", "0707"] {
            assert_eq!(bad.parse::<Pin>(), Err(PinError), "{bad}");
        }
    }

    #[test]
    fn a_trust_is_told_by_what_it_believes_and_not_by_where_that_stands() {
        let (one, two) = (rcgen_pem(), rcgen_pem());
        let of = |pem: &str| Trust::CaPem(pem.into()).fingerprint().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, format!("# the two\n{two}{one}{two}")).unwrap();
        assert_eq!(Trust::CaFile(file).fingerprint().unwrap(), of(&format!("{one}{two}")));
        assert_ne!(of(&one), of(&two));
        assert_ne!(of(&one), of(&format!("{one}{two}")));
        assert_eq!(Trust::Pin(Pin([7; 32])).fingerprint().unwrap(), Pin([7; 32]).to_string());
        assert_eq!(Trust::System { bundle: Some("b".into()) }.fingerprint().unwrap(), "system");
        assert!(Trust::CaFile(folder.path().join("none")).fingerprint().is_err());
    }

    #[test]
    fn one_ca_is_compared_by_the_pin_that_settings_take() {
        let (one, two) = (rcgen_pem(), rcgen_pem());
        let shown = |pem: &str| Trust::CaPem(pem.into()).to_compare().unwrap();
        let pin = Pin::of(&CertificateDer::from_pem_slice(one.as_bytes()).unwrap()).unwrap();
        assert_eq!(shown(&one).parse(), Ok(pin));
        assert_eq!(shown(&format!("{one}{one}")), pin.to_string(), "the same one twice is one");
        assert!(shown(&format!("{one}{two}")).starts_with("sha256s:"));
        assert_eq!(Trust::Pin(pin).to_compare().unwrap(), pin.to_string());
        // what was agreed to by earlier versions stays agreed to
        assert!(Trust::CaPem(one).fingerprint().unwrap().starts_with("sha256s:"));
    }

    fn rcgen_pem() -> String {
        let key = KeyPair::generate().unwrap();
        CertificateParams::default().self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        assert!(Trust::CaPem("nothing".into()).client_config().is_err());
    }
}
