//! Files that only their owner reads, whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::VaultError;
use super::sealer::RECIPIENTS;
use crate::durable::{self, Existing};
use crate::regular::{self, Links, ReadError, folder_of};

/// The largest file read, in bytes: a sealed CA has about two thousand.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// The folders that a vault has.
const FOLDERS: [&str; 2] = ["ca", "secrets"];

/// Returns once the file is durable with mode 0600, whole or not at all. Without `replace` an existing file stays.
pub(in crate::custody) fn write(path: &Path, bytes: &[u8], replace: bool) -> Result<(), VaultError> {
    let existing = if replace { Existing::Replaced } else { Existing::Kept };
    durable::write(path, bytes, existing, 0o600).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => VaultError::Exists(path.to_owned()),
        _ => failure(path, &error),
    })
}

/// Removes what writes that were ended left in the vault's folders: each may hold a whole sealed key. For whoever holds [`lock`].
pub(super) fn sweep(dir: &Path) -> Result<(), VaultError> {
    for folder in [dir.to_owned(), dir.join("ca"), dir.join("secrets")] {
        let entries = fs::read_dir(&folder).map_err(|error| failure(&folder, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| failure(&folder, &error))?.path();
            let is_beside = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(durable::BESIDE));
            if is_beside && path.symlink_metadata().is_ok_and(|found| found.is_file()) {
                remove(&path)?;
            }
        }
    }
    Ok(())
}

/// Returns once the file is gone; one that is not there is as good.
pub(super) fn remove(path: &Path) -> Result<(), VaultError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failure(path, &error)),
        _ => sync_dir(folder_of(path)),
    }
}

/// Whether there was such a file, once it has the other name in the same folder; what was there is written over.
pub(super) fn rename(from: &Path, to: &Path) -> Result<bool, VaultError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failure(from, &error)),
        Ok(()) => sync_dir(folder_of(to)).map(|()| true),
    }
}

/// Makes a folder with mode 0700, and what is missing above it; one that is there stays as it is.
pub(super) fn make_dir(path: &Path) -> Result<(), VaultError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failure(path, &error))
}

/// Keeps others from sealing into the folder while it lives: of two that replace the same file, one would undo the other's.
pub(in crate::custody) fn lock(dir: &Path) -> Result<Flock<File>, VaultError> {
    let folder = File::open(dir).map_err(|error| failure(dir, &error))?;
    Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|_| VaultError::Busy(dir.to_owned()))
}

/// The bytes of a file of the vault; `None` when there is none. No link is followed, neither the file's nor its folder's: whoever can
/// put one there would have another's file opened as ours.
pub(in crate::custody) fn read(path: &Path) -> Result<Option<Vec<u8>>, VaultError> {
    if let Some(folder) = path.parent().filter(|folder| FOLDERS.iter().any(|own| folder.ends_with(own))) {
        check_folder(folder)?;
    }
    found(path, regular::read(path, MAX_FILE, Links::Refused))
}

/// Whether a folder of the vault is no link.
fn check_folder(folder: &Path) -> Result<(), VaultError> {
    if fs::symlink_metadata(folder).is_ok_and(|found| found.is_symlink()) {
        return Err(unread(folder, ReadError::Link));
    }
    Ok(())
}

/// The same for a file outside of the vault, of at most so many bytes, which a link may lead to.
pub(super) fn read_outside(path: &Path, most: u64) -> Result<Option<Vec<u8>>, VaultError> {
    found(path, regular::read(path, most, Links::Followed))
}

/// Such a file, opened; it is a regular one.
pub(super) fn open_outside(path: &Path) -> Result<File, VaultError> {
    regular::open(path, Links::Followed).map_err(|why| unread(path, why))
}

fn found<T>(path: &Path, read: Result<T, ReadError>) -> Result<Option<T>, VaultError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(ReadError::Missing) => Ok(None),
        Err(why) => Err(unread(path, why)),
    }
}

fn unread(path: &Path, why: ReadError) -> VaultError {
    VaultError::Unread { path: path.to_owned(), why }
}

/// The names of the folder's files with that ending, without it, sorted.
pub(in crate::custody) fn names(dir: &Path, ending: &str) -> Result<Vec<String>, VaultError> {
    let failed = |error: std::io::Error| failure(dir, &error);
    check_folder(dir)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(name) =
            name.to_str().and_then(|n| n.strip_suffix(ending)?.strip_suffix('.')).filter(|n| !n.starts_with('.'))
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A sentence if others than the owner can read the folder.
pub(super) fn open_to_others(dir: &Path) -> Option<String> {
    let mode = fs::metadata(dir).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0)
        .then(|| format!("the vault's folder `{}` has mode {mode:o}; make it 700 (`chmod 700 {0}`)", dir.display()))
}

/// A sentence if others than the owner can read secret files of the vault, naming one.
pub(super) fn files_open_to_others(dir: &Path) -> Option<String> {
    let mut open = Vec::new();
    for folder in [dir.to_owned(), dir.join("ca"), dir.join("secrets")] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            // what else lies there is public, or of the operator
            let is_secret = name.ends_with(".age") || name.contains(".age.") || name.starts_with("identity.");
            let mode = entry.metadata().map_or(0, |found| found.permissions().mode() & 0o777);
            if is_secret && mode & 0o077 != 0 {
                open.push((path, mode));
            }
        }
    }
    let (path, mode) = open.first()?;
    let path = path.display();
    Some(format!("`{path}` has mode {mode:o}, as one of {} in the vault that others may read; make it 600", open.len()))
}

/// A sentence if others than the owner can change what of the vault is no secret and decides: to whom is sealed, which CA and which
/// secret is in force, and the folders of these. It names one. Who reads them is all the same.
pub(super) fn files_changed_by_others(dir: &Path) -> Option<String> {
    let mut paths = vec![dir.join(RECIPIENTS)];
    for folder in FOLDERS.map(|name| dir.join(name)) {
        let files = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|ending| ending == "toml")));
        paths.push(folder);
    }
    let mode = |path: &Path| fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o777);
    let open: Vec<_> = paths.iter().map(|path| (path, mode(path))).filter(|(_, mode)| mode & 0o022 != 0).collect();
    let (path, mode) = open.first()?;
    let path = path.display();
    Some(format!(
        "`{path}` has mode {mode:o}, as one of {} in the vault by which others may change whom or what the broker believes; \
         `chmod go-w {path}`",
        open.len()
    ))
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), VaultError> {
    durable::sync_folder(dir).map_err(|error| failure(dir, &error))
}

pub(super) fn failure(path: &Path, error: &std::io::Error) -> VaultError {
    VaultError::File { path: path.to_owned(), reason: error.to_string() }
}
