//! `config.toml`. The comments here are the reference: `docs/config.md` is generated from them.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::nodelog::{NodeLog, NodeLogSource};
use super::notify::{BreakGlass, Notify};
use super::openbao::OpenBao;
use super::provider::Provider;

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

/// Where state and the log live.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The SQLite database, on a local disk. Of no use with `url_file`.
    #[serde(default = "default_database")]
    pub path: PathBuf,
    /// A file with the `postgres://user:password@host/database` URL of a PostgreSQL database (15 or newer), for one broker or
    /// several. The server's certificate is verified (`sslmode=verify-full`); only on a Unix socket (`?host=/run/postgresql`) or
    /// loopback may TLS be left out (`sslmode=disable`). Absent: SQLite.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// For Postgres: the CA that signed the server's certificate, PEM; no other is then believed. Absent: the system's roots.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// For Postgres: the broker's client certificate and its chain, PEM, where the server asks for one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// For Postgres: the key of the client certificate, PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// For Postgres: connections of this broker at once.
    #[serde(default = "default_store_connections")]
    pub connections: usize,
    /// For Postgres: the longest that one call may take, with waiting for a connection and for other brokers. At most half of
    /// `limits.request_time`.
    #[serde(default = "default_store_deadline")]
    pub deadline: String,
}

/// What makes the audit log provable: its name, and where its newest head lies outside the database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The log's name, the first line of each checkpoint: a host and path without a scheme, as `ichor.example.com/log`.
    /// Absent: the host of `server.public_url`. It stays for the log's life.
    #[serde(default)]
    pub name: Option<String>,
    /// A file for the newest checkpoint, on another disk than the database: written and synced before anyone is answered.
    #[serde(default)]
    pub anchor_file: Option<PathBuf>,
    /// The `[[openbao]]` server whose KV holds the newest checkpoint, written before anyone is answered.
    #[serde(default)]
    pub anchor_openbao: Option<String>,
    /// Where KV version 2 is mounted there.
    #[serde(default = "default_anchor_mount")]
    pub anchor_mount: String,
    /// The path of the secret there.
    #[serde(default = "default_anchor_path")]
    pub anchor_path: String,
    /// A witness (C2SP tlog-witness) that cosigns each checkpoint: the URL that `/add-checkpoint` is below. Plain `http` only
    /// on loopback.
    #[serde(default)]
    pub witness: Option<String>,
    /// The witness' verifier key, as `witness.example+…+…`.
    #[serde(default)]
    pub witness_key: Option<String>,
    /// For so long certificates are issued while an anchor or the witness fails; then no more until it works again.
    #[serde(default = "default_anchor_grace")]
    pub anchor_grace: String,
    /// For so long certificates are issued while the key that signs the log is out, their receipts pending; then no more.
    #[serde(default = "default_key_grace")]
    pub key_grace: String,
    /// A file with the token by which tools read the log's checkpoint and hash tiles under `/log`. Absent: not served.
    #[serde(default)]
    pub tile_token_file: Option<PathBuf>,
    /// A file with the CA certificates (PEM) of tools that may read the same without a token, by a client certificate. The broker asks
    /// every client for one, and wants none. Needs the broker's own TLS.
    #[serde(default)]
    pub tile_client_ca_file: Option<PathBuf>,
    /// How old an entry must be before its body can be dropped, whoever asks for it and approves. At least a day.
    #[serde(default = "default_drop_min_age")]
    pub drop_min_age: String,
}

/// Where the audit log is forwarded to, entry by entry, in order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Its name, `[a-z0-9-]+`. How far it has come is kept under it: a new name begins at the log's first entry.
    pub name: String,
    /// What it is sent as.
    pub kind: ForwardKind,
    /// For `jsonl`: the file or named pipe. A file is made where it is missing (mode 0600), and opened anew when it was moved away.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// For `otlp`: the collector's URL; `/v1/logs` is added where it has no path. Plain `http` only on loopback.
    #[serde(default)]
    pub url: Option<String>,
    /// For `otlp`: a CA certificate (PEM) for the collector's TLS, and then no other.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// For `otlp`: a file with a bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// What the audit log is forwarded as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardKind {
    /// A line of JSON for each entry, into a file or named pipe.
    #[default]
    Jsonl,
    /// OpenTelemetry logs over HTTP, in JSON.
    Otlp,
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

/// Bounds on what strangers and people may send.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// API requests a minute and person.
    #[serde(default = "default_per_person")]
    pub per_person: u32,
    /// Requests a minute and address that carry no valid session: logins begun, codes typed, wrong tokens. An IPv6 network
    /// of 64 bits counts as one address.
    #[serde(default = "default_per_address")]
    pub per_address: u32,
    /// Connections at once; more are closed. Where the process may open fewer files (`LimitNOFILE=`), fewer.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// Connections of one address at once, except trusted proxies; more are closed. An IPv6 network of 64 bits counts as one
    /// address.
    #[serde(default = "default_connections_per_address")]
    pub connections_per_address: usize,
    /// Requests worked on at once; more are refused with 503.
    #[serde(default = "default_concurrent")]
    pub concurrent: usize,
    /// The longest that one request may take.
    #[serde(default = "default_request_time")]
    pub request_time: String,
    /// Logins under way at once.
    #[serde(default = "default_pending_logins")]
    pub pending_logins: u32,
    /// Logins of one address under way at once, so that one address cannot take all places. People behind one NAT share it.
    #[serde(default = "default_pending_per_address")]
    pub pending_per_address: u32,
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

fn default_database() -> PathBuf {
    "data/ichor.db".into()
}

fn default_store_connections() -> usize {
    8
}

fn default_store_deadline() -> String {
    "10s".into()
}

fn default_anchor_mount() -> String {
    "secret".into()
}

fn default_anchor_path() -> String {
    "ichor-broker/checkpoint".into()
}

fn default_anchor_grace() -> String {
    "10m".into()
}

fn default_key_grace() -> String {
    "10m".into()
}

fn default_drop_min_age() -> String {
    "2160h".into()
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

fn default_per_person() -> u32 {
    120
}

fn default_per_address() -> u32 {
    120
}

fn default_connections() -> usize {
    4096
}

fn default_connections_per_address() -> usize {
    256
}

fn default_concurrent() -> usize {
    512
}

fn default_request_time() -> String {
    "30s".into()
}

fn default_pending_logins() -> u32 {
    10_000
}

fn default_pending_per_address() -> u32 {
    100
}

fn default_level() -> String {
    "info".into()
}

macro_rules! empty_section {
    ($($section:ty),+) => {
        $(impl Default for $section {
            /// The section as an empty table gives it: every default stands once, in its serde attribute.
            fn default() -> Self {
                // cannot fail: every key of the section has a default, and a test builds each
                toml::from_str("").expect("an empty section")
            }
        })+
    };
}

empty_section!(Store, Audit, Custody, Session, Certificates, Policies, ClustersFolder, Limits, Log);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_has_its_defaults() {
        let _ = (Store::default(), Audit::default(), Custody::default(), Session::default(), Certificates::default());
        let _ = (Policies::default(), ClustersFolder::default(), Limits::default(), Log::default());
    }
}
