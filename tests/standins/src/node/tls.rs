//! Whom a node lets in: the standard verifier over the certificates that are accepted now, and then what apid asks beyond it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authority::Certified;
use crate::clock::Now;
use crate::lock;

/// Wraps the standard verifier: never accepts what that one refuses.
struct Verifier {
    standard: Arc<dyn ClientCertVerifier>,
    now: Now,
    refusals: Arc<Mutex<Vec<String>>>,
}

/// The TLS side of a node for one connection: client certificates under `accepted` are let in. Made anew for each connection,
/// so that a change acts on new connections at once and on open ones never.
pub(super) fn config(
    server: &Certified,
    accepted: &[CertificateDer<'static>],
    now: Now,
    refusals: Arc<Mutex<Vec<String>>>,
) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in accepted.iter().filter(|certificate| may_issue_clients(certificate, &now)) {
        roots.add(certificate.clone())?;
    }
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(rustls::ALL_VERSIONS)?;
    let verifier: Arc<dyn ClientCertVerifier> = if roots.is_empty() {
        // The standard verifier cannot be built without a root; nobody is let in then.
        Arc::new(Nobody)
    } else {
        let standard = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Arc::new(Verifier { standard, now, refusals })
    };
    let certificate = CertificateDer::from_pem_slice(server.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes())?;
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The certificates in a PEM bundle.
pub(super) fn certificates(bundle: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let mut out = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        let certificate = certificate.context("not a certificate in PEM")?;
        X509Certificate::from_der(&certificate).context("not an X.509 certificate")?;
        out.push(certificate);
    }
    Ok(out)
}

/// Go checks a root's dates and extended key usage too; webpki takes any root as it is.
fn may_issue_clients(certificate: &CertificateDer<'_>, now: &Now) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let second = now().as_second();
    let validity = parsed.validity();
    let alive = (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&second);
    let usage = parsed.extended_key_usage().ok().flatten();
    alive && usage.is_none_or(|usage| usage.value.client_auth || usage.value.any)
}

// === impl Verifier ===

impl Verifier {
    fn refused(&self, why: String, error: Error) -> Error {
        lock(&self.refusals).push(why);
        error
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.standard.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _machine_time: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let seconds = u64::try_from((self.now)().as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let verified = self
            .standard
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| self.refused(error.to_string(), error))?;
        if exactly_client_auth(end_entity) {
            return Ok(verified);
        }
        let error = Error::InvalidCertificate(CertificateError::BadEncoding);
        Err(self.refused("extended key usage is not exactly clientAuth".into(), error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.standard.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.standard.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.standard.supported_verify_schemes()
    }
}

/// clientAuth, and beside it nothing but purposes that nobody knows.
fn exactly_client_auth(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(Some(usage)) = parsed.extended_key_usage() else { return false };
    let usage = usage.value;
    let others = [
        usage.any,
        usage.server_auth,
        usage.code_signing,
        usage.email_protection,
        usage.time_stamping,
        usage.ocsp_signing,
    ];
    usage.client_auth && !others.contains(&true)
}

/// Lets nobody in.
#[derive(Debug)]
struct Nobody;

impl ClientCertVerifier for Nobody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
