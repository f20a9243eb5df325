//! An opening is brought to the broker, once there is one again.

use ichor_wire::api::{KitReportAnswer, KitReportAsk};

use crate::error::Error;
use crate::session::Session;

/// Reports an opening. Returns once it is recorded.
///
/// # Errors
/// The broker's refusal or problem.
pub async fn report(session: &Session, ask: &KitReportAsk) -> Result<KitReportAnswer, Error> {
    session.broker().post(session, &["kits", "reports"], ask).await
}
