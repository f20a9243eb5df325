//! Dropping bodies: what may go, and the entry that says what went.

use ichor_wire::log::{Content, Kind, Places};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::as_recorded;
use crate::custody::DataKey;
use crate::domain::{Human, Person, SessionId};
use crate::store::{Change, DropRequest, EntryFilter, LockKeys, Store, StoreError};

/// So many bodies go with one entry: a transaction that holds up nobody for long, and places that surely fit.
const AT_ONCE: usize = 1_000;

/// So many entries are looked at for one.
const LOOKED_AT: usize = 50_000;

/// So many entries are read at a time.
const PAGE: u32 = 500;

/// The mode of grants that the closed list of kinds speaks of. What is granted in a way that this build does not know stays.
const ORDINARY: &str = "direct";

/// The next bodies of a request that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextBodies {
    /// Whose bodies.
    pub places: Places,
    /// Where to look further.
    pub next: u64,
    /// How many entries were looked at for it.
    pub looked_at: usize,
    /// What comes next is old enough, and no checkpoint covers it yet: it waits for one.
    pub held: bool,
    /// Whether that is the last of it.
    pub done: bool,
}

/// The context of the mark that a request's id carries.
const MARK: &[u8] = b"drop request 1\0";

/// The id of this request, asked for at `now`: a UUIDv7 whose random bits are the broker's own mark on who asked, about whom, and
/// up to when, as far as they fit (74 bits). So whoever writes the database can neither make a request nor change one: a row that
/// says something else than was asked is another's, and its id is in the entry that says that it was asked.
#[must_use]
pub fn drop_id(key: &DataKey, request: &DropRequest, now: Timestamp) -> Uuid {
    marked(key, request, u64::try_from(now.as_millisecond()).unwrap_or(0))
}

/// Whether the request is as it was asked, by the mark in its id.
#[must_use]
pub fn is_as_asked(key: &DataKey, request: &DropRequest) -> bool {
    let [a, b, c, d, e, f, ..] = *request.id.as_bytes();
    request.id == marked(key, request, u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

fn marked(key: &DataKey, request: &DropRequest, millis: u64) -> Uuid {
    let Person { provider, issuer, subject } = &request.asked_by;
    let mut said = Vec::new();
    let whose = request.person.as_deref();
    for part in [Some(provider.as_str()), Some(issuer), Some(subject), whose] {
        let length = part.map_or(u64::MAX, |part| u64::try_from(part.len()).unwrap_or(u64::MAX));
        said.extend_from_slice(&length.to_be_bytes());
        said.extend_from_slice(part.unwrap_or_default().as_bytes());
    }
    for at in [request.before, request.expires_at] {
        said.extend_from_slice(&at.as_microsecond().to_be_bytes());
    }
    request.asker_told.iter().for_each(|told| said.extend_from_slice(told));
    request.session.iter().for_each(|session| said.extend_from_slice(session.0.as_bytes()));
    said.extend_from_slice(&millis.to_be_bytes());
    let tag = key.tag(MARK, &said);
    let random = tag.first_chunk::<10>().copied().unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// The first thousand bodies at or behind `request.next` that the request is about and that may go at `now`: of a kind that may be
/// dropped, no part of break-glass, granted in the ordinary way, at least `min_age` old, and covered by the kept checkpoint: while the
/// audit key is out nobody has vouched for the newest, and a start would not know what it signs. Kind, age and request are held
/// again where they are dropped.
///
/// # Errors
/// When the store cannot be read.
pub async fn next_bodies(
    store: &dyn Store,
    request: &DropRequest,
    min_age: SignedDuration,
    now: Timestamp,
) -> Result<NextBodies, StoreError> {
    let mut found = NextBodies { places: Places::default(), next: request.next, looked_at: 0, held: false, done: true };
    // a store compares to the microsecond: this one is still old enough
    let old_enough = now.checked_sub(min_age).and_then(|at| at.checked_add(SignedDuration::from_micros(1)));
    let Ok(old_enough) = old_enough else { return Ok(found) };
    let filter = EntryFilter {
        person: request.person.clone(),
        until: Some(request.before.min(old_enough)),
        ..EntryFilter::default()
    };
    let signed = store.checkpoint().await?.map_or(u64::MAX, |kept| kept.size);
    let mut count = 0;
    loop {
        let page = store.entries_from(&filter, found.next, PAGE).await?;
        for stored in &page {
            if stored.index >= signed {
                (found.held, found.done) = (true, false);
                return Ok(found);
            }
            if count >= AT_ONCE || found.looked_at >= LOOKED_AT {
                found.done = false;
                return Ok(found);
            }
            found.looked_at += 1;
            found.next = stored.index.saturating_add(1);
            // one that is not what was recorded stays
            let body = as_recorded(stored, None).ok().flatten();
            if body.is_some_and(|entry| may_go(&entry.content)) {
                found.places.push(stored.index);
                count += 1;
            }
        }
        if page.len() < PAGE as usize {
            return Ok(found);
        }
    }
}

fn may_go(content: &Content) -> bool {
    content.kind.may_be_dropped()
        && content.break_glass.is_none()
        && content.mode.as_deref().is_none_or(|mode| mode == ORDINARY)
}

/// The entry by which these bodies go, and the change that it commits with. `base` says who approves, in that session.
#[must_use]
pub fn drop_bodies(
    base: Content,
    request: &DropRequest,
    approver: &Human,
    session: Option<SessionId>,
    bodies: &NextBodies,
    min_age: SignedDuration,
    now: Timestamp,
) -> (Content, Change) {
    let (places, next, done) = (bodies.places.clone(), bodies.next, bodies.done);
    let content = Content {
        kind: Kind::BodyDropped,
        count: Some(places.count()),
        // an entry without places says only that there was nothing to drop up to there
        dropped: (places.count() > 0).then(|| places.numbers()),
        drop_request: Some(request.id.as_bytes().to_vec()),
        message: Some(format!("bodies dropped{}", if done { "; that was the last of the request" } else { "" })),
        ..base
    };
    let (approver, keys) = (approver.clone(), Box::new(LockKeys::of(&approver.person, session, None)));
    (content, Change::BodyDrop { request: request.id, approver, places, min_age, next, done, keys, now })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::Room;
    use crate::domain::ProviderAlias;
    use crate::store::conformance::noon;

    /// Whatever is an hour old.
    fn asked() -> DropRequest {
        let later = noon() + SignedDuration::from_hours(1);
        DropRequest {
            id: Uuid::nil(),
            asked_by: Person {
                provider: ProviderAlias::new("corp").unwrap(),
                issuer: "https://id.example.com".into(),
                subject: "ada".into(),
            },
            person: None,
            before: later,
            next: 0,
            expires_at: later,
            approved_at: None,
            done_at: None,
            asker_told: None,
            session: None,
        }
    }

    #[tokio::test]
    async fn what_belongs_to_break_glass_stays() {
        let room = Room::new([]);
        let of = |kind, break_glass: Option<Vec<u8>>| Content { break_glass, ..Content::of(kind) };
        for kind in [Kind::Grant, Kind::Issued, Kind::IssueFailed, Kind::Refusal, Kind::AuditRead] {
            for request in [None, Some(vec![9; 16])] {
                room.sequencer.note(of(kind, request), None).await.unwrap();
            }
        }
        for kind in [Kind::BreakGlassRequest, Kind::BreakGlassReview, Kind::KitOpened] {
            room.sequencer.note(of(kind, None), None).await.unwrap();
        }
        let of_mode = |mode: &str| Content { mode: Some(mode.into()), ..Content::of(Kind::Grant) };
        room.sequencer.note(of_mode("direct"), None).await.unwrap();
        room.sequencer.note(of_mode("in-a-way-to-come"), None).await.unwrap();
        let request = asked();
        let found = next_bodies(&*room.store, &request, SignedDuration::ZERO, request.before).await.unwrap();
        let expected: Places = [0, 2, 4, 6, 8, 13].into_iter().collect();
        assert_eq!((found.places, found.looked_at, found.done), (expected, 15, true));
    }

    #[tokio::test]
    async fn what_is_not_signed_yet_stays() {
        let room = Room::new([]);
        for _ in 0..4 {
            room.sequencer.note(Content::of(Kind::Grant), None).await.unwrap();
        }
        let kept = crate::store::StoredCheckpoint { size: 2, note: "signed".into() };
        room.store.append(Vec::new(), Some(kept)).await.unwrap();
        let request = asked();
        let found = next_bodies(&*room.store, &request, SignedDuration::ZERO, request.before).await.unwrap();
        assert_eq!((found.places, found.next), ([0, 1].into_iter().collect(), 2));
        assert!(found.held && !found.done, "the rest is not forgotten");
    }

    #[test]
    fn a_request_that_was_changed_is_another() {
        let key = DataKey::new(&[7; 32]).unwrap();
        let person = |subject: &str| Person {
            provider: ProviderAlias::new("corp").unwrap(),
            issuer: "https://id.example.com".into(),
            subject: subject.into(),
        };
        let later = noon() + SignedDuration::from_hours(1);
        let asked = DropRequest {
            id: Uuid::nil(),
            asked_by: person("ada"),
            person: Some("alice@example.com".into()),
            before: noon(),
            next: 0,
            expires_at: later,
            approved_at: None,
            done_at: None,
            asker_told: None,
            session: Some(SessionId(Uuid::from_u128(1))),
        };
        let asked = DropRequest { id: drop_id(&key, &asked, noon()), ..asked };
        assert_eq!(asked.id.get_version_num(), 7);
        assert!(is_as_asked(&key, &asked));
        assert!(is_as_asked(&key, &DropRequest { next: 9, approved_at: Some(later), ..asked.clone() }), "it goes on");
        let others = [
            DropRequest { asked_by: person("nobody"), ..asked.clone() },
            DropRequest { person: None, ..asked.clone() },
            DropRequest { person: Some("alice@example.con".into()), ..asked.clone() },
            DropRequest { before: later, ..asked.clone() },
            DropRequest { expires_at: noon(), ..asked.clone() },
            DropRequest { asker_told: Some([1; 32]), ..asked.clone() },
            DropRequest { session: Some(SessionId(Uuid::from_u128(2))), ..asked.clone() },
            DropRequest { session: None, ..asked.clone() },
            DropRequest { id: drop_id(&key, &asked, later), ..asked.clone() },
        ];
        for (number, other) in others.iter().enumerate() {
            assert_eq!(is_as_asked(&key, other), number == 8, "{other:?}");
        }
        assert!(!is_as_asked(&DataKey::new(&[8; 32]).unwrap(), &asked));
    }
}
