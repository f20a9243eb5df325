//! Locks: what they stop, in the very transaction that would record it; what they end; who lifts them.

use super::*;
use crate::domain::{ClusterName, Human, LockTarget};

pub(in crate::store) fn lock(number: u8, target: LockTarget) -> LockRow {
    LockRow {
        id: LockId(Uuid::from_bytes([number; 16])),
        target,
        by: "bob".into(),
        setter: Some(Account::of(&person("bob"))),
        reason: "stolen laptop".into(),
        at: noon(),
        until: None,
        asked: None,
        ended: None,
    }
}

/// The same lock, set by this account, or by someone at the host where the name has blanks.
fn set_by(row: LockRow, by: &str) -> LockRow {
    let setter = (!by.contains(' ')).then(|| Account::of(&person(by)));
    LockRow { by: by.into(), setter, ..row }
}

fn changed(change: LockChange, now: Timestamp) -> Append {
    Append { entry: entry(Content::of(Kind::Lock), now), change: Some(Change::Lock { change, now }) }
}

pub(in crate::store) fn set(row: &LockRow, now: Timestamp) -> Append {
    changed(LockChange::Set { lock: Box::new(row.clone()), session: None, quota: None }, now)
}

fn human(subject: &str) -> Human {
    Human { person: person(subject), told: None }
}

pub(super) fn lift(row: &LockRow, who: Option<&str>, now: Timestamp) -> Append {
    changed(LockChange::Lift { lock: row.id, person: who.map(human), by: "eve".into(), session: None }, now)
}

fn ask(row: &LockRow, who: &str, session: u8, now: Timestamp) -> Append {
    let until = now + SignedDuration::from_secs(600);
    let session = SessionId(Uuid::from_bytes([session; 16]));
    let ask = Box::new(LiftAsk { person: person(who), user: who.into(), until, told: None, session });
    changed(LockChange::AskLift { lock: row.id, ask, instead: None }, now)
}

/// A grant of this session's, for a cluster, at `now`.
pub(in crate::store) fn grant(session: &SessionRow, cluster: &str, number: u8, now: Timestamp) -> Append {
    let keys = keys_of(session, cluster, number);
    let change = Change::GrantMade { session: session.id, now, not_after: after(9000), using: None, keys };
    Append { entry: entry(Content::of(Kind::Grant), now), change: Some(change) }
}

fn certificate(session: &SessionRow, cluster: &str, number: u8, now: Timestamp) -> Append {
    let change = Change::CertificateMade { keys: keys_of(session, cluster, number), now };
    Append { entry: entry(Content::of(Kind::Issued), now), change: Some(change) }
}

fn keys_of(session: &SessionRow, cluster: &str, number: u8) -> Box<LockKeys> {
    Box::new(LockKeys {
        issuer: session.person.issuer.clone(),
        subject: session.person.subject.clone(),
        session: Some(session.id),
        cluster: Some(cluster.into()),
        grant: Some(GrantId(Uuid::from_bytes([number; 16]))),
    })
}

/// A live session of this person.
async fn session_of(store: &dyn Store, number: u8, whose: Person) -> SessionRow {
    assert!(store.begin_login(login(number, after(600)), 1000, noon()).await.unwrap());
    let row = SessionRow { person: whose, ..session(number) };
    assert!(matches!(one(store, create(row.clone(), number + 100)).await, Appended::Recorded { .. }));
    row
}

pub(in crate::store) async fn done(store: &dyn Store, part: Append) -> bool {
    match one(store, part).await {
        Appended::Recorded { .. } => true,
        Appended::Refused(Condition::Locked) => false,
        Appended::Refused(other) => panic!("{other:?}"),
    }
}

pub(crate) async fn a_lock_stops_what_it_is_on_and_nothing_else(store: Arc<dyn Store>) {
    let (mine, other) = (logged_in(&*store, 1).await, session_of(&*store, 2, person("other")).await);
    let prod = || ClusterName::new("prod").unwrap();
    let first = GrantId(Uuid::from_bytes([1; 16]));
    let targets = [
        LockTarget::Cluster(prod()),
        LockTarget::Grant { grant: first, renewals: None },
        LockTarget::Grant { grant: GrantId(Uuid::from_bytes([9; 16])), renewals: Some((mine.id, prod())) },
        LockTarget::Everything,
    ];
    for (number, target) in (10..).zip(targets) {
        let row = lock(number, target.clone());
        let tried =
            [(&mine, "prod", 1), (&mine, "prod", 2), (&mine, "dev", 3), (&other, "prod", 4), (&other, "dev", 5)];
        for (session, cluster, grant_number) in tried {
            assert!(done(&*store, grant(session, cluster, grant_number, noon())).await, "before {target}");
        }
        one(&*store, set(&row, noon())).await;
        assert_eq!(store.lock(row.id).await.unwrap(), Some(row.clone()));
        let expected = match &target {
            LockTarget::Cluster(_) => [false, false, true, false, true],
            LockTarget::Grant { renewals: None, .. } => [false, true, true, true, true],
            LockTarget::Grant { .. } => [false, false, true, true, true],
            _ => [false; 5],
        };
        for ((session, cluster, grant_number), expected) in tried.into_iter().zip(expected) {
            let what = format!("{target}: {cluster} {grant_number}");
            assert_eq!(done(&*store, grant(session, cluster, grant_number, noon())).await, expected, "{what}");
            assert_eq!(done(&*store, certificate(session, cluster, grant_number, noon())).await, expected, "{what}");
        }
        if target == LockTarget::Everything {
            assert!(matches!(one(&*store, ask(&row, "ada", 1, noon())).await, Appended::Recorded { .. }));
        }
        assert!(matches!(one(&*store, lift(&row, Some("eve"), noon())).await, Appended::Recorded { .. }), "{target}");
        assert!(done(&*store, grant(&mine, "prod", 1, noon())).await, "lifted: {target}");
    }
    assert_eq!(store.locks(false, 99).await.unwrap(), []);
    assert_eq!(store.locks(true, 99).await.unwrap().len(), 4);
}

/// Case, blanks, Unicode forms, an alias of the provider, another provider's same subject.
pub(crate) async fn case_15_a_user_is_locked_by_issuer_and_subject_alone(store: Arc<dyn Store>) {
    let of = |provider: &str, issuer: &str, subject: &str| Person {
        provider: ProviderAlias::new(provider).unwrap(),
        issuer: issuer.into(),
        subject: subject.into(),
    };
    let issuer = "https://id.example.com";
    let locked = session_of(&*store, 1, of("corp", issuer, "Ada")).await;
    let same = session_of(&*store, 2, of("alias", issuer, "Ada")).await;
    let others = [
        of("corp", issuer, "ada"),
        of("corp", issuer, "Ada "),
        of("corp", issuer, "A\u{301}da"),
        of("corp", "https://ID.example.com", "Ada"),
        of("corp", "https://id.example.com/", "Ada"),
        of("corp", "Ada", issuer),
    ];
    let mut free = Vec::new();
    for (number, other) in (3..).zip(others) {
        free.push(session_of(&*store, number, other).await);
    }
    let row = lock(9, LockTarget::User { issuer: issuer.into(), subject: "Ada".into() });
    one(&*store, set(&row, noon())).await;
    for session in [&locked, &same] {
        let ended = store.session(session.id).await.unwrap().unwrap();
        assert_eq!((ended.ended_at, ended.refresh_sealed), (Some(noon()), None), "whatever alias knows them");
        assert_eq!(store.session_by_token(&session.token_hash).await.unwrap().unwrap().ended_at, Some(noon()));
        assert!(!done(&*store, certificate(session, "prod", 1, noon())).await);
        assert_eq!(one(&*store, grant(session, "prod", 1, noon())).await, Appended::Refused(Condition::SessionEnded));
    }
    for session in &free {
        assert!(done(&*store, grant(session, "prod", 1, noon())).await, "{:?}", session.person);
    }
    // a login that was on its way is none; nobody else's is hindered
    assert!(store.begin_login(login(20, after(600)), 1000, noon()).await.unwrap());
    let again = SessionRow { person: same.person.clone(), ..session(20) };
    assert_eq!(one(&*store, create(again.clone(), 120)).await, Appended::Refused(Condition::Locked));
    assert_eq!(store.session(again.id).await.unwrap(), None);
    one(&*store, lift(&row, None, noon())).await;
    assert!(done(&*store, create(again, 120)).await, "the code was not used up");
}

pub(crate) async fn a_locked_session_is_over_and_everything_locked_lets_people_log_in(store: Arc<dyn Store>) {
    let (one_of, other) = (logged_in(&*store, 1).await, logged_in(&*store, 2).await);
    // and whoever remembers a session forgets it
    assert_eq!(store.session_by_token(&one_of.token_hash).await.unwrap().unwrap().ended_at, None);
    one(&*store, set(&lock(8, LockTarget::Session(one_of.id)), noon())).await;
    assert_eq!(store.session_by_token(&one_of.token_hash).await.unwrap().unwrap().ended_at, Some(noon()));
    assert!(done(&*store, grant(&other, "prod", 1, noon())).await, "the person's other session");
    one(&*store, set(&lock(9, LockTarget::Everything), noon())).await;
    assert!(!done(&*store, grant(&other, "prod", 1, noon())).await);
    assert_eq!(store.session(other.id).await.unwrap().unwrap().ended_at, None, "it may lift the lock");
    logged_in(&*store, 3).await;
}

/// Fifty grants around a lock, all in one transaction and all at once: those before it are recorded, those behind it are not.
pub(crate) async fn of_fifty_grants_and_a_lock_each_has_its_place(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    let everything = lock(9, LockTarget::Cluster(ClusterName::new("prod").unwrap()));
    let mut batch: Vec<_> = (0..50).map(|number| grant(&row, "prod", number, noon())).collect();
    batch.insert(20, set(&everything, noon()));
    let answers = append(&*store, batch).await;
    let recorded = |answer: &Appended| matches!(answer, Appended::Recorded { .. });
    assert!(answers[..=20].iter().all(recorded));
    assert!(answers[21..].iter().all(|answer| *answer == Appended::Refused(Condition::Locked)), "{answers:?}");
    let entries = store.entry_range(1..99).await.unwrap();
    assert_eq!(entries.len(), 21, "what is refused leaves nothing");
}

pub(crate) async fn a_lock_of_everything_is_lifted_by_two(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let row = lock(9, LockTarget::Everything);
    one(&*store, set(&row, noon())).await;
    let refused = async |part| match one(&*store, part).await {
        Appended::Refused(condition) => condition,
        Appended::Recorded { .. } => panic!("it was done"),
    };
    assert_eq!(refused(lift(&row, Some("ada"), after(1))).await, Condition::SecondPerson, "nobody asked");
    assert_eq!(refused(lift(&row, None, after(1))).await, Condition::SecondPerson, "nor on the host");
    assert_eq!(refused(ask(&row, "ada", 7, after(1))).await, Condition::SessionEnded);
    assert!(matches!(one(&*store, ask(&row, "ada", 1, after(1))).await, Appended::Recorded { .. }));
    assert_eq!(refused(ask(&row, "bob", 1, after(1))).await, Condition::LockGone, "an asking is not taken over");
    assert_eq!(refused(lift(&row, Some("ada"), after(2))).await, Condition::SecondPerson, "whoever asked");
    assert_eq!(refused(lift(&row, None, after(2))).await, Condition::SecondPerson);
    let elsewhere = |provider: &str, issuer: &str| {
        let mut part = lift(&row, Some("bob"), after(2));
        if let Some(Change::Lock { change: LockChange::Lift { person: Some(person), .. }, .. }) = &mut part.change {
            person.person.provider = ProviderAlias::new(provider).unwrap();
            person.person.issuer = issuer.into();
        }
        part
    };
    for (provider, issuer) in [("other", "https://id.example.com"), ("corp", "https://other.example.com")] {
        assert_eq!(refused(elsewhere(provider, issuer)).await, Condition::SecondPerson, "it may be the same human");
    }
    assert_eq!(refused(lift(&row, Some("bob"), after(601))).await, Condition::SecondPerson, "the asking is over");
    assert!(matches!(one(&*store, ask(&row, "bob", 1, after(601))).await, Appended::Recorded { .. }), "another asks");
    assert!(matches!(one(&*store, lift(&row, Some("ada"), after(602))).await, Appended::Recorded { .. }));
    let lifted = store.lock(row.id).await.unwrap().unwrap();
    assert_eq!(lifted.ended, Some(("eve".into(), after(602))));
    assert_eq!(refused(lift(&row, Some("eve"), after(603))).await, Condition::LockGone, "once");
    let cluster = lock(8, LockTarget::Cluster(ClusterName::new("prod").unwrap()));
    one(&*store, set(&cluster, after(603))).await;
    assert_eq!(
        refused(ask(&cluster, "ada", 1, after(603))).await,
        Condition::LockGone,
        "only one of everything is asked for"
    );
}

/// A lock's end is held against the entry's time; a clock that is set back ends none, nor does one lock anew behind an entry.
pub(crate) async fn a_lock_ends_by_itself_and_not_by_a_clock_that_goes_back(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    let held = LockRow { until: Some(after(60)), ..lock(9, LockTarget::Everything) };
    one(&*store, set(&held, noon())).await;
    let over = changed(LockChange::TimeOut { lock: held.id }, after(59));
    assert_eq!(one(&*store, over).await, Appended::Refused(Condition::LockGone), "its time is not over");
    assert!(!done(&*store, grant(&row, "prod", 1, after(59))).await);
    let behind = grant(&row, "prod", 1, after(-3600));
    assert_eq!(one(&*store, behind).await, Appended::Refused(Condition::ClockWentBack));
    assert!(done(&*store, grant(&row, "prod", 1, after(60))).await, "over, recorded or not");
    let late = lift(&held, Some("ada"), after(60));
    assert_eq!(one(&*store, late).await, Appended::Refused(Condition::LockGone));
    assert!(matches!(
        one(&*store, changed(LockChange::TimeOut { lock: held.id }, after(61))).await,
        Appended::Recorded { .. }
    ));
    assert_eq!(store.locks(false, 9).await.unwrap(), []);
    // a lock whose own beginning lies ahead of the clock holds all the same
    let ahead = LockRow { at: after(9_000), ..lock(8, LockTarget::Everything) };
    one(&*store, set(&ahead, after(62))).await;
    assert!(!done(&*store, grant(&row, "prod", 1, after(63))).await);
    store.sweep(after(61 + 30 * 24 * 3600)).await.unwrap();
    assert_eq!(store.locks(true, 9).await.unwrap().len(), 2, "an end is shown for 30 days");
    store.sweep(after(63 + 30 * 24 * 3600)).await.unwrap();
    assert_eq!(store.locks(true, 9).await.unwrap(), [ahead], "what holds stays");
}

pub(crate) async fn locks_are_bounded_and_set_in_live_sessions(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    let set_in = |number: u8, session: u8| {
        let name = ClusterName::new(&format!("c{number}")).unwrap();
        let lock = Box::new(lock(number, LockTarget::Cluster(name)));
        let session = Some(SessionId(Uuid::from_bytes([session; 16])));
        changed(LockChange::Set { lock, session, quota: Some(LockQuota { all: 2, own: 9 }) }, noon())
    };
    assert_eq!(one(&*store, set_in(9, 7)).await, Appended::Refused(Condition::SessionEnded));
    for number in [9, 8] {
        assert!(matches!(one(&*store, set_in(number, 1)).await, Appended::Recorded { .. }));
    }
    assert_eq!(one(&*store, set_in(7, 1)).await, Appended::Refused(Condition::TooManyLocks));
    assert_eq!(store.locks(false, 9).await.unwrap().len(), 2);
    let held = store.locks(false, 1).await.unwrap();
    assert_eq!(held[0].id, LockId(Uuid::from_bytes([9; 16])), "the newest first");
    let known = KnownPerson { person: row.person.clone(), name: "Ada".into(), user: "ada".into() };
    for name in ["subject", "ada"] {
        assert_eq!(store.people_named(name, 9).await.unwrap(), std::slice::from_ref(&known), "{name}");
    }
    for name in ["Ada", "ADA", "Subject", "", "ad", "a\0da"] {
        assert_eq!(store.people_named(name, 9).await.unwrap(), [], "{name}: neither a display name nor nearly one");
    }
}

/// Nobody who may lock one thing keeps others from locking, nor anyone from locking everything.
pub(crate) async fn a_setters_locks_count_against_their_own_bound_alone(store: Arc<dyn Store>) {
    let quota = Some(LockQuota { all: 4, own: 2 });
    let set_by = |number: u8, by: &str, target, quota| {
        let lock = Box::new(set_by(lock(number, target), by));
        changed(LockChange::Set { lock, session: None, quota }, noon())
    };
    let cluster = |number: u8| LockTarget::Cluster(ClusterName::new(&format!("c{number}")).unwrap());
    let is_set = async |part| match one(&*store, part).await {
        Appended::Recorded { .. } => true,
        Appended::Refused(Condition::TooManyLocks) => false,
        Appended::Refused(other) => panic!("{other:?}"),
    };
    // neither the host's nor those of everything are counted, whoever sets more of others
    for (number, by) in [(1, "root on broker-1"), (2, "root on broker-2"), (3, "eve on broker-1")] {
        assert!(is_set(set_by(number, by, cluster(number), None)).await);
    }
    for (number, by) in [(4, "ada"), (5, "bob"), (6, "eve"), (7, "joe"), (8, "root on broker-1")] {
        assert!(is_set(set_by(number, by, LockTarget::Everything, None)).await, "{by}");
    }
    assert!(is_set(set_by(11, "bob", cluster(11), quota)).await);
    assert!(is_set(set_by(12, "bob", cluster(12), quota)).await);
    assert!(!is_set(set_by(13, "bob", cluster(13), quota)).await, "of one's own");
    assert!(is_set(set_by(12, "bob", cluster(12), quota)).await, "what is set already");
    assert!(is_set(set_by(14, "ada", cluster(11), quota)).await, "another's are another's");
    assert!(is_set(set_by(15, "ada", cluster(12), quota)).await);
    assert!(!is_set(set_by(16, "eve", cluster(16), quota)).await, "of all");
    assert!(is_set(set_by(17, "root on broker-2", cluster(17), None)).await, "but for the host");
    assert!(is_set(set_by(18, "bea", LockTarget::Everything, None)).await, "and everything");
    assert!(matches!(one(&*store, lift(&lock(11, cluster(11)), None, noon())).await, Appended::Recorded { .. }));
    assert!(is_set(set_by(13, "bob", cluster(13), quota)).await, "one that is lifted counts no more");
}

/// One lock, of which the later end holds; and to lock anew takes an asking for its end away.
pub(crate) async fn what_its_setter_locks_twice_is_one_lock(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let until = |number: u8, seconds: Option<i64>| LockRow {
        until: seconds.map(after),
        ..lock(number, LockTarget::Everything)
    };
    let set_at = async |row: LockRow, seconds: i64| match one(&*store, set(&row, after(seconds))).await {
        Appended::Recorded { .. } => None,
        Appended::Refused(condition) => Some(condition),
    };
    assert_eq!(set_at(until(9, Some(600)), 0).await, None);
    assert!(matches!(one(&*store, ask(&until(9, None), "ada", 1, after(1))).await, Appended::Recorded { .. }));
    assert_eq!(set_at(until(8, Some(900)), 2).await, Some(Condition::Stale), "it has one already");
    assert_eq!(set_at(until(9, Some(300)), 2).await, Some(Condition::Stale), "an end that is earlier");
    let other = LockRow { target: LockTarget::Cluster(ClusterName::new("prod").unwrap()), ..until(9, None) };
    assert_eq!(set_at(other, 2).await, Some(Condition::Stale), "another target's id");
    assert_eq!(store.locks(true, 9).await.unwrap().len(), 1);
    assert!(store.locks(true, 9).await.unwrap()[0].asked.is_some());
    assert_eq!(set_at(until(9, Some(900)), 2).await, None);
    assert_eq!(store.locks(true, 9).await.unwrap(), [until(9, Some(900))], "one, with the later end, and nobody asks");
    let confirmed = lift(&until(9, None), Some("eve"), after(3));
    assert_eq!(one(&*store, confirmed).await, Appended::Refused(Condition::SecondPerson));
    assert_eq!(set_at(until(9, None), 3).await, None);
    assert_eq!(set_at(until(9, Some(5000)), 4).await, Some(Condition::Stale), "without an end is the latest");
    let by_another = set_by(until(8, Some(600)), "eve");
    assert_eq!(set_at(by_another.clone(), 4).await, None, "another's is another's");
    assert_eq!(store.locks(false, 9).await.unwrap(), [until(9, None), by_another.clone()]);
    assert_eq!(set_at(by_another, 600).await, Some(Condition::Stale), "its time is over");
    assert_eq!(set_at(set_by(until(7, Some(900)), "eve"), 600).await, None, "a new one");
}

/// A setter is an account: another with the same value behind `user:` changes no lock of theirs, takes no asking away and is counted
/// for itself, and who is known by another value by now is still the setter. At the host it is who is named.
pub(crate) async fn a_lock_is_changed_by_the_account_that_set_it(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let everything = |number: u8| LockRow { until: Some(after(600)), ..lock(number, LockTarget::Everything) };
    let refused = async |part| match one(&*store, part).await {
        Appended::Refused(condition) => Some(condition),
        Appended::Recorded { .. } => None,
    };
    let first = everything(9);
    assert_eq!(refused(set(&first, noon())).await, None);
    assert_eq!(refused(ask(&first, "ada", 1, after(1))).await, None);
    let asked = store.lock(first.id).await.unwrap().unwrap();
    assert!(asked.asked.is_some());
    let longer = LockRow { until: Some(after(900)), ..first.clone() };
    let elsewhere = Account { issuer: "https://other.example.com".into(), ..Account::of(&person("bob")) };
    for setter in [Some(Account::of(&person("other"))), Some(elsewhere.clone()), None] {
        let other = LockRow { setter: setter.clone(), ..longer.clone() };
        assert_eq!(refused(set(&other, after(2))).await, Some(Condition::Stale), "{setter:?}");
        assert_eq!(store.lock(first.id).await.unwrap().as_ref(), Some(&asked), "{setter:?}");
    }
    let own = LockRow { setter: Some(elsewhere), ..everything(8) };
    assert_eq!(refused(set(&own, after(2))).await, None, "what they lock is their own");
    assert_eq!(store.locks(false, 9).await.unwrap(), [asked, own]);
    let renamed = LockRow { by: "bob2".into(), ..longer.clone() };
    assert_eq!(
        refused(set(&LockRow { id: LockId(Uuid::from_bytes([7; 16])), ..renamed.clone() }, after(3))).await,
        Some(Condition::Stale)
    );
    assert_eq!(refused(set(&renamed, after(3))).await, None);
    assert_eq!(store.lock(first.id).await.unwrap(), Some(longer), "its end moves, and nobody asks");
    // and each has a bound of their own
    let bounded = |number: u8, setter: &str| {
        let name = ClusterName::new(&format!("c{number}")).unwrap();
        let setter = Some(Account::of(&person(setter)));
        let lock = Box::new(LockRow { setter, ..lock(number, LockTarget::Cluster(name)) });
        changed(LockChange::Set { lock, session: None, quota: Some(LockQuota { all: 9, own: 1 }) }, after(4))
    };
    assert_eq!(refused(bounded(1, "bob")).await, None);
    assert_eq!(refused(bounded(2, "bob")).await, Some(Condition::TooManyLocks));
    assert_eq!(refused(bounded(3, "other")).await, None);
    let host = |number: u8, by: &str| set_by(LockRow { until: Some(after(700)), ..everything(number) }, by);
    assert_eq!(refused(set(&host(20, "root on a"), after(5))).await, None);
    assert_eq!(refused(set(&host(21, "root on a"), after(5))).await, Some(Condition::Stale));
    assert_eq!(refused(set(&host(22, "root on b"), after(5))).await, None);
}

/// What someone asked who is locked by now, or whose session is over or locked, counts for nothing: nobody confirms it, and it keeps
/// nobody from asking.
pub(crate) async fn an_asking_counts_while_whoever_asked_is_logged_in_and_not_locked(store: Arc<dyn Store>) {
    let refused = async |part| match one(&*store, part).await {
        Appended::Refused(condition) => Some(condition),
        Appended::Recorded { .. } => None,
    };
    // the session is another's here, so that a lock of whoever asked does not end it
    let ada = LockTarget::User { issuer: "https://id.example.com".into(), subject: "ada".into() };
    for (number, fall) in [(1, Some(ada)), (11, Some(LockTarget::Session(session(11).id))), (21, None)] {
        let (of_ada, everything) = (logged_in(&*store, number).await, lock(number + 50, LockTarget::Everything));
        logged_in(&*store, number + 1).await;
        one(&*store, set(&everything, noon())).await;
        assert_eq!(refused(ask(&everything, "ada", number, noon())).await, None);
        assert_eq!(refused(ask(&everything, "joe", number + 1, noon())).await, Some(Condition::LockGone), "it counts");
        let end = Change::SessionEnd { session: of_ada.id, now: noon() };
        let part = fall.as_ref().map_or_else(|| with(end), |target| set(&lock(number + 100, target.clone()), noon()));
        assert_eq!(refused(part).await, None, "{fall:?}");
        assert_eq!(refused(lift(&everything, Some("bob"), noon())).await, Some(Condition::SecondPerson), "{fall:?}");
        assert_eq!(refused(ask(&everything, "joe", number + 1, noon())).await, None, "{fall:?}: it is in nobody's way");
        let asked = store.lock(everything.id).await.unwrap().unwrap().asked.unwrap();
        assert_eq!((asked.person, asked.session), (person("joe"), session(number + 1).id), "{fall:?}");
        assert_eq!(refused(lift(&everything, Some("bob"), noon())).await, None, "{fall:?}");
        if let Some(target) = fall {
            one(&*store, lift(&lock(number + 100, target), None, noon())).await;
        }
    }
}

/// One that was looked at, and that policy would not let be asked any more, is replaced; that one alone.
pub(crate) async fn an_asking_is_taken_over_where_it_was_looked_at(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    logged_in(&*store, 2).await;
    let everything = lock(9, LockTarget::Everything);
    one(&*store, set(&everything, noon())).await;
    assert!(matches!(one(&*store, ask(&everything, "ada", 1, noon())).await, Appended::Recorded { .. }));
    let instead_of = |session: u8| {
        let mut part = ask(&everything, "joe", 2, noon());
        if let Some(Change::Lock { change: LockChange::AskLift { instead, .. }, .. }) = &mut part.change {
            *instead = Some(SessionId(Uuid::from_bytes([session; 16])));
        }
        part
    };
    assert_eq!(one(&*store, instead_of(2)).await, Appended::Refused(Condition::LockGone));
    assert!(matches!(one(&*store, instead_of(1)).await, Appended::Recorded { .. }));
    assert_eq!(store.lock(everything.id).await.unwrap().unwrap().asked.unwrap().person, person("joe"));
}

/// A break-glass request is neither made nor approved nor used under a lock; what ends it goes on.
pub(crate) async fn break_glass_stops_under_a_lock(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let asks = |number: u16, locked: bool| {
        let change = BreakGlassChange::Ask { request: Box::new(request(number, 1, 2)), bounds: free() };
        let keys = locked.then(|| Box::new(LockKeys { grant: None, ..*keys() }));
        with(Change::BreakGlass { change, now: noon(), keys })
    };
    assert!(done(&*store, asks(1, true)).await);
    let row = request(1, 1, 2);
    let approval = ApprovalRow {
        human: [7; 32],
        hash: row.hash,
        person: person("approver"),
        name: "Bob".into(),
        user: "bob".into(),
        session: session(9).id,
        comment: None,
        at: noon(),
        tag: [35; 32],
    };
    let approve = || {
        let change = BreakGlassChange::Approve { request: row.id, approval: Box::new(approval.clone()) };
        let keys = LockKeys { subject: "approver".into(), session: None, grant: None, ..*keys() };
        with(Change::BreakGlass { change, now: noon(), keys: Some(Box::new(keys)) })
    };
    let used = |number: u8| {
        let using = BreakGlassUse {
            request: row.id,
            hash: row.hash,
            grant: GrantId(Uuid::from_bytes([number; 16])),
            person: row.person.clone(),
            jkt: "key".into(),
            quorum: 1,
            self_service: false,
            uses: row.uses,
        };
        let keys = Box::new(LockKeys { grant: Some(using.grant), ..*keys() });
        let using = Some(Box::new(using));
        with(Change::GrantMade { session: session(1).id, now: noon(), not_after: after(900), using, keys })
    };
    let prod = lock(9, LockTarget::Cluster(ClusterName::new("prod").unwrap()));
    let approver = lock(8, LockTarget::User { issuer: "https://id.example.com".into(), subject: "approver".into() });
    one(&*store, set(&prod, noon())).await;
    one(&*store, set(&approver, noon())).await;
    assert!(!done(&*store, asks(2, true)).await);
    assert!(!done(&*store, approve()).await);
    one(&*store, lift(&prod, None, noon())).await;
    assert!(!done(&*store, approve()).await, "a locked person approves nothing");
    one(&*store, lift(&approver, None, noon())).await;
    assert!(done(&*store, approve()).await);
    // nor is an approval worth anything while whoever gave it is locked
    let targets = [
        LockTarget::User { issuer: "https://id.example.com".into(), subject: "approver".into() },
        LockTarget::Session(approval.session),
    ];
    for (number, target) in (20..).zip(targets) {
        let again = lock(number, target.clone());
        one(&*store, set(&again, noon())).await;
        assert!(!done(&*store, used(1)).await, "{target}");
        one(&*store, lift(&again, None, noon())).await;
    }
    let everything = lock(7, LockTarget::Everything);
    one(&*store, set(&everything, noon())).await;
    assert!(!done(&*store, used(1)).await);
    assert_eq!(store.break_glass(row.id).await.unwrap().unwrap().request.used, 0, "nothing is used up");
    one(&*store, ask(&everything, "ada", 1, noon())).await;
    one(&*store, lift(&everything, Some("eve"), noon())).await;
    assert!(done(&*store, used(1)).await);
    // its certificate is on its way: no lock of whoever approved it is too late for that, and one of anybody else stops nothing
    let made = |number: u8| {
        let keys = Box::new(LockKeys { grant: Some(GrantId(Uuid::from_bytes([number; 16]))), ..*keys() });
        with(Change::CertificateMade { keys, now: noon() })
    };
    let issuer = "https://id.example.com";
    let targets = [
        (LockTarget::User { issuer: issuer.into(), subject: "approver".into() }, false),
        (LockTarget::Session(approval.session), false),
        (LockTarget::User { issuer: issuer.into(), subject: "Approver".into() }, true),
        (LockTarget::Session(session(8).id), true),
    ];
    for (number, (target, goes_on)) in (30..).zip(targets) {
        let again = lock(number, target.clone());
        one(&*store, set(&again, noon())).await;
        assert_eq!(done(&*store, made(1)).await, goes_on, "{target}");
        assert!(done(&*store, made(2)).await, "{target}: a grant that used no request");
        one(&*store, lift(&again, None, noon())).await;
    }
    assert!(done(&*store, made(1)).await);
    // a lock on a grant stops what is left of the request that it used
    let first = lock(6, LockTarget::Grant { grant: GrantId(Uuid::from_bytes([1; 16])), renewals: None });
    one(&*store, set(&first, noon())).await;
    assert!(!done(&*store, used(2)).await);
    let closing = Closing { by: "bob".into(), at: noon(), comment: None };
    let close = BreakGlassChange::Close { request: row.id, to: crate::domain::BreakGlassState::Revoked, closing };
    assert!(done(&*store, with(Change::BreakGlass { change: close, now: noon(), keys: None })).await);
}

/// By a claim that both providers tell, wherever the accounts are; and by nothing where only one tells it.
pub(crate) async fn a_lock_of_everything_is_lifted_by_two_humans(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let row = lock(9, LockTarget::Everything);
    one(&*store, set(&row, noon())).await;
    let mut asked = ask(&row, "ada", 1, after(1));
    if let Some(Change::Lock { change: LockChange::AskLift { ask, .. }, .. }) = &mut asked.change {
        ask.told = Some([7; 32]);
    }
    assert!(matches!(one(&*store, asked).await, Appended::Recorded { .. }));
    assert_eq!(store.lock(row.id).await.unwrap().unwrap().asked.unwrap().told, Some([7; 32]));
    let by = |subject: &str, provider: &str, own: Option<[u8; 32]>| {
        let mut part = lift(&row, Some(subject), after(2));
        if let Some(Change::Lock { change: LockChange::Lift { person: Some(person), .. }, .. }) = &mut part.change {
            person.person.provider = ProviderAlias::new(provider).unwrap();
            person.told = own;
        }
        part
    };
    for (what, part) in [
        ("the same human elsewhere", by("eve", "other", Some([7; 32]))),
        ("what another claim tells", by("eve", "other", Some([8; 32]))),
        ("the same human beside", by("eve", "corp", Some([7; 32]))),
        ("of whom nothing is told", by("eve", "corp", None)),
        ("the same account", by("ada", "corp", Some([8; 32]))),
    ] {
        assert_eq!(one(&*store, part).await, Appended::Refused(Condition::SecondPerson), "{what}");
    }
    assert!(matches!(one(&*store, by("eve", "other", Some(another_than_seven()))).await, Appended::Recorded { .. }));
}
