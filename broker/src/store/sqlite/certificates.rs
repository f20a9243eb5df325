//! Certificates by serial number or fingerprint: a table of 32-bit prefixes, whose candidates are compared with the body.

use ichor_wire::log::{Content, Entry};
use rusqlite::Connection;

use crate::store::rows::{bare, certificate_names, stray_name};

use super::{Failure, StoredEntry, log};
use crate::store::value::signed;

/// Notes the names of the certificate that entry `index` is about, if it is about one.
pub(super) fn insert(db: &Connection, index: u64, content: &Content) -> Result<(), Failure> {
    for name in certificate_names(content) {
        // both names may begin alike, and then the one row is stored twice
        db.prepare_cached(
            "INSERT INTO certificate (prefix, idx) VALUES (?1, ?2) ON CONFLICT (prefix, idx) DO UPDATE SET idx = excluded.idx",
        )?
        .execute((prefix(name), signed(index)))
        .map(log::is_stored)??;
    }
    Ok(())
}

/// Forgets them.
pub(super) fn forget(db: &Connection, index: u64, content: &Content) -> Result<(), Failure> {
    for name in certificate_names(content) {
        db.prepare_cached("DELETE FROM certificate WHERE prefix = ?1 AND idx = ?2")?
            .execute((prefix(name), signed(index)))?;
    }
    Ok(())
}

/// How many names of the entry lead to it.
pub(super) fn count(db: &Connection, index: u64, content: &Content) -> Result<usize, Failure> {
    let mut one = db.prepare_cached("SELECT 1 FROM certificate WHERE prefix = ?1 AND idx = ?2")?;
    let mut count = 0;
    for name in certificate_names(content) {
        count += usize::from(one.exists((prefix(name), signed(index)))?);
    }
    Ok(count)
}

/// The entries of certificates of this name, oldest first.
pub(super) fn issued_as(db: &Connection, name: &[u8]) -> Result<Vec<StoredEntry>, Failure> {
    let name = bare(name);
    let mut candidates = db.prepare_cached("SELECT idx FROM certificate WHERE prefix = ?1 ORDER BY idx")?;
    let mut found = Vec::new();
    for index in candidates.query_map([prefix(name)], |row| row.get(0))? {
        let entry = log::one(db, index?)?;
        let body = entry.body.as_deref().and_then(|body| Entry::decode(body).ok());
        if body.is_some_and(|body| certificate_names(&body.content).any(|own| own == name)) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// The first row that leads to an entry of the log without such a name, or to none that has a body. Row by row, in one statement.
pub(super) fn stray(db: &Connection) -> Result<Option<String>, Failure> {
    let mut all = db.prepare(
        "SELECT prefix, certificate.idx, body FROM certificate LEFT JOIN body ON body.idx = certificate.idx
         WHERE certificate.idx < (SELECT coalesce(max(idx) + 1, 0) FROM leaf)
         ORDER BY prefix, certificate.idx",
    )?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let (first, index): (i64, i64) = (row.get(0)?, row.get(1)?);
        // no body is no blob
        let entry = row.get_ref(2)?.as_blob().ok().and_then(|body| Entry::decode(body).ok());
        let is_named = |entry: Entry| certificate_names(&entry.content).any(|name| i64::from(prefix(name)) == first);
        if !entry.is_some_and(is_named) {
            return Ok(Some(stray_name(first, index)));
        }
    }
    Ok(None)
}

/// Notes the names of all certificates of a log that was written before this table was.
pub(super) fn fill(db: &Connection) -> Result<(), Failure> {
    let issued = ichor_wire::log::Kind::Issued.number();
    let mut all = db.prepare("SELECT body.idx, body FROM leaf JOIN body ON body.idx = leaf.idx WHERE kind = ?1")?;
    let mut rows = all.query([issued])?;
    while let Some(row) = rows.next()? {
        // one that cannot be read is for verification to find
        if let Ok(entry) = Entry::decode(row.get_ref(1)?.as_blob().unwrap_or_default()) {
            insert(db, crate::store::value::unsigned(row.get(0)?)?, &entry.content)?;
        }
    }
    Ok(())
}

/// The first 32 bits; fewer where the name is shorter.
fn prefix(name: &[u8]) -> u32 {
    name.iter().take(4).fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}
