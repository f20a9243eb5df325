//! Break-glass kits, as the log tells of them: which there are, who holds them, which are due, used, unreported or revoked.
//!
//! A kit opens without the broker. What the broker knows of it is what was recorded when it was made, drilled, reported and
//! revoked, and what nodes' logs say: [`ledger`]. That nodes still accept a kit's CA they tell anyone who asks: [`probe`].
//! What an opener brings back is held against the log: [`reported`]; what claims more than the kit gives is recorded as that. An overdue drill is told of: [`remind`]. What commands tell of kits
//! goes through the [`Register`].

mod beyond;
mod complaint;
pub mod ledger;
mod place;
pub mod probe;
mod register;
mod reminding;
mod report;

pub use beyond::BEYOND;
pub use ledger::{
    DRILL_EVERY, LedgerError, NOT_AS_REPORTED, Opening, Standing, State, Use, covers, read, read_with_size,
};
pub use place::{Moved, Place};
pub use register::{Register, RegisterError};
pub use reminding::remind;
pub use report::{ReportError, Reported, reported};
