//! The kits of the log, each put together from its entries.

use std::collections::BTreeSet;

use ichor_wire::log::{Content, Kind, KitHolder};
use ichor_wire::profile::{CaCertificate, ed25519_key, subject_key};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::beyond::{BEYOND, Claim, rank};
use crate::audit::as_recorded;
use crate::store::{EntryFilter, Store, StoreError, StoredEntry};

/// A kit is to be drilled at least this often.
pub const DRILL_EVERY: SignedDuration = SignedDuration::from_hours(24 * 90);

/// A node's clock may be behind by so much; what ends at a whole second may be over a second later.
pub(super) const CLOCKS: SignedDuration = SignedDuration::from_mins(10);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The kinds of entries that tell of kits.
pub(super) const KINDS: &[Kind] =
    &[Kind::KitMade, Kind::KitOpened, Kind::KitDrill, Kind::KitRevoked, Kind::KitInUse, Kind::KitOverdue];

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
    /// Uses of it that nodes' logs tell of and nobody has reported.
    pub unreported: BTreeSet<Use>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// The kit that was made in its place.
    pub replaced_by: Option<u16>,
}

/// A use that nodes' logs tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The grant that its certificate names.
    pub grant: Uuid,
    /// When its first call began. Of a static kit alone, whose every opening has the same grant.
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
    /// Nodes were told to trust it no more.
    Revoked,
    /// A node's log names an opening that nobody has reported.
    Unreported,
    /// It was opened: its shares have met, so another is to be made in its place.
    Used,
    /// Its CA has ended.
    Expired,
    /// Its last drill is too long ago, or the first one is too late.
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
            let kit = Standing::made(&entry.content, at).ok_or_else(unreadable)?;
            let replaces = entry.content.kit.as_ref().and_then(|kit| kit.replaces);
            for old in kits.iter_mut().filter(|old| Some(old.number) == replaces && old.cluster == kit.cluster) {
                old.replaced_by = Some(kit.number);
            }
            kits.push(kit);
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
    Ok(kits)
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
            replaced_by: None,
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
                let began = content.opened.and_then(|at| Timestamp::from_second(at).ok());
                // more of the same within a minute has no time of its own, and was told of
                if self.is_static() && began.is_none() {
                    return;
                }
                let used = Use { grant, at: began.filter(|_| self.is_static()) };
                if !self.openings.iter().any(|opening| opening.explains(&used)) {
                    self.unreported.insert(used);
                }
            }
            Kind::KitRevoked => self.revoked = Some(at),
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
        if self.revoked.is_some() {
            State::Revoked
        } else if !self.unreported.is_empty() {
            State::Unreported
        } else if !self.openings.is_empty() {
            State::Used
        } else if now >= self.until {
            State::Expired
        } else if now >= self.next_drill() {
            State::Due
        } else if self.drilled.is_none() {
            State::Undrilled
        } else {
            State::Fresh
        }
    }

    /// Until when it is to be drilled.
    #[must_use]
    pub fn next_drill(&self) -> Timestamp {
        let since = self.drilled.unwrap_or(self.made);
        since.checked_add(DRILL_EVERY).unwrap_or(Timestamp::MAX)
    }

    /// What is to be done about it, one sentence; nothing for a fresh kit, a revoked one, and one whose first drill has time.
    #[must_use]
    pub fn complaint(&self, now: Timestamp) -> Option<String> {
        let Self { number, cluster, .. } = self;
        let said = match self.state(now) {
            State::Fresh | State::Undrilled | State::Revoked => None,
            State::Due => Some(format!(
                "kit {number} of cluster `{cluster}` was to be drilled by {:.0}; run `ichor-broker kit drill {number}`",
                self.next_drill()
            )),
            State::Expired => Some(format!(
                "kit {number} of cluster `{cluster}` expired at {:.0}; run `ichor-broker kit rotate {number}`",
                self.until
            )),
            State::Used => Some(format!(
                "kit {number} of cluster `{cluster}` was opened; run `ichor-broker kit rotate {number}`, then `kit revoke {number}`"
            )),
            State::Unreported => Some(format!(
                "kit {number} of cluster `{cluster}` is in use, and nobody has reported it: find out who opened it; import their \
                 record with `ichor-broker kit report`, or end it with `ichor-broker kit revoke {number}`"
            )),
        };
        let is_beyond = self.openings.iter().any(Opening::is_beyond);
        said.map(|said| match is_beyond {
            true => format!(
                "{said}; a record that its key signed claims more than the kit gives, so the key may be in strangers' hands: run \
                 `ichor-broker kit revoke {number}` now"
            ),
            false => said,
        })
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
        !self.is_beyond() && self.grant == used.grant && used.at.is_none_or(|at| covers(self.opened, self.until, at))
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
        [Self::Revoked, Self::Unreported, Self::Used, Self::Expired, Self::Due, Self::Undrilled, Self::Fresh];
}

#[cfg(test)]
pub(crate) mod tests {
    use ichor_wire::log::Kit;

    use super::*;
    use crate::audit::tests::Room;
    use crate::clock::Clock;
    use crate::custody::ca;
    use crate::domain::ClusterName;
    use crate::store::conformance::noon;

    const ID: Uuid = Uuid::from_u128(7);

    fn kit() -> Kit {
        Kit { number: 7, id: Some(ID.into_bytes().to_vec()), ..Kit::default() }
    }

    pub(crate) fn made() -> Content {
        let ca = ca::create(&ClusterName::new("prod").unwrap(), noon(), 1).unwrap();
        let holder = |name: &str| KitHolder {
            name: name.into(),
            recipient: None,
            commitment: vec![1; 32],
            proof_key: vec![2; 32],
        };
        let kit = Kit {
            ca: Some(ca.certificate().der().to_vec()),
            until: Some(ca.certificate().not_after().as_second()),
            threshold: Some(2),
            ttl_cap: Some(3600),
            holders: Some(["ada", "bob"].map(holder).to_vec()),
            file: Some(vec![3; 32]),
            ..kit()
        };
        Content {
            cluster: Some("prod".into()),
            roles: Some(vec!["os:admin".into()]),
            witnesses: Some(vec!["eve".into(), "joe".into()]),
            kit: Some(kit),
            ..Content::of(Kind::KitMade)
        }
    }

    fn proved(shares: &[u8], accepting: (u64, u64)) -> Content {
        Content {
            kit: Some(kit()),
            shares: Some(shares.to_vec()),
            accepting: Some(accepting),
            ..Content::of(Kind::KitDrill)
        }
    }

    pub(crate) fn opened(grant: u128, label: &str) -> Content {
        Content {
            kit: Some(kit()),
            grant: Some(Uuid::from_u128(grant).into_bytes().to_vec()),
            claimed: Some("ada".into()),
            kit_label: Some(label.into()),
            opened: Some(noon().as_second()),
            ..Content::of(Kind::KitOpened)
        }
    }

    fn in_use(grant: u128, cluster: &str) -> Content {
        Content {
            cluster: Some(cluster.into()),
            kit: Some(Kit { id: None, ..kit() }),
            grant: Some(Uuid::from_u128(grant).into_bytes().to_vec()),
            ..Content::of(Kind::KitInUse)
        }
    }

    #[tokio::test]
    async fn an_entry_of_a_kit_that_was_changed_or_has_no_body_is_read_by_nobody() {
        for sql in [
            "UPDATE body SET body = (SELECT body FROM body WHERE idx = 1) WHERE idx = 0",
            "DELETE FROM body WHERE idx = 0",
            "UPDATE leaf SET kind = (SELECT kind FROM leaf WHERE idx = 1) WHERE idx = 0",
        ] {
            let room = Room::new([]);
            for content in [made(), opened(1, "drill")] {
                room.sequencer.note(content, None).await.unwrap();
            }
            assert_eq!(read(&*room.store).await.unwrap().len(), 1);
            room.edit(sql);
            assert_eq!(read(&*room.store).await.map(|kits| kits.len()), Err(LedgerError::Entry(0)), "{sql}");
        }
    }

    pub(crate) async fn states(contents: Vec<Content>) -> Vec<Standing> {
        let room = Room::new([]);
        for content in contents {
            room.sequencer.note(content, None).await.unwrap();
        }
        read(&*room.store).await.unwrap()
    }

    #[tokio::test]
    async fn a_kit_is_fresh_by_a_whole_drill_alone_and_due_ninety_days_later() {
        let in_days = |days: i64| noon() + SignedDuration::from_hours(24 * days);
        let [kit] = &states(vec![made()]).await[..] else { panic!() };
        assert_eq!([0, 89, 90].map(|days| kit.state(in_days(days))), [State::Undrilled, State::Undrilled, State::Due]);
        assert_eq!(kit.state(in_days(365)), State::Expired);
        assert!(kit.complaint(in_days(90)).unwrap().contains("kit drill 7"));
        let at = noon() + SignedDuration::from_micros(123_456);
        let complaint = Standing { made: at, ..kit.clone() }.complaint(in_days(91)).unwrap();
        assert!(complaint.contains("was to be drilled by 2027-02-20T12:00:00Z; run"), "{complaint}");
        assert_eq!(kit.complaint(in_days(89)), None);
        for (shares, accepting) in [(&[1][..], (2, 2)), (&[1, 2], (1, 2)), (&[1, 2], (0, 0)), (&[], (2, 2))] {
            let kits = states(vec![made(), proved(shares, accepting)]).await;
            assert_eq!(kits[0].drilled, None, "{shares:?} {accepting:?} is no whole drill");
        }
        let [kit] = &states(vec![made(), proved(&[2, 1], (2, 2))]).await[..] else { panic!() };
        assert!(kit.drilled.is_some());
        assert_eq!([0, 89, 90].map(|days| kit.state(in_days(days))), [State::Fresh, State::Fresh, State::Due]);
    }

    #[tokio::test]
    async fn an_overdue_drill_is_told_once_a_day_until_it_is_done() {
        let room = Room::new([]);
        room.sequencer.note(made(), None).await.unwrap();
        let told = async |days: i64, minutes: i64| {
            room.clock.advance(SignedDuration::from_hours(24 * days) + SignedDuration::from_mins(minutes));
            let (kits, size) = read_with_size(&*room.store).await.unwrap();
            crate::kit::remind(&kits, size, &room.sequencer, room.clock.now()).await.unwrap();
            // another broker, which looked within the same moment
            crate::kit::remind(&kits, size, &room.sequencer, room.clock.now()).await.unwrap();
            room.log().await.into_iter().filter(|entry| entry.content.kind == Kind::KitOverdue).count()
        };
        assert_eq!(told(89, 23 * 60 + 59).await, 0);
        assert_eq!(told(0, 1).await, 1);
        assert_eq!(told(0, 23 * 60 + 59).await, 1, "once a day");
        assert_eq!(told(0, 1).await, 2);
        let entry = room.log().await.pop().unwrap().content;
        assert!(entry.message.unwrap().contains("`ichor-broker kit drill 7`"));
        room.sequencer.note(proved(&[1, 2], (2, 2)), None).await.unwrap();
        assert_eq!(told(2, 0).await, 2);
    }

    #[tokio::test]
    async fn a_reminder_follows_what_was_read_and_all_that_are_due_are_told() {
        let room = Room::new([]);
        for number in [7, 8, 9] {
            let id = Some(Uuid::from_u128(number.into()).into_bytes().to_vec());
            let content = Content { kit: Some(Kit { number, id, ..made().kit.unwrap() }), ..made() };
            room.sequencer.note(content, None).await.unwrap();
        }
        room.clock.advance(DRILL_EVERY);
        let told = async || {
            let log = room.log().await.into_iter();
            let told = log.filter(|entry| entry.content.kind == Kind::KitOverdue);
            told.map(|entry| entry.content.kit.unwrap().number).collect::<Vec<_>>()
        };
        let (kits, size) = read_with_size(&*room.store).await.unwrap();
        // meanwhile one of them is drilled
        let id = Some(Uuid::from_u128(8).into_bytes().to_vec());
        let drilled = Content { kit: Some(Kit { number: 8, id, ..Kit::default() }), ..proved(&[1, 2], (2, 2)) };
        room.sequencer.note(drilled, None).await.unwrap();
        crate::kit::remind(&kits, size, &room.sequencer, room.clock.now()).await.unwrap();
        assert_eq!(told().await, [0_u16; 0], "the next look shows what is due still");
        let (kits, size) = read_with_size(&*room.store).await.unwrap();
        crate::kit::remind(&kits, size, &room.sequencer, room.clock.now()).await.unwrap();
        assert_eq!(told().await, [7, 9]);
    }

    #[tokio::test]
    async fn a_drill_under_way_has_the_newest_challenge() {
        let begun = |byte| Content { kit: Some(kit()), challenge: Some(vec![byte; 32]), ..Content::of(Kind::KitDrill) };
        let kits = states(vec![made(), begun(1), begun(2)]).await;
        assert_eq!(kits[0].challenge.unwrap().1, [2; 32]);
        let kits = states(vec![made(), begun(1), proved(&[1, 2], (1, 1))]).await;
        assert_eq!(kits[0].challenge, None, "a challenge serves one drill");
    }

    /// Every opening of a static kit has one grant: what tells them apart is when.
    #[tokio::test]
    async fn a_report_of_a_static_kit_explains_the_uses_of_its_time_alone() {
        let at = |minutes: i64| noon() + SignedDuration::from_mins(minutes);
        let made_static = || {
            let kit = made();
            let facts = Kit { certificate: Some(vec![1]), ..kit.kit.clone().unwrap() };
            Content { kit: Some(facts), ..kit }
        };
        let used = |minutes| Content { opened: Some(at(minutes).as_second()), ..in_use(1, "prod") };
        let reported = |from, until| Content {
            opened: Some(at(from).as_second()),
            not_after: Some(at(until).as_second()),
            ..opened(1, "emergency")
        };
        let kit = async |contents| states(contents).await.remove(0);
        let state = async |contents| kit(contents).await.state(at(0));
        assert_eq!(state(vec![made_static(), used(5)]).await, State::Unreported);
        assert_eq!(state(vec![made_static(), used(5), reported(0, 30)]).await, State::Used);
        assert_eq!(state(vec![made_static(), reported(0, 30), used(5)]).await, State::Used);
        assert_eq!(state(vec![made_static(), reported(0, 30), used(31)]).await, State::Unreported, "someone else's");
        assert_eq!(state(vec![made_static(), used(31), reported(0, 30)]).await, State::Unreported);
        assert_eq!(state(vec![made_static(), used(-11), reported(0, 30)]).await, State::Unreported);
        assert_eq!(state(vec![made_static(), used(31), reported(0, 30), reported(30, 60)]).await, State::Used);
        assert_eq!(state(vec![made_static(), in_use(1, "prod")]).await, State::Undrilled, "it was told with its time");
        let twice = kit(vec![made_static(), reported(0, 30), reported(30, 60), reported(0, 30)]).await;
        assert_eq!(twice.openings.len(), 2, "two openings, one of them reported again");
        assert!(twice.is_static() && twice.record_key().is_none(), "no certificate, no key");
    }

    #[tokio::test]
    async fn what_a_node_saw_stays_until_it_is_reported() {
        let state = async |contents| states(contents).await[0].state(noon());
        assert_eq!(state(vec![made(), in_use(1, "prod")]).await, State::Unreported);
        assert_eq!(
            state(vec![made(), in_use(1, "lab")]).await,
            State::Undrilled,
            "another cluster's kit of that number"
        );
        assert_eq!(state(vec![made(), in_use(1, "prod"), opened(1, "emergency")]).await, State::Used);
        assert_eq!(state(vec![made(), in_use(1, "prod"), opened(2, "emergency")]).await, State::Unreported);
        assert_eq!(state(vec![made(), opened(1, "emergency"), in_use(1, "prod")]).await, State::Used);
        let revoked = Content { kit: Some(kit()), ..Content::of(Kind::KitRevoked) };
        assert_eq!(state(vec![made(), in_use(1, "prod"), revoked]).await, State::Revoked);
        for label in ["drill", "emergency", "misuse"] {
            let [kit] = &states(vec![made(), proved(&[1, 2], (1, 1)), opened(1, label)]).await[..] else { panic!() };
            assert_eq!(kit.state(noon()), State::Used, "the shares have met, {label} or not");
            let complaint = kit.complaint(noon()).unwrap();
            assert!(complaint.contains("`ichor-broker kit rotate 7`") && complaint.contains("revoke"), "{complaint}");
        }
    }

    #[tokio::test]
    async fn what_an_opening_was_said_to_be_stays_the_worst_first() {
        let said = ["emergency", "misuse", "drill", "misuse"].map(|label| opened(1, label));
        let kits = states([&[made()][..], &said].concat()).await;
        assert_eq!(kits[0].openings.len(), 1);
        assert_eq!(kits[0].openings[0].labels, ["misuse", "emergency", "drill"]);
    }

    /// Whatever label it bears: what is more than the kit gives explains nothing, and is told.
    #[tokio::test]
    async fn an_opening_beyond_its_kit_explains_nothing_and_is_told() {
        let at = |seconds: i64| Some((noon() + SignedDuration::from_secs(seconds)).as_second());
        let day = 24 * 3600;
        let reported = |label: &str, roles: &[&str], from, until| Content {
            roles: Some(roles.iter().map(ToString::to_string).collect()),
            opened: at(from),
            not_after: at(until),
            ..opened(1, label)
        };
        let state = async |report: Content| {
            let kit = states(vec![made(), in_use(1, "prod"), report]).await.remove(0);
            let complaint = kit.complaint(noon()).unwrap();
            assert_eq!(
                complaint.contains("claims more than the kit gives"),
                kit.openings[0].is_beyond(),
                "{complaint}"
            );
            assert_eq!(kit.openings[0].labels.contains(&BEYOND.to_owned()), kit.openings[0].is_beyond());
            kit.state(noon())
        };
        assert_eq!(state(reported("drill", &["os:admin"], 0, 3600)).await, State::Used);
        for (what, report) in [
            ("another role", reported("drill", &["os:admin", "os:etcd:backup"], 0, 3600)),
            ("longer than the cap", reported("drill", &["os:admin"], 0, 3601)),
            ("before the CA", reported("drill", &["os:admin"], -day, 3600 - day)),
            ("after the CA", reported("drill", &["os:admin"], 365 * day - 60, 365 * day + 60)),
            ("an end before its beginning", reported("drill", &["os:admin"], 60, 0)),
            ("so recorded", reported(BEYOND, &["os:admin"], 0, 60)),
        ] {
            assert_eq!(state(report).await, State::Unreported, "{what}");
        }
        // nor does it take away what another report explains
        let beyond = reported(BEYOND, &["os:admin"], 0, 3600);
        let good = reported("emergency", &["os:admin"], 0, 3600);
        let [kit] = &states(vec![made(), good, beyond, in_use(1, "prod")]).await[..] else { panic!() };
        assert_eq!((kit.state(noon()), kit.openings.len()), (State::Used, 2));
    }
}
