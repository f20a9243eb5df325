use super::uses::{KITS, OF_ONE, WAITING};
use super::*;
use crate::store::conformance::noon;

fn finding(number: usize) -> Finding {
    let node = format!("node-{number}");
    Finding { cluster: "prod".into(), code: "suspect", node, method: "/a.B/C".into(), kit: None }
}

/// A grant of kit 7, which the log has.
fn kit(number: usize) -> Finding {
    let grant = Uuid::from_u128(number as u128);
    let kit = Some(NamedKit { number: 7, grant, is_made: true, is_reported: false });
    Finding { code: "kit-in-use", method: String::new(), kit, ..finding(1) }
}

impl Alarms {
    /// What this finding makes due.
    fn told(&mut self, finding: &Finding, count: u64, why: Option<&str>) -> Option<Content> {
        self.note(finding, count, why, noon());
        let mut due = self.due();
        assert!(due.len() < 2, "{due:?}");
        due.pop()
    }

    async fn next_window(&mut self) -> Vec<Content> {
        tokio::time::advance(WINDOW).await;
        self.over();
        self.due()
    }
}

fn counts(contents: &[Content]) -> Vec<u64> {
    contents.iter().filter_map(|content| content.count).collect()
}

#[tokio::test(start_paused = true)]
async fn each_kind_is_told_at_once_and_then_counted() {
    let mut alarms = Alarms::default();
    let first = alarms.told(&finding(1), 2, Some("why")).unwrap();
    assert_eq!((first.count, first.message.as_deref(), first.node.as_deref()), (Some(2), Some("why"), Some("node-1")));
    assert_eq!((first.code.as_deref(), first.method.as_deref()), (Some("suspect"), Some("/a.B/C")));
    assert_eq!(alarms.told(&finding(1), 3, None), None);
    alarms.over();
    assert_eq!(alarms.due(), []);
    assert_eq!(counts(&alarms.next_window().await), [3]);
    alarms.over();
    assert_eq!(alarms.due(), []);
    assert!(alarms.told(&finding(1), 1, None).is_some(), "a new window");
}

#[tokio::test(start_paused = true)]
async fn however_many_kinds_there_are_the_entries_are_bounded() {
    let mut alarms = Alarms::default();
    let told = (0..5_000).filter(|number| alarms.told(&finding(*number), 2, None).is_some()).count();
    let over = alarms.next_window().await;
    assert_eq!(told, KINDS);
    assert_eq!(counts(&over), [2 * (5_000 - KINDS as u64)], "none is lost");
}

#[tokio::test(start_paused = true)]
async fn a_kit_is_told_though_the_window_is_full_of_other_findings() {
    let mut alarms = Alarms::default();
    for number in 0..5_000 {
        alarms.told(&finding(number), 1, None);
    }
    let told = alarms.told(&kit(1), 1, Some("why")).expect("its bound is its own");
    assert_eq!((told.kind, told.opened), (Kind::KitInUse, Some(noon().as_second())));
    assert_eq!(alarms.told(&kit(1), 1, None), None, "once");
}

#[tokio::test(start_paused = true)]
async fn a_kit_is_told_though_there_are_thousands_of_made_up_ones() {
    let mut alarms = Alarms::default();
    let made_up = |number: usize| {
        let grant = Uuid::from_u128(number as u128);
        let kit = Some(NamedKit { number: (number % 60_000) as u16, grant, is_made: false, is_reported: false });
        Finding { kit, ..kit_at("node-1", 0) }
    };
    let told = (0..4_500).filter(|number| alarms.told(&made_up(*number), 1, None).is_some()).count();
    assert_eq!(told, STRANGERS);
    let of_ours = alarms.told(&kit(1), 1, Some("why")).expect("made-up names have a bound of their own");
    assert_eq!(of_ours.message.as_deref(), Some("why"));
    let over = alarms.next_window().await;
    assert_eq!(over.iter().map(|content| content.code.as_deref()).collect::<Vec<_>>(), [Some("unknown-kits")]);
    assert_eq!(counts(&over), [4_500 - STRANGERS as u64], "one total, and none is lost");
}

fn kit_at(node: &str, number: usize) -> Finding {
    Finding { node: node.into(), ..kit(number) }
}

#[tokio::test(start_paused = true)]
async fn of_each_kit_a_use_is_told_though_thousands_of_grants_of_another_are_made_up() {
    let mut alarms = Alarms::default();
    for _ in 0..3 {
        for number in 0..10_000 {
            alarms.told(&kit(number), 1, None);
        }
        let kit = Some(NamedKit { number: 8, grant: Uuid::from_u128(1), is_made: true, is_reported: false });
        let other = Finding { kit, ..kit_at("node-1", 0) };
        assert!(alarms.told(&other, 1, None).is_some(), "at once, in each window");
        alarms.next_window().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_node_makes_up_of_a_kit_does_not_keep_back_what_another_tells() {
    let mut alarms = Alarms::default();
    // as many nodes as there may be, each with more than waits
    for node in 0..20 {
        for number in 0..1_000 {
            alarms.told(&kit_at(&format!("forger-{node}"), number), 1, None);
        }
    }
    let of_ours = kit_at("node-1", 7_777_777);
    assert_eq!(alarms.told(&of_ours, 1, None), None, "it waits");
    let over = alarms.next_window().await;
    assert!(over.iter().any(|content| content.node.as_deref() == Some("node-1")), "it has its turn");
}

#[tokio::test(start_paused = true)]
async fn a_use_beyond_the_bound_is_told_in_a_later_window() {
    let mut alarms = Alarms::default();
    let most = 3 * KITS;
    let first: Vec<_> = (0..most).filter_map(|number| alarms.told(&kit(number), 2, None)).collect();
    assert_eq!(first.len(), KITS);
    assert_eq!(alarms.told(&kit(most - 1), 2, None), None, "it waits already");
    let mut all = first;
    for _ in 0..2 {
        let over = alarms.next_window().await;
        assert_eq!(over.len(), KITS, "each window tells its part, and none of them twice");
        all.extend(over);
    }
    let mut grants: Vec<_> = all.into_iter().map(|content| content.grant).collect();
    grants.sort();
    grants.dedup();
    assert_eq!(grants.len(), most);
    assert_eq!(alarms.next_window().await, []);
}

#[tokio::test(start_paused = true)]
async fn uses_of_kits_that_wait_are_bounded_and_the_rest_is_told_as_one_total_of_the_kit() {
    let mut alarms = Alarms::default();
    for number in 0..KITS + OF_ONE + 100 {
        alarms.told(&kit(number), 1, None);
    }
    for node in 0..2 * WAITING {
        alarms.told(&kit_at(&format!("forger-{node}"), 0), 1, None);
    }
    let over = alarms.next_window().await;
    let (totals, told): (Vec<_>, Vec<_>) = over.into_iter().partition(|content| content.grant.is_none());
    assert_eq!(told.len(), KITS);
    let waits = (KITS + WAITING) as u64;
    assert_eq!(counts(&totals), [(KITS + OF_ONE + 100 + 2 * WAITING) as u64 - waits], "none is lost");
    assert_eq!((totals[0].kind, totals[0].kit.as_ref().map(|kit| kit.number)), (Kind::KitInUse, Some(7)));
}

#[test]
fn whatever_could_not_be_recorded_is_due_again() {
    let mut alarms = Alarms::default();
    for finding in [kit(1), finding(1)] {
        let told = alarms.told(&finding, 1, None).unwrap();
        alarms.again(told.clone());
        assert_eq!(alarms.due(), [told]);
        assert_eq!(alarms.due(), [], "once");
    }
}
