//! The identity that opens the vault.

use std::io::{Read, Write};
use std::path::Path;

use age::secrecy::{ExposeSecret, SecretString};
use age::{DecryptError, Decryptor, Encryptor, scrypt, ssh, x25519};
use zeroize::Zeroizing;

use super::plugin::PluginIdentities;
use super::recipients::Recipients;
use super::{IdentitySource, Plugins, VaultError, file};

/// What opens sealed files: at least one identity, those of plugins last and one for each plugin.
pub(super) struct Openers(Vec<Opener>);

enum Opener {
    X25519(x25519::Identity),
    Ssh(Box<ssh::Identity>),
    Plugin(PluginIdentities),
}

/// The identity, sealed with a passphrase.
pub(super) const SEALED: &str = "identity.age";

/// The identity in plain text.
pub(super) const BESIDE: &str = "identity.txt";

/// scrypt's work, as a power of two: 128 MiB of memory and about half a second, at each start and each guess.
pub(super) const WORK: u8 = 17;

/// The most work that is done to open a file: a crafted one could ask for hours and all memory.
const MAX_WORK: u8 = 20;

/// The shortest passphrase, in characters. Whoever copies the folder can guess at their leisure.
const MIN_PASSPHRASE: usize = 12;

/// An identity's file.
pub(super) fn text(identity: &x25519::Identity) -> SecretString {
    let key = identity.to_string();
    SecretString::from(format!("# public key: {}\n{}\n", identity.to_public(), key.expose_secret()))
}

/// Seals an identity's file with a passphrase; `work` is scrypt's, as a power of two.
pub(super) fn seal(text: &SecretString, passphrase: &SecretString, work: u8) -> Result<Vec<u8>, VaultError> {
    if passphrase.expose_secret().chars().count() < MIN_PASSPHRASE {
        return Err(VaultError::ShortPassphrase);
    }
    let mut recipient = scrypt::Recipient::new(passphrase.clone());
    recipient.set_work_factor(work);
    let failed = |reason: String| VaultError::File { path: SEALED.into(), reason };
    let recipients = std::iter::once(&recipient as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(|e| failed(e.to_string()))?;
    let mut sealed = Vec::new();
    let written = encryptor.wrap_output(&mut sealed).and_then(|mut writer| {
        writer.write_all(text.expose_secret().as_bytes())?;
        writer.finish().map(|_| ())
    });
    written.map_err(|e| failed(e.to_string()))?;
    Ok(sealed)
}

/// Writes the identity beside the vault.
pub(super) fn write_beside(dir: &Path, text: &SecretString) -> Result<(), VaultError> {
    file::write(&dir.join(BESIDE), text.expose_secret().as_bytes(), false)
}

/// The identities of the source, at least one.
pub(super) fn load(dir: &Path, source: IdentitySource, plugins: &Plugins) -> Result<Openers, VaultError> {
    let text = |bytes: Zeroizing<Vec<u8>>| {
        Openers::parse(std::str::from_utf8(&bytes).map_err(|_| VaultError::Identity)?, plugins)
    };
    match source {
        IdentitySource::Text(text) => Openers::parse(text.expose_secret(), plugins),
        IdentitySource::DangerBeside => {
            let path = dir.join(BESIDE);
            text(Zeroizing::new(file::read(&path)?.ok_or(VaultError::NoIdentity(path))?))
        }
        IdentitySource::Passphrase(passphrase) => {
            let path = dir.join(SEALED);
            let sealed = file::read(&path)?.ok_or_else(|| VaultError::NoIdentity(path.clone()))?;
            text(unseal(&path, &sealed, passphrase)?)
        }
        IdentitySource::File(path, passphrase) => {
            let sealed =
                file::read_outside(&path, file::MAX_FILE)?.ok_or_else(|| VaultError::NoIdentity(path.clone()))?;
            text(unseal(&path, &sealed, passphrase)?)
        }
    }
}

fn unseal(path: &Path, sealed: &[u8], passphrase: SecretString) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let damaged = || VaultError::Damaged(path.to_owned());
    let decryptor = Decryptor::new_buffered(sealed).map_err(|_| damaged())?;
    if !decryptor.is_scrypt() {
        return Err(VaultError::NotPassphrase(path.to_owned()));
    }
    let mut identity = scrypt::Identity::new(passphrase);
    identity.set_max_work_factor(MAX_WORK);
    let reader = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity));
    let mut reader = reader.map_err(|error| match error {
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => VaultError::WrongPassphrase,
        DecryptError::ExcessiveWork { .. } => VaultError::Work(path.to_owned()),
        _ => damaged(),
    })?;
    // Room for all at once, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut text).map_err(|_| damaged())?;
    Ok(text)
}

// === impl Openers ===

impl Openers {
    /// The identities of an identity file, or an OpenSSH private key.
    pub(super) fn parse(text: &str, plugins: &Plugins) -> Result<Self, VaultError> {
        if text.trim_start().starts_with("-----BEGIN ") {
            return Ok(Self(vec![Opener::Ssh(Box::new(ssh_key(text)?))]));
        }
        let mut found = Self(Vec::new());
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match PluginIdentities::parse(line, plugins) {
                Some(identity) => found.add(identity?),
                // native ones stand before: they cost nothing, a plugin may want its key touched
                None => found.0.insert(0, Opener::X25519(line.parse().map_err(|_| VaultError::Identity)?)),
            }
        }
        if found.0.is_empty() { Err(VaultError::Identity) } else { Ok(found) }
    }

    fn add(&mut self, identity: PluginIdentities) {
        let same = self.0.iter_mut().find_map(|opener| match opener {
            Opener::Plugin(plugin) if plugin.name() == identity.name() => Some(plugin),
            _ => None,
        });
        match same {
            Some(plugin) => plugin.take(identity),
            None => self.0.push(Opener::Plugin(identity)),
        }
    }

    pub(super) fn as_age(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|opener| match opener {
            Opener::X25519(identity) => identity as &dyn age::Identity,
            Opener::Ssh(identity) => identity.as_ref(),
            Opener::Plugin(identities) => identities,
        })
    }

    /// Fails when no identity is among the recipients. Which recipient a plugin's identity has, only the plugin knows; that
    /// one of its recipients is there must do.
    pub(super) fn check(&self, recipients: &Recipients) -> Result<(), VaultError> {
        let is_there = |opener: &Opener| match opener {
            Opener::Plugin(plugin) => recipients.has_plugin(plugin.name()),
            other => recipients.has(&other.recipient()),
        };
        match self.0.first() {
            Some(first) if !self.0.iter().any(is_there) => Err(VaultError::NotARecipient(first.recipient())),
            _ => Ok(()),
        }
    }
}

// === impl Opener ===

impl Opener {
    /// The recipient that it opens for, or the name of its plugin.
    fn recipient(&self) -> String {
        match self {
            Self::X25519(identity) => identity.to_public().to_string(),
            Self::Ssh(key) => {
                ssh::Recipient::try_from(key.as_ref().clone()).map(|key| key.to_string()).unwrap_or_default()
            }
            Self::Plugin(plugin) => format!("age1{}1…", plugin.name()),
        }
    }
}

/// An OpenSSH private key that needs no passphrase: in a service nobody is there to type one.
fn ssh_key(text: &str) -> Result<ssh::Identity, VaultError> {
    let key = ssh::Identity::from_buffer(text.trim().as_bytes(), None).map_err(|_| VaultError::Identity)?;
    match key {
        ssh::Identity::Unencrypted(_) => Ok(key),
        ssh::Identity::Encrypted(_) => Err(VaultError::SshPassphrase),
        ssh::Identity::Unsupported(_) => Err(VaultError::SshKind),
    }
}
