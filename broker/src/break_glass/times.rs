//! What time does to requests.

use ichor_wire::log::{Content, Kind};

use super::{BreakGlass, BreakGlassError};
use crate::audit::RecordError;
use crate::domain::{BreakGlassState, BreakGlassStep};
use crate::store::{BreakGlassChange, BreakGlassFilter, BreakGlassRow, Condition};

/// So many are looked at in one go.
const AT_ONCE: u32 = 500;

impl BreakGlass {
    /// Where a request stands now: its time may be over before that is recorded.
    #[must_use]
    pub fn state_now(&self, row: &BreakGlassRow) -> BreakGlassState {
        let now = self.clock.now();
        let is_over = match row.state {
            BreakGlassState::Pending => now >= row.waits_until,
            BreakGlassState::Approved => row.good_until.is_none_or(|until| now >= until),
            _ => false,
        };
        let step = BreakGlassStep::TimeOut { was_used: row.used > 0 };
        if is_over { row.state.after(step).unwrap_or(row.state) } else { row.state }
    }

    /// Records the requests whose time ran out, and shows how many uses nobody has reviewed. To be called about once a minute.
    ///
    /// # Errors
    /// When the store cannot be read, or something cannot be recorded; the rest is recorded next time.
    pub async fn time_out(&self) -> Result<(), BreakGlassError> {
        for row in self.store.break_glass_due(self.clock.now(), AT_ONCE).await? {
            let content = Content {
                cluster: Some(row.cluster.clone()),
                break_glass: Some(row.id.0.as_bytes().to_vec()),
                contents: Some(row.hash.to_vec()),
                message: Some(self.state_now(&row).to_string()),
                ..Content::of(Kind::BreakGlassOver)
            };
            match self.record(content, BreakGlassChange::TimeOut { request: row.id }).await {
                // another broker was first, or someone acted
                Err(BreakGlassError::Record(RecordError::Refused(Condition::RequestMoved))) => {}
                other => other?,
            }
        }
        let states = vec![BreakGlassState::Used, BreakGlassState::Revoked];
        let filter = BreakGlassFilter { states, ..BreakGlassFilter::default() };
        let used = self.store.break_glass_list(&filter, None, AT_ONCE).await?;
        let unreviewed = used.iter().filter(|row| row.used > 0).count();
        metrics::gauge!("ichor_break_glass_unreviewed").set(f64::from(u32::try_from(unreviewed).unwrap_or(u32::MAX)));
        Ok(())
    }
}
