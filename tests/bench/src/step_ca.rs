//! The peer that certificates are compared with: smallstep's step-ca, with its own database, issuing Ed25519 certificates by
//! one-time tokens. It is used where its binary is found, and otherwise said to be missing.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ichor_standins::address::free_port;
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::connection::Target;

/// The name that each certificate is for.
const SUBJECT: &str = "bench";
/// The provisioner's name and its key's.
const PROVISIONER: &str = "bench";
/// How long it may take to start.
const START: Duration = Duration::from_secs(20);

/// A running step-ca.
pub(crate) struct StepCa {
    url: Url,
    root: String,
    key: EcdsaKeyPair,
    process: Child,
    _folder: TempDir,
}

// === impl StepCa ===

impl StepCa {
    /// Starts it with its database under `dir`; `None` where `program` is not to be found.
    pub(crate) async fn start(program: &Path, dir: &Path) -> anyhow::Result<Option<Self>> {
        let found = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            return Ok(None);
        }
        let folder = tempfile::tempdir_in(dir)?;
        let root = authority(folder.path())?;
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .ok()
            .context("a key")?;
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).ok().context("a key")?;
        let port = free_port()?;
        let path = folder.path().canonicalize()?;
        std::fs::write(path.join("ca.json"), configuration(&path, port, &key)?.to_string())?;
        let log = std::fs::File::create(path.join("log"))?;
        let process = Command::new(program)
            .arg(path.join("ca.json"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let url = format!("https://localhost:{port}").parse()?;
        let peer = Self { url, root, key, process, _folder: folder };
        let (target, began) = (peer.target()?, Instant::now());
        while target.connect().await.is_err() {
            ensure!(began.elapsed() < START, "step-ca did not start: {}", std::fs::read_to_string(path.join("log"))?);
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(peer))
    }

    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        Target::new(&self.url, &self.root)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// So many requests to sign, each with a key, a signing request and a one-time token of its own.
    pub(crate) fn requests(&self, count: u64) -> anyhow::Result<Vec<Vec<u8>>> {
        (0..count).map(|number| self.request(number)).collect()
    }

    fn request(&self, number: u64) -> anyhow::Result<Vec<u8>> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = CertificateParams::new(vec![SUBJECT.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, SUBJECT);
        let csr = params.serialize_request(&key)?.pem()?;
        let body = json!({ "csr": csr, "ott": self.token(number)? }).to_string();
        Ok(format!(
            "POST /1.0/sign HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.url.authority(),
            body.len()
        )
        .into_bytes())
    }

    fn token(&self, number: u64) -> anyhow::Result<String> {
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs in the machine's own time")]
        let now = Timestamp::now().as_second();
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({ "alg": "ES256", "typ": "JWT", "kid": PROVISIONER }));
        let claims = part(json!({
            "iss": PROVISIONER,
            "aud": self.url.join("/1.0/sign")?,
            "sub": SUBJECT,
            "sans": [SUBJECT],
            "jti": number.to_string(),
            "iat": now,
            "nbf": now - 30,
            "exp": now + 3600,
        }));
        let signed = format!("{head}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).ok().context("a signature")?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Drop for StepCa {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.process.wait();
    }
}

/// Writes a root and an intermediate with its key; answers the root.
fn authority(folder: &Path) -> anyhow::Result<String> {
    let params = |name: &str| -> anyhow::Result<CertificateParams> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(params)
    };
    let root = CertifiedIssuer::self_signed(params("root")?, KeyPair::generate_for(&PKCS_ED25519)?)?;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let intermediate = params("intermediate")?.signed_by(&key, &root)?;
    std::fs::write(folder.join("root.crt"), root.pem())?;
    std::fs::write(folder.join("intermediate.crt"), intermediate.pem())?;
    std::fs::write(folder.join("intermediate.key"), key.serialize_pem())?;
    Ok(root.pem())
}

fn configuration(folder: &Path, port: u16, key: &EcdsaKeyPair) -> anyhow::Result<serde_json::Value> {
    let point = key.public_key().as_ref();
    let coordinate = |range| {
        anyhow::Ok(BASE64_URL_SAFE_NO_PAD.encode(point.get::<std::ops::Range<usize>>(range).context("a point")?))
    };
    Ok(json!({
        "root": folder.join("root.crt"),
        "crt": folder.join("intermediate.crt"),
        "key": folder.join("intermediate.key"),
        "address": format!("127.0.0.1:{port}"),
        "dnsNames": ["localhost"],
        "logger": { "format": "json" },
        "db": { "type": "badgerv2", "dataSource": folder.join("db") },
        "authority": { "provisioners": [{
            "type": "JWK",
            "name": PROVISIONER,
            "key": {
                "use": "sig", "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": PROVISIONER,
                "x": coordinate(1..33)?, "y": coordinate(33..65)?,
            },
        }] },
    }))
}
