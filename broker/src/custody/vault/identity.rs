//! The identity that opens the vault.

use std::io::{Read, Write};
use std::path::Path;

use age::secrecy::{ExposeSecret, SecretString};
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use zeroize::Zeroizing;

use super::{IdentitySource, VaultError, file};

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
pub(super) fn load(dir: &Path, source: IdentitySource) -> Result<Vec<x25519::Identity>, VaultError> {
    match source {
        IdentitySource::Text(text) => parse(text.expose_secret()),
        IdentitySource::DangerBeside => {
            let path = dir.join(BESIDE);
            let bytes = Zeroizing::new(file::read(&path)?.ok_or(VaultError::NoIdentity(path))?);
            parse(std::str::from_utf8(&bytes).map_err(|_| VaultError::Identity)?)
        }
        IdentitySource::Passphrase(passphrase) => {
            let path = dir.join(SEALED);
            let sealed = file::read(&path)?.ok_or_else(|| VaultError::NoIdentity(path.clone()))?;
            let bytes = unseal(&path, &sealed, passphrase)?;
            parse(std::str::from_utf8(&bytes).map_err(|_| VaultError::Identity)?)
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

fn parse(text: &str) -> Result<Vec<x25519::Identity>, VaultError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let identities: Result<Vec<_>, _> = lines.map(|l| l.parse().map_err(|_| VaultError::Identity)).collect();
    let identities = identities?;
    if identities.is_empty() { Err(VaultError::Identity) } else { Ok(identities) }
}
