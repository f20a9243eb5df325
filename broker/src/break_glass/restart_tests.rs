//! A broker that stops after any step and is started again on the same database, and clocks that jump: nothing that was over comes
//! back to life, and nothing is granted beyond its time.

use ichor_wire::log::Kind;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::suspect_tests::{Signed, sqlite};
use super::*;
use crate::clock::Clock;
use crate::domain::BreakGlassState;
use crate::store::conformance::noon;

/// How many certificates each request allows.
const USES: u8 = 2;

#[derive(Clone, Copy, Debug)]
enum Act {
    Approve,
    Deny,
    Cancel,
    Revoke,
    /// A grant, and whether a certificate comes of it.
    Use(bool),
    /// A grant, behind which it is revoked; and whether a certificate comes of it all the same.
    RevokeInUse(bool),
    /// A grant, behind which the broker stops; another starts, and a minute later gives back what was used.
    StopInUse,
    Review,
    TimeOut,
    Restart,
    /// The clock jumps by so many minutes.
    Jump(i64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Approve),
        1 => Just(Act::Deny),
        1 => Just(Act::Cancel),
        1 => Just(Act::Revoke),
        4 => any::<bool>().prop_map(Act::Use),
        1 => any::<bool>().prop_map(Act::RevokeInUse),
        2 => Just(Act::StopInUse),
        2 => Just(Act::Review),
        2 => Just(Act::TimeOut),
        5 => Just(Act::Restart),
        3 => (1..9_i64).prop_map(Act::Jump),
        1 => prop_oneof![Just(-180), Just(-20), Just(20), Just(180)].prop_map(Act::Jump),
    ]
}

/// What must be so, told from what was recorded alone.
struct Facts {
    waits_until: Timestamp,
    good_until: Option<Timestamp>,
    is_ended: bool,
    is_reviewed: bool,
    issued: u8,
    /// The newest entry's time: nothing is recorded before it.
    newest: Timestamp,
    session_until: Timestamp,
}

impl Facts {
    fn is_pending(&self, now: Timestamp) -> bool {
        !self.is_ended && self.good_until.is_none() && now < self.waits_until
    }

    fn is_good(&self, now: Timestamp) -> bool {
        !self.is_ended && self.issued < USES && self.good_until.is_some_and(|until| now < until)
    }

    /// Whether the act is done, as it must be at this time.
    fn take(&mut self, act: Act, now: Timestamp) -> bool {
        let can_record = now >= self.newest;
        let done = can_record
            && match act {
                Act::Approve | Act::Deny | Act::Cancel => self.is_pending(now),
                Act::Revoke => self.is_good(now),
                Act::Use(_) | Act::RevokeInUse(_) | Act::StopInUse => self.is_good(now) && now < self.session_until,
                Act::Review => {
                    let is_over = self.is_ended || self.issued == USES;
                    self.issued > 0 && is_over && !self.is_reviewed
                }
                Act::TimeOut | Act::Restart | Act::Jump(_) => true,
            };
        if done {
            match act {
                Act::Approve => self.good_until = now.checked_add(SignedDuration::from_mins(30)).ok(),
                Act::Deny | Act::Cancel | Act::Revoke => self.is_ended = true,
                Act::Use(is_issued) => self.issued += u8::from(is_issued),
                Act::RevokeInUse(is_issued) => {
                    self.issued += u8::from(is_issued);
                    self.is_ended = true;
                }
                Act::Review => self.is_reviewed = true,
                Act::TimeOut => {
                    let waited = self.good_until.is_none() && now >= self.waits_until;
                    let lapsed = self.issued < USES && self.good_until.is_some_and(|until| now >= until);
                    self.is_ended |= waited || lapsed;
                }
                Act::StopInUse | Act::Restart | Act::Jump(_) => {}
            }
        }
        done
    }
}

#[tokio::test]
async fn restarts_and_jumping_clocks_give_nobody_more() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let acts = proptest::collection::vec(act(), 1..25).new_tree(&mut runner).unwrap().current();
        walk(&acts).await;
    }
}

/// Each way through a request's life, with a restart behind every step.
#[tokio::test]
async fn a_restart_after_every_step_changes_nothing() {
    let lives: [&[Act]; 10] = [
        &[Act::Approve, Act::Use(true), Act::Use(true), Act::Review],
        &[Act::Approve, Act::Use(false), Act::Use(true), Act::Revoke, Act::Review],
        &[Act::Approve, Act::StopInUse, Act::Use(true), Act::StopInUse, Act::Use(true), Act::Use(true), Act::Review],
        &[Act::Approve, Act::StopInUse, Act::Revoke, Act::Use(true), Act::Review],
        &[Act::Approve, Act::Use(true), Act::RevokeInUse(false), Act::Use(true), Act::Review],
        &[Act::Approve, Act::Use(true), Act::RevokeInUse(true), Act::Use(true), Act::Review, Act::Review],
        &[Act::Approve, Act::RevokeInUse(false), Act::Revoke, Act::Use(true), Act::Review],
        &[Act::Deny, Act::Approve],
        &[Act::Cancel, Act::Approve],
        &[Act::Approve, Act::Revoke, Act::Use(true)],
    ];
    for life in lives {
        let acts: Vec<_> = life.iter().flat_map(|act| [*act, Act::Restart]).collect();
        walk(&acts).await;
    }
}

/// What was used when a broker stopped is given back, once nobody can be at it any more, and to the key that used it alone.
#[tokio::test]
async fn a_broker_that_stops_between_a_grant_and_its_outcome_costs_no_use() {
    let (folder, store) = sqlite();
    let signed = Signed::new(store, 1).await;
    let id = signed.asked().await;
    signed.approve(id).await.unwrap();
    let grant = signed.begins_a_use(id).await.unwrap();
    let signed = signed.restarted(&folder).await;
    let (state, used) = (async |signed: &Signed| signed.glass.load(id).await.unwrap().0.request, 1);
    signed.glass.give_back_abandoned().await.unwrap();
    assert_eq!(state(&signed).await.used, used, "whoever began may be at it still");
    // whatever the database says of its age
    let db = rusqlite::Connection::open(folder.path().join("ichor.db")).unwrap();
    let at: i64 = db.query_row("SELECT at FROM break_glass_use", [], |row| row.get(0)).unwrap();
    db.execute("UPDATE break_glass_use SET at = 0", []).unwrap();
    signed.glass.give_back_abandoned().await.unwrap();
    assert_eq!(state(&signed).await.used, used);
    db.execute("UPDATE break_glass_use SET at = ?1", [at]).unwrap();
    signed.clock.advance(SignedDuration::from_mins(1));
    // of two brokers one gives it back
    let (one, other) = tokio::join!(signed.glass.give_back_abandoned(), signed.glass.give_back_abandoned());
    one.unwrap();
    other.unwrap();
    let row = state(&signed).await;
    assert_eq!((row.state, row.used), (BreakGlassState::Approved, 0));
    let entries = crate::audit::entries_from(&*signed.store, &Default::default(), 0, 100).await.unwrap();
    let failed: Vec<_> = entries.iter().filter(|entry| entry.kind == Kind::IssueFailed.as_str()).collect();
    assert_eq!((failed.len(), failed[0].grant_id), (1, Some(grant.0)));
    assert_eq!(failed[0].detail["break_glass"], id.to_string());
    assert!(failed[0].detail["message"].contains("stopped"), "{:?}", failed[0]);
    let other_key = signed.glass.approved(&signed.ada, id, "another key").await.unwrap_err();
    assert!(other_key.to_string().contains("another session's key"), "{other_key}");
    assert!(signed.uses(id, true).await);
    // a certificate that was recorded is never given back
    signed.clock.advance(SignedDuration::from_mins(2));
    signed.glass.give_back_abandoned().await.unwrap();
    let row = state(&signed).await;
    assert_eq!((row.state, row.used), (BreakGlassState::Used, 1));
}

/// Custody hangs while an approver finds that the request was a fraud.
#[tokio::test]
async fn what_is_revoked_while_its_last_use_is_on_its_way_gives_nothing_more_and_is_reviewed_where_it_gave() {
    let address = super::suspect_tests::address;
    for is_issued in [Some(true), Some(false), None] {
        let (_folder, store) = sqlite();
        let signed = Signed::new(store, 1).await;
        let id = signed.asked().await;
        signed.approve(id).await.unwrap();
        let grant = signed.begins_a_use(id).await.unwrap();
        let seen = signed.glass.show(&signed.bob, id).await.unwrap();
        assert_eq!((seen.state, seen.may), (BreakGlassState::Used, vec!["revoke"]));
        let fraud = Some("it was not ada".to_owned());
        signed.glass.revoke(&signed.bob, id, fraud, address()).await.unwrap();
        let early = signed.glass.review(&signed.bob, id, Label::Misuse, "it was not ada", address()).await.unwrap_err();
        assert!(early.to_string().contains("on its way to a certificate: try again"), "{early}");
        match is_issued {
            Some(is_issued) => signed.ends_a_use(id, grant, is_issued).await,
            // nobody records what came of it
            None => {
                signed.clock.advance(SignedDuration::from_mins(2));
                signed.glass.give_back_abandoned().await.unwrap();
            }
        }
        let seen = signed.glass.show(&signed.bob, id).await.unwrap();
        let was_issued = is_issued == Some(true);
        assert_eq!((seen.state, seen.file.request.used), (BreakGlassState::Revoked, u64::from(was_issued)));
        assert_eq!(seen.may, if was_issued { vec!["review"] } else { vec![] }, "{is_issued:?}");
        assert!(!signed.uses(id, true).await, "{is_issued:?}");
        let again = signed.glass.revoke(&signed.bob, id, None, address()).await.unwrap_err();
        assert!(again.to_string().contains("the request is revoked, so nothing is left"), "{again}");
        let reviewed = signed.glass.review(&signed.bob, id, Label::Misuse, "it was not ada", address()).await;
        assert_eq!(reviewed.is_ok(), was_issued, "{reviewed:?}");
    }
}

/// Once the certificate is there, or its time is over, nothing is left to take away.
#[tokio::test]
async fn what_was_used_up_is_not_revoked() {
    let address = super::suspect_tests::address;
    let (_folder, store) = sqlite();
    let signed = Signed::new(store, 1).await;
    let [issued, late] = [signed.asked().await, signed.asked().await];
    for id in [issued, late] {
        signed.approve(id).await.unwrap();
    }
    assert!(signed.uses(issued, true).await && signed.begins_a_use(late).await.is_some());
    signed.clock.advance(SignedDuration::from_mins(31));
    for id in [issued, late] {
        let seen = signed.glass.show(&signed.bob, id).await.unwrap();
        assert!(!seen.may.contains(&"revoke"), "{:?}", seen.may);
        let refused = signed.glass.revoke(&signed.bob, id, None, address()).await.unwrap_err();
        assert!(refused.to_string().contains("the request is used, so nothing is left"), "{refused}");
    }
}

/// Ahead over the end, and back: what was recorded as over stays so.
#[tokio::test]
async fn a_clock_that_went_ahead_and_comes_back_revives_nothing() {
    for ends in [&[Act::Jump(20)][..], &[Act::Approve, Act::Jump(180)]] {
        let back = [Act::TimeOut, Act::Jump(-190), Act::Restart, Act::Approve, Act::Use(true), Act::Jump(195)];
        let rest = [Act::Approve, Act::Use(true), Act::Restart, Act::Use(true)];
        walk(&[ends, &back, &rest].concat()).await;
    }
}

async fn walk(acts: &[Act]) {
    let (folder, store) = sqlite();
    let mut signed = Signed::new(store, USES).await;
    let id = signed.asked().await;
    let mut facts = Facts {
        waits_until: noon() + SignedDuration::from_mins(15),
        good_until: None,
        is_ended: false,
        is_reviewed: false,
        issued: 0,
        newest: noon(),
        session_until: noon() + SignedDuration::from_hours(1),
    };
    for (place, act) in acts.iter().copied().enumerate() {
        let now = signed.clock.now();
        let expected = facts.take(act, now);
        let glass = &signed.glass;
        let done = match act {
            Act::Approve => signed.approve(id).await.is_ok(),
            Act::Deny => {
                let (_, contents) = glass.load(id).await.unwrap();
                glass.deny(&signed.bob, id, contents.hash, None, super::suspect_tests::address()).await.is_ok()
            }
            Act::Cancel => glass.cancel(&signed.ada, id, None, super::suspect_tests::address()).await.is_ok(),
            Act::Revoke => glass.revoke(&signed.bob, id, None, super::suspect_tests::address()).await.is_ok(),
            Act::Use(is_issued) => signed.uses(id, is_issued).await,
            Act::RevokeInUse(is_issued) => match signed.begins_a_use(id).await {
                Some(grant) => {
                    glass.revoke(&signed.bob, id, None, super::suspect_tests::address()).await.unwrap();
                    signed.ends_a_use(id, grant, is_issued).await;
                    true
                }
                None => false,
            },
            Act::StopInUse => {
                let began = signed.begins_a_use(id).await.is_some();
                signed = signed.restarted(&folder).await;
                signed.clock.advance(SignedDuration::from_mins(1));
                signed.glass.give_back_abandoned().await.unwrap();
                began
            }
            Act::Review => {
                let address = super::suspect_tests::address();
                glass.review(&signed.bob, id, Label::Drill, "a drill", address).await.is_ok()
            }
            Act::TimeOut => glass.time_out().await.is_ok() || now < facts.newest,
            Act::Restart => {
                signed = signed.restarted(&folder).await;
                true
            }
            Act::Jump(minutes) => {
                signed.clock.advance(SignedDuration::from_mins(minutes));
                true
            }
        };
        // what only reads or waits is done whatever the clock says
        let expected = expected || matches!(act, Act::TimeOut | Act::Restart | Act::Jump(_));
        assert_eq!(done, expected, "{act:?} at {place} of {acts:?}");
        let head = signed.store.head().await.unwrap();
        facts.newest = Timestamp::from_microsecond(head.time).unwrap();
        let (file, contents) = signed.glass.load(id).await.unwrap();
        assert_eq!(signed.glass.suspicion(&file, &contents).await.unwrap(), None, "{act:?} at {place} of {acts:?}");
        assert_eq!(file.request.used, u64::from(facts.issued), "{act:?} at {place} of {acts:?}");
        if facts.is_ended {
            let open = [BreakGlassState::Pending, BreakGlassState::Approved];
            assert!(
                !open.contains(&file.request.state),
                "{:?} after {act:?} at {place} of {acts:?}",
                file.request.state
            );
        }
    }
    let entries = crate::audit::entries_from(&*signed.store, &Default::default(), 0, 1000).await.unwrap();
    assert!(entries.is_sorted_by_key(|entry| entry.time));
    let issued = entries.iter().filter(|entry| entry.kind == Kind::Issued.as_str()).count();
    assert_eq!(issued, usize::from(facts.issued), "{acts:?}");
    let good_until = facts.good_until.unwrap_or(Timestamp::MIN).to_string();
    for grant in entries.iter().filter(|entry| entry.kind == Kind::Grant.as_str()) {
        let until: Timestamp = grant.detail["not_after"].parse().unwrap();
        assert!(until.to_string() <= good_until, "{until} is beyond {good_until} in {acts:?}");
    }
}
