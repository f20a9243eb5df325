//! Locks as rows, the changes to them with their conditions, and what a lock is looked for by.

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::{ClusterName, GrantId, Human, LockId, LockKind, LockTarget, Person, SessionId};

/// A lock. It holds from its entry on until it is lifted or its time is over, whatever the clock said when it was set: a clock that
/// goes back ends no lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRow {
    /// The lock.
    pub id: LockId,
    /// What it is on.
    pub target: LockTarget,
    /// Who set it: a person's `user:` value, or an operating-system user with the host.
    pub by: String,
    /// The account that set it; absent at the broker's own host, and in a row of before this was kept.
    pub setter: Option<Account>,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// Who asked for it to be lifted, where two people must.
    pub asked: Option<LiftAsk>,
    /// Who ended it, and when.
    pub ended: Option<(String, Timestamp)>,
}

/// An account by what tells it from others: neither the provider's alias nor a `user:` value does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The issuer.
    pub issuer: String,
    /// The subject.
    pub subject: String,
}

/// The first half of what two people do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiftAsk {
    /// Who asked.
    pub person: Person,
    /// Their `user:` value.
    pub user: String,
    /// Until when another may confirm it.
    pub until: Timestamp,
    /// What the provider tells of the human; `None` where no claim is configured.
    pub told: Option<[u8; 32]>,
    /// The session that they asked in: the asking counts while it is live.
    pub session: SessionId,
}

/// What a lock is looked for by: whose act it is, in which session, on which cluster, under which grant. What is absent matches no
/// lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockKeys {
    /// The person's issuer.
    pub issuer: String,
    /// The person's subject.
    pub subject: String,
    /// The session.
    pub session: Option<SessionId>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// The grant.
    pub grant: Option<GrantId>,
}

/// A change of a lock, with its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockChange {
    /// A lock is set, and the sessions that it is on end. Where its setter has it set already, by its id, its end moves, and nobody's
    /// asking for it to be lifted counts any more. A setter is an account, or, where there is none, [`LockRow::by`]. Conditions: the
    /// session in which it is set, if any, is live; its setter has no other lock of this target; one that moves holds, and does not
    /// end earlier than before; a new one keeps within the quota.
    Set {
        /// The lock.
        lock: Box<LockRow>,
        /// In which session.
        session: Option<SessionId>,
        /// The bounds; absent for what nobody may be kept from: a lock of everything, and one set at the broker's own host.
        quota: Option<LockQuota>,
    },
    /// Someone asks for a lock of everything to be lifted. Conditions: it is one and holds; nobody else's asking is open and counts,
    /// but for that in the session `instead`; the session that they ask in is live. An asking counts while its session is live, and no
    /// lock holds on that session or on whoever asked.
    AskLift {
        /// The lock.
        lock: LockId,
        /// Who asks, in which session.
        ask: Box<LiftAsk>,
        /// An asking in this session was looked at, and counts for nothing.
        instead: Option<SessionId>,
    },
    /// The lock is lifted. Conditions: it holds; the session, if any, is live; one of everything was asked to be lifted by another
    /// human, whose asking is open and counts.
    Lift {
        /// The lock.
        lock: LockId,
        /// Who lifts it; nobody at the broker's own host.
        person: Option<Human>,
        /// As [`LockRow::by`].
        by: String,
        /// In which session.
        session: Option<SessionId>,
    },
    /// Its time ran out. Condition: it did, and the lock is not ended.
    TimeOut {
        /// The lock.
        lock: LockId,
    },
}

/// How many locks may hold. Those of everything and those set at the broker's own host, whose [`LockRow::by`] has blanks as no value
/// behind `user:` has, are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockQuota {
    /// Of all people.
    pub all: u64,
    /// Of the one who sets this one.
    pub own: u64,
}

/// Someone who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPerson {
    /// Who.
    pub person: Person,
    /// Their name, as the provider told it last.
    pub name: String,
    /// Their `user:` value.
    pub user: String,
}

// === impl Account ===

impl Account {
    /// The person's.
    #[must_use]
    pub fn of(person: &Person) -> Self {
        Self { issuer: person.issuer.clone(), subject: person.subject.clone() }
    }
}

// === impl LiftAsk ===

impl LiftAsk {
    /// The human who asked.
    #[must_use]
    pub fn human(&self) -> Human {
        Human { person: self.person.clone(), told: self.told }
    }
}

// === impl LockRow ===

impl LockRow {
    /// Whether whoever set it set the other too.
    #[must_use]
    pub fn has_the_setter_of(&self, other: &Self) -> bool {
        self.setter == other.setter && (self.setter.is_some() || self.by == other.by)
    }

    /// Whether it holds at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.ended.is_none() && self.until.is_none_or(|until| now < until)
    }
}

/// A target as its columns: the kind's number, and two texts, of which the second is empty where one is enough.
pub(super) fn columns(target: &LockTarget) -> (i64, String, String) {
    let (one, two) = match target {
        LockTarget::User { issuer, subject } => (issuer.clone(), subject.clone()),
        LockTarget::Session(session) => (hex(session.0), String::new()),
        LockTarget::Grant { grant, renewals } => (
            hex(grant.0),
            renewals.as_ref().map(|(session, cluster)| renewal(*session, cluster.as_str())).unwrap_or_default(),
        ),
        LockTarget::Cluster(name) => (name.as_str().to_owned(), String::new()),
        LockTarget::Everything => (String::new(), String::new()),
    };
    (target.kind().number().into(), one, two)
}

/// The target of these columns; nothing where no build wrote them.
pub(super) fn target(kind: i64, one: String, two: &str) -> Option<LockTarget> {
    let kind = LockKind::ALL.into_iter().find(|known| i64::from(known.number()) == kind)?;
    Some(match kind {
        LockKind::User => LockTarget::User { issuer: one, subject: two.to_owned() },
        LockKind::Session => LockTarget::Session(SessionId(Uuid::try_parse(&one).ok()?)),
        LockKind::Grant => {
            let renewals = match two {
                "" => None,
                two => {
                    let (session, cluster) = two.split_once('/')?;
                    Some((SessionId(Uuid::try_parse(session).ok()?), ClusterName::new(cluster).ok()?))
                }
            };
            LockTarget::Grant { grant: GrantId(Uuid::try_parse(&one).ok()?), renewals }
        }
        LockKind::Cluster => LockTarget::Cluster(ClusterName::new(&one).ok()?),
        LockKind::Everything => LockTarget::Everything,
    })
}

// === impl LockKeys ===

impl LockKeys {
    /// Of this person's act, in this session and on this cluster, where there is one.
    pub(crate) fn of(person: &Person, session: Option<SessionId>, cluster: Option<String>) -> Self {
        Self { issuer: person.issuer.clone(), subject: person.subject.clone(), session, cluster, grant: None }
    }

    /// As the columns of locks have them: session, grant, and the session's renewals for the cluster.
    pub(super) fn texts(&self) -> [Option<String>; 3] {
        let renewals = self.session.zip(self.cluster.as_deref()).map(|(session, cluster)| renewal(session, cluster));
        [self.session.map(|session| hex(session.0)), self.grant.map(|grant| hex(grant.0)), renewals]
    }
}

/// A cluster's name has no `/`, and a session's id always as many digits.
fn renewal(session: SessionId, cluster: &str) -> String {
    format!("{}/{cluster}", hex(session.0))
}

fn hex(id: Uuid) -> String {
    id.simple().to_string()
}
