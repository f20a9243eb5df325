//! Persons and clusters as numbers, so that the log's columns and indexes stay narrow.

use std::collections::{BTreeSet, HashMap};

use ichor_wire::log::Person;
use rusqlite::{Connection, OptionalExtension};

use crate::domain;
use crate::store::calls::NodeName;
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
    /// Of calls: nodes by cluster and name, methods, users.
    nodes: HashMap<(String, String), i64>,
    methods: HashMap<String, i64>,
    users: HashMap<String, i64>,
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

    /// The number of the node of this cluster and name, for calls.
    pub(super) fn node(&mut self, db: &Connection, cluster: &str, name: &str) -> Result<i64, Failure> {
        let key = (cluster.to_owned(), name.to_owned());
        if let Some(id) = self.nodes.get(&key) {
            return Ok(*id);
        }
        db.prepare_cached("INSERT INTO call_node (cluster, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute((cluster, name))?;
        let id = db
            .prepare_cached("SELECT id FROM call_node WHERE cluster = ?1 AND name = ?2")?
            .query_row((cluster, name), |row| row.get(0))?;
        if self.nodes.len() >= REMEMBERED {
            self.nodes.clear();
        }
        self.nodes.insert(key, id);
        Ok(id)
    }

    /// The number of this method, for calls.
    pub(super) fn method(&mut self, db: &Connection, name: &str) -> Result<i64, Failure> {
        named(db, &mut self.methods, "call_method", name)
    }

    /// The number of this `user:` value, for calls without an owner.
    pub(super) fn user(&mut self, db: &Connection, name: &str) -> Result<i64, Failure> {
        named(db, &mut self.users, "call_user", name)
    }

    /// Forgets the names that go with the last call that has them.
    pub(super) fn forget_calls(&mut self) {
        self.nodes.clear();
        self.methods.clear();
        self.users.clear();
    }
}

fn named(db: &Connection, known: &mut HashMap<String, i64>, table: &str, name: &str) -> Result<i64, Failure> {
    if let Some(id) = known.get(name) {
        return Ok(*id);
    }
    db.prepare_cached(&format!("INSERT INTO {table} (name) VALUES (?1) ON CONFLICT DO NOTHING"))?.execute([name])?;
    let id =
        db.prepare_cached(&format!("SELECT id FROM {table} WHERE name = ?1"))?.query_row([name], |row| row.get(0))?;
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(name.into(), id);
    Ok(id)
}

// === looking up ===

/// The persons that the filter asks for; `None` where it asks for none.
pub(super) fn persons(db: &Connection, filter: &EntryFilter) -> Result<Option<Vec<i64>>, Failure> {
    persons_of(db, filter.person.as_deref(), filter.own.as_ref())
}

fn persons_of(db: &Connection, text: Option<&str>, own: Option<&domain::Person>) -> Result<Option<Vec<i64>>, Failure> {
    let by_text = match text {
        Some(text) => Some(
            db.prepare_cached(
                "SELECT id FROM log_person WHERE user = ?1 UNION SELECT id FROM log_person WHERE subject = ?1",
            )?
            .query_map([text], |row| row.get(0))?
            .collect::<Result<Vec<i64>, _>>()?,
        ),
        None => None,
    };
    let Some(own) = own else { return Ok(by_text) };
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

/// Owners of calls, and `user:` values of calls without one.
pub(super) type Callers = (Vec<i64>, Vec<i64>);

/// Whose calls are asked for, as owners and as `user:` values without an owner; `None` where nobody's in particular.
pub(super) fn calls_of(
    db: &Connection,
    user: Option<&str>,
    own: Option<&domain::Person>,
) -> Result<Option<Callers>, Failure> {
    let Some(owners) = persons_of(db, user, own)? else { return Ok(None) };
    let users = match user {
        // a claim alone makes no call one's own
        Some(user) if own.is_none() => db
            .prepare_cached("SELECT id FROM call_user WHERE name = ?1")?
            .query_map([user], |row| row.get(0))?
            .collect::<Result<_, _>>()?,
        _ => Vec::new(),
    };
    Ok(Some((owners, users)))
}

/// The nodes of calls with this cluster and one of these names; none: any.
pub(super) fn nodes(db: &Connection, cluster: Option<&str>, names: &[NodeName]) -> Result<Vec<i64>, Failure> {
    let mut select = db.prepare_cached(
        "SELECT id FROM call_node
         WHERE cluster = coalesce(?1, cluster) AND cluster = coalesce(?2, cluster) AND name = coalesce(?3, name)",
    )?;
    let mut named = |of: Option<&str>, name: Option<&str>| -> Result<Vec<i64>, Failure> {
        Ok(select.query_map((cluster, of, name), |row| row.get(0))?.collect::<Result<_, _>>()?)
    };
    if names.is_empty() {
        return named(None, None);
    }
    let mut found = BTreeSet::new();
    for name in names {
        found.extend(named(name.cluster.as_deref(), Some(&name.node))?);
    }
    Ok(found.into_iter().collect())
}

/// The methods of this name: whole, or what stands behind the last slash.
pub(super) fn methods(db: &Connection, name: &str) -> Result<Vec<i64>, Failure> {
    Ok(db
        .prepare_cached("SELECT id FROM call_method WHERE name = ?1 OR substr(name, -length(?1) - 1) = '/' || ?1")?
        .query_map([name], |row| row.get(0))?
        .collect::<Result<_, _>>()?)
}
