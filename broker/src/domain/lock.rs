//! What is locked.

use std::fmt;

use uuid::Uuid;

use super::{ClusterName, GrantId, SessionId};

/// A lock's id (UUIDv7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockId(pub Uuid);

/// What a lock is on. A user is an issuer and a subject, byte for byte: names, e-mail addresses and their spellings do not count,
/// nor does the alias by which the broker knows the provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockTarget {
    /// A person, whichever session they act in.
    User {
        /// The provider's issuer URL.
        issuer: String,
        /// The provider's subject.
        subject: String,
    },
    /// One session.
    Session(SessionId),
    /// One grant: its certificate while it is on its way, every further use of the break-glass request that it used, and its
    /// renewals.
    Grant {
        /// The grant.
        grant: GrantId,
        /// Where its renewals would come from: certificates of this session for this cluster. Absent for a grant of the
        /// broker's own.
        renewals: Option<(SessionId, ClusterName)>,
    },
    /// One cluster.
    Cluster(ClusterName),
    /// Every certificate and every break-glass request of this installation.
    Everything,
}

/// The kinds of [`LockTarget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKind {
    /// A person.
    User,
    /// A session.
    Session,
    /// A grant.
    Grant,
    /// A cluster.
    Cluster,
    /// Everything.
    Everything,
}

// === impl LockTarget ===

impl LockTarget {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> LockKind {
        match self {
            Self::User { .. } => LockKind::User,
            Self::Session(_) => LockKind::Session,
            Self::Grant { .. } => LockKind::Grant,
            Self::Cluster(_) => LockKind::Cluster,
            Self::Everything => LockKind::Everything,
        }
    }
}

impl fmt::Display for LockTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { issuer, subject } => write!(f, "user `{subject}` of `{issuer}`"),
            Self::Session(id) => write!(f, "session {id}"),
            Self::Grant { grant, .. } => write!(f, "grant {grant}"),
            Self::Cluster(name) => write!(f, "cluster `{name}`"),
            Self::Everything => f.write_str("everything"),
        }
    }
}

// === impl LockKind ===

impl LockKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::User, Self::Session, Self::Grant, Self::Cluster, Self::Everything];

    /// The kind as policies, entries and metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Session => "session",
            Self::Grant => "grant",
            Self::Cluster => "cluster",
            Self::Everything => "everything",
        }
    }

    /// The kind's number in the database, never used twice.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::User => 0,
            Self::Session => 1,
            Self::Grant => 2,
            Self::Cluster => 3,
            Self::Everything => 4,
        }
    }
}

// === impl LockId ===

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
