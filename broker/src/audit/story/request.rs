//! What belongs to a break-glass request, with a grant and without.

use ichor_wire::api::{AuditEntry, GrantStory};
use ichor_wire::log::Kind;
use jiff::SignedDuration;
use uuid::Uuid;

use super::{STRETCH, Told, made_at, show};
use crate::domain::GrantId;
use crate::store::{EntryFilter, StoreError};

/// What the log has of a request besides its grants.
const OF_REQUESTS: [Kind; 8] = [
    Kind::BreakGlassRequest,
    Kind::BreakGlassApproval,
    Kind::BreakGlassTold,
    Kind::BreakGlassTouched,
    Kind::BreakGlassRevoked,
    Kind::BreakGlassOver,
    Kind::BreakGlassOverdue,
    Kind::BreakGlassReview,
];

impl Told<'_> {
    /// Adds the request whose entry this is: the grants that used it with all that came of them, or where there is none, what
    /// became of it.
    pub(super) async fn request(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let Some(request) = named_by(entry) else { return Ok(()) };
        let grants = self.about(request, entry.cluster.as_deref(), &[Kind::Grant]).await?;
        for grant in grants.iter().filter_map(|grant| grant.grant_id) {
            self.grant(GrantId(grant)).await?;
        }
        if grants.is_empty() {
            let found = self.about(request, entry.cluster.as_deref(), &OF_REQUESTS).await?;
            self.answer.others.extend(found);
        }
        Ok(())
    }

    /// Adds the request that the grant used, as far as no other grant told it: what led to the grant, and what became of it then.
    pub(super) async fn request_of(&mut self, story: &mut GrantStory) -> Result<(), StoreError> {
        let Some(grant) = &story.grant else { return Ok(()) };
        let Some(request) = named_by(grant) else { return Ok(()) };
        let at = grant.index;
        let mut found = self.about(request, grant.cluster.as_deref(), &OF_REQUESTS).await?;
        found.retain(|entry| {
            entry.grant_id.is_none_or(|grant| grant == story.grant_id)
                && story.outcome.iter().chain(self.answer.entries()).all(|known| known.index != entry.index)
        });
        (story.request, story.afterwards) = found.into_iter().partition(|entry| entry.index < at);
        Ok(())
    }

    /// The entries of these kinds that are about the request, in the log's order.
    async fn about(
        &mut self,
        request: Uuid,
        cluster: Option<&str>,
        kinds: &[Kind],
    ) -> Result<Vec<AuditEntry>, StoreError> {
        // the id is as old as the request, but for what the log's times leave out
        let since = made_at(request).and_then(|made| made.checked_sub(SignedDuration::from_secs(1)).ok());
        let mut found = Vec::new();
        for kind in kinds {
            let filter =
                EntryFilter { cluster: cluster.map(str::to_owned), kind: Some(*kind), since, ..EntryFilter::default() };
            let stretch = self.store.entries_from(&filter, 0, STRETCH).await?;
            self.answer.truncated |= stretch.len() == usize::try_from(STRETCH).unwrap_or(usize::MAX);
            for stored in &stretch {
                found.push(show(stored)?);
            }
        }
        found.retain(|entry| named_by(entry) == Some(request));
        found.sort_unstable_by_key(|entry| entry.index);
        Ok(found)
    }
}

/// The request that an entry is about.
fn named_by(entry: &AuditEntry) -> Option<Uuid> {
    entry.detail.get("break_glass").and_then(|id| Uuid::try_parse(id).ok())
}
