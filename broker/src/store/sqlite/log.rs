//! The log: appended to by [`super::append`] alone, read by index, person, cluster, kind, grant and time.
//!
//! Times never decrease along the index, so a time is found by bisecting the index: no index on time is kept. Every other
//! index is ordered by the entry's place behind its own columns, and a query reads at most `limit` rows from each stretch
//! of it, one stretch per person and kind: the cost does not grow with the log. Only a person *and* a cluster together walk
//! along that person's own entries, inside the index.

use std::ops::Range;

use ichor_wire::log::{Entry, Kind, Leaf, leaf_hash};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::store::NewEntry;
use crate::store::rows::{Columns, Indexed};

use super::names::{self, Names};
use super::{EntryFilter, Failure, LogHead, StoredEntry, certificates};
use crate::store::value::{micros, signed, unsigned};

/// A filter with its texts turned into the numbers that columns have. An empty list matches nothing.
struct Sought {
    persons: Option<Vec<i64>>,
    cluster: Option<i64>,
    kind: Option<u8>,
    grant: Option<[u8; 16]>,
    range: Range<i64>,
}

/// Which way an index is walked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    NewestFirst,
    OldestFirst,
}

/// One stretch of one index.
#[derive(Clone, Copy, Default)]
struct Stretch {
    person: Option<i64>,
    kind: Option<u8>,
}

// === writing ===

/// Appends one entry at `index` and answers its leaf's hash.
pub(super) fn insert(db: &Connection, names: &mut Names, index: u64, new: &NewEntry) -> Result<[u8; 32], Failure> {
    let Entry { time, content, .. } = &new.entry;
    let leaf = Leaf::of(index, &new.encoded, *time).encode().map_err(|error| Failure::Io(error.to_string()))?;
    let person = content.person.as_ref().map(|person| names.person(db, person)).transpose()?;
    let cluster = content.cluster.as_ref().map(|cluster| names.cluster(db, cluster)).transpose()?;
    db.prepare_cached(
        "INSERT INTO leaf (idx, time, kind, person, cluster, grant_id, leaf) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((signed(index), time, content.kind.number(), person, cluster, &content.grant, &leaf))
    .map(is_stored)??;
    let mut body = db.prepare_cached("INSERT INTO body (idx, body) VALUES (?1, ?2)")?;
    body.execute((signed(index), &new.encoded)).map(is_stored)??;
    certificates::insert(db, index, content)?;
    Ok(leaf_hash(&leaf))
}

/// Fails where an `INSERT` of one row stored none, though it did not fail itself: then someone had it ignored.
pub(super) fn is_stored(rows: usize) -> Result<(), Failure> {
    match rows {
        1 => Ok(()),
        _ => Err(Failure::Damaged(
            "a row that was recorded was not stored: somebody changed what the database does; find out who writes it"
                .into(),
        )),
    }
}

/// Whether an entry of one of these kinds stands at `from` or behind it.
pub(super) fn has_since(db: &Connection, kinds: &[Kind], from: u64) -> Result<bool, Failure> {
    let mut select = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM leaf WHERE kind = ?1 AND idx >= ?2)")?;
    for kind in kinds {
        if select.query_row((kind.number(), signed(from)), |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}

// === reading ===

pub(super) fn head(db: &Connection) -> Result<LogHead, Failure> {
    let newest: Option<(i64, i64)> = db
        .prepare_cached("SELECT idx, time FROM leaf ORDER BY idx DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match newest {
        Some((index, time)) => Ok(LogHead { size: unsigned(index)?.saturating_add(1), time }),
        None => Ok(LogHead::default()),
    }
}

pub(super) fn entries(
    db: &Connection,
    filter: &EntryFilter,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<StoredEntry>, Failure> {
    let Some(sought) = Sought::new(db, filter, 0, before)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for stretch in sought.stretches() {
        sought.walk(db, stretch, Order::NewestFirst, limit, &mut found)?;
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    found.into_iter().map(|index| one(db, index)).collect()
}

pub(super) fn entries_from(
    db: &Connection,
    filter: &EntryFilter,
    from: u64,
    limit: u32,
) -> Result<Vec<StoredEntry>, Failure> {
    let Some(sought) = Sought::new(db, filter, from, None)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for stretch in sought.stretches() {
        sought.walk(db, stretch, Order::OldestFirst, limit, &mut found)?;
    }
    found.sort_unstable();
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    found.into_iter().map(|index| one(db, index)).collect()
}

/// The entry at this place, which must be there.
pub(super) fn one(db: &Connection, index: i64) -> Result<StoredEntry, Failure> {
    db.prepare_cached(
        "SELECT leaf.idx, leaf, body FROM leaf LEFT JOIN body ON body.idx = leaf.idx WHERE leaf.idx = ?1",
    )?
    .query_row([index], |row| Ok(stored(row)))?
}

pub(super) fn range(db: &Connection, range: &Range<u64>) -> Result<Vec<StoredEntry>, Failure> {
    db.prepare_cached(
        "SELECT leaf.idx, leaf, body FROM leaf LEFT JOIN body ON body.idx = leaf.idx
         WHERE leaf.idx >= ?1 AND leaf.idx < ?2 ORDER BY leaf.idx",
    )?
    .query_and_then((signed(range.start), signed(range.end)), stored)?
    .collect()
}

pub(super) fn indexed_range(db: &Connection, range: &Range<u64>) -> Result<Vec<Indexed>, Failure> {
    db.prepare_cached(
        "SELECT leaf.idx, leaf, body, time, kind, grant_id, log_cluster.name, provider, issuer, subject, user
         FROM leaf LEFT JOIN body ON body.idx = leaf.idx
             LEFT JOIN log_person ON log_person.id = person LEFT JOIN log_cluster ON log_cluster.id = cluster
         WHERE leaf.idx >= ?1 AND leaf.idx < ?2 ORDER BY leaf.idx",
    )?
    .query_and_then((signed(range.start), signed(range.end)), |row| {
        let person = match row.get(7)? {
            Some(provider) => Some([provider, row.get(8)?, row.get(9)?, row.get(10)?]),
            None => None,
        };
        let entry = stored(row)?;
        let body = entry.body.as_deref().and_then(|body| Entry::decode(body).ok());
        let names = body.map_or(Ok(0), |body| certificates::count(db, entry.index, &body.content))?;
        let columns = Columns { kind: row.get(4)?, person, cluster: row.get(6)?, grant: row.get(5)?, names };
        Ok(Indexed { entry, time: row.get(3)?, columns })
    })?
    .collect()
}

// === impl Sought ===

impl Sought {
    /// `None` where nothing can match: no such person or cluster, or no time left between the bounds.
    fn new(db: &Connection, filter: &EntryFilter, from: u64, before: Option<u64>) -> Result<Option<Self>, Failure> {
        let size = signed(head(db)?.size);
        let mut range = signed(from)..before.map_or(size, signed).min(size);
        if let Some(since) = filter.since {
            range.start = first_at(db, micros(since), size)?.max(range.start);
        }
        if let Some(until) = filter.until {
            range.end = first_at(db, micros(until), size)?.min(range.end);
        }
        let cluster = match &filter.cluster {
            Some(name) => match names::cluster(db, name)? {
                None => return Ok(None),
                known => known,
            },
            None => None,
        };
        let persons = names::persons(db, filter)?;
        if range.is_empty() || persons.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let grant = filter.grant.map(|grant| grant.0.into_bytes());
        Ok(Some(Self { persons, cluster, kind: filter.kind.map(Kind::number), grant, range }))
    }

    /// The stretches whose union is what is sought, no entry in two of them.
    fn stretches(&self) -> Vec<Stretch> {
        // The indexes by person and by cluster have the kind between their column and the entry's place.
        let by_kind = self.grant.is_none() && (self.persons.is_some() || self.cluster.is_some());
        let kinds: Vec<_> = match self.kind {
            None if by_kind => Kind::ALL.into_iter().map(|kind| Some(kind.number())).collect(),
            kind => vec![kind],
        };
        let persons = match &self.persons {
            Some(persons) => persons.iter().copied().map(Some).collect(),
            None => vec![None],
        };
        persons.into_iter().flat_map(|person| kinds.iter().map(move |&kind| Stretch { person, kind })).collect()
    }

    /// Adds the first `limit` places of one stretch, in that order.
    fn walk(
        &self,
        db: &Connection,
        stretch: Stretch,
        order: Order,
        limit: u32,
        found: &mut Vec<i64>,
    ) -> Result<(), Failure> {
        // Named, because without statistics SQLite may take another index, and the cost would grow with the log.
        let index = if self.grant.is_some() {
            "INDEXED BY leaf_by_grant"
        } else if stretch.person.is_some() {
            "INDEXED BY leaf_by_person"
        } else if self.cluster.is_some() {
            "INDEXED BY leaf_by_cluster"
        } else if stretch.kind.is_some() {
            "INDEXED BY leaf_by_kind"
        } else {
            "NOT INDEXED"
        };
        let mut sql = format!("SELECT idx FROM leaf {index} WHERE idx >= :from AND idx < :to");
        let mut bound: Vec<(&str, &dyn ToSql)> =
            vec![(":from", &self.range.start), (":to", &self.range.end), (":limit", &limit)];
        let conditions: [(&str, &str, Option<&dyn ToSql>); 4] = [
            (" AND grant_id = :grant", ":grant", self.grant.as_ref().map(|grant| grant as &dyn ToSql)),
            (" AND person = :person", ":person", stretch.person.as_ref().map(|person| person as &dyn ToSql)),
            (" AND kind = :kind", ":kind", stretch.kind.as_ref().map(|kind| kind as &dyn ToSql)),
            (" AND cluster = :cluster", ":cluster", self.cluster.as_ref().map(|cluster| cluster as &dyn ToSql)),
        ];
        for (text, name, value) in conditions {
            if let Some(value) = value {
                sql.push_str(text);
                bound.push((name, value));
            }
        }
        sql.push_str(match order {
            Order::NewestFirst => " ORDER BY idx DESC LIMIT :limit",
            Order::OldestFirst => " ORDER BY idx LIMIT :limit",
        });
        let mut statement = db.prepare_cached(&sql)?;
        for place in statement.query_map(&*bound, |row| row.get(0))? {
            found.push(place?);
        }
        Ok(())
    }
}

/// The place of the first entry at or after `time`; `size` where there is none.
fn first_at(db: &Connection, time: i64, size: i64) -> Result<i64, Failure> {
    let mut one = db.prepare_cached("SELECT time FROM leaf WHERE idx = ?1")?;
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let there: Option<i64> = one.query_row([middle], |row| row.get(0)).optional()?;
        let there = there.ok_or_else(|| Failure::Damaged(format!("entry {middle} is missing")))?;
        if there < time {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn stored(row: &Row<'_>) -> Result<StoredEntry, Failure> {
    Ok(StoredEntry { index: unsigned(row.get(0)?)?, leaf: row.get(1)?, body: row.get(2)? })
}
