//! Work on a disk that may not answer: with a deadline, and one thread however often it is tried.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;

/// A place on a disk, or whatever is mounted there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// Held by the one try that is under way, also when nobody waits for it any more: a disk that hangs keeps one thread.
    alone: Arc<Mutex<()>>,
    /// The try under way outlasted its deadline.
    hangs: Arc<AtomicBool>,
}

/// Whoever waits for work that is under way.
#[derive(Debug)]
pub(crate) struct Waiter(Weak<()>);

/// Why work on a disk led to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// It outlasted its deadline, or another try did and is still under way.
    #[error("its disk does not answer")]
    Silent,
    /// The broker ends.
    #[error("the broker is stopping")]
    Stopping,
    /// The file system said no.
    #[error(transparent)]
    Failed(#[from] std::io::Error),
}

// === impl Disk ===

impl Disk {
    /// What `work` gives, on a thread of its own. Until a try that outlasted its deadline ends, no other begins: each is answered at
    /// once. Work that writes asks its [`Waiter`] before each write, or may do so long after it was given up.
    pub(crate) async fn bounded<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce(&Waiter) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, DiskError> {
        if self.hangs.load(Ordering::Acquire) {
            return Err(DiskError::Silent);
        }
        // as long as this is waited for, and no longer
        let waits = Arc::new(());
        let waiter = Waiter(Arc::downgrade(&waits));
        let (alone, hangs) = (Arc::clone(&self.alone), Arc::clone(&self.hangs));
        let done = tokio::time::timeout(deadline, async move {
            let alone = alone.lock_owned().await;
            tokio::task::spawn_blocking(move || {
                let done = work(&waiter);
                drop(alone);
                hangs.store(false, Ordering::Release);
                done
            })
            .await
        });
        let done = done.await;
        drop(waits);
        match done {
            Ok(Ok(done)) => Ok(done?),
            Ok(Err(_)) => Err(DiskError::Stopping),
            Err(_) => {
                self.hangs.store(true, Ordering::Release);
                // it may have ended just now, and nobody would say so again
                if self.alone.try_lock().is_ok() {
                    self.hangs.store(false, Ordering::Release);
                }
                Err(DiskError::Silent)
            }
        }
    }
}

// === impl Waiter ===

impl Waiter {
    /// Returns if somebody still waits.
    ///
    /// # Errors
    /// When the work was given up: its deadline is over, or whoever wanted it has ended.
    pub(crate) fn still(&self) -> std::io::Result<()> {
        match self.0.upgrade() {
            Some(_) => Ok(()),
            None => Err(std::io::Error::new(ErrorKind::TimedOut, "nobody waits for it any more")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn work_that_was_given_up_knows_it_and_no_other_begins_before_it_ends() {
        let disk = Disk::default();
        let (answers, hung) = mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let (told, tells) = oneshot::channel();
        let hangs = disk.clone();
        let given_up = tokio::spawn(async move {
            let work = move |waiter: &Waiter| {
                let before = waiter.still().is_ok();
                let _ = begun.send(());
                let _ = hung.recv();
                let _ = told.send((before, waiter.still().is_ok()));
                Ok(())
            };
            hangs.bounded(DEADLINE, work).await
        });
        has_begun.await.unwrap();
        tokio::time::advance(DEADLINE * 2).await;
        assert!(matches!(given_up.await.unwrap(), Err(DiskError::Silent)));
        let again = disk.bounded(DEADLINE, |_| -> std::io::Result<()> { unreachable!("it would go the same way") });
        assert!(matches!(again.await, Err(DiskError::Silent)));
        drop(answers);
        assert_eq!(tells.await, Ok((true, false)));
        while disk.bounded(DEADLINE, |_| Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_the_file_system_says_is_told() {
        let failed = Disk::default().bounded(DEADLINE, |_| std::fs::read("/no/such/file")).await.unwrap_err();
        assert!(matches!(&failed, DiskError::Failed(error) if error.kind() == ErrorKind::NotFound), "{failed}");
    }
}
