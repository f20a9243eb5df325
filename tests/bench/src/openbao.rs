//! A real OpenBao server for `custody`: TLS, unsealed, and its own storage (raft) on the file system that our databases lie on, so that
//! what it stores is as durable as what we store; in memory on request. No audit device, so that a call costs it no log line: that makes it faster
//! than it is in a company.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use ichor_standins::address::free_port;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::Settings;
use crate::connection::Target;

/// How long it may take to start: with raft some ten seconds pass until it leads itself.
const START: Duration = Duration::from_secs(60);

/// What `ca create` may do there.
const MAKES: &str = "path \"transit/*\" { capabilities = [\"create\", \"read\", \"update\"] }\n\
    path \"secret/*\" { capabilities = [\"create\", \"read\", \"update\"] }\n";

/// What a running broker may do there, for all clusters in four rules and without bounds on parameters, where `deploy/openbao` has rules
/// for each; and PKI's own issuance.
const RUNS: &str = "path \"transit/sign/+\" { capabilities = [\"update\"] }\n\
    path \"transit/keys/+\" { capabilities = [\"read\"] }\n\
    path \"secret/data/ichor/+\" { capabilities = [\"read\"] }\n\
    path \"pki/sign/+\" { capabilities = [\"update\"] }\n";

/// What a token may do to itself, as far as no CA in PKI needs more: `default` has that and more.
const TOKEN: &str = "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }\n\
    path \"auth/token/renew-self\" { capabilities = [\"update\"] }\n\
    path \"auth/token/revoke-self\" { capabilities = [\"update\"] }\n\
    path \"sys/capabilities-self\" { capabilities = [\"update\"] }\n";

/// A running server, unsealed, with the engines mounted.
pub(crate) struct OpenBao {
    pub(crate) url: Url,
    /// The CA of its TLS certificate, PEM.
    pub(crate) tls_ca: String,
    /// The role id that the broker logs in with.
    pub(crate) role_id: String,
    /// The secret id to that.
    pub(crate) secret_id: String,
    root_token: String,
    process: Child,
    _folder: TempDir,
}

// === impl OpenBao ===

impl OpenBao {
    /// Starts it with its files in the settings' folder; `None` where the program is not to be found.
    pub(crate) async fn start(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let (program, dir) = (&settings.openbao, &settings.dir);
        let found = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            return Ok(None);
        }
        let folder = tempfile::tempdir_in(dir)?;
        let path = folder.path().canonicalize()?;
        let port = free_port()?;
        let cluster_port = free_port()?;
        let tls_ca = certify(&path)?;
        std::fs::write(path.join("server.hcl"), configuration(&path, settings.openbao_in_memory, port, cluster_port))?;
        std::fs::create_dir(path.join("raft"))?;
        let log = std::fs::File::create(path.join("log"))?;
        let process = Command::new(program)
            .arg("server")
            .arg(format!("-config={}", path.join("server.hcl").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let url = format!("https://localhost:{port}").parse()?;
        let (role_id, secret_id, root_token) = Default::default();
        let mut server = Self { url, tls_ca, role_id, secret_id, root_token, process, _folder: folder };
        server.unseal(&path).await?;
        server.set_up(settings.no_default_policy).await?;
        Ok(Some(server))
    }

    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        Target::new(&self.url, &self.tls_ca)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Writes the files that `[[openbao]]` names, and answers the section.
    pub(crate) fn section(&self, dir: &Path) -> anyhow::Result<String> {
        std::fs::write(dir.join("bao-ca.pem"), &self.tls_ca)?;
        let secret: PathBuf = dir.join("bao-secret");
        std::fs::write(secret, format!("{}\n", self.secret_id))?;
        Ok(format!(
            "\n[[openbao]]\nname = \"main\"\naddress = \"{}\"\nca_file = \"bao-ca.pem\"\nauth = \"approle\"\n\
             role = \"{}\"\nsecret_file = \"bao-secret\"\n",
            self.url, self.role_id
        ))
    }

    /// From now on the broker's policy is that of one that runs.
    pub(crate) async fn narrow(&self) -> anyhow::Result<()> {
        self.call("POST", "sys/policies/acl/bench", json!({ "policy": RUNS })).await.map(drop)
    }

    /// A token with the broker's policies, and without the one named `default`.
    pub(crate) async fn lean_token(&self) -> anyhow::Result<String> {
        let (role, secret) = self.ids("lean").await?;
        self.token(&role, &secret).await
    }

    /// A token with the broker's policies.
    pub(crate) async fn log_in(&self) -> anyhow::Result<String> {
        self.token(&self.role_id, &self.secret_id).await
    }

    async fn token(&self, role: &str, secret: &str) -> anyhow::Result<String> {
        let body = json!({ "role_id": role, "secret_id": secret });
        text(&self.call("POST", "auth/approle/login", body).await?, "/auth/client_token")
    }

    /// How many logins there have been: each leaves a token.
    pub(crate) async fn logins(&self) -> anyhow::Result<usize> {
        let list = self.call("GET", "auth/token/accessors?list=true", Value::Null).await?;
        Ok(list.pointer("/data/keys").and_then(Value::as_array).context("no list of tokens")?.len())
    }

    /// A request with this token, as bytes.
    pub(crate) fn request(&self, method: &str, path: &str, token: &str, body: &Value) -> Vec<u8> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let token = if token.is_empty() { String::new() } else { format!("x-vault-token: {token}\r\n") };
        format!(
            "{method} /v1/{path} HTTP/1.1\r\nhost: {}\r\n{token}x-vault-request: true\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.url.authority(),
            body.len()
        )
        .into_bytes()
    }

    /// Initialises it with one key and unseals it.
    async fn unseal(&mut self, path: &Path) -> anyhow::Result<()> {
        let (target, began) = (self.target()?, Instant::now());
        while target.connect().await.is_err() {
            ensure!(began.elapsed() < START, "OpenBao did not start: {}", std::fs::read_to_string(path.join("log"))?);
            sleep(Duration::from_millis(50)).await;
        }
        let body = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let made = self.call("PUT", "sys/init", body).await?;
        self.root_token = text(&made, "/root_token")?;
        self.call("PUT", "sys/unseal", json!({ "key": text(&made, "/keys/0")? })).await?;
        while self.call("GET", "sys/health", Value::Null).await.is_err() {
            ensure!(began.elapsed() < START, "OpenBao was not unsealed");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Mounts the engines and lets the broker in. The PKI role is that which Ichor asks for: stored Ed25519 client
    /// certificates with the organization from the role and nothing from the request but its key.
    async fn set_up(&mut self, no_default_policy: bool) -> anyhow::Result<()> {
        let role = |no_default_policy: bool| {
            json!({
                "token_policies": ["bench", "token"], "token_ttl": "24h", "token_no_default_policy": no_default_policy,
            })
        };
        let calls = [
            ("sys/mounts/transit", json!({ "type": "transit" })),
            ("sys/mounts/secret", json!({ "type": "kv", "options": { "version": "2" } })),
            ("sys/mounts/pki", json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } })),
            ("pki/root/generate/internal", json!({ "common_name": "bench", "key_type": "ed25519", "ttl": "87600h" })),
            (
                "pki/roles/reader",
                json!({
                    "organization": ["os:reader"], "key_type": "any", "ttl": "8h", "max_ttl": "8h", "no_store": false,
                    "server_flag": false, "client_flag": true, "require_cn": false, "use_csr_common_name": false,
                    "use_csr_sans": false, "key_usage": ["DigitalSignature"], "ext_key_usage": [],
                    "allow_any_name": false, "allow_localhost": false, "generate_lease": false,
                    "not_before_duration": "30s", "not_after_bound": "ttl-limited",
                }),
            ),
            ("transit/keys/bare", json!({ "type": "ed25519" })),
            ("sys/auth/approle", json!({ "type": "approle" })),
            ("sys/policies/acl/bench", json!({ "policy": MAKES })),
            ("sys/policies/acl/token", json!({ "policy": TOKEN })),
            ("auth/approle/role/bench", role(no_default_policy)),
            ("auth/approle/role/lean", role(true)),
        ];
        for (path, body) in calls {
            self.call("POST", path, body).await?;
        }
        (self.role_id, self.secret_id) = self.ids("bench").await?;
        Ok(())
    }

    /// A role's id and a new secret id of it.
    async fn ids(&self, role: &str) -> anyhow::Result<(String, String)> {
        let id = self.call("GET", &format!("auth/approle/role/{role}/role-id"), Value::Null).await?;
        let secret = self.call("POST", &format!("auth/approle/role/{role}/secret-id"), json!({})).await?;
        Ok((text(&id, "/data/role_id")?, text(&secret, "/data/secret_id")?))
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let request = self.request(method, path, &self.root_token, &body);
        let answer = self.target()?.connect().await?.send(&request).await?;
        let body = answer.whole_body()?;
        ensure!([200, 204].contains(&answer.status), "{method} {path}: {}", String::from_utf8_lossy(&body));
        Ok(if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? })
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.process.wait();
    }
}

fn text(value: &Value, pointer: &str) -> anyhow::Result<String> {
    Ok(value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer}"))?.to_owned())
}

/// Writes a server certificate with its key; answers its CA.
fn certify(folder: &Path) -> anyhow::Result<String> {
    let mut root = CertificateParams::new(Vec::new())?;
    root.distinguished_name.push(DnType::CommonName, "bench root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &root)?;
    std::fs::write(folder.join("server.pem"), certificate.pem())?;
    std::fs::write(folder.join("server.key"), key.serialize_pem())?;
    Ok(root.pem())
}

fn configuration(folder: &Path, in_memory: bool, port: u16, cluster_port: u16) -> String {
    let at = folder.display();
    let storage = if in_memory {
        "storage \"inmem\" {}\n".to_owned()
    } else {
        format!("storage \"raft\" {{\n  path = \"{at}/raft\"\n  node_id = \"bench\"\n}}\n")
    };
    format!(
        "{storage}listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  cluster_address = \"127.0.0.1:{cluster_port}\"\n  \
         tls_cert_file = \"{at}/server.pem\"\n  tls_key_file = \"{at}/server.key\"\n}}\n\
         api_addr = \"https://localhost:{port}\"\ncluster_addr = \"https://127.0.0.1:{cluster_port}\"\n\
         log_level = \"warn\"\n"
    )
}
