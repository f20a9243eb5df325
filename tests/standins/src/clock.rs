//! The time a stand-in lives in.

use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time. Give a frozen one in tests.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's own time.
#[must_use]
pub fn system() -> Now {
    #[expect(clippy::disallowed_methods, reason = "the one place where a stand-in reads the machine's time")]
    Arc::new(Timestamp::now)
}

/// A time that stands still at `at`.
#[must_use]
pub fn frozen(at: Timestamp) -> Now {
    Arc::new(move || at)
}
