//! A store around the broker's own, whose writes fail, lose their answer or wait as a test says.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ichor_broker::app::WrapStore;
use ichor_broker::domain::{BreakGlassId, GrantId, LockId, ProviderAlias, SessionId};
use ichor_broker::store::{
    Append, Appended, BreakGlassFile, BreakGlassFilter, BreakGlassRow, CallFilter, CallPlace, CallSum, CallsTaken,
    Committed, Condition, DeviceLogin, DropRequest, EntryFilter, ForwardRow, Indexed, KnownPerson, LockRow, LogHead,
    NodeHeld, NodeSeen, PendingLogin, SessionRow, Store, StoreError, StoredCall, StoredCheckpoint, StoredEntry,
};
use ichor_wire::log::Kind;
use ichor_wire::log::tree::{Edge, FullTile};
use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

/// What happens at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and nothing is written.
    Before,
    /// It is written, but the answer is lost.
    After,
    /// Nothing is written: the change was made for a state that is no longer so.
    Stale,
}

/// What the store does wrong; beyond that it works. Each fault happens once.
#[derive(Default)]
pub struct Faults {
    plan: Mutex<Plan>,
    session_reads: watch::Sender<u64>,
}

/// While it lives, the batch with its kind of entry waits. Dropping it lets the batch go on.
pub struct Hold {
    arrived: watch::Receiver<bool>,
    _release: watch::Sender<()>,
}

#[derive(Default)]
struct Plan {
    at_entry: Vec<(Kind, Fault)>,
    no_entry: Option<Kind>,
    at_write: Option<(u32, Fault)>,
    held: Vec<(Kind, watch::Sender<bool>, watch::Receiver<()>)>,
    is_down: bool,
    no_pin: bool,
    other_asker: bool,
    no_body: Option<Kind>,
    panics: bool,
    panics_beside: bool,
}

struct Faulty {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
}

// === impl Faults ===

impl Faults {
    /// No fault yet.
    #[must_use]
    pub fn none() -> Arc<Self> {
        Arc::default()
    }

    /// What puts these faults around the broker's store.
    #[must_use]
    pub fn wrap(self: &Arc<Self>) -> WrapStore {
        let faults = Arc::clone(self);
        Box::new(move |inner| Arc::new(Faulty { inner, faults }))
    }

    /// The next batch that has an entry of this kind meets the fault.
    pub fn at_entry(&self, kind: Kind, fault: Fault) {
        self.plan().at_entry.push((kind, fault));
    }

    /// Until it is reset, no entry of this kind can be recorded.
    pub fn set_no_entry(&self, kind: Option<Kind>) {
        self.plan().no_entry = kind;
    }

    /// The write after the next `count` writes meets the fault, whatever is written; what the broker writes at its own
    /// intervals does not count.
    pub fn at_write(&self, count: u32, fault: Fault) {
        self.plan().at_write = Some((count, fault));
    }

    /// Whether every fault that was asked for has happened. Forgets those that have not.
    pub fn happened(&self) -> bool {
        let mut plan = self.plan();
        plan.at_write.take().is_none() && plan.at_entry.drain(..).next().is_none()
    }

    /// Until it is up again, everything fails, reading too.
    pub fn set_down(&self, down: bool) {
        self.plan().is_down = down;
    }

    /// Until it is reset, no provider's alias can be pinned to its issuer, nor a pin be read.
    pub fn set_no_pin(&self, no_pin: bool) {
        self.plan().no_pin = no_pin;
    }

    /// Until it is reset, requests to drop bodies read as if somebody else had asked, for everyone's: as whoever writes the
    /// database could have it.
    pub fn set_other_asker(&self, other_asker: bool) {
        self.plan().other_asker = other_asker;
    }

    /// Until it is reset, entries of this kind that are looked for from a place on come without their bodies: as whoever writes the
    /// database could have it.
    pub fn set_no_body(&self, kind: Option<Kind>) {
        self.plan().no_body = kind;
    }

    /// The next look for a session panics, in the very handler of a request.
    pub fn panic_at_session(&self) {
        self.plan().panics = true;
    }

    /// The next look for break-glass requests whose time ran out panics, in the task that does that beside the service.
    pub fn panic_beside(&self) {
        self.plan().panics_beside = true;
    }

    /// Makes the next batch that has an entry of this kind wait before it is written.
    #[must_use]
    pub fn hold(&self, kind: Kind) -> Hold {
        let (_release, released) = watch::channel(());
        let (came, arrived) = watch::channel(false);
        self.plan().held.push((kind, came, released));
        Hold { arrived, _release }
    }

    /// Counts how often a session was looked up by its token: each request does that once, before anything is decided.
    #[must_use]
    pub fn session_reads(&self) -> watch::Receiver<u64> {
        self.session_reads.subscribe()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn for_batch(&self, batch: &[Append]) -> Option<Fault> {
        let mut plan = self.plan();
        let has = |kind: Kind| batch.iter().any(|part| part.entry.entry.content.kind == kind);
        if plan.no_entry.is_some_and(has) {
            return Some(Fault::Before);
        }
        let place = plan.at_entry.iter().position(|(kind, _)| has(*kind))?;
        Some(plan.at_entry.swap_remove(place).1)
    }

    fn for_write(&self) -> Option<Fault> {
        let mut plan = self.plan();
        let (count, fault) = plan.at_write?;
        plan.at_write = count.checked_sub(1).map(|left| (left, fault));
        (count == 0).then_some(fault)
    }

    async fn pass(&self, batch: &[Append]) {
        let held = {
            let mut plan = self.plan();
            let has = |kind: Kind| batch.iter().any(|part| part.entry.entry.content.kind == kind);
            plan.held.iter().position(|(kind, ..)| has(*kind)).map(|place| plan.held.swap_remove(place))
        };
        if let Some((_, came, mut released)) = held {
            came.send_replace(true);
            // ends when the other half is dropped
            while released.changed().await.is_ok() {}
        }
    }

    async fn read<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let is_down = self.plan().is_down;
        if is_down { Err(failed()) } else { read.await }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let fault = self.for_write();
        self.meet(fault, write).await
    }

    async fn meet<T>(
        &self,
        fault: Option<Fault>,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match fault {
            None => self.read(write).await,
            Some(Fault::Before | Fault::Stale) => Err(failed()),
            Some(Fault::After) => {
                self.read(write).await?;
                Err(failed())
            }
        }
    }
}

// === impl Hold ===

impl Hold {
    /// Returns once a batch waits.
    pub async fn arrived(&mut self) {
        let _ = self.arrived.wait_for(|arrived| *arrived).await;
    }

    /// Lets it go on.
    pub fn release(self) {}
}

fn failed() -> StoreError {
    StoreError::Unavailable("a test's fault".into())
}

// === impl Store for Faulty ===

#[async_trait]
impl Store for Faulty {
    async fn append(&self, batch: Vec<Append>, checkpoint: Option<StoredCheckpoint>) -> Result<Committed, StoreError> {
        // the checkpoint alone, which is written down when nothing else is: nobody waits for it
        if batch.is_empty() {
            return self.inner.append(batch, checkpoint).await;
        }
        self.faults.pass(&batch).await;
        let fault = self.faults.for_batch(&batch).or_else(|| self.faults.for_write());
        if fault == Some(Fault::Stale) {
            let parts = batch.iter().map(|_| Appended::Refused(Condition::Stale)).collect();
            return Ok(Committed { parts, tree: Arc::default() });
        }
        self.faults.meet(fault, self.inner.append(batch, checkpoint)).await
    }
    async fn tile(&self, level: u8, index: u64) -> Result<Option<FullTile>, StoreError> {
        self.faults.read(self.inner.tile(level, index)).await
    }
    async fn edge(&self, size: u64) -> Result<Edge, StoreError> {
        self.faults.read(self.inner.edge(size)).await
    }
    async fn stray(&self) -> Result<Option<String>, StoreError> {
        self.faults.read(self.inner.stray()).await
    }
    async fn unsound(&self) -> Result<Option<String>, StoreError> {
        self.faults.read(self.inner.unsound()).await
    }
    async fn between(&self) -> Result<Option<String>, StoreError> {
        self.faults.read(self.inner.between()).await
    }
    async fn checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        self.faults.read(self.inner.checkpoint()).await
    }
    async fn head(&self) -> Result<LogHead, StoreError> {
        self.faults.read(self.inner.head()).await
    }
    async fn entries(&self, f: &EntryFilter, before: Option<u64>, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.faults.read(self.inner.entries(f, before, limit)).await
    }
    async fn entries_from(&self, f: &EntryFilter, from: u64, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        let mut found = self.faults.read(self.inner.entries_from(f, from, limit)).await?;
        if f.kind.is_some() && f.kind == self.faults.plan().no_body {
            found.iter_mut().for_each(|entry| entry.body = None);
        }
        Ok(found)
    }
    async fn issued_as(&self, name: &[u8]) -> Result<Vec<StoredEntry>, StoreError> {
        self.faults.read(self.inner.issued_as(name)).await
    }
    async fn forward_cursor(&self, name: &str) -> Result<Option<ForwardRow>, StoreError> {
        self.faults.read(self.inner.forward_cursor(name)).await
    }
    async fn move_forward(&self, name: &str, was: Option<&ForwardRow>, to: &ForwardRow) -> Result<bool, StoreError> {
        self.faults.write(self.inner.move_forward(name, was, to)).await
    }
    async fn hold_forward(
        &self,
        name: &str,
        holder: &[u8; 16],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        // at the broker's own pace, as sweeping is
        self.faults.read(self.inner.hold_forward(name, holder, now, until)).await
    }
    async fn drop_request(&self, id: Uuid) -> Result<Option<DropRequest>, StoreError> {
        let mut request = self.faults.read(self.inner.drop_request(id)).await?;
        if let Some(request) = request.as_mut().filter(|_| self.faults.plan().other_asker) {
            request.asked_by.subject = "nobody".into();
            request.person = None;
        }
        Ok(request)
    }
    async fn entry_range(&self, range: Range<u64>) -> Result<Vec<StoredEntry>, StoreError> {
        self.faults.read(self.inner.entry_range(range)).await
    }
    async fn indexed_range(&self, range: Range<u64>) -> Result<Vec<Indexed>, StoreError> {
        self.faults.read(self.inner.indexed_range(range)).await
    }
    async fn session_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError> {
        let panics = std::mem::take(&mut self.faults.plan().panics);
        assert!(!panics, "a test's fault");
        let row = self.faults.read(self.inner.session_by_token(token_hash)).await;
        self.faults.session_reads.send_modify(|reads| *reads += 1);
        row
    }
    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        self.faults.read(self.inner.session(id)).await
    }
    async fn lease_refresh(&self, id: SessionId, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.faults.write(self.inner.lease_refresh(id, now, until)).await
    }
    async fn release_refresh(&self, id: SessionId, until: Timestamp) -> Result<(), StoreError> {
        self.faults.write(self.inner.release_refresh(id, until)).await
    }
    async fn touch_session(&self, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        self.faults.write(self.inner.touch_session(id, now)).await
    }
    async fn begin_login(&self, login: PendingLogin, max_pending: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.faults.write(self.inner.begin_login(login, max_pending, now)).await
    }
    async fn login_by_cookie(&self, cookie: &[u8; 32], now: Timestamp) -> Result<Option<PendingLogin>, StoreError> {
        self.faults.read(self.inner.login_by_cookie(cookie, now)).await
    }
    async fn login_by_code(&self, code: &[u8; 32], now: Timestamp) -> Result<Option<PendingLogin>, StoreError> {
        self.faults.read(self.inner.login_by_code(code, now)).await
    }
    async fn advance_login(&self, login: PendingLogin) -> Result<bool, StoreError> {
        self.faults.write(self.inner.advance_login(login)).await
    }
    async fn drop_login(&self, id: Uuid) -> Result<(), StoreError> {
        self.faults.write(self.inner.drop_login(id)).await
    }
    async fn begin_device(&self, device: DeviceLogin, max_pending: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.faults.write(self.inner.begin_device(device, max_pending, now)).await
    }
    async fn device_by_code(&self, device: &[u8; 32], now: Timestamp) -> Result<Option<DeviceLogin>, StoreError> {
        self.faults.read(self.inner.device_by_code(device, now)).await
    }
    async fn device_by_user_code(&self, code: &str, now: Timestamp) -> Result<Option<DeviceLogin>, StoreError> {
        self.faults.read(self.inner.device_by_user_code(code, now)).await
    }
    async fn advance_device(&self, device: DeviceLogin) -> Result<bool, StoreError> {
        self.faults.write(self.inner.advance_device(device)).await
    }
    async fn pin_provider(&self, alias: &ProviderAlias, issuer: &str) -> Result<String, StoreError> {
        // asked for at the broker's own interval too: it must not take a test's fault away
        let fault = self.faults.plan().no_pin.then_some(Fault::Before);
        self.faults.meet(fault, self.inner.pin_provider(alias, issuer)).await
    }
    async fn pinned_issuer(&self, alias: &ProviderAlias) -> Result<Option<String>, StoreError> {
        self.faults.read(self.inner.pinned_issuer(alias)).await
    }
    async fn use_once(&self, id: &[u8; 16], until: Timestamp) -> Result<bool, StoreError> {
        // asked for at every request, as sessions are read: a test's fault is for what is written
        self.inner.use_once(id, until).await
    }
    async fn take_allowance(&self, key: &[u8; 32], per_minute: u32, now: Timestamp) -> Result<bool, StoreError> {
        self.inner.take_allowance(key, per_minute, now).await
    }
    async fn calls(
        &self,
        f: &CallFilter,
        before: Option<CallPlace>,
        limit: u32,
    ) -> Result<Vec<StoredCall>, StoreError> {
        self.faults.read(self.inner.calls(f, before, limit)).await
    }
    async fn call_sums(&self, grant: GrantId, entry: Option<u64>, limit: u32) -> Result<Vec<CallSum>, StoreError> {
        self.faults.read(self.inner.call_sums(grant, entry, limit)).await
    }
    async fn call_range(&self, from: u64, limit: u32) -> Result<Vec<StoredCall>, StoreError> {
        self.faults.read(self.inner.call_range(from, limit)).await
    }
    async fn calls_held(&self) -> Result<Vec<NodeHeld>, StoreError> {
        self.faults.read(self.inner.calls_held()).await
    }
    async fn calls_taken(&self) -> Result<Vec<CallsTaken>, StoreError> {
        self.faults.read(self.inner.calls_taken()).await
    }
    async fn see_nodes(&self, seen: &[NodeSeen]) -> Result<(), StoreError> {
        // asked for at the broker's own pace, as sweeping is
        self.faults.read(self.inner.see_nodes(seen)).await
    }
    async fn nodes_seen(&self) -> Result<Vec<NodeSeen>, StoreError> {
        self.faults.read(self.inner.nodes_seen()).await
    }
    async fn break_glass(&self, id: BreakGlassId) -> Result<Option<BreakGlassFile>, StoreError> {
        self.faults.read(self.inner.break_glass(id)).await
    }
    async fn break_glass_list(
        &self,
        f: &BreakGlassFilter,
        before: Option<BreakGlassId>,
        limit: u32,
    ) -> Result<Vec<BreakGlassRow>, StoreError> {
        self.faults.read(self.inner.break_glass_list(f, before, limit)).await
    }
    async fn break_glass_due(&self, now: Timestamp, limit: u32) -> Result<Vec<BreakGlassRow>, StoreError> {
        let panics = std::mem::take(&mut self.faults.plan().panics_beside);
        assert!(!panics, "a test's fault");
        self.faults.read(self.inner.break_glass_due(now, limit)).await
    }
    async fn break_glass_open_uses(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(BreakGlassId, GrantId)>, StoreError> {
        self.faults.read(self.inner.break_glass_open_uses(before, limit)).await
    }
    async fn break_glass_overdue(
        &self,
        used: Timestamp,
        reminded: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<BreakGlassRow>, StoreError> {
        self.faults.read(self.inner.break_glass_overdue(used, reminded, limit)).await
    }
    async fn lock(&self, id: LockId) -> Result<Option<LockRow>, StoreError> {
        self.faults.read(self.inner.lock(id)).await
    }
    async fn locks(&self, with_ended: bool, limit: u32) -> Result<Vec<LockRow>, StoreError> {
        self.faults.read(self.inner.locks(with_ended, limit)).await
    }
    async fn people_named(&self, name: &str, limit: u32) -> Result<Vec<KnownPerson>, StoreError> {
        self.faults.read(self.inner.people_named(name, limit)).await
    }
    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        // as above
        self.faults.read(self.inner.sweep(now)).await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.faults.read(self.inner.probe()).await
    }
}
