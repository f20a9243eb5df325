//! SQLite: the embedded default, one file beside its write-ahead log.
//!
//! Through rusqlite rather than an async driver: one thread owns the only connection that writes, so a batch of a hundred
//! savepoints is a hundred function calls, not a hundred trips between tasks, and no other writer is ever waited for. Reads
//! have their own connections on the runtime's blocking threads; write-ahead logging lets them go on beside the writer.

mod append;
mod break_glass;
mod calls;
mod certificates;
mod devices;
mod drops;
mod forwards;
mod kept;
mod locks;
mod log;
mod logins;
mod names;
mod providers;
mod readers;
mod recent;
mod schema;
mod sessions;
mod tree;
mod whole;
mod writer;

#[cfg(test)]
mod faults;
#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ichor_wire::log::tree::{Edge, FullTile};
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::{BreakGlassId, GrantId, LockId, ProviderAlias, SessionId};

use super::rows::{Indexed, stray_place};
use super::value::{Damaged, micros};
use super::{
    Append, Appended, BreakGlassFile, BreakGlassFilter, BreakGlassRow, CallFilter, CallPlace, CallSum, CallsTaken,
    Committed, DeviceLogin, DropRequest, EntryFilter, ForwardRow, Grown, KnownPerson, LockRow, LogHead, NodeHeld,
    NodeSeen, PendingLogin, SessionRow, Store, StoreError, StoredCall, StoredCheckpoint, StoredEntry,
};
use readers::Readers;
use recent::Recent;
#[cfg(test)]
pub(in crate::store) use schema::STEPS;
pub(in crate::store) use whole::{make_for_copy, open_for_copy};
use writer::Writer;

/// How long readiness' write may take beyond [`Options::busy_timeout`].
const PROBE: Duration = Duration::from_secs(2);

/// How the database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many reads may run at once, each on its own connection.
    pub readers: usize,
    /// How long a write waits for another process that holds the database, a backup for one.
    pub busy_timeout: Duration,
    /// What a test does to every connection that is opened for writing.
    #[cfg(test)]
    sabotage: std::sync::Arc<std::sync::Mutex<String>>,
}

/// A store in one SQLite file. Dropping it waits for the write at hand and releases the writer lock.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    recent: Arc<Recent>,
    deadline: Duration,
}

/// What went wrong inside, before it becomes a [`StoreError`].
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(String),
    #[error("{0}")]
    Damaged(String),
}

impl From<Damaged> for Failure {
    fn from(Damaged(what): Damaged) -> Self {
        Self::Damaged(what)
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            readers: 4,
            busy_timeout: Duration::from_secs(2),
            #[cfg(test)]
            sabotage: std::sync::Arc::default(),
        }
    }
}

// === impl SqliteStore ===

impl SqliteStore {
    /// Opens the database at `path`, making it (mode 0600) and its schema where they are missing, and takes the writer
    /// lock, a file `<path>.lock` beside it that is held until the store is dropped. Blocks: call it at start.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds the lock; otherwise when the database cannot be opened, is no
    /// database, or was written by a newer build.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let recent = Arc::new(Recent::default());
        let writer = Writer::start(path, &options, Arc::clone(&recent))?;
        let readers = Readers::new(path, options.readers, options.busy_timeout);
        Ok(Self { writer, readers, recent, deadline: options.busy_timeout + PROBE })
    }

    /// Opens the database at `path` only to read, beside a broker that may be running. Every write is refused.
    ///
    /// # Errors
    /// When it does not exist, cannot be opened, or has another schema than this build's.
    pub fn open_to_read(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let path = path.as_ref();
        schema::check(&schema::open(path, schema::Use::Read, options.busy_timeout)?)?;
        let readers = Readers::new(path, options.readers, options.busy_timeout);
        Ok(Self { writer: Writer::none(), readers, recent: Arc::default(), deadline: options.busy_timeout + PROBE })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn append(&self, batch: Vec<Append>, checkpoint: Option<StoredCheckpoint>) -> Result<Committed, StoreError> {
        self.writer.append(batch, checkpoint).await
    }

    async fn head(&self) -> Result<LogHead, StoreError> {
        self.readers.read(log::head).await
    }

    async fn entries(
        &self,
        filter: &EntryFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        let filter = filter.clone();
        self.readers.read(move |db| log::entries(db, &filter, before, limit)).await
    }

    async fn entries_from(&self, filter: &EntryFilter, from: u64, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        let filter = filter.clone();
        self.readers.read(move |db| log::entries_from(db, &filter, from, limit)).await
    }

    async fn issued_as(&self, name: &[u8]) -> Result<Vec<StoredEntry>, StoreError> {
        let name = name.to_owned();
        self.readers.read(move |db| certificates::issued_as(db, &name)).await
    }

    async fn entry_range(&self, range: Range<u64>) -> Result<Vec<StoredEntry>, StoreError> {
        self.readers.read(move |db| log::range(db, &range)).await
    }

    async fn indexed_range(&self, range: Range<u64>) -> Result<Vec<Indexed>, StoreError> {
        self.readers.read(move |db| log::indexed_range(db, &range)).await
    }

    async fn tile(&self, level: u8, index: u64) -> Result<Option<FullTile>, StoreError> {
        self.readers.read(move |db| tree::tile(db, level, index)).await
    }

    async fn edge(&self, size: u64) -> Result<Edge, StoreError> {
        self.readers.read(move |db| tree::edge(db, size)).await
    }

    async fn stray(&self) -> Result<Option<String>, StoreError> {
        self.readers
            .read(|db| match tree::stray(db)? {
                None => certificates::stray(db),
                Some(row) => Ok(Some(stray_place(&row))),
            })
            .await
    }

    async fn unsound(&self) -> Result<Option<String>, StoreError> {
        self.readers.read(schema::unsound).await
    }

    async fn between(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        self.readers.read(tree::checkpoint).await
    }

    async fn session_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError> {
        let began = match self.recent.by_token(token_hash) {
            Ok(session) => return Ok(Some(session)),
            Err(began) => began,
        };
        let token_hash = *token_hash;
        let found = self.readers.read(move |db| sessions::by_token(db, &token_hash)).await?;
        // who only reads beside a broker does not see that broker's writes
        if let (Some(session), true) = (&found, self.writer.is_ours()) {
            self.recent.remember(began, session);
        }
        Ok(found)
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        self.readers.read(move |db| sessions::by_id(db, id)).await
    }

    async fn lease_refresh(&self, id: SessionId, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.writer.write(move |db| sessions::lease(db, id, micros(now), micros(until))).await
    }

    async fn release_refresh(&self, id: SessionId, until: Timestamp) -> Result<(), StoreError> {
        self.writer.write(move |db| sessions::release(db, id, micros(until))).await
    }

    async fn touch_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        let now = micros(now);
        // Looked at first on a reading connection: nearly always there is nothing to write, and then nobody waits.
        if self.readers.read(move |db| sessions::touch_due(db, id, now)).await? {
            self.writer.write_sessions(Some(id), move |db| sessions::touch(db, id, now)).await?;
        }
        Ok(())
    }

    async fn begin_login(&self, login: PendingLogin, max_pending: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.writer.write(move |db| logins::begin(db, &login, max_pending, micros(now))).await
    }

    async fn login_by_cookie(
        &self,
        cookie_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<PendingLogin>, StoreError> {
        let cookie_hash = *cookie_hash;
        self.readers.read(move |db| logins::by_cookie(db, &cookie_hash, micros(now))).await
    }

    async fn login_by_code(&self, code_hash: &[u8; 32], now: Timestamp) -> Result<Option<PendingLogin>, StoreError> {
        let code_hash = *code_hash;
        self.readers.read(move |db| logins::by_code(db, &code_hash, micros(now))).await
    }

    async fn advance_login(&self, login: PendingLogin) -> Result<bool, StoreError> {
        self.writer.write(move |db| logins::advance(db, &login)).await
    }

    async fn drop_login(&self, id: Uuid) -> Result<(), StoreError> {
        self.writer.write(move |db| logins::forget(db, id)).await
    }

    async fn begin_device(&self, device: DeviceLogin, max_pending: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.writer.write(move |db| devices::begin(db, &device, max_pending, micros(now))).await
    }

    async fn device_by_code(&self, device_hash: &[u8; 32], now: Timestamp) -> Result<Option<DeviceLogin>, StoreError> {
        let device_hash = *device_hash;
        self.readers.read(move |db| devices::by_code(db, &device_hash, micros(now))).await
    }

    async fn device_by_user_code(&self, user_code: &str, now: Timestamp) -> Result<Option<DeviceLogin>, StoreError> {
        let user_code = user_code.to_owned();
        self.readers.read(move |db| devices::by_user_code(db, &user_code, micros(now))).await
    }

    async fn advance_device(&self, device: DeviceLogin) -> Result<bool, StoreError> {
        self.writer.write(move |db| devices::advance(db, &device)).await
    }

    async fn pin_provider(&self, alias: &ProviderAlias, issuer: &str) -> Result<String, StoreError> {
        let (alias, issuer) = (alias.clone(), issuer.to_owned());
        self.writer.write(move |db| providers::pin(db, &alias, &issuer)).await
    }

    async fn pinned_issuer(&self, alias: &ProviderAlias) -> Result<Option<String>, StoreError> {
        let alias = alias.clone();
        self.readers.read(move |db| providers::pinned(db, &alias)).await
    }

    /// One broker alone is behind this database: what it has seen, it remembers itself.
    async fn use_once(&self, _id: &[u8; 16], _until: Timestamp) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// As [`Self::use_once`].
    async fn take_allowance(&self, _key: &[u8; 32], _per_minute: u32, _now: Timestamp) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn forward_cursor(&self, name: &str) -> Result<Option<ForwardRow>, StoreError> {
        let name = name.to_owned();
        self.readers.read(move |db| forwards::cursor(db, &name)).await
    }

    async fn move_forward(&self, name: &str, was: Option<&ForwardRow>, to: &ForwardRow) -> Result<bool, StoreError> {
        let (name, was, to) = (name.to_owned(), was.cloned(), to.clone());
        self.writer.write(move |db| forwards::replace(db, &name, was.as_ref(), &to)).await
    }

    /// One process writes this database.
    async fn hold_forward(
        &self,
        _name: &str,
        _holder: &[u8; 16],
        _now: Timestamp,
        _until: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn drop_request(&self, id: Uuid) -> Result<Option<DropRequest>, StoreError> {
        self.readers.read(move |db| drops::by_id(db, id)).await
    }

    async fn calls(
        &self,
        filter: &CallFilter,
        before: Option<CallPlace>,
        limit: u32,
    ) -> Result<Vec<StoredCall>, StoreError> {
        let filter = filter.clone();
        self.readers.read(move |db| calls::find(db, &filter, before, limit)).await
    }

    async fn call_sums(&self, grant: GrantId, entry: Option<u64>, limit: u32) -> Result<Vec<CallSum>, StoreError> {
        self.readers.read(move |db| calls::sums(db, grant, entry, limit)).await
    }

    async fn call_range(&self, from: u64, limit: u32) -> Result<Vec<StoredCall>, StoreError> {
        self.readers.read(move |db| calls::range(db, from, limit)).await
    }

    async fn calls_held(&self) -> Result<Vec<NodeHeld>, StoreError> {
        self.readers.read(kept::held).await
    }

    async fn calls_taken(&self) -> Result<Vec<CallsTaken>, StoreError> {
        self.readers.read(kept::taken).await
    }

    async fn see_nodes(&self, seen: &[NodeSeen]) -> Result<(), StoreError> {
        let seen = seen.to_vec();
        self.writer.write(move |db| calls::see(db, &seen)).await
    }

    async fn nodes_seen(&self) -> Result<Vec<NodeSeen>, StoreError> {
        self.readers.read(calls::seen).await
    }

    async fn break_glass(&self, id: BreakGlassId) -> Result<Option<BreakGlassFile>, StoreError> {
        self.readers.read(move |db| break_glass::file(db, id)).await
    }

    async fn break_glass_list(
        &self,
        filter: &BreakGlassFilter,
        before: Option<BreakGlassId>,
        limit: u32,
    ) -> Result<Vec<BreakGlassRow>, StoreError> {
        let filter = filter.clone();
        self.readers.read(move |db| break_glass::list(db, &filter, before, limit)).await
    }

    async fn break_glass_due(&self, now: Timestamp, limit: u32) -> Result<Vec<BreakGlassRow>, StoreError> {
        self.readers.read(move |db| break_glass::due(db, micros(now), limit)).await
    }

    async fn break_glass_open_uses(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(BreakGlassId, GrantId)>, StoreError> {
        let before = micros(before);
        self.readers.read(move |db| break_glass::open_uses(db, before, limit)).await
    }

    async fn break_glass_overdue(
        &self,
        used: Timestamp,
        reminded: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<BreakGlassRow>, StoreError> {
        let (used, reminded) = (micros(used), reminded.map(micros));
        self.readers.read(move |db| break_glass::overdue(db, used, reminded, limit)).await
    }

    async fn lock(&self, id: LockId) -> Result<Option<LockRow>, StoreError> {
        self.readers.read(move |db| locks::by_id(db, id)).await
    }

    async fn locks(&self, with_ended: bool, limit: u32) -> Result<Vec<LockRow>, StoreError> {
        self.readers.read(move |db| locks::list(db, with_ended, limit)).await
    }

    async fn people_named(&self, name: &str, limit: u32) -> Result<Vec<KnownPerson>, StoreError> {
        let name = name.to_owned();
        self.readers.read(move |db| locks::people(db, &name, limit)).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        let now = micros(now);
        self.writer
            .write_sessions(None, move |db| {
                logins::sweep(db, now)?;
                devices::sweep(db, now)?;
                drops::sweep(db, now)?;
                locks::sweep(db, now)?;
                sessions::sweep(db, now)
            })
            .await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        match tokio::time::timeout(self.deadline, self.writer.probe()).await {
            Ok(written) => written,
            Err(_) => Err(StoreError::Unavailable("a write takes longer than its deadline".into())),
        }
    }
}

// === impl Failure ===

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match failure {
            Failure::Damaged(why) => Self::Damaged(why),
            Failure::Io(why) => Self::Unavailable(why),
            Failure::Sqlite(error) => match error.sqlite_error_code() {
                Some(DatabaseCorrupt | NotADatabase) => Self::Damaged(error.to_string()),
                _ => Self::Unavailable(error.to_string()),
            },
        }
    }
}
