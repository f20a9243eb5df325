//! A break-glass kit, opened on this machine with no broker: shares, a record on disk, then a certificate from the kit's own CA.
//!
//! ```text
//! file + shares → Opened                    only gathering, with enough shares
//! Opened + who, why, for what → Grant       only Opened::grant, within what the kit allows
//! Grant → LocallyRecorded<Grant>            only recording: once the record is on disk
//! LocallyRecorded<Grant> → a certificate    Opened::mint takes nothing else
//! ```
//! A static kit has its certificate already; it is handed out by the same steps.
//!
//! It is the one way to a certificate that no broker recorded. Its opener could withhold the record; the nodes' own logs name the
//! grant, and the broker alarms where one is not reported.

mod grant;
mod harden;
mod mint;
mod opened;
mod recorded;
mod reporting;
mod share_file;

pub use grant::{Asked, Grant};
pub use harden::harden_process;
pub use mint::Minted;
pub use opened::{Opened, check_time, read};
pub use recorded::{LocallyRecorded, Machine, folder, records};
pub use reporting::report;
pub use share_file::{Identities, read_share};

#[cfg(test)]
mod tests;
