//! Whoever writes the database undoes nothing: each case records something real, edits the rows as that someone would, and asks
//! a broker of which the log is signed. On both stores.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ichor_wire::log::{Kind, Leaf};
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use uuid::Uuid;

use super::tests::{POLICIES, apart, at_corp, bounds, load, prod, someone};
use super::*;
use crate::audit::{self, Grace, Known, LedgerError, Notary, Recorded};
use crate::clock::FrozenClock;
use crate::custody::audit_key_fixture::flaky;
use crate::domain::{BreakGlassState, ClusterName, GrantId, Request, Role};
use crate::identity::fixture::{key, who};
use crate::issuer::{IssueError, Issued, Issuer};
use crate::mint::{Mint, MintError};
use crate::policy::{Grant, decide};
use crate::store::conformance::{logged_in, noon};

/// An issuer that says how often it was asked.
#[derive(Debug)]
struct Counting {
    cluster: ClusterName,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Issuer for Counting {
    fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    async fn issue(&self, _grant: Recorded<Grant>, _now: Timestamp) -> Result<Issued, IssueError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Err(IssueError::Custody("it only counts".into()))
    }
}

impl Counting {
    fn of(cluster: &str) -> Arc<Self> {
        Arc::new(Self { cluster: ClusterName::new(cluster).unwrap(), asked: AtomicUsize::default() })
    }
}

/// Break-glass on a store whose log is signed.
pub(super) struct Signed {
    pub(super) store: Arc<dyn Store>,
    sequencer: Sequencer,
    sequencing: tokio::task::JoinHandle<()>,
    pub(super) clock: Arc<FrozenClock>,
    pub(super) glass: BreakGlass,
    policies: Arc<PolicySet>,
    pub(super) ada: Identity,
    pub(super) bob: Identity,
}

pub(super) fn address() -> std::net::IpAddr {
    "192.0.2.7".parse().unwrap()
}

impl Signed {
    /// A mint for `prod`, whose issuer this is.
    fn mint(&self, issuer: &Arc<Counting>) -> Mint {
        let issuers: crate::mint::Issuers =
            Arc::new(BTreeMap::from([(prod().name, Arc::clone(issuer) as Arc<dyn Issuer>)]));
        let clusters: Clusters = Arc::new(BTreeMap::from([(prod().name, Arc::new(prod()))]));
        Mint::new(
            watch::channel(Arc::clone(&self.policies)).1,
            watch::channel(clusters).1,
            watch::channel(issuers).1,
            self.sequencer.clone(),
            self.clock.clone(),
            self.glass.ledger(),
        )
    }

    pub(super) async fn new(store: Arc<dyn Store>, uses: u8) -> Self {
        let ada = logged_in(&*store, 1).await;
        let policies = load(&POLICIES.replace("@wait", &format!("@uses(\"{uses}\") @wait")));
        Self::started(store, FrozenClock::at(noon()), policies, who(&ada)).await
    }

    async fn started(store: Arc<dyn Store>, clock: Arc<FrozenClock>, policies: Arc<PolicySet>, ada: Identity) -> Self {
        let grace = Grace { key: SignedDuration::from_mins(5), anchor: SignedDuration::from_mins(5) };
        let is_out = Arc::new(AtomicBool::new(false));
        let notary = Arc::new(Notary::new(flaky(7, &is_out), "log.example", Vec::new(), grace).unwrap());
        let opened = audit::open(&*store, &notary, &Known::default(), noon()).await.unwrap();
        let settings = audit::Settings::named("broker-1");
        let (sequencer, sequencing) =
            Sequencer::vouched(Arc::clone(&store), clock.clone(), settings, notary, opened.standing);
        let glass = broker(&store, &sequencer, &clock, &policies);
        Self { store, sequencer, sequencing, clock, glass, policies, ada, bob: someone(2, at_corp("bob")) }
    }

    /// The broker ends, and another starts on the database in this folder.
    pub(super) async fn restarted(self, folder: &tempfile::TempDir) -> Self {
        let Self { store, sequencer, sequencing, clock, glass, policies, ada, bob: _ } = self;
        drop((glass, sequencer));
        sequencing.await.unwrap();
        assert_eq!(Arc::strong_count(&store), 1, "nothing of the old one is left");
        drop(store);
        Self::started(at(folder), clock, policies, ada).await
    }

    /// Has a grant recorded of the request, if it can be used, and nothing behind it; which, if any.
    pub(super) async fn begins_a_use(&self, id: BreakGlassId) -> Option<GrantId> {
        let approved = self.approved(id).await.ok()?;
        let grant = GrantId(crate::entropy::uuid_v7(noon()).unwrap());
        let now = crate::clock::Clock::now(&*self.clock);
        let (request, quorum) = (Self::request(&approved), Some(&approved.quorum));
        let decided = decide(&self.policies, &self.ada, &prod(), &request, quorum, grant, now).ok()?;
        self.sequencer.record(decided).await.ok().map(|_| grant)
    }

    /// Uses the request if it can be used, and records what came of it; whether it could.
    pub(super) async fn uses(&self, id: BreakGlassId, is_issued: bool) -> bool {
        let Ok(approved) = self.approved(id).await else { return false };
        let grant = GrantId(crate::entropy::uuid_v7(noon()).unwrap());
        let now = crate::clock::Clock::now(&*self.clock);
        let (request, quorum) = (Self::request(&approved), Some(&approved.quorum));
        let Ok(decided) = decide(&self.policies, &self.ada, &prod(), &request, quorum, grant, now) else {
            return false;
        };
        if self.sequencer.record(decided).await.is_err() {
            return false;
        }
        self.permits(&approved, grant).await.unwrap();
        self.ends_a_use(id, grant, is_issued).await;
        true
    }

    /// Records what came of a grant of the request.
    pub(super) async fn ends_a_use(&self, id: BreakGlassId, grant: GrantId, is_issued: bool) {
        let now = crate::clock::Clock::now(&*self.clock);
        let (kind, change) = match is_issued {
            true => {
                let keys = LockKeys { grant: Some(grant), ..LockKeys::of(self.ada.person(), None, None) };
                (Kind::Issued, Some(Change::CertificateMade { keys: Box::new(keys), now }))
            }
            false => {
                let change = BreakGlassChange::Return { grant };
                (Kind::IssueFailed, Some(Change::BreakGlass { change, now, keys: None }))
            }
        };
        let content = Content {
            grant: Some(grant.0.as_bytes().to_vec()),
            break_glass: Some(id.0.as_bytes().to_vec()),
            ..Content::of(kind)
        };
        self.sequencer.note(content, change).await.unwrap();
    }

    pub(super) async fn asked(&self) -> BreakGlassId {
        let ask = Ask {
            cluster: prod().name,
            roles: vec![Role::Admin],
            ttl: None,
            reason: "INC-42".into(),
            nodes: Vec::new(),
            ticket: None,
            address: address(),
            self_service: false,
        };
        self.glass.ask(&self.ada, ask).await.unwrap()
    }

    pub(super) async fn approve(&self, id: BreakGlassId) -> Result<(), BreakGlassError> {
        let (_, contents) = self.glass.load(id).await?;
        self.glass.approve(&self.bob, id, contents.hash, None, address()).await
    }

    async fn deny(&self, id: BreakGlassId) {
        let (_, contents) = self.glass.load(id).await.unwrap();
        self.glass.deny(&self.bob, id, contents.hash, None, address()).await.unwrap();
    }

    async fn approved(&self, id: BreakGlassId) -> Result<Approved, BreakGlassError> {
        self.glass.approved(&self.ada, id, "key").await
    }

    fn request(approved: &Approved) -> Request {
        Request {
            cluster: prod().name,
            roles: approved.quorum.roles.clone(),
            ttl: Some(approved.left),
            reason: Some("INC-42".into()),
            public_key: b"a key".to_vec(),
            csr: Vec::new(),
            address: address(),
        }
    }

    /// Has a grant recorded, and, where asked, that a certificate came of it.
    async fn used(&self, approved: &Approved, is_issued: bool) -> GrantId {
        let id = GrantId(crate::entropy::uuid_v7(noon()).unwrap());
        let now = crate::clock::Clock::now(&*self.clock);
        let (request, quorum) = (Self::request(approved), Some(&approved.quorum));
        let grant = decide(&self.policies, &self.ada, &prod(), &request, quorum, id, now).unwrap();
        self.sequencer.record(grant).await.unwrap();
        if is_issued {
            let issued = Content { grant: Some(id.0.as_bytes().to_vec()), ..Content::of(Kind::Issued) };
            self.sequencer.note(issued, None).await.unwrap();
        }
        id
    }

    async fn permits(&self, approved: &Approved, grant: GrantId) -> Result<(), LedgerError> {
        let made = (approved.quorum.asked_at, &approved.quorum.hash);
        self.glass.ledger().permits(approved.quorum.request, made, approved.quorum.uses, grant).await
    }

    async fn state(&self, id: BreakGlassId) -> BreakGlassState {
        self.glass.load(id).await.unwrap().0.request.state
    }

    /// Whether a broker that knows nothing yet, and one that has read the log before, both find the request suspect; the
    /// sentence of the first.
    async fn suspect(&self, id: BreakGlassId) -> String {
        let fresh = broker(&self.store, &self.sequencer, &self.clock, &self.policies);
        let (file, contents) = fresh.load(id).await.unwrap();
        assert!(self.glass.suspicion(&file, &contents).await.unwrap().is_some(), "whoever knows the log believed it");
        fresh.suspicion(&file, &contents).await.unwrap().expect("whoever reads the log anew believed it")
    }
}

fn broker(
    store: &Arc<dyn Store>,
    sequencer: &Sequencer,
    clock: &Arc<FrozenClock>,
    policies: &Arc<PolicySet>,
) -> BreakGlass {
    let clusters: Clusters = Arc::new(BTreeMap::from([(prod().name, Arc::new(prod()))]));
    BreakGlass::new(
        Arc::clone(store),
        sequencer.clone(),
        clock.clone(),
        Arc::new(key()),
        watch::channel(Arc::clone(policies)).1,
        watch::channel(clusters).1,
        Settings {
            review_within: SignedDuration::from_hours(24),
            sinks: watch::channel(Vec::new()).1,
            apart: apart(),
            bounds: bounds(),
        },
    )
}

fn is_suspect<T: std::fmt::Debug>(answer: &Result<T, BreakGlassError>, why: &str) {
    assert!(matches!(answer, Err(BreakGlassError::Suspect(said)) if said.contains(why)), "{answer:?}");
}

/// Runs all of it on a store that `edit` writes to as someone without a key does.
pub(crate) async fn who_writes_the_database_undoes_nothing<E: Future<Output = ()>>(
    store: Arc<dyn Store>,
    edit: impl Fn(&'static str) -> E,
) {
    let signed = Signed::new(store, 1).await;
    // denied, and taken back
    let (denied, cancelled) = (signed.asked().await, signed.asked().await);
    signed.deny(denied).await;
    signed.glass.cancel(&signed.ada, cancelled, None, address()).await.unwrap();
    edit("UPDATE break_glass SET state = 0, closed_by = NULL, closed_at = NULL").await;
    for (id, why) in [(denied, "was denied"), (cancelled, "was taken back")] {
        assert_eq!(signed.state(id).await, BreakGlassState::Pending, "the database says so");
        assert!(signed.suspect(id).await.contains(why));
        is_suspect(&signed.approve(id).await, why);
        let seen = signed.glass.show(&signed.bob, id).await.unwrap();
        assert!(seen.suspect.unwrap().contains(why) && !seen.may.contains(&"approve"), "{:?}", seen.may);
    }
    edit("DELETE FROM break_glass").await;

    // open when the log was opened again, and one that is asked behind that
    let id = signed.asked().await;
    signed.approve(id).await.unwrap();
    let approved = signed.approved(id).await.unwrap();
    let (store, clock) = (Arc::clone(&signed.store), Arc::clone(&signed.clock));
    signed.sequencer.note(Content::of(Kind::LogOpened), None).await.unwrap();
    let why = "was asked before the log was opened again";
    is_suspect(&signed.approved(id).await, why);
    assert!(signed.suspect(id).await.contains(why));
    let late = signed.used(&approved, false).await;
    assert!(matches!(signed.permits(&approved, late).await, Err(LedgerError::Denied(said)) if said.contains(why)));
    end_all(&*store, &signed.sequencer, &*clock).await.unwrap();
    assert_eq!(signed.glass.show(&signed.ada, id).await.unwrap().suspect, None, "what was ended is what it says");
    edit("DELETE FROM break_glass").await;

    // revoked
    let id = signed.asked().await;
    signed.approve(id).await.unwrap();
    let seen = signed.glass.show(&signed.ada, id).await.unwrap();
    assert_eq!((seen.suspect, seen.may.contains(&"use")), (None, true), "what is honest is believed");
    let approved = signed.approved(id).await.unwrap();
    signed.glass.revoke(&signed.bob, id, None, address()).await.unwrap();
    edit("UPDATE break_glass SET state = 1").await;
    is_suspect(&signed.approved(id).await, "was revoked");
    assert!(signed.suspect(id).await.contains("was revoked"));
    let seen = signed.glass.list(&signed.ada, &Default::default(), None, 9).await.unwrap().0.remove(0);
    assert!(seen.suspect.is_some() && !seen.may.contains(&"use"), "{:?}", seen.may);
    let last = audit::entries(&*signed.store, &Default::default(), None, 1).await.unwrap().entries.remove(0);
    assert_eq!((last.kind.as_str(), last.detail["code"].as_str()), ("refusal", Code::Suspect.as_str()));
    // between the decision and the grant
    let late = signed.used(&approved, false).await;
    assert!(matches!(signed.permits(&approved, late).await, Err(LedgerError::Denied(why)) if why.contains("revoked")));
    edit("DELETE FROM break_glass").await;

    // used, and made to look unused
    let id = signed.asked().await;
    signed.approve(id).await.unwrap();
    let approved = signed.approved(id).await.unwrap();
    let first = signed.used(&approved, true).await;
    signed.permits(&approved, first).await.unwrap();
    edit("UPDATE break_glass SET state = 1, used = 0, uses = 99, jkt = NULL, good_until = good_until + 9000000000")
        .await;
    edit("DELETE FROM break_glass_use").await;
    is_suspect(&signed.approved(id).await, "1 of 1 certificates were made of it");
    assert!(signed.suspect(id).await.contains("1 of 1"));
    let second = signed.used(&approved, false).await;
    assert!(
        matches!(signed.permits(&approved, second).await, Err(LedgerError::Denied(why)) if why.contains("1 times"))
    );
    edit("DELETE FROM break_glass").await;

    // never asked: the row is a real one, of a log that was put away
    let id = signed.asked().await;
    signed.approve(id).await.unwrap();
    let file = signed.glass.load(id).await.unwrap();
    let said = audit::Said::default().against(&file.1.hash, 1);
    assert_eq!(said.as_deref(), Some("nobody asked for this"));

    // the columns that the log is looked up by decide nothing
    signed.glass.revoke(&signed.bob, id, None, address()).await.unwrap();
    edit("UPDATE break_glass SET state = 1, waits_until = waits_until + 3600000000, uses = 7, quorum = 0").await;
    edit("UPDATE leaf SET kind = 11, person = NULL, cluster = NULL WHERE kind = 23").await;
    assert!(signed.suspect(id).await.contains("was revoked"));
    let (file, contents) = signed.glass.load(id).await.unwrap();
    assert_eq!(file.request.waits_until, contents.said.waits_until);
    assert_eq!((file.request.uses, file.request.quorum), (1, 1), "what is approved says so, not a column");
    // and a body that is gone is seen
    edit("DELETE FROM body WHERE idx = (SELECT max(idx) FROM leaf WHERE kind = 11)").await;
    let why = broker(&signed.store, &signed.sequencer, &signed.clock, &signed.policies);
    let why = why.suspicion(&file, &contents).await.unwrap().unwrap();
    assert!(why.contains("has lost its body"), "{why}");
}

pub(super) fn sqlite() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().unwrap();
    let store = at(&folder);
    (folder, store)
}

fn at(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    use crate::store::sqlite::{Options, SqliteStore};
    Arc::new(SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap())
}

fn editing(folder: &tempfile::TempDir) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(folder.path().join("ichor.db")).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    db
}

#[tokio::test]
async fn who_writes_the_database_undoes_nothing_on_sqlite() {
    let (folder, store) = sqlite();
    who_writes_the_database_undoes_nothing(store, |sql| {
        editing(&folder).execute_batch(sql).unwrap();
        std::future::ready(())
    })
    .await;
}

/// What someone does to the entry at a place.
type Edit = dyn Fn(&rusqlite::Connection, i64);

/// An entry that was replaced by another that fits its leaf, one taken out, one cut off: the signed tree does not have them.
#[tokio::test]
async fn a_log_that_was_written_anew_lets_nobody_in() {
    let replace = |db: &rusqlite::Connection, place: i64| {
        let body: Vec<u8> = db.query_row("SELECT body FROM body WHERE idx = 0", [], |row| row.get(0)).unwrap();
        let time: i64 = db.query_row("SELECT time FROM leaf WHERE idx = ?1", [place], |row| row.get(0)).unwrap();
        let leaf = Leaf::of(place.try_into().unwrap(), &body, time).encode().unwrap();
        db.execute("UPDATE leaf SET leaf = ?2 WHERE idx = ?1", (place, leaf)).unwrap();
        db.execute("UPDATE body SET body = ?2 WHERE idx = ?1", (place, body)).unwrap();
    };
    let take_out = |db: &rusqlite::Connection, place: i64| {
        db.execute("DELETE FROM leaf WHERE idx = ?1", [place]).unwrap();
    };
    let another_body = |db: &rusqlite::Connection, place: i64| {
        db.execute("UPDATE body SET body = (SELECT body FROM body WHERE idx = 0) WHERE idx = ?1", [place]).unwrap();
    };
    let cases: [(&str, &Edit, bool); 4] = [
        ("are not those that were signed", &replace, true),
        ("is missing", &take_out, true),
        ("has another body", &another_body, true),
        ("where", &take_out, false),
    ];
    for (why, edit, is_followed) in cases {
        let (folder, store) = sqlite();
        let signed = Signed::new(store, 1).await;
        let id = signed.asked().await;
        signed.approve(id).await.unwrap();
        signed.glass.revoke(&signed.bob, id, None, address()).await.unwrap();
        let revoked = signed.store.head().await.unwrap().size - 1;
        if is_followed {
            signed.sequencer.note(Content::of(Kind::Reload), None).await.unwrap();
        }
        let db = editing(&folder);
        db.execute("UPDATE break_glass SET state = 1", []).unwrap();
        edit(&db, revoked.try_into().unwrap());
        let fresh = broker(&signed.store, &signed.sequencer, &signed.clock, &signed.policies);
        let (file, contents) = fresh.load(id).await.unwrap();
        let said = fresh.suspicion(&file, &contents).await.unwrap().unwrap_or_default();
        assert!(said.contains(why), "{why}: {said}");
    }
}

/// The press asks the log between the grant's entry and the certificate.
#[tokio::test]
async fn no_certificate_is_made_of_what_was_revoked_before_its_grant() {
    let (folder, store) = sqlite();
    let signed = Signed::new(store, 1).await;
    let id = signed.asked().await;
    signed.approve(id).await.unwrap();
    let approved = signed.approved(id).await.unwrap();
    let issuer = Counting::of("prod");
    let mint = signed.mint(&issuer);
    let minted = async || mint.certificate(&signed.ada, Signed::request(&approved), Some(&approved.quorum)).await;
    assert!(matches!(minted().await, Err(MintError::Issue(_))), "what is honest comes to the issuer");
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    signed.glass.revoke(&signed.bob, id, None, address()).await.unwrap();
    editing(&folder).execute("UPDATE break_glass SET state = 1, used = 0", []).unwrap();
    let refused = minted().await.unwrap_err();
    assert!(matches!(&refused, MintError::Ledger(LedgerError::Denied(why)) if why.contains("revoked")), "{refused:?}");
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    let last = audit::entries(&*signed.store, &Default::default(), None, 1).await.unwrap().entries.remove(0);
    assert_eq!((last.kind.as_str(), last.detail["code"].as_str()), ("issue-failed", Code::Suspect.as_str()));
}

/// A certificate names no cluster: what a wrong one's CA signed would open its nodes with the grant of another.
#[tokio::test]
async fn no_ca_signs_what_was_granted_on_another_cluster() {
    let (_folder, store) = sqlite();
    let signed = Signed::new(store, 1).await;
    let id = signed.asked().await;
    signed.approve(id).await.unwrap();
    let approved = signed.approved(id).await.unwrap();
    let issuer = Counting::of("lab");
    let mint = signed.mint(&issuer);
    let minted = mint.certificate(&signed.ada, Signed::request(&approved), Some(&approved.quorum)).await;
    let refused = minted.unwrap_err();
    assert!(matches!(&refused, MintError::Issue(IssueError::Mismatch(why)) if why.contains("`lab`")), "{refused:?}");
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 0);
    let last = audit::entries(&*signed.store, &Default::default(), None, 1).await.unwrap().entries.remove(0);
    assert_eq!(
        (last.kind.as_str(), last.detail["code"].as_str()),
        ("issue-failed", Code::CertificateMismatch.as_str())
    );
}

/// What failed is given back in the log too, but what led to a certificate never is, whatever an entry says.
#[tokio::test]
async fn a_use_that_failed_does_not_count_and_one_that_did_not_does() {
    let (_folder, store) = sqlite();
    let signed = Signed::new(store, 2).await;
    let id = signed.asked().await;
    signed.approve(id).await.unwrap();
    let approved = signed.approved(id).await.unwrap();
    let failed = async |grant: GrantId| {
        let content = Content {
            grant: Some(grant.0.as_bytes().to_vec()),
            break_glass: Some(id.0.as_bytes().to_vec()),
            ..Content::of(Kind::IssueFailed)
        };
        let change = BreakGlassChange::Return { grant };
        let change = Change::BreakGlass { change, now: noon(), keys: None };
        signed.sequencer.note(content, Some(change)).await.unwrap();
    };
    for _ in 0..5 {
        let grant = signed.used(&approved, false).await;
        signed.permits(&approved, grant).await.unwrap();
        failed(grant).await;
    }
    assert!(signed.approved(id).await.is_ok());
    for number in 0..3 {
        let approved = signed.approved(id).await;
        if number == 2 {
            is_suspect(&approved, "2 of 2");
            break;
        }
        let approved = approved.unwrap();
        let grant = signed.used(&approved, true).await;
        signed.permits(&approved, grant).await.unwrap();
        // an entry that nobody but a writer of the database would make
        failed(grant).await;
    }
    let unknown = GrantId(Uuid::nil());
    assert!(matches!(signed.permits(&approved, unknown).await, Err(LedgerError::Denied(_))));
}

/// Bodies that were dropped as it should be, before a request, are no reason to believe nobody; behind it they are.
#[tokio::test]
async fn only_what_was_dropped_lawfully_before_a_request_is_missed_by_nobody() {
    for is_before in [true, false] {
        let (folder, store) = sqlite();
        let signed = Signed::new(store, 1).await;
        let read = async || signed.sequencer.note(Content::of(Kind::AuditRead), None).await.unwrap().index;
        let before = read().await;
        let id = signed.asked().await;
        let place = if is_before { before } else { read().await };
        signed.approve(id).await.unwrap();
        editing(&folder).execute("DELETE FROM body WHERE idx = ?1", [i64::try_from(place).unwrap()]).unwrap();
        let fresh = async || {
            let fresh = broker(&signed.store, &signed.sequencer, &signed.clock, &signed.policies);
            let (file, contents) = fresh.load(id).await.unwrap();
            fresh.suspicion(&file, &contents).await.unwrap()
        };
        assert!(fresh().await.is_some_and(|why| why.contains("has lost its body")));
        says_dropped(&signed, place, SignedDuration::ZERO).await;
        assert!(fresh().await.is_some_and(|why| why.contains("has lost its body")), "so young nothing goes");
        says_dropped(&signed, place, SignedDuration::from_hours(24)).await;
        match is_before {
            true => assert_eq!(fresh().await, None),
            false => assert!(fresh().await.is_some_and(|why| why.contains("something behind it was dropped"))),
        }
    }
}

/// An entry that says so, recorded so long after noon.
async fn says_dropped(signed: &Signed, place: u64, after: SignedDuration) {
    let places: ichor_wire::log::Places = [place].into_iter().collect();
    let content = Content { dropped: Some(places.numbers()), ..Content::of(Kind::BodyDropped) };
    let entry = crate::store::conformance::entry(content, noon() + after);
    signed.store.append(vec![crate::store::Append { entry, change: None }], None).await.unwrap();
}

/// What revoked a request is taken out of the log, with an entry that names it as dropped: neither who knew it nor who reads the log
/// anew believes the row.
#[tokio::test]
async fn a_revocation_that_is_said_to_be_dropped_gives_nothing_back() {
    let (folder, store) = sqlite();
    let signed = Signed::new(store, 1).await;
    let id = signed.asked().await;
    signed.approve(id).await.unwrap();
    signed.glass.revoke(&signed.bob, id, None, address()).await.unwrap();
    let revoked = signed.store.head().await.unwrap().size - 1;
    let db = editing(&folder);
    db.execute_batch("UPDATE break_glass SET state = 1, closed_by = NULL, closed_at = NULL").unwrap();
    assert!(signed.suspect(id).await.contains("was revoked"));
    let is_at = [i64::try_from(revoked).unwrap()];
    // first a body that does not fit, so that what is known is thrown away
    db.execute("UPDATE body SET body = x'00' WHERE idx = ?1", is_at).unwrap();
    assert!(signed.suspect(id).await.contains("has another body"));
    db.execute("DELETE FROM body WHERE idx = ?1", is_at).unwrap();
    db.execute("UPDATE leaf SET kind = 1, person = NULL, cluster = NULL, grant_id = NULL WHERE idx = ?1", is_at)
        .unwrap();
    assert!(signed.suspect(id).await.contains("has lost its body"));
    says_dropped(&signed, revoked, SignedDuration::from_hours(24)).await;
    assert!(signed.suspect(id).await.contains("something behind it was dropped"), "who reads it anew");
    let (file, contents) = signed.glass.load(id).await.unwrap();
    let known = signed.glass.suspicion(&file, &contents).await.unwrap().unwrap();
    assert!(known.contains("was revoked"), "who knew it: {known}");
}

/// Where reading begins a column says. One that leads behind what ended a request is found out, and so is a second request's entry.
#[tokio::test]
async fn a_beginning_that_was_moved_is_found_out() {
    let (folder, store) = sqlite();
    let signed = Signed::new(store, 1).await;
    let id = signed.asked().await;
    let asked = signed.store.head().await.unwrap().size - 1;
    signed.approve(id).await.unwrap();
    signed.glass.revoke(&signed.bob, id, None, address()).await.unwrap();
    let stored = signed.store.entry_range(asked..asked + 1).await.unwrap().remove(0);
    let again = ichor_wire::log::Entry::decode(&stored.body.unwrap()).unwrap().content;
    let entry = crate::store::conformance::entry(again, noon());
    signed.store.append(vec![crate::store::Append { entry, change: None }], None).await.unwrap();
    let last = i64::try_from(signed.store.head().await.unwrap().size - 1).unwrap();
    let db = editing(&folder);
    db.execute_batch("UPDATE break_glass SET state = 1, closed_by = NULL, closed_at = NULL").unwrap();
    assert!(signed.suspect(id).await.contains("was revoked"));
    db.execute("UPDATE leaf SET time = time - 10000000 WHERE idx < ?1", [last]).unwrap();
    let fresh = broker(&signed.store, &signed.sequencer, &signed.clock, &signed.policies);
    let (file, contents) = fresh.load(id).await.unwrap();
    let why = fresh.suspicion(&file, &contents).await.unwrap().unwrap_or_default();
    assert!(why.contains("has another time in its column"), "{why}");
}
