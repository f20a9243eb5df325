//! The kits of the log, each put together from its entries.

#[cfg(test)]
mod succession_tests;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;

use ichor_wire::log::{Content, Kind, KitHolder};
use ichor_wire::profile::{CaCertificate, ed25519_key, subject_key};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::beyond::{BEYOND, Claim, rank};
use super::place::{Moved, Place};
use crate::audit::as_recorded;
use crate::store::{EntryFilter, Store, StoreError, StoredEntry};

/// A kit is to be drilled at least this often.
pub const DRILL_EVERY: SignedDuration = SignedDuration::from_hours(24 * 90);

/// So long before its end a kit is to be replaced; of a short-lived one the last quarter of its life.
pub const REPLACE_WITHIN: SignedDuration = SignedDuration::from_hours(24 * 30);

/// A node's clock may be behind by so much; what ends at a whole second may be over a second later.
pub(super) const CLOCKS: SignedDuration = SignedDuration::from_mins(10);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The kinds of entries that tell of kits.
pub(super) const KINDS: &[Kind] =
    &[Kind::KitMade, Kind::KitOpened, Kind::KitDrill, Kind::KitRevoked, Kind::KitInUse, Kind::KitOverdue];

/// The code of a use that is not what was reported of the opening with its grant: other roles, another name, or after its end.
pub const NOT_AS_REPORTED: &str = "not-as-reported";

/// So many entries are read at once.
const PAGE: u32 = 200;

/// A kit as the log tells of it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its number.
    pub number: u16,
    /// Its id.
    pub id: Uuid,
    /// The cluster's name.
    pub cluster: String,
    /// Its CA.
    pub ca: CaCertificate,
    /// When it was made.
    pub made: Timestamp,
    /// When its CA ends.
    pub until: Timestamp,
    /// The certificate of a static kit, DER; `None` where the kit holds its CA's key.
    pub certificate: Option<Vec<u8>>,
    /// The roles that its certificates may hold.
    pub roles: Vec<String>,
    /// How long one of them is good at most.
    pub ttl_cap: SignedDuration,
    /// How many shares open it.
    pub threshold: u8,
    /// Who holds its shares, by index from 1.
    pub holders: Vec<KitHolder>,
    /// The people named as present when it was made.
    pub witnesses: Vec<String>,
    /// When it was last drilled whole: every share proved, every node accepting.
    pub drilled: Option<Timestamp>,
    /// When it was last said that its drill is overdue.
    pub reminded: Option<Timestamp>,
    /// The challenge of the drill that is under way, and since when.
    pub challenge: Option<(Timestamp, [u8; 32])>,
    /// The openings that were reported.
    pub openings: Vec<Opening>,
    /// Uses of it that nodes' logs tell of and nobody has reported; of a revoked kit those that were seen since.
    pub unreported: BTreeSet<Use>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// The number of the kit in whose place it was made.
    pub replaces: Option<u16>,
    /// The kit that is there in its place: made for that, or in the place of one that was, and not revoked.
    pub replaced_by: Option<u16>,
    /// The cluster that it was made for.
    pub place: Place,
    /// The endpoints of the talosconfig that it opens to; none where that was not recorded yet.
    pub leads_to: Vec<String>,
    /// In what the cluster is another than it was made for, where it was held against that.
    pub moved: Option<Moved>,
}

/// A use that nodes' logs tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The grant that its certificate names.
    pub grant: Uuid,
    /// Whether it was held against the report of that grant, and is not what that tells of: no report explains it.
    pub is_beyond: bool,
    /// When its first call began, where the entry says so.
    pub at: Option<Timestamp>,
}

/// One opening, as it was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its grant.
    pub grant: Uuid,
    /// The name that its opener gave.
    pub name: String,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub opened: Timestamp,
    /// Until when the opener said to need it, which is when a certificate that was made for it ends.
    pub until: Timestamp,
    /// What it was said to be, the worst first: [`BEYOND`], `misuse`, `emergency`, `drill`. What was said once stays.
    pub labels: Vec<String>,
}

/// How a kit stands; of several that hold, the first of this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A node's log names an opening that nobody has reported; of a revoked kit one since then, for a node takes it still.
    Unreported,
    /// Nodes were told to trust it no more.
    Revoked,
    /// It was opened: its shares have met, so another is to be made in its place.
    Used,
    /// Its CA has ended.
    Expired,
    /// Its last drill is too long ago, or the first one is too late; or its end is near, or the cluster is another than it was made for,
    /// and no other takes its place yet.
    Due,
    /// It was made lately, and no drill has shown yet that its shares are there and nodes accept it.
    Undrilled,
    /// It can be relied on: a drill showed it.
    Fresh,
}

/// The log could not be read for kits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry cannot be what a broker wrote.
    #[error("entry {0} tells of a kit, and cannot be read")]
    Entry(u64),
}

/// Every kit that the log tells of, in the order in which they were made.
///
/// # Errors
/// When the store fails, or an entry is not what a broker writes.
pub async fn read(store: &dyn Store) -> Result<Vec<Standing>, LedgerError> {
    Ok(read_with_size(store).await?.0)
}

/// The same, with how many entries the log had: those behind were not read.
///
/// # Errors
/// As [`read`].
pub async fn read_with_size(store: &dyn Store) -> Result<(Vec<Standing>, u64), LedgerError> {
    // before the entries: what comes in between is read, and taken for new
    let size = store.head().await?.size;
    let mut found = Vec::new();
    for &kind in KINDS {
        let filter = EntryFilter { kind: Some(kind), ..EntryFilter::default() };
        let mut before = None;
        loop {
            let page = store.entries(&filter, before, PAGE).await?;
            before = page.last().map(|entry| entry.index);
            let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            found.extend(page.into_iter().map(|entry| (kind, entry)));
            if is_last {
                break;
            }
        }
    }
    found.sort_unstable_by_key(|(_, entry)| entry.index);
    Ok((fold(&found)?, size))
}

fn fold(entries: &[(Kind, StoredEntry)]) -> Result<Vec<Standing>, LedgerError> {
    let mut kits: Vec<Standing> = Vec::new();
    for (kind, stored) in entries {
        let unreadable = || LedgerError::Entry(stored.index);
        // nobody can have its body dropped
        let entry = as_recorded(stored, Some(*kind)).ok().flatten().ok_or_else(unreadable)?;
        let at = Timestamp::from_microsecond(entry.time).map_err(|_| unreadable())?;
        if entry.content.kind == Kind::KitMade {
            kits.push(Standing::made(&entry.content, at).ok_or_else(unreadable)?);
        } else {
            let said = entry.content.kit.as_ref().ok_or_else(unreadable)?;
            let id = said.id.as_deref().and_then(|id| Uuid::from_slice(id).ok());
            let of = |kit: &&mut Standing| match id {
                Some(id) => kit.id == id,
                // a certificate names the number alone
                None => kit.number == said.number && Some(&kit.cluster) == entry.content.cluster.as_ref(),
            };
            kits.iter_mut().filter(of).for_each(|kit| kit.hear(&entry.content, at));
        }
    }
    settle_successors(&mut kits);
    Ok(kits)
}

/// Says of each kit which one is there in its place. The kits are in the order in which they were made.
fn settle_successors(kits: &mut [Standing]) {
    // what a kit was made in place of came before it, so those behind are settled
    let mut settled: Vec<(String, u16, u16)> = Vec::new();
    for kit in kits.iter_mut().rev() {
        let of_it = |(cluster, replaced, _): &&(String, u16, u16)| *cluster == kit.cluster && *replaced == kit.number;
        kit.replaced_by = settled.iter().find(of_it).map(|(.., successor)| *successor);
        let successor = if kit.revoked.is_none() { Some(kit.number) } else { kit.replaced_by };
        if let (Some(replaced), Some(successor)) = (kit.replaces, successor) {
            settled.push((kit.cluster.clone(), replaced, successor));
        }
    }
}

// === impl Standing ===

impl Standing {
    fn made(content: &Content, made: Timestamp) -> Option<Self> {
        let kit = content.kit.as_ref()?;
        Some(Self {
            number: kit.number,
            id: Uuid::from_slice(kit.id.as_deref()?).ok()?,
            cluster: content.cluster.clone()?,
            ca: CaCertificate::from_der(kit.ca.as_deref()?).ok()?,
            certificate: kit.certificate.clone(),
            made,
            until: Timestamp::from_second(kit.until?).ok()?,
            roles: content.roles.clone()?,
            ttl_cap: SignedDuration::from_secs(i64::try_from(kit.ttl_cap?).ok()?),
            threshold: kit.threshold?,
            holders: kit.holders.clone()?,
            witnesses: content.witnesses.clone()?,
            drilled: None,
            reminded: None,
            challenge: None,
            openings: Vec::new(),
            unreported: BTreeSet::new(),
            revoked: None,
            replaces: kit.replaces,
            replaced_by: None,
            place: Place { cluster_ca: kit.cluster_ca.clone(), endpoints: kit.endpoints.clone() },
            leads_to: kit.leads_to.clone().unwrap_or_default(),
            moved: None,
        })
    }

    fn hear(&mut self, content: &Content, at: Timestamp) {
        let grant = content.grant.as_deref().and_then(|id| Uuid::from_slice(id).ok());
        match content.kind {
            Kind::KitDrill => {
                let challenge = content.challenge.as_deref().and_then(|bytes| bytes.try_into().ok());
                if content.shares.is_none() {
                    self.challenge = challenge.map(|challenge| (at, challenge));
                } else if self.is_whole(content) {
                    (self.drilled, self.challenge) = (Some(at), None);
                }
            }
            Kind::KitOpened => {
                let Some(grant) = grant else { return };
                let time = |at: Option<i64>| at.and_then(|at| Timestamp::from_second(at).ok());
                let opened = time(content.opened).unwrap_or(at);
                let until = time(content.not_after).unwrap_or(opened);
                let roles = content.roles.as_deref().unwrap_or_default();
                let mut labels = vec![content.kit_label.clone().unwrap_or_default()];
                // whoever recorded it
                if !self.beyond(&Claim { roles, opened, until }).is_empty() {
                    labels.push(BEYOND.into());
                }
                let mut opening = Opening {
                    grant,
                    name: content.claimed.clone().unwrap_or_default(),
                    reason: content.reason.clone().unwrap_or_default(),
                    opened,
                    until,
                    labels,
                };
                self.unreported.retain(|used| !opening.explains(used));
                // one that is reported again takes the earlier one's place, and keeps what that was said to be
                self.openings.retain(|other| {
                    let is_same = other.is_same(&opening);
                    if is_same {
                        opening.labels.extend(other.labels.iter().cloned());
                    }
                    !is_same
                });
                opening.labels.sort_by_key(|label| rank(label));
                opening.labels.dedup();
                self.openings.push(opening);
            }
            Kind::KitInUse => {
                let Some(grant) = grant else { return };
                let at = content.opened.and_then(|at| Timestamp::from_second(at).ok());
                // more of the same within a minute has no time of its own, and was told of
                if at.is_none() && (self.is_static() || self.unreported.iter().any(|used| used.grant == grant)) {
                    return;
                }
                let is_beyond = content.code.as_deref() == Some(NOT_AS_REPORTED);
                let used = Use { grant, is_beyond, at };
                if !self.openings.iter().any(|opening| opening.explains(&used)) {
                    self.unreported.insert(used);
                }
            }
            Kind::KitRevoked => {
                // what is seen from now on is worse than what was
                self.revoked = Some(at);
                self.unreported.clear();
            }
            Kind::KitOverdue => self.reminded = Some(at),
            _ => {}
        }
    }

    /// Whether a drill left nothing out.
    fn is_whole(&self, content: &Content) -> bool {
        let proved: BTreeSet<u8> = content.shares.iter().flatten().copied().collect();
        let every = (1..).zip(&self.holders).all(|(index, _)| proved.contains(&index));
        let accepting = content.accepting.is_some_and(|(accepting, asked)| asked > 0 && accepting == asked);
        every && accepting
    }

    /// Whether it holds one certificate for whoever opens it, rather than its CA's key.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.certificate.is_some()
    }

    /// The value behind `user:` in the certificate of a static kit; `None` where each opener's has their own.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        self.is_static().then(|| format!("kit-{}", self.number))
    }

    /// The key that signs its records, as a [`SignedRecord`](ichor_wire::kit::SignedRecord) is checked with it: its CA's, of a static
    /// kit its certificate's. `None` where that is of another kind than kits have.
    #[must_use]
    pub fn record_key(&self) -> Option<[u8; 32]> {
        let spki = match &self.certificate {
            Some(der) => subject_key(der).ok()?,
            None => self.ca.public_key().to_vec(),
        };
        ed25519_key(&spki)
    }

    /// How it stands at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        if !self.unreported.is_empty() {
            State::Unreported
        } else if self.revoked.is_some() {
            State::Revoked
        } else if !self.openings.is_empty() {
            State::Used
        } else if now >= self.until {
            State::Expired
        } else if now >= self.next_drill() || self.is_near_its_end(now) || self.is_left_behind() {
            State::Due
        } else if self.drilled.is_none() {
            State::Undrilled
        } else {
            State::Fresh
        }
    }

    /// Whether the cluster is another than it was made for, and no other kit takes its place yet.
    #[must_use]
    pub fn is_left_behind(&self) -> bool {
        self.moved.is_some() && self.replaced_by.is_none()
    }

    /// Until when it is to be drilled.
    #[must_use]
    pub fn next_drill(&self) -> Timestamp {
        let since = self.drilled.unwrap_or(self.made);
        since.checked_add(DRILL_EVERY).unwrap_or(Timestamp::MAX)
    }

    /// Whether it is time for another in its place, and there is none.
    #[must_use]
    pub fn is_near_its_end(&self, now: Timestamp) -> bool {
        let within = REPLACE_WITHIN.min(self.until.duration_since(self.made) / 4);
        self.replaced_by.is_none() && now >= self.until.saturating_sub(within).unwrap_or(self.until)
    }
}

// === impl Opening ===

impl Opening {
    /// Whether more is said of it than its kit gives.
    #[must_use]
    pub fn is_beyond(&self) -> bool {
        self.labels.iter().any(|label| label == BEYOND)
    }

    /// Whether the same is said of both, but for what it was.
    fn is_same(&self, other: &Self) -> bool {
        let said = |it: &Self| (it.grant, it.opened, it.until, it.is_beyond());
        said(self) == said(other) && self.name == other.name
    }

    /// Whether this opening is what a use was. One that is more than its kit gives explains nothing.
    fn explains(&self, used: &Use) -> bool {
        let is_its = self.grant == used.grant && !used.is_beyond;
        is_its && !self.is_beyond() && used.at.is_none_or(|at| covers(self.opened, self.until, at))
    }
}

/// Whether an opening from then until then explains a call that began `at` this time, by a node's clock.
#[must_use]
pub fn covers(opened: Timestamp, until: Timestamp, at: Timestamp) -> bool {
    opened.saturating_sub(CLOCKS).unwrap_or(opened) <= at && at <= until.saturating_add(SECOND).unwrap_or(until)
}

// === impl State ===

impl State {
    /// The state as lists and metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Unreported => "unreported",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Due => "due",
            Self::Undrilled => "undrilled",
            Self::Fresh => "fresh",
        }
    }

    /// Every state.
    pub const ALL: [Self; 7] =
        [Self::Unreported, Self::Revoked, Self::Used, Self::Expired, Self::Due, Self::Undrilled, Self::Fresh];
}
