//! `config.toml`. The comments here are the reference: `docs/config.md` is generated from them.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::audit::Audit;
use super::forward::Forward;
use super::limits::Limits;
use super::nodelog::{NodeLog, NodeLogSource};
use super::notify::{BreakGlass, Notify};
use super::openbao::OpenBao;
use super::provider::Provider;
use super::store::Store;

/// The whole file. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where the broker listens and how it is reached.
    pub server: Server,
    /// Where state and the log live.
    #[serde(default)]
    pub store: Store,
    /// What makes the audit log provable: its name, and where its newest head lies outside the database.
    #[serde(default)]
    pub audit: Audit,
    /// Where the audit log is forwarded to, entry by entry, in order. May be repeated.
    #[serde(default)]
    pub forward: Vec<Forward>,
    /// Whom people are told by: what the audit log records and someone should know of. May be repeated.
    #[serde(default)]
    pub notify: Vec<Notify>,
    /// How break-glass is followed up.
    #[serde(default)]
    pub break_glass: BreakGlass,
    /// Where CA keys live and what opens them.
    #[serde(default)]
    pub custody: Custody,
    /// How long people stay logged in, and which login flows are allowed.
    #[serde(default)]
    pub session: Session,
    /// How long certificates live.
    #[serde(default)]
    pub certificates: Certificates,
    /// Where the policies are.
    #[serde(default)]
    pub policies: Policies,
    /// Where the clusters are declared.
    #[serde(default)]
    pub clusters: ClustersFolder,
    /// Bounds on what strangers and people may send.
    #[serde(default)]
    pub limits: Limits,
    /// What the broker logs about itself.
    #[serde(default)]
    pub log: Log,
    /// Where nodes send their own logs, so that calls are held against grants. Absent: they are not taken.
    #[serde(default)]
    pub nodelog: NodeLog,
    /// Whose node logs are taken. May be repeated; of two that have an address the first counts.
    #[serde(default)]
    pub nodelog_source: Vec<NodeLogSource>,
    /// OpenBao or HashiCorp Vault servers that hold CA keys. May be repeated; CA records name them.
    #[serde(default)]
    pub openbao: Vec<OpenBao>,
    /// OpenID providers that people log in through. May be repeated.
    #[serde(default)]
    pub provider: Vec<Provider>,
}

/// Where the broker listens and how it is reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The URL by which clients reach the broker, without a path. It is the only source of redirects, metadata and proofs;
    /// the Host header is never believed. Plain `http` only on loopback.
    pub public_url: String,
    /// Where to listen: `address:port`, or `unix:/path` behind a proxy that ends TLS. The socket has mode 0660, since whoever
    /// connects is believed about addresses: put the proxy's user into the broker's group.
    pub listen: String,
    /// The TLS certificate chain, PEM. Needed unless `public_url` is plain http on loopback or `listen` is a Unix socket.
    #[serde(default)]
    pub tls_certificate: Option<PathBuf>,
    /// The key of the TLS certificate, PEM.
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served, in plain http. Absent: not served.
    #[serde(default)]
    pub health_listen: Option<SocketAddr>,
    /// The Unix socket for admin commands on this host, mode 0600.
    #[serde(default = "default_admin_socket")]
    pub admin_socket: PathBuf,
    /// Addresses or networks of proxies whose `X-Forwarded-For` is believed, as `10.0.0.0/8`. Behind a Unix
    /// socket the peer counts as trusted.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// This broker's name in audit entries.
    #[serde(default = "default_name")]
    pub name: String,
}

/// Where CA keys live and what opens them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custody {
    /// The folder of the age vault.
    #[serde(default = "default_vault")]
    pub vault: PathBuf,
    /// What opens the vault.
    #[serde(default)]
    pub identity: Identity,
    /// The age plugins that may run, as `["yubikey"]`: `age-plugin-yubikey` on the broker's PATH then seals to `age1yubikey1…`
    /// and opens with `AGE-PLUGIN-YUBIKEY-…`. No other ever runs, whatever a file names.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// At least once in so long the broker asks each cluster's nodes, with a certificate of five minutes of its own, whether they
    /// still accept the CA, and says so where they do not: after `talosctl rotate-ca` they accept an imported one no more. `"0"`:
    /// it never asks, as where it cannot reach the nodes.
    #[serde(default = "default_probe_every")]
    pub probe_every: String,
}

/// What opens the vault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// `vault/identity.age`, sealed with a passphrase that comes from the systemd credential `ichor-passphrase`, or is asked
    /// for on the terminal.
    #[default]
    Passphrase,
    /// The identity itself, from the systemd credential `ichor-identity`: an age identity, an OpenSSH private key without
    /// passphrase, or an allowed plugin's identity that asks for nothing.
    Credential,
    /// `vault/identity.txt`, in plain text beside what it opens. For a demo; `check` warns.
    InsecureBeside,
}

/// How long people stay logged in, and which login flows are allowed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// A session's life, at most 12 hours (NIST SP 800-63B-4 asks for a new login within 24).
    #[serde(default = "default_session_life")]
    pub life: String,
    /// A session unused for so long ends. Absent: no such limit.
    #[serde(default)]
    pub idle: Option<String>,
    /// Allow `ichor login --no-browser`, where a code is shown to be pasted. Easier to phish: off unless needed.
    #[serde(default)]
    pub paste: bool,
    /// Allow `ichor login --device` (RFC 8628). Easier to phish: off unless needed.
    #[serde(default)]
    pub device: bool,
    /// Clients older than this version are told to update.
    #[serde(default)]
    pub minimum_client: Option<String>,
}

/// How long certificates live.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// The life of a certificate where neither request nor policy says otherwise.
    #[serde(default = "default_ttl")]
    pub default_ttl: String,
    /// No certificate lives longer, whatever a policy says. At most 24 hours.
    #[serde(default = "default_max_ttl")]
    pub max_ttl: String,
    /// How far a certificate's start lies in the past: Talos nodes tolerate no clock difference.
    #[serde(default = "default_backdate")]
    pub backdate: String,
}

/// Where the policies are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// The folder whose `*.cedar` files are one policy set.
    #[serde(default = "default_policies")]
    pub folder: PathBuf,
}

/// Where the clusters are declared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClustersFolder {
    /// The folder whose `*.toml` files are the clusters, one file each.
    #[serde(default = "default_clusters")]
    pub folder: PathBuf,
}

/// What the broker logs about itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `text` for people, `json` for machines.
    #[serde(default)]
    pub format: LogFormat,
    /// What to log, as `info` or `ichor_broker=debug,info`.
    #[serde(default = "default_level")]
    pub level: String,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

// === defaults ===

fn default_admin_socket() -> PathBuf {
    "data/admin.sock".into()
}

fn default_name() -> String {
    "broker".into()
}

fn default_vault() -> PathBuf {
    "vault".into()
}

fn default_probe_every() -> String {
    "6h".into()
}

fn default_session_life() -> String {
    "12h".into()
}

fn default_ttl() -> String {
    "1h".into()
}

fn default_max_ttl() -> String {
    "24h".into()
}

fn default_backdate() -> String {
    "30s".into()
}

fn default_policies() -> PathBuf {
    "policies".into()
}

fn default_clusters() -> PathBuf {
    "clusters".into()
}

fn default_level() -> String {
    "info".into()
}

impl Default for Custody {
    fn default() -> Self {
        Self {
            vault: default_vault(),
            identity: Identity::default(),
            plugins: Vec::new(),
            probe_every: default_probe_every(),
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        Self { life: default_session_life(), idle: None, paste: false, device: false, minimum_client: None }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self { default_ttl: default_ttl(), max_ttl: default_max_ttl(), backdate: default_backdate() }
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self { folder: default_policies() }
    }
}

impl Default for ClustersFolder {
    fn default() -> Self {
        Self { folder: default_clusters() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: default_level() }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;

    use super::*;

    /// A section that is left out is as one that is empty.
    fn is_as_empty<T: Debug + Default + DeserializeOwned>() {
        let empty: T = toml::from_str("").unwrap();
        assert_eq!(format!("{:?}", T::default()), format!("{empty:?}"));
    }

    #[test]
    fn a_section_that_is_left_out_is_as_an_empty_one() {
        is_as_empty::<Store>();
        is_as_empty::<Audit>();
        is_as_empty::<BreakGlass>();
        is_as_empty::<Custody>();
        is_as_empty::<Session>();
        is_as_empty::<Certificates>();
        is_as_empty::<Policies>();
        is_as_empty::<ClustersFolder>();
        is_as_empty::<Limits>();
        is_as_empty::<Log>();
        is_as_empty::<NodeLog>();
    }
}
