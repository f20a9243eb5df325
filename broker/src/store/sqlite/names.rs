//! Persons and clusters as numbers, so that the log's columns and indexes stay narrow.

use std::collections::HashMap;

use ichor_wire::log::Person;
use rusqlite::{Connection, OptionalExtension};

use crate::store::rows::EntryFilter;

use super::Failure;

/// So many names are remembered; beyond them memory is emptied and fills again.
const REMEMBERED: usize = 10_000;

/// The numbers of names that were met, for the thread that writes. What a transaction added must not outlive it when it is
/// undone: the number may then be given to another name.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By subject: nearly always one person.
    persons: HashMap<String, Vec<(Person, i64)>>,
    clusters: HashMap<String, i64>,
}

// === impl Names ===

impl Names {
    /// The number of this person with this `user:` value; the name that people read does not count.
    pub(super) fn person(&mut self, db: &Connection, person: &Person) -> Result<i64, Failure> {
        let same = |known: &Person| {
            known.issuer == person.issuer && known.provider == person.provider && known.user == person.user
        };
        let known = self.persons.get(&person.subject).and_then(|known| known.iter().find(|(known, _)| same(known)));
        if let Some((_, id)) = known {
            return Ok(*id);
        }
        let key = (&person.subject, &person.issuer, &person.provider, &person.user);
        db.prepare_cached(
            "INSERT INTO log_person (subject, issuer, provider, user) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(key)?;
        let id = db
            .prepare_cached(
                "SELECT id FROM log_person WHERE subject = ?1 AND issuer = ?2 AND provider = ?3 AND user = ?4",
            )?
            .query_row(key, |row| row.get(0))?;
        if self.persons.len() >= REMEMBERED {
            self.persons.clear();
        }
        self.persons.entry(person.subject.clone()).or_default().push((person.clone(), id));
        Ok(id)
    }

    /// Forgets every person, because one of them is no longer in the database.
    pub(super) fn forget(&mut self) {
        self.persons.clear();
    }

    /// The number of the cluster of this name.
    pub(super) fn cluster(&mut self, db: &Connection, name: &str) -> Result<i64, Failure> {
        if let Some(id) = self.clusters.get(name) {
            return Ok(*id);
        }
        db.prepare_cached("INSERT INTO log_cluster (name) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([name])?;
        let id =
            db.prepare_cached("SELECT id FROM log_cluster WHERE name = ?1")?.query_row([name], |row| row.get(0))?;
        if self.clusters.len() >= REMEMBERED {
            self.clusters.clear();
        }
        self.clusters.insert(name.into(), id);
        Ok(id)
    }
}

// === looking up ===

/// The persons that the filter asks for; `None` where it asks for none.
pub(super) fn persons(db: &Connection, filter: &EntryFilter) -> Result<Option<Vec<i64>>, Failure> {
    let by_text = match &filter.person {
        Some(text) => Some(
            db.prepare_cached(
                "SELECT id FROM log_person WHERE user = ?1 UNION SELECT id FROM log_person WHERE subject = ?1",
            )?
            .query_map([text], |row| row.get(0))?
            .collect::<Result<Vec<i64>, _>>()?,
        ),
        None => None,
    };
    let Some(own) = &filter.own else { return Ok(by_text) };
    let mut ids = db
        .prepare_cached("SELECT id FROM log_person WHERE subject = ?1 AND issuer = ?2 AND provider = ?3")?
        .query_map((&own.subject, &own.issuer, own.provider.as_str()), |row| row.get(0))?
        .collect::<Result<Vec<i64>, _>>()?;
    if let Some(by_text) = by_text {
        ids.retain(|id| by_text.contains(id));
    }
    Ok(Some(ids))
}

/// The cluster of this name, if the log names it.
pub(super) fn cluster(db: &Connection, name: &str) -> Result<Option<i64>, Failure> {
    Ok(db
        .prepare_cached("SELECT id FROM log_cluster WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}
