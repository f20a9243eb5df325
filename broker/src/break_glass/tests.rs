//! Requests on a real store: what a writer of the database cannot do, what policies and time change, and what the grant's own
//! transaction reads again.

use std::collections::BTreeMap;
use std::sync::Arc;

use ichor_wire::log::Kind;
use jiff::SignedDuration;
use tokio::sync::watch;

use super::*;
use crate::audit::RecordError;
use crate::audit::tests::Room;
use crate::domain::{BreakGlassState, Cluster, GrantId, HumanClaim, PageUse, Person, Request, Role};
use crate::identity::fixture::{key, who};
use crate::policy::{Limits, Quorum, Source, decide};
use crate::store::conformance::{logged_in, noon, session};
use crate::store::{ApprovalRow, Condition, SessionRow};

pub(super) const POLICIES: &str = r#"
    @id("break") @approvals("1") @max_ttl("30m") @wait("15m")
    permit (principal, action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
    @id("approve") permit (principal, action == Action::"break-glass:approve", resource);
"#;

pub(crate) fn declared() -> Clusters {
    Arc::new(BTreeMap::from([(prod().name, Arc::new(prod()))]))
}

/// What a broker makes of this room's requests.
fn broker(
    room: &Room,
    policies: watch::Receiver<Arc<PolicySet>>,
    clusters: Clusters,
    sinks: Vec<String>,
    apart: Apart,
) -> BreakGlass {
    BreakGlass::new(
        room.store.clone(),
        room.sequencer.clone(),
        room.clock.clone(),
        Arc::new(key()),
        policies,
        watch::channel(clusters).1,
        Settings {
            review_within: SignedDuration::from_hours(24),
            sinks: watch::channel(sinks).1,
            apart,
            bounds: bounds(),
        },
    )
}

pub(crate) struct Glass {
    pub(crate) room: Room,
    pub(crate) glass: Arc<BreakGlass>,
    policies: watch::Sender<Arc<PolicySet>>,
    pub(crate) ada: Identity,
    pub(crate) bob: Identity,
}

/// More than any test asks for.
pub(super) fn bounds() -> AskBounds {
    AskBounds { open: 999, hourly: 9_999, unreviewed_alone: 99 }
}

/// The provider of those who are here tells humans apart, and does not: as each test has it.
pub(super) fn apart() -> Apart {
    let Person { provider, issuer, .. } = at_corp("ada");
    let providers = [true, false].map(|tells| (provider.clone(), issuer.clone(), tells)).to_vec();
    Apart { providers, ..Apart::default() }
}

pub(super) fn load(text: &str) -> Arc<PolicySet> {
    let source = Source { name: "test.cedar".into(), text: text.into() };
    Arc::new(PolicySet::load(&[source], Limits::default()).unwrap())
}

pub(super) fn prod() -> Cluster {
    Cluster {
        name: ClusterName::new("prod").unwrap(),
        labels: BTreeMap::new(),
        endpoints: Vec::new(),
        nodes: Vec::new(),
        ca: String::new(),
    }
}

pub(super) fn someone(number: u8, person: Person) -> Identity {
    who(&SessionRow { user: person.subject.clone(), person, ..session(number) })
}

pub(super) fn at_corp(subject: &str) -> Person {
    Person { subject: subject.into(), ..session(1).person }
}

pub(super) fn asks() -> Ask {
    Ask {
        cluster: prod().name,
        roles: vec![Role::Admin],
        ttl: None,
        reason: "INC-42".into(),
        nodes: Vec::new(),
        ticket: None,
        address: address(),
        self_service: false,
    }
}

pub(super) fn address() -> std::net::IpAddr {
    "192.0.2.7".parse().unwrap()
}

impl Glass {
    /// The same requests, by a broker that was configured anew.
    pub(crate) fn anew(&self, apart: Apart, clusters: Clusters) -> BreakGlass {
        broker(&self.room, watch::channel(load(POLICIES)).1, clusters, Vec::new(), apart)
    }

    pub(crate) async fn new() -> Self {
        let room = Room::new([]);
        let ada = logged_in(&*room.store, 1).await;
        let (policies, policies_in_force) = watch::channel(load(POLICIES));
        let glass = Arc::new(broker(&room, policies_in_force, declared(), vec!["pager".into()], apart()));
        Self { room, glass, policies, ada: who(&ada), bob: someone(2, at_corp("bob")) }
    }

    pub(crate) async fn asked(&self) -> BreakGlassId {
        self.glass.ask(&self.ada, asks()).await.unwrap()
    }

    pub(crate) async fn approve(&self, id: BreakGlassId, by: &Identity) -> Result<(), BreakGlassError> {
        let (_, contents) = self.glass.load(id).await?;
        self.glass.approve(by, id, contents.hash, None, address()).await
    }

    pub(crate) async fn approved(&self, id: BreakGlassId) -> Result<Approved, BreakGlassError> {
        self.glass.approved(&self.ada, id, "key").await
    }

    /// From now on policy lets everyone in alone, for ten minutes.
    pub(crate) fn lets_in_alone(&self) {
        let alone = r#"@id("alone") @self_service("true") @max_ttl("10m")
            permit (principal, action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);"#;
        self.policies.send_replace(load(&format!("{POLICIES}{alone}")));
    }

    pub(crate) async fn asked_alone(&self) -> Result<BreakGlassId, BreakGlassError> {
        self.glass.ask(&self.ada, Ask { self_service: true, ..asks() }).await
    }

    /// The log as people are told of it.
    pub(crate) async fn entries(&self) -> Vec<ichor_wire::api::AuditEntry> {
        crate::audit::entries_from(&*self.room.store, &crate::store::EntryFilter::default(), 0, 1000).await.unwrap()
    }

    /// What policy makes of an approved request.
    pub(crate) fn decided(&self, approved: &Approved) -> crate::policy::Grant {
        let request = Request {
            cluster: prod().name,
            roles: approved.quorum.roles.clone(),
            ttl: Some(approved.left),
            reason: Some("INC-42".into()),
            public_key: b"a key".to_vec(),
            csr: Vec::new(),
            address: address(),
        };
        let policies = Arc::clone(&self.policies.borrow());
        let id = GrantId(uuid::Uuid::from_bytes([6; 16]));
        let now = crate::clock::Clock::now(&*self.room.clock);
        decide(&policies, &self.ada, &prod(), &request, Some(&approved.quorum), id, now).unwrap()
    }
}

impl Glass {
    /// A certificate came of the grant that was decided.
    pub(crate) async fn made(&self) {
        let grant = GrantId(uuid::Uuid::from_bytes([6; 16]));
        let keys = LockKeys { grant: Some(grant), ..LockKeys::of(self.ada.person(), None, None) };
        let change = Change::CertificateMade { keys: Box::new(keys), now: noon() };
        self.room.sequencer.note(Content::of(Kind::Issued), Some(change)).await.unwrap();
    }
}

/// Puts an approval into the database, as whoever can write it would.
async fn forge(glass: &Glass, id: BreakGlassId, approval: ApprovalRow) {
    let change = BreakGlassChange::Approve { request: id, approval: Box::new(approval) };
    let change = Change::BreakGlass { change, now: noon(), keys: None };
    glass.room.sequencer.note(Content::of(Kind::BreakGlassApproval), Some(change)).await.unwrap();
}

#[tokio::test]
async fn an_approval_that_the_broker_did_not_write_does_not_count() {
    let glass = Glass::new().await;
    let (id, other) = (glass.asked().await, glass.asked().await);
    glass.approve(other, &glass.bob).await.unwrap();
    let real = glass.glass.load(other).await.unwrap().0.approvals.remove(0);
    let (_, contents) = glass.glass.load(id).await.unwrap();
    // moved here from another request, and made to fit
    forge(&glass, id, ApprovalRow { hash: contents.hash, ..real }).await;
    let row = glass.glass.load(id).await.unwrap().0.request;
    assert_eq!(row.state, BreakGlassState::Approved, "the database says so");
    let refused = glass.approved(id).await.unwrap_err();
    assert!(matches!(refused, BreakGlassError::Suspect(_)), "{refused}");
    assert!(refused.to_string().contains("too few approvals that count"), "{refused}");
    let seen = glass.glass.show(&glass.bob, id).await.unwrap();
    assert_eq!((seen.file.approvals.len(), seen.file.request.given), (0, 0), "nor is it shown");
    assert!(seen.suspect.unwrap().contains("too few approvals"));
}

#[tokio::test]
async fn a_request_that_the_broker_did_not_write_is_none() {
    let glass = Glass::new().await;
    let id = glass.asked().await;
    let row = glass.glass.load(id).await.unwrap().0.request;
    let (one, more) = (uuid::Uuid::from_u128(9), row.contents.replace("\"approvals\":1", "\"approvals\":9"));
    let copies = [
        ("moved", crate::store::BreakGlassRow { id: BreakGlassId(one), ..row.clone() }),
        (
            "changed",
            crate::store::BreakGlassRow {
                id: BreakGlassId(uuid::Uuid::from_u128(10)),
                hash: <sha2::Sha256 as sha2::Digest>::digest(more.as_bytes()).into(),
                contents: more,
                ..row.clone()
            },
        ),
        (
            "another human's",
            crate::store::BreakGlassRow { id: BreakGlassId(uuid::Uuid::from_u128(11)), human: [9; 32], ..row.clone() },
        ),
    ];
    for (what, copy) in copies {
        let id = copy.id;
        let change = BreakGlassChange::Ask { request: Box::new(copy), bounds: bounds() };
        glass.record_forged(change).await;
        assert!(matches!(glass.glass.show(&glass.ada, id).await, Err(BreakGlassError::Unknown)), "{what}");
        assert!(matches!(glass.approved(id).await, Err(BreakGlassError::Unknown)), "{what}");
    }
}

impl Glass {
    pub(crate) async fn record_forged(&self, change: BreakGlassChange) {
        let change = Change::BreakGlass { change, now: noon(), keys: None };
        self.room.sequencer.note(Content::of(Kind::BreakGlassRequest), Some(change)).await.unwrap();
    }
}

/// CVE-2025-6004, CVE-2025-6013: a variant of a name is another account, and one of another provider is nobody to compare with.
#[tokio::test]
async fn case_15_variants_of_a_name_are_no_second_approver() {
    let glass = Glass::new().await;
    let id = glass.asked().await;
    let own = glass.ada.person().clone();
    let twin = someone(3, own.clone());
    assert!(matches!(glass.approve(id, &twin).await, Err(BreakGlassError::Refused(_))), "another session");
    let elsewhere = Person { provider: crate::domain::ProviderAlias::new("other").unwrap(), ..own.clone() };
    for other in [elsewhere, Person { issuer: own.issuer.replace("https://id", "https://ID"), ..own.clone() }] {
        let refused = glass.approve(id, &someone(3, other.clone())).await.unwrap_err();
        assert!(refused.to_string().contains("may be the same person's"), "{other:?}: {refused}");
    }
    assert_eq!(glass.glass.load(id).await.unwrap().0.approvals, []);
}

#[tokio::test]
async fn under_other_policies_an_approval_is_none() {
    let glass = Glass::new().await;
    let (id, late) = (glass.asked().await, glass.asked().await);
    glass.approve(id, &glass.bob).await.unwrap();
    let approved = glass.approved(id).await.unwrap();
    glass.policies.send_replace(load(&POLICIES.replace("30m", "31m")));
    assert!(matches!(glass.approve(late, &glass.bob).await, Err(BreakGlassError::Refused(_))));
    let request = Request {
        cluster: prod().name,
        roles: vec![Role::Admin],
        ttl: None,
        reason: Some("INC-42".into()),
        public_key: Vec::new(),
        csr: Vec::new(),
        address: address(),
    };
    let policies = Arc::clone(&glass.policies.borrow());
    let id = GrantId(uuid::Uuid::nil());
    let refusal = decide(&policies, &glass.ada, &prod(), &request, Some(&approved.quorum), id, noon()).unwrap_err();
    assert!(refusal.sentence.contains("the policies have changed"), "{refusal}");
    // and what is for other roles or someone else decides nothing
    let policies = load(POLICIES);
    for wrong in [
        Quorum { roles: vec![Role::Reader], ..approved.quorum.clone() },
        Quorum { person: glass.bob.person().clone(), ..approved.quorum.clone() },
        Quorum { approvers: Vec::new(), ..approved.quorum.clone() },
        Quorum { needed: 2, ..approved.quorum.clone() },
        Quorum { approvers: Vec::new(), needed: 0, ..approved.quorum.clone() },
    ] {
        assert!(decide(&policies, &glass.ada, &prod(), &request, Some(&wrong), id, noon()).is_err(), "{wrong:?}");
    }
    assert!(decide(&policies, &glass.ada, &prod(), &request, None, id, noon()).is_err());
    assert!(decide(&policies, &glass.ada, &prod(), &request, Some(&approved.quorum), id, noon()).is_ok());
}

/// A change of policies takes the approvals, and nobody's way to clear the request away: an earlier set may come back.
#[tokio::test]
async fn under_other_policies_a_request_can_still_be_denied_and_revoked() {
    let glass = Glass::new().await;
    let (waits, open) = (glass.asked().await, glass.asked().await);
    glass.approve(open, &glass.bob).await.unwrap();
    glass.policies.send_replace(load(&POLICIES.replace("30m", "31m")));
    let may = async |id| glass.glass.show(&glass.bob, id).await.unwrap().may;
    assert_eq!((may(waits).await, may(open).await), (vec!["deny"], vec!["revoke"]));
    let seen = glass.glass.show(&glass.bob, waits).await.unwrap();
    assert!(!matches!(glass.glass.by_page(&glass.bob, &seen), ByPage::Nothing(_)), "a browser denies it too");
    let hash = seen.contents.hash;
    glass.glass.deny(&glass.bob, waits, hash, None, address()).await.unwrap();
    glass.glass.revoke(&glass.bob, open, None, address()).await.unwrap();
    // the earlier policies are back, and nothing with them
    glass.policies.send_replace(load(POLICIES));
    for (id, state) in [(waits, BreakGlassState::Denied), (open, BreakGlassState::Revoked)] {
        assert_eq!(glass.glass.load(id).await.unwrap().0.request.state, state);
    }
    assert!(glass.approved(open).await.is_err());
    // whom the policies in force do not let approve ends nothing
    let id = glass.asked().await;
    let hash = glass.glass.load(id).await.unwrap().1.hash;
    let mine = r#"@id("read") permit (principal, action == Action::"audit:read", resource);"#;
    glass.policies.send_replace(load(mine));
    let refused = glass.glass.deny(&glass.bob, id, hash, None, address()).await;
    assert!(matches!(refused, Err(BreakGlassError::Refused(_))), "{refused:?}");
}

/// Whatever others have asked for since: it is found by whoever may decide it.
#[tokio::test]
async fn a_request_is_found_behind_any_number_of_others() {
    let glass = Glass::new().await;
    glass.policies.send_replace(load(
        r#"@id("break") @approvals("1") @wait("15m")
        permit (principal, action in [Action::"break-glass:request", Action::"hold:os:admin", Action::"hold:os:operator"], resource);
        @id("approve") permit (principal, action == Action::"break-glass:approve", resource);
        @id("not-of-admins") forbid (principal, action == Action::"break-glass:approve", resource)
        when { context.roles.contains("os:admin") };"#,
    ));
    let id = glass.glass.ask(&glass.ada, Ask { roles: vec![Role::Operator], ..asks() }).await.unwrap();
    // ids of one moment are in no order
    glass.room.clock.advance(SignedDuration::from_secs(1));
    for _ in 0..600 {
        glass.asked().await;
    }
    let (bob, all) = (&glass.bob, crate::store::BreakGlassFilter::default());
    let ids = |listed: &(Vec<Seen>, Option<BreakGlassId>)| {
        listed.0.iter().map(|seen| seen.file.request.id).collect::<Vec<_>>()
    };
    let listed = glass.glass.list(bob, &all, None, 100).await.unwrap();
    assert_eq!((ids(&listed), listed.1), (vec![id], None));
    let listed = glass.glass.list(bob, &all, None, 1).await.unwrap();
    assert_eq!((ids(&listed), listed.1), (vec![id], None), "the last row of all");
    let to_decide = glass.glass.to_decide(bob, None, 51).await.unwrap();
    assert_eq!((ids(&to_decide), to_decide.1), (vec![id], None));
    // pages follow one another, and none is missing
    let (mut found, mut next) = (0, None);
    loop {
        let (seen, behind) = glass.glass.list(&glass.ada, &all, next, 250).await.unwrap();
        found += seen.len();
        match behind {
            Some(behind) => next = Some(behind),
            None => break,
        }
    }
    assert_eq!(found, 601);
    assert_eq!(glass.glass.to_decide(&glass.ada, None, 51).await.unwrap().0.len(), 0, "one's own is not to be decided");
}

#[tokio::test]
async fn case_28_what_was_taken_away_after_the_decision_gets_no_recorded_grant() {
    let glass = Glass::new().await;
    let id = glass.asked().await;
    glass.approve(id, &glass.bob).await.unwrap();
    let grant = glass.decided(&glass.approved(id).await.unwrap());
    glass.glass.revoke(&glass.bob, id, None, address()).await.unwrap();
    let refused = glass.room.sequencer.record(grant).await.unwrap_err();
    assert_eq!(refused, RecordError::Refused(Condition::RequestMoved));

    let id = glass.asked().await;
    glass.approve(id, &glass.bob).await.unwrap();
    let approved = glass.approved(id).await.unwrap();
    let (first, second) = (glass.decided(&approved), glass.decided(&approved));
    glass.room.sequencer.record(first).await.unwrap();
    assert_eq!(glass.room.sequencer.record(second).await.unwrap_err(), RecordError::Refused(Condition::RequestMoved));
}

#[tokio::test]
async fn a_grant_ends_with_what_was_approved() {
    let glass = Glass::new().await;
    let id = glass.asked().await;
    glass.approve(id, &glass.bob).await.unwrap();
    glass.room.clock.advance(SignedDuration::from_mins(20));
    let approved = glass.approved(id).await.unwrap();
    assert_eq!(glass.decided(&approved).not_after(), noon() + SignedDuration::from_mins(30));
    let long = Approved { left: SignedDuration::from_hours(5), ..approved };
    assert_eq!(glass.decided(&long).not_after(), noon() + SignedDuration::from_mins(30));
}

#[tokio::test]
async fn what_time_ends_is_recorded_once() {
    let glass = Glass::new().await;
    let (waits, used, unused) = (glass.asked().await, glass.asked().await, glass.asked().await);
    for id in [used, unused] {
        glass.approve(id, &glass.bob).await.unwrap();
    }
    glass.room.sequencer.record(glass.decided(&glass.approved(used).await.unwrap())).await.unwrap();
    glass.glass.time_out().await.unwrap();
    glass.room.clock.advance(SignedDuration::from_mins(30));
    glass.glass.time_out().await.unwrap();
    glass.glass.time_out().await.unwrap();
    let over: Vec<_> =
        glass.room.log().await.into_iter().filter(|entry| entry.content.kind == Kind::BreakGlassOver).collect();
    assert_eq!(over.len(), 2, "the used one is over already");
    for (id, state) in [(waits, "expired"), (used, "used"), (unused, "lapsed")] {
        assert_eq!(glass.glass.load(id).await.unwrap().0.request.state.as_str(), state);
    }
}

#[tokio::test]
async fn a_log_that_is_opened_again_ends_each_request_by_an_entry() {
    let glass = Glass::new().await;
    let (waits, unused, used) = (glass.asked().await, glass.asked().await, glass.asked().await);
    for id in [unused, used] {
        glass.approve(id, &glass.bob).await.unwrap();
    }
    glass.room.sequencer.record(glass.decided(&glass.approved(used).await.unwrap())).await.unwrap();
    for _ in 0..2 {
        end_all(&*glass.room.store, &glass.room.sequencer, &*glass.room.clock).await.unwrap();
    }
    let log = glass.room.log().await;
    let over = log.iter().filter(|entry| entry.content.kind == Kind::BreakGlassOver);
    let said: BTreeMap<_, _> = over.map(|entry| (&entry.content.break_glass, &entry.content.message)).collect();
    // the one use of the last ended it before
    assert_eq!(said.len(), 2);
    for (id, state) in [(waits, "expired"), (unused, "lapsed"), (used, "used")] {
        assert_eq!(glass.glass.load(id).await.unwrap().0.request.state.as_str(), state);
        if id != used {
            assert_eq!(said[&Some(id.0.as_bytes().to_vec())].as_deref(), Some(state));
        }
        assert!(glass.approved(id).await.is_err(), "{state}");
    }
}

/// A restart between any two steps changes nothing: all of it is in the store.
#[tokio::test]
async fn another_broker_goes_on_where_one_stopped() {
    let mut glass = Glass::new().await;
    let again = |glass: &Glass| Arc::new(glass.anew(apart(), declared()));
    let id = glass.asked().await;
    glass.glass = again(&glass);
    glass.approve(id, &glass.bob).await.unwrap();
    glass.glass = again(&glass);
    let grant = glass.decided(&glass.approved(id).await.unwrap());
    glass.glass = again(&glass);
    glass.room.sequencer.record(grant).await.unwrap();
    glass.made().await;
    glass.glass = again(&glass);
    glass.glass.review(&glass.bob, id, Label::Drill, "a drill", address()).await.unwrap();
    assert_eq!(glass.glass.load(id).await.unwrap().0.request.state, BreakGlassState::Reviewed);
}

/// A clock that goes back records nothing; one that jumps ahead ends what waits.
#[tokio::test]
async fn case_25_a_clock_that_jumps_gives_nobody_more() {
    let glass = Glass::new().await;
    let id = glass.asked().await;
    glass.approve(id, &glass.bob).await.unwrap();
    let approved = glass.approved(id).await.unwrap();
    glass.room.clock.advance(SignedDuration::from_hours(-1));
    let refused = glass.room.sequencer.record(glass.decided(&approved)).await.unwrap_err();
    assert_eq!(refused, RecordError::Refused(Condition::ClockWentBack));
    glass.room.clock.advance(SignedDuration::from_hours(3));
    assert!(matches!(glass.approved(id).await, Err(BreakGlassError::State(_))));
}

/// Bob in a browser, who signed in so many seconds ago for this.
fn in_browser(page: PageUse, seconds: Option<i64>) -> Identity {
    let auth_time = seconds.map(|seconds| noon() - SignedDuration::from_secs(seconds));
    who(&SessionRow { user: "bob".into(), person: at_corp("bob"), page: Some(page), auth_time, ..session(2) })
}

#[tokio::test]
async fn a_browser_decides_on_what_its_fresh_login_was_for() {
    let glass = Glass::new().await;
    let (id, other) = (glass.asked().await, glass.asked().await);
    let hash = glass.glass.load(id).await.unwrap().1.hash;
    let of_other = glass.glass.load(other).await.unwrap().1.hash;
    let right = PageUse::Decide { request: id, hash };
    for (what, page, seconds) in [
        ("it only looks", PageUse::Look, Some(0)),
        ("for another request", PageUse::Decide { request: other, hash }, Some(0)),
        ("for other contents", PageUse::Decide { request: id, hash: of_other }, Some(0)),
        ("too long ago", right, Some(301)),
        ("in a time to come", right, Some(-61)),
        ("at a time that nobody told", right, None),
    ] {
        let bob = in_browser(page, seconds);
        for approves in [true, false] {
            let done = match approves {
                true => glass.glass.approve(&bob, id, hash, None, address()).await,
                false => glass.glass.deny(&bob, id, hash, None, address()).await,
            };
            assert!(matches!(done, Err(BreakGlassError::NotFresh)), "{what}: {done:?}");
        }
    }
    glass.glass.approve(&in_browser(right, Some(300)), id, hash, None, address()).await.unwrap();
    assert!(glass.approved(id).await.is_ok());
}

#[tokio::test]
async fn accounts_are_told_apart_by_the_claim_or_not_at_all() {
    let glass = Glass::new().await;
    let plain = glass.asked().await;
    let of = |number: u8, subject: &str, provider: &str, human: HumanClaim| {
        let provider = crate::domain::ProviderAlias::new(provider).unwrap();
        let person = Person { provider, ..at_corp(subject) };
        who(&SessionRow { user: subject.into(), person, human, ..session(number) })
    };
    let (seven, eight) = (HumanClaim::of("7"), HumanClaim::of("8"));
    let refused = |done: Result<(), BreakGlassError>| matches!(done, Err(BreakGlassError::Refused(_)));
    for bob in [
        of(2, "bob", "other", HumanClaim::NotAsked),
        of(2, "bob", "corp", seven),
        of(2, "bob", "corp", HumanClaim::Untold),
    ] {
        assert!(refused(glass.approve(plain, &bob).await), "{bob:?}");
    }
    let asker = of(3, "ada-admin", "corp", seven);
    let told = glass.glass.ask(&asker, asks()).await.unwrap();
    for bob in [
        of(2, "bob", "corp", HumanClaim::NotAsked),
        of(2, "bob", "corp", HumanClaim::Untold),
        of(2, "bob", "corp", seven),
        of(2, "bob", "other", seven),
    ] {
        assert!(refused(glass.approve(told, &bob).await), "{bob:?}");
    }
    glass.approve(told, &of(2, "bob", "other", eight)).await.unwrap();
    let nobody = of(4, "eve", "corp", HumanClaim::Untold);
    assert!(matches!(glass.glass.ask(&nobody, asks()).await, Err(BreakGlassError::Refused(_))));
}
