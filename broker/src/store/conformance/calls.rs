//! Calls that nodes told of: kept with their entry, found, dropped beyond the quota.

use super::*;

/// A call that a grant of `subject` explains, begun `seconds` after noon.
pub(crate) fn call(node: &str, subject: &str, seconds: i64) -> Call {
    Call {
        cluster: "prod".into(),
        node: node.into(),
        service: NodeService::Machined,
        method: "/machine.MachineService/Version".into(),
        code: Some(0),
        started: after(seconds),
        duration: 93,
        roles: "os:reader".into(),
        owner: Some(person(subject)),
        user: Some(format!("{subject}@example.com")),
        grant: Some(GrantId(Uuid::from_bytes([5; 16]))),
        peer: None,
        class: CallClass::Explained,
        why: None,
        entry: None,
    }
}

/// Any cluster's node of this name.
fn at(node: &str) -> Vec<NodeName> {
    vec![NodeName { cluster: None, node: node.into() }]
}

/// A call by whoever has a certificate with this `user:` value.
fn claimed(user: Option<&str>, class: CallClass, seconds: i64) -> Call {
    Call {
        owner: None,
        user: user.map(Into::into),
        grant: None,
        class,
        why: Some("no grant".into()),
        ..call("cp-1", "", seconds)
    }
}

pub(crate) fn kept(calls: Vec<Call>, most: u64, at: Timestamp) -> Append {
    Append { change: Some(Change::CallsKept { calls, most }), ..note(Kind::NodeLog, at) }
}

pub(crate) fn node_seen() -> NodeSeen {
    NodeSeen { cluster: "prod".into(), node: "cp-1".into(), service: NodeService::Machined, line: noon(), probe: None }
}

pub(crate) async fn calls_are_kept_with_their_entry(store: Arc<dyn Store>) {
    let full = Call {
        service: NodeService::Apid,
        code: Some(7),
        peer: Some("[2001:db8::1]:50000".into()),
        class: CallClass::Weak,
        why: Some("é\u{1f4a3}".into()),
        entry: Some(3),
        ..call("cp-2", "bob", 2)
    };
    let empty = Call {
        method: String::new(),
        code: None,
        duration: 0,
        roles: String::new(),
        ..claimed(None, CallClass::Suspect, -5)
    };
    let own = Call { owner: Some(Person::system()), user: Some("~system".into()), ..call("cp-1", "ada", 3) };
    let first = vec![call("cp-1", "ada", 1), full, empty, own];
    let batch = vec![
        note(Kind::Start, noon()),
        kept(first.clone(), 100, noon()),
        note(Kind::Start, noon()),
        kept(vec![claimed(Some("mallory"), CallClass::Unexplained, 9)], 100, noon()),
        kept(Vec::new(), 100, noon()),
    ];
    append(&*store, batch).await;
    let all = store.call_range(0, 100).await.unwrap();
    assert_eq!(
        all.iter().map(|stored| (stored.id, stored.batch)).collect::<Vec<_>>(),
        [(0, 1), (1, 1), (2, 1), (3, 1), (4, 3)]
    );
    assert_eq!(all.iter().take(4).map(|stored| stored.call.clone()).collect::<Vec<_>>(), first, "as they were given");
    assert_eq!(store.call_range(2, 1).await.unwrap(), all[2..3]);
    assert_eq!(store.call_range(5, 1).await.unwrap(), []);
}

pub(crate) async fn calls_that_are_not_recorded_are_not_kept(store: Arc<dyn Store>) {
    one(&*store, note(Kind::Start, after(9))).await;
    let early = kept(vec![call("cp-1", "ada", 1)], 100, noon());
    assert_eq!(one(&*store, early).await, Appended::Refused(Condition::ClockWentBack));
    assert_eq!(store.call_range(0, 9).await.unwrap(), []);
    assert_eq!(found(&*store, CallFilter::default()).await, NONE);
}

/// No call.
const NONE: [i64; 0] = [];

pub(crate) async fn calls_are_found_newest_first(store: Arc<dyn Store>) {
    let reboot = |call: Call| Call { method: "/machine.MachineService/Reboot".into(), ..call };
    let other = GrantId(Uuid::from_bytes([6; 16]));
    let calls = vec![
        call("cp-1", "ada", 3),
        call("cp-1", "ada", 1),
        reboot(call("cp-2", "ada", 2)),
        Call { cluster: "lab".into(), grant: Some(other), ..call("cp-1", "bob", 4) },
        Call { class: CallClass::Escape, ..call("cp-1", "bob", 5) },
        claimed(Some("ada@example.com"), CallClass::Unexplained, 6),
        reboot(claimed(None, CallClass::Suspect, 7)),
        claimed(Some("mallory"), CallClass::Unexplained, 8),
    ];
    one(&*store, kept(calls, 100, noon())).await;

    let all = CallFilter::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found(&*store, all()).await, [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(found(&*store, CallFilter { cluster: text("prod"), ..all() }).await, [8, 7, 6, 5, 3, 2, 1]);
    assert_eq!(found(&*store, CallFilter { cluster: text("none"), ..all() }).await, NONE);
    assert_eq!(found(&*store, CallFilter { nodes: at("cp-1"), ..all() }).await, [8, 7, 6, 5, 4, 3, 1]);
    let of = |cluster: &str, node: &str| NodeName { cluster: Some(cluster.into()), node: node.into() };
    let either = vec![of("lab", "cp-1"), of("prod", "cp-2"), of("lab", "cp-2"), of("lab", "cp-1")];
    assert_eq!(found(&*store, CallFilter { nodes: either.clone(), ..all() }).await, [4, 2], "each once");
    assert_eq!(found(&*store, CallFilter { nodes: either, cluster: text("lab"), ..all() }).await, [4]);
    assert_eq!(found(&*store, CallFilter { nodes: vec![of("lab", "cp-2")], ..all() }).await, NONE);
    let lab = CallFilter { nodes: at("cp-1"), cluster: text("lab"), ..all() };
    assert_eq!(found(&*store, lab.clone()).await, [4]);
    assert_eq!(found(&*store, CallFilter { user: text("ada@example.com"), ..all() }).await, [6, 3, 2, 1]);
    assert_eq!(found(&*store, CallFilter { user: text("bob"), ..all() }).await, [5, 4], "by subject");
    assert_eq!(found(&*store, CallFilter { user: text("bob"), ..lab.clone() }).await, [4]);
    assert_eq!(found(&*store, CallFilter { user: text("nobody"), ..all() }).await, NONE);
    assert_eq!(found(&*store, CallFilter { user: text("mallory"), ..all() }).await, [8]);
    assert_eq!(found(&*store, CallFilter { method: text("Reboot"), ..all() }).await, [7, 2]);
    assert_eq!(found(&*store, CallFilter { method: text("/machine.MachineService/Reboot"), ..lab }).await, NONE);
    assert_eq!(found(&*store, CallFilter { method: text("eboot"), ..all() }).await, NONE);
    assert_eq!(found(&*store, CallFilter { method: text("%"), ..all() }).await, NONE);
    let ada = CallFilter { method: text("Reboot"), user: text("ada@example.com"), ..all() };
    assert_eq!(found(&*store, ada).await, [2]);
    assert_eq!(found(&*store, CallFilter { grant: Some(other), ..all() }).await, [4]);
    let none = CallFilter { grant: Some(other), user: text("ada@example.com"), ..all() };
    assert_eq!(found(&*store, none).await, NONE);
    assert_eq!(found(&*store, CallFilter { grant: Some(other), user: text("bob"), ..all() }).await, [4]);
    let class = |classes: &[CallClass]| CallFilter { classes: classes.to_vec(), ..all() };
    assert_eq!(found(&*store, class(&[CallClass::Unexplained])).await, [8, 6]);
    assert_eq!(found(&*store, class(&[CallClass::Suspect, CallClass::Escape])).await, [7, 5]);
    assert_eq!(found(&*store, class(&[CallClass::Suspect, CallClass::Explained])).await, [7, 4, 3, 2, 1]);
    let alarming = CallFilter { method: text("Reboot"), nodes: at("cp-1"), ..class(&CallClass::ALL[1..]) };
    assert_eq!(found(&*store, alarming).await, [7]);
    let explained = CallFilter { user: text("ada@example.com"), ..class(&[CallClass::Explained]) };
    assert_eq!(found(&*store, explained).await, [3, 2, 1]);
    let hour = CallFilter { since: Some(after(3)), until: Some(after(5)), ..all() };
    assert_eq!(found(&*store, hour).await, [4, 3]);
}

pub(crate) async fn own_calls_are_matched_by_the_whole_key(store: Arc<dyn Store>) {
    let with = |who: Person, seconds| Call { owner: Some(who), ..call("cp-1", "ada", seconds) };
    let calls = vec![
        call("cp-1", "ada", 1),
        with(person("ADA"), 2),
        with(Person { issuer: "https://id.example.com/".into(), ..person("ada") }, 3),
        with(Person { provider: ProviderAlias::new("other").unwrap(), ..person("ada") }, 4),
        claimed(Some("ada@example.com"), CallClass::Unexplained, 5),
        Call { user: Some("renamed@example.com".into()), ..call("cp-2", "ada", 6) },
    ];
    one(&*store, kept(calls, 100, noon())).await;
    let own = CallFilter { own: Some(person("ada")), ..CallFilter::default() };
    assert_eq!(found(&*store, own.clone()).await, [6, 1], "a claim alone makes no call one's own");
    let one_name = CallFilter { user: Some("ada@example.com".into()), ..own.clone() };
    assert_eq!(found(&*store, one_name).await, [1]);
    assert_eq!(found(&*store, CallFilter { nodes: at("cp-2"), ..own }).await, [6]);
}

pub(crate) async fn a_page_of_calls_follows_the_other(store: Arc<dyn Store>) {
    // many of one time, at two nodes: the id decides among them
    let calls = (0..20).map(|number| call(if number % 2 == 0 { "cp-1" } else { "cp-2" }, "ada", number / 7)).collect();
    one(&*store, kept(calls, 100, noon())).await;
    for limit in [1, 3, 7, 20] {
        let (mut places, mut before) = (Vec::new(), None);
        loop {
            let page = store.calls(&CallFilter::default(), before, limit).await.unwrap();
            places.extend(page.iter().map(StoredCall::place));
            match page.last() {
                Some(last) => before = Some(last.place()),
                None => break,
            }
        }
        assert_eq!(places.len(), 20, "by {limit}");
        assert!(places.is_sorted_by(|a, b| a > b), "newest first, none twice");
    }
}

pub(crate) async fn the_oldest_calls_beyond_the_quota_are_dropped(store: Arc<dyn Store>) {
    let with = |user: &str, seconds| claimed(Some(user), CallClass::Unexplained, seconds);
    // the oldest by arrival, though the newest by their own time
    one(&*store, kept(vec![with("first", 900), with("second", 800)], 4, noon())).await;
    one(&*store, kept(vec![with("third", 3), with("first", 4), with("fifth", 5)], 4, noon())).await;
    let left = store.call_range(0, 9).await.unwrap();
    assert_eq!(left.iter().map(|stored| stored.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(found(&*store, CallFilter { user: Some("first".into()), ..CallFilter::default() }).await, [4]);
    one(&*store, kept(vec![with("second", 6)], 2, noon())).await;
    let left = store.call_range(0, 9).await.unwrap();
    assert_eq!(left.iter().map(|stored| stored.id).collect::<Vec<_>>(), [4, 5], "ids go on counting");
    assert_eq!(found(&*store, CallFilter { user: Some("second".into()), ..CallFilter::default() }).await, [6]);
    assert_eq!(found(&*store, CallFilter { user: Some("first".into()), ..CallFilter::default() }).await, NONE);
    // a smaller quota is reached in steps, and one of nothing keeps nothing
    one(&*store, kept((0..2_500).map(|n| with("many", n)).collect(), 9_000, noon())).await;
    one(&*store, kept(vec![with("last", 1)], 0, noon())).await;
    assert_eq!(store.call_range(0, 9_999).await.unwrap().len(), 2_503 - 1_001);
    for _ in 0..2 {
        one(&*store, kept(Vec::new(), 0, noon())).await;
    }
    assert_eq!(store.call_range(0, 9_999).await.unwrap(), []);
}

pub(crate) async fn a_node_that_holds_less_than_its_share_loses_no_call(store: Arc<dyn Store>) {
    let of = |node: &str, count: i64| -> Vec<Call> { (0..count).map(|second| call(node, "ada", second)).collect() };
    let lab = |call: Call| Call { cluster: "lab".into(), ..call };
    let held = async || -> Vec<(String, String, u64, u64)> {
        let held = store.calls_held().await.unwrap().into_iter();
        held.map(|held| (held.cluster, held.node, held.calls, held.oldest)).collect()
    };
    let row = |cluster: &str, node: &str, calls, oldest| (cluster.to_owned(), node.to_owned(), calls, oldest);
    // ids 0 to 2, 3 to 6, 7 and 8
    let quiet = [of("cp-1", 3), of("cp-2", 4), of("cp-1", 2).into_iter().map(lab).collect()].concat();
    one(&*store, kept(quiet, 20, noon())).await;
    assert_eq!(store.calls_taken().await.unwrap(), []);
    for round in 1..=3 {
        one(&*store, kept(of("cp-2", 30), 20, after(round * 60))).await;
    }
    // 99 came, so ids 0 to 98; cp-2 has the newest 15
    let after_flood = [row("lab", "cp-1", 2, 7), row("prod", "cp-1", 3, 0), row("prod", "cp-2", 15, 84)];
    assert_eq!(held().await, after_flood, "what others hold is untouched");
    let taken = store.calls_taken().await.unwrap();
    let [taken] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((taken.cluster.as_str(), taken.calls), ("prod", 79));
    assert!(taken.youngest >= after(60) && taken.youngest <= after(180), "{taken:?}");

    // two that hold most come down together, and of those that hold as much the one with the oldest call gives one more
    one(&*store, kept(of("cp-3", 15), 20, after(240))).await;
    let level =
        [row("lab", "cp-1", 2, 7), row("prod", "cp-1", 3, 0), row("prod", "cp-2", 7, 92), row("prod", "cp-3", 8, 106)];
    assert_eq!(held().await, level);
    // fewer places than nodes: the newest calls have them
    one(&*store, kept(Vec::new(), 2, after(300))).await;
    assert_eq!(held().await, [row("prod", "cp-2", 1, 98), row("prod", "cp-3", 1, 113)]);
    one(&*store, kept(of("cp-4", 1), 2, after(360))).await;
    assert_eq!(held().await, [row("prod", "cp-3", 1, 113), row("prod", "cp-4", 1, 114)], "ids go on counting");
    let taken = store.calls_taken().await.unwrap();
    assert_eq!(taken.iter().map(|taken| taken.calls).collect::<Vec<_>>(), [2, 111]);
}

pub(crate) async fn nodes_are_seen_and_no_time_goes_back(store: Arc<dyn Store>) {
    let seen = node_seen();
    let apid = NodeSeen { service: NodeService::Apid, probe: Some(noon()), ..seen.clone() };
    store.see_nodes(&[apid.clone(), seen.clone()]).await.unwrap();
    assert_eq!(store.nodes_seen().await.unwrap(), [seen.clone(), apid.clone()]);
    store.see_nodes(&[NodeSeen { line: after(5), probe: Some(after(5)), ..seen.clone() }]).await.unwrap();
    store.see_nodes(&[NodeSeen { line: after(4), ..seen.clone() }, apid.clone()]).await.unwrap();
    let later = NodeSeen { line: after(5), probe: Some(after(5)), ..seen };
    assert_eq!(store.nodes_seen().await.unwrap(), [later, apid]);
}

async fn found(store: &dyn Store, filter: CallFilter) -> Vec<i64> {
    let found = store.calls(&filter, None, 100).await.unwrap();
    found.iter().map(|stored| stored.call.started.as_second() - noon().as_second()).collect()
}

/// However many there are: who reviews a grant is told of each, by its name and by the entry that a nameless one rests on.
pub(crate) async fn every_call_of_a_grant_is_counted(store: Arc<dyn Store>) {
    let grant = GrantId(Uuid::from_bytes([5; 16]));
    let reboot = Call { method: "/machine.MachineService/Reboot".into(), ..call("cp-9", "ada", 1) };
    let mut calls = vec![reboot.clone()];
    calls.extend((2..602).map(|second| call("cp-1", "ada", second)));
    let nameless = Call { grant: None, class: CallClass::Weak, entry: Some(7), ..call("cp-2", "ada", 700) };
    calls.push(nameless.clone());
    calls.push(Call { entry: Some(8), ..nameless.clone() });
    calls.push(Call { grant: Some(GrantId(Uuid::from_bytes([6; 16]))), ..call("cp-3", "ada", 701) });
    one(&*store, kept(calls, 10_000, noon())).await;
    let sum = |node: &str, method: &str, class, count| CallSum {
        node: node.into(),
        method: format!("/machine.MachineService/{method}"),
        class,
        count,
    };
    let own = [
        sum("cp-1", "Version", CallClass::Explained, 600),
        sum("cp-2", "Version", CallClass::Weak, 1),
        sum("cp-9", "Reboot", CallClass::Explained, 1),
    ];
    assert_eq!(store.call_sums(grant, Some(7), 100).await.unwrap(), own);
    assert_eq!(store.call_sums(grant, Some(7), 1).await.unwrap(), own[..1]);
    let [first, _, last] = own;
    assert_eq!(store.call_sums(grant, None, 100).await.unwrap(), [first, last]);
    assert_eq!(found(&*store, CallFilter { entry: Some(7), ..CallFilter::default() }).await, [700]);
    let of_nobody = CallFilter { entry: Some(7), own: Some(person("bob")), ..CallFilter::default() };
    assert_eq!(found(&*store, of_nobody).await, NONE);
    let explained = CallFilter { entry: Some(7), classes: vec![CallClass::Explained], ..CallFilter::default() };
    assert_eq!(found(&*store, explained).await, NONE);
}
