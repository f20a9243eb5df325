//! PostgreSQL 15 or newer: one database behind several brokers.
//!
//! Through tokio-postgres: its statements can be sent one after the other without waiting for each answer, so a batch of
//! hundreds of changes costs a handful of trips to the server. Nothing that a request needs is remembered in the process, since
//! another broker may have changed it.

mod address;
mod alone;
mod append;
mod break_glass;
mod calls;
mod certificates;
mod change;
mod connections;
mod devices;
mod drops;
mod forwards;
mod human;
mod kept;
mod locks;
mod log;
mod logins;
mod names;
mod nul;
mod providers;
mod schema;
mod sessions;
mod shared;
mod single;
mod tls;
mod tree;

#[cfg(test)]
mod tests;

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ichor_wire::log::tree::{Edge, FullTile};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::domain::{BreakGlassId, GrantId, LockId, ProviderAlias, SessionId};

use super::rows::{Indexed, stray_place};
use super::value::{Damaged, micros};
use super::{
    Append, Appended, BreakGlassFile, BreakGlassFilter, BreakGlassRow, CallFilter, CallPlace, CallSum, CallsTaken,
    Committed, DeviceLogin, DropRequest, EntryFilter, ForwardRow, Grown, KnownPerson, LockRow, LogHead, NodeHeld,
    NodeSeen, PendingLogin, SKEW, SessionRow, Store, StoreError, StoredCall, StoredCheckpoint, StoredEntry,
};
pub use address::{Address, AddressError};
use connections::Connections;
use names::Names;
#[cfg(test)]
pub(in crate::store) use schema::STEPS;
pub(in crate::store) use single::{connect_for_copy, told};
pub use tls::TlsFiles;

/// How the database is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many connections one broker has at most.
    pub connections: usize,
    /// The longest that one call may take, with waiting for a connection and for other brokers' batches.
    pub deadline: Duration,
    /// How far an entry's time may lie behind the newest entry's; it then takes that time. Beyond it the entry is refused, as
    /// on a broker whose clock went back.
    pub skew: SignedDuration,
}

/// A store in one Postgres database.
pub struct PostgresStore {
    connections: Connections,
    skew: SignedDuration,
    memory: Mutex<Memory>,
    /// What holds the database alone, where that was asked for.
    _alone: Option<tokio_postgres::Client>,
}

/// What was seen of the database.
#[derive(Debug, Default)]
struct Memory {
    /// How many entries the log had when last seen. A database that has fewer is not the one we wrote to.
    size: u64,
    /// The log's tree after the last batch of this broker; an empty one where there was none, or the last one failed.
    tree: Arc<Grown>,
    names: Names,
}

/// What went wrong inside, before it becomes a [`StoreError`].
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Pool(#[from] deadpool_postgres::PoolError),
    #[error("no answer within the deadline")]
    Late,
    /// The server, or a value on its way to it.
    #[error("{0}")]
    Server(String),
    #[error("{0}")]
    Schema(String),
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
        Self { connections: 8, deadline: Duration::from_secs(10), skew: SKEW }
    }
}

// === impl PostgresStore ===

impl PostgresStore {
    /// Opens the database, which must have this build's schema. Other brokers may have it open too.
    ///
    /// # Errors
    /// When it cannot be reached, is unfit to keep a record, or has another schema.
    pub async fn open(address: &Address, options: &Options) -> Result<Self, StoreError> {
        Self::over(address, options, None).await
    }

    /// The same, with nobody beside it: no broker and no command has the database open meanwhile.
    ///
    /// # Errors
    /// As [`Self::open`]; [`StoreError::Locked`] where somebody has.
    pub async fn open_alone(address: &Address, options: &Options) -> Result<Self, StoreError> {
        let alone = alone::hold(address).await?;
        Self::over(address, options, Some(alone)).await
    }

    async fn over(
        address: &Address,
        options: &Options,
        alone: Option<tokio_postgres::Client>,
    ) -> Result<Self, StoreError> {
        let connections = Connections::new(address, options.connections, options.deadline, alone.is_some())
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let store = Self { connections, skew: options.skew, memory: Mutex::default(), _alone: alone };
        store.connections.write(async { schema::check(&**store.connections.one().await?).await }).await?;
        store.memory().size = store.head().await?.size;
        Ok(store)
    }

    /// Brings the database's schema to this build's, however long that takes: steps read the whole log. Answers how many were taken.
    ///
    /// # Errors
    /// When it cannot be reached, or was written by a newer build.
    pub async fn migrate(address: &Address) -> Result<usize, StoreError> {
        Ok(schema::migrate(&mut single::connect(address).await?).await?)
    }

    /// Whether a commit also waits for a standby, so that losing the server loses no record.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn has_synchronous_standby(&self) -> Result<bool, StoreError> {
        self.connections
            .read(|| async {
                let db = self.connections.one().await?;
                let select = "SELECT current_setting('synchronous_standby_names') <> ''";
                Ok(db.query_one(select, &[]).await?.try_get(0)?)
            })
            .await
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn append(&self, batch: Vec<Append>, checkpoint: Option<StoredCheckpoint>) -> Result<Committed, StoreError> {
        let known = {
            let memory = self.memory();
            let (seen, edge, names) = (memory.size, memory.tree.edge.clone(), memory.names.clone());
            append::Known { seen, edge, names, skew: self.skew }
        };
        let done = self
            .connections
            .write(async { append::batch(&mut self.connections.one().await?, batch, checkpoint.as_ref(), known).await })
            .await;
        let mut memory = self.memory();
        // A commit whose answer was lost may stand: then the tree is read again.
        let (committed, names) = done.inspect_err(|_| memory.tree = Arc::default())?;
        let size = committed.tree.edge.size();
        if size >= memory.size {
            (memory.size, memory.names, memory.tree) = (size, names, Arc::clone(&committed.tree));
        }
        Ok(committed)
    }

    async fn head(&self) -> Result<LogHead, StoreError> {
        self.connections.read(|| async { log::head(&self.connections.one().await?).await }).await
    }

    async fn entries(
        &self,
        filter: &EntryFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        self.connections
            .read(|| async { log::entries(&self.connections.one().await?, filter, before, limit).await })
            .await
    }

    async fn entries_from(&self, filter: &EntryFilter, from: u64, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.connections
            .read(|| async { log::entries_from(&self.connections.one().await?, filter, from, limit).await })
            .await
    }

    async fn issued_as(&self, name: &[u8]) -> Result<Vec<StoredEntry>, StoreError> {
        self.connections.read(|| async { certificates::issued_as(&self.connections.one().await?, name).await }).await
    }

    async fn entry_range(&self, range: Range<u64>) -> Result<Vec<StoredEntry>, StoreError> {
        self.connections.read(|| async { log::range(&self.connections.one().await?, &range).await }).await
    }

    async fn indexed_range(&self, range: Range<u64>) -> Result<Vec<Indexed>, StoreError> {
        self.connections.read(|| async { log::indexed_range(&mut self.connections.one().await?, &range).await }).await
    }

    async fn tile(&self, level: u8, index: u64) -> Result<Option<FullTile>, StoreError> {
        self.connections.read(|| async { tree::tile(&self.connections.one().await?, level, index).await }).await
    }

    async fn edge(&self, size: u64) -> Result<Edge, StoreError> {
        self.connections
            .read(|| async {
                let db = self.connections.one().await?;
                let plain: &tokio_postgres::Client = &db;
                tree::edge(plain, size).await
            })
            .await
    }

    async fn stray(&self) -> Result<Option<String>, StoreError> {
        let found = self.connections.read(|| async { tree::stray(&self.connections.one().await?).await }).await?;
        if let Some(row) = found {
            return Ok(Some(stray_place(&row)));
        }
        // by stretches, so that each is within the deadline, however many certificates there are
        let mut from = certificates::FIRST;
        loop {
            let looked = self
                .connections
                .read(|| async { certificates::stray(&self.connections.one().await?, from).await })
                .await?;
            match looked {
                ControlFlow::Break(found) => return Ok(found),
                ControlFlow::Continue(next) => from = next,
            }
        }
    }

    async fn unsound(&self) -> Result<Option<String>, StoreError> {
        self.between().await
    }

    async fn between(&self) -> Result<Option<String>, StoreError> {
        self.connections.read(|| async { schema::between(&**self.connections.one().await?).await }).await
    }

    async fn checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        self.connections.read(|| async { tree::checkpoint(&self.connections.one().await?).await }).await
    }

    async fn session_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError> {
        self.connections.read(|| async { sessions::by_token(&self.connections.one().await?, token_hash).await }).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        self.connections.read(|| async { sessions::by_id(&self.connections.one().await?, id).await }).await
    }

    async fn lease_refresh(&self, id: SessionId, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let (now, until) = (micros(now), micros(until));
        self.connections.write(async { sessions::lease(&self.connections.one().await?, id, now, until).await }).await
    }

    async fn release_refresh(&self, id: SessionId, until: Timestamp) -> Result<(), StoreError> {
        self.connections
            .write(async { sessions::release(&self.connections.one().await?, id, micros(until)).await })
            .await
    }

    async fn touch_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        self.connections.write(async { sessions::touch(&self.connections.one().await?, id, micros(now)).await }).await
    }

    async fn begin_login(&self, login: PendingLogin, max_pending: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.connections
            .write(async { logins::begin(&self.connections.one().await?, &login, max_pending, micros(now)).await })
            .await
    }

    async fn login_by_cookie(
        &self,
        cookie_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<PendingLogin>, StoreError> {
        self.connections
            .read(|| async { logins::by_cookie(&self.connections.one().await?, cookie_hash, micros(now)).await })
            .await
    }

    async fn login_by_code(&self, code_hash: &[u8; 32], now: Timestamp) -> Result<Option<PendingLogin>, StoreError> {
        self.connections
            .read(|| async { logins::by_code(&self.connections.one().await?, code_hash, micros(now)).await })
            .await
    }

    async fn advance_login(&self, login: PendingLogin) -> Result<bool, StoreError> {
        self.connections.write(async { logins::advance(&self.connections.one().await?, &login).await }).await
    }

    async fn drop_login(&self, id: Uuid) -> Result<(), StoreError> {
        self.connections.write(async { logins::forget(&self.connections.one().await?, id).await }).await
    }

    async fn begin_device(&self, device: DeviceLogin, max_pending: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.connections
            .write(async { devices::begin(&self.connections.one().await?, &device, max_pending, micros(now)).await })
            .await
    }

    async fn device_by_code(&self, device_hash: &[u8; 32], now: Timestamp) -> Result<Option<DeviceLogin>, StoreError> {
        self.connections
            .read(|| async { devices::by_code(&self.connections.one().await?, device_hash, micros(now)).await })
            .await
    }

    async fn device_by_user_code(&self, user_code: &str, now: Timestamp) -> Result<Option<DeviceLogin>, StoreError> {
        self.connections
            .read(|| async { devices::by_user_code(&self.connections.one().await?, user_code, micros(now)).await })
            .await
    }

    async fn advance_device(&self, device: DeviceLogin) -> Result<bool, StoreError> {
        self.connections.write(async { devices::advance(&self.connections.one().await?, &device).await }).await
    }

    async fn pin_provider(&self, alias: &ProviderAlias, issuer: &str) -> Result<String, StoreError> {
        self.connections
            .write(async { providers::pin(&self.connections.one().await?, alias.as_str(), issuer).await })
            .await
    }

    async fn pinned_issuer(&self, alias: &ProviderAlias) -> Result<Option<String>, StoreError> {
        self.connections
            .read(|| async { providers::pinned(&self.connections.one().await?, alias.as_str()).await })
            .await
    }

    async fn forward_cursor(&self, name: &str) -> Result<Option<ForwardRow>, StoreError> {
        self.connections.read(|| async { forwards::cursor(&self.connections.one().await?, name).await }).await
    }

    async fn move_forward(&self, name: &str, was: Option<&ForwardRow>, to: &ForwardRow) -> Result<bool, StoreError> {
        self.connections.write(async { forwards::replace(&self.connections.one().await?, name, was, to).await }).await
    }

    async fn hold_forward(
        &self,
        name: &str,
        holder: &[u8; 16],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.connections
            .write(async {
                forwards::hold(&self.connections.one().await?, name, holder, micros(now), micros(until)).await
            })
            .await
    }

    async fn drop_request(&self, id: Uuid) -> Result<Option<DropRequest>, StoreError> {
        self.connections.read(|| async { drops::by_id(&self.connections.one().await?, id).await }).await
    }

    async fn use_once(&self, id: &[u8; 16], until: Timestamp) -> Result<bool, StoreError> {
        self.connections
            .write(async { shared::use_once(&self.connections.one().await?, id, micros(until)).await })
            .await
    }

    async fn take_allowance(&self, key: &[u8; 32], per_minute: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.connections
            .write(async { shared::take(&self.connections.one().await?, key, per_minute, micros(now)).await })
            .await
    }

    async fn calls(
        &self,
        filter: &CallFilter,
        before: Option<CallPlace>,
        limit: u32,
    ) -> Result<Vec<StoredCall>, StoreError> {
        self.connections
            .read(|| async { calls::find(&self.connections.one().await?, filter, before, limit).await })
            .await
    }

    async fn call_sums(&self, grant: GrantId, entry: Option<u64>, limit: u32) -> Result<Vec<CallSum>, StoreError> {
        self.connections.read(|| async { calls::sums(&self.connections.one().await?, grant, entry, limit).await }).await
    }

    async fn call_range(&self, from: u64, limit: u32) -> Result<Vec<StoredCall>, StoreError> {
        self.connections.read(|| async { calls::range(&self.connections.one().await?, from, limit).await }).await
    }

    async fn calls_held(&self) -> Result<Vec<NodeHeld>, StoreError> {
        self.connections.read(|| async { kept::held(&self.connections.one().await?).await }).await
    }

    async fn calls_taken(&self) -> Result<Vec<CallsTaken>, StoreError> {
        self.connections.read(|| async { kept::taken(&self.connections.one().await?).await }).await
    }

    async fn see_nodes(&self, seen: &[NodeSeen]) -> Result<(), StoreError> {
        self.connections.write(async { calls::see(&self.connections.one().await?, seen).await }).await
    }

    async fn nodes_seen(&self) -> Result<Vec<NodeSeen>, StoreError> {
        self.connections.read(|| async { calls::seen(&self.connections.one().await?).await }).await
    }

    async fn break_glass(&self, id: BreakGlassId) -> Result<Option<BreakGlassFile>, StoreError> {
        self.connections.read(|| async { break_glass::file(&self.connections.one().await?, id).await }).await
    }

    async fn break_glass_list(
        &self,
        filter: &BreakGlassFilter,
        before: Option<BreakGlassId>,
        limit: u32,
    ) -> Result<Vec<BreakGlassRow>, StoreError> {
        self.connections
            .read(|| async { break_glass::list(&self.connections.one().await?, filter, before, limit).await })
            .await
    }

    async fn break_glass_due(&self, now: Timestamp, limit: u32) -> Result<Vec<BreakGlassRow>, StoreError> {
        let now = micros(now);
        self.connections.read(|| async { break_glass::due(&self.connections.one().await?, now, limit).await }).await
    }

    async fn break_glass_open_uses(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(BreakGlassId, GrantId)>, StoreError> {
        let before = micros(before);
        self.connections
            .read(|| async { break_glass::open_uses(&self.connections.one().await?, before, limit).await })
            .await
    }

    async fn break_glass_overdue(
        &self,
        used: Timestamp,
        reminded: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<BreakGlassRow>, StoreError> {
        let (used, reminded) = (micros(used), reminded.map(micros));
        self.connections
            .read(|| async { break_glass::overdue(&self.connections.one().await?, used, reminded, limit).await })
            .await
    }

    async fn lock(&self, id: LockId) -> Result<Option<LockRow>, StoreError> {
        self.connections.read(|| async { locks::by_id(&self.connections.one().await?, id).await }).await
    }

    async fn locks(&self, with_ended: bool, limit: u32) -> Result<Vec<LockRow>, StoreError> {
        self.connections.read(|| async { locks::list(&self.connections.one().await?, with_ended, limit).await }).await
    }

    async fn people_named(&self, name: &str, limit: u32) -> Result<Vec<KnownPerson>, StoreError> {
        self.connections.read(|| async { locks::people(&self.connections.one().await?, name, limit).await }).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        let now = micros(now);
        self.connections
            .write(async {
                let db = self.connections.one().await?;
                logins::sweep(&db, now).await?;
                devices::sweep(&db, now).await?;
                shared::sweep(&db, now).await?;
                drops::sweep(&db, now).await?;
                locks::sweep(&db, now).await?;
                sessions::sweep(&db, now).await
            })
            .await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.connections
            .write(async {
                self.connections.fitness().await?;
                let db = self.connections.one().await?;
                let update = db.prepare_cached("UPDATE probe SET n = n + 1").await?;
                db.execute(&update, &[]).await?;
                Ok(())
            })
            .await
    }
}

// === impl Failure ===

impl Failure {
    /// Whether the connection broke, or could not be had, so that the server may not even have heard.
    fn is_of_the_connection(&self) -> bool {
        use tokio_postgres::error::SqlState;
        match self {
            Self::Postgres(error) => {
                error.is_closed()
                    || error.code().is_some_and(|code| {
                        *code == SqlState::ADMIN_SHUTDOWN
                            || *code == SqlState::CRASH_SHUTDOWN
                            || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                    })
                    || (error.as_db_error().is_none()
                        && std::error::Error::source(error).is_some_and(|s| s.is::<std::io::Error>()))
            }
            _ => false,
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        use deadpool_postgres::{HookError, PoolError};
        use tokio_postgres::error::SqlState;
        let of_server = |error: &tokio_postgres::Error| match error.as_db_error() {
            Some(told) if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(told.code()) => {
                Self::Damaged(told.message().to_owned())
            }
            // the detail would quote values
            Some(told) => Self::Unavailable(format!("{} ({})", told.message(), told.code().code())),
            None => Self::Unavailable(chain(error)),
        };
        match failure {
            Failure::Damaged(why) | Failure::Schema(why) => Self::Damaged(why),
            Failure::Server(why) => Self::Unavailable(why),
            Failure::Late => Self::Unavailable("no answer within the deadline".into()),
            Failure::Postgres(error) => of_server(&error),
            Failure::Pool(PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error))) => {
                of_server(&error)
            }
            Failure::Pool(PoolError::PostCreateHook(HookError::Message(why))) => {
                Self::Unavailable(format!("the server is unfit: {why}"))
            }
            Failure::Pool(PoolError::Timeout(_)) => {
                Self::Unavailable("no connection became free, or could be made, within the deadline".into())
            }
            Failure::Pool(error) => Self::Unavailable(error.to_string()),
        }
    }
}

/// An error with what is behind it.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
