//! The PKI engine: it issues certificates by roles.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};

use super::login::json;
use super::{BaoError, Client, Kind, NameError, Retry, check_mount, check_name};

/// PKI at one mount.
#[derive(Clone, Debug)]
pub struct Pki {
    client: Client,
    mount: String,
}

/// A role, its fields as the engine has them.
pub type Role = BTreeMap<String, serde_json::Value>;

/// A certificate that the engine made. Nothing of it is believed yet.
#[derive(Clone, Debug, Deserialize)]
pub struct Signed {
    /// The certificate, PEM.
    pub certificate: String,
    /// The certificate of the CA that signed it, PEM.
    pub issuing_ca: String,
}

#[derive(Serialize)]
struct Sign<'a> {
    csr: &'a str,
    ttl: String,
}

#[derive(Deserialize)]
struct Ca {
    certificate: String,
}

/// By what the engine knows the issuer that signs by default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct IssuerRef {
    #[serde(rename = "issuer_id", default)]
    id: String,
    #[serde(rename = "issuer_name", default)]
    name: String,
}

#[derive(Deserialize)]
struct Names {
    keys: Vec<String>,
}

// === impl Pki ===

impl Pki {
    /// PKI at this mount.
    ///
    /// # Errors
    /// When the mount cannot stand in a path.
    pub fn new(client: Client, mount: &str) -> Result<Self, NameError> {
        check_mount(mount)?;
        Ok(Self { client, mount: mount.to_owned() })
    }

    /// The client behind it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The mount.
    #[must_use]
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// A certificate for the request's key, with all else from the role; it ends `seconds` from now at the latest.
    ///
    /// # Errors
    /// When none was made.
    pub async fn sign(&self, role: &str, csr: &str, seconds: u64) -> Result<Signed, BaoError> {
        let body = json(&Sign { csr, ttl: format!("{seconds}s") });
        // made twice it is two certificates, of which one is thrown away: that is said nowhere, so it is not done
        let answer = self.client.call(Method::POST, &self.path("sign", role)?, Some(body), Retry::Never).await?;
        answer.data()
    }

    /// The certificate of the CA that signs by default, PEM.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn ca(&self) -> Result<String, BaoError> {
        let answer = self.client.call(Method::GET, &format!("{}/cert/ca", self.mount), None, Retry::Safe).await?;
        Ok(answer.data::<Ca>()?.certificate)
    }

    /// What the issuer that signs by default is called.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn issuer(&self) -> Result<IssuerRef, BaoError> {
        let path = format!("{}/issuer/default/json", self.mount);
        self.client.call(Method::GET, &path, None, Retry::Safe).await?.data()
    }

    /// A role; `None` when there is none of that name.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn role(&self, name: &str) -> Result<Option<Role>, BaoError> {
        match self.client.call(Method::GET, &self.path("roles", name)?, None, Retry::Safe).await {
            Ok(answer) => answer.data().map(Some),
            Err(error) if matches!(error.kind(), Kind::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of all roles.
    ///
    /// # Errors
    /// When they cannot be asked.
    pub async fn roles(&self) -> Result<Vec<String>, BaoError> {
        let list = Method::from_bytes(b"LIST").unwrap_or(Method::GET);
        match self.client.call(list, &format!("{}/roles", self.mount), None, Retry::Safe).await {
            Ok(answer) => Ok(answer.data::<Names>()?.keys),
            Err(error) if matches!(error.kind(), Kind::Missing(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Returns once the role is as given.
    ///
    /// # Errors
    /// When it was not written.
    pub async fn write_role(&self, name: &str, role: &Role) -> Result<(), BaoError> {
        self.client.call(Method::POST, &self.path("roles", name)?, Some(json(role)), Retry::Safe).await.map(drop)
    }

    /// Returns once there is no role of this name.
    ///
    /// # Errors
    /// When it was not deleted.
    pub async fn delete_role(&self, name: &str) -> Result<(), BaoError> {
        self.client.call(Method::DELETE, &self.path("roles", name)?, None, Retry::Safe).await.map(drop)
    }

    /// The path at which this role signs: for asking what our token may do.
    ///
    /// # Errors
    /// When the name cannot stand in a path.
    pub fn sign_path(&self, role: &str) -> Result<String, BaoError> {
        self.path("sign", role)
    }

    fn path(&self, what: &str, name: &str) -> Result<String, BaoError> {
        check_name(name).map_err(|error| self.client.error(Kind::Refused(error.to_string()), None))?;
        Ok(format!("{}/{what}/{name}", self.mount))
    }
}

// === impl IssuerRef ===

impl IssuerRef {
    /// Its id, and the name that someone gave it.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        [self.id.as_str(), self.name.as_str()].into_iter().filter(|reference| !reference.is_empty())
    }
}
