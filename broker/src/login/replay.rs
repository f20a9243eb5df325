//! The memory of proofs that were used, bounded in time and size.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// How long one generation takes entries. A proof is accepted from 60 s before its `iat` to 60 s after, so an entry must
/// last 120 s; it lasts until the second change of generations, so between one and two times this.
const GENERATION: SignedDuration = SignedDuration::from_secs(120);

/// The most entries of a generation: 16 MiB of keys. Beyond it proofs are refused, never forgotten early.
const MOST: usize = 1 << 20;

/// What identifies a used proof: the first half of a SHA-256.
pub(super) type ProofId = [u8; 16];

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    current: HashSet<ProofId>,
    previous: HashSet<ProofId>,
    began: Option<Timestamp>,
}

/// What came of remembering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remembered {
    /// It is new.
    New,
    /// It was used before.
    Replayed,
    /// There is no room.
    Full,
}

// === impl Seen ===

impl Seen {
    /// Remembers the proof, unless it was seen before.
    pub(super) fn remember(&self, id: ProofId, now: Timestamp) -> Remembered {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = generations.began.map(|began| now.duration_since(began));
        match age {
            Some(age) if age < GENERATION => {}
            // However far the clock has gone: it may come back, and with it the time in which a proof is accepted.
            Some(_) => {
                generations.previous = std::mem::take(&mut generations.current);
                generations.began = Some(now);
            }
            None => generations.began = Some(now),
        }
        if generations.previous.contains(&id) || generations.current.contains(&id) {
            return Remembered::Replayed;
        }
        if generations.current.len() >= MOST {
            return Remembered::Full;
        }
        generations.current.insert(id);
        Remembered::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn remembers_as_long_as_a_proof_could_be_accepted() {
        for start in [0, 1, 60, 119] {
            let seen = Seen::default();
            assert_eq!(seen.remember([0; 16], at(0)), Remembered::New);
            assert_eq!(seen.remember([1; 16], at(start)), Remembered::New);
            for later in 0..=120 {
                assert_eq!(seen.remember([1; 16], at(start + later)), Remembered::Replayed, "{start} + {later}");
            }
        }
    }

    #[test]
    fn forgets_in_the_end() {
        let seen = Seen::default();
        assert_eq!(seen.remember([1; 16], at(0)), Remembered::New);
        assert_eq!(seen.remember([2; 16], at(120)), Remembered::New);
        assert_eq!(seen.remember([1; 16], at(240)), Remembered::New);
        assert_eq!(seen.remember([3; 16], at(10_000)), Remembered::New);
        assert_eq!(seen.remember([4; 16], at(20_000)), Remembered::New);
        assert_eq!(seen.remember([1; 16], at(30_000)), Remembered::New);
    }

    #[test]
    fn a_clock_that_jumps_ahead_and_back_forgets_nothing() {
        let seen = Seen::default();
        assert_eq!(seen.remember([1; 16], at(0)), Remembered::New);
        assert_eq!(seen.remember([2; 16], at(600)), Remembered::New);
        assert_eq!(seen.remember([1; 16], at(10)), Remembered::Replayed);
    }

    #[test]
    fn a_clock_that_went_back_forgets_nothing() {
        let seen = Seen::default();
        assert_eq!(seen.remember([1; 16], at(100)), Remembered::New);
        assert_eq!(seen.remember([1; 16], at(0)), Remembered::Replayed);
    }
}
