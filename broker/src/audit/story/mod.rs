//! A whole story by any of its names: login → break-glass request → approvals → grant → certificate → review → end.
//!
//! Nothing is indexed for it but the names of certificates. A session's and an entry's id are UUIDv7, so they tell when they were
//! made, and times never decrease along the log: the entry lies in a short stretch that is found by bisecting. From there
//! the story is walked along the person's own entries, for as long as a session can last.

mod request;

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;
use ichor_wire::api::{AuditEntry, GrantStory, StoryAnswer};
use ichor_wire::log::{Entry, Kind};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::as_recorded;
use super::query::show;
use crate::domain::{GrantId, Person, ProviderAlias};
use crate::store::{EntryFilter, SKEW, Store, StoreError, StoredEntry};

/// A session's id is made at most so long before its login is recorded: a login on its way lives 10 minutes, its code one.
const LOGIN_ON_ITS_WAY: SignedDuration = SignedDuration::from_mins(15);

/// A request's id is made at most so long before it is recorded, however busy the log is.
const TO_THE_RECORD: SignedDuration = SignedDuration::from_mins(5);

/// What the id of a break-glass request names.
const REQUEST: &str = "request";

/// No session lasts longer, and what belongs to it is recorded soon after.
const SESSION: SignedDuration = SignedDuration::from_hours(13);

/// At most so many entries are looked at in one stretch.
const STRETCH: u32 = 5_000;

/// So many entries are read at a time where one is looked for.
const PAGE: u32 = 500;

/// At most so many grants of one session are told.
const GRANTS: u32 = 200;

/// What names a story: the place or id of an entry, the id of a grant, a session or a break-glass request, a certificate's serial
/// number or fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoryId {
    /// The place in the log.
    Place(u64),
    /// The id of a grant, a session, a break-glass request or an entry.
    Id(Uuid),
    /// A certificate's serial number or SHA-256 fingerprint.
    Certificate(Vec<u8>),
}

/// The text names no story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "give the id of a grant, a session, a break-glass request or an entry whole, all 36 characters, or an entry's index, or a certificate's serial number or SHA-256 fingerprint in hex; `ichor audit log -o json` shows ids"
)]
pub struct NotAnId;

/// A story, with the entry that its name led to.
#[derive(Debug)]
pub struct Story {
    /// The entry.
    pub entry: AuditEntry,
    /// All of it.
    pub answer: StoryAnswer,
}

/// What is known of the entry that the id led to.
struct Start {
    what: &'static str,
    stored: StoredEntry,
    body: Option<Entry>,
}

/// The story of this name; `None` where there is none.
///
/// Who may see which of its entries is for the caller to decide.
///
/// # Errors
/// When the store cannot be read or is damaged.
pub async fn story(store: &dyn Store, id: &StoryId) -> Result<Option<Story>, StoreError> {
    let Some(start) = find(store, id).await? else { return Ok(None) };
    let entry = show(&start.stored)?;
    let mut answer = StoryAnswer { what: start.what.into(), ..StoryAnswer::default() };
    let Some(body) = &start.body else {
        answer.entry = Some(entry.clone());
        return Ok(Some(Story { entry, answer }));
    };
    let content = &body.content;
    let session = content.session.as_deref().and_then(|id| Uuid::from_slice(id).ok());
    // a certificate's entry tells its grant, and the grant's its session
    let grants = match content.grant.as_deref().and_then(|id| Uuid::from_slice(id).ok()) {
        Some(grant) => vec![grant],
        None => Vec::new(),
    };
    let mut told = Told { store, answer };
    for grant in grants {
        told.grant(GrantId(grant)).await?;
    }
    if start.what == REQUEST {
        told.request(&entry).await?;
    }
    let session = session.or_else(|| told.answer.grants.iter().find_map(|grant| grant.grant.as_ref()?.session_id));
    if let Some((session, person)) = session.zip(person_of(body)) {
        told.session(session, person, start.what == "session", body).await?;
    }
    let mut answer = told.answer;
    let is_told = answer.entries().any(|one| one.index == entry.index);
    if !is_told {
        answer.entry = Some(entry.clone());
    }
    Ok(Some(Story { entry, answer }))
}

async fn find(store: &dyn Store, id: &StoryId) -> Result<Option<Start>, StoreError> {
    let (what, stored) = match id {
        StoryId::Place(place) => ("entry", store.entry_range(*place..place.saturating_add(1)).await?.pop()),
        StoryId::Certificate(name) => ("certificate", store.issued_as(name).await?.pop()),
        StoryId::Id(id) => {
            let grant = EntryFilter { grant: Some(GrantId(*id)), ..EntryFilter::default() };
            match store.entries_from(&grant, 0, 1).await?.pop() {
                Some(entry) => ("grant", Some(entry)),
                None => by_time(store, *id).await?,
            }
        }
    };
    Ok(stored.map(|stored| {
        let body = as_recorded(&stored, None).ok().flatten();
        Start { what, stored, body }
    }))
}

/// The session, break-glass request or entry of this id, by the time that it tells.
async fn by_time(store: &dyn Store, id: Uuid) -> Result<(&'static str, Option<StoredEntry>), StoreError> {
    let Some(made) = made_at(id) else { return Ok(("entry", None)) };
    let at = |filter: EntryFilter, life: SignedDuration| EntryFilter {
        since: Some(made),
        until: made.checked_add(life).ok(),
        ..filter
    };
    let logins = at(EntryFilter { kind: Some(Kind::Login), ..EntryFilter::default() }, LOGIN_ON_ITS_WAY);
    let is_session = |entry: &Entry| entry.content.session.as_deref() == Some(id.as_bytes());
    if let Some(login) = first(store, &logins, is_session).await? {
        return Ok(("session", Some(login)));
    }
    let requests = EntryFilter { kind: Some(Kind::BreakGlassRequest), ..EntryFilter::default() };
    let is_request = |entry: &Entry| entry.content.break_glass.as_deref() == Some(id.as_bytes());
    if let Some(request) = first(store, &at(requests, TO_THE_RECORD), is_request).await? {
        return Ok((REQUEST, Some(request)));
    }
    Ok(("entry", entry_of(store, id).await?))
}

/// The entry of this id. Its time lies in the millisecond that the id tells, or, where another broker's clock was ahead, a little
/// behind.
///
/// # Errors
/// When the store fails.
pub async fn entry_of(store: &dyn Store, id: Uuid) -> Result<Option<StoredEntry>, StoreError> {
    let Some(made) = made_at(id) else { return Ok(None) };
    let until = SignedDuration::from_millis(1).saturating_add(SKEW);
    let filter = EntryFilter { since: Some(made), until: made.checked_add(until).ok(), ..EntryFilter::default() };
    let is_sought =
        |entry: &StoredEntry| as_recorded(entry, None).ok().flatten().is_some_and(|body| body.id == id.as_bytes());
    let mut next = 0;
    loop {
        let page = store.entries_from(&filter, next, PAGE).await?;
        let (count, last) = (page.len(), page.last().map(|entry| entry.index));
        if let Some(found) = page.into_iter().find(is_sought) {
            return Ok(Some(found));
        }
        match last {
            Some(last) if count >= PAGE as usize => next = last.saturating_add(1),
            _ => return Ok(None),
        }
    }
}

/// The oldest entry of a stretch that is sought.
async fn first(
    store: &dyn Store,
    filter: &EntryFilter,
    is_sought: impl Fn(&Entry) -> bool,
) -> Result<Option<StoredEntry>, StoreError> {
    let found = store.entries_from(filter, 0, STRETCH).await?;
    let is_sought = |entry: &StoredEntry| as_recorded(entry, None).ok().flatten().is_some_and(|body| is_sought(&body));
    Ok(found.into_iter().find(is_sought))
}

/// When a UUIDv7 was made, to the millisecond.
fn made_at(id: Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
}

fn person_of(entry: &Entry) -> Option<Person> {
    let person = entry.content.person.as_ref()?;
    Some(Person {
        provider: ProviderAlias::new(&person.provider).ok()?,
        issuer: person.issuer.clone(),
        subject: person.subject.clone(),
    })
}

/// A story as far as it is told.
struct Told<'a> {
    store: &'a dyn Store,
    answer: StoryAnswer,
}

impl Told<'_> {
    /// Adds a grant with all that came of it.
    async fn grant(&mut self, id: GrantId) -> Result<(), StoreError> {
        let filter = EntryFilter { grant: Some(id), ..EntryFilter::default() };
        let mut story = GrantStory { grant_id: id.0, ..GrantStory::default() };
        for stored in self.store.entries_from(&filter, 0, GRANTS).await? {
            let entry = show(&stored)?;
            if entry.kind == Kind::Grant.as_str() && story.grant.is_none() {
                story.grant = Some(entry);
            } else {
                story.outcome.push(entry);
            }
        }
        self.request_of(&mut story).await?;
        self.answer.grants.push(story);
        Ok(())
    }

    /// Adds the session's login and end, and where the session itself is asked for, all that happened in it.
    async fn session(&mut self, id: Uuid, person: Person, whole: bool, near: &Entry) -> Result<(), StoreError> {
        self.answer.session_id = Some(id);
        let made = made_at(id).unwrap_or_else(|| Timestamp::from_microsecond(near.time).unwrap_or(Timestamp::MIN));
        let of = |kind: Option<Kind>| EntryFilter {
            own: Some(person.clone()),
            kind,
            since: Some(made),
            until: made.checked_add(SESSION).ok(),
            ..EntryFilter::default()
        };
        let is_session = |entry: &Entry| entry.content.session.as_deref() == Some(id.as_bytes());
        for (kind, place) in [(Kind::Login, &mut self.answer.login), (Kind::SessionEnd, &mut self.answer.end)] {
            let found = first(self.store, &of(Some(kind)), is_session).await?;
            *place = found.as_ref().map(show).transpose()?;
        }
        if !whole {
            return Ok(());
        }
        let mut found = self.store.entries_from(&of(None), 0, STRETCH.saturating_add(1)).await?;
        let most = usize::try_from(STRETCH).unwrap_or(usize::MAX);
        self.answer.truncated = found.len() > most;
        found.truncate(most);
        for stored in &found {
            let entry = show(stored)?;
            if entry.session_id != Some(id) {
                continue;
            }
            match (entry.kind.as_str(), entry.grant_id) {
                ("login" | "session-end", _) => {}
                ("grant", Some(grant)) => {
                    if self.answer.grants.len() < usize::try_from(GRANTS).unwrap_or(usize::MAX) {
                        self.grant(GrantId(grant)).await?;
                    } else {
                        self.answer.truncated = true;
                    }
                }
                (_, Some(grant)) if self.answer.grants.iter().any(|told| told.grant_id == grant) => {}
                _ => self.answer.others.push(entry),
            }
        }
        Ok(())
    }
}

// === impl StoryId ===

impl FromStr for StoryId {
    type Err = NotAnId;

    /// Up to 19 digits are a place, a UUID with its hyphens an id, and hex of up to 64 digits, colons allowed, a certificate.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() < 20 && text.bytes().all(|digit| digit.is_ascii_digit()) {
            return text.parse().map(Self::Place).map_err(|_| NotAnId);
        }
        if text.len() == 36 && text.contains('-') {
            return Uuid::try_parse(text).map(Self::Id).map_err(|_| NotAnId);
        }
        let mut hex: String = text.chars().filter(|letter| *letter != ':').collect();
        if hex.is_empty() || hex.len() > 64 || text.len() > 100 {
            return Err(NotAnId);
        }
        if hex.len() % 2 == 1 {
            hex.insert(0, '0');
        }
        HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map(Self::Certificate).map_err(|_| NotAnId)
    }
}

impl fmt::Display for StoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => write!(f, "entry {place}"),
            Self::Id(id) => write!(f, "id {id}"),
            Self::Certificate(name) => write!(f, "certificate {}", HEXLOWER_PERMISSIVE.encode(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::Content;

    use super::*;
    use crate::audit::tests::Room;
    use crate::entropy;
    use crate::store::Append;
    use crate::store::conformance::{after, entry, log_person, noon, one};
    use crate::store::sqlite::{Options, SqliteStore};

    #[test]
    fn an_id_is_what_it_looks_like() {
        let id = "0193a5c0-0000-7000-8000-00000000002a";
        assert_eq!("42".parse(), Ok(StoryId::Place(42)));
        assert_eq!(id.parse(), Ok(StoryId::Id(id.parse().unwrap())));
        assert_eq!("0A:ff".parse(), Ok(StoryId::Certificate(vec![10, 255])));
        assert_eq!("abc".parse(), Ok(StoryId::Certificate(vec![10, 0xbc])));
        assert_eq!(
            "12345678901234567890".parse(),
            Ok(StoryId::Certificate(vec![0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90]))
        );
        for bad in ["", "grant", "0193a5c0-0000-7000-8000-00000000002", &"a".repeat(65), "é", "-1", "::"] {
            assert_eq!(bad.parse::<StoryId>(), Err(NotAnId), "{bad}");
        }
    }

    /// A session of ada's with two grants, beside another's that overlaps it; answers the sessions' and grants' ids.
    async fn two_sessions(room: &Room) -> ([Uuid; 2], [Uuid; 3]) {
        let now = || crate::clock::Clock::now(&*room.clock);
        let say = async |kind, session: Uuid, grant: Option<Uuid>, serial: Option<u8>| {
            let content = Content {
                person: Some(log_person("ada", "ada")),
                session: Some(session.as_bytes().to_vec()),
                cluster: grant.map(|_| "prod".into()),
                grant: grant.map(|id| id.as_bytes().to_vec()),
                serial: serial.map(|byte| vec![byte; 16]),
                fingerprint: serial.map(|byte| vec![byte + 100; 32]),
                ..Content::of(kind)
            };
            room.sequencer.note(content, None).await.unwrap();
            room.clock.advance(SignedDuration::from_secs(60));
        };
        let sessions = [entropy::uuid_v7(now()).unwrap(), entropy::uuid_v7(now()).unwrap()];
        room.clock.advance(SignedDuration::from_mins(5));
        let grants = [1, 2, 3].map(|_| entropy::uuid_v7(now()).unwrap());
        say(Kind::Login, sessions[0], None, None).await;
        say(Kind::Login, sessions[1], None, None).await;
        for (number, session) in [(0, 0), (1, 1), (2, 0)] {
            say(Kind::Grant, sessions[session], Some(grants[number]), None).await;
            say(Kind::Issued, sessions[session], Some(grants[number]), Some(u8::try_from(number).unwrap() + 1)).await;
        }
        say(Kind::Refusal, sessions[0], None, None).await;
        say(Kind::SessionEnd, sessions[0], None, None).await;
        (sessions, grants)
    }

    async fn told(room: &Room, id: &StoryId) -> StoryAnswer {
        story(&*room.store, id).await.unwrap().unwrap().answer
    }

    fn places<'a>(entries: impl IntoIterator<Item = &'a AuditEntry>) -> Vec<u64> {
        let mut places: Vec<_> = entries.into_iter().map(|entry| entry.index).collect();
        places.sort_unstable();
        places
    }

    #[tokio::test]
    async fn every_name_of_it_leads_to_the_story() {
        let room = Room::new([]);
        let (sessions, grants) = two_sessions(&room).await;
        let entry = room.log().await.remove(6);
        let names = [
            ("grant", StoryId::Id(grants[2])),
            ("certificate", StoryId::Certificate(vec![3; 16])),
            ("certificate", StoryId::Certificate(vec![103; 32])),
            ("entry", StoryId::Place(7)),
            ("entry", StoryId::Id(Uuid::from_slice(&entry.id).unwrap())),
        ];
        for (what, name) in names {
            let story = told(&room, &name).await;
            assert_eq!((story.what.as_str(), story.session_id), (what, Some(sessions[0])), "{name}");
            assert_eq!(places(&story.login), [0], "{name}");
            assert_eq!(places(story.entries()), [0, 6, 7, 9], "{name}");
            assert_eq!(places(&story.end), [9]);
        }
        let whole = told(&room, &StoryId::Id(sessions[0])).await;
        assert_eq!((whole.what.as_str(), whole.truncated), ("session", false));
        assert_eq!(places(whole.entries()), [0, 2, 3, 6, 7, 8, 9]);
        assert_eq!(places(&whole.others), [8]);
        let other = told(&room, &StoryId::Id(sessions[1])).await;
        assert_eq!(places(other.entries()), [1, 4, 5]);
        assert_eq!(other.end, None);
    }

    #[tokio::test]
    async fn a_grant_that_others_approved_is_told_with_its_request() {
        let room = Room::new([]);
        let now = || crate::clock::Clock::now(&*room.clock);
        let (request, other) = (entropy::uuid_v7(now()).unwrap(), entropy::uuid_v7(now()).unwrap());
        let (grant, second) = (entropy::uuid_v7(now()).unwrap(), entropy::uuid_v7(now()).unwrap());
        let say = async |kind, request: Uuid, grant: Option<Uuid>, cluster: &str| {
            let content = Content {
                person: Some(log_person("ada", "ada")),
                cluster: Some(cluster.into()),
                break_glass: Some(request.as_bytes().to_vec()),
                grant: grant.map(|id| id.as_bytes().to_vec()),
                ..Content::of(kind)
            };
            room.sequencer.note(content, None).await.unwrap();
            room.clock.advance(SignedDuration::from_secs(60));
        };
        for (kind, of, by) in [
            (Kind::BreakGlassRequest, request, None),
            (Kind::BreakGlassRequest, other, None),
            (Kind::BreakGlassApproval, other, None),
            (Kind::BreakGlassApproval, request, None),
            (Kind::Grant, request, Some(grant)),
            (Kind::Issued, request, Some(grant)),
            (Kind::BreakGlassTouched, request, Some(grant)),
            (Kind::Grant, request, Some(second)),
            (Kind::BreakGlassTouched, request, Some(second)),
            (Kind::BreakGlassReview, other, None),
            (Kind::BreakGlassReview, request, None),
        ] {
            say(kind, of, by, "prod").await;
        }
        let story = told(&room, &StoryId::Id(grant)).await;
        let told = &story.grants[0];
        assert_eq!((places(&told.request), places(&told.grant)), (vec![0, 3], vec![4]));
        assert_eq!((places(&told.outcome), places(&told.afterwards)), (vec![5, 6], vec![10]));
        assert_eq!(places(story.entries()), [0, 3, 4, 5, 6, 10]);

        let whole = self::told(&room, &StoryId::Id(request)).await;
        assert_eq!(whole.what, "request");
        assert_eq!(whole.grants.iter().map(|told| told.grant_id).collect::<Vec<_>>(), [grant, second]);
        assert_eq!(whole.entries().map(|entry| entry.index).collect::<Vec<_>>(), [0, 3, 4, 5, 6, 10, 7, 8]);
        let unused = self::told(&room, &StoryId::Id(other)).await;
        assert_eq!((unused.what.as_str(), places(&unused.others)), ("request", vec![1, 2, 9]));
        assert_eq!(places(unused.entries()), [1, 2, 9]);
    }

    #[tokio::test]
    async fn what_belongs_to_nobody_is_told_alone_and_nothing_of_nothing() {
        let room = Room::new([]);
        room.sequencer.note(Content::of(Kind::Start), None).await.unwrap();
        let alone = told(&room, &StoryId::Place(0)).await;
        assert_eq!(places(alone.entries()), [0]);
        let unknown = entropy::uuid_v7(noon()).unwrap();
        for none in [StoryId::Place(1), StoryId::Id(unknown), StoryId::Id(Uuid::max()), StoryId::Certificate(vec![1])] {
            assert!(story(&*room.store, &none).await.unwrap().is_none(), "{none}");
        }
    }

    #[tokio::test]
    async fn an_entry_that_took_a_later_time_is_found_by_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap();
        let made = |number| {
            let millis = u64::try_from(noon().as_millisecond()).unwrap();
            uuid::Builder::from_unix_timestamp_millis(millis, &[number; 10]).into_uuid()
        };
        for (number, time) in [(1, noon()), (2, after(10)), (3, after(11))] {
            let mut entry = entry(Content::of(Kind::Start), time);
            entry.entry.id = made(number).as_bytes().to_vec();
            entry.encoded = entry.entry.encode().unwrap();
            one(&store, Append { entry, change: None }).await;
        }
        let found = async |number| entry_of(&store, made(number)).await.unwrap().map(|stored| stored.index);
        assert_eq!([found(1).await, found(2).await], [Some(0), Some(1)]);
        assert_eq!(found(3).await, None, "no clock lies so far behind");
        let told = story(&store, &made(2).to_string().parse().unwrap()).await.unwrap();
        assert_eq!(told.map(|story| story.entry.index), Some(1));
    }
}
