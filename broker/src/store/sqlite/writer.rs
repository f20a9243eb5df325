//! The thread that writes.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ichor_wire::log::tree::Edge;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::domain::SessionId;
use crate::store::Change;

use super::names::Names;
use super::recent::Recent;
use super::schema::{self, Use};
use super::{Append, Committed, Failure, Options, StoreError, StoredCheckpoint, append, log, tree};

/// How many writes may wait for the thread; further ones wait in their own task.
const WAITING: usize = 256;

/// So long the end of the thread is waited for. A disk that hangs keeps it, not the broker's end.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// A write on its way to the thread.
type Job = Box<dyn FnOnce(&mut Desk) + Send>;

/// The way to the thread that owns the connection. Dropping it lets the thread finish what it was given, then ends it. Without
/// a thread every write is refused.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<Ending>,
}

/// The thread, and the channel that closes once it has left everything.
#[derive(Debug)]
struct Ending {
    thread: JoinHandle<()>,
    ended: Mutex<Receiver<()>>,
}

/// What the thread works at.
#[derive(Debug)]
struct Desk {
    path: PathBuf,
    options: Options,
    /// Absent after a failure: the next write opens it anew, so the store recovers when the cause is gone.
    db: Option<Connection>,
    /// The version of this connection's schema that was compared with what the steps make; `None` where none was.
    compared: Option<i64>,
    /// Device and inode of the file that was opened. A record in a file that someone moved away would be no record.
    file: (u64, u64),
    /// How many entries the log has: nobody else appends.
    size: u64,
    /// The edge of the log's tree; `None` where none was written yet.
    edge: Option<Edge>,
    /// Its edge after a batch whose commit failed: it may stand all the same.
    doubtful: Option<Edge>,
    /// Numbers of names that are known to be in the database.
    names: Names,
    /// Told of every write that concerns sessions, here and not where the write was asked for: who asked may have gone.
    recent: Arc<Recent>,
    /// The writer lock: held as long as the thread lives.
    _lock: File,
}

// === impl Writer ===

impl Writer {
    /// Takes the lock, opens the database, brings its schema up to date, and starts the thread.
    pub(super) fn start(path: &Path, options: &Options, recent: Arc<Recent>) -> Result<Self, StoreError> {
        let mut desk = Desk::open(path, options, recent)?;
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING);
        let thread = Ending::of(move || {
            while let Some(job) = waiting.blocking_recv() {
                job(&mut desk);
            }
        })
        .map_err(|error| StoreError::Unavailable(format!("the writer thread cannot start: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// No writer: every write is refused.
    pub(super) fn none() -> Self {
        Self { jobs: None, thread: None }
    }

    /// Whether this process is the one that writes.
    pub(super) fn is_ours(&self) -> bool {
        self.jobs.is_some()
    }

    /// Runs `work` in one transaction on the thread; returns once it is committed and synced, or undone.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(move |desk| desk.transact(|transaction| work(transaction))).await
    }

    /// The same for work that alters this session, or any where none is named.
    pub(super) async fn write_sessions<T: Send + 'static>(
        &self,
        session: Option<SessionId>,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(move |desk| {
            let done = desk.transact(|transaction| work(transaction));
            match session {
                Some(session) => desk.recent.forget([session]),
                None => desk.recent.forget_all(),
            }
            done
        })
        .await
    }

    /// Commits a batch; the contract is the trait's.
    pub(super) async fn append(
        &self,
        batch: Vec<Append>,
        checkpoint: Option<StoredCheckpoint>,
    ) -> Result<Committed, StoreError> {
        self.run(move |desk| {
            let known = desk.known();
            let mut names = std::mem::take(&mut desk.names);
            let (mut found, mut made) = (None, None);
            let done = desk.transact(|transaction| {
                let edge = found.insert(known.edge(transaction)?).clone();
                let committed = append::batch(transaction, &mut names, &batch, checkpoint.as_ref(), edge)?;
                made = Some(committed.tree.edge.clone());
                Ok(committed)
            });
            if let Some(edge) = found {
                (desk.size, desk.edge, desk.doubtful) = (edge.size(), Some(edge), None);
            }
            let changes = || batch.iter().filter_map(|part| part.change.as_ref());
            match changes().any(Change::alters_many) {
                true => desk.recent.forget_all(),
                false => desk.recent.forget(changes().filter_map(Change::alters)),
            }
            // A commit whose answer was lost may stand: the next batch finds out.
            let committed = done.inspect_err(|_| {
                if made.is_some() {
                    desk.doubtful = made.take();
                }
            })?;
            // Only now are the numbers in `names` durable too; after a failure they were dropped with it.
            desk.names = names;
            (desk.size, desk.edge) = (committed.tree.edge.size(), Some(committed.tree.edge.clone()));
            Ok(committed)
        })
        .await
    }

    /// Returns once a small write succeeded, and the log has the entries that this process knows of and no others.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        self.run(|desk| {
            let known = desk.known();
            desk.transact(|db| {
                known.edge(db)?;
                Ok(db.prepare_cached("UPDATE probe SET n = n + 1")?.execute([]).map(drop)?)
            })
        })
        .await
    }

    /// Closes the connection, so that the next write opens another.
    #[cfg(test)]
    pub(super) async fn hang_up(&self) {
        self.run(|desk| {
            (desk.db, desk.compared) = (None, None);
            Ok(())
        })
        .await
        .unwrap();
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Unavailable("the writer thread has stopped; restart the broker".into());
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |desk| {
            // Who asked may have gone; the write stands all the same.
            let _ = answer.send(work(desk));
        });
        let read_only = || StoreError::Unavailable("the database was opened only to read".into());
        self.jobs.as_ref().ok_or_else(read_only)?.send(job).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.wait(ENDS_WITHIN);
        }
    }
}

// === impl Ending ===

impl Ending {
    /// A thread that does this work.
    fn of(work: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (ends, ended) = channel();
        let work = move || {
            let _ends = ends;
            work();
        };
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(work)?;
        Ok(Self { thread, ended: Mutex::new(ended) })
    }

    /// Returns once the thread has ended, whether well or not, and with it the lock; or after so long, and then it is left to itself.
    fn wait(self, patience: Duration) -> bool {
        let ended = self.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let hangs = matches!(ended.recv_timeout(patience), Err(RecvTimeoutError::Timeout));
        if hangs {
            tracing::error!(
                "the database's last write has not ended, and is no longer waited for; look after its disk"
            );
        } else {
            let _ = self.thread.join();
        }
        !hangs
    }
}

// === impl Desk ===

impl Desk {
    fn open(path: &Path, options: &Options, recent: Arc<Recent>) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        // Made here with its mode, because SQLite would use the umask. Before any connection exists: closing a second
        // descriptor of the file would drop the POSIX locks that SQLite holds on it.
        private(path).map_err(|error| unavailable(path, &error))?;
        let mut db = schema::open(path, Use::Write, options.busy_timeout)?;
        schema::migrate(&mut db)?;
        tree::fill(&mut db)?;
        let size = log::head(&db)?.size;
        let file = identity(path).map_err(|error| unavailable(path, &error))?;
        Ok(Self {
            path: path.into(),
            options: options.clone(),
            db: Some(db),
            compared: None,
            file,
            size,
            edge: None,
            doubtful: None,
            names: Names::default(),
            recent,
            _lock: lock,
        })
    }

    fn known(&self) -> append::Known {
        append::Known { seen: self.size, edge: self.edge.clone(), doubtful: self.doubtful.clone() }
    }

    /// One transaction: committed when `work` succeeds, else undone, and then the connection is opened anew next time.
    fn transact<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>) -> Result<T, StoreError> {
        let done = self.attempt(work);
        if done.is_err() {
            (self.db, self.compared) = (None, None);
        }
        Ok(done?)
    }

    fn attempt<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let there = identity(&self.path).map_err(|error| Failure::Io(format!("`{}`: {error}", self.path.display())))?;
        if there != self.file {
            return Err(Failure::Io(format!(
                "`{}` was replaced while the broker ran; put the file back or restart the broker",
                self.path.display()
            )));
        }
        let db = match &mut self.db {
            Some(db) => db,
            None => self.db.insert(reopen(&self.path, &self.options)?),
        };
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // the lock of this transaction keeps it as it is
        let version = schema::version(&transaction)?;
        if self.compared != Some(version) {
            schema::is_as_made(&transaction, schema::STEPS.len())?;
            self.compared = Some(version);
        }
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

fn reopen(path: &Path, options: &Options) -> Result<Connection, Failure> {
    let db = schema::open(path, Use::Write, options.busy_timeout)?;
    #[cfg(test)]
    db.execute_batch(&options.sabotage.lock().unwrap_or_else(std::sync::PoisonError::into_inner))?;
    Ok(db)
}

/// How often the lock is tried for, and what is waited in between: a program that is being started shares it with whoever started it, for the moment
/// until it is another.
const LOCK_TRIES: u32 = 40;
const LOCK_WAIT: Duration = Duration::from_millis(5);

/// Takes the writer lock beside the database.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let file = private(&beside).map_err(|error| unavailable(&beside, &error))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
            Err(TryLockError::Error(error)) => return Err(unavailable(&beside, &error)),
        }
    }
    Err(StoreError::Locked)
}

/// The file, made where it is missing, readable and writable by its owner alone.
pub(super) fn private(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    path.metadata().map(|file| (file.dev(), file.ino()))
}

fn unavailable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_is_left_and_one_that_ends_is_waited_for() {
        let (answers, disk) = channel::<()>();
        let hung = Ending::of(move || {
            let _ = disk.recv();
        })
        .unwrap();
        assert!(!hung.wait(Duration::from_millis(1)));
        drop(answers);
        assert!(Ending::of(|| {}).unwrap().wait(Duration::from_secs(60)));
    }
}
