//! The calls that were made under grants, so that no number of them hides one: all are counted, and those that want a look come first.

use std::collections::{BTreeMap, BTreeSet};

use ichor_wire::api::CallSum;

use crate::domain::GrantId;
use crate::store::{CallClass, CallFilter, NodeName, Store, StoreError, StoredCall};

/// The most calls that are listed.
const CALLS: u32 = 500;

/// The most kinds of calls that are counted. So many only a forger of lines makes, whose lines are suspect.
const SUMS: u32 = 10_000;

/// What most wants a look, in this order.
const ALARMING: [CallClass; 4] =
    [CallClass::Suspect, CallClass::Unexplained, CallClass::Escape, CallClass::AfterExpiry];

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// At most [`CALLS`], those first that want a look.
    pub(super) calls: Vec<StoredCall>,
    /// Whether there are more.
    pub(super) more: bool,
    /// All of them, counted.
    pub(super) sums: Vec<CallSum>,
    /// The nodes of any of them that were not named.
    pub(super) other_nodes: Vec<String>,
}

/// The calls under these grants, each with the index of its entry.
pub(super) async fn of(
    store: &dyn Store,
    grants: &[(GrantId, Option<u64>)],
    is_named: impl Fn(&str) -> bool,
) -> Result<Made, StoreError> {
    let mut counted: BTreeMap<(String, String, CallClass), u64> = BTreeMap::new();
    let mut more = false;
    for (grant, entry) in grants {
        let sums = store.call_sums(*grant, *entry, SUMS).await?;
        more |= sums.len() >= SUMS as usize;
        for sum in sums {
            let known = counted.entry((sum.node, sum.method, sum.class)).or_default();
            *known = known.saturating_add(sum.count);
        }
    }
    let nodes: BTreeSet<&String> = counted.keys().map(|(node, ..)| node).collect();
    let other_nodes: Vec<String> = nodes.into_iter().filter(|node| !is_named(node)).cloned().collect();

    let others: Vec<_> = other_nodes.iter().map(|node| NodeName { cluster: None, node: node.clone() }).collect();
    let mut found = BTreeMap::new();
    for (grant, entry) in grants {
        let by_name = CallFilter { grant: Some(*grant), ..CallFilter::default() };
        let by_entry = entry.map(|entry| CallFilter { entry: Some(entry), ..CallFilter::default() });
        for filter in std::iter::once(by_name).chain(by_entry) {
            let alarming = CallFilter { classes: ALARMING.to_vec(), ..filter.clone() };
            let elsewhere = (!others.is_empty()).then(|| CallFilter { nodes: others.clone(), ..filter.clone() });
            for filter in [Some(alarming), elsewhere, Some(filter)].into_iter().flatten() {
                let calls = store.calls(&filter, None, CALLS).await?;
                found.extend(calls.into_iter().map(|call| (call.id, call)));
            }
        }
    }
    let mut calls: Vec<StoredCall> = found.into_values().collect();
    calls.sort_by_cached_key(|stored| {
        let class = ALARMING.iter().position(|class| *class == stored.call.class).unwrap_or(ALARMING.len());
        (class, !other_nodes.contains(&stored.call.node), std::cmp::Reverse(stored.place()))
    });
    calls.truncate(CALLS as usize);
    let total = counted.values().fold(0_u64, |total, count| total.saturating_add(*count));
    more |= total > u64::try_from(calls.len()).unwrap_or(u64::MAX);
    let sum = |((node, method, class), count): ((String, String, CallClass), u64)| CallSum {
        node,
        method,
        class: class.as_str().into(),
        count,
    };
    Ok(Made { calls, more, sums: counted.into_iter().map(sum).collect(), other_nodes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Call;
    use crate::store::conformance::{call, kept, noon, one};
    use crate::store::sqlite::{Options, SqliteStore};

    const GRANT: GrantId = GrantId(uuid::Uuid::from_bytes([5; 16]));

    async fn store(calls: Vec<Call>) -> (tempfile::TempDir, SqliteStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap();
        one(&store, kept(calls, 100_000, noon())).await;
        (folder, store)
    }

    fn only_cp_1(node: &str) -> bool {
        node == "cp-1"
    }

    #[tokio::test]
    async fn five_hundred_calls_hide_no_other() {
        let reboot = Call { method: "/machine.MachineService/Reboot".into(), ..call("cp-9", "ada", 1) };
        let escape = Call { class: CallClass::Escape, ..call("cp-1", "ada", 2) };
        let mut calls = vec![reboot.clone(), escape.clone()];
        calls.extend((3..900).map(|second| call("cp-1", "ada", second)));
        let (_folder, store) = store(calls).await;
        let made = of(&store, &[(GRANT, None)], only_cp_1).await.unwrap();
        assert_eq!(made.other_nodes, ["cp-9"]);
        assert_eq!((made.calls.len(), made.more), (500, true));
        assert_eq!((&made.calls[0].call, &made.calls[1].call), (&escape, &reboot), "what wants a look comes first");
        assert_eq!(made.calls[2].call.started, call("", "", 899).started, "then the newest");
        let counted: Vec<_> = made.sums.iter().map(|sum| (sum.node.as_str(), sum.class.as_str(), sum.count)).collect();
        assert_eq!(counted, [("cp-1", "explained", 897), ("cp-1", "escape", 1), ("cp-9", "explained", 1)]);
    }

    #[tokio::test]
    async fn one_certificates_calls_hide_none_of_anothers() {
        let second = GrantId(uuid::Uuid::from_bytes([6; 16]));
        let mut calls: Vec<_> = (10..800).map(|second| call("cp-1", "ada", second)).collect();
        calls.push(Call { grant: Some(second), ..call("cp-2", "ada", 1) });
        let (_folder, store) = store(calls).await;
        let made = of(&store, &[(GRANT, None), (second, None)], only_cp_1).await.unwrap();
        assert_eq!((made.other_nodes, made.more), (vec!["cp-2".to_owned()], true));
        assert_eq!(made.calls[0].call.node, "cp-2");
    }

    #[tokio::test]
    async fn calls_that_name_no_grant_are_found_by_its_entry() {
        let weak = Call { grant: None, class: CallClass::Weak, entry: Some(7), ..call("cp-2", "ada", 1) };
        let (_folder, store) = store(vec![weak.clone(), Call { entry: Some(8), ..weak.clone() }]).await;
        let made = of(&store, &[(GRANT, Some(7))], only_cp_1).await.unwrap();
        assert_eq!(made.calls.iter().map(|stored| &stored.call).collect::<Vec<_>>(), [&weak]);
        assert_eq!((made.other_nodes, made.more), (vec!["cp-2".to_owned()], false));
    }
}
