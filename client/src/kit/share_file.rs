//! A share from a file: plain text, or sealed to an age recipient of its holder.

use std::io::Read;
use std::path::Path;

use age::{Decryptor, ssh, x25519};
use ichor_wire::kit::Share;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::private_file;

/// What an age file begins with.
const AGE: &[u8] = b"age-encryption.org/";

/// The largest file with a share, and the largest with an identity, in bytes.
const MAX: usize = 64 * 1024;

/// The keys of holders. No program is run for any of them, whatever a file names.
#[derive(Default)]
pub struct Identities(Vec<Box<dyn age::Identity>>);

// === impl Identities ===

impl Identities {
    /// The keys of these files: age identities, a line each, or an OpenSSH private key without passphrase.
    ///
    /// # Errors
    /// When one cannot be read, or is a plugin's: then age itself opens the share.
    pub fn read(files: &[impl AsRef<Path>]) -> Result<Self, Error> {
        let mut found = Self::default();
        for path in files {
            let path = path.as_ref();
            let missing = || Error::failed(format!("there is no key at `{}`", path.display()), "check the path");
            let text = private_file::read(path, MAX)?.ok_or_else(missing)?;
            found.add(&text, path)?;
        }
        Ok(found)
    }

    fn add(&mut self, text: &str, path: &Path) -> Result<(), Error> {
        let shown = path.display();
        let by_age =
            || format!("open the share with age itself: `age -d -i {shown} SHARE | ichor kit open … --share -`");
        if text.trim_start().starts_with("-----BEGIN ") {
            let key = ssh::Identity::from_buffer(text.trim().as_bytes(), None);
            return match key {
                Ok(key @ ssh::Identity::Unencrypted(_)) => {
                    self.0.push(Box::new(key));
                    Ok(())
                }
                Ok(ssh::Identity::Encrypted(_)) => {
                    Err(Error::failed(format!("the SSH key `{shown}` is sealed with a passphrase"), by_age()))
                }
                _ => Err(Error::failed(format!("`{shown}` is no SSH key that age can use"), by_age())),
            };
        }
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.to_ascii_uppercase().starts_with("AGE-PLUGIN-") {
                let message = format!("`{shown}` is a plugin's identity, and ichor runs no plugin");
                return Err(Error::failed(message, by_age()));
            }
            let identity: x25519::Identity =
                line.parse().map_err(|_| Error::failed(format!("`{shown}` holds no age identity"), by_age()))?;
            self.0.push(Box::new(identity));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities").field("keys", &self.0.len()).finish()
    }
}

/// The share in a file; `-` is standard input.
///
/// # Errors
/// When there is none, it is not a share, or none of the identities opens it.
pub fn read_share(path: &Path, identities: &Identities) -> Result<Share, Error> {
    let failed = Error::file("read", path);
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX));
    let most = u64::try_from(MAX).unwrap_or(u64::MAX);
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(failed)?;
    let opened = if bytes.starts_with(AGE) { unseal(&bytes, path, identities)? } else { bytes };
    let next = "bring another copy of the share, or type it from its sheet";
    let text = std::str::from_utf8(&opened)
        .map_err(|_| Error::failed(format!("`{}` holds no share", path.display()), next))?;
    Share::parse(text).map_err(|error| Error::failed(format!("`{}`: {error}", path.display()), next))
}

fn unseal(sealed: &[u8], path: &Path, identities: &Identities) -> Result<Zeroizing<Vec<u8>>, Error> {
    let shown = path.display();
    let damaged = || Error::failed(format!("`{shown}` is damaged"), "bring another copy of the share");
    let decryptor = Decryptor::new_buffered(sealed).map_err(|_| damaged())?;
    let reader = decryptor.decrypt(identities.0.iter().map(AsRef::as_ref));
    let mut reader = reader.map_err(|error| match error {
        age::DecryptError::NoMatchingKeys if identities.0.is_empty() => Error::failed(
            format!("`{shown}` is sealed to its holder's key, and no key was named"),
            "name the key with `--identity FILE`: an age identity or an OpenSSH private key",
        ),
        age::DecryptError::NoMatchingKeys => Error::failed(
            format!("none of the keys given opens `{shown}`"),
            "name its holder's key with `--identity`, or open it with `age -d` and give the text with `--share -`",
        ),
        _ => damaged(),
    })?;
    // room for all, so that growing leaves no copy behind
    let mut text = Zeroizing::new(Vec::with_capacity(MAX));
    reader.by_ref().take(u64::try_from(MAX).unwrap_or(u64::MAX)).read_to_end(&mut text).map_err(|_| damaged())?;
    Ok(text)
}
