//! What asking needs: the log read forwards, certificates by name, cursors of forwarding, and bodies that are dropped.

use tokio::sync::{Semaphore, watch};

use super::locks::{lift, lock, set};
use super::*;
use crate::audit;
use crate::custody::AuditKey;
use crate::domain::{ClusterName, Human, LockTarget};
use crate::store::faulty::FaultyStore;

fn issued(serial: &[u8], fingerprint: u8) -> Content {
    Content {
        person: Some(log_person("ada", "ada")),
        cluster: Some("prod".into()),
        grant: Some(vec![5; 16]),
        serial: Some(serial.into()),
        fingerprint: Some(vec![fingerprint; 32]),
        ..Content::of(Kind::Issued)
    }
}

async fn write(store: &dyn Store, contents: Vec<Content>) {
    let batch = (0..).zip(contents).map(|(i, content)| Append { entry: entry(content, after(i)), change: None });
    store.append(batch.collect(), None).await.unwrap();
}

fn indexes(entries: &[StoredEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.index).collect()
}

pub(crate) async fn the_log_is_read_forwards_too(store: Arc<dyn Store>) {
    let of = |who: &str, kind| Content { person: Some(log_person(who, who)), ..Content::of(kind) };
    let contents = vec![
        of("ada", Kind::Login),
        of("bob", Kind::Login),
        of("ada", Kind::Grant),
        Content::of(Kind::Reload),
        of("ada", Kind::Login),
    ];
    write(&*store, contents).await;
    let from =
        async |filter: EntryFilter, from, limit| indexes(&store.entries_from(&filter, from, limit).await.unwrap());
    let all = EntryFilter::default;
    assert_eq!(from(all(), 0, 9).await, [0, 1, 2, 3, 4]);
    assert_eq!(from(all(), 1, 2).await, [1, 2]);
    assert_eq!(from(all(), 5, 9).await, [0_u64; 0]);
    assert_eq!(from(EntryFilter { person: Some("ada".into()), ..all() }, 0, 2).await, [0, 2]);
    assert_eq!(from(EntryFilter { own: Some(person("ada")), ..all() }, 1, 9).await, [2, 4]);
    assert_eq!(from(EntryFilter { kind: Some(Kind::Login), until: Some(after(4)), ..all() }, 0, 9).await, [0, 1]);
    assert_eq!(from(EntryFilter { since: Some(after(3)), ..all() }, 0, 9).await, [3, 4]);
    assert_eq!(from(EntryFilter { since: Some(after(1)), ..all() }, 4, 9).await, [4]);
}

pub(crate) async fn certificates_are_found_by_either_name(store: Arc<dyn Store>) {
    // the same first 32 bits, and a zero before one of them
    let contents = vec![
        issued(&[1, 2, 3, 4, 5], 7),
        issued(&[1, 2, 3, 4, 6], 8),
        Content { serial: Some(vec![1, 2, 3, 4, 5]), ..Content::of(Kind::Refusal) },
        issued(&[0, 0xff, 1], 9),
        issued(&[0, 0xff, 1], 10),
    ];
    write(&*store, contents).await;
    let found = async |name: &[u8]| indexes(&store.issued_as(name).await.unwrap());
    assert_eq!(found(&[1, 2, 3, 4, 5]).await, [0], "what only begins alike, or is no certificate, is not it");
    assert_eq!(found(&[1, 2, 3, 4, 6]).await, [1]);
    assert_eq!(found(&[8; 32]).await, [1]);
    assert_eq!(found(&[0xff, 1]).await, [3, 4]);
    assert_eq!(found(&[0, 0, 0xff, 1]).await, [3, 4]);
    for none in [&[][..], &[1, 2, 3, 4], &[1], &[8; 31]] {
        assert_eq!(found(none).await, [0_u64; 0], "{none:?}");
    }
    let names: Vec<_> = store.indexed_range(0..9).await.unwrap().iter().map(|row| row.columns.names).collect();
    assert_eq!(names, [2, 2, 0, 2, 2]);
    assert_eq!(store.stray().await.unwrap(), None, "each name is an entry's");
}

pub(crate) async fn a_forwarding_moves_on_from_what_is_kept_alone(store: Arc<dyn Store>) {
    let row = |next, tag: Option<&[u8]>| ForwardRow { next, tag: tag.map(<[u8]>::to_vec) };
    let (first, second, unmarked) = (row(5, Some(&[1; 32])), row(9, Some(&[2; 32])), row(9, None));
    let kept = async |name| store.forward_cursor(name).await.unwrap();
    let moved = async |was: Option<&ForwardRow>, to: &ForwardRow| store.move_forward("siem", was, to).await.unwrap();
    assert_eq!(kept("siem").await, None);
    assert!(!moved(Some(&first), &second).await, "there is nothing to go on from");
    assert!(moved(None, &first).await);
    assert!(!moved(None, &second).await, "it began already");
    assert!(!moved(Some(&row(5, None)), &second).await, "the mark counts too");
    assert!(!moved(Some(&row(5, Some(&[3; 32]))), &second).await);
    assert!(!moved(Some(&row(4, Some(&[1; 32]))), &second).await, "a broker that is behind changes nothing");
    assert_eq!(kept("siem").await, Some(first.clone()));
    assert!(moved(Some(&first), &second).await);
    assert!(!moved(Some(&first), &second).await);
    assert!(moved(Some(&second), &unmarked).await);
    assert!(!moved(Some(&second), &first).await);
    assert!(moved(Some(&unmarked), &first).await, "a row of before there were marks is a row");
    assert!(store.move_forward("file", None, &second).await.unwrap());
    assert_eq!((kept("siem").await, kept("file").await), (Some(first), Some(second)));
}

fn request(number: u8) -> DropRequest {
    DropRequest {
        id: Uuid::from_bytes([number; 16]),
        asked_by: person("ada"),
        person: Some("bob".into()),
        before: after(3),
        next: 0,
        expires_at: after(1000),
        approved_at: None,
        done_at: None,
        asker_told: None,
        session: Some(session(1).id),
    }
}

fn drop_of(approver: &str, places: &[u64], done: bool, now: Timestamp) -> Append {
    let dropped: Places = places.iter().copied().collect();
    let content = Content { dropped: Some(dropped.numbers()), ..Content::of(Kind::BodyDropped) };
    let change = Change::BodyDrop {
        request: request(1).id,
        approver: Human { person: person(approver), told: None },
        places: dropped,
        min_age: SignedDuration::from_secs(10),
        next: places.last().map_or(0, |last| last + 1),
        done,
        keys: Box::new(LockKeys::of(&person(approver), Some(session(2).id), None)),
        now,
    };
    Append { entry: entry(content, now), change: Some(change) }
}

fn ask_for(request: DropRequest, now: Timestamp) -> Append {
    let keys = Box::new(LockKeys::of(&request.asked_by, request.session, None));
    let change = Some(Change::DropAsk { request: Box::new(request), keys, now });
    Append { entry: entry(Content::of(Kind::BodyDropped), now), change }
}

/// Five entries, the second of a kind that stays, and a request for what is older than three seconds after noon.
async fn asked(store: &dyn Store) {
    let of = |who: &str, kind| Content { person: Some(log_person(who, who)), ..Content::of(kind) };
    write(
        store,
        vec![
            of("bob", Kind::Login),
            Content::of(Kind::Reload),
            issued(&[9; 8], 9),
            of("bob", Kind::Grant),
            of("bob", Kind::Login),
        ],
    )
    .await;
    assert!(matches!(one(store, ask_for(request(1), after(5))).await, Appended::Recorded { index: 5, .. }));
    assert_eq!(store.drop_request(request(1).id).await.unwrap(), Some(request(1)));
    assert_eq!(store.drop_request(request(2).id).await.unwrap(), None);
}

pub(crate) async fn a_dropped_body_is_gone_with_its_names(store: Arc<dyn Store>) {
    asked(&*store).await;
    let leaves: Vec<_> = store.entry_range(0..5).await.unwrap().into_iter().map(|entry| entry.leaf).collect();
    assert!(matches!(one(&*store, drop_of("eve", &[0], false, after(30))).await, Appended::Recorded { .. }));
    let open = store.drop_request(request(1).id).await.unwrap().unwrap();
    assert_eq!((open.approved_at, open.done_at, open.person.as_deref()), (Some(after(30)), None, Some("bob")));
    assert_eq!(open.next, 1);
    // approved before it expired, so it may be brought to its end
    assert!(matches!(one(&*store, drop_of("eve", &[2], true, after(2000))).await, Appended::Recorded { .. }));
    let done = store.drop_request(request(1).id).await.unwrap().unwrap();
    assert_eq!((done.approved_at, done.done_at, done.person), (Some(after(30)), Some(after(2000)), None));

    let rows = store.indexed_range(0..5).await.unwrap();
    let there: Vec<_> = rows.iter().map(|row| row.entry.body.is_some()).collect();
    assert_eq!(there, [false, true, false, true, true]);
    assert_eq!(rows.iter().map(|row| row.entry.leaf.clone()).collect::<Vec<_>>(), leaves, "every leaf stays");
    assert_eq!(rows[0].columns, rows::Columns::of_dropped(Kind::Login.number()));
    assert_eq!(rows[2].columns, rows::Columns::of_dropped(Kind::Issued.number()));
    assert_eq!(store.issued_as(&[9; 8]).await.unwrap(), []);
    assert_eq!(store.stray().await.unwrap(), None, "no name is left of what was dropped");
    let bobs = EntryFilter { person: Some("bob".into()), ..EntryFilter::default() };
    assert_eq!(indexes(&store.entries(&bobs, None, 9).await.unwrap()), [4, 3]);
    // ada is nowhere any more, so her name can be taken by a new number, and that by nobody else
    let adas = EntryFilter { person: Some("ada".into()), ..EntryFilter::default() };
    assert_eq!(indexes(&store.entries(&adas, None, 9).await.unwrap()), [0_u64; 0]);
    let again = Content { person: Some(log_person("ada", "ada")), ..Content::of(Kind::Login) };
    one(&*store, Append { entry: entry(again, after(2001)), change: None }).await;
    assert_eq!(indexes(&store.entries(&adas, None, 9).await.unwrap()), [8]);
    assert_eq!(indexes(&store.entries(&bobs, None, 9).await.unwrap()), [4, 3]);

    store.sweep(after(2000 + 40 * 24 * 3600)).await.unwrap();
    assert_eq!(store.drop_request(request(1).id).await.unwrap(), None);
}

pub(crate) async fn a_body_stays_unless_every_condition_holds(store: Arc<dyn Store>) {
    asked(&*store).await;
    let refused = async |part| match one(&*store, part).await {
        Appended::Refused(condition) => condition,
        Appended::Recorded { .. } => panic!("it was dropped"),
    };
    assert_eq!(refused(drop_of("ada", &[0], true, after(30))).await, Condition::SamePerson);
    let mut alias = drop_of("ada", &[0], true, after(30));
    if let Some(Change::BodyDrop { approver, .. }) = &mut alias.change {
        approver.person.provider = ProviderAlias::new("other").unwrap();
    }
    assert_eq!(refused(alias).await, Condition::SamePerson, "one person by two providers' names");
    let mut elsewhere = drop_of("eve", &[0], true, after(30));
    if let Some(Change::BodyDrop { approver, .. }) = &mut elsewhere.change {
        approver.person.provider = ProviderAlias::new("other").unwrap();
        approver.person.issuer = "https://other.example.com".into();
    }
    assert_eq!(refused(elsewhere).await, Condition::SamePerson, "it may be the same human's account");
    assert_eq!(refused(drop_of("eve", &[0, 1], true, after(30))).await, Condition::BodyStays, "a kind that stays");
    assert_eq!(refused(drop_of("eve", &[3], true, after(30))).await, Condition::BodyStays, "not asked for");
    assert_eq!(refused(drop_of("eve", &[0], true, after(9))).await, Condition::BodyStays, "too young");
    assert_eq!(refused(drop_of("eve", &[0, 99], true, after(30))).await, Condition::BodyStays, "not there");
    assert_eq!(refused(drop_of("eve", &[0], true, after(1000))).await, Condition::RequestGone, "it expired");
    let whole = store.entry_range(0..6).await.unwrap();
    assert!(whole.iter().all(|entry| entry.body.is_some()), "what is refused leaves no trace");
    assert_eq!(whole.len(), 6);

    assert!(matches!(one(&*store, drop_of("eve", &[0], true, after(30))).await, Appended::Recorded { .. }));
    assert_eq!(refused(drop_of("eve", &[2], true, after(31))).await, Condition::RequestGone, "it is done");
}

/// While an operator verifies, a broker starts, or the log is asked about break-glass, another broker drops bodies: one that was
/// seen already, and one that was not. The entry that says so lies behind the end that is read.
pub(crate) async fn bodies_may_go_while_the_log_is_read(store: Arc<dyn Store>) {
    let login = || Content { person: Some(log_person("bob", "bob")), ..Content::of(Kind::Login) };
    // more than are read at once, and old enough to go
    let old = noon() - SignedDuration::from_hours(48);
    append(&*store, (0..1500).map(|_| Append { entry: entry(login(), old), change: None }).collect()).await;
    one(&*store, ask_for(request(1), after(5))).await;
    let faulty = FaultyStore::new(Arc::clone(&store), []);
    let dropped = async |count, places: &[u64]| {
        let gate = Arc::new(Semaphore::new(0));
        faulty.hold_range(1, Arc::clone(&gate));
        faulty.held(count).await;
        let dropped = one(&*store, drop_of("eve", places, false, after(30))).await;
        assert!(matches!(dropped, Appended::Recorded { .. }), "{dropped:?}");
        gate.add_permits(1);
    };
    let ((), verified) = tokio::join!(biased; dropped(1, &[0, 1200]), audit::verify_log(&*faulty));
    assert_eq!(verified.unwrap().entries, 1502);
    let grace = audit::Grace { key: SignedDuration::from_mins(1), anchor: SignedDuration::from_mins(1) };
    let key = AuditKey::from_seed(&[7; 32]).unwrap();
    let notary = audit::Notary::new(key, "log.example", Vec::new(), grace).unwrap();
    let known = audit::Known::default();
    let started = audit::open(&*faulty, &notary, &known, after(40));
    let ((), started) = tokio::join!(biased; dropped(2, &[1, 1300]), started);
    assert_eq!(started.unwrap().entries, 1503);
    assert_eq!(store.checkpoint().await.unwrap().unwrap().size, 1503, "what was read is what is signed");
    let asked = audit::Ledger::new(Arc::<FaultyStore>::clone(&faulty), watch::channel(audit::Standing::default()).1);
    let ((), asked) = tokio::join!(biased; dropped(3, &[2, 1400]), asked.keep_up(old));
    assert_eq!(asked.map_err(|error| error.to_string()), Ok(()));
    assert_eq!(audit::verify_log(&*store).await.unwrap().entries, 1504);
}

/// Nobody asks for it, nor approves it, who is locked or in a locked session; what someone asked who is locked by now is approved by
/// nobody; and while everything is locked, nothing goes at all.
pub(crate) async fn no_body_is_dropped_under_a_lock(store: Arc<dyn Store>) {
    asked(&*store).await;
    let refused = async |part| match one(&*store, part).await {
        Appended::Refused(condition) => Some(condition),
        Appended::Recorded { .. } => None,
    };
    let user = |subject: &str| LockTarget::User { issuer: "https://id.example.com".into(), subject: subject.into() };
    let prod = ClusterName::new("prod").unwrap();
    let targets = [
        (user("ada"), true, true),
        (LockTarget::Session(session(1).id), true, true),
        (user("eve"), false, true),
        (LockTarget::Session(session(2).id), false, true),
        (user("Ada"), false, false),
        (LockTarget::Session(session(3).id), false, false),
        (LockTarget::Cluster(prod), false, false),
        (LockTarget::Everything, true, true),
    ];
    for (number, (target, stops_asking, stops_dropping)) in (1..).zip(targets) {
        let (row, other) = (lock(number, target.clone()), request(number + 10));
        assert_eq!(refused(set(&row, after(30))).await, None);
        let expected = |stops: bool| stops.then_some(Condition::Locked);
        assert_eq!(refused(ask_for(other.clone(), after(30))).await, expected(stops_asking), "{target}");
        assert_eq!(store.drop_request(other.id).await.unwrap().is_none(), stops_asking, "{target}");
        let places: &[u64] = if stops_dropping { &[0] } else { &[] };
        assert_eq!(refused(drop_of("eve", places, false, after(30))).await, expected(stops_dropping), "{target}");
        if target != LockTarget::Everything {
            assert_eq!(refused(lift(&row, None, after(30))).await, None);
        }
    }
    assert!(store.entry_range(0..5).await.unwrap().iter().all(|row| row.body.is_some()), "nothing went");
}

/// By a claim that both providers tell, wherever the accounts are; and by nothing where only one tells it.
pub(crate) async fn bodies_are_dropped_by_two_humans(store: Arc<dyn Store>) {
    asked(&*store).await;
    let told = DropRequest { id: Uuid::from_bytes([2; 16]), asker_told: Some([7; 32]), ..request(2) };
    assert!(matches!(one(&*store, ask_for(told.clone(), after(6))).await, Appended::Recorded { index: 6, .. }));
    assert_eq!(store.drop_request(told.id).await.unwrap().as_ref(), Some(&told));
    let by = |subject: &str, provider: &str, own: Option<[u8; 32]>, number: u8| {
        let mut part = drop_of(subject, &[], false, after(30));
        if let Some(Change::BodyDrop { request, approver, .. }) = &mut part.change {
            *request = Uuid::from_bytes([number; 16]);
            approver.person.provider = ProviderAlias::new(provider).unwrap();
            approver.told = own;
        }
        part
    };
    for (what, part) in [
        ("the same human elsewhere", by("eve", "other", Some([7; 32]), 2)),
        ("what another claim tells", by("eve", "other", Some([8; 32]), 2)),
        ("the same human beside", by("eve", "corp", Some([7; 32]), 2)),
        ("of whom nothing is told", by("eve", "corp", None, 2)),
        ("the same account", by("ada", "corp", Some([8; 32]), 2)),
        ("told, for one who is not", by("eve", "corp", Some([8; 32]), 1)),
    ] {
        assert_eq!(one(&*store, part).await, Appended::Refused(Condition::SamePerson), "{what}");
    }
    for part in [by("eve", "other", Some(another_than_seven()), 2), by("eve", "corp", None, 1)] {
        assert!(matches!(one(&*store, part).await, Appended::Recorded { .. }));
    }
}
