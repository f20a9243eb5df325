//! The quota on calls, fairly: what is beyond it is taken of the nodes that hold most, so that one node's lines push out no call of a
//! node that holds less. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// At most so many calls more than are kept with it are dropped by one change, so that no commit takes long.
pub(super) const DROPPED_BEYOND: u64 = 1_000;

/// What was dropped, by the numbers of names.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) methods: BTreeSet<i64>,
    pub(super) users: BTreeSet<i64>,
    /// Persons whose they were.
    pub(super) owners: BTreeSet<i64>,
    /// By node: how many calls, and the newest entry that one of them was kept under.
    pub(super) nodes: BTreeMap<i64, (i64, i64)>,
}

/// What is to be taken, so that the nodes that hold most come down to one level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Takes {
    /// So many of the oldest calls of these nodes.
    pub(super) of: Vec<(i64, i64)>,
    /// Then one more of as many nodes.
    pub(super) one_of: i64,
    /// These are such that hold more than this, those first whose oldest call is the oldest.
    pub(super) above: i64,
}

impl Dropped {
    /// Counts a call that is dropped.
    pub(super) fn count(&mut self, node: i64, method: i64, [user, owner]: [Option<i64>; 2], batch: i64) {
        self.methods.insert(method);
        self.users.extend(user);
        self.owners.extend(owner);
        let (calls, newest) = self.nodes.entry(node).or_default();
        (*calls, *newest) = (calls.saturating_add(1), batch.max(*newest));
    }
}

/// How many calls are to be dropped where `held` are kept, `most` may be, and `kept` came in with this change.
pub(super) fn beyond(held: i64, most: u64, kept: usize) -> i64 {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let at_once = number((kept as u64).saturating_add(DROPPED_BEYOND));
    held.saturating_sub(number(most)).clamp(0, at_once)
}

/// Of whom `beyond` calls are taken. `held` has each node with how many calls it holds.
pub(super) fn takes(mut held: Vec<(i64, i64)>, beyond: i64) -> Takes {
    held.retain(|(_, count)| *count > 0);
    held.sort_unstable_by_key(|(node, count)| (std::cmp::Reverse(*count), *node));
    // lowered to the level of the next, the first `above` nodes give so many
    let (mut above, mut sum) = (0_i64, 0_i64);
    for (_, count) in &held {
        if sum.saturating_sub(count.saturating_mul(above)) >= beyond {
            break;
        }
        (above, sum) = (above.saturating_add(1), sum.saturating_add(*count));
    }
    if beyond <= 0 || above == 0 {
        return Takes::default();
    }
    // what these keep together, and so what each keeps: this, or one more
    let left = sum.saturating_sub(beyond).max(0);
    let level = left / above;
    let of = |(node, count): (i64, i64)| (node, count.saturating_sub(level).saturating_sub(1));
    let of: Vec<_> = held.into_iter().map(of).filter(|(_, take)| *take > 0).collect();
    let taken: i64 = of.iter().map(|(_, take)| take).sum();
    Takes { of, one_of: beyond.min(sum).saturating_sub(taken), above: level }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_node_that_holds_less_than_its_share_loses_nothing() {
        let held = vec![(1, 100), (2, 7), (3, 20_000), (4, 400)];
        assert_eq!(takes(held.clone(), 500), Takes { of: vec![(3, 499)], one_of: 1, above: 19_500 });
        let takes = takes(held, 19_900);
        assert_eq!(takes.of.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [3, 4]);
        assert_eq!((takes.above, takes.one_of), (250, 2));
    }

    #[test]
    fn no_commit_drops_more_than_its_bound() {
        assert_eq!(beyond(5, 10, 3), 0);
        assert_eq!(beyond(12, 10, 3), 2);
        assert_eq!(beyond(1_000_000, 10, 3), 1_003);
        assert_eq!(beyond(i64::MAX, u64::MAX, usize::MAX), 0);
    }

    proptest! {
        #[test]
        fn as_many_as_are_beyond_are_taken_and_none_of_a_poorer_node(
            counts in prop::collection::vec(0_i64..50, 0..12), beyond in 0_i64..400,
        ) {
            let held: Vec<_> = (0..).zip(counts.iter().copied()).collect();
            let sum: i64 = counts.iter().sum();
            let Takes { of, one_of, above } = takes(held.clone(), beyond);
            let mut left = counts;
            for (node, take) in &of {
                left[usize::try_from(*node).unwrap()] -= take;
            }
            let mut more = one_of;
            for count in left.iter_mut().filter(|count| **count > above) {
                if more > 0 {
                    (*count, more) = (*count - 1, more - 1);
                }
            }
            prop_assert_eq!(more, 0);
            prop_assert_eq!(sum - left.iter().sum::<i64>(), beyond.min(sum));
            for (node, had) in held {
                let has = left[usize::try_from(node).unwrap()];
                // who lost some holds as many as anyone, but for one
                prop_assert!(has == had || left.iter().all(|other| *other <= has + 1), "{:?}", left);
            }
        }
    }
}
