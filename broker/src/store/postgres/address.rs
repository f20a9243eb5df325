//! Where the database is and how it is reached, from its URL.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ichor_wire::loopback::is_loopback_host;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{Host, SslMode};
use url::form_urlencoded;

use super::tls::TlsFiles;

/// Where the database is: a `postgres://` URL, its password in it, and what TLS to it goes by.
#[derive(Clone, Debug)]
pub struct Address {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: TlsFiles,
}

/// Why a URL is no address of a database. Nothing of the URL is quoted: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The file that holds it cannot be read.
    #[error("cannot read `{}`: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
    /// No URL, or another one.
    #[error("write the database's URL, as `postgres://user:password@host/database`")]
    Form,
    /// A parameter that is not known, or that the broker sets itself.
    #[error(
        "the URL's parameter `{0}` is not taken; those are `host`, `port`, `user`, `sslmode` and `connect_timeout`"
    )]
    Parameter(String),
    /// An `sslmode` that does not verify the server.
    #[error(
        "`sslmode` is `verify-full`, or `disable` on a Unix socket or loopback; others do not say to whom one speaks"
    )]
    SslMode,
    /// A certificate or key cannot be used.
    #[error("TLS to the database cannot be set up: {0}")]
    Tls(String),
}

// === impl Address ===

impl Address {
    /// The address in a URL: `postgres://user:password@host:port/database`, or with `?host=/run/postgresql` a Unix socket.
    /// TLS with the server verified is the default everywhere but on a Unix socket.
    ///
    /// # Errors
    /// When it is none, or would speak to a server that is not verified.
    pub fn parse(url: &SecretString, tls: TlsFiles) -> Result<Self, AddressError> {
        let text = url.expose_secret().trim();
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(AddressError::Form);
        }
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let mut mode = None;
        let start = format!("{base}?");
        let behind = start.len();
        let mut kept = form_urlencoded::Serializer::for_suffix(start, behind);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "sslmode" => mode = Some(value.into_owned()),
                "host" | "port" | "user" | "connect_timeout" => {
                    kept.append_pair(&key, &value);
                }
                _ => return Err(AddressError::Parameter(key.into_owned())),
            }
        }
        let mut config: tokio_postgres::Config = kept.finish().parse().map_err(|_| AddressError::Form)?;
        if config.get_hosts().is_empty() || config.get_dbname().is_none() || config.get_user().is_none() {
            return Err(AddressError::Form);
        }
        let sockets_only = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let encrypted = match mode.as_deref() {
            Some("verify-full") => true,
            Some("disable") if config.get_hosts().iter().all(is_here) => false,
            None => !sockets_only,
            Some(_) => return Err(AddressError::SslMode),
        };
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(3));
        }
        // a server that vanished without a word is noticed, not waited for
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(15));
        Ok(Self { config, tls })
    }
}

impl std::fmt::Display for Address {
    /// Which database at which hosts, without user and password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("postgres:")?;
        for (place, host) in self.config.get_hosts().iter().enumerate() {
            f.write_str(if place == 0 { "//" } else { "," })?;
            match host {
                Host::Tcp(name) => f.write_str(name)?,
                Host::Unix(path) => write!(f, "{}", path.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

/// Whether the host is this machine by its form.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => match name.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => url::Host::parse(name).is_ok_and(|host| is_loopback_host(&host)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<SslMode, AddressError> {
        Address::parse(&url.to_owned().into(), TlsFiles::default()).map(|address| address.config.get_ssl_mode())
    }

    #[test]
    fn a_server_is_verified_unless_it_is_here() {
        assert_eq!(parse("postgres://ichor:pw@db.example/ichor"), Ok(SslMode::Require));
        assert_eq!(parse("postgresql://ichor:pw@127.0.0.1:5433/ichor"), Ok(SslMode::Require));
        assert_eq!(parse("postgres://ichor@/ichor?host=/run/postgresql"), Ok(SslMode::Disable));
        assert_eq!(parse("postgres://ichor@/ichor?host=/run/postgresql&sslmode=disable"), Ok(SslMode::Disable));
        assert_eq!(parse("postgres://ichor@127.0.0.1/ichor?sslmode=disable"), Ok(SslMode::Disable));
        assert_eq!(parse("postgres://ichor@LOCALHOST/ichor?sslmode=disable"), Ok(SslMode::Disable));
        assert_eq!(parse("postgres://ichor@[::1]/ichor?sslmode=verify-full"), Ok(SslMode::Require));
        for mode in ["disable", "prefer", "allow", "require", "verify-ca", ""] {
            let refused = parse(&format!("postgres://ichor:pw@db.example/ichor?sslmode={mode}"));
            assert_eq!(refused, Err(AddressError::SslMode), "{mode}");
        }
        let one_elsewhere = "postgres://ichor@127.0.0.1,db.example/ichor?sslmode=disable";
        assert!(parse(one_elsewhere).is_err());
    }

    #[test]
    fn what_is_no_address_is_told_without_its_password() {
        for bad in ["", "ichor", "mysql://u:secret@h/d", "postgres://u:secret@h", "postgres://u:secret@h:x/d"] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error, AddressError::Form, "{bad}");
            assert!(!error.to_string().contains("secret"));
        }
        let option = "postgres://u:secret@h/d?options=-csynchronous_commit%3Doff";
        assert_eq!(parse(option), Err(AddressError::Parameter("options".into())));
    }
}
