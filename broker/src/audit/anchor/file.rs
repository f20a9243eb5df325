//! The newest checkpoint in a file on another disk.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ichor_wire::log::Checkpoint;
use ichor_wire::log::note::MAX_NOTE;

use tokio::sync::Mutex;

use super::AnchorError;
use crate::audit::notary::Signed;
use crate::durable::{self, Existing};
use crate::regular::{self, Links, ReadError, folder_of};

/// The longest that a write may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// So often, and with such pauses, another broker's lock is waited for: 200 ms in all.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// A file that holds the whole signed note.
#[derive(Clone, Debug)]
pub struct FileAnchor {
    path: PathBuf,
    /// Held by the one try that is under way, also when nobody waits for it any more: a disk that hangs keeps one thread.
    alone: Arc<Mutex<()>>,
    /// The try under way outlasted its deadline.
    hangs: Arc<AtomicBool>,
}

// === impl FileAnchor ===

impl FileAnchor {
    /// The file at this path. Its folder must be there: where a disk is not mounted nothing is written.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, alone: Arc::default(), hangs: Arc::default() }
    }

    pub(super) fn said(&self) -> String {
        format!("the anchor file `{}`", self.path.display())
    }

    pub(super) async fn held(&self) -> Result<Option<String>, AnchorError> {
        let path = self.path.clone();
        self.bounded(move || read(&path)).await
    }

    /// Writes the note, unless the file has one of the same log with more entries: that stays, and is answered.
    pub(super) async fn hold(&self, signed: &Signed) -> Result<Option<String>, AnchorError> {
        let (path, signed) = (self.path.clone(), signed.clone());
        self.bounded(move || {
            // of brokers that share the file, one at a time
            let _locked = lock(&path);
            let is_later = |held: &Checkpoint| {
                held.origin() == signed.checkpoint.origin() && held.size() > signed.checkpoint.size()
            };
            let held = read(&path)?;
            if held.as_deref().and_then(|held| Checkpoint::parse_unverified(held).ok()).is_some_and(|it| is_later(&it))
            {
                return Ok(held);
            }
            // nothing in it is secret, and whoever monitors the log may read it
            durable::write(&path, signed.note.as_bytes(), Existing::Replaced, 0o644).map(|()| None)
        })
        .await
    }

    /// What `work` gives, on a thread of its own. Until a try that outlasted its deadline ends, no other begins: each is answered at once.
    async fn bounded<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, AnchorError> {
        let failed = |why: String| AnchorError::failing(&self.said(), why);
        let silent = || failed("its disk does not answer".into());
        if self.hangs.load(Ordering::Acquire) {
            return Err(silent());
        }
        let (alone, hangs) = (Arc::clone(&self.alone), Arc::clone(&self.hangs));
        let done = tokio::time::timeout(DEADLINE, async move {
            let alone = alone.lock_owned().await;
            tokio::task::spawn_blocking(move || {
                let done = work();
                drop(alone);
                hangs.store(false, Ordering::Release);
                done
            })
            .await
        });
        match done.await {
            Ok(Ok(done)) => done.map_err(|error| failed(error.to_string())),
            Ok(Err(_)) => Err(failed("the broker is stopping".into())),
            Err(_) => {
                self.hangs.store(true, Ordering::Release);
                // it may have ended just now, and nobody would say so again
                if self.alone.try_lock().is_ok() {
                    self.hangs.store(false, Ordering::Release);
                }
                Err(silent())
            }
        }
    }
}

/// The lock of the file's folder, where the file system has such and nobody keeps it: whoever may read the folder can, and must not hold
/// up the log. Without it the file may go back for a moment.
fn lock(path: &Path) -> Option<File> {
    let folder = File::open(folder_of(path)).ok()?;
    for _ in 0..LOCK_TRIES {
        match folder.try_lock() {
            Ok(()) => return Some(folder),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(_)) => return None,
        }
    }
    None
}

fn read(path: &Path) -> std::io::Result<Option<String>> {
    match regular::read_text(path, MAX_NOTE as u64, Links::Followed) {
        Ok(text) => Ok(Some(text)),
        Err(ReadError::Missing) => Ok(None),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;

    use super::*;
    use crate::audit::{Grace, Notary};
    use crate::custody::AuditKey;
    use crate::store::Grown;

    /// A checkpoint of so many entries of this log.
    async fn signed(log: &str, size: u8) -> Signed {
        let grace = Grace { key: SignedDuration::ZERO, anchor: SignedDuration::ZERO };
        let notary = Notary::new(AuditKey::from_seed(&[7; 32]).unwrap(), log, Vec::new(), grace).unwrap();
        let mut tree = Grown::default();
        for leaf in 0..size {
            tree.edge.push([leaf; 32]);
        }
        notary.sign(Arc::new(tree)).await.unwrap()
    }

    #[tokio::test]
    async fn the_file_holds_the_newest_note_whole_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let anchor = FileAnchor::new(folder.path().join("checkpoint"));
        assert_eq!(anchor.held().await, Ok(None));
        for size in [1, 2, 2] {
            let signed = signed("log.example", size).await;
            assert_eq!(anchor.hold(&signed).await, Ok(None));
            assert_eq!(anchor.held().await, Ok(Some(signed.note.to_string())));
        }
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["checkpoint"], "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_file_that_brokers_share_does_not_go_back() {
        let folder = tempfile::tempdir().unwrap();
        let anchor = FileAnchor::new(folder.path().join("checkpoint"));
        let later = signed("log.example", 9).await;
        anchor.hold(&later).await.unwrap();
        assert_eq!(anchor.hold(&signed("log.example", 8).await).await, Ok(Some(later.note.to_string())));
        assert_eq!(anchor.held().await, Ok(Some(later.note.to_string())));
        // a log that was opened again is another one
        let again = signed("log.example/2", 3).await;
        assert_eq!(anchor.hold(&again).await, Ok(None));
        assert_eq!(anchor.held().await, Ok(Some(again.note.to_string())));
    }

    #[tokio::test]
    async fn a_disk_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let anchor = FileAnchor::new(folder.path().join("not-mounted/checkpoint"));
        let failed = anchor.hold(&signed("log.example", 1).await).await.unwrap_err().to_string();
        assert!(failed.starts_with("the anchor file `") && failed.contains("not-mounted"), "{failed}");
        assert!(!folder.path().join("not-mounted").exists(), "no folder is made in its place");
    }

    #[tokio::test]
    async fn a_pipe_of_its_name_is_refused_and_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let anchor = FileAnchor::new(path);
        for failed in [anchor.held().await.map(drop), anchor.hold(&signed("log.example", 1).await).await.map(drop)] {
            let failed = failed.unwrap_err().to_string();
            assert!(failed.contains("pipe"), "{failed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_keeps_one_thread_however_often_it_is_tried() {
        let anchor = FileAnchor::new("/not/looked/at".into());
        let (answers, disk) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let hung = anchor.clone();
        let hung = tokio::spawn(async move {
            let work = move || {
                let _ = begun.send(());
                let _ = disk.recv();
                Ok(())
            };
            hung.bounded(work).await
        });
        has_begun.await.unwrap();
        tokio::time::advance(DEADLINE * 2).await;
        assert!(hung.await.unwrap().unwrap_err().to_string().ends_with("its disk does not answer"));
        let tried = Arc::new(AtomicBool::new(false));
        for _ in 0..3 {
            let tried = Arc::clone(&tried);
            let work = move || {
                tried.store(true, Ordering::Relaxed);
                Ok(())
            };
            let again = anchor.bounded(work).await;
            assert!(again.unwrap_err().to_string().ends_with("its disk does not answer"));
        }
        assert!(!tried.load(Ordering::Relaxed), "no other thread goes the same way");
        drop(answers);
        while anchor.bounded(|| Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
