//! Sessions, from their beginning until they are swept away.

use super::*;
use crate::domain::{BreakGlassId, PageUse};

pub(crate) async fn a_session_that_exists_is_not_made_again(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    assert!(store.begin_login(login(2, after(600)), 10, noon()).await.unwrap());
    let twin = SessionRow { id: session(2).id, ..row };
    let answers = append(&*store, vec![create(twin, 102), note(Kind::Start, noon())]).await;
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

pub(crate) async fn a_browsers_session_reads_back(store: Arc<dyn Store>) {
    let decides = PageUse::Decide { request: BreakGlassId(Uuid::from_u128(5)), hash: [6; 32] };
    let kinds = [
        (HumanClaim::Untold, Some(PageUse::Look)),
        (HumanClaim::Told([5; 32]), Some(decides)),
        (HumanClaim::Told([6; 32]), None),
    ];
    for (number, (human, page)) in (1..).zip(kinds) {
        let row = SessionRow { human, page, ..session(number) };
        assert!(store.begin_login(login(number, after(600)), 10, noon()).await.unwrap());
        assert!(matches!(one(&*store, create(row.clone(), number + 100)).await, Appended::Recorded { .. }));
        assert_eq!(store.session(row.id).await.unwrap(), Some(row));
    }
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
    store.release_refresh(row.id, after(10)).await.unwrap();
    assert!(!store.lease_refresh(row.id, after(11), after(20)).await.unwrap(), "whose lease ran out gives none back");
    store.release_refresh(row.id, after(20)).await.unwrap();
    assert!(store.lease_refresh(row.id, after(11), after(20)).await.unwrap());
    assert!(!store.lease_refresh(session(2).id, noon(), after(10)).await.unwrap(), "no such session");
}

pub(crate) async fn a_grant_needs_a_live_session(store: Arc<dyn Store>) {
    let row = logged_in(&*store, 1).await;
    let grant =
        |now| with(Change::GrantMade { session: row.id, now, not_after: after(9000), using: None, keys: keys() });
    assert!(matches!(one(&*store, grant(noon())).await, Appended::Recorded { .. }));
    let over =
        with(Change::GrantMade { session: row.id, now: after(1), not_after: after(1), using: None, keys: keys() });
    assert_eq!(one(&*store, over).await, Appended::Refused(Condition::GrantOver));
    assert_eq!(one(&*store, grant(row.expires_at)).await, Appended::Refused(Condition::SessionEnded));
    one(&*store, with(Change::SessionEnd { session: row.id, now: noon() })).await;
    assert_eq!(one(&*store, grant(noon())).await, Appended::Refused(Condition::SessionEnded));
    let unknown =
        with(Change::GrantMade { session: session(9).id, now: noon(), not_after: after(1), using: None, keys: keys() });
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
