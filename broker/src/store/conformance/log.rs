//! The log: what is appended, refused and found.

use super::*;

/// No place in the log.
const NONE: [u64; 0] = [];

pub(crate) async fn an_empty_log(store: Arc<dyn Store>) {
    assert_eq!(store.head().await.unwrap(), LogHead { size: 0, time: 0 });
    assert_eq!(store.entries(&EntryFilter::default(), None, 10).await.unwrap(), []);
    assert_eq!(store.entry_range(0..10).await.unwrap(), []);
    assert_eq!(append(&*store, Vec::new()).await, []);
    let since = EntryFilter { since: Some(noon()), until: Some(after(1)), ..EntryFilter::default() };
    assert_eq!(store.entries(&since, Some(0), 10).await.unwrap(), []);
}

pub(crate) async fn indexes_are_contiguous_and_leaves_fit(store: Arc<dyn Store>) {
    let batch: Vec<_> = Kind::ALL.into_iter().map(|kind| note(kind, noon())).collect();
    let bodies: Vec<_> = batch.iter().map(|part| part.entry.encoded.clone()).collect();
    let answers = append(&*store, batch).await;
    let count = bodies.len() as u64;
    let next = one(&*store, note(Kind::Start, after(1))).await;
    assert!(matches!(next, Appended::Recorded { index, .. } if index == count), "{next:?}");

    let stored = store.entry_range(0..count).await.unwrap();
    for (index, ((body, answer), stored)) in (0..).zip(bodies.iter().zip(answers).zip(&stored)) {
        assert_eq!(stored.index, index);
        assert_eq!(stored.body.as_ref(), Some(body));
        assert_eq!(stored.leaf, Leaf::of(index, body, noon().as_microsecond()).encode().unwrap());
        assert_eq!(answer, Appended::Recorded { index, leaf_hash: leaf_hash(&stored.leaf), retimed: None });
    }
    assert_eq!(stored.len(), bodies.len());
    assert_eq!(store.head().await.unwrap(), LogHead { size: count + 1, time: after(1).as_microsecond() });
    assert_eq!(store.entry_range(count - 1..u64::MAX).await.unwrap().len(), 2);
}

pub(crate) async fn a_refused_part_leaves_no_trace(store: Arc<dyn Store>) {
    assert!(store.begin_login(login(1, after(600)), 10, noon()).await.unwrap());
    let answers = append(
        &*store,
        vec![
            note(Kind::Start, noon()),
            create(session(1), 101),
            // The code is gone now: this part must leave neither entry nor session.
            create(session(2), 101),
            note(Kind::Reload, noon()),
        ],
    )
    .await;
    assert!(matches!(answers[0], Appended::Recorded { index: 0, .. }));
    assert!(matches!(answers[1], Appended::Recorded { index: 1, .. }));
    assert_eq!(answers[2], Appended::Refused(Condition::CodeGone));
    assert!(matches!(answers[3], Appended::Recorded { index: 2, .. }), "no gap where a part was refused");
    assert!(store.session(session(1).id).await.unwrap().is_some());
    assert!(store.session(session(2).id).await.unwrap().is_none());
    assert_eq!(store.head().await.unwrap().size, 3);
}

pub(crate) async fn of_what_follows_from_one_reading_one_is_recorded(store: Arc<dyn Store>) {
    const KINDS: &[Kind] = &[Kind::KitMade, Kind::KitDrill];
    let by = |kind, from| Append { change: Some(Change::AsRead { kinds: KINDS, from }), ..note(kind, noon()) };
    let places = |answers: &[Appended]| -> Vec<Option<u64>> {
        let place = |answer: &Appended| match answer {
            Appended::Recorded { index, .. } => Some(*index),
            refused => {
                assert_eq!(*refused, Appended::Refused(Condition::Stale));
                None
            }
        };
        answers.iter().map(place).collect()
    };
    // in one batch
    let batch = vec![note(Kind::Start, noon()), by(Kind::KitMade, 0), by(Kind::KitMade, 0), by(Kind::KitOverdue, 0)];
    let last = [by(Kind::KitMade, 2), note(Kind::Reload, noon()), by(Kind::KitOverdue, 3)];
    let answers = append(&*store, batch.into_iter().chain(last).collect()).await;
    assert_eq!(places(&answers), [Some(0), Some(1), None, None, Some(2), Some(3), Some(4)]);
    // in batches behind each other: the kind of the entry itself does not matter, nor do others that have come
    let mut answers = Vec::new();
    for (kind, from) in [(Kind::KitMade, 0), (Kind::KitOverdue, 2), (Kind::KitOverdue, 3), (Kind::KitMade, 3)] {
        answers.push(one(&*store, by(kind, from)).await);
    }
    assert_eq!(places(&answers), [None, None, Some(5), Some(6)]);
    // and of many writers at once
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = Arc::clone(&store);
        tries.spawn(async move { one(&*store, by(Kind::KitDrill, 7)).await });
    }
    let answers = places(&tries.join_all().await);
    assert_eq!(answers.iter().flatten().collect::<Vec<_>>(), [&7]);
    assert_eq!(store.head().await.unwrap().size, 8);
}

pub(crate) async fn a_clock_going_back_is_refused(store: Arc<dyn Store>) {
    assert!(store.begin_login(login(1, after(600)), 10, noon()).await.unwrap());
    let mut late = create(session(1), 101);
    late.entry = entry(Content::of(Kind::Login), after(-1));
    let answers =
        append(&*store, vec![note(Kind::Start, noon()), note(Kind::Start, noon()), late, note(Kind::Start, after(1))])
            .await;
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
    append(&*store, batch.collect()).await;

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
    let batch = contents.map(|content| Append { entry: entry(content, noon()), change: None });
    append(&*store, batch.collect()).await;

    let own = EntryFilter { own: Some(person("ada")), ..EntryFilter::default() };
    assert_eq!(found(&*store, own.clone()).await, [0]);
    assert_eq!(found(&*store, EntryFilter { person: Some("ADA".into()), ..own.clone() }).await, NONE);
    assert_eq!(found(&*store, EntryFilter { person: Some("ada".into()), ..own }).await, [0]);
}

pub(crate) async fn a_probe_succeeds(store: Arc<dyn Store>) {
    store.probe().await.unwrap();
    assert_eq!(store.head().await.unwrap().size, 0);
}

async fn found(store: &dyn Store, filter: EntryFilter) -> Vec<u64> {
    store.entries(&filter, None, 100).await.unwrap().iter().map(|entry| entry.index).collect()
}
