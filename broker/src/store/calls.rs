//! Calls that nodes told of, as plain data. They are claims of a log line, held against the grants: evidence, not proof.

use jiff::Timestamp;

use crate::domain::{GrantId, Person};

/// What a call is, held against the grants. Every class but [`Self::Explained`] wants a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallClass {
    /// A grant of this cluster, with these roles, was in force when it began.
    Explained,
    /// Its grant was over when it began: an open connection outlives its certificate.
    AfterExpiry,
    /// Explained, but by this method its caller may have got more than was granted.
    Escape,
    /// The line that tells of it may have been written by a caller.
    Suspect,
    /// Its certificate names no grant; one of the same person, roles and time is known.
    Weak,
    /// No grant explains it.
    Unexplained,
}

/// Which of a node's services printed the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeService {
    /// The machine's own service, which serves the calls.
    Machined,
    /// The one that takes connections, and forwards.
    Apid,
}

/// One call at one node. What a line does not say is absent or empty. Texts are short: who reads lines cuts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// Who printed the line.
    pub service: NodeService,
    /// The gRPC method, as `/machine.MachineService/Reboot`.
    pub method: String,
    /// The gRPC status code's number.
    pub code: Option<u8>,
    /// When the call began: when its line was printed, less its duration.
    pub started: Timestamp,
    /// How long it took, in microseconds.
    pub duration: i64,
    /// The roles in the caller's certificate, one blank between two.
    pub roles: String,
    /// Whose grant it is; only where the grant is known and the line fits it.
    pub owner: Option<Person>,
    /// The `user:` value that the line has. There is one where there is an owner.
    pub user: Option<String>,
    /// The grant that the line names.
    pub grant: Option<GrantId>,
    /// The caller's address, where the node tells it.
    pub peer: Option<String>,
    /// What it is.
    pub class: CallClass,
    /// Why it is that, in one sentence.
    pub why: Option<String>,
    /// The index of the log's entry that a weak match rests on.
    pub entry: Option<u64>,
}

/// A call as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCall {
    /// Counts up by one in the order in which calls were kept; ids that the quota took are not given again.
    pub id: u64,
    /// The index of the log's entry that has the digest of the calls kept with it.
    pub batch: u64,
    /// The call.
    pub call: Call,
}

/// A call's place in the order in which calls are found: by the time they began, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallPlace {
    /// When it began, in microseconds since the epoch.
    pub started: i64,
    /// Its id.
    pub id: u64,
}

/// A node by the name that its calls are kept under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName {
    /// The cluster's name; `None`: any cluster's node of that name.
    pub cluster: Option<String>,
    /// The node's name.
    pub node: String,
}

/// Which calls to look for; every given part must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFilter {
    /// The cluster's name.
    pub cluster: Option<String>,
    /// One of these nodes; empty: any.
    pub nodes: Vec<NodeName>,
    /// The `user:` value, or the subject of the grant's person.
    pub user: Option<String>,
    /// The key of the grant's person, exactly: what "everyone may see their own" uses.
    pub own: Option<Person>,
    /// The grant that the line names.
    pub grant: Option<GrantId>,
    /// The entry that a weak match rests on: a grant's, of which the line names none. It is not looked at beside `grant`.
    pub entry: Option<u64>,
    /// One of these classes; empty: any.
    pub classes: Vec<CallClass>,
    /// The method, whole, or what stands behind its last slash.
    pub method: Option<String>,
    /// Begun at or after.
    pub since: Option<Timestamp>,
    /// Begun before.
    pub until: Option<Timestamp>,
}

/// The calls that are kept of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHeld {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// How many calls.
    pub calls: u64,
    /// The id of the oldest.
    pub oldest: u64,
    /// The index of the entry that the oldest is kept under.
    pub batch: u64,
}

/// What the quota has taken of one cluster's calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallsTaken {
    /// The cluster's name.
    pub cluster: String,
    /// How many calls, ever.
    pub calls: u64,
    /// When the youngest of them had come.
    pub youngest: Timestamp,
}

/// How many calls of one kind were made under a grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallSum {
    /// The node's name.
    pub node: String,
    /// The gRPC method.
    pub method: String,
    /// What they are.
    pub class: CallClass,
    /// How many.
    pub count: u64,
}

/// When a node's service was last heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// The service.
    pub service: NodeService,
    /// When its last line came.
    pub line: Timestamp,
    /// When the line of a probe of the broker's own last came.
    pub probe: Option<Timestamp>,
}

// === impl CallClass ===

impl CallClass {
    /// Every class, by number.
    pub const ALL: [Self; 6] =
        [Self::Explained, Self::AfterExpiry, Self::Escape, Self::Suspect, Self::Weak, Self::Unexplained];

    /// The class's number in the database, never used twice.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Explained => 0,
            Self::AfterExpiry => 1,
            Self::Escape => 2,
            Self::Suspect => 3,
            Self::Weak => 4,
            Self::Unexplained => 5,
        }
    }

    /// The class as queries and answers name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Explained => "explained",
            Self::AfterExpiry => "after-expiry-on-open-connection",
            Self::Escape => "escape",
            Self::Suspect => "suspect",
            Self::Weak => "weak",
            Self::Unexplained => "unexplained",
        }
    }

    /// The class of this number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.number() == number)
    }

    /// The class of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }
}

// === impl NodeService ===

impl NodeService {
    /// The service as Talos names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Machined => "machined",
            Self::Apid => "apid",
        }
    }

    /// The service's number in the database.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Machined => 0,
            Self::Apid => 1,
        }
    }

    /// The service of this number.
    #[must_use]
    pub const fn of_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Machined),
            1 => Some(Self::Apid),
            _ => None,
        }
    }
}

// === impl StoredCall ===

impl StoredCall {
    /// Its place.
    #[must_use]
    pub fn place(&self) -> CallPlace {
        CallPlace { started: self.call.started.as_microsecond(), id: self.id }
    }
}
