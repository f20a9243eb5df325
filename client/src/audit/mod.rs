//! The broker's audit log as seen from here: what is believed of it, and what it owes us proof of.
//!
//! - [`known`]: the log's key, pinned or kept from the first use, and the newest checkpoint that was verified.
//! - [`receipts`]: every certificate's receipt, checked when it comes and kept.
//! - [`kept`]: all of them checked again, against the log as it is now.
//! - [`evidence`]: what does not fit, kept for others to look at.
//! - [`tiles`]: a log that is published as tiles.

pub mod evidence;
pub mod kept;
pub mod known;
pub mod receipts;
pub mod tiles;

use ichor_wire::api::AuditKeyAnswer;

use crate::error::Error;
use crate::session::Session;

/// The log's key as the broker tells it: to be believed no further than [`known::Known::follow`] allows.
///
/// # Errors
/// The broker's problem, or that it cannot be reached.
pub async fn unverified_key(session: &Session) -> Result<AuditKeyAnswer, Error> {
    session.broker().get(session, &["audit", "key"], &[]).await
}
