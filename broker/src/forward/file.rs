//! A file that lines are appended to. All of it blocks.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::disk::Waiter;
use crate::durable;
use crate::regular::folder_of;

/// An open file.
pub(super) struct File {
    file: std::fs::File,
    /// Device and inode, by which it is known whether a path still leads there.
    pub(super) at: (u64, u64),
}

// === impl File ===

impl File {
    /// Opens it, and makes it where there is none; its name is durable then.
    ///
    /// # Errors
    /// When it cannot be, or nobody waits for it any more.
    pub(super) fn open(path: &Path, waiter: &Waiter) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(path)?;
        let there = file.metadata()?;
        if there.len() > 0 {
            // a broker that was killed may have left half a line: what follows must not become part of it
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                waiter.still()?;
                file.write_all(b"\n")?;
            }
        }
        sync_folder(path)?;
        Ok(Self { file, at: (there.dev(), there.ino()) })
    }

    /// Returns once the lines are in the file and synced.
    ///
    /// # Errors
    /// When the file system says no, or nobody waits for it any more: then nothing is written that was not begun.
    pub(super) fn append(&mut self, lines: &[u8], waiter: &Waiter) -> std::io::Result<()> {
        waiter.still()?;
        self.file.write_all(lines)?;
        self.file.sync_data()
    }
}

/// Also of a file that was there: a broker that was killed may have made it, and its name went no further than memory.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    match durable::sync_folder(folder_of(path)) {
        // one that may be written to and not read, as some folders for logs; and file systems that know no such thing
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => Ok(()),
        done => done,
    }
}
