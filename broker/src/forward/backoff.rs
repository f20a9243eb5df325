//! How long to wait after a failure.

use std::time::Duration;

use crate::entropy;

/// Waits that double, each shortened by chance so that several who failed together do not come back together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// After a success the first wait is the first again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The wait after one more failure: between a half and the whole of what has doubled so far.
    pub(crate) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.longest);
        // without randomness they come back together, which is worse than waiting and better than not coming back
        let chance = entropy::bytes::<1>().map_or(255, |[byte]| u32::from(byte));
        whole / 2 + whole / 2 * chance / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, second * 5);
        for whole in [1, 2, 4, 5, 5] {
            let wait = backoff.wait();
            assert!(wait >= second * whole / 2 && wait <= second * whole, "{wait:?} of {whole} s");
        }
        backoff.reset();
        assert!(backoff.wait() <= second);
        let mut waits: Vec<_> = (0..64).map(|_| Backoff::new(second, second).wait()).collect();
        waits.dedup();
        assert!(waits.len() > 1, "they are not all alike");
    }
}
