//! Setting and lifting, with their entries: for people and for the broker's own host.

use std::sync::Arc;

use ichor_wire::log::{Content, Kind};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use uuid::Uuid;

use super::asked::{Asked, Asks, MayAsk, OPEN, not_the_second};
use super::error::LockError;
use crate::audit::{RecordError, Sequencer, as_recorded};
use crate::clock::SharedClock;
use crate::custody::DataKey;
use crate::domain::{ClusterName, GrantId, LockId, LockTarget, SessionId, check_reason};
use crate::entropy;
use crate::identity::Identity;
use crate::mint::Issuers;
use crate::policy::{NO_HUMAN, NO_HUMAN_HELP, Refusal};
use crate::store::{
    Account, Change, Condition, EntryFilter, KnownPerson, LiftAsk, LockChange, LockQuota, LockRow, Store,
};

/// At most so many locks of people hold at once: every grant looks through them. Neither those of everything nor the host's count.
pub const MOST: u64 = 1_000;

/// And of one person so many, so that nobody keeps others from locking.
pub const MOST_OWN: u64 = 100;

/// So often a lock is tried anew that changed between its reading and its recording.
const TRIES: u8 = 4;

/// The shortest and the longest time after which a lock ends by itself.
pub const SHORTEST: SignedDuration = SignedDuration::from_mins(1);
/// See [`SHORTEST`].
pub const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// The longest issuer or subject, in bytes.
const LONGEST_NAME: usize = 512;

/// Who sets or lifts a lock.
#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    /// A person, as policy lets them.
    Person(&'a Identity),
    /// An operating-system user at the broker's own host, by their name and the host's.
    Host(&'a str, &'a str),
}

/// Where locks are recorded.
#[derive(Clone)]
pub struct Book {
    store: Arc<dyn Store>,
    sequencer: Sequencer,
    clock: SharedClock,
    asks: Asks,
    issuers: Option<watch::Receiver<Issuers>>,
}

impl Book {
    /// A book over this log. With the key it is known who asked for a lock of everything to be lifted; without it nobody did.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, sequencer: Sequencer, clock: SharedClock, key: Option<Arc<DataKey>>) -> Self {
        let asks = Asks::new(Arc::clone(&store), key);
        Self { store, sequencer, clock, asks, issuers: None }
    }

    /// With whom the clusters' certificates are from: what is told with a lock then has the entry by which nodes accept their CA.
    #[must_use]
    pub fn naming(self, issuers: watch::Receiver<Issuers>) -> Self {
        Self { issuers: Some(issuers), ..self }
    }

    /// Returns the lock once it is recorded. `base` says who and from where. What the same setter has locked already stays one lock, of
    /// which the later end holds; nobody's asking for it to be lifted counts any more.
    ///
    /// # Errors
    /// When it cannot be, or too many are set; of one of everything, and at the broker's own host, never that.
    pub async fn set(
        &self,
        who: Who<'_>,
        base: Content,
        target: LockTarget,
        seconds: Option<u64>,
        reason: String,
    ) -> Result<LockRow, LockError> {
        check_reason(&reason)?;
        check(&target)?;
        let now = self.clock.now();
        let life = seconds.map(|seconds| SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)));
        if life.is_some_and(|life| life < SHORTEST || life > LONGEST) {
            return Err(LockError::Bad("a lock that ends by itself lasts between a minute and 366 days".into()));
        }
        let until = life.map(|life| now.checked_add(life)).transpose();
        let until = until.map_err(|_| LockError::Bad("the lock would last beyond all times".into()))?;
        // as the database keeps them
        let micros = |at: Timestamp| at.round(jiff::Unit::Microsecond).unwrap_or(at);
        let new = LockRow {
            id: LockId(entropy::uuid_v7(now)?),
            target,
            by: who.said(),
            setter: who.account(),
            reason,
            at: micros(now),
            until: until.map(micros),
            asked: None,
            ended: None,
        };
        let is_free = new.target == LockTarget::Everything || matches!(who, Who::Host(..));
        let quota = (!is_free).then_some(LockQuota { all: MOST, own: MOST_OWN });
        let mut tries = TRIES;
        loop {
            let lock = match self.own(&new).await? {
                Some(own) => LockRow { until: later(own.until, new.until), asked: None, ..own },
                None => new.clone(),
            };
            let content = Content {
                lock: Some(lock.id.0.as_bytes().to_vec()),
                locked_until: lock.until.map(|until| until.as_second()),
                reason: Some(new.reason.clone()),
                message: Some(format!("{} is locked", lock.target)),
                ..who.named(about(Kind::Lock, &lock.target, base.clone()))
            };
            let change = LockChange::Set { lock: Box::new(lock.clone()), session: who.session(), quota };
            match self.sequencer.note(content, Some(Change::Lock { change, now })).await {
                // its setter set it, moved its end or lifted it meanwhile
                Err(RecordError::Refused(Condition::Stale)) if tries > 1 => tries -= 1,
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    metrics::counter!("ichor_locks_total", "on" => lock.target.kind().as_str()).increment(1);
                    return Ok(lock);
                }
            }
        }
    }

    /// The lock of the same target that its setter has set already and that holds; of several the one that ends last.
    async fn own(&self, new: &LockRow) -> Result<Option<LockRow>, LockError> {
        let now = self.clock.now();
        let all = self.store.locks(false, super::LISTED).await?.into_iter();
        let own = all.filter(|row| row.has_the_setter_of(new) && row.target == new.target && row.holds(now));
        Ok(own.max_by_key(|row| (row.until.is_none(), row.until)))
    }

    /// Returns the lock once it is lifted, or, one of everything, once that is asked for. `may_ask` is asked of whoever asked for the
    /// latter before, with the time at which they did.
    ///
    /// # Errors
    /// When it does not hold, or another person is needed.
    pub async fn lift(
        &self,
        who: Who<'_>,
        base: Content,
        lock: &LockRow,
        reason: &str,
        confirms: bool,
        may_ask: MayAsk<'_>,
    ) -> Result<LockRow, LockError> {
        check_reason(reason)?;
        let now = self.clock.now();
        if !lock.holds(now) {
            return Err(LockError::Bad("the lock holds no longer, so there is nothing to lift".into()));
        }
        let base =
            Content { lock: Some(lock.id.0.as_bytes().to_vec()), reason: Some(reason.to_owned()), ..who.named(base) };
        let asked = self.asks.look(lock, now, may_ask).await?;
        let (content, change) = match (&lock.target, who) {
            (LockTarget::Everything, Who::Host(..)) => {
                let refusal = Refusal::plain(
                    "a lock of everything is lifted by two people who log in, not at the broker's host",
                    "run `ichor unlock everything`; logging in works under this lock, and where policies let only one person `unlock`, let them \
                     allow a second (`policies/`, then `ichor-broker reload`)",
                );
                return Err(self.no(&lock.target, base, refusal).await?);
            }
            (LockTarget::Everything, Who::Person(identity)) if !confirms => {
                if let Asked::Counts(ask) = asked
                    && ask.person != *identity.person()
                {
                    return Err(LockError::Bad(format!(
                        "{} has asked for this already; confirm it if you agree (`ichor unlock everything --confirm`)",
                        ask.user
                    )));
                }
                let Some(session) = identity.session() else { return Err(LockError::Unknown) };
                let until = now.checked_add(OPEN).unwrap_or(now);
                let Some(human) = identity.human() else {
                    return Err(self.no(&lock.target, base, Refusal::plain(NO_HUMAN, NO_HUMAN_HELP)).await?);
                };
                let user = identity.user().into();
                let ask = LiftAsk { person: human.person, user, until, told: human.told, session };
                let instead = match asked {
                    Asked::CountsNoMore(old) | Asked::Forged(old) => Some(old.session),
                    Asked::Not | Asked::Counts(_) => None,
                };
                let content = Content {
                    message: Some(
                        "asks for the lock of everything to be lifted; another person must confirm it".into(),
                    ),
                    contents: self.asks.mark(lock.id, &ask),
                    ..about(Kind::UnlockAsked, &lock.target, base)
                };
                (content, LockChange::AskLift { lock: lock.id, ask: Box::new(ask), instead })
            }
            (LockTarget::Everything, Who::Person(identity)) => {
                if let Some(refusal) = not_the_second(identity, &asked) {
                    return Err(self.no(&lock.target, base, refusal).await?);
                }
                let requester = match asked {
                    Asked::Counts(ask) => Some(ask.user.clone()),
                    Asked::Not | Asked::CountsNoMore(_) | Asked::Forged(_) => None,
                };
                let content = Content { requester, ..lifted(&lock.target, base) };
                (content, self.lifting(who, lock))
            }
            (target, _) => (lifted(target, base), self.lifting(who, lock)),
        };
        self.sequencer.note(content, Some(Change::Lock { change, now })).await?;
        self.store.lock(lock.id).await?.ok_or(LockError::Unknown)
    }

    /// The target that is this grant, with where its renewals would come from.
    ///
    /// # Errors
    /// When the log has no such grant.
    pub async fn grant(&self, grant: GrantId) -> Result<LockTarget, LockError> {
        let filter = EntryFilter { grant: Some(grant), kind: Some(Kind::Grant), ..EntryFilter::default() };
        let found = self.store.entries(&filter, None, 1).await?.into_iter().next();
        let unknown =
            || LockError::Bad(format!("the log has no grant {grant}; a certificate names its own as `grant:…`"));
        let recorded = found.and_then(|entry| as_recorded(&entry, Some(Kind::Grant)).ok().flatten());
        let content = recorded.ok_or_else(unknown)?.content;
        let session = content.session.as_deref().and_then(|id| Uuid::from_slice(id).ok()).map(SessionId);
        let cluster = content.cluster.as_deref().and_then(|name| ClusterName::new(name).ok());
        Ok(LockTarget::Grant { grant, renewals: session.zip(cluster) })
    }

    /// Locks that nobody has ended, newest first, or all that are kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, with_ended: bool) -> Result<Vec<LockRow>, LockError> {
        Ok(self.store.locks(with_ended, super::LISTED).await?)
    }

    /// Whoever has logged in with exactly this subject or value behind `user:`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn people(&self, name: &str) -> Result<Vec<KnownPerson>, LockError> {
        Ok(self.store.people_named(name, super::NAMESAKES).await?)
    }

    /// The lock.
    ///
    /// # Errors
    /// When there is none.
    pub async fn find(&self, id: LockId) -> Result<LockRow, LockError> {
        self.store.lock(id).await?.ok_or(LockError::Unknown)
    }

    /// What was issued before and is good still.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn outstanding(&self, target: &LockTarget) -> Result<super::Outstanding, LockError> {
        let found = super::outstanding(&*self.store, target, self.clock.now()).await?;
        let accepted = |cluster: &String| {
            let issuers = self.issuers.as_ref()?.borrow();
            let ca = issuers.get(&ClusterName::new(cluster).ok()?)?.dedicated_ca()?;
            Some((cluster.clone(), ca.accepted_crt()))
        };
        let accepted = found.clusters.iter().filter_map(accepted).collect();
        Ok(super::Outstanding { accepted, ..found })
    }

    /// The locks that hold by the log and not by the database.
    ///
    /// # Errors
    /// When the store cannot be read, or the log is not what was recorded.
    pub async fn vanished(&self, ledger: &mut super::Ledger) -> Result<Vec<LockId>, LockError> {
        let signed = self.sequencer.standing().borrow().newest.clone();
        Ok(ledger.vanished(&*self.store, signed, self.clock.now()).await?)
    }

    /// What somebody put between our statements and the tables, if anything: then which locks hold is not known, and locks are set all the same.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn between(&self) -> Result<Option<String>, LockError> {
        Ok(self.store.between().await?)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) async fn note(&self, content: Content) -> Result<(), LockError> {
        self.sequencer.note(content, None).await?;
        Ok(())
    }

    pub(super) async fn record(&self, content: Content, change: LockChange) -> Result<(), LockError> {
        self.sequencer.note(content, Some(Change::Lock { change, now: self.clock.now() })).await?;
        Ok(())
    }

    async fn no(&self, target: &LockTarget, base: Content, refusal: Refusal) -> Result<LockError, LockError> {
        let content = Content {
            code: Some(refusal.code.as_str().into()),
            message: Some(refusal.sentence.clone()),
            ..about(Kind::Refusal, target, base)
        };
        self.note(content).await?;
        Ok(LockError::Refused(refusal))
    }

    fn lifting(&self, who: Who<'_>, lock: &LockRow) -> LockChange {
        let person = match who {
            Who::Person(identity) => identity.human(),
            Who::Host(..) => None,
        };
        LockChange::Lift { lock: lock.id, person, by: who.said(), session: who.session() }
    }
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

// === impl Who ===

impl Who<'_> {
    fn said(self) -> String {
        match self {
            Self::Person(identity) => identity.user().into(),
            Self::Host(user, host) => format!("{user} on {host}"),
        }
    }

    fn account(self) -> Option<Account> {
        match self {
            Self::Person(identity) => Some(Account::of(identity.person())),
            Self::Host(..) => None,
        }
    }

    fn session(self) -> Option<SessionId> {
        match self {
            Self::Person(identity) => identity.session(),
            Self::Host(..) => None,
        }
    }

    fn named(self, content: Content) -> Content {
        match self {
            Self::Person(_) => content,
            Self::Host(user, host) => Content { os_user: Some(user.into()), host: Some(host.into()), ..content },
        }
    }
}

/// The later of two ends; no end is the latest.
fn later(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.zip(other).map(|(one, other)| one.max(other))
}

/// An entry's content about a lock of this.
pub(super) fn about(kind: Kind, target: &LockTarget, base: Content) -> Content {
    let base = Content { kind, locked: Some(target.kind().as_str().into()), ..base };
    match target {
        LockTarget::User { issuer, subject } => {
            Content { locked_user: Some((issuer.clone(), subject.clone())), ..base }
        }
        LockTarget::Session(session) => Content { locked_session: Some(session.0.as_bytes().to_vec()), ..base },
        LockTarget::Grant { grant, renewals } => Content {
            grant: Some(grant.0.as_bytes().to_vec()),
            locked_session: renewals.as_ref().map(|(session, _)| session.0.as_bytes().to_vec()),
            cluster: renewals.as_ref().map(|(_, cluster)| cluster.as_str().into()),
            ..base
        },
        LockTarget::Cluster(name) => Content { cluster: Some(name.as_str().into()), ..base },
        LockTarget::Everything => base,
    }
}

fn lifted(target: &LockTarget, base: Content) -> Content {
    Content { message: Some(format!("the lock of {target} is lifted")), ..about(Kind::Unlock, target, base) }
}

/// A user is named as providers name them; the rest has its form by its type.
fn check(target: &LockTarget) -> Result<(), LockError> {
    let LockTarget::User { issuer, subject } = target else { return Ok(()) };
    let is_fit = |text: &String| !text.is_empty() && text.len() <= LONGEST_NAME && !text.contains(char::is_control);
    if is_fit(issuer) && is_fit(subject) {
        return Ok(());
    }
    Err(LockError::Bad("an issuer and a subject have 1 to 512 bytes, without control characters".into()))
}
