//! The places of those who take the audit line by line: some of all, few of them one person's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ichor_wire::problem::Code;
use tokio::time::Instant;

use crate::domain::Person;
use crate::http::error::ApiError;

/// So many answers of lines may be under way at once; who wants more is told to come again.
const ALL: usize = 64;

/// So many of them may be one person's.
const OF_ONE: usize = 4;

/// A place whose lines nobody has taken for so long goes to whoever asks for one.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// Who takes lines. Clones share the places.
#[derive(Clone, Debug, Default)]
pub struct Readers(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Places {
    next: u64,
    held: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    person: Person,
    /// Since when lines wait to be taken; `None` while the broker looks for some.
    waits: Option<Instant>,
}

/// A place of one answer; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    readers: Readers,
    id: u64,
}

// === impl Readers ===

impl Readers {
    /// A place for this person.
    ///
    /// # Errors
    /// `too-many-requests` when all of one person's are theirs, `unavailable` when there is none.
    pub(super) fn enter(&self, person: &Person) -> Result<Place, ApiError> {
        let mut places = self.places();
        let is_full = |places: &Places| (places.of(person) >= OF_ONE, places.held.len() >= ALL);
        if let (true, _) | (_, true) = is_full(&places) {
            places.held.retain(|_, held| held.waits.is_none_or(|since| since.elapsed() < TAKEN_WITHIN));
        }
        let (is_ones, is_all) = is_full(&places);
        if is_ones {
            let text = format!("you take the audit line by line {OF_ONE} times already; end one of them");
            return Err(ApiError::new(Code::TooManyRequests, text).retry_after(5));
        }
        if is_all {
            let text = "too many people take the audit line by line";
            return Err(ApiError::new(Code::Unavailable, text).retry_after(5));
        }
        let id = places.next;
        places.next += 1;
        // also where nobody ever takes the first
        places.held.insert(id, Held { person: person.clone(), waits: Some(Instant::now()) });
        Ok(Place { readers: self.clone(), id })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Places ===

impl Places {
    fn of(&self, person: &Person) -> usize {
        self.held.values().filter(|held| held.person == *person).count()
    }
}

// === impl Place ===

impl Place {
    /// Lines were handed out.
    pub(super) fn given(&self) {
        if let Some(held) = self.readers.places().held.get_mut(&self.id) {
            held.waits = Some(Instant::now());
        }
    }

    /// They were taken, and more are asked for. `false` where the place is somebody else's by now.
    pub(super) fn taken(&self) -> bool {
        let mut places = self.readers.places();
        let held = places.held.get_mut(&self.id);
        held.map(|held| held.waits = None).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.readers.places().held.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ProviderAlias;

    fn person(subject: usize) -> Person {
        let (provider, issuer) = (ProviderAlias::new("corp").unwrap(), "https://id.example.com".into());
        Person { provider, issuer, subject: subject.to_string() }
    }

    #[test]
    fn one_person_leaves_places_to_others() {
        let readers = Readers::default();
        let mut places: Vec<_> = (0..OF_ONE).map(|_| readers.enter(&person(0)).unwrap()).collect();
        assert_eq!(readers.enter(&person(0)).unwrap_err().code(), Code::TooManyRequests);
        places.extend((OF_ONE..ALL).map(|other| readers.enter(&person(other)).unwrap()));
        assert_eq!(readers.enter(&person(ALL)).unwrap_err().code(), Code::Unavailable);
        places.remove(0);
        assert!(readers.enter(&person(0)).is_ok(), "a place that was given back is there");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_keeps_no_place() {
        let readers = Readers::default();
        let places: Vec<_> = (0..OF_ONE).map(|_| readers.enter(&person(0)).unwrap()).collect();
        assert!(places[0].taken());
        tokio::time::advance(TAKEN_WITHIN / 2).await;
        assert!(places[1].taken());
        places[1].given();
        tokio::time::advance(TAKEN_WITHIN / 2).await;
        assert!(readers.enter(&person(0)).is_ok());
        // what looks for lines, and what took some meanwhile, have theirs still
        assert_eq!(places.iter().map(Place::taken).collect::<Vec<_>>(), [true, true, false, false]);
    }
}
