//! A clock that stands still while readers wait for the intake: what they have not read yet may be older than it looks. However many
//! wait, the time counts once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The clock. It begins at zero.
#[derive(Debug)]
pub(super) struct ReadingTime {
    began: Instant,
    stood: Mutex<Stood>,
}

#[derive(Debug, Default)]
struct Stood {
    /// How many wait now.
    waiting: usize,
    /// Since when at least one does.
    since: Option<Instant>,
    /// How long at least one waited, before that.
    before: Duration,
}

/// Someone waits until this is dropped.
#[derive(Debug)]
pub(super) struct Waits<'a>(&'a ReadingTime);

// === impl ReadingTime ===

impl ReadingTime {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), stood: Mutex::default() }
    }

    /// The time; never goes back.
    pub(super) fn now(&self) -> Duration {
        let stood = self.stood();
        let running = stood.since.unwrap_or_else(Instant::now).saturating_duration_since(self.began);
        running.saturating_sub(stood.before)
    }

    /// Stops the clock until the answer is dropped.
    pub(super) fn wait(&self) -> Waits<'_> {
        let mut stood = self.stood();
        stood.waiting = stood.waiting.saturating_add(1);
        stood.since.get_or_insert_with(Instant::now);
        Waits(self)
    }

    fn stood(&self) -> std::sync::MutexGuard<'_, Stood> {
        self.stood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut stood = self.0.stood();
        stood.waiting = stood.waiting.saturating_sub(1);
        if stood.waiting == 0 {
            let stood_now = stood.since.take().map(|since| since.elapsed()).unwrap_or_default();
            stood.before = stood.before.saturating_add(stood_now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_many_wait_the_clock_stands_once_and_goes_on_behind() {
        let second = Duration::from_secs(1);
        let clock = ReadingTime::new();
        tokio::time::advance(5 * second).await;
        let mut waits: Vec<_> = (0..500).map(|_| clock.wait()).collect();
        tokio::time::advance(60 * second).await;
        waits.truncate(1);
        assert_eq!(clock.now(), 5 * second, "one of them waits");
        tokio::time::advance(3 * second).await;
        waits.clear();
        assert_eq!(clock.now(), 5 * second);
        tokio::time::advance(30 * second).await;
        assert_eq!(clock.now(), 35 * second, "what they waited is not counted for each");
    }
}
