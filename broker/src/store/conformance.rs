//! What any [`Store`] must do, as cases over the trait: each backend runs them all.

use std::sync::Arc;

use ichor_wire::log::{Content, Entry, Kind, Leaf, Person as LogPerson, VERSION, leaf_hash};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::*;
use crate::domain::{GrantId, Group, Person};

/// Names every case once, so that no backend can leave one out: `cases!(run)` hands the list to the macro `run`.
macro_rules! cases {
    ($run:ident) => {
        $run! {
            an_empty_log, indexes_are_contiguous_and_leaves_fit, a_refused_part_leaves_no_trace, a_clock_going_back_is_refused,
            queries_find_what_matches, own_entries_are_matched_by_the_whole_key, a_code_is_used_once_by_fifty,
            a_code_that_expired_or_never_was, a_session_that_exists_is_not_made_again, sessions_read_back_and_end_once,
            a_refresh_needs_its_version, one_refresh_lease_at_a_time, a_grant_needs_a_live_session, touches_are_rare,
            logins_are_bounded_and_expire, logins_advance_by_version, devices_are_bounded_and_expire,
            devices_advance_by_version, a_device_code_begins_a_session, providers_are_pinned,
            sweeping_takes_what_is_over, a_probe_succeeds
        }
    };
}
pub(crate) use cases;

/// No place in the log.
const NONE: [u64; 0] = [];

/// The time that every case begins at.
pub(crate) fn noon() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

pub(crate) fn after(seconds: i64) -> Timestamp {
    noon() + SignedDuration::from_secs(seconds)
}

pub(crate) fn person(subject: &str) -> Person {
    Person {
        provider: ProviderAlias::new("corp").unwrap(),
        issuer: "https://id.example.com".into(),
        subject: subject.into(),
    }
}

pub(crate) fn log_person(subject: &str, user: &str) -> LogPerson {
    LogPerson {
        provider: "corp".into(),
        issuer: "https://id.example.com".into(),
        subject: subject.into(),
        name: format!("The {user}"),
        user: user.into(),
    }
}

pub(crate) fn entry(content: Content, at: Timestamp) -> NewEntry {
    let entry = Entry {
        version: VERSION,
        id: vec![7; 16],
        time: at.as_microsecond(),
        salt: vec![9; 16],
        broker: "test".into(),
        content,
    };
    let encoded = entry.encode().unwrap();
    NewEntry { entry, encoded }
}

pub(crate) fn note(kind: Kind, at: Timestamp) -> Append {
    Append { entry: entry(Content::of(kind), at), change: None }
}

pub(crate) fn with(change: Change) -> Append {
    Append { entry: entry(Content::of(Kind::Login), noon()), change: Some(change) }
}

pub(crate) fn session(number: u8) -> SessionRow {
    SessionRow {
        id: SessionId(Uuid::from_bytes([number; 16])),
        token_hash: [number; 32],
        jkt: "thumbprint".into(),
        person: person("subject"),
        name: "Ada".into(),
        user: "ada".into(),
        groups: vec![
            Group { provider: ProviderAlias::new("corp").unwrap(), name: "sre, \"ops\"\u{0}/é".into() },
            Group { provider: ProviderAlias::new("corp").unwrap(), name: String::new() },
        ],
        groups_at: after(-10),
        acr: Some("mfa".into()),
        auth_time: Some(after(-20)),
        refresh_sealed: Some(vec![1, 2, 3]),
        version: 0,
        created_at: noon(),
        expires_at: after(3600),
        used_at: noon(),
        ended_at: None,
        tag: [9; 32],
    }
}

pub(crate) fn login(number: u8, expires_at: Timestamp) -> PendingLogin {
    PendingLogin {
        id: Uuid::from_bytes([number; 16]),
        version: 0,
        cookie_hash: [number; 32],
        code_hash: Some([number + 100; 32]),
        state: vec![number; 40],
        expires_at,
    }
}

fn device(number: u8, expires_at: Timestamp) -> DeviceLogin {
    DeviceLogin {
        id: Uuid::from_bytes([number; 16]),
        version: 0,
        device_hash: [number; 32],
        user_code: format!("CODE-{number}"),
        state: vec![number; 40],
        expires_at,
    }
}

fn create(session: SessionRow, code: u8) -> Append {
    with(Change::SessionCreate { session: Box::new(session), code_hash: [code; 32], now: noon() })
}

/// A live session with this number.
pub(crate) async fn logged_in(store: &dyn Store, number: u8) -> SessionRow {
    assert!(store.begin_login(login(number, after(600)), 1000, noon()).await.unwrap());
    let row = session(number);
    assert!(matches!(one(store, create(row.clone(), number + 100)).await, Appended::Recorded { .. }));
    row
}

pub(crate) async fn one(store: &dyn Store, part: Append) -> Appended {
    let mut answers = store.append(vec![part]).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers.pop().unwrap()
}

async fn found(store: &dyn Store, filter: EntryFilter) -> Vec<u64> {
    store.entries(&filter, None, 100).await.unwrap().iter().map(|entry| entry.index).collect()
}

pub(crate) async fn an_empty_log(store: Arc<dyn Store>) {
    assert_eq!(store.head().await.unwrap(), LogHead { size: 0, time: 0 });
    assert_eq!(store.entries(&EntryFilter::default(), None, 10).await.unwrap(), []);
    assert_eq!(store.entry_range(0..10).await.unwrap(), []);
    assert_eq!(store.append(Vec::new()).await.unwrap(), []);
    let since = EntryFilter { since: Some(noon()), until: Some(after(1)), ..EntryFilter::default() };
    assert_eq!(store.entries(&since, Some(0), 10).await.unwrap(), []);
}

pub(crate) async fn indexes_are_contiguous_and_leaves_fit(store: Arc<dyn Store>) {
    let batch: Vec<_> = Kind::ALL.into_iter().map(|kind| note(kind, noon())).collect();
    let bodies: Vec<_> = batch.iter().map(|part| part.entry.encoded.clone()).collect();
    let answers = store.append(batch).await.unwrap();
    assert!(matches!(one(&*store, note(Kind::Start, after(1))).await, Appended::Recorded { index: 13, .. }));

    let stored = store.entry_range(0..13).await.unwrap();
    for (index, ((body, answer), stored)) in (0..).zip(bodies.iter().zip(answers).zip(&stored)) {
        assert_eq!(stored.index, index);
        assert_eq!(stored.body.as_ref(), Some(body));
        assert_eq!(stored.leaf, Leaf::of(index, body, noon().as_microsecond()).encode().unwrap());
        assert_eq!(answer, Appended::Recorded { index, leaf_hash: leaf_hash(&stored.leaf) });
    }
    assert_eq!(stored.len(), 13);
    assert_eq!(store.head().await.unwrap(), LogHead { size: 14, time: after(1).as_microsecond() });
    assert_eq!(store.entry_range(12..u64::MAX).await.unwrap().len(), 2);
}

pub(crate) async fn a_refused_part_leaves_no_trace(store: Arc<dyn Store>) {
    assert!(store.begin_login(login(1, after(600)), 10, noon()).await.unwrap());
    let answers = store
        .append(vec![
            note(Kind::Start, noon()),
            create(session(1), 101),
            // The code is gone now: this part must leave neither entry nor session.
            create(session(2), 101),
            note(Kind::Reload, noon()),
        ])
        .await
        .unwrap();
    assert!(matches!(answers[0], Appended::Recorded { index: 0, .. }));
    assert!(matches!(answers[1], Appended::Recorded { index: 1, .. }));
    assert_eq!(answers[2], Appended::Refused(Condition::CodeGone));
    assert!(matches!(answers[3], Appended::Recorded { index: 2, .. }), "no gap where a part was refused");
    assert!(store.session(session(1).id).await.unwrap().is_some());
    assert!(store.session(session(2).id).await.unwrap().is_none());
    assert_eq!(store.head().await.unwrap().size, 3);
}

pub(crate) async fn a_clock_going_back_is_refused(store: Arc<dyn Store>) {
    assert!(store.begin_login(login(1, after(600)), 10, noon()).await.unwrap());
    let mut late = create(session(1), 101);
    late.entry = entry(Content::of(Kind::Login), after(-1));
    let answers = store
        .append(vec![note(Kind::Start, noon()), note(Kind::Start, noon()), late, note(Kind::Start, after(1))])
        .await
        .unwrap();
    assert!(matches!(answers[1], Appended::Recorded { index: 1, .. }), "the same time is no step back");
    assert_eq!(answers[2], Appended::Refused(Condition::ClockWentBack));
    assert!(matches!(answers[3], Appended::Recorded { index: 2, .. }));
    assert!(store.session(session(1).id).await.unwrap().is_none(), "its change was not made either");
    assert_eq!(one(&*store, note(Kind::Start, noon())).await, Appended::Refused(Condition::ClockWentBack));
}

pub(crate) async fn queries_find_what_matches(store: Arc<dyn Store>) {
    let grant = GrantId(Uuid::from_bytes([5; 16]));
    let content = |kind, who: Option<(&str, &str)>, cluster: Option<&str>| Content {
        person: who.map(|(subject, user)| log_person(subject, user)),
        cluster: cluster.map(Into::into),
        grant: (kind == Kind::Issued).then(|| grant.0.into_bytes().to_vec()),
        ..Content::of(kind)
    };
    let ada = Some(("s-ada", "ada"));
    let contents = [
        content(Kind::Login, ada, None),                             // 0
        content(Kind::Grant, ada, Some("prod")),                     // 1
        content(Kind::Issued, ada, Some("prod")),                    // 2
        content(Kind::Grant, Some(("ada", "bob")), Some("lab")),     // 3: another's subject is ada's user value
        content(Kind::Reload, None, None),                           // 4
        content(Kind::Grant, Some(("s-ada", "ada2")), Some("prod")), // 5: the same person, renamed
    ];
    let batch = (0..).zip(contents).map(|(i, content)| Append { entry: entry(content, after(i)), change: None });
    store.append(batch.collect()).await.unwrap();

    let all = EntryFilter::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found(&*store, all()).await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(found(&*store, EntryFilter { person: text("ada"), ..all() }).await, [3, 2, 1, 0]);
    assert_eq!(found(&*store, EntryFilter { person: text("s-ada"), ..all() }).await, [5, 2, 1, 0]);
    assert_eq!(found(&*store, EntryFilter { person: text("nobody"), ..all() }).await, NONE);
    assert_eq!(found(&*store, EntryFilter { cluster: text("prod"), ..all() }).await, [5, 2, 1]);
    assert_eq!(found(&*store, EntryFilter { cluster: text("prod"), kind: Some(Kind::Grant), ..all() }).await, [5, 1]);
    assert_eq!(found(&*store, EntryFilter { cluster: text("none"), ..all() }).await, NONE);
    assert_eq!(found(&*store, EntryFilter { kind: Some(Kind::Grant), ..all() }).await, [5, 3, 1]);
    assert_eq!(found(&*store, EntryFilter { grant: Some(grant), ..all() }).await, [2]);
    assert_eq!(found(&*store, EntryFilter { grant: Some(grant), kind: Some(Kind::Grant), ..all() }).await, NONE);
    let both = EntryFilter { person: text("ada"), cluster: text("prod"), kind: Some(Kind::Grant), ..all() };
    assert_eq!(found(&*store, both).await, [1]);
    assert_eq!(found(&*store, EntryFilter { since: Some(after(2)), until: Some(after(4)), ..all() }).await, [3, 2]);
    let early = EntryFilter { person: text("ada"), until: Some(after(1)), ..all() };
    assert_eq!(found(&*store, early).await, [0]);
    assert_eq!(found(&*store, EntryFilter { since: Some(after(9)), ..all() }).await, NONE);

    let page = store.entries(&EntryFilter { person: text("ada"), ..all() }, Some(3), 2).await.unwrap();
    assert_eq!(page.iter().map(|entry| entry.index).collect::<Vec<_>>(), [2, 1]);
    let indexed = store.indexed_range(0..6).await.unwrap();
    for row in &indexed {
        let body = Entry::decode(row.entry.body.as_ref().unwrap()).unwrap();
        assert_eq!(row.columns, rows::Columns::of(&body));
        assert_eq!(row.time, body.time);
    }
    assert_eq!(indexed.len(), 6);
}

pub(crate) async fn own_entries_are_matched_by_the_whole_key(store: Arc<dyn Store>) {
    let mine = log_person("ada", "ada");
    let others = [
        LogPerson { subject: "ADA".into(), ..mine.clone() },
        LogPerson { subject: "ada ".into(), ..mine.clone() },
        LogPerson { issuer: "https://id.example.com/".into(), ..mine.clone() },
        LogPerson { provider: "other".into(), ..mine.clone() },
    ];
    let contents =
        std::iter::once(mine).chain(others).map(|who| Content { person: Some(who), ..Content::of(Kind::Login) });
    store
        .append(contents.map(|content| Append { entry: entry(content, noon()), change: None }).collect())
        .await
        .unwrap();

    let own = EntryFilter { own: Some(person("ada")), ..EntryFilter::default() };
    assert_eq!(found(&*store, own.clone()).await, [0]);
    assert_eq!(found(&*store, EntryFilter { person: Some("ADA".into()), ..own.clone() }).await, NONE);
    assert_eq!(found(&*store, EntryFilter { person: Some("ada".into()), ..own }).await, [0]);
}

pub(crate) async fn a_code_is_used_once_by_fifty(store: Arc<dyn Store>) {
    assert!(store.begin_login(login(1, after(600)), 10, noon()).await.unwrap());
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..50 {
        let store = Arc::clone(&store);
        tries.spawn(async move { one(&*store, create(session(number), 101)).await });
    }
    let answers = tries.join_all().await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Appended::Recorded { .. })).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Appended::Refused(Condition::CodeGone)).count(), 49);
    assert_eq!(store.head().await.unwrap().size, 1);
    assert_eq!(store.login_by_cookie(&[1; 32], noon()).await.unwrap(), None, "the login is gone with its code");
}

pub(crate) async fn a_code_that_expired_or_never_was(store: Arc<dyn Store>) {
    assert!(store.begin_login(login(1, noon()), 10, after(-60)).await.unwrap());
    assert_eq!(one(&*store, create(session(1), 101)).await, Appended::Refused(Condition::CodeGone));
    assert_eq!(one(&*store, create(session(1), 55)).await, Appended::Refused(Condition::CodeGone));
    assert!(store.session(session(1).id).await.unwrap().is_none());
}

pub(crate) async fn a_session_that_exists_is_not_made_again(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    assert!(store.begin_login(login(2, after(600)), 10, noon()).await.unwrap());
    let twin = SessionRow { id: session(2).id, ..row };
    let answers = store.append(vec![create(twin, 102), note(Kind::Start, noon())]).await.unwrap();
    assert_eq!(answers[0], Appended::Refused(Condition::Stale), "the token is another session's");
    assert!(matches!(answers[1], Appended::Recorded { .. }), "the others of the batch do not suffer");
    assert!(store.login_by_code(&[102; 32], noon()).await.unwrap().is_some(), "what the part began was undone");
}

pub(crate) async fn sessions_read_back_and_end_once(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    assert_eq!(store.session(row.id).await.unwrap().as_ref(), Some(&row));
    assert_eq!(store.session_by_token(&row.token_hash).await.unwrap().as_ref(), Some(&row));
    assert_eq!(store.session_by_token(&[2; 32]).await.unwrap(), None);

    let end = || with(Change::SessionEnd { session: row.id, now: after(5) });
    assert!(matches!(one(&*store, end()).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, end()).await, Appended::Refused(Condition::SessionEnded));
    let ended = store.session_by_token(&row.token_hash).await.unwrap().unwrap();
    assert_eq!(ended.ended_at, Some(after(5)));
    assert_eq!(ended.refresh_sealed, None, "an ended session's refresh token is forgotten");
}

pub(crate) async fn a_refresh_needs_its_version(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    let refresh = |version, token: Option<u8>, now| {
        with(Change::SessionRefresh {
            session: row.id,
            version,
            groups: Vec::new(),
            groups_at: after(60),
            refresh_sealed: token.map(|byte| vec![byte]),
            tag: [8; 32],
            now,
        })
    };
    assert_eq!(one(&*store, refresh(7, Some(1), noon())).await, Appended::Refused(Condition::Stale));
    assert!(matches!(one(&*store, refresh(0, Some(9), noon())).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, refresh(0, Some(8), noon())).await, Appended::Refused(Condition::Stale));
    assert!(matches!(one(&*store, refresh(1, None, noon())).await, Appended::Recorded { .. }));
    let now = store.session(row.id).await.unwrap().unwrap();
    let told = SessionRow {
        groups: Vec::new(),
        groups_at: after(60),
        refresh_sealed: Some(vec![9]),
        version: 2,
        tag: [8; 32],
        ..row.clone()
    };
    assert_eq!(now, told, "acr and auth_time stay, as does a token that was not rotated");
    assert_eq!(one(&*store, refresh(2, None, row.expires_at)).await, Appended::Refused(Condition::SessionEnded));
}

pub(crate) async fn one_refresh_lease_at_a_time(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    assert!(store.lease_refresh(row.id, noon(), after(10)).await.unwrap());
    assert!(!store.lease_refresh(row.id, after(9), after(20)).await.unwrap());
    assert!(store.lease_refresh(row.id, after(10), after(20)).await.unwrap(), "a lease that ran out is free");
    store.release_refresh(row.id).await.unwrap();
    assert!(store.lease_refresh(row.id, after(11), after(20)).await.unwrap());
    assert!(!store.lease_refresh(session(2).id, noon(), after(10)).await.unwrap(), "no such session");
}

pub(crate) async fn a_grant_needs_a_live_session(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    let grant = |now| with(Change::GrantMade { session: row.id, now, not_after: after(9000) });
    assert!(matches!(one(&*store, grant(noon())).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, grant(row.expires_at)).await, Appended::Refused(Condition::SessionEnded));
    one(&*store, with(Change::SessionEnd { session: row.id, now: noon() })).await;
    assert_eq!(one(&*store, grant(noon())).await, Appended::Refused(Condition::SessionEnded));
    let unknown = with(Change::GrantMade { session: session(9).id, now: noon(), not_after: after(1) });
    assert_eq!(one(&*store, unknown).await, Appended::Refused(Condition::SessionEnded));
}

pub(crate) async fn touches_are_rare(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    for (at, used_at) in [(59, noon()), (60, after(60)), (30, after(60)), (119, after(60)), (180, after(180))] {
        store.touch_session(row.id, after(at)).await.unwrap();
        assert_eq!(store.session(row.id).await.unwrap().unwrap().used_at, used_at, "after {at} s");
    }
    assert_eq!(store.head().await.unwrap().size, 1, "not an audited change");
}

pub(crate) async fn logins_are_bounded_and_expire(store: Arc<dyn Store>) {
    assert!(store.begin_login(login(1, after(10)), 2, noon()).await.unwrap());
    assert!(store.begin_login(login(2, after(20)), 2, noon()).await.unwrap());
    assert!(!store.begin_login(login(3, after(20)), 2, noon()).await.unwrap());
    assert!(store.begin_login(login(3, after(20)), 2, after(10)).await.unwrap(), "an expired one takes no place");
    assert_eq!(store.login_by_cookie(&[2; 32], after(19)).await.unwrap(), Some(login(2, after(20))));
    assert_eq!(store.login_by_cookie(&[2; 32], after(20)).await.unwrap(), None);
    assert_eq!(store.login_by_code(&[103; 32], after(19)).await.unwrap(), Some(login(3, after(20))));
    assert_eq!(store.login_by_code(&[103; 32], after(20)).await.unwrap(), None);
    store.drop_login(login(3, noon()).id).await.unwrap();
    assert_eq!(store.login_by_code(&[103; 32], noon()).await.unwrap(), None);
}

pub(crate) async fn logins_advance_by_version(store: Arc<dyn Store>) {
    let first = PendingLogin { code_hash: None, ..login(1, after(10)) };
    assert!(store.begin_login(first.clone(), 2, noon()).await.unwrap());
    let next = PendingLogin { code_hash: Some([5; 32]), state: b"next".to_vec(), ..first };
    assert!(store.advance_login(next.clone()).await.unwrap());
    assert!(!store.advance_login(next.clone()).await.unwrap(), "someone was faster");
    assert_eq!(store.login_by_code(&[5; 32], noon()).await.unwrap(), Some(PendingLogin { version: 1, ..next }));
    assert!(!store.advance_login(login(2, after(10))).await.unwrap());
}

pub(crate) async fn devices_are_bounded_and_expire(store: Arc<dyn Store>) {
    assert!(store.begin_device(device(1, after(10)), 2, noon()).await.unwrap());
    let twice = DeviceLogin { user_code: "CODE-1".into(), ..device(4, after(10)) };
    assert!(!store.begin_device(twice, 2, noon()).await.unwrap(), "a user code stands for one device");
    assert!(store.begin_device(device(2, after(20)), 2, noon()).await.unwrap());
    assert!(!store.begin_device(device(3, after(20)), 2, noon()).await.unwrap());
    assert!(store.begin_device(device(3, after(20)), 2, after(10)).await.unwrap());
    assert_eq!(store.device_by_code(&[2; 32], after(19)).await.unwrap(), Some(device(2, after(20))));
    assert_eq!(store.device_by_user_code("CODE-2", after(19)).await.unwrap(), Some(device(2, after(20))));
    assert_eq!(store.device_by_user_code("code-2", after(19)).await.unwrap(), None);
    assert_eq!(store.device_by_user_code("CODE-2", after(20)).await.unwrap(), None);
    assert_eq!(store.device_by_code(&[2; 32], after(20)).await.unwrap(), None);
}

pub(crate) async fn devices_advance_by_version(store: Arc<dyn Store>) {
    assert!(store.begin_device(device(1, after(10)), 2, noon()).await.unwrap());
    let next = DeviceLogin { state: b"next".to_vec(), ..device(1, after(10)) };
    assert!(store.advance_device(next.clone()).await.unwrap());
    assert!(!store.advance_device(next.clone()).await.unwrap());
    assert_eq!(store.device_by_code(&[1; 32], noon()).await.unwrap(), Some(DeviceLogin { version: 1, ..next }));
}

pub(crate) async fn a_device_code_begins_a_session(store: Arc<dyn Store>) {
    assert!(store.begin_device(device(1, after(10)), 2, noon()).await.unwrap());
    assert!(matches!(one(&*store, create(session(1), 1)).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, create(session(2), 1)).await, Appended::Refused(Condition::CodeGone));
    assert_eq!(store.device_by_code(&[1; 32], noon()).await.unwrap(), None);
}

pub(crate) async fn providers_are_pinned(store: Arc<dyn Store>) {
    let (corp, other) = (ProviderAlias::new("corp").unwrap(), ProviderAlias::new("other").unwrap());
    assert_eq!(store.pin_provider(&corp, "https://a").await.unwrap(), "https://a");
    assert_eq!(store.pin_provider(&corp, "https://b").await.unwrap(), "https://a");
    assert_eq!(store.pin_provider(&other, "https://b").await.unwrap(), "https://b");
}

pub(crate) async fn sweeping_takes_what_is_over(store: Arc<dyn Store>) {
    let days = |days: i64| after(days * 24 * 3600);
    let (ended, live) = (logged_in(&*store, 1).await, logged_in(&*store, 2).await);
    one(&*store, with(Change::SessionEnd { session: ended.id, now: noon() })).await;
    assert!(store.begin_login(login(5, after(600)), 9, noon()).await.unwrap());
    store.sweep(days(30)).await.unwrap();
    assert!(store.session(ended.id).await.unwrap().is_some(), "kept for 30 days");
    assert_eq!(store.login_by_cookie(&[5; 32], noon()).await.unwrap(), None);
    store.sweep(days(30) + SignedDuration::from_secs(1)).await.unwrap();
    assert!(store.session(ended.id).await.unwrap().is_none());
    assert!(store.session(live.id).await.unwrap().is_some());
    store.sweep(days(31)).await.unwrap();
    assert!(store.session(live.id).await.unwrap().is_none(), "it expired more than 30 days before");
}

pub(crate) async fn a_probe_succeeds(store: Arc<dyn Store>) {
    store.probe().await.unwrap();
    assert_eq!(store.head().await.unwrap().size, 0);
}
