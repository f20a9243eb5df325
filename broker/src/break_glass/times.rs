//! What time does to requests.

use ichor_wire::log::{Content, Kind};

use jiff::{SignedDuration, Timestamp};

use super::{BreakGlass, BreakGlassError, contents};
use crate::audit::{RecordError, Sequencer};
use crate::clock::Clock;
use crate::domain::{BreakGlassState, BreakGlassStep};
use crate::store::{BreakGlassChange, BreakGlassFilter, BreakGlassRow, Change, Condition, Store};

/// So many are looked at in one go.
pub(super) const AT_ONCE: u32 = 500;

/// An overdue review is recorded again after so long.
const AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// Records the end of every request that is pending or approved, whatever its time: a backup that was put back knows of none what
/// became of it later.
///
/// # Errors
/// When the store cannot be read, or an end cannot be recorded; then it is to be called again.
pub async fn end_all(store: &dyn Store, sequencer: &Sequencer, clock: &dyn Clock) -> Result<(), BreakGlassError> {
    let states = vec![BreakGlassState::Pending, BreakGlassState::Approved];
    let filter = BreakGlassFilter { states, ..BreakGlassFilter::default() };
    loop {
        let open = store.break_glass_list(&filter, None, AT_ONCE).await?;
        if open.is_empty() {
            return Ok(());
        }
        for row in open {
            let step = match row.used {
                0 => BreakGlassStep::TimeOut { was_used: false },
                _ => BreakGlassStep::Revoke { is_on_its_way: false },
            };
            let content = over(&row, row.state.after(step).unwrap_or(row.state));
            let change = BreakGlassChange::Reopened { request: row.id };
            sequencer.note(content, Some(Change::BreakGlass { change, now: clock.now(), keys: None })).await?;
        }
    }
}

/// The entry of a request that ends so without anyone's act.
fn over(row: &BreakGlassRow, state: BreakGlassState) -> Content {
    Content {
        cluster: Some(row.cluster.clone()),
        break_glass: Some(row.id.0.as_bytes().to_vec()),
        contents: Some(row.hash.to_vec()),
        message: Some(state.to_string()),
        ..Content::of(Kind::BreakGlassOver)
    }
}

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

    /// Records the requests whose time ran out. To be called about once a second.
    ///
    /// # Errors
    /// When the store cannot be read, or something cannot be recorded; the rest is recorded next time.
    pub async fn time_out(&self) -> Result<(), BreakGlassError> {
        let mut failed = Ok(());
        for row in self.store.break_glass_due(self.clock.now(), AT_ONCE).await? {
            let content = over(&row, self.state_now(&row));
            match self.record(content, BreakGlassChange::TimeOut { request: row.id }).await {
                // another broker was first, or someone acted
                Err(BreakGlassError::Record(RecordError::Refused(Condition::RequestMoved))) => {}
                // it holds up none behind it
                other => failed = failed.and(other),
            }
        }
        self.read_on().await?;
        failed
    }

    /// Records, once a day for each, the uses whose review is overdue, and shows how many wait for a review; answers how many are
    /// overdue, up to a bound. To be called about once a minute.
    ///
    /// # Errors
    /// When the store cannot be read, or something cannot be recorded; the rest is recorded next time.
    pub async fn remind(&self) -> Result<usize, BreakGlassError> {
        let now = self.clock.now();
        let used = now.saturating_sub(self.settings.review_within).unwrap_or(Timestamp::MIN);
        let before = now.saturating_sub(AGAIN).unwrap_or(Timestamp::MIN);
        let mut failed = Ok(());
        for row in self.store.break_glass_overdue(used, Some(before), AT_ONCE).await? {
            let Some(contents) = contents::read(&row, &self.data_key) else { continue };
            let content = Content {
                cluster: Some(row.cluster.clone()),
                roles: Some(contents.said.roles.iter().map(ToString::to_string).collect()),
                reason: Some(contents.said.reason.clone()),
                break_glass: Some(row.id.0.as_bytes().to_vec()),
                contents: Some(row.hash.to_vec()),
                requester: Some(contents.said.user.clone()),
                self_service: contents.said.self_service.then_some(true),
                ..Content::of(Kind::BreakGlassOverdue)
            };
            match self.record(content, BreakGlassChange::Remind { request: row.id, before }).await {
                // another broker was first, or someone reviewed it
                Err(BreakGlassError::Record(RecordError::Refused(Condition::RequestMoved))) => {}
                other => failed = failed.and(other),
            }
        }
        failed?;
        let overdue = self.store.break_glass_overdue(used, None, AT_ONCE).await?.len();
        let states = vec![BreakGlassState::Used, BreakGlassState::Revoked];
        let filter = BreakGlassFilter { states, ..BreakGlassFilter::default() };
        let used = self.store.break_glass_list(&filter, None, AT_ONCE).await?;
        let unreviewed = used.iter().filter(|row| row.used > 0).count();
        let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        metrics::gauge!("ichor_break_glass_unreviewed").set(count(unreviewed));
        metrics::gauge!("ichor_break_glass_reviews_overdue").set(count(overdue));
        Ok(overdue)
    }
}
