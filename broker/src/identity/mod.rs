//! Who someone is, verified. Pure: an ID token, keys and a time go in; an [`Identity`] or an error comes out.

mod claims;
mod id_token;
mod vouch;

#[cfg(test)]
pub(crate) mod fixture;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::custody::DataKey;
use crate::domain::{Group, Human, HumanClaim, PageUse, Person, SessionId};
use crate::store::SessionRow;
pub use claims::{BySubject, Claims, ClaimsError, GroupsFrom, LocalGroups, Mapping};
pub use id_token::{Expected, IdTokenError, KeySet, Verified, verify};
pub use vouch::{Forged, is_vouched, vouch};

/// A verified person. Only this room makes one: from a verified ID token, or from the row of a session that began with one
/// and bears the broker's tag. It carries no permission.
///
/// Who has one may read it,
/// ```
/// fn read(identity: &ichor_broker::identity::Identity) -> &str {
///     identity.user()
/// }
/// ```
/// but nobody makes one of another,
/// ```compile_fail,E0451
/// # use ichor_broker::identity::Identity;
/// fn other(identity: Identity) -> Identity {
///     Identity { user: "root".into(), ..identity }
/// }
/// ```
/// changes one,
/// ```compile_fail,E0616
/// # use ichor_broker::identity::Identity;
/// fn change(identity: &mut Identity) {
///     identity.groups.clear();
/// }
/// ```
/// or takes a row for one without the key that its tag was made with.
/// ```
/// # use ichor_broker::{custody::DataKey, identity::{Forged, Identity}, store::SessionRow};
/// fn restore(row: &SessionRow, key: &DataKey) -> Result<Identity, Forged> {
///     Identity::restore(row, key)
/// }
/// ```
/// ```compile_fail,E0061
/// # use ichor_broker::{custody::DataKey, identity::{Forged, Identity}, store::SessionRow};
/// fn restore(row: &SessionRow) -> Result<Identity, Forged> {
///     Identity::restore(row)
/// }
/// ```
#[derive(Debug)]
pub struct Identity {
    person: Person,
    name: String,
    user: String,
    groups: BTreeSet<Group>,
    groups_at: Timestamp,
    acr: Option<String>,
    auth_time: Option<Timestamp>,
    session: Option<SessionId>,
    human: HumanClaim,
    page: Option<PageUse>,
    has_groups_file: bool,
}

/// The value behind `user:` of the broker itself. No person has it: theirs have no `~`, or 27 characters.
const SYSTEM_USER: &str = "~system";

impl Identity {
    /// The identity of a session's row, as it was verified at login and last told by the provider. Says nothing about
    /// whether the session is live.
    ///
    /// # Errors
    /// When the broker did not write the row: its tag does not fit.
    pub fn restore(row: &SessionRow, key: &DataKey) -> Result<Self, Forged> {
        if !is_vouched(row, key) {
            return Err(Forged);
        }
        Ok(Self {
            person: row.person.clone(),
            name: row.name.clone(),
            user: row.user.clone(),
            groups: row.groups.iter().cloned().collect(),
            groups_at: row.groups_at,
            acr: row.acr.clone(),
            auth_time: row.auth_time,
            session: Some(row.id),
            human: row.human,
            page: row.page,
            has_groups_file: false,
        })
    }

    /// The broker itself, for what it needs of its own: probes. It is in no group and in no session, so no policy gives it
    /// anything; what it has are its errands: [`policy::probe`](crate::policy::probe) and
    /// [`policy::delegation`](crate::policy::delegation).
    #[must_use]
    pub(crate) fn system(now: Timestamp) -> Self {
        Self {
            person: Person::system(),
            name: "Ichor".into(),
            user: SYSTEM_USER.into(),
            groups: BTreeSet::new(),
            groups_at: now,
            acr: None,
            auth_time: None,
            session: None,
            human: HumanClaim::NotAsked,
            page: None,
            has_groups_file: false,
        }
    }

    /// The same, knowing whether groups of their provider's people also come from a file, which a session's row does not tell. It is for
    /// the words of a refusal alone.
    #[must_use]
    pub(crate) fn beside_file(self, local: &LocalGroups) -> Self {
        Self { has_groups_file: local.has_file(), ..self }
    }

    /// The person's key.
    #[must_use]
    pub fn person(&self) -> &Person {
        &self.person
    }

    /// The name as the provider tells it: for people to read, never for a decision.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value behind `user:` in certificates.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The person's groups.
    #[must_use]
    pub fn groups(&self) -> &BTreeSet<Group> {
        &self.groups
    }

    /// When the groups were told.
    #[must_use]
    pub fn groups_at(&self) -> Timestamp {
        self.groups_at
    }

    /// Whether the groups also come from the provider's `groups_file`.
    #[must_use]
    pub fn has_groups_file(&self) -> bool {
        self.has_groups_file
    }

    /// The authentication context vouched for; absent where the provider told none.
    #[must_use]
    pub fn acr(&self) -> Option<&str> {
        self.acr.as_deref()
    }

    /// When the person authenticated; absent where the provider told none.
    #[must_use]
    pub fn auth_time(&self) -> Option<Timestamp> {
        self.auth_time
    }

    /// The human behind the account; `None` where a claim is configured to tell, and did not.
    #[must_use]
    pub fn human(&self) -> Option<Human> {
        let told = match self.human {
            HumanClaim::NotAsked => None,
            HumanClaim::Untold => return None,
            HumanClaim::Told(digest) => Some(digest),
        };
        Some(Human { person: self.person.clone(), told })
    }

    /// What the provider tells of the human, as a session keeps it.
    #[must_use]
    pub fn human_claim(&self) -> HumanClaim {
        self.human
    }

    /// What the session may do at the pages, where it is a browser's.
    #[must_use]
    pub fn page(&self) -> Option<PageUse> {
        self.page
    }

    /// The same person before there is a session.
    #[cfg(test)]
    pub(crate) fn without_session(self) -> Self {
        Self { session: None, ..self }
    }

    /// The session, where there is one already.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }
}
