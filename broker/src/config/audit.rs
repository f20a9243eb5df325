//! What makes the log provable: `[audit]`. The comments of the section are the reference, as in [`super::file`].

use std::path::PathBuf;

use ichor_wire::loopback::is_loopback;
use jiff::SignedDuration;
use serde::Deserialize;
use url::Url;

use super::file::File;
use super::settings::{BAD_DURATION, parse_duration};
use super::{ConfigError, Folder};
use crate::openbao::check_mount;

/// The longest name of a log: it is a line of every checkpoint.
const LONGEST_NAME: usize = 255;

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

/// The checked settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// The log's name.
    pub name: String,
    /// The file that holds the newest checkpoint.
    pub file: Option<PathBuf>,
    /// The secret that does.
    pub kv: Option<AnchorKv>,
    /// The witness that cosigns.
    pub witness: Option<Witness>,
    /// For how long an anchor may fail.
    pub anchor_grace: SignedDuration,
    /// For how long the audit key may be out.
    pub key_grace: SignedDuration,
    /// The file with the token for the log's tiles.
    pub tile_token: Option<PathBuf>,
    /// The file with the CA whose certificates open the log's tiles.
    pub tile_clients: Option<PathBuf>,
}

/// Where in KV the newest checkpoint lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorKv {
    /// The server, as `[[openbao]]` names it.
    pub server: String,
    /// The mount.
    pub mount: String,
    /// The secret's path.
    pub path: String,
}

/// A witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// What `add-checkpoint` is below; its path ends with a slash.
    pub url: Url,
    /// Its verifier key.
    pub key: String,
}

// === impl Audit ===

impl Default for Audit {
    fn default() -> Self {
        Self {
            name: None,
            anchor_file: None,
            anchor_openbao: None,
            anchor_mount: default_anchor_mount(),
            anchor_path: default_anchor_path(),
            witness: None,
            witness_key: None,
            anchor_grace: default_anchor_grace(),
            key_grace: default_key_grace(),
            tile_token_file: None,
            tile_client_ca_file: None,
            drop_min_age: default_drop_min_age(),
        }
    }
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

// === impl AuditSettings ===

impl AuditSettings {
    /// The settings of a file.
    ///
    /// # Errors
    /// On the first value that does not fit.
    pub(super) fn check(folder: &Folder, file: &File, public_url: &Url) -> Result<Self, ConfigError> {
        let section = &file.audit;
        let value = |key: &str, why: &str| ConfigError::Value {
            path: folder.config(),
            key: format!("audit.{key}"),
            why: why.to_owned(),
        };
        let duration = |key: &str, text: &str| parse_duration(text).ok_or_else(|| value(key, BAD_DURATION));
        let name = section.name.clone().unwrap_or_else(|| host_of(public_url));
        check_name(&name).map_err(|why| value("name", why))?;
        let kv = match &section.anchor_openbao {
            None => None,
            Some(server) => {
                if !file.openbao.iter().any(|known| known.name == *server) {
                    return Err(value("anchor_openbao", "there is no [[openbao]] of that name"));
                }
                for (key, path) in [("anchor_mount", &section.anchor_mount), ("anchor_path", &section.anchor_path)] {
                    check_mount(path).map_err(|error| value(key, &error.to_string()))?;
                }
                let (mount, path) = (section.anchor_mount.clone(), section.anchor_path.clone());
                Some(AnchorKv { server: server.clone(), mount, path })
            }
        };
        let witness = match (&section.witness, &section.witness_key) {
            (None, None) => None,
            (Some(url), Some(key)) => {
                let url = check_witness(url).map_err(|why| value("witness", why))?;
                Some(Witness { url, key: key.clone() })
            }
            _ => return Err(value("witness", "name both `witness` and `witness_key`, or neither")),
        };
        if section.tile_client_ca_file.is_some() && file.server.tls_certificate.is_none() {
            let why =
                "whoever ends TLS sees the certificates: leave it out behind a proxy, or give `server.tls_certificate`";
            return Err(value("tile_client_ca_file", why));
        }
        Ok(Self {
            name,
            file: section.anchor_file.as_deref().map(|path| folder.at(path)),
            kv,
            witness,
            anchor_grace: duration("anchor_grace", &section.anchor_grace)?,
            key_grace: duration("key_grace", &section.key_grace)?,
            tile_token: section.tile_token_file.as_deref().map(|path| folder.at(path)),
            tile_clients: section.tile_client_ca_file.as_deref().map(|path| folder.at(path)),
        })
    }

    /// Whether a log that was rolled back would be found out.
    #[must_use]
    pub fn is_anchored(&self) -> bool {
        self.file.is_some() || self.kv.is_some() || self.witness.is_some()
    }
}

/// The host alone: schema-less, as an origin should be, and the same behind another port.
fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or("localhost").to_owned()
}

fn check_name(name: &str) -> Result<(), &'static str> {
    // `+` separates the parts of a verifier key, `#` the number of a log that was opened again
    let fits = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !name.contains("://")
        && name.chars().all(|letter| letter.is_ascii_graphic() && !matches!(letter, '+' | '#'));
    if fits {
        Ok(())
    } else {
        Err("write a host and path without scheme, blanks, `+` and `#`, as `ichor.example.com/log`")
    }
}

fn check_witness(text: &str) -> Result<Url, &'static str> {
    let mut url = Url::parse(text).map_err(|_| "write the witness' URL, as `https://witness.example/`")?;
    if !(url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url))) {
        return Err("write an `https://` URL");
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("write the URL without query, fragment or user name");
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logs_name_is_the_host_unless_told_otherwise() {
        let name = |url: &str| host_of(&Url::parse(url).unwrap());
        assert_eq!(name("https://ichor.example.com"), "ichor.example.com");
        assert_eq!(name("https://ichor.example.com:443/"), "ichor.example.com");
        assert_eq!(name("http://127.0.0.1:8080"), "127.0.0.1");
        assert!(check_name("[2001:db8::1]:8443").is_ok());
        for bad in ["", "https://a", "a b", "a+b", "a#2", "a\nb", "é", &"a".repeat(256)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_witness_is_reached_over_tls_or_on_loopback() {
        assert_eq!(check_witness("https://w.example/prefix").unwrap().path(), "/prefix/");
        assert!(check_witness("http://127.0.0.1:9/").is_ok());
        for bad in ["http://w.example/", "ftp://w.example", "https://u@w.example/", "https://w.example/?q", "w"] {
            assert!(check_witness(bad).is_err(), "{bad}");
        }
    }
}
