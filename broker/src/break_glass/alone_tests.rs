//! Being let in alone: policy says so, someone outside was told of exactly this request, and the grant's own transaction reads
//! that again. And what is told afterwards, until someone has reviewed it.

use std::sync::Arc;

use ichor_wire::log::Kind;
use jiff::SignedDuration;

use super::tests::Glass;
use super::*;
use crate::audit::RecordError;
use crate::domain::BreakGlassState;
use crate::store::conformance::noon;
use crate::store::{Condition, ToldRow};

fn address() -> std::net::IpAddr {
    "192.0.2.7".parse().unwrap()
}

async fn state(glass: &Glass, id: BreakGlassId) -> BreakGlassState {
    glass.glass.load(id).await.unwrap().0.request.state
}

/// Has the pager take the notification of the newest request.
async fn told(glass: &Glass) {
    let request = glass.entries().await.into_iter().rfind(|entry| entry.kind == "break-glass-request").unwrap();
    glass.glass.told(&request, "pager").await.unwrap();
}

#[tokio::test]
async fn nobody_is_let_in_alone_unless_policy_says_so_and_a_sink_is_there() {
    let glass = Glass::new().await;
    let refused = glass.asked_alone().await.unwrap_err();
    assert!(matches!(&refused, BreakGlassError::Refused(_)), "{refused}");
    assert!(refused.to_string().contains("only with the approval of another person"), "{refused}");
    glass.lets_in_alone();
    let id = glass.asked_alone().await.unwrap();
    assert_eq!(state(&glass, id).await, BreakGlassState::Pending);

    let mut deaf = Glass::new().await;
    deaf.lets_in_alone();
    let inner = Arc::get_mut(&mut deaf.glass).unwrap();
    inner.settings.sinks = tokio::sync::watch::channel(Vec::new()).1;
    let refused = deaf.asked_alone().await.unwrap_err();
    assert!(refused.to_string().contains("no notification sink would be told"), "{refused}");
    let last = deaf.entries().await.pop().unwrap();
    assert_eq!((last.kind.as_str(), last.detail["self_service"].as_str()), ("refusal", "true"), "and it is recorded");
}

#[tokio::test]
async fn it_opens_once_someone_outside_was_told_and_not_before() {
    let glass = Glass::new().await;
    glass.lets_in_alone();
    let id = glass.asked_alone().await.unwrap();
    let refused = glass.approved(id).await.unwrap_err();
    assert!(refused.to_string().contains("waits until a notification sink has accepted"), "{refused}");
    // an approval does not stand for it
    let refused = glass.approve(id, &glass.bob).await.unwrap_err();
    assert!(refused.to_string().contains("nobody approves this request"), "{refused}");

    glass.room.clock.advance(SignedDuration::from_mins(1));
    told(&glass).await;
    let last = glass.entries().await.pop().unwrap();
    assert_eq!((last.kind.as_str(), last.detail["told"].as_str()), ("break-glass-told", "pager"));
    let approved = glass.approved(id).await.unwrap();
    assert_eq!(approved.quorum.told.as_deref(), Some("pager"));
    assert_eq!(approved.left, SignedDuration::from_mins(10), "from the acceptance on, and no longer than policy says");
    let (grant, again) = (glass.decided(&approved), glass.decided(&approved));
    assert_eq!(grant.not_after(), noon() + SignedDuration::from_mins(11));
    glass.room.sequencer.record(grant).await.unwrap();
    let last = glass.entries().await.pop().unwrap();
    assert_eq!((last.kind.as_str(), last.detail["self_service"].as_str()), ("grant", "true"), "louder than others");
    let refused = glass.room.sequencer.record(again).await.unwrap_err();
    assert_eq!(refused, RecordError::Refused(Condition::RequestMoved), "one certificate");
}

/// That someone was told stands for no approval, and an approval not for that.
#[tokio::test]
async fn what_stands_behind_a_request_fits_what_policy_wants() {
    use crate::domain::{GrantId, Request, Role};
    use crate::policy::{Quorum, decide};
    let glass = Glass::new().await;
    glass.lets_in_alone();
    let id = glass.asked_alone().await.unwrap();
    told(&glass).await;
    let alone = glass.approved(id).await.unwrap();
    let request = Request {
        cluster: alone.contents.cluster.clone(),
        roles: vec![Role::Admin],
        ttl: None,
        reason: Some("INC-42".into()),
        public_key: Vec::new(),
        csr: Vec::new(),
        address: address(),
    };
    let policies = std::sync::Arc::clone(&glass.glass.policies.borrow());
    let cluster = glass.glass.cluster(&alone.contents.cluster).unwrap();
    let decided = |quorum: &Quorum| {
        decide(&policies, &glass.ada, &cluster, &request, Some(quorum), GrantId(uuid::Uuid::nil()), noon())
    };
    assert_eq!(decided(&alone.quorum).unwrap().policies(), ["alone"]);
    let quorum = || alone.quorum.clone();
    for wrong in [
        Quorum { told: None, ..quorum() },
        Quorum { needed: 1, ..quorum() },
        Quorum { approvers: vec!["bob".into()], ..quorum() },
        Quorum { approvers: vec!["bob".into()], told: Some("pager".into()), needed: 1, ..quorum() },
    ] {
        assert!(decided(&wrong).is_err(), "{wrong:?}");
    }
    let approved = Quorum { approvers: vec!["bob".into()], told: None, needed: 1, ..quorum() };
    assert_eq!(decided(&approved).unwrap().policies(), ["break"]);
}

#[tokio::test]
async fn what_was_told_of_another_request_or_too_late_opens_nothing() {
    let glass = Glass::new().await;
    glass.lets_in_alone();
    let (first, second) = (glass.asked_alone().await.unwrap(), glass.asked_alone().await.unwrap());
    told(&glass).await;
    assert_eq!(
        (state(&glass, first).await, state(&glass, second).await),
        (BreakGlassState::Pending, BreakGlassState::Approved)
    );
    // the entry says another hash than the request has
    let mut entries = glass.entries().await;
    let request = entries.iter_mut().find(|entry| entry.kind == "break-glass-request").unwrap();
    request.detail.insert("contents".into(), "00".repeat(32));
    glass.glass.told(request, "pager").await.unwrap();
    assert_eq!(state(&glass, first).await, BreakGlassState::Pending);
    // one that others approve is not opened so
    let others = glass.asked().await;
    told(&glass).await;
    assert_eq!(state(&glass, others).await, BreakGlassState::Pending);
    // and one that was denied stays so
    let denied = glass.asked_alone().await.unwrap();
    let hash = glass.glass.load(denied).await.unwrap().1.hash;
    glass.glass.deny(&glass.bob, denied, hash, None, address()).await.unwrap();
    told(&glass).await;
    assert_eq!(state(&glass, denied).await, BreakGlassState::Denied);
    // nor one that waited too long
    let late = glass.asked_alone().await.unwrap();
    glass.room.clock.advance(SignedDuration::from_hours(1));
    told(&glass).await;
    assert_eq!(state(&glass, late).await, BreakGlassState::Pending);
    assert!(glass.approved(late).await.is_err());
}

/// Whoever writes the database can say that someone was told; the broker's mark on that they cannot make.
#[tokio::test]
async fn that_someone_was_told_is_believed_only_with_the_brokers_mark() {
    let glass = Glass::new().await;
    glass.lets_in_alone();
    let (real, forged) = (glass.asked_alone().await.unwrap(), glass.asked_alone().await.unwrap());
    let hash = glass.glass.load(forged).await.unwrap().1.hash;
    let row = |tag: [u8; 32]| Box::new(ToldRow { hash, sink: "pager".into(), at: noon(), tag });
    glass.record_forged(BreakGlassChange::Told { request: forged, told: row([7; 32]) }).await;
    assert_eq!(state(&glass, forged).await, BreakGlassState::Approved, "the database says so");
    let refused = glass.approved(forged).await.unwrap_err();
    assert!(refused.to_string().contains("no notification sink has accepted"), "{refused}");

    let entry = glass.entries().await.into_iter().find(|entry| entry.kind == "break-glass-request").unwrap();
    glass.glass.told(&entry, "pager").await.unwrap();
    assert!(glass.approved(real).await.is_ok());
    let mark = glass.glass.load(real).await.unwrap().0.told.unwrap().tag;
    let moved = glass.asked_alone().await.unwrap();
    let hash = glass.glass.load(moved).await.unwrap().1.hash;
    let told = Box::new(ToldRow { hash, sink: "pager".into(), at: noon(), tag: mark });
    glass.record_forged(BreakGlassChange::Told { request: moved, told }).await;
    assert!(glass.approved(moved).await.is_err(), "another request's mark");
}

#[tokio::test]
async fn a_use_that_nobody_reviews_is_told_once_a_day_until_someone_does() {
    let glass = Glass::new().await;
    let id = glass.asked().await;
    glass.approve(id, &glass.bob).await.unwrap();
    glass.room.sequencer.record(glass.decided(&glass.approved(id).await.unwrap())).await.unwrap();
    glass.made().await;
    let told =
        async || glass.room.log().await.iter().filter(|entry| entry.content.kind == Kind::BreakGlassOverdue).count();
    let after = async |hours: i64, minutes: i64| {
        glass.room.clock.advance(SignedDuration::from_hours(hours) + SignedDuration::from_mins(minutes));
        glass.glass.remind().await.unwrap()
    };
    assert_eq!((after(23, 59).await, told().await), (0, 0));
    assert_eq!((after(0, 1).await, told().await), (1, 1));
    assert_eq!((after(23, 59).await, told().await), (1, 1), "once a day");
    assert_eq!((after(0, 1).await, told().await), (1, 2));
    let entry = glass.entries().await.pop().unwrap();
    assert_eq!((entry.kind.as_str(), entry.detail["requester"].as_str()), ("break-glass-overdue", "ada"));
    glass.glass.review(&glass.bob, id, Label::Drill, "a drill", address()).await.unwrap();
    assert_eq!((after(48, 0).await, told().await), (0, 2));
}

#[tokio::test]
async fn of_two_brokers_one_says_that_a_review_is_overdue() {
    let glass = Glass::new().await;
    let id = glass.asked().await;
    glass.approve(id, &glass.bob).await.unwrap();
    glass.room.sequencer.record(glass.decided(&glass.approved(id).await.unwrap())).await.unwrap();
    glass.room.clock.advance(SignedDuration::from_hours(24));
    let (one, other) = tokio::join!(glass.glass.remind(), glass.glass.remind());
    assert_eq!((one.unwrap(), other.unwrap()), (1, 1));
    let log = glass.room.log().await;
    assert_eq!(log.iter().filter(|entry| entry.content.kind == Kind::BreakGlassOverdue).count(), 1);
}

/// Else the request would wait for ever for what came, and `show` say that nobody was told.
#[tokio::test]
async fn a_lock_stops_the_use_and_swallows_no_acceptance() {
    use crate::domain::{LockId, LockTarget};
    use crate::store::{LockChange, LockRow};
    let glass = Glass::new().await;
    glass.lets_in_alone();
    let id = glass.asked_alone().await.unwrap();
    let lock = LockRow {
        id: LockId(uuid::Uuid::from_u128(1)),
        target: LockTarget::Everything,
        by: "bob".into(),
        setter: None,
        reason: "stolen laptop".into(),
        at: noon(),
        until: None,
        asked: None,
        ended: None,
    };
    let change = LockChange::Set { lock: Box::new(lock), session: None, quota: None };
    let lock_it = Change::Lock { change, now: noon() };
    glass.room.sequencer.note(Content::of(Kind::Lock), Some(lock_it)).await.unwrap();
    told(&glass).await;
    assert_eq!(state(&glass, id).await, BreakGlassState::Approved);
    let grant = glass.decided(&glass.approved(id).await.unwrap());
    let refused = glass.room.sequencer.record(grant).await.unwrap_err();
    assert_eq!(refused, RecordError::Refused(Condition::Locked), "it is the use that a lock stops");
}
