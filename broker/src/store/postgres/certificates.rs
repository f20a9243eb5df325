//! Certificates by serial number or fingerprint: a table of 32-bit prefixes, whose candidates are compared with the body.

use std::collections::HashSet;
use std::ops::ControlFlow;

use deadpool_postgres::Object;
use ichor_wire::log::{Content, Entry, Kind};
use tokio_postgres::Transaction;

use crate::store::rows::{bare, certificate_names, stray_name};

use super::{Failure, StoredEntry, log};

/// So many bodies are read at once to fill the table.
const AT_ONCE: i64 = 5_000;

/// So many rows are looked at by one statement of [`stray`], each with a body.
const STRETCH: usize = 1_000;

/// A row of the table: prefix and entry, in the order of its key.
pub(super) type Place = (i64, i64);

/// The table's beginning.
pub(super) const FIRST: Place = (i64::MIN, i64::MIN);

/// Rows of the table, column by column.
#[derive(Debug, Default)]
pub(super) struct Rows {
    prefix: Vec<i64>,
    idx: Vec<i64>,
}

// === impl Rows ===

impl Rows {
    /// Adds the names of the certificate that entry `index` is about, if it is about one.
    pub(super) fn add(&mut self, index: i64, content: &Content) {
        for name in certificate_names(content) {
            self.prefix.push(prefix(name));
            self.idx.push(index);
        }
    }

    /// The same from a body. One that cannot be read is for verification to find.
    pub(super) fn add_body(&mut self, index: i64, body: &[u8]) {
        if let Ok(entry) = Entry::decode(body) {
            self.add(index, &entry.content);
        }
    }

    /// The prefixes, and the entry of each.
    pub(super) fn columns(&self) -> (&Vec<i64>, &Vec<i64>) {
        (&self.prefix, &self.idx)
    }

    pub(super) async fn insert(
        &self,
        db: &Transaction<'_>,
        sql: &tokio_postgres::Statement,
    ) -> Result<u64, tokio_postgres::Error> {
        if self.idx.is_empty() { Ok(0) } else { db.execute(sql, &[&self.prefix, &self.idx]).await }
    }
}

/// The statement that [`Rows::insert`] takes.
pub(super) const INSERT: &str =
    "INSERT INTO certificate (prefix, idx) SELECT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT DO NOTHING";

/// Which names of these certificates lead to their entries.
pub(super) async fn known(
    db: &deadpool_postgres::Transaction<'_>,
    rows: &Rows,
) -> Result<HashSet<(i64, i64)>, Failure> {
    if rows.idx.is_empty() {
        return Ok(HashSet::new());
    }
    let select = db
        .prepare_cached(
            "SELECT prefix, idx FROM certificate
             JOIN unnest($1::bigint[], $2::bigint[]) AS sought (prefix, idx) USING (prefix, idx)",
        )
        .await?;
    let found = db.query(&select, &[&rows.prefix, &rows.idx]).await?;
    found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// How many names of the entry lead to it, by what is [`known`].
pub(super) fn count(known: &HashSet<(i64, i64)>, index: i64, content: &Content) -> usize {
    certificate_names(content).filter(|name| known.contains(&(prefix(name), index))).count()
}

/// The entries of certificates of this name, oldest first.
pub(super) async fn issued_as(db: &Object, name: &[u8]) -> Result<Vec<StoredEntry>, Failure> {
    let name = bare(name);
    let select = db
        .prepare_cached(
            "SELECT leaf.idx, leaf, body FROM certificate JOIN leaf ON leaf.idx = certificate.idx
                 LEFT JOIN body ON body.idx = leaf.idx
             WHERE prefix = $1 ORDER BY leaf.idx",
        )
        .await?;
    let mut found = Vec::new();
    for row in db.query(&select, &[&prefix(name)]).await? {
        let entry = log::stored(&row)?;
        let body = entry.body.as_deref().and_then(|body| Entry::decode(body).ok());
        if body.is_some_and(|body| certificate_names(&body.content).any(|own| own == name)) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// The first row from `from` on that leads to an entry of the log without such a name, or to none that has a body; where a stretch has none, the row
/// that the next begins with.
pub(super) async fn stray(db: &Object, from: Place) -> Result<ControlFlow<Option<String>, Place>, Failure> {
    // each body by its key, however the planner would join the tables
    let select = format!(
        "SELECT prefix, idx, (SELECT body.body FROM body WHERE body.idx = certificate.idx) FROM certificate
         WHERE (prefix, idx) >= ($1::bigint, $2::bigint) AND idx < (SELECT size FROM log_head WHERE id = 1)
         ORDER BY prefix, idx LIMIT {STRETCH}"
    );
    let select = db.prepare_cached(&select).await?;
    let rows = db.query(&select, &[&from.0, &from.1]).await?;
    let mut last = from;
    for row in &rows {
        last = (row.try_get(0)?, row.try_get(1)?);
        let entry = row.try_get::<_, Option<&[u8]>>(2)?.and_then(|body| Entry::decode(body).ok());
        let is_named = |entry: Entry| certificate_names(&entry.content).any(|name| prefix(name) == last.0);
        if !entry.is_some_and(is_named) {
            return Ok(ControlFlow::Break(Some(stray_name(last.0, last.1))));
        }
    }
    Ok(match rows.len() < STRETCH {
        true => ControlFlow::Break(None),
        // without its key there can be more of the same than a stretch
        false if last == from => ControlFlow::Break(Some(stray_name(last.0, last.1))),
        false => ControlFlow::Continue(last),
    })
}

/// Notes the names of all certificates of a log that was written before this table was.
pub(super) async fn fill(db: &Transaction<'_>) -> Result<(), Failure> {
    let insert = db.prepare(INSERT).await?;
    let select = db
        .prepare(
            "SELECT body.idx, body FROM leaf JOIN body ON body.idx = leaf.idx
             WHERE kind = $1 AND leaf.idx > $2 ORDER BY leaf.idx LIMIT $3",
        )
        .await?;
    let issued = i16::from(Kind::Issued.number());
    let mut last = -1_i64;
    loop {
        let found = db.query(&select, &[&issued, &last, &AT_ONCE]).await?;
        let mut rows = Rows::default();
        for row in &found {
            last = row.try_get(0)?;
            rows.add_body(last, row.try_get(1)?);
        }
        if found.is_empty() {
            return Ok(());
        }
        rows.insert(db, &insert).await?;
    }
}

/// The first 32 bits; fewer where the name is shorter.
fn prefix(name: &[u8]) -> i64 {
    name.iter().take(4).fold(0, |sum, byte| (sum << 8) | i64::from(*byte))
}
