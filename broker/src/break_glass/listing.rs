//! Lists of requests. What someone may see, or decide, is looked for among all of them: a request of a small cluster does not vanish
//! behind those of others.

use std::collections::HashMap;

use crate::domain::{BreakGlassId, BreakGlassState, ClusterName, Role};
use crate::identity::Identity;
use crate::policy;
use crate::store::BreakGlassFilter;

use super::{BreakGlass, BreakGlassError, ByPage, Contents, Seen, contents};

/// So many rows are read at a time.
const PAGE: u32 = 500;

/// So many are looked through for one answer; what lies behind is asked for with the place that it gives.
const LOOKED_AT: usize = 20_000;

/// What policy says of requests like this, by cluster and roles: it looks at nothing else of a request.
type Alike = HashMap<(ClusterName, Vec<Role>), bool>;

impl BreakGlass {
    /// The newest requests that match, behind `before`, that this person may see, at most `limit`; and the last one looked at, where
    /// there may be more behind it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        identity: &Identity,
        filter: &BreakGlassFilter,
        before: Option<BreakGlassId>,
        limit: u32,
    ) -> Result<(Vec<Seen>, Option<BreakGlassId>), BreakGlassError> {
        let mut alike = Alike::new();
        let may_see = |contents: &Contents| {
            *identity.person() == contents.person
                || *alike
                    .entry((contents.cluster.clone(), contents.said.roles.clone()))
                    .or_insert_with(|| self.may_see(identity, contents).is_ok())
        };
        let (found, next) = self.look_through(filter, before, limit, may_see).await?;
        Ok((self.shown(identity, found).await?, next))
    }

    /// The newest pending requests behind `before` that this person can decide, or could after a fresh login, at most `limit`; and the
    /// last one looked at, where there may be more behind it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn to_decide(
        &self,
        identity: &Identity,
        before: Option<BreakGlassId>,
        limit: u32,
    ) -> Result<(Vec<Seen>, Option<BreakGlassId>), BreakGlassError> {
        let filter = BreakGlassFilter { states: vec![BreakGlassState::Pending], ..BreakGlassFilter::default() };
        let (policies, now) = (std::sync::Arc::clone(&self.policies.borrow()), self.clock.now());
        let mut alike = Alike::new();
        let can_decide = |contents: &Contents| {
            let Ok(cluster) = self.could_end(identity, contents) else { return false };
            let roles = &contents.said.roles;
            now < contents.said.waits_until
                && *alike
                    .entry((contents.cluster.clone(), roles.clone()))
                    .or_insert_with(|| policy::login_to_approve(&policies, identity, &cluster, roles, now).is_ok())
        };
        let (found, next) = self.look_through(&filter, before, limit, can_decide).await?;
        let mut seen = self.shown(identity, found).await?;
        seen.retain(|seen| {
            seen.state == BreakGlassState::Pending && !matches!(self.by_page(identity, seen), ByPage::Nothing(_))
        });
        Ok((seen, next))
    }

    /// The newest requests that are wanted, and where to go on.
    async fn look_through(
        &self,
        filter: &BreakGlassFilter,
        before: Option<BreakGlassId>,
        limit: u32,
        mut is_wanted: impl FnMut(&Contents) -> bool,
    ) -> Result<(Vec<BreakGlassId>, Option<BreakGlassId>), BreakGlassError> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut found, mut last, mut looked_at) = (Vec::new(), before, 0_usize);
        loop {
            let rows = self.store.break_glass_list(filter, last, PAGE).await?;
            let is_full = rows.len() == PAGE as usize;
            let mut rows = rows.into_iter().peekable();
            while let Some(row) = rows.next() {
                looked_at = looked_at.saturating_add(1);
                last = Some(row.id);
                if contents::read(&row, &self.data_key).is_some_and(|contents| is_wanted(&contents)) {
                    found.push(row.id);
                }
                if found.len() >= most {
                    return Ok((found, last.filter(|_| is_full || rows.peek().is_some())));
                }
            }
            if !is_full {
                return Ok((found, None));
            }
            if looked_at >= LOOKED_AT {
                return Ok((found, last));
            }
        }
    }

    /// As this person may see them, in this order.
    async fn shown(&self, identity: &Identity, ids: Vec<BreakGlassId>) -> Result<Vec<Seen>, BreakGlassError> {
        let mut seen = Vec::with_capacity(ids.len());
        // the oldest first: the log is read from there on
        for id in ids.into_iter().rev() {
            match self.show(identity, id).await {
                Ok(one) => seen.push(one),
                Err(BreakGlassError::Unknown) => {}
                Err(error) => return Err(error),
            }
        }
        seen.reverse();
        Ok(seen)
    }
}
