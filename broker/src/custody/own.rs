//! The broker's own secrets, where they do not live in a file of the vault: the data key, in KV or wrapped by Transit.
//!
//! `secrets/<name>.toml` says where, as a CA's record does; it is written last, so that a move that was cut short leaves the
//! secret where it was.

use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::transit::check as check_key;
use super::vault::{VaultError, file};
use super::{Custody, CustodyError, DATA_KEY, DataKey, LockedBytes, TransitKeyError};
use crate::openbao::{Kv, TransitEngine};

/// Where a secret of the broker's own lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "custody", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Home {
    /// In the vault, as `secrets/<name>.age`.
    Age,
    /// As a secret of KV version 2, in its field `value`, base64.
    Kv {
        /// The server, as `[[openbao]]` names it.
        server: String,
        /// The mount.
        mount: String,
        /// The secret's path.
        path: String,
    },
    /// Here, encrypted by a key of Transit, which is asked once at each start.
    Transit {
        /// The server, as `[[openbao]]` names it.
        server: String,
        /// The mount.
        mount: String,
        /// The key's name.
        key: String,
        /// What Transit made of the secret.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        ciphertext: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Value<'a> {
    value: &'a str,
}

// === impl Home ===

impl Home {
    /// What it is, for people.
    #[must_use]
    pub fn said(&self) -> String {
        match self {
            Self::Age => format!("age file secrets/{DATA_KEY}.age"),
            Self::Kv { server, mount, path } => format!("KV secret {mount}/{path} at {server}"),
            Self::Transit { server, mount, key, .. } => format!("encrypted by Transit key {mount}/{key} at {server}"),
        }
    }

    fn read(dir: &Path) -> Result<Self, VaultError> {
        let path = path(dir);
        let Some(bytes) = file::read(&path)? else { return Ok(Self::Age) };
        let home = std::str::from_utf8(&bytes).ok().and_then(|text| toml::from_str(text).ok());
        home.ok_or(VaultError::Record(path))
    }

    fn write(&self, dir: &Path) -> Result<(), VaultError> {
        let path = path(dir);
        let text = toml::to_string(self).map_err(|_| VaultError::Record(path.clone()))?;
        let head =
            "# Where the broker's data key lives. Written by `ichor-broker custody move-secrets`; nothing in clear.\n";
        file::write(&path, format!("{head}{text}").as_bytes(), true)
    }
}

// === impl Custody ===

impl Custody {
    /// Where the data key lives.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn data_key_home(&self) -> Result<Home, CustodyError> {
        Ok(Home::read(self.vault().sealer().dir())?)
    }

    /// The key that seals and tags rows of the database, from where it lives.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn data_key(&self) -> Result<DataKey, CustodyError> {
        let bytes = self.data_key_bytes(&self.data_key_home()?).await?;
        Ok(DataKey::new(bytes.as_slice()).map_err(VaultError::from)?)
    }

    /// Returns once the data key lives there: written, read back and compared before the record of it. The copy at the place
    /// before stays.
    ///
    /// # Errors
    /// When it did not get there; then it lives where it did.
    pub async fn move_data_key(&self, to: Home) -> Result<Home, CustodyError> {
        let dir = self.vault().sealer().dir();
        let bytes = self.data_key_bytes(&self.data_key_home()?).await?;
        let home = match to {
            Home::Age => {
                self.vault().sealer().seal_secret(DATA_KEY, bytes.as_slice(), true)?;
                Home::Age
            }
            Home::Kv { server, mount, path } => {
                let kv = Kv::new(self.server(&server)?, &mount)?;
                let value = Zeroizing::new(BASE64.encode(bytes.as_slice()));
                let over = kv.newest(&path).await?;
                kv.write(&path, &Value { value: &value }, over).await?;
                Home::Kv { server, mount, path }
            }
            Home::Transit { server, mount, key, .. } => {
                let transit = TransitEngine::new(self.server(&server)?, &mount)?;
                let found = transit.key(&key).await?;
                let found = found.ok_or_else(|| TransitKeyError::NoSealingKey(format!("{mount}/keys/{key}")))?;
                check_key(&key, &found)?;
                let ciphertext = transit.encrypt(&key, bytes.as_slice(), DATA_KEY).await?;
                Home::Transit { server, mount, key, ciphertext }
            }
        };
        let back = self.data_key_bytes(&home).await?;
        if back.as_slice() != bytes.as_slice() {
            return Err(VaultError::Record(path(dir)).into());
        }
        home.write(dir)?;
        Ok(home)
    }

    async fn data_key_bytes(&self, home: &Home) -> Result<LockedBytes, CustodyError> {
        match home {
            Home::Age => Ok(self.vault().open_secret(DATA_KEY)?),
            Home::Kv { server, mount, path } => {
                let kv = Kv::new(self.server(server)?, mount)?;
                let missing = || CustodyError::NoSecret(home.said());
                let version = kv.read(path).await?.ok_or_else(missing)?;
                let value: Value<'_> = version.data()?;
                let decoded = BASE64.decode(value.value.as_bytes()).map(Zeroizing::new).map_err(|_| missing())?;
                Ok(LockedBytes::copy_of(&decoded))
            }
            Home::Transit { server, mount, key, ciphertext } => {
                let transit = TransitEngine::new(self.server(server)?, mount)?;
                Ok(LockedBytes::copy_of(&transit.decrypt(key, ciphertext, DATA_KEY).await?))
            }
        }
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("secrets").join(format!("{DATA_KEY}.toml"))
}
