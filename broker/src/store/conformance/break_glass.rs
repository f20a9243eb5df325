//! Break-glass requests: approved by others, used within the grant's own transaction, ended, reviewed.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;
use crate::domain::{BreakGlassState, BreakGlassStep};

const HASH: [u8; 32] = [33; 32];

/// A request of `subject` that waits for a quarter of an hour and is good for half an hour.
pub(crate) fn request(number: u16, quorum: u64, uses: u64) -> BreakGlassRow {
    let mut id = [0; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    BreakGlassRow {
        id: BreakGlassId(Uuid::from_bytes(id)),
        state: BreakGlassState::Pending,
        person: person("subject"),
        human: [1; 32],
        cluster: "prod".into(),
        contents: "{\"what\":\"é\"}".into(),
        hash: HASH,
        tag: [34; 32],
        quorum,
        self_service: false,
        uses,
        life: SignedDuration::from_mins(30),
        waits_until: after(900),
        good_until: None,
        used: 0,
        jkt: None,
        closing: None,
        review: None,
        given: 0,
    }
}

fn approval(number: u8) -> ApprovalRow {
    ApprovalRow {
        human: [number; 32],
        hash: HASH,
        person: person(&format!("approver {number}")),
        name: "Bob".into(),
        user: format!("bob-{number}"),
        session: session(9).id,
        comment: Some("go".into()),
        at: after(60),
        tag: [35; 32],
    }
}

fn changed(change: BreakGlassChange, now: Timestamp) -> Append {
    with(Change::BreakGlass { change, now, keys: None })
}

fn approve(request: &BreakGlassRow, approval: ApprovalRow, now: Timestamp) -> Append {
    changed(BreakGlassChange::Approve { request: request.id, approval: Box::new(approval) }, now)
}

fn close(request: &BreakGlassRow, to: BreakGlassState, now: Timestamp) -> Append {
    let closing = Closing { by: "bob".into(), at: now, comment: None };
    changed(BreakGlassChange::Close { request: request.id, to, closing }, now)
}

fn uses(request: &BreakGlassRow, grant: u16, jkt: &str, now: Timestamp) -> Append {
    let mut id = [7; 16];
    id[..2].copy_from_slice(&grant.to_be_bytes());
    id[2..4].copy_from_slice(&request.id.0.as_bytes()[14..]);
    let using = BreakGlassUse {
        request: request.id,
        hash: HASH,
        grant: GrantId(Uuid::from_bytes(id)),
        person: request.person.clone(),
        jkt: jkt.into(),
        quorum: request.quorum,
        self_service: request.self_service,
        uses: request.uses,
    };
    let keys = Box::new(LockKeys { grant: Some(using.grant), ..*keys() });
    let using = Some(Box::new(using));
    with(Change::GrantMade { session: session(1).id, now, not_after: after(7200), using, keys })
}

fn grant_of(append: &Append) -> GrantId {
    match &append.change {
        Some(Change::GrantMade { using: Some(using), .. }) => using.grant,
        other => panic!("{other:?}"),
    }
}

/// More than any case asks for.
pub(crate) fn free() -> AskBounds {
    AskBounds { open: 1000, hourly: 1000, unreviewed_alone: 1000 }
}

fn asks(row: &BreakGlassRow, bounds: AskBounds, now: Timestamp) -> Append {
    changed(BreakGlassChange::Ask { request: Box::new(row.clone()), bounds }, now)
}

async fn asked(store: &dyn Store, row: &BreakGlassRow) {
    assert!(matches!(one(store, asks(row, free(), noon())).await, Appended::Recorded { .. }));
}

async fn file(store: &dyn Store, row: &BreakGlassRow) -> BreakGlassFile {
    store.break_glass(row.id).await.unwrap().unwrap()
}

fn refused(condition: Condition) -> Appended {
    Appended::Refused(condition)
}

pub(crate) async fn a_break_glass_request_reads_back_with_what_became_of_it(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let row = request(1, 2, 2);
    asked(&*store, &row).await;
    assert_eq!(
        file(&*store, &row).await,
        BreakGlassFile { request: row.clone(), approvals: Vec::new(), told: None, uses: Vec::new() }
    );
    assert_eq!(store.break_glass(request(9, 1, 1).id).await.unwrap(), None);

    one(&*store, approve(&row, approval(2), after(60))).await;
    let half = file(&*store, &row).await;
    assert_eq!((half.request.state, half.request.good_until, half.request.given), (BreakGlassState::Pending, None, 1));
    let second = ApprovalRow { at: after(120), comment: None, ..approval(3) };
    one(&*store, approve(&row, second.clone(), after(120))).await;
    let whole = file(&*store, &row).await;
    assert_eq!(whole.approvals, [approval(2), second]);
    assert_eq!(whole.request.state, BreakGlassState::Approved);
    assert_eq!(
        whole.request.good_until,
        Some(after(120 + 1800)),
        "its life begins with the approval that makes the quorum"
    );

    let used = uses(&row, 1, "key", after(180));
    let grant = grant_of(&used);
    assert!(matches!(one(&*store, used).await, Appended::Recorded { .. }));
    let once = file(&*store, &row).await;
    assert_eq!(once.uses, [UseRow { grant, at: after(180), was_returned: false, is_open: true }]);
    assert_eq!((once.request.used, once.request.jkt.as_deref()), (1, Some("key")));

    one(&*store, made(grant, after(190))).await;
    one(&*store, close(&row, BreakGlassState::Revoked, after(200))).await;
    let review = Review { label: "drill".into(), note: "é".into(), by: "bob".into(), at: after(300) };
    let change = BreakGlassChange::Review { request: row.id, review: Box::new(review.clone()) };
    one(&*store, changed(change, after(300))).await;
    let over = file(&*store, &row).await.request;
    assert_eq!((over.state, over.review), (BreakGlassState::Reviewed, Some(review)));
    assert_eq!(over.closing, Some(Closing { by: "bob".into(), at: after(200), comment: None }));
}

/// openbao#3666: no approval is no quorum, whatever the row says.
pub(crate) async fn case_23_nothing_is_used_without_its_approvals(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    for quorum in [0, 1, 2] {
        let row = request(10 + u16::try_from(quorum).unwrap(), quorum, 1);
        asked(&*store, &row).await;
        assert_eq!(one(&*store, uses(&row, 1, "key", after(61))).await, refused(Condition::RequestMoved), "{quorum}");
        for given in 1..=quorum.max(1) {
            let is_enough = given == quorum.max(1);
            one(&*store, approve(&row, approval(1 + u8::try_from(given).unwrap()), after(60))).await;
            let answer = one(&*store, uses(&row, 2, "key", after(61))).await;
            assert_eq!(matches!(answer, Appended::Recorded { .. }), is_enough, "{given} of {quorum}: {answer:?}");
        }
    }
    // the row says one, the marked contents two
    let row = request(20, 1, 1);
    asked(&*store, &row).await;
    one(&*store, approve(&row, approval(2), after(60))).await;
    let mut more = uses(&row, 1, "key", after(61));
    if let Some(Change::GrantMade { using: Some(using), .. }) = &mut more.change {
        using.quorum = 2;
    }
    assert_eq!(one(&*store, more).await, refused(Condition::RequestMoved));
}

pub(crate) async fn an_approval_counts_for_another_human_and_the_same_contents(store: Arc<dyn Store>) {
    let row = request(1, 2, 1);
    asked(&*store, &row).await;
    let own_account = ApprovalRow { person: row.person.clone(), ..approval(2) };
    let own_human = ApprovalRow { human: row.human, ..approval(2) };
    for own in [own_account, own_human] {
        assert_eq!(one(&*store, approve(&row, own, after(60))).await, refused(Condition::OwnRequest));
    }
    let other = ApprovalRow { hash: [9; 32], ..approval(2) };
    assert_eq!(one(&*store, approve(&row, other, after(60))).await, refused(Condition::OtherContents));
    assert!(matches!(one(&*store, approve(&row, approval(2), after(60))).await, Appended::Recorded { .. }));
    let twin = ApprovalRow { person: person("another account"), ..approval(2) };
    for again in [approval(2), twin] {
        assert_eq!(one(&*store, approve(&row, again, after(60))).await, refused(Condition::ApprovedBefore));
    }
    assert_eq!(
        one(&*store, approve(&row, approval(3), row.waits_until)).await,
        refused(Condition::RequestMoved),
        "too late"
    );
    assert_eq!(one(&*store, approve(&request(9, 1, 1), approval(3), noon())).await, refused(Condition::RequestMoved));
    assert_eq!(file(&*store, &row).await.request.state, BreakGlassState::Pending);
}

/// CVE-2026-45720.
/// Has all of these written by tasks of their own; how many were recorded, where each other met this condition.
async fn at_once(store: &Arc<dyn Store>, parts: impl Iterator<Item = Append>, otherwise: Condition) -> usize {
    let mut tasks = tokio::task::JoinSet::new();
    for part in parts {
        let store = Arc::clone(store);
        tasks.spawn(async move { one(&*store, part).await });
    }
    let (recorded, others): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(|done| matches!(done, Appended::Recorded { .. }));
    others.into_iter().for_each(|other| assert_eq!(other, refused(otherwise)));
    recorded.len()
}

pub(crate) async fn case_14_fifty_uses_at_once_have_one_winner(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let row = request(1, 1, 1);
    asked(&*store, &row).await;
    one(&*store, approve(&row, approval(2), after(60))).await;
    let won =
        at_once(&store, (0..50).map(|number| uses(&row, number, "key", after(61))), Condition::RequestMoved).await;
    let file = file(&*store, &row).await;
    assert_eq!((won, file.request.used, file.uses.len()), (1, 1, 1));
    assert_eq!(file.request.state, BreakGlassState::Used);
}

pub(crate) async fn case_14_fifty_approvals_of_one_human_count_once(store: Arc<dyn Store>) {
    let row = request(1, 2, 1);
    asked(&*store, &row).await;
    let given = (0..50).map(|_| approve(&row, approval(2), after(60)));
    let counted = at_once(&store, given, Condition::ApprovedBefore).await;
    assert_eq!(counted, 1);
    let row = file(&*store, &row).await.request;
    assert_eq!((row.state, row.given), (BreakGlassState::Pending, 1));
}

pub(crate) async fn case_14_fifty_humans_at_once_make_one_quorum(store: Arc<dyn Store>) {
    let row = request(1, 3, 1);
    asked(&*store, &row).await;
    let given = (2..52).map(|number| approve(&row, approval(number), after(60)));
    let counted = at_once(&store, given, Condition::RequestMoved).await;
    let row = file(&*store, &row).await.request;
    assert_eq!(
        (counted, row.given, row.state),
        (3, 3, BreakGlassState::Approved),
        "once approved it waits for no more"
    );
}

/// In one batch too, where nobody has seen the other's answer.
pub(crate) async fn case_14_fifty_approvals_in_one_batch_make_one_quorum(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let row = request(1, 3, 1);
    asked(&*store, &row).await;
    let batch = (2..52).map(|number| approve(&row, approval(number), after(60))).collect();
    let answers = append(&*store, batch).await;
    let counted = answers.iter().filter(|answer| matches!(answer, Appended::Recorded { .. })).count();
    assert_eq!(counted, 3, "once approved it waits for no more: {answers:?}");
    let batch = (0..50).map(|number| uses(&row, number, "key", after(61))).collect();
    let won = append(&*store, batch).await.iter().filter(|answer| matches!(answer, Appended::Recorded { .. })).count();
    assert_eq!(won, 1);
}

pub(crate) async fn a_use_that_failed_is_given_back_to_its_key_alone(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let row = request(1, 1, 1);
    asked(&*store, &row).await;
    one(&*store, approve(&row, approval(2), after(60))).await;
    let first = uses(&row, 1, "key", after(61));
    let grant = grant_of(&first);
    one(&*store, first).await;
    let give_back = || changed(BreakGlassChange::Return { grant }, after(62));
    assert!(matches!(one(&*store, give_back()).await, Appended::Recorded { .. }));
    assert!(matches!(one(&*store, give_back()).await, Appended::Recorded { .. }), "its entry stands all the same");
    let back = file(&*store, &row).await;
    assert_eq!((back.request.state, back.request.used), (BreakGlassState::Approved, 0), "given back once");
    assert_eq!(one(&*store, uses(&row, 2, "other", after(63))).await, refused(Condition::OtherKey));
    assert!(matches!(one(&*store, uses(&row, 3, "key", after(63))).await, Appended::Recorded { .. }));
    let unknown = BreakGlassChange::Return { grant: GrantId(Uuid::nil()) };
    assert!(matches!(one(&*store, changed(unknown, after(64))).await, Appended::Recorded { .. }));
    assert_eq!(file(&*store, &row).await.request.used, 1);
}

pub(crate) async fn a_use_needs_its_person_session_and_time(store: Arc<dyn Store>) {
    let live = logged_in(&*store, 1).await;
    let row = request(1, 1, 9);
    asked(&*store, &row).await;
    one(&*store, approve(&row, approval(2), after(60))).await;
    let edit = |change: &dyn Fn(&mut BreakGlassUse)| {
        let mut used = uses(&row, 1, "key", after(61));
        if let Some(Change::GrantMade { using: Some(using), .. }) = &mut used.change {
            change(using);
        }
        used
    };
    let strangers: [&dyn Fn(&mut BreakGlassUse); 5] = [
        &|using| using.uses = 0,
        &|using| using.person.subject = "Subject".into(),
        &|using| using.person.issuer = "https://ID.example.com".into(),
        &|using| using.hash = [9; 32],
        &|using| using.request = request(9, 1, 1).id,
    ];
    for stranger in strangers {
        assert_eq!(one(&*store, edit(stranger)).await, refused(Condition::RequestMoved));
    }
    assert_eq!(
        one(&*store, uses(&row, 1, "key", after(60 + 1800))).await,
        refused(Condition::RequestMoved),
        "its time is over"
    );
    one(&*store, with(Change::SessionEnd { session: live.id, now: after(61) })).await;
    assert_eq!(one(&*store, uses(&row, 1, "key", after(62))).await, refused(Condition::SessionEnded));
    assert_eq!(file(&*store, &row).await.request.used, 0);
}

pub(crate) async fn requests_are_bounded_listed_and_run_out(store: Arc<dyn Store>) {
    let ask = |row: BreakGlassRow, now| asks(&row, AskBounds { open: 2, ..free() }, now);
    for number in [1, 2] {
        assert!(matches!(one(&*store, ask(request(number, 1, 1), noon())).await, Appended::Recorded { .. }));
    }
    assert_eq!(one(&*store, ask(request(3, 1, 1), noon())).await, refused(Condition::TooManyOpen));
    let twin = BreakGlassRow { person: person("twin"), ..request(3, 1, 1) };
    assert_eq!(
        one(&*store, ask(twin, noon())).await,
        refused(Condition::TooManyOpen),
        "another account of the same human"
    );
    let other = BreakGlassRow { person: person("other"), human: [2; 32], cluster: "lab".into(), ..request(4, 1, 1) };
    assert!(matches!(one(&*store, ask(other.clone(), noon())).await, Appended::Recorded { .. }), "each has their own");
    let late = BreakGlassRow { waits_until: after(5000), ..request(5, 1, 1) };
    assert!(
        matches!(one(&*store, ask(late, after(900))).await, Appended::Recorded { .. }),
        "what waits no longer counts no more"
    );

    let ids = async |filter: BreakGlassFilter, before, limit| {
        let rows = store.break_glass_list(&filter, before, limit).await.unwrap();
        rows.iter().map(|row| row.id.0.as_bytes()[15]).collect::<Vec<_>>()
    };
    let all = BreakGlassFilter::default();
    assert_eq!(ids(all.clone(), None, 9).await, [5, 4, 2, 1]);
    assert_eq!(ids(all.clone(), Some(request(4, 1, 1).id), 1).await, [2]);
    let of_other = BreakGlassFilter { person: Some(other.person), ..all.clone() };
    assert_eq!(ids(of_other, None, 9).await, [4]);
    let pending = vec![BreakGlassState::Pending, BreakGlassState::Used];
    let lab = BreakGlassFilter { cluster: Some("lab".into()), states: pending, ..all.clone() };
    assert_eq!(ids(lab, None, 9).await, [4]);
    let no_text = BreakGlassFilter { cluster: Some("lab\0".into()), ..all.clone() };
    assert_eq!(ids(no_text, None, 9).await, [0_u8; 0]);

    let due =
        async |now| store.break_glass_due(now, 9).await.unwrap().iter().map(|row| row.id).collect::<BTreeSet<_>>();
    assert_eq!(due(after(899)).await.len(), 0);
    assert_eq!(due(after(900)).await, [1, 2, 4].map(|number| request(number, 1, 1).id).into());
    let run_out = |number: u16, now| changed(BreakGlassChange::TimeOut { request: request(number, 1, 1).id }, now);
    assert_eq!(one(&*store, run_out(1, after(899))).await, refused(Condition::RequestMoved));
    assert!(matches!(one(&*store, run_out(1, after(900))).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, run_out(1, after(901))).await, refused(Condition::RequestMoved), "once");
    assert_eq!(file(&*store, &request(1, 1, 1)).await.request.state, BreakGlassState::Expired);
    assert_eq!(ids(BreakGlassFilter { states: vec![BreakGlassState::Expired], ..all }, None, 9).await, [1]);
}

/// A backup that was put back knows of no request what became of it later.
pub(crate) async fn a_log_that_is_opened_again_ends_what_was_open(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let reopened = |row: &BreakGlassRow| changed(BreakGlassChange::Reopened { request: row.id }, after(62));
    let rows = [1, 2, 3].map(|number| request(number, 1, 2));
    for row in &rows {
        assert!(matches!(one(&*store, asks(row, free(), noon())).await, Appended::Recorded { .. }));
    }
    let [pending, unused, used] = rows;
    for row in [&unused, &used] {
        assert!(matches!(one(&*store, approve(row, approval(2), noon())).await, Appended::Recorded { .. }));
    }
    let using = uses(&used, 1, "key", after(61));
    let grant = grant_of(&using);
    assert!(matches!(one(&*store, using).await, Appended::Recorded { .. }));
    for row in [&pending, &unused, &used] {
        assert!(matches!(one(&*store, reopened(row)).await, Appended::Recorded { .. }));
        assert_eq!(one(&*store, reopened(row)).await, refused(Condition::RequestMoved), "once");
    }
    // nobody knows what came of the use, and what is given back opens nothing
    one(&*store, changed(BreakGlassChange::Return { grant }, after(63))).await;
    let states = [(&pending, BreakGlassState::Expired), (&unused, BreakGlassState::Lapsed)];
    for (row, state) in states.into_iter().chain([(&used, BreakGlassState::Revoked)]) {
        assert_eq!(file(&*store, row).await.request.state, state);
        assert_eq!(one(&*store, uses(row, 2, "key", after(64))).await, refused(Condition::RequestMoved));
    }
}

/// Whoever asks and takes back in a loop floods nobody, whatever accounts they use.
pub(crate) async fn a_human_asks_so_often_an_hour_and_no_more(store: Arc<dyn Store>) {
    let bounds = AskBounds { open: 2, hourly: 3, ..free() };
    let ask = |row: BreakGlassRow, now| asks(&row, bounds, now);
    for number in 1..=3 {
        let row = request(number, 1, 1);
        assert!(matches!(one(&*store, ask(row.clone(), after(i64::from(number)))).await, Appended::Recorded { .. }));
        assert!(matches!(
            one(&*store, close(&row, BreakGlassState::Cancelled, after(i64::from(number)))).await,
            Appended::Recorded { .. }
        ));
    }
    let late = |number, seconds: i64| BreakGlassRow { waits_until: after(seconds + 900), ..request(number, 1, 1) };
    assert_eq!(one(&*store, ask(late(4, 3600), after(3600))).await, refused(Condition::TooManyAsked));
    let twin = BreakGlassRow { person: person("twin"), ..late(4, 3600) };
    assert_eq!(one(&*store, ask(twin, after(3600))).await, refused(Condition::TooManyAsked), "the same human");
    let other = BreakGlassRow { human: [2; 32], person: person("other"), ..late(5, 3600) };
    assert!(matches!(one(&*store, ask(other, after(3600))).await, Appended::Recorded { .. }), "each has their own");
    assert!(matches!(one(&*store, ask(late(4, 3601), after(3601))).await, Appended::Recorded { .. }), "an hour later");
    assert_eq!(
        one(&*store, ask(late(6, 3601), after(3601))).await,
        refused(Condition::TooManyAsked),
        "one, and no more"
    );
}

/// Who lets themselves in asks again once someone has looked at what they did.
pub(crate) async fn self_service_waits_for_reviews(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let bounds = AskBounds { unreviewed_alone: 2, ..free() };
    let alone = |number| BreakGlassRow { self_service: true, quorum: 0, ..request(number, 1, 1) };
    let use_alone = async |number: u16| {
        let row = alone(number);
        assert!(matches!(one(&*store, asks(&row, bounds, noon())).await, Appended::Recorded { .. }), "{number}");
        let told = ToldRow { hash: HASH, sink: "pager".into(), at: noon(), tag: [36; 32] };
        one(&*store, changed(BreakGlassChange::Told { request: row.id, told: Box::new(told) }, noon())).await;
        let used = uses(&row, number, "key", noon());
        let grant = grant_of(&used);
        assert!(matches!(one(&*store, used).await, Appended::Recorded { .. }));
        grant
    };
    let first = use_alone(1).await;
    one(&*store, made(first, noon())).await;
    let second = use_alone(2).await;
    assert_eq!(one(&*store, asks(&alone(3), bounds, noon())).await, refused(Condition::Unreviewed));
    let twin = BreakGlassRow { person: person("twin"), ..alone(3) };
    assert_eq!(one(&*store, asks(&twin, bounds, noon())).await, refused(Condition::Unreviewed), "the same human");
    assert!(
        matches!(one(&*store, asks(&request(4, 1, 1), bounds, noon())).await, Appended::Recorded { .. }),
        "of others"
    );
    // what led to no certificate can be used again, and waits for no review once that is over
    one(&*store, changed(BreakGlassChange::Return { grant: second }, noon())).await;
    assert_eq!(one(&*store, asks(&alone(5), bounds, noon())).await, refused(Condition::Unreviewed));
    one(&*store, close(&alone(2), BreakGlassState::Revoked, noon())).await;
    use_alone(5).await;
    assert_eq!(one(&*store, asks(&alone(6), bounds, noon())).await, refused(Condition::Unreviewed));
    let review = Review { label: "emergency".into(), note: "x".into(), by: "bob".into(), at: noon() };
    let review = BreakGlassChange::Review { request: alone(1).id, review: Box::new(review) };
    assert!(matches!(one(&*store, changed(review, noon())).await, Appended::Recorded { .. }));
    use_alone(6).await;
}

/// A certificate came of this grant.
fn made(grant: GrantId, now: Timestamp) -> Append {
    let keys = Box::new(LockKeys { grant: Some(grant), ..*keys() });
    with(Change::CertificateMade { keys, now })
}

/// Given back afterwards, a use that was reviewed would be lost, and one whose time was told to be over would be told so twice.
pub(crate) async fn a_use_on_its_way_is_neither_reviewed_nor_over(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let row = request(1, 1, 2);
    asked(&*store, &row).await;
    one(&*store, approve(&row, approval(2), after(60))).await;
    let over = after(60 + 1_800);
    let first = uses(&row, 1, "key", after(61));
    let on_its_way = grant_of(&first);
    one(&*store, first).await;
    let time_out = || changed(BreakGlassChange::TimeOut { request: row.id }, over);
    let due = async || store.break_glass_due(over, 9).await.unwrap().len();
    assert_eq!((one(&*store, time_out()).await, due().await), (refused(Condition::RequestMoved), 0));
    one(&*store, changed(BreakGlassChange::Return { grant: on_its_way }, after(62))).await;
    assert_eq!(due().await, 1);

    let [one_made, open] = [2, 3].map(|grant| uses(&row, grant, "key", after(63)));
    let [one_made, open] = {
        let grants = [grant_of(&one_made), grant_of(&open)];
        one(&*store, one_made).await;
        one(&*store, open).await;
        grants
    };
    one(&*store, made(one_made, after(64))).await;
    let review = || {
        let review = Review { label: "drill".into(), note: "n".into(), by: "b".into(), at: after(65) };
        changed(BreakGlassChange::Review { request: row.id, review: Box::new(review) }, after(65))
    };
    assert_eq!(one(&*store, review()).await, refused(Condition::RequestMoved), "one is on its way");
    one(&*store, changed(BreakGlassChange::Return { grant: open }, after(66))).await;
    assert_eq!(file(&*store, &row).await.request.state, BreakGlassState::Approved, "it can be used again");
    assert!(matches!(one(&*store, time_out()).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, time_out()).await, refused(Condition::RequestMoved), "once");
    assert!(matches!(one(&*store, review()).await, Appended::Recorded { .. }));
}

/// A broker that stops between a grant's entry and its outcome costs nobody the use; one that is slow makes no second certificate.
pub(crate) async fn a_use_without_an_outcome_is_given_back_or_kept_never_both(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let row = request(1, 1, 1);
    asked(&*store, &row).await;
    one(&*store, approve(&row, approval(2), after(60))).await;
    let first = uses(&row, 1, "key", after(61));
    let stopped = grant_of(&first);
    one(&*store, first).await;
    let open = async |before| store.break_glass_open_uses(before, 9).await.unwrap();
    assert_eq!(open(after(60)).await, []);
    assert_eq!(open(after(61)).await, [(row.id, stopped)]);
    let abandon = |grant, before| changed(BreakGlassChange::Abandon { grant, before }, after(200));
    let moved = || refused(Condition::RequestMoved);
    assert_eq!(one(&*store, abandon(stopped, after(60))).await, moved(), "it may be on its way still");
    assert!(matches!(one(&*store, abandon(stopped, after(61))).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, abandon(stopped, after(61))).await, moved(), "once");
    assert_eq!(open(after(999)).await, []);
    let back = file(&*store, &row).await.request;
    assert_eq!((back.state, back.used), (BreakGlassState::Approved, 0));

    // whoever was slow comes too late
    let made = |grant| made(grant, after(201));
    assert_eq!(one(&*store, made(stopped)).await, moved(), "the use is no longer its own");
    assert_eq!(
        one(&*store, uses(&row, 2, "other", after(202))).await,
        refused(Condition::OtherKey),
        "to its key alone"
    );
    let second = uses(&row, 2, "key", after(202));
    let issued = grant_of(&second);
    assert!(matches!(one(&*store, second).await, Appended::Recorded { .. }));
    assert!(matches!(one(&*store, made(issued)).await, Appended::Recorded { .. }));
    assert_eq!(open(after(999)).await, []);
    assert_eq!(one(&*store, abandon(issued, after(999))).await, moved(), "a certificate came of it");
    assert_eq!(file(&*store, &row).await.request.used, 1);
    let unknown = GrantId(Uuid::nil());
    assert_eq!(one(&*store, abandon(unknown, after(999))).await, moved());
    assert!(matches!(one(&*store, made(unknown)).await, Appended::Recorded { .. }), "one that used no request");
}

/// Whoever takes a request away while its last use is on its way has taken it away, whatever comes of that use.
pub(crate) async fn what_is_revoked_while_its_last_use_is_on_its_way_stays_so(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let revoke = |row: &BreakGlassRow, now| close(row, BreakGlassState::Revoked, now);
    let review = |row: &BreakGlassRow| {
        let review = Review { label: "misuse".into(), note: "n".into(), by: "bob".into(), at: after(300) };
        changed(BreakGlassChange::Review { request: row.id, review: Box::new(review) }, after(300))
    };
    let moved = || refused(Condition::RequestMoved);
    for (number, is_issued) in [(1, true), (2, false)] {
        let row = request(number, 1, 1);
        asked(&*store, &row).await;
        one(&*store, approve(&row, approval(2), after(60))).await;
        let used = uses(&row, 1, "key", after(61));
        let grant = grant_of(&used);
        one(&*store, used).await;
        assert_eq!(file(&*store, &row).await.request.state, BreakGlassState::Used);
        assert!(matches!(one(&*store, revoke(&row, after(62))).await, Appended::Recorded { .. }));
        assert_eq!(one(&*store, revoke(&row, after(63))).await, moved(), "once");
        assert_eq!(one(&*store, review(&row)).await, moved(), "its use is on its way");
        let outcome = match is_issued {
            true => made(grant, after(64)),
            false => changed(BreakGlassChange::Abandon { grant, before: after(61) }, after(200)),
        };
        assert!(matches!(one(&*store, outcome).await, Appended::Recorded { .. }), "{is_issued}");
        let then = file(&*store, &row).await;
        assert_eq!((then.request.state, then.request.used), (BreakGlassState::Revoked, u64::from(is_issued)));
        assert_eq!(then.uses, [UseRow { grant, at: after(61), was_returned: !is_issued, is_open: false }]);
        assert_eq!(one(&*store, uses(&row, 2, "key", after(201))).await, moved(), "it opens nothing");
        let answer = one(&*store, review(&row)).await;
        assert_eq!(matches!(answer, Appended::Recorded { .. }), is_issued, "what was issued is reviewed: {answer:?}");
    }
    // nothing is left where the certificate is there, nor where its time is over
    let [issued, late] = [3, 4].map(|number| request(number, 1, 1));
    for row in [&issued, &late] {
        asked(&*store, row).await;
        one(&*store, approve(row, approval(2), after(60))).await;
        let used = uses(row, 1, "key", after(301));
        let grant = grant_of(&used);
        one(&*store, used).await;
        if row.id == issued.id {
            one(&*store, made(grant, after(302))).await;
        }
    }
    assert_eq!(one(&*store, revoke(&issued, after(303))).await, moved());
    assert_eq!(one(&*store, revoke(&late, after(60 + 1800))).await, moved());
}

/// What a random walk does next, and how many seconds later.
#[derive(Clone, Copy, Debug)]
enum Act {
    Approve(u8),
    Close(BreakGlassState),
    Use(bool),
    Made,
    Return,
    TimeOut,
    Review,
}

fn acts() -> impl Strategy<Value = Vec<(Act, i64)>> {
    let act = prop_oneof![
        3 => (1..5_u8).prop_map(Act::Approve),
        1 => Just(Act::Close(BreakGlassState::Denied)),
        1 => Just(Act::Close(BreakGlassState::Cancelled)),
        1 => Just(Act::Close(BreakGlassState::Revoked)),
        4 => any::<bool>().prop_map(Act::Use),
        3 => Just(Act::Made),
        2 => Just(Act::Return),
        1 => Just(Act::TimeOut),
        2 => Just(Act::Review),
    ];
    // a clock that stands, walks, and jumps
    let step = prop_oneof![6 => 0..20_i64, 1 => 400..1_000_i64, 1 => 1_700..2_000_i64];
    proptest::collection::vec((act, step), 1..14)
}

/// What the model knows of a request; its transitions are [`BreakGlassState::after`]'s.
struct Model {
    state: BreakGlassState,
    humans: BTreeSet<u8>,
    quorum: usize,
    uses: u64,
    used: u64,
    good_until: Timestamp,
    waits_until: Timestamp,
    key: Option<bool>,
    grants: Vec<Granted>,
}

/// What became of a grant that used the request.
struct Granted {
    grant: GrantId,
    returned: bool,
    made: bool,
}

impl Model {
    fn waits(&self, now: Timestamp) -> bool {
        self.state == BreakGlassState::Pending && now < self.waits_until
    }

    /// Whether a use is on its way to a certificate.
    fn is_on_its_way(&self) -> bool {
        self.grants.iter().any(|granted| !granted.returned && !granted.made)
    }

    fn is_good(&self, now: Timestamp) -> bool {
        self.state == BreakGlassState::Approved && now < self.good_until
    }

    /// Whether the act is allowed, and what it makes of the request.
    fn act(&mut self, act: Act, grant: Option<GrantId>, now: Timestamp) -> bool {
        let was_used = self.used > 0;
        let step = match act {
            Act::Approve(human) => {
                if !self.waits(now) || human == 1 || !self.humans.insert(human) {
                    return false;
                }
                if self.humans.len() < self.quorum {
                    return true;
                }
                self.good_until = now + SignedDuration::from_mins(30);
                BreakGlassStep::Approve
            }
            Act::Close(BreakGlassState::Revoked) if now >= self.good_until => return false,
            Act::Close(BreakGlassState::Revoked) => BreakGlassStep::Revoke { is_on_its_way: self.is_on_its_way() },
            Act::Close(_) if !self.waits(now) => return false,
            Act::Close(BreakGlassState::Denied) => BreakGlassStep::Deny,
            Act::Close(_) => BreakGlassStep::Cancel,
            Act::Use(key) => {
                if !self.is_good(now) || self.key.is_some_and(|first| first != key) {
                    return false;
                }
                self.key = Some(key);
                self.used += 1;
                self.grants.push(Granted { grant: grant.unwrap(), returned: false, made: false });
                BreakGlassStep::Use { is_last: self.used == self.uses }
            }
            Act::Made => {
                let Some(last) = self.grants.last_mut() else { return true };
                last.made |= !last.returned;
                return !last.returned;
            }
            Act::Return => {
                if let Some(last) = self.grants.last_mut().filter(|last| !last.returned) {
                    last.returned = true;
                    if let Some(after) = self.state.after(BreakGlassStep::Return) {
                        self.state = after;
                        self.used -= 1;
                    }
                }
                return true;
            }
            Act::TimeOut => {
                let is_over = match self.state {
                    BreakGlassState::Pending => !self.waits(now),
                    BreakGlassState::Approved => !self.is_good(now),
                    _ => false,
                };
                if !is_over || self.is_on_its_way() {
                    return false;
                }
                BreakGlassStep::TimeOut { was_used }
            }
            Act::Review if self.is_on_its_way() => return false,
            Act::Review => BreakGlassStep::Review { was_used },
        };
        let Some(after) = self.state.after(step) else { return false };
        self.state = after;
        true
    }
}

pub(crate) async fn nobody_is_let_in_alone_before_someone_was_told(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let alone = |number| BreakGlassRow { self_service: true, quorum: 0, ..request(number, 1, 1) };
    let told = |hash: [u8; 32]| ToldRow { hash, sink: "pager".into(), at: after(60), tag: [36; 32] };
    let tell = |row: &BreakGlassRow, told: ToldRow, now| {
        changed(BreakGlassChange::Told { request: row.id, told: Box::new(told) }, now)
    };
    let moved = || refused(Condition::RequestMoved);
    let (row, by_others) = (alone(1), request(2, 1, 1));
    asked(&*store, &row).await;
    asked(&*store, &by_others).await;
    assert_eq!(file(&*store, &row).await.request, row);
    assert_eq!(one(&*store, uses(&row, 1, "key", after(60))).await, moved(), "nobody was told");
    assert_eq!(one(&*store, approve(&row, approval(2), after(60))).await, moved(), "an approval does not stand for it");
    assert_eq!(one(&*store, tell(&row, told([8; 32]), after(60))).await, moved(), "other contents");
    assert_eq!(one(&*store, tell(&row, told(HASH), after(900))).await, moved(), "too late");
    assert_eq!(one(&*store, tell(&by_others, told(HASH), after(60))).await, moved(), "one that others approve");
    assert!(matches!(one(&*store, tell(&row, told(HASH), after(60))).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, tell(&row, told(HASH), after(61))).await, moved(), "once");
    let open = file(&*store, &row).await;
    assert_eq!(open.told, Some(told(HASH)));
    assert_eq!((open.request.state, open.request.good_until), (BreakGlassState::Approved, Some(after(60 + 1800))));
    // what is used as one kind must be of that kind
    let others = BreakGlassRow { self_service: false, quorum: 0, ..row.clone() };
    assert_eq!(one(&*store, uses(&others, 2, "key", after(60))).await, moved());
    one(&*store, approve(&by_others, approval(2), after(60))).await;
    let as_alone = BreakGlassRow { self_service: true, ..by_others.clone() };
    assert_eq!(one(&*store, uses(&as_alone, 3, "key", after(60))).await, moved());
    assert!(matches!(one(&*store, uses(&row, 4, "key", after(60))).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, uses(&row, 5, "key", after(60))).await, moved(), "used up");
}

pub(crate) async fn a_first_call_and_an_overdue_review_are_noted_once(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let row = request(1, 1, 2);
    asked(&*store, &row).await;
    one(&*store, approve(&row, approval(2), after(60))).await;
    let (first, second) = (uses(&row, 1, "key", after(100)), uses(&row, 2, "key", after(200)));
    let (grant, other) = (grant_of(&first), grant_of(&second));
    let touch = |grant| changed(BreakGlassChange::Touch { grant }, after(300));
    assert_eq!(one(&*store, touch(grant)).await, refused(Condition::RequestMoved), "no such grant");
    for used in [first, second] {
        assert!(matches!(one(&*store, used).await, Appended::Recorded { .. }));
    }
    assert!(matches!(one(&*store, touch(grant)).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, touch(grant)).await, refused(Condition::RequestMoved));
    for grant in [grant, other] {
        one(&*store, made(grant, after(300))).await;
    }

    let overdue = async |used, reminded| store.break_glass_overdue(used, reminded, 10).await.unwrap().len();
    assert_eq!(overdue(after(199), None).await, 0, "from the last use on");
    assert_eq!(overdue(after(200), None).await, 1);
    let remind = |now, before| changed(BreakGlassChange::Remind { request: row.id, before }, now);
    assert!(matches!(one(&*store, remind(after(1000), after(0))).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, remind(after(1001), after(999))).await, refused(Condition::RequestMoved));
    assert_eq!((overdue(after(200), Some(after(999))).await, overdue(after(200), Some(after(1000))).await), (0, 1));
    assert_eq!(overdue(after(200), None).await, 1);
    let review = Review { label: "drill".into(), note: "x".into(), by: "bob".into(), at: after(1100) };
    let review = BreakGlassChange::Review { request: row.id, review: Box::new(review) };
    assert!(matches!(one(&*store, changed(review, after(1100))).await, Appended::Recorded { .. }));
    assert_eq!(overdue(after(200), None).await, 0);
    assert_eq!(one(&*store, remind(after(9000), after(8000))).await, refused(Condition::RequestMoved));
}

pub(crate) async fn requests_walk_as_their_model_does(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let mut runner = TestRunner::deterministic();
    for number in 0..150_u16 {
        let walk = (1..3_u64, 1..3_u64, acts()).new_tree(&mut runner).unwrap().current();
        let (quorum, uses_of_it, acts) = walk.clone();
        let row = request(number, quorum, uses_of_it);
        asked(&*store, &row).await;
        let mut model = Model {
            state: BreakGlassState::Pending,
            humans: BTreeSet::new(),
            quorum: usize::try_from(quorum).unwrap(),
            uses: uses_of_it,
            used: 0,
            good_until: noon(),
            waits_until: row.waits_until,
            key: None,
            grants: Vec::new(),
        };
        let mut now = noon();
        for (place, (act, later)) in acts.into_iter().enumerate() {
            // the session ends after an hour; nothing here is about that
            now = (now + SignedDuration::from_secs(later)).min(after(3_599));
            let last = model.grants.last().map_or(GrantId(Uuid::nil()), |last| last.grant);
            let part = match act {
                Act::Approve(human) => approve(&row, ApprovalRow { at: now, ..approval(human) }, now),
                Act::Close(to) => close(&row, to, now),
                Act::Use(key) => uses(&row, u16::try_from(place).unwrap(), if key { "key" } else { "other" }, now),
                Act::Made => made(last, now),
                Act::Return => changed(BreakGlassChange::Return { grant: last }, now),
                Act::TimeOut => changed(BreakGlassChange::TimeOut { request: row.id }, now),
                Act::Review => {
                    let review = Review { label: "drill".into(), note: "n".into(), by: "b".into(), at: now };
                    changed(BreakGlassChange::Review { request: row.id, review: Box::new(review) }, now)
                }
            };
            let grant = matches!(act, Act::Use(_)).then(|| grant_of(&part));
            let answer = one(&*store, part).await;
            let expected = model.act(act, grant, now);
            assert_eq!(
                matches!(answer, Appended::Recorded { .. }),
                expected,
                "{act:?} at {place} of {walk:?}: {answer:?}"
            );
            let found = file(&*store, &row).await.request;
            assert_eq!((found.state, found.used), (model.state, model.used), "{act:?} at {place} of {walk:?}");
        }
    }
}
