//! From the file as written to settings that were checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ichor_wire::loopback::is_loopback;
use jiff::SignedDuration;
use url::Url;

use super::audit::AuditSettings;
use super::file::{File, Identity};
use super::store::Postgres;
use super::{ConfigError, Folder, LogFormat};
use crate::custody::Plugins;
use crate::domain::{AddressRange, ClientVersion};

/// Everything `app` needs, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL by which clients reach the broker, without a trailing slash in its text form.
    pub public_url: Url,
    /// How old an entry must be before its body can be dropped.
    pub drop_min_age: SignedDuration,
    /// So long after its last use a break-glass request should be reviewed.
    pub review_within: SignedDuration,
    /// How many break-glass requests one human may make within an hour.
    pub requests_per_hour: u32,
    /// How many uses that nobody approved may wait for their review.
    pub unreviewed_self_service: u32,
    /// Where to listen.
    pub listen: Listen,
    /// Certificate chain and key, PEM files; `None` for plain http.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where health and metrics are served.
    pub health: Option<SocketAddr>,
    /// The Unix socket for admin commands.
    pub admin_socket: PathBuf,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// The broker's name in entries.
    pub name: String,
    /// The database file, unless there is a [`Self::postgres`].
    pub database: PathBuf,
    /// The Postgres database.
    pub postgres: Option<Postgres>,
    /// What makes the log provable.
    pub audit: AuditSettings,
    /// The vault's folder.
    pub vault: PathBuf,
    /// What opens the vault.
    pub identity: Identity,
    /// The age plugins that may run, by name.
    pub plugins: Vec<String>,
    /// At least once in so long nodes are asked whether they accept their cluster's CA; `None`: never.
    pub probe_every: Option<Duration>,
    /// The policies' folder.
    pub policies: PathBuf,
    /// The clusters' folder.
    pub clusters: PathBuf,
    /// A session's life.
    pub session_life: SignedDuration,
    /// How long a session may be unused.
    pub session_idle: Option<SignedDuration>,
    /// The default life of a certificate.
    pub default_ttl: SignedDuration,
    /// The longest life of a certificate.
    pub max_ttl: SignedDuration,
    /// How far a certificate's start lies in the past.
    pub backdate: SignedDuration,
    /// API requests a minute and person.
    pub per_person: u32,
    /// Requests a minute and address without a valid session.
    pub per_address: u32,
    /// Connections at once.
    pub connections: usize,
    /// Connections of one address at once.
    pub connections_per_address: usize,
    /// Requests worked on at once.
    pub concurrent: usize,
    /// The longest that one request may take.
    pub request_time: Duration,
    /// Logins under way at once.
    pub pending_logins: u32,
    /// Logins of one address under way at once.
    pub pending_per_address: u32,
    /// The oldest client that is served.
    pub minimum_client: Option<ClientVersion>,
    /// What nodes' logs are taken in, and how.
    pub nodelog: crate::nodelog::Settings,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// What to log.
    pub log_level: String,
}

/// Where the broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address.
    Tcp(SocketAddr),
    /// A Unix socket, behind a proxy that ends TLS.
    Unix(PathBuf),
}

// === impl Settings ===

impl Settings {
    /// The settings of a file in its folder.
    ///
    /// # Errors
    /// On the first value that does not fit.
    pub fn check(folder: &Folder, file: &File) -> Result<Self, ConfigError> {
        let value =
            |key: &str, why: &str| ConfigError::Value { path: folder.config(), key: key.into(), why: why.into() };
        let duration = |key: &str, text: &str| parse_duration(text).ok_or_else(|| value(key, BAD_DURATION));
        let listen = Listen::parse(&file.server.listen)
            .ok_or_else(|| value("server.listen", "write `address:port` or `unix:/path`"))?;
        let public_url = check_public_url(&file.server.public_url).map_err(|why| value("server.public_url", why))?;
        let tls = match (&file.server.tls_certificate, &file.server.tls_key) {
            (Some(certificate), Some(key)) => Some((folder.at(certificate), folder.at(key))),
            (None, None) => None,
            _ => return Err(value("server.tls_certificate", "name both `tls_certificate` and `tls_key`, or neither")),
        };
        check_transport(&public_url, &listen, tls.is_some()).map_err(|(key, why)| value(key, why))?;
        let mut trusted_proxies = Vec::new();
        for text in &file.server.trusted_proxies {
            let range = AddressRange::parse(text);
            trusted_proxies.push(
                range.ok_or_else(|| value("server.trusted_proxies", "write addresses or networks, as `10.0.0.0/8`"))?,
            );
        }
        if let Err(error) = Plugins::allow(&file.custody.plugins, Default::default(), None) {
            return Err(value("custody.plugins", &error.to_string()));
        }
        let probe_every = match file.custody.probe_every.as_str() {
            "0" => None,
            text => Some(duration("custody.probe_every", text)?.unsigned_abs()),
        };
        let session_life = duration("session.life", &file.session.life)?;
        if session_life > crate::login::LONGEST_SESSION {
            return Err(value("session.life", "at most 12h; people log in again after that"));
        }
        let max_ttl = duration("certificates.max_ttl", &file.certificates.max_ttl)?;
        if max_ttl > crate::policy::HARD_MAX_TTL {
            return Err(value("certificates.max_ttl", "at most 24h"));
        }
        let default_ttl = duration("certificates.default_ttl", &file.certificates.default_ttl)?;
        if default_ttl > max_ttl {
            return Err(value("certificates.default_ttl", "it cannot exceed `certificates.max_ttl`"));
        }
        let backdate = duration("certificates.backdate", &file.certificates.backdate)?;
        if backdate > SignedDuration::from_mins(10) {
            return Err(value("certificates.backdate", "at most 10m"));
        }
        let drop_min_age = duration("audit.drop_min_age", &file.audit.drop_min_age)?;
        if drop_min_age < SignedDuration::from_hours(24) {
            return Err(value("audit.drop_min_age", "at least 24h, so that what just happened can be looked at"));
        }
        let request_time = duration("limits.request_time", &file.limits.request_time)?;
        for section in &file.openbao {
            let deadline = section.check(folder)?.deadline;
            if deadline > request_time.unsigned_abs() / 2 {
                return Err(value(
                    "openbao.deadline",
                    "at most half of `limits.request_time`, so that people get its answer",
                ));
            }
        }
        let postgres = Postgres::check(folder, file, request_time.unsigned_abs())?;
        let positive = [
            ("limits.per_person", file.limits.per_person as usize),
            ("limits.per_address", file.limits.per_address as usize),
            ("limits.connections", file.limits.connections),
            ("limits.connections_per_address", file.limits.connections_per_address),
            ("limits.concurrent", file.limits.concurrent),
            ("limits.pending_logins", file.limits.pending_logins as usize),
            ("limits.pending_per_address", file.limits.pending_per_address as usize),
            ("limits.requests_per_hour", file.limits.requests_per_hour as usize),
            ("limits.unreviewed_self_service", file.limits.unreviewed_self_service as usize),
        ];
        for (key, number) in positive {
            if number == 0 {
                return Err(value(key, "it must be at least 1"));
            }
        }
        if file.server.name.is_empty() || file.server.name.len() > 64 || !file.server.name.is_ascii() {
            return Err(value("server.name", "use 1 to 64 ASCII characters"));
        }
        let review_within = duration("break_glass.review_within", &file.break_glass.review_within)?;
        if review_within < SignedDuration::from_mins(1) {
            return Err(value("break_glass.review_within", "at least 1m"));
        }
        let audit = AuditSettings::check(folder, file, &public_url)?;
        let minimum_client = match &file.session.minimum_client {
            Some(text) => Some(
                ClientVersion::parse(text)
                    .ok_or_else(|| value("session.minimum_client", "write a version, as `0.1.0`"))?,
            ),
            None => None,
        };
        Ok(Self {
            public_url,
            drop_min_age,
            review_within,
            requests_per_hour: file.limits.requests_per_hour,
            unreviewed_self_service: file.limits.unreviewed_self_service,
            listen,
            tls,
            health: file.server.health_listen,
            admin_socket: folder.at(&file.server.admin_socket),
            trusted_proxies,
            name: file.server.name.clone(),
            database: folder.at(&file.store.path),
            postgres,
            audit,
            vault: folder.at(&file.custody.vault),
            identity: file.custody.identity,
            plugins: file.custody.plugins.clone(),
            probe_every,
            policies: folder.at(&file.policies.folder),
            clusters: folder.at(&file.clusters.folder),
            session_life,
            session_idle: file.session.idle.as_deref().map(|text| duration("session.idle", text)).transpose()?,
            default_ttl,
            max_ttl,
            backdate,
            per_person: file.limits.per_person,
            per_address: file.limits.per_address,
            connections: file.limits.connections,
            connections_per_address: file.limits.connections_per_address,
            concurrent: file.limits.concurrent,
            request_time: request_time.unsigned_abs(),
            pending_logins: file.limits.pending_logins,
            pending_per_address: file.limits.pending_per_address,
            minimum_client,
            nodelog: super::nodelog::check(&folder.config(), file)?,
            log_format: file.log.format,
            log_level: file.log.level.clone(),
        })
    }

    /// The public URL without a trailing slash: what proofs and metadata are built from.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.public_url.as_str().trim_end_matches('/')
    }
}

pub(super) const BAD_DURATION: &str = "write a duration above zero, as `30s`, `15m` or `8h`";

/// A duration as `8h`, `15m`, `1h 30m`; above zero.
#[must_use]
pub fn parse_duration(text: &str) -> Option<SignedDuration> {
    text.parse::<SignedDuration>().ok().filter(SignedDuration::is_positive)
}

fn check_public_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "write the URL that clients use, as `https://ichor.example.com`")?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err("write an `https://` URL");
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err("write the URL without path, query, fragment or user name");
    }
    Ok(url)
}

fn check_transport(url: &Url, listen: &Listen, tls: bool) -> Result<(), (&'static str, &'static str)> {
    let loopback_url = is_loopback(url);
    match (url.scheme(), listen, tls) {
        ("http", _, _) if !loopback_url => Err(("server.public_url", "plain http is for loopback only; use https")),
        ("http", Listen::Tcp(address), _) if !address.ip().is_loopback() => {
            Err(("server.listen", "plain http listens on loopback only; give `tls_certificate` and `tls_key`"))
        }
        ("http", _, true) => Err(("server.public_url", "`tls_certificate` is given, so use https")),
        ("https", Listen::Tcp(_), false) => {
            Err(("server.tls_certificate", "https needs `tls_certificate` and `tls_key`"))
        }
        ("https", Listen::Unix(_), true) => {
            Err(("server.tls_certificate", "behind a Unix socket the proxy ends TLS; leave it out"))
        }
        _ => Ok(()),
    }
}

// === impl Listen ===

impl Listen {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some(path) => path.starts_with('/').then(|| Self::Unix(path.into())),
            None => text.parse().ok().map(Self::Tcp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(url: &str, listen: &str, tls: bool) -> Result<(), &'static str> {
        let listen = Listen::parse(listen).unwrap();
        check_transport(&check_public_url(url)?, &listen, tls).map_err(|(key, _)| key)
    }

    #[test]
    fn plain_http_is_for_loopback_or_a_unix_socket_behind_a_proxy() {
        assert_eq!(transport("https://b.example", "0.0.0.0:443", true), Ok(()));
        assert_eq!(transport("http://127.0.0.1:8080", "127.0.0.1:8080", false), Ok(()));
        assert_eq!(transport("https://b.example", "unix:/run/ichor.sock", false), Ok(()));
        assert_eq!(transport("http://b.example", "127.0.0.1:80", false), Err("server.public_url"));
        assert_eq!(transport("http://localhost", "0.0.0.0:80", false), Err("server.listen"));
        assert_eq!(transport("https://b.example", "0.0.0.0:443", false), Err("server.tls_certificate"));
        assert_eq!(transport("http://b.example", "unix:/run/ichor.sock", false), Err("server.public_url"));
    }

    #[test]
    fn a_public_url_has_no_path_and_no_user() {
        for bad in ["ftp://b", "https://b/x", "https://u@b", "https://b?x", "b"] {
            assert!(check_public_url(bad).is_err(), "{bad}");
        }
    }
}
