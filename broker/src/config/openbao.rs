//! The servers that hold CA keys: `[[openbao]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::folder::read;
use super::settings::parse_duration;
use super::{ConfigError, File, Folder};
use crate::openbao::{Auth, Client, PACE, Settings, check_mount, check_name};

/// One OpenBao or HashiCorp Vault server, or one cluster of them behind one address.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenBao {
    /// Its name here, lower-case letters, digits and hyphens.
    pub name: String,
    /// Where its API is: an https address. Plain `http` only on loopback.
    pub address: String,
    /// The CA that signed its TLS certificate, PEM. Absent: the system's roots.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The namespace that everything is in.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The longest that one call may take, with login and every try. At most half of `limits.request_time`.
    #[serde(default = "default_openbao_deadline")]
    pub deadline: String,
    /// The way to log in.
    pub auth: AuthMethod,
    /// Where the method is mounted there. Absent: the method's own name.
    #[serde(default)]
    pub auth_mount: Option<String>,
    /// The role: of `approle` its role id; of `kubernetes`, `jwt` and `cert` its name. Absent only for `cert` and `token`.
    #[serde(default)]
    pub role: Option<String>,
    /// A file with the secret: of `approle` the secret id, of `kubernetes` and `jwt` the identity token, of `token` the token.
    /// Read at each login.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// For `cert`: the client certificate and its chain, PEM. Read at each login.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// For `cert`: the key of the client certificate, PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// A way to log in at OpenBao.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMethod {
    /// A role id and a secret id.
    Approle,
    /// The token of a Kubernetes service account.
    Kubernetes,
    /// A JWT of any issuer that the server trusts.
    Jwt,
    /// A TLS client certificate.
    Cert,
    /// A token that something else writes into a file and renews, as OpenBao's agent does.
    Token,
}

// === impl OpenBao ===

/// The clients of the servers, by name. Nothing is sent yet.
///
/// # Errors
/// On the first server that cannot be.
pub fn openbao_clients(folder: &Folder, file: &File) -> Result<BTreeMap<String, Client>, ConfigError> {
    let mut clients = BTreeMap::new();
    for section in &file.openbao {
        let settings = section.check(folder)?;
        let name = settings.name.clone();
        let failed = |why: String| value(folder, "address", why);
        let client = Client::new(settings).map_err(|error| failed(error.to_string()))?;
        if clients.insert(name.clone(), client).is_some() {
            return Err(value(folder, "name", format!("there are two named `{name}`; give each its own")));
        }
    }
    Ok(clients)
}

/// A client of one server that logs in with the token in this file, and not as the broker does: an operator's.
///
/// # Errors
/// When there is no server of that name, or its settings cannot be.
pub fn openbao_client_of(folder: &Folder, file: &File, name: &str, token: PathBuf) -> Result<Client, ConfigError> {
    let section = file.openbao.iter().find(|section| section.name == name);
    let section = section.ok_or_else(|| value(folder, "name", format!("there is none named `{name}`")))?;
    let settings = Settings { auth: Auth::Token { file: token }, ..section.check(folder)? };
    Client::new(settings).map_err(|error| value(folder, "address", error.to_string()))
}

impl OpenBao {
    /// What its client is told.
    ///
    /// # Errors
    /// On the first key that is wrong or missing.
    pub(super) fn check(&self, folder: &Folder) -> Result<Settings, ConfigError> {
        let bad = |key: &str, why: &str| value(folder, key, why.to_owned());
        let fits = check_name(&self.name).is_ok()
            && self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            return Err(bad("name", "use lower-case letters, digits and hyphens"));
        }
        let address =
            Url::parse(&self.address).map_err(|_| bad("address", "write a URL, as `https://bao.example:8200`"))?;
        Settings::check_address(&address).map_err(|error| bad("address", &error.to_string()))?;
        let deadline = parse_duration(&self.deadline);
        let deadline = deadline.ok_or_else(|| bad("deadline", "write a duration above zero, as `5s`"))?;
        let namespace = self.namespace.as_deref().map(|text| text.trim_matches('/').to_owned());
        if namespace.as_deref().is_some_and(|text| check_mount(text).is_err()) {
            return Err(bad("namespace", "write the namespace's path, as `teams/sre`"));
        }
        Ok(Settings {
            name: self.name.clone(),
            address,
            ca: self.ca_file.as_deref().map(|path| read(&folder.at(path)).map(String::into_bytes)).transpose()?,
            namespace,
            deadline: deadline.unsigned_abs(),
            pace: PACE,
            auth: self.check_auth(folder)?,
        })
    }

    fn check_auth(&self, folder: &Folder) -> Result<Auth, ConfigError> {
        let mount = |default: &str| {
            let mount = self.auth_mount.clone().unwrap_or_else(|| default.to_owned());
            check_mount(&mount).map_err(|error| value(folder, "auth_mount", error.to_string()))?;
            Ok(mount)
        };
        let missing = |key: &str| value(folder, key, "this way to log in needs it".into());
        let role = || self.role.clone().filter(|role| !role.is_empty()).ok_or_else(|| missing("role"));
        let file =
            |key: &str, path: &Option<PathBuf>| path.as_deref().map(|path| folder.at(path)).ok_or_else(|| missing(key));
        let secret = || file("secret_file", &self.secret_file);
        Ok(match self.auth {
            AuthMethod::Approle => Auth::AppRole { mount: mount("approle")?, role_id: role()?, secret_id: secret()? },
            AuthMethod::Kubernetes => Auth::Kubernetes { mount: mount("kubernetes")?, role: role()?, token: secret()? },
            AuthMethod::Jwt => Auth::Jwt { mount: mount("jwt")?, role: role()?, token: secret()? },
            AuthMethod::Cert => Auth::Certificate {
                mount: mount("cert")?,
                role: self.role.clone(),
                certificate: file("certificate", &self.certificate)?,
                key: file("key", &self.key)?,
            },
            AuthMethod::Token => Auth::Token { file: secret()? },
        })
    }
}

fn default_openbao_deadline() -> String {
    "5s".into()
}

fn value(folder: &Folder, key: &str, why: String) -> ConfigError {
    ConfigError::Value { path: folder.config(), key: format!("openbao.{key}"), why }
}
