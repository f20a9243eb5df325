//! The log: appended to by [`super::append`] alone, read by index, person, cluster, kind, grant and time.
//!
//! Times never decrease along the index, so a time is found by bisecting the index, on the server: no index on time is kept.
//! Every other index is ordered by the entry's place behind its own columns, and a query reads at most `limit` rows from each
//! stretch of it, one stretch per person and kind: the cost does not grow with the log. Only a person *and* a cluster together
//! walk along that person's own entries, inside the index.

use std::collections::HashSet;
use std::ops::Range;

use deadpool_postgres::{Object, Transaction};
use ichor_wire::log::{Content, Entry, Kind, Leaf, leaf_hash};
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use crate::store::NewEntry;
use crate::store::rows::{Columns, Indexed};

use super::names::{self, Names};
use super::nul::has_nul;
use super::{EntryFilter, Failure, LogHead, StoredEntry, certificates};
use crate::store::value::{micros, signed, unsigned};

/// Rows on their way into the log, column by column.
#[derive(Default)]
pub(super) struct Rows {
    idx: Vec<i64>,
    time: Vec<i64>,
    kind: Vec<i16>,
    person: Vec<Option<i64>>,
    cluster: Vec<Option<i64>>,
    grant: Vec<Option<Vec<u8>>>,
    leaf: Vec<Vec<u8>>,
    body: Vec<Vec<u8>>,
    certificates: certificates::Rows,
}

/// The log's end, while it is locked.
pub(super) struct End {
    pub(super) head: LogHead,
    /// The tree's root there.
    pub(super) root: Option<Vec<u8>>,
    /// How often persons were forgotten.
    pub(super) forgotten: i64,
}

/// Which way an index is walked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    NewestFirst,
    OldestFirst,
}

/// A filter with its texts turned into the numbers that columns have.
struct Sought {
    persons: Option<Vec<i64>>,
    cluster: Option<i64>,
    kind: Option<i16>,
    grant: Option<[u8; 16]>,
    range: Range<i64>,
}

// === writing ===

impl Rows {
    /// Adds an entry at `index` and answers its leaf's hash.
    pub(super) fn add(&mut self, names: &Names, index: u64, new: NewEntry) -> Result<[u8; 32], Failure> {
        let Entry { time, content, .. } = new.entry;
        let leaf = Leaf::of(index, &new.encoded, time).encode().map_err(|error| Failure::Server(error.to_string()))?;
        let unlearnt = || Failure::Server("a name has no number".into());
        let person = content.person.as_ref().map(|person| names.person(person).ok_or_else(unlearnt)).transpose()?;
        let cluster = content.cluster.as_ref().map(|name| names.cluster(name).ok_or_else(unlearnt)).transpose()?;
        let hash = leaf_hash(&leaf);
        self.certificates.add(signed(index), &content);
        self.idx.push(signed(index));
        self.time.push(time);
        self.kind.push(content.kind.number().into());
        self.person.push(person);
        self.cluster.push(cluster);
        self.grant.push(content.grant);
        self.leaf.push(leaf);
        self.body.push(new.encoded);
        Ok(hash)
    }

    /// Whether one of these kinds is among them, at `from` or behind it.
    pub(super) fn has_since(&self, kinds: &[Kind], from: u64) -> bool {
        let is = |number: i16| kinds.iter().any(|kind| i16::from(kind.number()) == number);
        self.idx.iter().zip(&self.kind).any(|(idx, kind)| *idx >= signed(from) && is(*kind))
    }
}

/// Locks the log's end until the transaction is over, and answers it.
pub(super) async fn lock(db: &Transaction<'_>) -> Result<End, Failure> {
    let select = db.prepare_cached("SELECT size, time, root, forgotten FROM log_head WHERE id = 1 FOR UPDATE").await?;
    let row = db.query_opt(&select, &[]).await?.ok_or_else(no_head)?;
    let (root, forgotten) = (row.try_get(2)?, row.try_get(3)?);
    Ok(End { head: head_of(Some(row))?, root, forgotten })
}

/// Appends the rows and moves the log's end to `head`, where the tree has this root.
pub(super) async fn insert(db: &Transaction<'_>, rows: &Rows, head: LogHead, root: &[u8; 32]) -> Result<(), Failure> {
    if rows.idx.is_empty() {
        return Ok(());
    }
    let leaves = "INSERT INTO leaf (idx, time, kind, person, cluster, grant_id, leaf)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[])";
    let leaves = db.prepare_cached(leaves).await?;
    let bodies = "INSERT INTO body (idx, body) SELECT * FROM unnest($1::bigint[], $2::bytea[])";
    let bodies = db.prepare_cached(bodies).await?;
    let named = db.prepare_cached(certificates::INSERT).await?;
    let end = db.prepare_cached("UPDATE log_head SET size = $1, time = $2, root = $3 WHERE id = 1").await?;
    let (size, time, root) = (signed(head.size), head.time, root.as_slice());
    let leaf_columns: [&(dyn ToSql + Sync); 7] =
        [&rows.idx, &rows.time, &rows.kind, &rows.person, &rows.cluster, &rows.grant, &rows.leaf];
    let body_columns: [&(dyn ToSql + Sync); 2] = [&rows.idx, &rows.body];
    let end_columns: [&(dyn ToSql + Sync); 3] = [&size, &time, &root];
    let (_, _, _, moved) = tokio::try_join!(
        db.execute(&leaves, &leaf_columns),
        db.execute(&bodies, &body_columns),
        rows.certificates.insert(db, &named),
        db.execute(&end, &end_columns)
    )?;
    if moved == 1 { Ok(()) } else { Err(no_head()) }
}

// === reading ===

pub(super) async fn head(db: &Object) -> Result<LogHead, Failure> {
    let select = db.prepare_cached("SELECT size, time FROM log_head WHERE id = 1").await?;
    head_of(db.query_opt(&select, &[]).await?)
}

pub(super) async fn entries(
    db: &Object,
    filter: &EntryFilter,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<StoredEntry>, Failure> {
    let Some(sought) = Sought::new(db, filter, 0, before).await? else { return Ok(Vec::new()) };
    let found = sought.walk(db, Order::NewestFirst, limit).await?;
    let mut entries = these(db, &found).await?;
    entries.reverse();
    Ok(entries)
}

pub(super) async fn entries_from(
    db: &Object,
    filter: &EntryFilter,
    from: u64,
    limit: u32,
) -> Result<Vec<StoredEntry>, Failure> {
    let Some(sought) = Sought::new(db, filter, from, None).await? else { return Ok(Vec::new()) };
    these(db, &sought.walk(db, Order::OldestFirst, limit).await?).await
}

/// The entries at these places, oldest first.
async fn these(db: &Object, places: &[i64]) -> Result<Vec<StoredEntry>, Failure> {
    let select = db
        .prepare_cached(
            "SELECT leaf.idx, leaf, body FROM leaf LEFT JOIN body ON body.idx = leaf.idx
             WHERE leaf.idx = ANY ($1) ORDER BY leaf.idx",
        )
        .await?;
    let rows = db.query(&select, &[&places]).await?;
    if rows.len() != places.len() {
        return Err(Failure::Damaged("an entry vanished between two looks".into()));
    }
    rows.iter().map(stored).collect()
}

pub(super) async fn range(db: &Object, range: &Range<u64>) -> Result<Vec<StoredEntry>, Failure> {
    let select = db
        .prepare_cached(
            "SELECT leaf.idx, leaf, body FROM leaf LEFT JOIN body ON body.idx = leaf.idx
             WHERE leaf.idx >= $1 AND leaf.idx < $2 ORDER BY leaf.idx",
        )
        .await?;
    db.query(&select, &[&signed(range.start), &signed(range.end)]).await?.iter().map(stored).collect()
}

/// As of one moment: a body that is dropped meanwhile is here with the names of its certificate, or gone with them.
pub(super) async fn indexed_range(db: &mut Object, range: &Range<u64>) -> Result<Vec<Indexed>, Failure> {
    let moment = db.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let select = moment
        .prepare_cached(
            r#"SELECT leaf.idx, leaf, body, time, kind, grant_id, log_cluster.name, provider, issuer, subject, "user"
             FROM leaf LEFT JOIN body ON body.idx = leaf.idx
                 LEFT JOIN log_person ON log_person.id = person LEFT JOIN log_cluster ON log_cluster.id = cluster
             WHERE leaf.idx >= $1 AND leaf.idx < $2 ORDER BY leaf.idx"#,
        )
        .await?;
    let rows = moment.query(&select, &[&signed(range.start), &signed(range.end)]).await?;
    let mut named = certificates::Rows::default();
    let mut contents = Vec::with_capacity(rows.len());
    for row in &rows {
        let entry = row.try_get::<_, Option<&[u8]>>(2)?.and_then(|body| Entry::decode(body).ok());
        if let Some(entry) = &entry {
            named.add(row.try_get(0)?, &entry.content);
        }
        contents.push(entry.map(|entry| entry.content));
    }
    let known = certificates::known(&moment, &named).await?;
    moment.commit().await?;
    rows.iter().zip(contents).map(|(row, content)| indexed(row, &known, content.as_ref())).collect()
}

// === impl Sought ===

impl Sought {
    /// `None` where nothing can match: no such person or cluster, or no time left between the bounds.
    async fn new(db: &Object, filter: &EntryFilter, from: u64, before: Option<u64>) -> Result<Option<Self>, Failure> {
        if has_nul([&filter.person, &filter.cluster].into_iter().flatten()) {
            return Ok(None);
        }
        let size = signed(head(db).await?.size);
        let mut range = signed(from)..before.map_or(size, signed).min(size);
        if let Some(since) = filter.since {
            range.start = first_at(db, micros(since), size).await?.max(range.start);
        }
        if let Some(until) = filter.until {
            range.end = first_at(db, micros(until), size).await?.min(range.end);
        }
        let cluster = match &filter.cluster {
            Some(name) => match names::cluster(db, name).await? {
                None => return Ok(None),
                known => known,
            },
            None => None,
        };
        let persons = names::persons(db, filter).await?;
        if range.is_empty() || persons.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let grant = filter.grant.map(|grant| grant.0.into_bytes());
        let kind = filter.kind.map(|kind| kind.number().into());
        Ok(Some(Self { persons, cluster, kind, grant, range }))
    }

    /// The first `limit` places of what is sought, in that order: the first of each stretch of one index, put together. No entry
    /// is in two stretches.
    async fn walk(&self, db: &Object, order: Order, limit: u32) -> Result<Vec<i64>, Failure> {
        // The indexes by person and by cluster have the kind between their column and the entry's place.
        let by_kind = self.grant.is_none() && (self.persons.is_some() || self.cluster.is_some());
        let kinds: Option<Vec<i16>> = match self.kind {
            None if by_kind => Some(Kind::ALL.into_iter().map(|kind| kind.number().into()).collect()),
            kind => kind.map(|kind| vec![kind]),
        };
        let limit = i64::from(limit);
        let grant = self.grant.as_ref().map(<[u8; 16]>::as_slice);
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&self.range.start, &self.range.end, &limit];
        let (mut stretches, mut conditions) = (String::from("(SELECT) AS one"), String::new());
        if let Some(grant) = &grant {
            values.push(grant);
            conditions += &format!(" AND grant_id = ${}", values.len());
        }
        if let Some(persons) = &self.persons {
            values.push(persons);
            stretches += &format!(", unnest(${}::bigint[]) AS of_person", values.len());
            conditions += " AND person = of_person";
        }
        if let Some(kinds) = &kinds {
            values.push(kinds);
            stretches += &format!(", unnest(${}::smallint[]) AS of_kind", values.len());
            conditions += " AND kind = of_kind";
        }
        if let Some(cluster) = &self.cluster {
            values.push(cluster);
            conditions += &format!(" AND cluster = ${}", values.len());
        }
        let way = match order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        let sql = format!(
            "SELECT place.idx FROM {stretches}, LATERAL (
                 SELECT idx FROM leaf WHERE idx >= $1 AND idx < $2{conditions} ORDER BY idx {way} LIMIT $3
             ) AS place ORDER BY place.idx {way} LIMIT $3"
        );
        let select = db.prepare_cached(&sql).await?;
        db.query(&select, &values).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

/// The place of the first entry at or after `time`; `size` where there is none.
async fn first_at(db: &Object, time: i64, size: i64) -> Result<i64, Failure> {
    let select = db
        .prepare_cached(
            "WITH RECURSIVE bisected (low, high) AS (
                 SELECT 0::bigint, $2::bigint
                 UNION ALL
                 SELECT CASE WHEN leaf.time < $1 THEN leaf.idx + 1 ELSE low END,
                     CASE WHEN leaf.time < $1 THEN high ELSE leaf.idx END
                 FROM bisected JOIN leaf ON leaf.idx = low + (high - low) / 2 WHERE low < high
             ) SELECT low FROM bisected WHERE low >= high",
        )
        .await?;
    match db.query_opt(&select, &[&time, &size]).await? {
        Some(row) => Ok(row.try_get(0)?),
        None => Err(Failure::Damaged(format!("an entry before {size} is missing"))),
    }
}

fn head_of(row: Option<Row>) -> Result<LogHead, Failure> {
    let row = row.ok_or_else(no_head)?;
    Ok(LogHead { size: unsigned(row.try_get(0)?)?, time: row.try_get(1)? })
}

fn no_head() -> Failure {
    Failure::Damaged("the row of the log's end is missing".into())
}

pub(super) fn stored(row: &Row) -> Result<StoredEntry, Failure> {
    Ok(StoredEntry { index: unsigned(row.try_get(0)?)?, leaf: row.try_get(1)?, body: row.try_get(2)? })
}

fn indexed(row: &Row, known: &HashSet<(i64, i64)>, content: Option<&Content>) -> Result<Indexed, Failure> {
    let person = match row.try_get(7)? {
        Some(provider) => Some([provider, row.try_get(8)?, row.try_get(9)?, row.try_get(10)?]),
        None => None,
    };
    let kind =
        u8::try_from(row.try_get::<_, i16>(4)?).map_err(|_| Failure::Damaged("a kind has no such number".into()))?;
    let index = row.try_get(0)?;
    let names = content.map_or(0, |content| certificates::count(known, index, content));
    let columns = Columns { kind, person, cluster: row.try_get(6)?, grant: row.try_get(5)?, names };
    Ok(Indexed { entry: stored(row)?, time: row.try_get(3)?, columns })
}
