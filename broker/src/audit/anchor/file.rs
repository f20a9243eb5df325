//! The newest checkpoint in a file on another disk.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ichor_wire::log::note::MAX_NOTE;

use super::AnchorError;

/// The longest that a write may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// A file that holds the whole signed note.
#[derive(Clone, Debug)]
pub struct FileAnchor {
    path: PathBuf,
}

// === impl FileAnchor ===

impl FileAnchor {
    /// The file at this path. Its folder must be there: where a disk is not mounted nothing is written.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn said(&self) -> String {
        format!("the anchor file `{}`", self.path.display())
    }

    pub(super) async fn held(&self) -> Result<Option<String>, AnchorError> {
        let path = self.path.clone();
        self.bounded(move || read(&path)).await
    }

    pub(super) async fn hold(&self, note: &str) -> Result<(), AnchorError> {
        let (path, note) = (self.path.clone(), note.to_owned());
        self.bounded(move || write(&path, note.as_bytes())).await
    }

    /// A disk that hangs keeps one thread, not the broker.
    async fn bounded<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, AnchorError> {
        let failed = |why: String| AnchorError::failing(&self.said(), why);
        match tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(work)).await {
            Ok(Ok(done)) => done.map_err(|error| failed(error.to_string())),
            Ok(Err(_)) => Err(failed("the broker is stopping".into())),
            Err(_) => Err(failed("its disk does not answer".into())),
        }
    }
}

fn read(path: &Path) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_NOTE as u64 + 1).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Beside, synced, renamed, the folder synced: whenever the machine stops, the file is whole.
fn write(path: &Path, note: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = tempfile::Builder::new().prefix(".checkpoint-").tempfile_in(folder)?;
    beside.write_all(note)?;
    // nothing in it is secret, and whoever monitors the log may read it
    beside.as_file().set_permissions(Permissions::from_mode(0o644))?;
    beside.as_file().sync_all()?;
    beside.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_holds_the_newest_note_whole_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let anchor = FileAnchor::new(folder.path().join("checkpoint"));
        assert_eq!(anchor.held().await, Ok(None));
        anchor.hold("first\n").await.unwrap();
        anchor.hold("second\n").await.unwrap();
        assert_eq!(anchor.held().await, Ok(Some("second\n".into())));
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["checkpoint"], "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_disk_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let anchor = FileAnchor::new(folder.path().join("not-mounted/checkpoint"));
        let failed = anchor.hold("note").await.unwrap_err().to_string();
        assert!(failed.starts_with("the anchor file `") && failed.contains("not-mounted"), "{failed}");
        assert!(!folder.path().join("not-mounted").exists(), "no folder is made in its place");
    }
}
