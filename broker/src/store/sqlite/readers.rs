//! Connections that only read.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::schema::{self, Use};
use super::{Failure, StoreError};

/// A few reading connections, opened when first needed.
#[derive(Debug)]
pub(super) struct Readers {
    shared: Arc<Shared>,
    /// As many permits as connections.
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    busy_timeout: Duration,
    idle: Mutex<Vec<Connection>>,
}

// === impl Readers ===

impl Readers {
    /// At most `size` connections, and at least one.
    pub(super) fn new(path: &Path, size: usize, busy_timeout: Duration) -> Self {
        Self {
            shared: Arc::new(Shared { path: path.into(), busy_timeout, idle: Mutex::default() }),
            permits: Arc::new(Semaphore::new(size.max(1))),
        }
    }

    /// Runs `work` in one read transaction, so that all it reads belongs together.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Unavailable("the runtime is stopping".into());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| stopped())?;
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || {
            let value = shared.read(work);
            drop(permit);
            value
        });
        Ok(reading.await.map_err(|_| stopped())??)
    }
}

// === impl Shared ===

impl Shared {
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut db = match idle {
            Some(db) => db,
            None => schema::open(&self.path, Use::Read, self.busy_timeout)?,
        };
        // A connection that failed is not kept: the next read opens a new one.
        let transaction = db.transaction()?;
        let value = work(&transaction)?;
        transaction.commit()?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
        Ok(value)
    }
}
