//! What a sealed file says, and how it is sealed and opened.

use std::io::{BufRead, Read};
use std::path::Path;

use age::{DecryptError, Decryptor};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::identity::Openers;
use super::recipients::Recipients;
use super::{PluginError, VaultError, file};
use crate::custody::LockedBytes;

/// A CA, as JSON. The key is base64 of PKCS#8: base64 needs no escapes, so reading it makes no copy.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedCa<'a> {
    version: u8,
    ca: &'a str,
    certificate: String,
    key: &'a str,
}

/// A secret, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedSecret<'a> {
    version: u8,
    secret: &'a str,
    value: &'a str,
}

const VERSION: u8 = 1;

/// A CA for the vault, sealed.
pub(super) fn seal_ca(
    recipients: &Recipients,
    cluster: &str,
    certificate: String,
    key: &LockedBytes,
) -> Result<Vec<u8>, VaultError> {
    let key = Zeroizing::new(BASE64.encode(key.as_slice()));
    seal(recipients, &SealedCa { version: VERSION, ca: cluster, certificate, key: &key })
}

/// A secret for the vault, sealed.
pub(super) fn seal_secret(recipients: &Recipients, name: &str, value: &[u8]) -> Result<Vec<u8>, VaultError> {
    let value = Zeroizing::new(BASE64.encode(value));
    seal(recipients, &SealedSecret { version: VERSION, secret: name, value: &value })
}

/// A CA's certificate (PEM) and key (PKCS#8), if the file was sealed for this cluster.
pub(super) fn open_ca(path: &Path, openers: &Openers, cluster: &str) -> Result<(String, LockedBytes), VaultError> {
    ca_in(path, &open(path, openers)?, cluster)
}

/// The same of what such a file says.
pub(super) fn ca_in(path: &Path, plaintext: &LockedBytes, cluster: &str) -> Result<(String, LockedBytes), VaultError> {
    let sealed: SealedCa<'_> = parse(path, plaintext)?;
    if sealed.version != VERSION {
        return Err(VaultError::Damaged(path.to_owned()));
    }
    if sealed.ca != cluster {
        return Err(VaultError::Mislabelled { path: path.to_owned(), found: sealed.ca.to_owned() });
    }
    let key = decode(path, sealed.key)?;
    Ok((sealed.certificate, key))
}

/// A secret's bytes, if the file was sealed for this name.
pub(super) fn open_secret(path: &Path, openers: &Openers, name: &str) -> Result<LockedBytes, VaultError> {
    secret_in(path, &open(path, openers)?, name)
}

/// The same of what such a file says.
pub(super) fn secret_in(path: &Path, plaintext: &LockedBytes, name: &str) -> Result<LockedBytes, VaultError> {
    let sealed: SealedSecret<'_> = parse(path, plaintext)?;
    if sealed.version != VERSION {
        return Err(VaultError::Damaged(path.to_owned()));
    }
    if sealed.secret != name {
        return Err(VaultError::Mislabelled { path: path.to_owned(), found: sealed.secret.to_owned() });
    }
    decode(path, sealed.value)
}

fn seal<T: Serialize>(recipients: &Recipients, value: &T) -> Result<Vec<u8>, VaultError> {
    recipients.seal(|mut writer| {
        serde_json::to_writer(&mut writer, value)?;
        writer.flush()
    })
}

/// What a file of the vault says, once it is opened.
pub(super) fn open(path: &Path, openers: &Openers) -> Result<LockedBytes, VaultError> {
    let sealed = file::read(path)?.ok_or_else(|| VaultError::Missing(path.to_owned()))?;
    open_bytes(path, &sealed, openers)
}

/// The same for what was read already.
pub(super) fn open_bytes(path: &Path, sealed: &[u8], openers: &Openers) -> Result<LockedBytes, VaultError> {
    let damaged = || VaultError::Damaged(path.to_owned());
    let mut reader = open_reader(path, sealed, openers)?;
    // The plaintext is shorter than the file, so it is read straight into locked memory.
    let mut plaintext = LockedBytes::zeroed(sealed.len());
    let mut filled = 0;
    while let Some(free) = plaintext.as_mut_slice().get_mut(filled..).filter(|free| !free.is_empty()) {
        match reader.read(free).map_err(|_| damaged())? {
            0 => break,
            more => filled += more,
        }
    }
    plaintext.truncate(filled);
    Ok(plaintext)
}

/// What is behind a seal, as it is read. An end that was cut off is an error of the reader.
pub(super) fn open_reader<R: BufRead>(
    path: &Path,
    sealed: R,
    openers: &Openers,
) -> Result<impl Read + use<R>, VaultError> {
    let damaged = || VaultError::Damaged(path.to_owned());
    let decryptor = Decryptor::new_buffered(sealed).map_err(|_| damaged())?;
    decryptor.decrypt(openers.as_age()).map_err(|error| match error {
        DecryptError::NoMatchingKeys => VaultError::NoMatch(path.to_owned()),
        DecryptError::Io(error) => match error.get_ref().and_then(|cause| cause.downcast_ref::<PluginError>()) {
            Some(plugin) => plugin.clone().into(),
            None => damaged(),
        },
        _ => damaged(),
    })
}

/// The error's text is dropped: a parser may quote what it read.
pub(super) fn parse<'a, T: Deserialize<'a>>(path: &Path, plaintext: &'a LockedBytes) -> Result<T, VaultError> {
    serde_json::from_slice(plaintext.as_slice()).map_err(|_| VaultError::Damaged(path.to_owned()))
}

pub(super) fn decode(path: &Path, base64: &str) -> Result<LockedBytes, VaultError> {
    let damaged = || VaultError::Damaged(path.to_owned());
    let len = BASE64.decode_len(base64.len()).map_err(|_| damaged())?;
    let mut bytes = LockedBytes::zeroed(len);
    let len = BASE64.decode_mut(base64.as_bytes(), bytes.as_mut_slice()).map_err(|_| damaged())?;
    bytes.truncate(len);
    Ok(bytes)
}
