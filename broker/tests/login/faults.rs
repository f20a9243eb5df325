//! A store whose commits fail on demand: what cannot be recorded must not take effect, and nothing may be lost by it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ichor_broker::domain::{BreakGlassId, GrantId, LockId, ProviderAlias, SessionId};
use ichor_broker::store::rows::Indexed;
use ichor_broker::store::{
    Append, BreakGlassFile, BreakGlassFilter, BreakGlassRow, CallFilter, CallPlace, CallSum, CallsTaken, Committed,
    DeviceLogin, DropRequest, EntryFilter, ForwardRow, KnownPerson, LockRow, LogHead, NodeHeld, NodeSeen, PendingLogin,
    SessionRow, Store, StoreError, StoredCall, StoredCheckpoint, StoredEntry,
};
use ichor_standins::browser::Browser;
use ichor_wire::log::Kind;
use ichor_wire::log::tree::{Edge, FullTile};
use ichor_wire::problem::Code;
use jiff::Timestamp;
use uuid::Uuid;

use super::client::Client;
use super::world::World;

/// Passes everything on, but for commits while `fails` is set.
pub(super) struct Fragile {
    pub(super) inner: Arc<dyn Store>,
    pub(super) fails: Arc<AtomicBool>,
}

type Answer<T> = Result<T, StoreError>;

macro_rules! pass_on {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)+) => {
        #[async_trait]
        impl Store for Fragile {
            async fn append(&self, batch: Vec<Append>, checkpoint: Option<StoredCheckpoint>) -> Answer<Committed> {
                if self.fails.load(Ordering::SeqCst) {
                    return Err(StoreError::Unavailable("no space left on device".into()));
                }
                self.inner.append(batch, checkpoint).await
            }

            $(async fn $name(&self, $($argument: $kind),*) -> Answer<$answer> {
                self.inner.$name($($argument),*).await
            })+
        }
    };
}

pass_on! {
    head() -> LogHead;
    stray() -> Option<String>;
    unsound() -> Option<String>;
    between() -> Option<String>;
    entries(filter: &EntryFilter, before: Option<u64>, limit: u32) -> Vec<StoredEntry>;
    entries_from(filter: &EntryFilter, from: u64, limit: u32) -> Vec<StoredEntry>;
    issued_as(name: &[u8]) -> Vec<StoredEntry>;
    forward_cursor(name: &str) -> Option<ForwardRow>;
    move_forward(name: &str, was: Option<&ForwardRow>, to: &ForwardRow) -> bool;
    hold_forward(name: &str, holder: &[u8; 16], now: Timestamp, until: Timestamp) -> bool;
    drop_request(id: Uuid) -> Option<DropRequest>;
    entry_range(range: Range<u64>) -> Vec<StoredEntry>;
    indexed_range(range: Range<u64>) -> Vec<Indexed>;
    tile(level: u8, index: u64) -> Option<FullTile>;
    edge(size: u64) -> Edge;
    checkpoint() -> Option<StoredCheckpoint>;
    session_by_token(token_hash: &[u8; 32]) -> Option<SessionRow>;
    break_glass(id: BreakGlassId) -> Option<BreakGlassFile>;
    break_glass_list(filter: &BreakGlassFilter, before: Option<BreakGlassId>, limit: u32) -> Vec<BreakGlassRow>;
    break_glass_due(now: Timestamp, limit: u32) -> Vec<BreakGlassRow>;
    break_glass_open_uses(before: Timestamp, limit: u32) -> Vec<(BreakGlassId, GrantId)>;
    break_glass_overdue(used: Timestamp, reminded: Option<Timestamp>, limit: u32) -> Vec<BreakGlassRow>;
    session(id: SessionId) -> Option<SessionRow>;
    lock(id: LockId) -> Option<LockRow>;
    locks(with_ended: bool, limit: u32) -> Vec<LockRow>;
    people_named(name: &str, limit: u32) -> Vec<KnownPerson>;
    lease_refresh(id: SessionId, now: Timestamp, until: Timestamp) -> bool;
    release_refresh(id: SessionId, until: Timestamp) -> ();
    touch_session(id: SessionId, now: Timestamp) -> ();
    begin_login(login: PendingLogin, max_pending: u32, now: Timestamp) -> bool;
    login_by_cookie(cookie_hash: &[u8; 32], now: Timestamp) -> Option<PendingLogin>;
    login_by_code(code_hash: &[u8; 32], now: Timestamp) -> Option<PendingLogin>;
    advance_login(login: PendingLogin) -> bool;
    drop_login(id: Uuid) -> ();
    begin_device(device: DeviceLogin, max_pending: u32, now: Timestamp) -> bool;
    device_by_code(device_hash: &[u8; 32], now: Timestamp) -> Option<DeviceLogin>;
    device_by_user_code(user_code: &str, now: Timestamp) -> Option<DeviceLogin>;
    advance_device(device: DeviceLogin) -> bool;
    pin_provider(alias: &ProviderAlias, issuer: &str) -> String;
    pinned_issuer(alias: &ProviderAlias) -> Option<String>;
    calls(filter: &CallFilter, before: Option<CallPlace>, limit: u32) -> Vec<StoredCall>;
    call_sums(grant: GrantId, entry: Option<u64>, limit: u32) -> Vec<CallSum>;
    call_range(from: u64, limit: u32) -> Vec<StoredCall>;
    calls_held() -> Vec<NodeHeld>;
    calls_taken() -> Vec<CallsTaken>;
    see_nodes(seen: &[NodeSeen]) -> ();
    nodes_seen() -> Vec<NodeSeen>;
    sweep(now: Timestamp) -> ();
    use_once(id: &[u8; 16], until: Timestamp) -> bool;
    take_allowance(key: &[u8; 32], per_minute: u32, now: Timestamp) -> bool;
    probe() -> ();
}

#[tokio::test]
async fn a_login_that_cannot_be_recorded_gives_no_token_and_keeps_the_code() {
    let world = World::new().await;
    let client = Client::new();
    let code = world.code(&Browser::new(&[]).unwrap(), &client, "alice").await;
    world.commits_fail.store(true, Ordering::SeqCst);
    let answer = world.exchange(&client, &code).await;
    assert_eq!((answer.status, answer.json.get("access_token")), (503, None), "{}", answer.json);
    assert!(!answer.json.to_string().contains("space"), "the cause is for the log");
    world.commits_fail.store(false, Ordering::SeqCst);
    assert_eq!(world.exchange(&client, &code).await.status, 200);
    assert_eq!(world.count(Kind::Login).await, 1);
}

#[tokio::test]
async fn a_rotated_token_is_recorded_before_its_groups_are_used_and_never_lost() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    world.provider.set_groups("alice", ["admins"]);
    world.wait_minutes(6);
    let row = world.call(&session).await.unwrap();
    world.commits_fail.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let error = world.login.fresh_identity(&row).await.unwrap_err();
        assert_eq!(error.code(), Code::StoreUnavailable, "{error}");
    }
    assert_eq!(world.provider.refreshes(), 1, "what was told waits to be recorded; asking again would lose the token");
    world.commits_fail.store(false, Ordering::SeqCst);
    let identity = world.login.fresh_identity(&row).await.unwrap();
    assert_eq!(identity.groups().first().unwrap().name, "admins");
    assert_eq!(world.provider.refreshes(), 1);
    world.wait_minutes(6);
    world.login.fresh_identity(&world.call(&session).await.unwrap()).await.unwrap();
    assert_eq!(world.provider.refreshes(), 2, "the rotated token was kept");
}

#[tokio::test]
async fn a_refusal_of_the_provider_that_cannot_be_recorded_is_no_yes() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    world.provider.disable("alice");
    world.wait_minutes(6);
    let row = world.call(&session).await.unwrap();
    world.commits_fail.store(true, Ordering::SeqCst);
    assert!(world.login.fresh_identity(&row).await.is_err());
    world.commits_fail.store(false, Ordering::SeqCst);
    assert_eq!(world.login.fresh_identity(&row).await.unwrap_err().code(), Code::SessionEnded);
    assert_eq!(world.count(Kind::SessionEnd).await, 1);
}
