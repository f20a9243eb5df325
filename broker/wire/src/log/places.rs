//! Places in the log: which entries' bodies were dropped.

use std::fmt;
use std::ops::Range;

/// So many runs are written out for people; the rest is counted.
const SHOWN: usize = 16;

/// A set of places in the log, as runs in order that do not touch.
///
/// In an entry it is a list of numbers in pairs: how many places lie between the last run and this one (from 0 on for the
/// first), and how many places this run has. `[5, 2, 3, 1]` are the places 5, 6 and 10.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(Vec<Range<u64>>);

// === impl Places ===

impl Places {
    /// The places that an entry's numbers mean; `None` where they are in no order that [`Self::numbers`] writes.
    #[must_use]
    pub fn read(numbers: &[u64]) -> Option<Self> {
        let mut runs: Vec<Range<u64>> = Vec::with_capacity(numbers.len() / 2);
        let (pairs, rest) = numbers.as_chunks::<2>();
        for [gap, count] in pairs {
            let from = runs.last().map_or(0, |run| run.end);
            let start = from.checked_add(*gap)?;
            let end = start.checked_add(*count)?;
            if *count == 0 || (*gap == 0 && !runs.is_empty()) {
                return None;
            }
            runs.push(start..end);
        }
        rest.is_empty().then_some(Self(runs))
    }

    /// The numbers that stand for these places in an entry.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        let mut end = 0;
        let mut numbers = Vec::with_capacity(self.0.len() * 2);
        for run in &self.0 {
            numbers.extend([run.start.saturating_sub(end), run.end.saturating_sub(run.start)]);
            end = run.end;
        }
        numbers
    }

    /// Adds a place that lies behind all others; any other is ignored, and then the answer is no.
    pub fn push(&mut self, place: u64) -> bool {
        match self.0.last_mut() {
            Some(last) if place < last.end => false,
            Some(last) if place == last.end => {
                last.end = place.saturating_add(1);
                true
            }
            _ => {
                self.0.push(place..place.saturating_add(1));
                true
            }
        }
    }

    /// The runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// How many places there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, run| sum.saturating_add(run.end.saturating_sub(run.start)))
    }

    /// The first place.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|run| run.start)
    }

    /// Those of the places that are `first` or behind it.
    #[must_use]
    pub fn starting_at(&self, first: u64) -> Self {
        Self(self.runs().map(|run| run.start.max(first)..run.end).filter(|run| !run.is_empty()).collect())
    }

    /// Those of the places that lie before `end`.
    #[must_use]
    pub fn ending_before(&self, end: u64) -> Self {
        Self(self.runs().map(|run| run.start..run.end.min(end)).filter(|run| !run.is_empty()).collect())
    }

    /// Takes `others` out, and answers the first of them that was not among these.
    pub fn take(&mut self, others: &Self) -> Option<u64> {
        let mut foreign = None;
        for run in others.runs() {
            let mut at = run.start;
            // the runs that overlap it, each cut in up to two
            let from = self.0.partition_point(|own| own.end <= run.start);
            let mut left = Vec::new();
            let mut to = from;
            while let Some(own) = self.0.get(to).filter(|own| own.start < run.end) {
                if own.start > at {
                    foreign = foreign.or(Some(at));
                }
                left.extend([own.start..run.start.max(own.start), run.end.min(own.end)..own.end]);
                at = own.end;
                to += 1;
            }
            if at < run.end {
                foreign = foreign.or(Some(at));
            }
            self.0.splice(from..to, left.into_iter().filter(|run| !run.is_empty()));
        }
        foreign
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, run) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            match run.end.saturating_sub(1) {
                last if last == run.start => write!(f, "{comma}{last}")?,
                last => write!(f, "{comma}{}\u{2013}{last}", run.start)?,
            }
        }
        if self.0.len() > SHOWN {
            write!(f, " and more, {} in all", self.count())?;
        }
        Ok(())
    }
}

impl FromIterator<u64> for Places {
    /// Of places in ascending order; one that is not is left out.
    fn from_iter<I: IntoIterator<Item = u64>>(places: I) -> Self {
        let mut all = Self::default();
        for place in places {
            all.push(place);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(of: &[u64]) -> Places {
        of.iter().copied().collect()
    }

    #[test]
    fn places_are_written_as_gaps_and_counts() {
        let some = places(&[5, 6, 10, 11, 12, 20]);
        assert_eq!(some.numbers(), [5, 2, 3, 3, 7, 1]);
        assert_eq!(Places::read(&some.numbers()), Some(some.clone()));
        assert_eq!(
            (some.count(), some.first(), some.to_string().as_str()),
            (6, Some(5), "5\u{2013}6, 10\u{2013}12, 20")
        );
        assert_eq!(places(&[0]).numbers(), [0, 1]);
        for bad in [&[1][..], &[0, 0], &[0, 1, 0, 1], &[u64::MAX, 1], &[1, u64::MAX], &[0, 1, 2]] {
            assert_eq!(Places::read(bad), None, "{bad:?}");
        }
        assert!(!places(&[7]).push(7));
        assert_eq!(some.starting_at(6), places(&[6, 10, 11, 12, 20]));
        assert_eq!(some.starting_at(21), Places::default());
        assert_eq!((some.ending_before(11), some.ending_before(5)), (places(&[5, 6, 10]), Places::default()));
        let all = Places::read(&[0, u64::MAX]).unwrap();
        assert_eq!(all.starting_at(5).first(), Some(5), "as many as there are, none is walked");
    }

    #[test]
    fn what_is_taken_is_gone_and_what_was_never_there_is_named() {
        let mut own = places(&[1, 2, 3, 4, 8, 9, 20]);
        assert_eq!(own.take(&places(&[2, 3, 9, 20])), None);
        assert_eq!(own, places(&[1, 4, 8]));
        assert_eq!(own.take(&places(&[4, 5])), Some(5));
        assert_eq!(own.take(&places(&[0, 1])), Some(0));
        assert_eq!(own.take(&places(&[8])), None);
        assert_eq!(own, Places::default());
        assert_eq!(own.take(&places(&[3])), Some(3));
        let mut own = places(&[1, 2, 5, 6]);
        assert_eq!(own.take(&places(&[1, 2, 3, 4, 5, 6])), Some(3));
        assert_eq!(own.count(), 0);
    }
}
