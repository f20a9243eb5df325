//! What the log says of locks, held against a database that says otherwise; and what the answer to a lock tells.

use ichor_wire::log::{Content, Kind};
use jiff::SignedDuration;

use super::ledger::Ledger;
use super::*;
use crate::audit::tests::Room;
use crate::audit::{LedgerError, RecordError};
use crate::domain::{GrantId, Group};
use crate::identity::fixture::{key, who};
use crate::identity::vouch;
use crate::policy::{Limits, Source};
use crate::store::conformance::{after, log_person, login, noon, person, session};
use crate::store::{Change, Condition, LockChange, SessionRow, Store as _};

fn book(room: &Room) -> Book {
    Book::new(room.store.clone(), room.sequencer.clone(), room.clock.clone(), Some(Arc::new(key())))
}

async fn set(book: &Book, target: LockTarget, seconds: Option<u64>) -> LockRow {
    book.set(Who::Host("root", "broker-1"), Content::of(Kind::Lock), target, seconds, "INC-42".into()).await.unwrap()
}

/// Someone who writes the database ends a lock: nothing stops it, but the log has it still.
#[tokio::test]
async fn a_lock_that_vanished_from_the_database_is_told() {
    let room = Room::new([]);
    let (book, mut ledger) = (book(&room), Ledger::default());
    let cluster = |name| LockTarget::Cluster(ClusterName::new(name).unwrap());
    let [taken, lifted, ends, all] = [
        set(&book, cluster("prod"), None).await,
        set(&book, cluster("dev"), None).await,
        set(&book, cluster("lab"), Some(60)).await,
        set(&book, LockTarget::Everything, None).await,
    ];
    assert_eq!(ledger.vanished(&*room.store, None, noon()).await.unwrap(), []);
    book.lift(Who::Host("root", "broker-1"), Content::of(Kind::Unlock), &lifted, "over", false, &|_, _| true)
        .await
        .unwrap();
    assert_eq!(ledger.vanished(&*room.store, None, noon()).await.unwrap(), []);
    // as a writer of the database would: the row is ended, and no entry says so
    for row in [&taken, &ends] {
        let change = LockChange::Lift { lock: row.id, person: None, by: "nobody".into(), session: None };
        room.sequencer.note(Content::of(Kind::Reload), Some(Change::Lock { change, now: noon() })).await.unwrap();
    }
    let mut vanished = ledger.vanished(&*room.store, None, noon()).await.unwrap();
    vanished.sort();
    assert_eq!(vanished, {
        let mut two = [taken.id, ends.id];
        two.sort();
        two
    });
    let later = noon() + SignedDuration::from_secs(60);
    assert_eq!(ledger.vanished(&*room.store, None, later).await.unwrap(), [taken.id], "the other's time is over");
    assert_eq!(
        Ledger::default().vanished(&*room.store, None, later).await.unwrap(),
        [taken.id],
        "read from the beginning"
    );
    assert!(book.find(all.id).await.unwrap().holds(later));
}

/// Its entries name one lock, and say how long it holds.
#[tokio::test]
async fn what_its_setter_locks_twice_is_one_lock_and_the_later_end_holds() {
    let room = Room::new([]);
    let (book, mut ledger) = (book(&room), Ledger::default());
    let prod = || LockTarget::Cluster(ClusterName::new("prod").unwrap());
    let first = set(&book, prod(), Some(600)).await;
    let end = |seconds| Some(noon() + SignedDuration::from_secs(seconds));
    for (seconds, until) in [(Some(60), end(600)), (Some(1200), end(1200)), (None, None), (Some(60), None)] {
        let again = set(&book, prod(), seconds).await;
        assert_eq!((again.id, again.until), (first.id, until), "{seconds:?}");
        assert_eq!(book.list(false).await.unwrap(), [again], "{seconds:?}");
    }
    let ends: Vec<_> = room.log().await.into_iter().map(|entry| entry.content.locked_until).collect();
    let second = |seconds| end(seconds).map(|at| at.as_second());
    assert_eq!(ends, [second(600), second(600), second(1200), None, None]);
    assert_eq!(ledger.vanished(&*room.store, None, noon()).await.unwrap(), []);
    let by_another = Who::Host("eve", "broker-1");
    let other = book.set(by_another, Content::of(Kind::Lock), prod(), None, "INC-42".into()).await.unwrap();
    assert_ne!(other.id, first.id, "another's is another's");
    book.lift(by_another, Content::of(Kind::Unlock), &first, "over", false, &|_, _| true).await.unwrap();
    let anew = set(&book, prod(), Some(60)).await;
    assert!(anew.id != first.id && anew.until == end(60), "what was lifted is over");
}

/// One person fills their own quota, and keeps nobody from locking: neither another person, nor the host, nor anyone from everything.
#[tokio::test]
async fn whoever_sets_a_hundred_locks_keeps_nobody_from_locking() {
    let glass = crate::break_glass::tests::Glass::new().await;
    let book = book(&glass.room);
    let by = async |who: Who<'_>, target| book.set(who, Content::of(Kind::Lock), target, None, "INC-42".into()).await;
    let cluster = |number| LockTarget::Cluster(ClusterName::new(&format!("c{number}")).unwrap());
    let ada = Who::Person(&glass.ada);
    for number in 0..MOST_OWN {
        by(ada, cluster(number)).await.unwrap();
    }
    let refused = by(ada, cluster(MOST_OWN)).await.unwrap_err();
    assert!(matches!(refused, LockError::Record(RecordError::Refused(Condition::TooManyLocks))), "{refused}");
    by(ada, cluster(0)).await.unwrap();
    by(ada, LockTarget::Everything).await.unwrap();
    let host = Who::Host("root", "broker-1");
    for target in [cluster(MOST_OWN), LockTarget::Everything] {
        by(host, target).await.unwrap();
    }
    assert_eq!(book.list(false).await.unwrap().len() as u64, MOST_OWN + 3);
    let of_ada = book.list(false).await.unwrap().into_iter().find(|lock| lock.by == "ada" && lock.target == cluster(7));
    book.lift(ada, Content::of(Kind::Unlock), &of_ada.unwrap(), "over", false, &|_, _| true).await.unwrap();
    by(ada, cluster(MOST_OWN)).await.unwrap();
}

#[tokio::test]
async fn locks_whose_time_is_over_are_recorded_once() {
    let room = Room::new([]);
    let book = book(&room);
    let row = set(&book, LockTarget::Everything, Some(60)).await;
    assert_eq!(book.time_out().await.unwrap().len(), 1);
    room.clock.advance(SignedDuration::from_secs(60));
    assert_eq!(book.time_out().await.unwrap(), []);
    assert_eq!(book.time_out().await.unwrap(), []);
    let ended = book.find(row.id).await.unwrap().ended.unwrap();
    assert_eq!(ended, ("its time was over".into(), noon() + SignedDuration::from_secs(60)));
    assert_eq!(room.store.head().await.unwrap().size, 2, "the lock and its end");
}

#[test]
fn what_a_lock_does_not_end_is_said() {
    let cluster = LockTarget::Cluster(ClusterName::new("prod").unwrap());
    let none = beyond(&cluster, &Outstanding::default());
    assert!(none[0].contains("no certificate is outstanding") && none[2].contains("kit"), "{none:?}");
    assert!(none[1].contains("sessions stay"), "{none:?}");
    let everything = beyond(&LockTarget::Everything, &Outstanding::default());
    assert!(everything[1].contains("nobody lifts it alone") && everything[3].contains("kit"), "{everything:?}");
    assert!(everything[2].contains("sessions stay"), "{everything:?}");
    assert!(!none.iter().any(|line| line.contains("alone")), "{none:?}");
    let until = Some(noon() + SignedDuration::from_millis(123));
    let some =
        Outstanding { certificates: 2, more: true, until, clusters: ["prod".into()].into(), ..Default::default() };
    let user = LockTarget::User { issuer: "https://id.example.com".into(), subject: "x".into() };
    let lines = beyond(&user, &some);
    assert!(
        lines[0].starts_with("2 or more certificates") && lines[0].contains("at 2026-11-22T12:00:00Z:"),
        "{lines:?}"
    );
    assert!(lines[1].contains("open connection"), "{lines:?}");
    assert!(lines[2].contains("ichor-broker ca removal-patch prod --machine-config node.yaml"), "{lines:?}");
    assert!(lines[3].contains("other clusters"), "{lines:?}");
    assert!(lines[4].contains("rotate-ca") && lines.len() == 5, "{lines:?}");
    let whole = beyond(&user, &Outstanding { more: false, ..some.clone() });
    assert!(whole[0].starts_with("2 certificates") && whole.len() == 4, "{whole:?}");
    assert!(!whole.iter().any(|line| line.contains("sessions")), "its sessions end: {whole:?}");
    let accepted = [("prod".to_owned(), "LS0tLS1CRUdJTg==".to_owned())].into();
    let known = beyond(&user, &Outstanding { more: false, accepted, ..some.clone() });
    assert!(known[3].contains("`prod`") && known[3].ends_with("all others stay: - crt: LS0tLS1CRUdJTg=="), "{known:?}");
    // who could not look at all of them does not say that there is none
    let blind = beyond(&user, &Outstanding { more: true, ..Outstanding::default() });
    assert!(blind[0].starts_with("not all that was issued could be looked at"), "{blind:?}");
    assert!(blind[1].contains("open connection") && blind[2].contains("removal-patch CLUSTER"), "{blind:?}");
    assert!(blind[3].contains("rotate-ca"), "{blind:?}");
}

/// What a column says of an entry hides no lock, and a body that is not what was recorded is seen.
#[tokio::test]
async fn a_lock_whose_entry_was_hidden_while_its_row_was_taken_is_told() {
    let room = Room::new([]);
    let (book, mut ledger) = (book(&room), Ledger::default());
    let row = set(&book, LockTarget::Everything, None).await;
    room.edit("UPDATE leaf SET kind = 29; DELETE FROM lock");
    assert_eq!(ledger.vanished(&*room.store, None, noon()).await.unwrap(), [row.id]);
    room.edit("UPDATE leaf SET kind = 28");
    assert_eq!(ledger.vanished(&*room.store, None, noon()).await.unwrap(), [row.id]);
    // a row that is on something else locks nobody
    let retargeted = Room::new([]);
    let (book, mut ledger) = (super::tests::book(&retargeted), Ledger::default());
    let prod = LockTarget::Cluster(ClusterName::new("prod").unwrap());
    let ada = LockTarget::User { issuer: "https://id.example.com".into(), subject: "ada".into() };
    let (prod, ada) = (set(&book, prod, None).await, set(&book, ada, None).await);
    assert_eq!(ledger.vanished(&*retargeted.store, None, noon()).await.unwrap(), []);
    for (row, sql) in
        [(&prod, "UPDATE lock SET one = 'else' WHERE kind = 3"), (&ada, "UPDATE lock SET two = 'x' WHERE kind = 0")]
    {
        retargeted.edit(sql);
        assert!(ledger.vanished(&*retargeted.store, None, noon()).await.unwrap().contains(&row.id), "{sql}");
    }
    // one that is put in its place for a moment, or taken away
    for hide in ["UPDATE body SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB)", "DELETE FROM body"]
    {
        let room = Room::new([]);
        let book = super::tests::book(&room);
        let row = set(&book, LockTarget::Everything, None).await;
        let mut ledger = Ledger::default();
        room.edit(&format!("CREATE TABLE aside.kept AS SELECT * FROM body; {hide}; DELETE FROM lock"));
        let refused = ledger.vanished(&*room.store, None, noon()).await;
        assert!(matches!(refused, Err(LedgerError::Forged(_))), "{hide}: {refused:?}");
        room.edit(
            "DELETE FROM body; INSERT INTO body (idx, body) SELECT idx, body FROM aside.kept; DROP TABLE aside.kept",
        );
        assert_eq!(ledger.vanished(&*room.store, None, noon()).await.unwrap(), [row.id], "{hide}");
    }
}

async fn logs_in(room: &Room, number: u8, subject: &str) -> Identity {
    assert!(room.store.begin_login(login(number, after(600)), 1000, noon()).await.unwrap());
    let of = person(subject);
    let groups = vec![Group { provider: of.provider.clone(), name: subject.into() }];
    let mut row = SessionRow { person: of, groups, ..session(number) };
    vouch(&mut row, &key());
    let change = Change::SessionCreate { session: Box::new(row.clone()), code_hash: [number + 100; 32], now: noon() };
    room.sequencer.note(Content::of(Kind::Login), Some(change)).await.unwrap();
    who(&row)
}

/// The row of an asking that nobody made, or of another than was made, lets nobody lift.
#[tokio::test]
async fn an_asking_that_only_the_database_has_is_none() {
    let room = Room::new([]);
    let book = book(&room);
    let (alice, bob) = (logs_in(&room, 1, "alice").await, logs_in(&room, 2, "bob").await);
    let lifts = async |who: &Identity, confirms| {
        let lock = book.list(false).await.unwrap().remove(0);
        book.lift(Who::Person(who), Content::of(Kind::Unlock), &lock, "over", confirms, &|_, _| true).await
    };
    set(&book, LockTarget::Everything, None).await;
    let as_bob =
        "UPDATE lock SET asked_provider = provider, asked_issuer = issuer, asked_subject = subject, asked_user = user,
            asked_session = session_id
        FROM (SELECT provider, issuer, subject, user, id AS session_id FROM session WHERE subject = 'bob')";
    let until = (noon() + SignedDuration::from_mins(30)).as_microsecond();
    room.edit(&format!("{as_bob}; UPDATE lock SET asked_until = {until}"));
    let asked = book.list(false).await.unwrap().remove(0).asked.unwrap();
    assert_eq!(asked.person, *bob.person(), "the database says so");
    assert!(
        matches!(lifts(&alice, true).await, Err(LockError::Refused(no)) if no.sentence.contains("nobody has asked"))
    );
    // who asked is not made another
    room.edit("UPDATE lock SET asked_provider = NULL, asked_issuer = NULL, asked_subject = NULL, asked_user = NULL, asked_until = NULL");
    lifts(&alice, false).await.unwrap();
    room.edit(as_bob);
    assert!(
        matches!(lifts(&alice, true).await, Err(LockError::Refused(no)) if no.sentence.contains("nobody has asked"))
    );
    room.edit("UPDATE lock SET asked_provider = NULL, asked_issuer = NULL, asked_subject = NULL, asked_user = NULL, asked_until = NULL");
    lifts(&alice, false).await.unwrap();
    let lifted = lifts(&bob, true).await.unwrap();
    assert!(lifted.ended.is_some(), "what was asked is confirmed");
}

fn policies(text: &str) -> Arc<PolicySet> {
    let source = Source { name: "test.cedar".into(), text: text.into() };
    Arc::new(PolicySet::load(&[source], Limits::default()).unwrap())
}

/// Policy is asked of both again: of whoever confirms, and of whoever asked, as their session says by now and as of when they asked.
#[tokio::test]
async fn what_someone_asked_who_may_ask_no_more_is_confirmed_by_nobody() {
    let room = Room::new([]);
    let (alice, bob, carol) =
        (logs_in(&room, 1, "alice").await, logs_in(&room, 2, "bob").await, logs_in(&room, 3, "carol").await);
    let all = r#"@id("all") permit (principal, action == Action::"unlock", resource)
        when { context has auth_age && context.auth_age < 600 };"#;
    let but = |subject: &str| {
        policies(&format!(
            r#"{all} @id("not") forbid (principal in Group::"corp/{subject}", action == Action::"unlock", resource);"#
        ))
    };
    let (set_policies, in_force) = watch::channel(policies(all));
    let locks = Locks::new(book(&room), in_force, watch::channel(Clusters::default()).1);
    let lock = set(&locks.book, LockTarget::Everything, None).await;
    let lifts = async |who: &Identity, confirms| {
        let lifting = Lifting { reason: "over".into(), confirms, address: "192.0.2.7".parse().unwrap() };
        locks.lift(who, lock.id, lifting).await
    };
    let no_more = |answer: Result<LockRow, LockError>| match answer {
        Err(LockError::Refused(no)) => no.sentence.contains("may not ask for it now"),
        other => panic!("{other:?}"),
    };
    lifts(&alice, false).await.unwrap();
    set_policies.send_replace(but("alice"));
    assert!(no_more(lifts(&bob, true).await));
    assert_eq!(room.log().await.last().unwrap().content.kind, Kind::Refusal, "it is recorded");
    let asked = lifts(&bob, false).await.unwrap().asked.unwrap();
    assert_eq!(asked.person, *bob.person(), "and is in nobody's way");
    assert!(
        matches!(lifts(&carol, false).await, Err(LockError::Bad(why)) if why.contains("has asked for this already"))
    );
    // a session that is over asks nothing; the lock of a person ends theirs
    let ends = Change::SessionEnd { session: bob.session().unwrap(), now: noon() };
    room.sequencer.note(Content::of(Kind::SessionEnd), Some(ends)).await.unwrap();
    assert!(no_more(lifts(&carol, true).await));
    lifts(&carol, false).await.unwrap();
    set(&locks.book, LockTarget::User { issuer: carol.person().issuer.clone(), subject: "carol".into() }, None).await;
    set_policies.send_replace(policies(all));
    assert!(no_more(lifts(&alice, true).await));
    // how long ago whoever asked had logged in counts as of when they asked
    lifts(&alice, false).await.unwrap();
    room.clock.advance(SignedDuration::from_mins(30));
    let late = SessionRow { person: person("dave"), auth_time: Some(after(1790)), ..session(4) };
    assert!(lifts(&alice, false).await.is_err(), "too long ago by now");
    assert!(lifts(&who(&late), true).await.is_err(), "a session that is none");
    assert!(room.store.begin_login(login(4, after(3600)), 1000, after(1800)).await.unwrap());
    let change = Change::SessionCreate { session: Box::new(late.clone()), code_hash: [104; 32], now: after(1800) };
    room.sequencer.note(Content::of(Kind::Login), Some(change)).await.unwrap();
    assert!(lifts(&who(&late), true).await.unwrap().ended.is_some());
}

/// Two accounts may have one value behind `user:`: what one locks the other neither moves nor takes an asking from.
#[tokio::test]
async fn what_another_account_of_the_same_name_locks_is_a_lock_of_its_own() {
    let room = Room::new([]);
    let book = book(&room);
    let (one, other) = (logs_in(&room, 1, "one").await, logs_in(&room, 2, "other").await);
    assert_eq!(one.user(), other.user());
    let by = async |who, seconds| {
        book.set(Who::Person(who), Content::of(Kind::Lock), LockTarget::Everything, seconds, "INC-42".into())
            .await
            .unwrap()
    };
    let first = by(&one, Some(600)).await;
    let asks = book.lift(Who::Person(&other), Content::of(Kind::Unlock), &first, "over", false, &|_, _| true);
    let asked = asks.await.unwrap();
    assert!(asked.asked.is_some());
    assert_ne!(by(&other, Some(900)).await.id, first.id);
    assert_eq!(book.find(first.id).await.unwrap(), asked);
    assert_eq!(by(&one, Some(900)).await.id, first.id);
    assert_eq!(book.list(false).await.unwrap().len(), 2);
}

/// A grant is locked as it was recorded, or not at all.
#[tokio::test]
async fn a_grant_whose_entry_was_changed_is_no_target() {
    let room = Room::new([]);
    let book = book(&room);
    let grant = GrantId(uuid::Uuid::from_u128(7));
    let content = Content {
        person: Some(log_person("ada", "ada")),
        cluster: Some("prod".into()),
        grant: Some(grant.0.as_bytes().to_vec()),
        session: Some(vec![1; 16]),
        ..Content::of(Kind::Grant)
    };
    let other = Content { cluster: Some("else".into()), ..content.clone() };
    room.sequencer.note(content, None).await.unwrap();
    assert!(matches!(book.grant(grant).await, Ok(LockTarget::Grant { renewals: Some(_), .. })));
    room.sequencer.note(Content { grant: None, ..other }, None).await.unwrap();
    room.edit("UPDATE body SET body = (SELECT body FROM body WHERE idx = 1) WHERE idx = 0");
    assert!(book.grant(grant).await.is_err());
}
