//! Durable state: sessions, pending logins, break-glass requests, and the log. One trait, one file per concern and backend.

pub mod break_glass;
pub mod calls;
pub mod change;
pub mod copy;
pub mod lock;
pub mod postgres;
mod quota;
pub mod rows;
pub mod sqlite;
mod value;

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
mod dialects;
#[cfg(test)]
pub(crate) mod faulty;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use ichor_wire::log::tree::{Edge, FullTile};
use jiff::{SignedDuration, Timestamp};

use crate::domain::{BreakGlassId, GrantId, LockId, ProviderAlias, SessionId};
pub use break_glass::{
    ApprovalRow, AskBounds, BreakGlassChange, BreakGlassFile, BreakGlassFilter, BreakGlassRow, BreakGlassUse, Closing,
    Review, ToldRow, UseRow,
};
pub use calls::{
    Call, CallClass, CallFilter, CallPlace, CallSum, CallsTaken, NodeHeld, NodeName, NodeSeen, NodeService, StoredCall,
};
pub use change::{Change, Condition};
pub use lock::{Account, KnownPerson, LiftAsk, LockChange, LockKeys, LockQuota, LockRow};
pub use rows::{
    DeviceLogin, DropRequest, EntryFilter, ForwardRow, Indexed, LogHead, NewEntry, PendingLogin, SessionRow,
    StoredCheckpoint, StoredEntry,
};

/// A store failed. The text is for the log; nothing of it goes to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be written or read now: gone, read-only, full, locked. Trying again may help.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// What was read cannot be what was written.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// Another process holds the writer lock.
    #[error("another process writes to this database; stop the running broker, or talk to it through its socket")]
    Locked,
}

/// One writer's part of a batch: what to record and what to change with it.
#[derive(Debug)]
pub struct Append {
    /// The entry, complete but for its place in the log.
    pub entry: NewEntry,
    /// The state change that must commit with it.
    pub change: Option<Change>,
}

/// What became of one writer's part of a committed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The entry is durable at this index and its change was made.
    Recorded {
        /// The entry's index in the log.
        index: u64,
        /// The RFC 6962 hash of its leaf record.
        leaf_hash: [u8; 32],
        /// The entry's bytes, where it lay a little behind another broker's and took the newest one's time: what was recorded, and
        /// proved, is that. Else they are those that the store was given.
        retimed: Option<Vec<u8>>,
    },
    /// The change's condition failed: neither entry nor change of this writer exist; others of the batch are untouched.
    Refused(Condition),
}

/// A batch, committed.
#[derive(Clone, Debug)]
pub struct Committed {
    /// What became of each part, in order.
    pub parts: Vec<Appended>,
    /// The tree right after the batch.
    pub tree: Arc<Grown>,
}

/// The log's tree at a moment: enough to prove every entry that came in since its tiles began to be gathered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grown {
    /// The unfinished tiles.
    pub edge: Edge,
    /// The tiles that the latest batch completed, in the order in which it did.
    pub tiles: Vec<FullTile>,
}

// === impl Grown ===

impl Grown {
    /// The tree as `later` has it, with the tiles of both: it proves the entries of both batches.
    #[must_use]
    pub fn followed_by(&self, later: &Self) -> Self {
        Self { edge: later.edge.clone(), tiles: self.tiles.iter().chain(&later.tiles).cloned().collect() }
    }
}

/// So far the clocks of several brokers on one database may lie apart.
pub const SKEW: SignedDuration = SignedDuration::from_secs(10);

/// How long what is over stays for reading, in microseconds: 30 days. The log keeps what it says of it.
const KEPT: i64 = 30 * 24 * 3600 * 1_000_000;

/// Durable state behind one broker, or behind several that share a database.
///
/// A method that writes returns once the write is durable (SQLite: `synchronous=FULL`; Postgres: `synchronous_commit=on`), but
/// for [`Self::use_once`] and [`Self::take_allowance`], which hold what need not outlive a crash of the server. A method that
/// fails has written nothing, except where the failure is a lost answer: then the caller cannot
/// know, and must treat it as not done; an [`Append`] whose answer was lost may stand in the log without effect outside.
/// Reads never wait for writes.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Commits the batch as one transaction, in order, and answers part by part: a part whose condition fails leaves nothing, and the
    /// others stand. The tree over the log's leaves grows with it, and every tile that is complete then is kept. A `checkpoint` is kept in the
    /// same transaction, unless a larger one is kept already; an empty batch keeps nothing else.
    /// The sequencer calls this, and the opening of a log, to keep its checkpoint.
    ///
    /// # Errors
    /// When the transaction as a whole failed: then no part of it happened.
    async fn append(&self, batch: Vec<Append>, checkpoint: Option<StoredCheckpoint>) -> Result<Committed, StoreError>;

    /// The log's end: how many entries, and the newest entry's time.
    async fn head(&self) -> Result<LogHead, StoreError>;

    /// Entries that match, newest first, at most `limit`, index below `before` where given.
    async fn entries(
        &self,
        filter: &EntryFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, StoreError>;

    /// Entries that match, oldest first, at most `limit`, index `from` or above.
    async fn entries_from(&self, filter: &EntryFilter, from: u64, limit: u32) -> Result<Vec<StoredEntry>, StoreError>;

    /// The entries of certificates with this serial number or SHA-256 fingerprint, oldest first; zeros at its beginning do not
    /// count. Several only where issuers repeat a serial number.
    async fn issued_as(&self, name: &[u8]) -> Result<Vec<StoredEntry>, StoreError>;

    /// Entries by index, oldest first: for verification and export.
    async fn entry_range(&self, range: Range<u64>) -> Result<Vec<StoredEntry>, StoreError>;

    /// As [`Self::entry_range`], with the columns that queries go by: for verification.
    async fn indexed_range(&self, range: Range<u64>) -> Result<Vec<Indexed>, StoreError>;

    /// The complete tile with this number of this level of the log's tree; `None` where it is not complete.
    async fn tile(&self, level: u8, index: u64) -> Result<Option<FullTile>, StoreError>;

    /// The tree's right edge when the log had `size` entries. Reads at most 255 leaves and as many roots of tiles a level, not
    /// the log: what it answers is what leaves and tiles say, which may differ once someone else has written there.
    ///
    /// # Errors
    /// Also when the log has not that many entries, or an entry or tile that is needed is missing; the error names it.
    async fn edge(&self, size: u64) -> Result<Edge, StoreError>;

    /// A row that no entry accounts for, in words: a body or a tile where no entry is, which would be in the way of the entry to come,
    /// or the name of a certificate that leads to an entry of the log which has no such name. (Names that lead behind the log's end are what a
    /// cut end leaves, which the checkpoint tells better.) Nobody records one. Each row is held against the log
    /// of one moment, and few are in memory at once. For verification; its cost grows with the number of certificates.
    async fn stray(&self) -> Result<Option<String>, StoreError>;

    /// What keeps queries from seeing what the tables hold, in words: an index without a row that its table has, or what [`Self::between`]
    /// tells. For verification; its cost grows with the database.
    async fn unsound(&self) -> Result<Option<String>, StoreError>;

    /// What somebody put between our statements and our tables since the store was opened, in words. Cheap; a store that looks for it at every
    /// append has nothing to tell.
    async fn between(&self) -> Result<Option<String>, StoreError>;

    /// The newest checkpoint that an append was given.
    async fn checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError>;

    /// The session whose token has this SHA-256, ended or not.
    async fn session_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError>;

    /// The session by its id, ended or not.
    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError>;

    /// Takes the session's refresh lease until `until`, unless someone holds it past `now`: one refresh at a time.
    async fn lease_refresh(&self, id: SessionId, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;

    /// Gives back early the lease that was taken until `until`; another's, taken since, stays.
    async fn release_refresh(&self, id: SessionId, until: Timestamp) -> Result<(), StoreError>;

    /// Notes that the session was used, at most once a minute's worth of precision; not an audited change.
    async fn touch_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError>;

    /// Keeps a pending login. Refuses (`Ok(false)`) when `max_pending` unexpired ones exist: they are made by strangers.
    async fn begin_login(&self, login: PendingLogin, max_pending: u32, now: Timestamp) -> Result<bool, StoreError>;

    /// The unexpired pending login whose browser cookie has this SHA-256.
    async fn login_by_cookie(&self, cookie_hash: &[u8; 32], now: Timestamp)
    -> Result<Option<PendingLogin>, StoreError>;

    /// The unexpired pending login whose one-time code has this SHA-256. Does not consume it: [`Change::SessionCreate`] does.
    async fn login_by_code(&self, code_hash: &[u8; 32], now: Timestamp) -> Result<Option<PendingLogin>, StoreError>;

    /// Replaces the pending login if its `version` is still `login.version`, and counts the version up. `Ok(false)`: lost.
    async fn advance_login(&self, login: PendingLogin) -> Result<bool, StoreError>;

    /// Forgets the pending login.
    async fn drop_login(&self, id: uuid::Uuid) -> Result<(), StoreError>;

    /// Keeps a device login (RFC 8628), bounded as in [`Self::begin_login`].
    async fn begin_device(&self, device: DeviceLogin, max_pending: u32, now: Timestamp) -> Result<bool, StoreError>;

    /// The unexpired device login whose device code has this SHA-256.
    async fn device_by_code(&self, device_hash: &[u8; 32], now: Timestamp) -> Result<Option<DeviceLogin>, StoreError>;

    /// The unexpired device login with this user code.
    async fn device_by_user_code(&self, user_code: &str, now: Timestamp) -> Result<Option<DeviceLogin>, StoreError>;

    /// Replaces the device login if its `version` is still the same. `Ok(false)`: lost.
    async fn advance_device(&self, device: DeviceLogin) -> Result<bool, StoreError>;

    /// Pins a provider's alias to its issuer at first use and answers the issuer that it is pinned to.
    async fn pin_provider(&self, alias: &ProviderAlias, issuer: &str) -> Result<String, StoreError>;

    /// The issuer that a provider's alias is pinned to; `None` before its first use.
    async fn pinned_issuer(&self, alias: &ProviderAlias) -> Result<Option<String>, StoreError>;

    /// Uses up what may be used once (a DPoP proof) and is refused anyhow after `until`; `Ok(false)`: it was used before, at
    /// whichever broker. A store behind one broker leaves that to the process's own memory; one behind several forgets it when
    /// the database's server crashes.
    async fn use_once(&self, id: &[u8; 16], until: Timestamp) -> Result<bool, StoreError>;

    /// Takes one from the allowance with this key, of which `per_minute` may be taken at once and which refills evenly, counted
    /// over all brokers; `Ok(false)`: it is used up. A store behind one broker leaves that to the process too.
    async fn take_allowance(&self, key: &[u8; 32], per_minute: u32, now: Timestamp) -> Result<bool, StoreError>;

    /// Calls at nodes that match, newest first by the time they began, at most `limit`, behind `before` where given. Its cost
    /// does not grow with the number of calls kept.
    async fn calls(
        &self,
        filter: &CallFilter,
        before: Option<CallPlace>,
        limit: u32,
    ) -> Result<Vec<StoredCall>, StoreError>;

    /// All calls whose line names this grant, and those that name none and rest on the entry at `entry`, counted by node, method and
    /// class: at most `limit` sums, by node, method and class. Its cost grows with the calls of the grant.
    async fn call_sums(&self, grant: GrantId, entry: Option<u64>, limit: u32) -> Result<Vec<CallSum>, StoreError>;

    /// The calls kept with an id of at least `from`, in the order of their ids, at most `limit`: for verification.
    async fn call_range(&self, from: u64, limit: u32) -> Result<Vec<StoredCall>, StoreError>;

    /// Every node that calls are kept of, with how many and the oldest.
    async fn calls_held(&self) -> Result<Vec<NodeHeld>, StoreError>;

    /// What the quota has ever taken of each cluster.
    async fn calls_taken(&self) -> Result<Vec<CallsTaken>, StoreError>;

    /// Notes when services of nodes were last heard of. No time goes back.
    async fn see_nodes(&self, seen: &[NodeSeen]) -> Result<(), StoreError>;

    /// When each service of each node was last heard of.
    async fn nodes_seen(&self) -> Result<Vec<NodeSeen>, StoreError>;

    /// A break-glass request with its approvals and uses.
    async fn break_glass(&self, id: BreakGlassId) -> Result<Option<BreakGlassFile>, StoreError>;

    /// Break-glass requests that match, newest first, at most `limit`, behind `before` where given.
    async fn break_glass_list(
        &self,
        filter: &BreakGlassFilter,
        before: Option<BreakGlassId>,
        limit: u32,
    ) -> Result<Vec<BreakGlassRow>, StoreError>;

    /// Break-glass requests whose time ran out by `now` and is not recorded yet, at most `limit`.
    async fn break_glass_due(&self, now: Timestamp, limit: u32) -> Result<Vec<BreakGlassRow>, StoreError>;

    /// Grants that used a request at `before` or earlier, were not given back, and of which no certificate is recorded, oldest first, at
    /// most `limit`.
    async fn break_glass_open_uses(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(BreakGlassId, GrantId)>, StoreError>;

    /// Break-glass requests whose last use was before `used` and is not reviewed, nor was said to be overdue since `reminded` where
    /// that is given, at most `limit`.
    async fn break_glass_overdue(
        &self,
        used: Timestamp,
        reminded: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<BreakGlassRow>, StoreError>;

    /// The lock with this id, ended or not.
    async fn lock(&self, id: LockId) -> Result<Option<LockRow>, StoreError>;

    /// Locks that nobody has ended, or all that are kept, newest first, at most `limit`. One whose time is over is ended only once that
    /// is recorded.
    async fn locks(&self, with_ended: bool, limit: u32) -> Result<Vec<LockRow>, StoreError>;

    /// Whoever has had a session, as far as sessions are kept, and has exactly this subject or this value behind `user:`; at most
    /// `limit`.
    async fn people_named(&self, name: &str, limit: u32) -> Result<Vec<KnownPerson>, StoreError>;

    /// How far the forwarding of this name has come; `None` where it never began.
    async fn forward_cursor(&self, name: &str) -> Result<Option<ForwardRow>, StoreError>;

    /// Keeps `to` in the place of `was`. `Ok(false)`, and nothing has changed, where another row is there by now.
    async fn move_forward(&self, name: &str, was: Option<&ForwardRow>, to: &ForwardRow) -> Result<bool, StoreError>;

    /// Holds the forwarding of this name for `holder` until `until`, unless another holds it beyond `now`: then `Ok(false)`. A hold that
    /// lies further ahead than any that brokers take, by [`SKEW`], is none.
    /// Behind one broker there is nobody else, and nothing is held.
    async fn hold_forward(
        &self,
        name: &str,
        holder: &[u8; 16],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// The request to drop bodies of this id, in whatever state.
    async fn drop_request(&self, id: uuid::Uuid) -> Result<Option<DropRequest>, StoreError>;

    /// Removes pending logins that expired before `now`, and sessions and locks that ended and
    /// requests that expired or were done more than 30 days before.
    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Answers whether a small write would succeed, within the store's own deadline; for readiness.
    async fn probe(&self) -> Result<(), StoreError>;
}
