//! What time does to locks, and what is seen of them.

use ichor_wire::log::{Content, Kind};

use super::book::about;
use super::{Book, LockError};
use crate::audit::RecordError;
use crate::domain::LockKind;
use crate::store::{Condition, LockChange, LockRow};

impl Book {
    /// Records the locks whose time is over, and answers those that hold; to be called every few seconds. A lock's end counts at
    /// once, recorded or not.
    ///
    /// # Errors
    /// When the store cannot be read, or something cannot be recorded; the rest is recorded next time.
    pub async fn time_out(&self) -> Result<Vec<LockRow>, LockError> {
        let now = self.now();
        let mut held = Vec::new();
        for lock in self.list(false).await? {
            if lock.holds(now) {
                held.push(lock);
                continue;
            }
            let base = Content {
                lock: Some(lock.id.0.as_bytes().to_vec()),
                locked_until: lock.until.map(|until| until.as_second()),
                message: Some(format!("the lock of {} is over: its time has come", lock.target)),
                ..Content::of(Kind::Unlock)
            };
            match self.record(about(Kind::Unlock, &lock.target, base), LockChange::TimeOut { lock: lock.id }).await {
                // another broker was first, or someone lifted it
                Err(LockError::Record(RecordError::Refused(Condition::LockGone))) => {}
                other => other?,
            }
        }
        for kind in LockKind::ALL {
            let number = held.iter().filter(|lock| lock.target.kind() == kind).count();
            let number = f64::from(u32::try_from(number).unwrap_or(u32::MAX));
            metrics::gauge!("ichor_locks", "on" => kind.as_str()).set(number);
        }
        Ok(held)
    }
}
