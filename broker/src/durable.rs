//! Writing files whole or not at all: whenever the machine stops, the old one is there or the new one.

use std::fs::{File, Permissions};
use std::io::{Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::regular::folder_of;

/// What the name of a file begins with that is being written.
pub(crate) const BESIDE: &str = ".new-";

/// What becomes of a file that bears the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The new one takes its place.
    Replaced,
    /// It stays, and is an error ([`std::io::ErrorKind::AlreadyExists`]). The rename itself decides that.
    Kept,
}

/// Returns once the file is durable with this mode: written beside, synced, renamed, its folder synced. The folder must be there.
///
/// # Errors
/// When a file stays that is there, or the file system fails; then what was there is as it was, and nothing is left beside it.
pub fn write(path: &Path, bytes: &[u8], existing: Existing, mode: u32) -> Result<()> {
    let folder = folder_of(path);
    // made with mode 0600
    let mut beside = tempfile::Builder::new().prefix(BESIDE).tempfile_in(folder)?;
    beside.write_all(bytes)?;
    // whatever the umask
    beside.as_file().set_permissions(Permissions::from_mode(mode))?;
    beside.as_file().sync_all()?;
    let renamed = match existing {
        Existing::Replaced => beside.persist(path),
        Existing::Kept => beside.persist_noclobber(path),
    };
    renamed.map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Returns once the names in the folder are durable.
///
/// # Errors
/// When the file system fails.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_file_is_written_whole_beside_and_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        write(&path, b"one", Existing::Kept, 0o600).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode()), (b"one".to_vec(), 0o600));
        assert_eq!(write(&path, b"two", Existing::Kept, 0o644).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&path).unwrap(), mode()), (b"one".to_vec(), 0o600));
        write(&path, b"two", Existing::Replaced, 0o644).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode()), (b"two".to_vec(), 0o644));
        // a link is replaced, and what it leads to is left alone
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, b"three", Existing::Replaced, 0o600).unwrap();
        assert!(!link.is_symlink() && fs::read(&path).unwrap() == b"two");
        write(&folder.path().join("none/file"), b"x", Existing::Replaced, 0o600).unwrap_err();
        fs::create_dir(folder.path().join("taken")).unwrap();
        write(&folder.path().join("taken"), b"x", Existing::Replaced, 0o600).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside");
    }
}
