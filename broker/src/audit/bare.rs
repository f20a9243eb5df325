//! Entries whose bodies are gone, until a later entry says that they were dropped when they could be.

use std::collections::BTreeMap;

use ichor_wire::log::{Entry, Kind, Places};
use jiff::SignedDuration;

/// No body goes before its entry is so old, whatever is configured.
pub const YOUNGEST_DROPPED: SignedDuration = SignedDuration::from_hours(24);

/// The places of entries without a body that nothing explains yet, with the times of their leaves in microseconds.
#[derive(Debug, Default)]
pub(super) struct Bare(BTreeMap<u64, i64>);

// === impl Bare ===

impl Bare {
    /// The entry at this place, of this time, has no body.
    pub(super) fn push(&mut self, place: u64, time: i64) {
        self.0.insert(place, time);
    }

    /// Takes in which of them the entry at `place` says were dropped: those before it that were old enough then. The cost is that of
    /// its runs and of what they hit, however many bodies are gone: locks are read from the log's first entry on.
    pub(super) fn take(&mut self, place: u64, entry: &Entry) {
        let Some(dropped) = dropped_by(entry) else { return };
        for run in dropped.runs() {
            let end = run.end.min(place);
            if run.start >= end {
                continue;
            }
            let old = self.0.range(run.start..end).filter(|(_, at)| is_old_enough(**at, entry.time));
            for place in old.map(|(place, _)| *place).collect::<Vec<_>>() {
                self.0.remove(&place);
            }
        }
    }

    /// The first of them.
    pub(super) fn first(&self) -> Option<u64> {
        self.0.keys().next().copied()
    }
}

/// The places whose bodies this entry says were dropped.
pub(super) fn dropped_by(entry: &Entry) -> Option<Places> {
    let numbers = entry.content.dropped.as_deref().filter(|_| entry.content.kind == Kind::BodyDropped);
    numbers.and_then(Places::read)
}

/// Whether an entry of time `at` was old enough at `then` for its body to go; both in microseconds.
pub(super) fn is_old_enough(at: i64, then: i64) -> bool {
    i128::from(then) - i128::from(at) >= YOUNGEST_DROPPED.as_micros()
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::Content;

    use super::*;
    use crate::store::conformance::{entry, noon};

    #[test]
    fn what_is_named_later_and_was_a_day_old_is_explained_and_nothing_else() {
        let says = |places: &[u64]| {
            let dropped = Some(places.iter().copied().collect::<Places>().numbers());
            entry(Content { dropped, ..Content::of(Kind::BodyDropped) }, noon()).entry
        };
        let (now, day) = (noon().as_microsecond(), 24 * 3_600_000_000);
        let mut bare = Bare::default();
        for (place, age) in [(1, day), (2, day - 1), (3, day), (9, day)] {
            bare.push(place, now - age);
        }
        bare.take(9, &says(&[1, 2, 4, 9]));
        assert_eq!(bare.0.keys().copied().collect::<Vec<_>>(), [2, 3, 9], "too young; not named; not before it");
        bare.take(10, &Entry { content: Content::of(Kind::Login), ..says(&[3]) });
        bare.take(10, &says(&[3, 9]));
        assert_eq!(bare.first(), Some(2));
    }
}
