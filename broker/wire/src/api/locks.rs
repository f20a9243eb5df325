//! Locks: nothing is issued for what they are on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// What a lock is on. A user is an issuer and a subject, compared byte for byte; names and e-mail addresses do not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum LockOn {
    /// A person.
    User {
        /// The provider's issuer URL.
        issuer: String,
        /// The provider's subject.
        subject: String,
    },
    /// A session.
    Session {
        /// Its id.
        id: Uuid,
    },
    /// A grant, with its renewals and the break-glass request that it used.
    Grant {
        /// Its id.
        id: Uuid,
    },
    /// A cluster.
    Cluster {
        /// Its name.
        name: String,
    },
    /// Everything.
    Everything,
}

/// A lock to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockAsk {
    /// On what.
    pub on: LockOn,
    /// After how many seconds it ends by itself; without it someone must lift it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Why. At most 500 characters; kept in the audit, and shown to whoever sees locks.
    pub reason: String,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LockAnswer {
    /// Its id.
    pub id: Uuid,
    /// On what.
    pub on: LockOn,
    /// Who set it: a `user:` value, or a user of the broker's host.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Whether it holds now.
    pub holds: bool,
    /// Who asked for it to be lifted, and waits for another to confirm that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// Until when that can be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub asked_until: Option<Timestamp>,
    /// Who ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}

/// A lock that was set, and what it leaves as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LockSetAnswer {
    /// The lock.
    pub lock: LockAnswer,
    /// Certificates that were issued before, for what it is on, and are good still.
    pub outstanding: Outstanding,
    /// What it does not end, and what does, a line each.
    pub beyond: Vec<String>,
}

/// Certificates that are good still: no lock ends them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outstanding {
    /// How many.
    pub certificates: u64,
    /// Whether there may be more: not all of the log was looked through.
    pub more: bool,
    /// When the last of them expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// The clusters that they are good for.
    pub clusters: Vec<String>,
}

/// Which locks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct LocksQuery {
    /// Also those that ended within the last 30 days.
    #[serde(default)]
    pub ended: bool,
}

/// Locks, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LockList {
    /// The locks that the caller may see.
    pub locks: Vec<LockAnswer>,
}

/// How a lock is lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlockAsk {
    /// Why. At most 500 characters; kept in the audit.
    pub reason: String,
    /// For a lock of everything: confirms what another person asked for.
    #[serde(default)]
    pub confirm: bool,
}

/// Whom a name is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PeopleQuery {
    /// A subject, or a value behind `user:`, exactly.
    pub name: String,
}

/// People who have logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeopleAnswer {
    /// Those of that name; more than one where it is of several.
    pub people: Vec<PersonAnswer>,
}

/// Someone who has logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PersonAnswer {
    /// The provider's issuer URL.
    pub issuer: String,
    /// The provider's subject.
    pub subject: String,
    /// The name as the provider told it last.
    pub name: String,
    /// The value behind `user:`.
    pub user: String,
}
