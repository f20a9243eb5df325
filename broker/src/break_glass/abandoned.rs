//! Grants whose broker stopped before their outcome was recorded: what they used is given back.

use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};

use super::{BreakGlass, BreakGlassError};
use crate::audit::RecordError;
use crate::domain::{BreakGlassId, GrantId};
use crate::mint::IN_TIME;
use crate::store::{BreakGlassChange, Condition, EntryFilter};

/// Twice as long as a certificate may take: whoever is slower has thrown theirs away long before, and comes too late besides, for the
/// outcome's own transaction sees that the use was given back.
pub(super) const ABANDONED_AFTER: SignedDuration = SignedDuration::from_secs(2 * IN_TIME.as_secs());

impl BreakGlass {
    /// Gives back what grants used of which no outcome was recorded for a minute, whichever broker was to: to the key that made the use,
    /// as any other that no certificate came of. Nothing leaves a broker before its outcome is recorded, and behind this none can be.
    /// To be called at start and about once a minute.
    ///
    /// # Errors
    /// When the store cannot be read, or something cannot be recorded; the rest is recorded next time.
    pub async fn give_back_abandoned(&self) -> Result<(), BreakGlassError> {
        let before = self.clock.now().saturating_sub(ABANDONED_AFTER).unwrap_or(Timestamp::MIN);
        let mut failed = Ok(());
        for (request, grant) in self.store.break_glass_open_uses(before, super::times::AT_ONCE).await? {
            // one that cannot be given back keeps back no other
            failed = failed.and(self.abandon(request, grant, before).await);
        }
        failed
    }

    async fn abandon(&self, request: BreakGlassId, grant: GrantId, before: Timestamp) -> Result<(), BreakGlassError> {
        // the row's time can be written by whoever writes the database; the grant's own is in its id, which the log has
        if made_at(grant).is_none_or(|at| at > before) {
            forged(request, grant, "it is older than its grant");
            return Ok(());
        }
        let issued = EntryFilter { grant: Some(grant), kind: Some(Kind::Issued), ..EntryFilter::default() };
        if !self.store.entries(&issued, None, 1).await?.is_empty() {
            forged(request, grant, "it has no certificate, and the log has one");
            return Ok(());
        }
        let (_, contents) = match self.load(request).await {
            Err(BreakGlassError::Unknown) => return Ok(()),
            loaded => loaded?,
        };
        let said = &contents.said;
        let content = Content {
            person: Some(contents.person.logged(&said.name, &said.user)),
            cluster: Some(said.cluster.clone()),
            roles: Some(said.roles.iter().map(ToString::to_string).collect()),
            reason: Some(said.reason.clone()),
            grant: Some(grant.0.as_bytes().to_vec()),
            break_glass: Some(request.0.as_bytes().to_vec()),
            code: Some(Code::Unavailable.as_str().into()),
            message: Some("a broker stopped before a certificate was recorded, so none left it".into()),
            ..Content::of(Kind::IssueFailed)
        };
        match self.record(content, BreakGlassChange::Abandon { grant, before }).await {
            // another broker was first, or the outcome was recorded after all
            Err(BreakGlassError::Record(RecordError::Refused(Condition::RequestMoved))) => Ok(()),
            other => other,
        }
    }
}

fn forged(request: BreakGlassId, grant: GrantId, why: &str) {
    tracing::error!(%request, %grant, why, "what the database says of a use is not so: someone else writes it");
    metrics::counter!("ichor_forged_rows_total", "table" => "break_glass_use").increment(1);
}

/// When the grant was made, to the millisecond, by its id (UUID version 7, RFC 9562 §5.7).
fn made_at(grant: GrantId) -> Option<Timestamp> {
    let (seconds, nanoseconds) = grant.0.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}
