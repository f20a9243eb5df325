//! `config.toml`. The comments here are the reference: `docs/config.md` is generated from them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::openbao::OpenBao;

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
    /// The SQLite database, on a local disk.
    #[serde(default = "default_database")]
    pub path: PathBuf,
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

/// An OpenID provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its alias, `[a-z0-9-]+`: policies name groups as `alias/group`. Pinned to its issuer at first use.
    pub alias: String,
    /// Its issuer URL, exactly as its discovery document says it.
    pub issuer: String,
    /// The broker's client id there.
    pub client_id: String,
    /// A file with the client secret, for confidential clients.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// A CA certificate (PEM) for the provider's TLS, beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Scopes to ask for.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// The claim that lists groups; a path as `realm_access.roles` reaches into objects.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// Whether groups come from the `id-token` or from `userinfo`.
    #[serde(default)]
    pub groups_from: GroupsFrom,
    /// Claims that may become `user:` in certificates, in order; name only claims that people cannot edit themselves.
    #[serde(default = "default_user_claims")]
    pub user_claims: Vec<String>,
    /// How groups are asked again during a session: `refresh` (by refresh token), `userinfo` (by access token), or
    /// `login-only` (never; then keep sessions short).
    #[serde(default)]
    pub recheck: Recheck,
    /// Authentication contexts to ask for; needed where policies speak of `acr`.
    #[serde(default)]
    pub acr_values: Vec<String>,
    /// Ask the provider for `auth_time`, and for a new login when the last one is older than this; needed where policies
    /// speak of `auth_age`.
    #[serde(default)]
    pub max_age: Option<String>,
    /// Further parameters of the authorization request, as `prompt = "consent"`.
    #[serde(default)]
    pub authorize_params: BTreeMap<String, String>,
    /// A TOML file that maps people to groups (`"subject" = ["group", …]`), where the provider has none.
    #[serde(default)]
    pub groups_file: Option<PathBuf>,
}

/// Where groups come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupsFrom {
    /// The ID token.
    #[default]
    IdToken,
    /// The userinfo endpoint.
    Userinfo,
}

/// How groups are asked again during a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recheck {
    /// By refresh token.
    #[default]
    Refresh,
    /// By access token at the userinfo endpoint.
    Userinfo,
    /// Never.
    LoginOnly,
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

fn default_scopes() -> Vec<String> {
    ["openid", "profile", "email", "groups", "offline_access"].map(String::from).into()
}

fn default_groups_claim() -> String {
    "groups".into()
}

fn default_user_claims() -> Vec<String> {
    ["email", "preferred_username"].map(String::from).into()
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
