//! A store whose writes fail or wait as a test says.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;

/// What happens at one write.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It fails and nothing is written.
    Before,
    /// It is written, but the answer is lost.
    After,
    /// It waits for a permit, then succeeds.
    Hold(Arc<Semaphore>),
    /// Of a batch every part is refused, as what cannot be kept is.
    Refuse,
}

/// Another store, with faults before its next writes; beyond them it works.
pub(crate) struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Mutex<VecDeque<Fault>>,
    /// The size of every batch that came.
    pub(crate) batches: Mutex<Vec<usize>>,
    waiting: AtomicUsize,
    /// How many reads of a range of entries come through before one waits, and for what.
    ranges: Mutex<Option<(usize, Arc<Semaphore>)>>,
}

// === impl FaultyStore ===

impl FaultyStore {
    pub(crate) fn new(inner: Arc<dyn Store>, faults: impl IntoIterator<Item = Fault>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            faults: Mutex::new(faults.into_iter().collect()),
            batches: Mutex::default(),
            waiting: AtomicUsize::new(0),
            ranges: Mutex::default(),
        })
    }

    /// More faults, before the next writes.
    pub(crate) fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// After so many more reads of a range of entries the next one waits for a permit.
    pub(crate) fn hold_range(&self, after: usize, gate: Arc<Semaphore>) {
        *self.ranges.lock().unwrap() = Some((after, gate));
    }

    async fn read_range(&self) {
        let gate = {
            let mut ranges = self.ranges.lock().unwrap();
            match &mut *ranges {
                Some((0, _)) => ranges.take().map(|(_, gate)| gate),
                Some((after, _)) => {
                    *after -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some(gate) = gate {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
        }
    }

    /// Whether every fault has happened.
    pub(crate) fn is_well(&self) -> bool {
        self.faults.lock().unwrap().is_empty()
    }

    /// Returns once `count` writes wait at a [`Fault::Hold`], or reads at a [`Self::hold_range`].
    pub(crate) async fn held(&self, count: usize) {
        while self.waiting.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let fault = self.faults.lock().unwrap().pop_front();
        let failed = || StoreError::Unavailable("a test's fault".into());
        match fault {
            None => write.await,
            Some(Fault::Before | Fault::Refuse) => Err(failed()),
            Some(Fault::After) => {
                write.await?;
                Err(failed())
            }
            Some(Fault::Hold(gate)) => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                write.await
            }
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn append(&self, batch: Vec<Append>, checkpoint: Option<StoredCheckpoint>) -> Result<Committed, StoreError> {
        if !batch.is_empty() {
            self.batches.lock().unwrap().push(batch.len());
            if self.faults.lock().unwrap().pop_front_if(|fault| matches!(fault, Fault::Refuse)).is_some() {
                let tree = self.inner.append(Vec::new(), None).await?.tree;
                return Ok(Committed { parts: vec![Appended::Refused(Condition::Stale); batch.len()], tree });
            }
        }
        self.write(self.inner.append(batch, checkpoint)).await
    }
    async fn tile(&self, level: u8, index: u64) -> Result<Option<FullTile>, StoreError> {
        self.inner.tile(level, index).await
    }
    async fn edge(&self, size: u64) -> Result<Edge, StoreError> {
        self.inner.edge(size).await
    }
    async fn stray(&self) -> Result<Option<String>, StoreError> {
        self.inner.stray().await
    }
    async fn unsound(&self) -> Result<Option<String>, StoreError> {
        self.inner.unsound().await
    }
    async fn between(&self) -> Result<Option<String>, StoreError> {
        self.inner.between().await
    }
    async fn checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        self.inner.checkpoint().await
    }
    async fn head(&self) -> Result<LogHead, StoreError> {
        self.inner.head().await
    }
    async fn entries(&self, f: &EntryFilter, before: Option<u64>, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.inner.entries(f, before, limit).await
    }
    async fn entries_from(&self, f: &EntryFilter, from: u64, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.inner.entries_from(f, from, limit).await
    }
    async fn issued_as(&self, name: &[u8]) -> Result<Vec<StoredEntry>, StoreError> {
        self.inner.issued_as(name).await
    }
    async fn forward_cursor(&self, name: &str) -> Result<Option<ForwardRow>, StoreError> {
        self.inner.forward_cursor(name).await
    }
    async fn move_forward(&self, name: &str, was: Option<&ForwardRow>, to: &ForwardRow) -> Result<bool, StoreError> {
        self.write(self.inner.move_forward(name, was, to)).await
    }
    async fn hold_forward(
        &self,
        name: &str,
        holder: &[u8; 16],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(self.inner.hold_forward(name, holder, now, until)).await
    }
    async fn drop_request(&self, id: Uuid) -> Result<Option<DropRequest>, StoreError> {
        self.inner.drop_request(id).await
    }
    async fn entry_range(&self, range: Range<u64>) -> Result<Vec<StoredEntry>, StoreError> {
        self.read_range().await;
        self.inner.entry_range(range).await
    }
    async fn indexed_range(&self, range: Range<u64>) -> Result<Vec<Indexed>, StoreError> {
        self.read_range().await;
        self.inner.indexed_range(range).await
    }
    async fn session_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError> {
        self.inner.session_by_token(token_hash).await
    }
    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        self.inner.session(id).await
    }
    async fn lease_refresh(&self, id: SessionId, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.write(self.inner.lease_refresh(id, now, until)).await
    }
    async fn release_refresh(&self, id: SessionId, until: Timestamp) -> Result<(), StoreError> {
        self.write(self.inner.release_refresh(id, until)).await
    }
    async fn touch_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        self.write(self.inner.touch_session(id, now)).await
    }
    async fn begin_login(&self, login: PendingLogin, max_pending: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.write(self.inner.begin_login(login, max_pending, now)).await
    }
    async fn login_by_cookie(&self, cookie: &[u8; 32], now: Timestamp) -> Result<Option<PendingLogin>, StoreError> {
        self.inner.login_by_cookie(cookie, now).await
    }
    async fn login_by_code(&self, code: &[u8; 32], now: Timestamp) -> Result<Option<PendingLogin>, StoreError> {
        self.inner.login_by_code(code, now).await
    }
    async fn advance_login(&self, login: PendingLogin) -> Result<bool, StoreError> {
        self.write(self.inner.advance_login(login)).await
    }
    async fn drop_login(&self, id: Uuid) -> Result<(), StoreError> {
        self.write(self.inner.drop_login(id)).await
    }
    async fn begin_device(&self, device: DeviceLogin, max_pending: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.write(self.inner.begin_device(device, max_pending, now)).await
    }
    async fn device_by_code(&self, device: &[u8; 32], now: Timestamp) -> Result<Option<DeviceLogin>, StoreError> {
        self.inner.device_by_code(device, now).await
    }
    async fn device_by_user_code(&self, code: &str, now: Timestamp) -> Result<Option<DeviceLogin>, StoreError> {
        self.inner.device_by_user_code(code, now).await
    }
    async fn advance_device(&self, device: DeviceLogin) -> Result<bool, StoreError> {
        self.write(self.inner.advance_device(device)).await
    }
    async fn pin_provider(&self, alias: &ProviderAlias, issuer: &str) -> Result<String, StoreError> {
        self.write(self.inner.pin_provider(alias, issuer)).await
    }
    async fn pinned_issuer(&self, alias: &ProviderAlias) -> Result<Option<String>, StoreError> {
        self.inner.pinned_issuer(alias).await
    }
    async fn use_once(&self, id: &[u8; 16], until: Timestamp) -> Result<bool, StoreError> {
        self.write(self.inner.use_once(id, until)).await
    }
    async fn take_allowance(&self, key: &[u8; 32], per_minute: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.write(self.inner.take_allowance(key, per_minute, now)).await
    }
    async fn calls(
        &self,
        f: &CallFilter,
        before: Option<CallPlace>,
        limit: u32,
    ) -> Result<Vec<StoredCall>, StoreError> {
        self.inner.calls(f, before, limit).await
    }
    async fn call_sums(&self, grant: GrantId, entry: Option<u64>, limit: u32) -> Result<Vec<CallSum>, StoreError> {
        self.inner.call_sums(grant, entry, limit).await
    }
    async fn call_range(&self, from: u64, limit: u32) -> Result<Vec<StoredCall>, StoreError> {
        self.inner.call_range(from, limit).await
    }
    async fn calls_held(&self) -> Result<Vec<NodeHeld>, StoreError> {
        self.inner.calls_held().await
    }
    async fn calls_taken(&self) -> Result<Vec<CallsTaken>, StoreError> {
        self.inner.calls_taken().await
    }
    async fn see_nodes(&self, seen: &[NodeSeen]) -> Result<(), StoreError> {
        self.write(self.inner.see_nodes(seen)).await
    }
    async fn nodes_seen(&self) -> Result<Vec<NodeSeen>, StoreError> {
        self.inner.nodes_seen().await
    }
    async fn break_glass(&self, id: BreakGlassId) -> Result<Option<BreakGlassFile>, StoreError> {
        self.inner.break_glass(id).await
    }
    async fn break_glass_list(
        &self,
        f: &BreakGlassFilter,
        before: Option<BreakGlassId>,
        limit: u32,
    ) -> Result<Vec<BreakGlassRow>, StoreError> {
        self.inner.break_glass_list(f, before, limit).await
    }
    async fn break_glass_open_uses(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(BreakGlassId, GrantId)>, StoreError> {
        self.inner.break_glass_open_uses(before, limit).await
    }
    async fn break_glass_overdue(
        &self,
        used: Timestamp,
        reminded: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<BreakGlassRow>, StoreError> {
        self.inner.break_glass_overdue(used, reminded, limit).await
    }
    async fn break_glass_due(&self, now: Timestamp, limit: u32) -> Result<Vec<BreakGlassRow>, StoreError> {
        self.inner.break_glass_due(now, limit).await
    }
    async fn lock(&self, id: LockId) -> Result<Option<LockRow>, StoreError> {
        self.inner.lock(id).await
    }
    async fn locks(&self, with_ended: bool, limit: u32) -> Result<Vec<LockRow>, StoreError> {
        self.inner.locks(with_ended, limit).await
    }
    async fn people_named(&self, name: &str, limit: u32) -> Result<Vec<KnownPerson>, StoreError> {
        self.inner.people_named(name, limit).await
    }
    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(self.inner.sweep(now)).await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.write(self.inner.probe()).await
    }
}
