//! What a client is told: where the server is, and how to log in there.

use std::path::PathBuf;
use std::time::Duration;

use ichor_wire::loopback::is_loopback;
use url::Url;

/// The longest that one call may take unless told otherwise, with every try and every wait between them.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How often a server that is out is asked whether it is back, and a renewal that failed is tried again.
pub const PACE: Duration = Duration::from_secs(5);

/// One server, or one cluster of them behind one address.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name here, as CA records and readiness say it.
    pub name: String,
    /// Where its API is: https, or plain http on loopback.
    pub address: Url,
    /// The CA of its TLS certificate, PEM. `None` for the system's roots.
    pub ca: Option<Vec<u8>>,
    /// The namespace that every path is in.
    pub namespace: Option<String>,
    /// The longest that one call may take.
    pub deadline: Duration,
    /// How often it is asked whether it is back when it is out: [`PACE`], except where a test cannot wait so long.
    pub pace: Duration,
    /// How to log in.
    pub auth: Auth,
}

/// How to log in. Files are read at each login, so that what rotates is taken up.
#[derive(Clone, Debug)]
pub enum Auth {
    /// AppRole: a role's id, and a file with its secret id.
    AppRole {
        /// The mount, `approle` by default.
        mount: String,
        /// The role's id; no secret.
        role_id: String,
        /// The file with the secret id.
        secret_id: PathBuf,
    },
    /// Kubernetes: a service account's token.
    Kubernetes {
        /// The mount, `kubernetes` by default.
        mount: String,
        /// The role.
        role: String,
        /// The file with the token.
        token: PathBuf,
    },
    /// JWT or OIDC: a token from a file.
    Jwt {
        /// The mount, `jwt` by default.
        mount: String,
        /// The role.
        role: String,
        /// The file with the token.
        token: PathBuf,
    },
    /// A TLS client certificate.
    Certificate {
        /// The mount, `cert` by default.
        mount: String,
        /// The role; `None` lets the server find one.
        role: Option<String>,
        /// The certificate and its chain, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
    /// A token that something else writes and renews.
    Token {
        /// The file with it.
        file: PathBuf,
    },
}

/// A mount or name that cannot stand in a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot stand in a path: use letters, digits, `.`, `_` and `-`, beginning with a letter or digit")]
pub struct NameError(String);

/// Why no client can be made of these settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Neither https nor plain http on loopback.
    #[error("`{0}` is neither https nor on loopback; write the server's https address")]
    Address(String),
    /// The CA file holds no certificates.
    #[error("its CA file is not a list of PEM certificates")]
    Ca,
    /// The client certificate or its key cannot be used.
    #[error("its client certificate and key cannot be used: {0}")]
    Certificate(String),
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built: {0}")]
    Client(String),
}

// === impl Settings ===

impl Settings {
    /// Whether the address is one that tokens may be sent to.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_address(address: &Url) -> Result<(), SettingsError> {
        let is_here = is_loopback(address);
        let plain = address.username().is_empty() && address.password().is_none() && address.query().is_none();
        let fits = (address.scheme() == "https" && address.has_host()) || (address.scheme() == "http" && is_here);
        if fits && plain { Ok(()) } else { Err(SettingsError::Address(address.origin().ascii_serialization())) }
    }
}

/// Whether this can be one part of a path: the name of a key, a role, a secret.
///
/// # Errors
/// When it cannot.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let fits = (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if fits { Ok(()) } else { Err(NameError(name.chars().filter(|c| !c.is_control()).take(80).collect())) }
}

/// Whether this can be a mount or a secret's path: such parts, separated by `/`.
///
/// # Errors
/// When it cannot.
pub fn check_mount(path: &str) -> Result<(), NameError> {
    path.split('/')
        .try_for_each(check_name)
        .map_err(|_| NameError(path.chars().filter(|c| !c.is_control()).take(80).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_path_leads_nowhere_else() {
        for good in ["transit", "ichor-prod", "a.b_c"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "..", ".", "a/b", "a?b", "a%2fb", "-a", "ä", "a\nb"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_mount("teams/sre/transit").is_ok());
        for bad in ["/transit", "transit/", "a//b", "a/../b"] {
            assert!(check_mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tokens_go_to_https_or_loopback() {
        for good in ["https://bao.example:8200", "http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost"] {
            assert!(Settings::check_address(&good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in
            ["http://bao.example", "ftp://bao.example", "https://user:word@bao.example", "http://127.0.0.1.example"]
        {
            assert!(Settings::check_address(&bad.parse().unwrap()).is_err(), "{bad}");
        }
    }
}
