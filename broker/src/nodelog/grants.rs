//! What the log knows of grants, remembered.

use std::collections::HashMap;
use std::sync::Arc;

use ichor_wire::log::Kind;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::access::Access;
use super::classify::Known;
use crate::audit::as_recorded;
use crate::domain::{ClusterName, GrantId, Person};
use crate::kit::{BEYOND, covers};
use crate::store::{EntryFilter, Store, StoreError, StoredEntry};

/// So many grants are remembered; beyond them memory is emptied and fills again.
const REMEMBERED: usize = 20_000;

/// So many of a cluster's newest grants are looked through for one that fits a call without a grant.
const LOOKED_THROUGH: u32 = 200;

/// Looks grants up in the log.
pub(super) struct Grants {
    store: Arc<dyn Store>,
    by_id: HashMap<GrantId, Option<Arc<Known>>>,
}

// === impl Grants ===

impl Grants {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, by_id: HashMap::new() }
    }

    /// The grant of this id. One that the log does not have stays unknown: ids cannot be guessed before they are recorded. Neither is
    /// one known whose body is not the one that was recorded, or is of another grant: columns and bodies are no evidence.
    pub(super) async fn find(&mut self, id: GrantId) -> Result<Option<Arc<Known>>, StoreError> {
        if let Some(known) = self.by_id.get(&id) {
            return Ok(known.clone());
        }
        let filter = EntryFilter { grant: Some(id), kind: Some(Kind::Grant), ..EntryFilter::default() };
        let found = self.store.entries(&filter, None, 1).await?;
        let known = found.first().and_then(|stored| known(stored, Some(id))).map(Arc::new);
        if self.by_id.len() >= REMEMBERED {
            self.by_id.clear();
        }
        self.by_id.insert(id, known.clone());
        Ok(known)
    }

    /// The opening of this kit that gave this grant, as it was last reported. The openings of a static kit have one grant: of those the
    /// one in whose time the call began. One that is not reported yet may be at any time, so nothing is remembered.
    pub(super) async fn find_reported(
        &self,
        number: u16,
        id: GrantId,
        started: Timestamp,
    ) -> Result<Option<Arc<Known>>, StoreError> {
        let filter = EntryFilter { grant: Some(id), kind: Some(Kind::KitOpened), ..EntryFilter::default() };
        let found = self.store.entries(&filter, None, LOOKED_THROUGH).await?;
        let mut reported =
            found.iter().filter_map(|stored| reported(stored, id)).filter(|opening| opening.kit == number);
        let fits =
            |opening: &Reported| !opening.is_static || covers(opening.known.granted, opening.known.not_after, started);
        // of what was made for its opener only the newest report counts
        let newest = reported.next();
        let fitting = match newest {
            Some(newest) if newest.is_static && !fits(&newest) => reported.find(fits),
            newest => newest,
        };
        Ok(fitting.map(|opening| Arc::new(opening.known)))
    }

    /// The newest grant of the same cluster, person and roles that was in force at `started`.
    pub(super) async fn fits(
        &self,
        cluster: &str,
        access: &Access,
        started: Timestamp,
    ) -> Result<Option<Arc<Known>>, StoreError> {
        let filter = EntryFilter {
            cluster: Some(cluster.into()),
            kind: Some(Kind::Grant),
            person: access.user.clone(),
            // a node's clock may be behind
            until: started.saturating_add(SignedDuration::from_mins(1)).ok(),
            ..EntryFilter::default()
        };
        let found = self.store.entries(&filter, None, LOOKED_THROUGH).await?;
        let mut known = found.iter().filter_map(|stored| known(stored, None));
        let fits = |known: &Known| {
            known.cluster == cluster
                && known.roles == access.roles
                && known.not_after >= started
                && access.user.as_ref().is_none_or(|user| *user == known.user)
        };
        Ok(known.find(fits).map(Arc::new))
    }
}

/// The grant of this entry; of that id, where one is sought.
fn known(stored: &StoredEntry, id: Option<GrantId>) -> Option<Known> {
    let entry = as_recorded(stored, Some(Kind::Grant)).ok()??;
    let content = entry.content;
    if id.is_some_and(|id| content.grant.as_deref() != Some(id.0.as_bytes())) {
        return None;
    }
    let person = content.person?;
    let mut roles = content.roles?;
    roles.sort_unstable();
    let owner = Some(Person::recorded(&person.provider, person.issuer, person.subject).ok()?);
    Some(Known {
        cluster: ClusterName::new(&content.cluster?).ok()?.as_str().into(),
        roles,
        owner,
        user: person.user,
        granted: Timestamp::from_microsecond(entry.time).ok()?,
        not_after: Timestamp::from_second(content.not_after?).ok()?,
        entry: stored.index,
        grant: content.grant.and_then(|id| Uuid::from_slice(&id).ok()).map(GrantId),
        break_glass: content.break_glass.and_then(|id| id.try_into().ok()),
    })
}

/// An opening that was reported, and is not more than its kit gives.
struct Reported {
    /// The kit's number.
    kit: u16,
    /// Whether its certificate is everyone's who opens the kit.
    is_static: bool,
    /// What it gave.
    known: Known,
}

fn reported(stored: &StoredEntry, id: GrantId) -> Option<Reported> {
    let content = as_recorded(stored, Some(Kind::KitOpened)).ok()??.content;
    if content.grant.as_deref() != Some(id.0.as_bytes()) || content.kit_label.as_deref() == Some(BEYOND) {
        return None;
    }
    let kit = content.kit?;
    let (is_static, claimed) = (kit.user.is_some(), content.claimed?);
    let mut roles = content.roles?;
    roles.sort_unstable();
    let known = Known {
        cluster: ClusterName::new(&content.cluster?).ok()?.as_str().into(),
        roles,
        owner: None,
        user: kit.user.unwrap_or_else(|| format!("claimed:{claimed}")),
        granted: Timestamp::from_second(content.opened?).ok()?,
        not_after: Timestamp::from_second(content.not_after?).ok()?,
        entry: stored.index,
        grant: Some(id),
        break_glass: None,
    };
    Some(Reported { kit: kit.number, is_static, known })
}
