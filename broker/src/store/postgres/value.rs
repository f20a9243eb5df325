//! How values stand in columns. What does not fit its type was not written by us: the database is damaged.

use jiff::Timestamp;
use uuid::Uuid;

use super::Failure;

/// A time as a column has it: microseconds since the epoch.
pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(super) fn time(micros: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_microsecond(micros).map_err(|_| Failure::Damaged(format!("`{micros}` is not a time")))
}

pub(super) fn id(bytes: &[u8]) -> Result<Uuid, Failure> {
    Uuid::from_slice(bytes).map_err(|_| Failure::Damaged("an id does not have 16 bytes".into()))
}

pub(super) fn hash(bytes: &[u8]) -> Result<[u8; 32], Failure> {
    bytes.try_into().map_err(|_| Failure::Damaged("a hash does not have 32 bytes".into()))
}

/// A number that is never negative, as Postgres' signed integer has it.
pub(super) fn unsigned(number: i64) -> Result<u64, Failure> {
    u64::try_from(number).map_err(|_| Failure::Damaged(format!("`{number}` is negative")))
}

/// A number for a column; one beyond `i64` cannot be reached by counting.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
