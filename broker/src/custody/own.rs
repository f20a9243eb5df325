//! The broker's own secrets, where they do not live in a file of the vault: in KV, wrapped by Transit, or, for the audit key,
//! as a key of Transit's own.
//!
//! `secrets/<name>.toml` says where, as a CA's record does; it is written last, so that a move that was cut short leaves the
//! secret where it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::transit::{Powers, check as check_key};
use super::vault::{AUDIT_KEY, VaultError, file};
use super::{AuditKey, Custody, CustodyError, DATA_KEY, DataKey, LockedBytes, TransitKeyError, TransitSigner};
use crate::entropy;
use crate::openbao::{BaoError, Client, KeyKind, Kv, TransitEngine, Version};

/// A secret of the broker's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    /// Seals and tags rows of the database.
    Data,
    /// Signs the audit log's checkpoints.
    Audit,
}

/// Where a secret of the broker's own lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "custody", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Home {
    /// In the vault, as `secrets/<file>.age`.
    Age {
        /// The file, where it is another than the secret's own name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
    },
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
    /// As a key of Transit that signs there and never leaves: for the audit key alone.
    TransitKey {
        /// The server, as `[[openbao]]` names it.
        server: String,
        /// The mount.
        mount: String,
        /// The key's name.
        key: String,
        /// The key's version.
        #[serde(default = "first_version")]
        version: u32,
    },
}

/// What a move of a secret may do beside writing where nothing is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Over<'a> {
    /// An operator's client, and the server that it is of: it writes there in place of our own.
    pub operator: Option<(&'a str, &'a Client)>,
    /// Whether another secret that is there is written over.
    pub replace: bool,
}

#[derive(Serialize, Deserialize)]
struct Value<'a> {
    value: &'a str,
}

fn first_version() -> u32 {
    1
}

// === impl Secret ===

impl Secret {
    /// Its name, as the vault's files have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => DATA_KEY,
            Self::Audit => AUDIT_KEY,
        }
    }

    /// What it is, for people.
    #[must_use]
    pub const fn said(self) -> &'static str {
        match self {
            Self::Data => "data key",
            Self::Audit => "audit key",
        }
    }

    fn record(self, dir: &Path) -> PathBuf {
        dir.join("secrets").join(format!("{}.toml", self.name()))
    }
}

// === impl Home ===

impl Home {
    /// In the vault, under the secret's own name.
    pub const AGE: Self = Self::Age { file: None };

    /// What it is, for people.
    #[must_use]
    pub fn said(&self, secret: Secret) -> String {
        match self {
            Self::Age { file } => format!("age file secrets/{}.age", file.as_deref().unwrap_or(secret.name())),
            Self::Kv { server, mount, path } => format!("KV secret {mount}/{path} at {server}"),
            Self::Transit { server, mount, key, .. } => format!("encrypted by Transit key {mount}/{key} at {server}"),
            Self::TransitKey { server, mount, key, version } => {
                format!("Transit key {mount}/{key} version {version} at {server}, which never leaves")
            }
        }
    }

    /// The server that it is at; `None` for the vault.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Age { .. } => None,
            Self::Kv { server, .. } | Self::Transit { server, .. } | Self::TransitKey { server, .. } => Some(server),
        }
    }

    fn read(dir: &Path, secret: Secret) -> Result<Self, VaultError> {
        let path = secret.record(dir);
        file::read(&path)?.map_or(Ok(Self::AGE), |bytes| Self::parse(&path, &bytes))
    }

    /// What these bytes of the file at `path` say.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, VaultError> {
        let home = std::str::from_utf8(bytes).ok().and_then(|text| toml::from_str(text).ok());
        home.ok_or_else(|| VaultError::Record(path.to_owned()))
    }

    /// The vault's file below `secrets/`, without its ending, where the secret is in one.
    pub(super) fn file(&self, secret: Secret) -> Option<&str> {
        if let Self::Age { file } = self { Some(file.as_deref().unwrap_or(secret.name())) } else { None }
    }

    fn write(&self, dir: &Path, secret: Secret) -> Result<(), VaultError> {
        let path = secret.record(dir);
        let text = toml::to_string(self).map_err(|_| VaultError::Record(path.clone()))?;
        let head =
            format!("# Where the broker's {} lives. Written by `ichor-broker`; nothing in clear.\n", secret.said());
        file::write(&path, format!("{head}{text}").as_bytes(), true)
    }
}

// === impl Custody ===

impl Custody {
    /// Where a secret lives.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn home(&self, secret: Secret) -> Result<Home, CustodyError> {
        Ok(Home::read(self.vault().sealer().dir(), secret)?)
    }

    /// The key that seals and tags rows of the database, from where it lives.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn data_key(&self) -> Result<DataKey, CustodyError> {
        let bytes = self.secret_bytes(Secret::Data, &self.home(Secret::Data)?).await?;
        Ok(DataKey::new(bytes.as_slice()).map_err(VaultError::from)?)
    }

    /// The key that signs the audit log's checkpoints, from where it lives.
    ///
    /// # Errors
    /// When it cannot be had; [`CustodyError::NoAuditKey`] where the folder never had one.
    pub async fn audit_key(&self) -> Result<AuditKey, CustodyError> {
        let home = self.home(Secret::Audit)?;
        match self.audit_key_at(&home).await {
            Err(CustodyError::Vault(VaultError::Missing(_))) if home == Home::AGE => Err(CustodyError::NoAuditKey),
            opened => opened.inspect(tell),
        }
    }

    /// A new audit key beside the one in use, which stays: in the vault, in KV below the path that is named, or born in Transit
    /// under the name that is given. At a server `maker`, an operator's client, makes it where there is one; it is then read
    /// with our own, as at each start. Nobody uses it before [`Self::use_audit_key`].
    ///
    /// # Errors
    /// When it was not made, is there already, or our own client may not use it.
    pub async fn make_audit_key(&self, to: Home, maker: Option<&Client>) -> Result<(Home, AuditKey), CustodyError> {
        let at = |name: &str| maker.map_or_else(|| self.server(name), |maker| Ok(maker.clone()));
        let seed = Zeroizing::new(entropy::bytes::<32>().map_err(VaultError::from)?);
        let mark = |key: &AuditKey| HEXLOWER.encode(key.public_key().first_chunk::<4>().unwrap_or(&[0; 4]));
        let home = match to {
            Home::Age { .. } => {
                let name = format!("{AUDIT_KEY}-{}", mark(&AuditKey::from_seed(&*seed).map_err(VaultError::from)?));
                self.vault().sealer().seal_secret(&name, &*seed, false)?;
                Home::Age { file: Some(name) }
            }
            Home::Kv { server, mount, path } => {
                let path = format!("{path}-{}", mark(&AuditKey::from_seed(&*seed).map_err(VaultError::from)?));
                let kv = Kv::new(at(&server)?, &mount)?;
                let value = Zeroizing::new(BASE64.encode(&*seed));
                kv.write(&path, &Value { value: &value }, 0).await?;
                Home::Kv { server, mount, path }
            }
            Home::Transit { server, mount, key, .. } | Home::TransitKey { server, mount, key, .. } => {
                let transit = TransitEngine::new(at(&server)?, &mount)?;
                if transit.key(&key).await?.is_some() {
                    return Err(CustodyError::KeyExists(format!("{mount}/{key}")));
                }
                transit.create(&key, KeyKind::Ed25519).await?;
                Home::TransitKey { server, mount, key, version: 1 }
            }
        };
        let key = self.audit_key_at(&home).await?;
        Ok((home, key))
    }

    /// Returns once the audit key in use is the one at this place.
    ///
    /// # Errors
    /// When that cannot be written; then it is the one before.
    pub fn use_audit_key(&self, home: &Home) -> Result<(), CustodyError> {
        Ok(home.write(self.vault().sealer().dir(), Secret::Audit)?)
    }

    /// Returns once the secret lives there: written, read back as each start will and compared before the record of it. The copy at
    /// the place before stays. What is written over is only what `over` allows.
    ///
    /// # Errors
    /// When it did not get there; then it lives where it did.
    pub async fn move_secret(&self, secret: Secret, to: Home, over: Over<'_>) -> Result<Home, CustodyError> {
        let dir = self.vault().sealer().dir();
        let bytes = self.take_secret(secret, &self.home(secret)?, over).await?;
        let home = match to {
            Home::Age { file } => {
                self.vault().sealer().seal_secret(file.as_deref().unwrap_or(secret.name()), bytes.as_slice(), true)?;
                Home::Age { file }
            }
            Home::Kv { server, mount, path } => {
                let kv = Kv::new(self.server_of(&server, over)?, &mount)?;
                let home = Home::Kv { server, mount, path: path.clone() };
                let version = match kv.read(&path).await? {
                    Some(found) if is_it(&found, bytes.as_slice()) => None,
                    Some(_) if !over.replace => {
                        return Err(CustodyError::OtherSecret { place: home.said(secret), secret: secret.said() });
                    }
                    Some(found) => Some(found.number),
                    None => Some(kv.newest(&path).await?),
                };
                if let Some(version) = version {
                    let value = Zeroizing::new(BASE64.encode(bytes.as_slice()));
                    kv.write(&path, &Value { value: &value }, version).await?;
                }
                home
            }
            Home::Transit { server, mount, key, .. } => {
                let transit = TransitEngine::new(self.server_of(&server, over)?, &mount)?;
                let found = transit.key(&key).await?;
                let found = found.ok_or_else(|| TransitKeyError::NoSealingKey(format!("{mount}/keys/{key}")))?;
                check_key(&key, &found)?;
                let ciphertext = transit.encrypt(&key, bytes.as_slice(), secret.name()).await?;
                Home::Transit { server, mount, key, ciphertext }
            }
            born @ Home::TransitKey { .. } => return Err(CustodyError::Stays(born.said(secret))),
        };
        // with our own clients, whoever wrote it: nobody else's token is there when the broker starts
        let back = self.secret_bytes(secret, &home).await?;
        if back.as_slice() != bytes.as_slice() {
            return Err(VaultError::Record(secret.record(dir)).into());
        }
        home.write(dir, secret)?;
        Ok(home)
    }

    /// The secret from where it lives, with the operator's token where ours may not have it any more.
    async fn take_secret(&self, secret: Secret, home: &Home, over: Over<'_>) -> Result<LockedBytes, CustodyError> {
        match (self.secret_bytes(secret, home).await, over.operator) {
            (Err(_), Some((name, client))) if home.server() == Some(name) => {
                self.secret_bytes_by(secret, home, client.clone()).await
            }
            (taken, _) => taken,
        }
    }

    /// The operator's client of this server, or our own.
    fn server_of(&self, name: &str, over: Over<'_>) -> Result<Client, CustodyError> {
        match over.operator {
            Some((server, client)) if server == name => Ok(client.clone()),
            _ => self.server(name),
        }
    }

    async fn audit_key_at(&self, home: &Home) -> Result<AuditKey, CustodyError> {
        let Home::TransitKey { server, mount, key, version } = home else {
            let seed = self.secret_bytes(Secret::Audit, home).await?;
            return Ok(AuditKey::from_seed(seed.as_slice()).map_err(VaultError::from)?);
        };
        let transit = TransitEngine::new(self.server(server)?, mount)?;
        let named = format!("{mount}/{key}");
        let unusable = |why| CustodyError::AuditKey { key: named.clone(), version: *version, why };
        let missing = || TransitKeyError::Missing(named.clone());
        let found = transit.key(key).await?.ok_or_else(missing).map_err(unusable)?;
        let powers = Powers::ask(&transit, key, *version).await?;
        powers.check().map_err(unusable)?;
        let signer = TransitSigner::new(transit, key, *version, &found).map_err(unusable)?;
        let key = AuditKey::of(Arc::new(signer)).map_err(VaultError::from)?;
        Ok(key.with_warning(powers.warning("audit.hcl")))
    }

    async fn secret_bytes(&self, secret: Secret, home: &Home) -> Result<LockedBytes, CustodyError> {
        match home {
            Home::Age { file } => Ok(self.vault().open_secret(file.as_deref().unwrap_or(secret.name()))?),
            Home::Kv { server, .. } | Home::Transit { server, .. } | Home::TransitKey { server, .. } => {
                self.secret_bytes_by(secret, home, self.server(server)?).await
            }
        }
    }

    /// The same by this client of the server that it is at.
    async fn secret_bytes_by(&self, secret: Secret, home: &Home, by: Client) -> Result<LockedBytes, CustodyError> {
        let missing = || CustodyError::NoSecret { secret: secret.said(), place: home.said(secret) };
        match home {
            Home::Kv { mount, path, .. } => {
                let version = Kv::new(by, mount)?.read(path).await?.ok_or_else(missing)?;
                Ok(LockedBytes::copy_of(&value_of(&version)?.ok_or_else(missing)?))
            }
            Home::Transit { mount, key, ciphertext, .. } => {
                let transit = TransitEngine::new(by, mount)?;
                Ok(LockedBytes::copy_of(&transit.decrypt(key, ciphertext, secret.name()).await?))
            }
            Home::Age { .. } | Home::TransitKey { .. } => Err(CustodyError::Stays(home.said(secret))),
        }
    }
}

/// Logs what an operator should know of the key: a start says it, too.
fn tell(key: &AuditKey) {
    if let Some(warning) = key.warning() {
        tracing::warn!(warning, "the audit key can be had by whoever takes our token over");
    }
}

/// The secret in a version of KV's, where what is there is one.
fn value_of(version: &Version) -> Result<Option<Zeroizing<Vec<u8>>>, BaoError> {
    let value: Value<'_> = version.data()?;
    Ok(BASE64.decode(value.value.as_bytes()).ok().map(Zeroizing::new))
}

/// Whether this is what a version of KV's holds.
fn is_it(version: &Version, bytes: &[u8]) -> bool {
    value_of(version).ok().flatten().is_some_and(|found| found.as_slice() == bytes)
}
