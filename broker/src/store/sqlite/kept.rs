//! Calls that nodes told of: kept with their entry, dropped beyond the quota.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Params};

use crate::store::calls::{Call, CallsTaken, NodeHeld};
use crate::store::quota::{self, Dropped, Takes};

use super::Failure;
use super::drops;
use super::log;
use super::names::Names;
use crate::store::value::{micros, signed, time, unsigned};

// === writing ===

/// Keeps the calls under the entry at `batch`, and drops what is beyond `most`, in bounded steps.
pub(super) fn keep(db: &Connection, names: &mut Names, batch: u64, calls: &[Call], most: u64) -> Result<(), Failure> {
    let next = next(db)?;
    let mut held = BTreeMap::<i64, i64>::new();
    // a batch names few nodes and persons many times
    let (mut nodes, mut persons) = (HashMap::new(), HashMap::new());
    let mut insert = db.prepare_cached(
        "INSERT INTO call (id, batch, node, service, method, code, started, duration, roles, owner, user, grant_id, peer,
             class, why, entry)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    for (place, call) in (next..).zip(calls) {
        let node = once(&mut nodes, (&call.cluster, &call.node), || names.node(db, &call.cluster, &call.node))?;
        let method = names.method(db, &call.method)?;
        let (owner, user) = match (&call.owner, &call.user) {
            (Some(owner), Some(user)) => {
                (Some(once(&mut persons, (owner, user), || names.person(db, &owner.logged("", user)))?), None)
            }
            (None, Some(user)) => (None, Some(names.user(db, user)?)),
            (_, None) => (None, None),
        };
        let row: [&dyn ToSql; 16] = [
            &place,
            &signed(batch),
            &node,
            &call.service.number(),
            &method,
            &call.code,
            &micros(call.started),
            &call.duration,
            &call.roles,
            &owner,
            &user,
            &call.grant.map(|grant| grant.0.into_bytes()),
            &call.peer,
            &call.class.number(),
            &call.why,
            &call.entry.map(signed),
        ];
        insert.execute(row.as_slice()).map(log::is_stored)??;
        *held.entry(node).or_default() += 1;
    }
    let mut more = db.prepare_cached("UPDATE call_node SET held = held + ?2 WHERE id = ?1")?;
    for count in held {
        more.execute(count)?;
    }
    let held = db.prepare_cached("SELECT coalesce(sum(held), 0) FROM call_node")?.query_row([], |row| row.get(0))?;
    match quota::beyond(held, most, calls.len()) {
        0 => Ok(()),
        beyond => take(db, names, beyond),
    }
}

/// The number that is known for this key, or else what `find` answers.
fn once<K: Eq + Hash>(
    known: &mut HashMap<K, i64>,
    key: K,
    find: impl FnOnce() -> Result<i64, Failure>,
) -> Result<i64, Failure> {
    match known.entry(key) {
        Entry::Occupied(known) => Ok(*known.get()),
        Entry::Vacant(new) => Ok(*new.insert(find()?)),
    }
}

/// The id that comes next.
fn next(db: &Connection) -> Result<i64, Failure> {
    let newest: Option<i64> = db
        .prepare_cached("SELECT id FROM call ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(newest.map_or(0, |newest| newest.saturating_add(1)))
}

/// Drops the oldest calls of the nodes that hold most, `beyond` in all, and the names that no call has any more.
fn take(db: &Connection, names: &mut Names, beyond: i64) -> Result<(), Failure> {
    let held = rows(db, "SELECT id, held FROM call_node", [])?;
    let Takes { of, one_of, above } = quota::takes(held, beyond);
    let mut dropped = Dropped::default();
    for (node, count) in of {
        drop_oldest(db, node, count, &mut dropped)?;
    }
    let one = rows(
        db,
        "SELECT id, 1 FROM call_node WHERE held > ?1
         ORDER BY (SELECT min(id) FROM call INDEXED BY call_by_arrival WHERE node = call_node.id) LIMIT ?2",
        (above, one_of),
    )?;
    for (node, count) in one {
        drop_oldest(db, node, count, &mut dropped)?;
    }
    note_taken(db, &dropped)?;
    let unused = [
        ("DELETE FROM call_node WHERE id = ?1 AND held <= 0", dropped.nodes.into_keys().collect::<BTreeSet<_>>()),
        (
            "DELETE FROM call_method WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM call WHERE method = ?1)",
            dropped.methods,
        ),
        ("DELETE FROM call_user WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM call WHERE user = ?1)", dropped.users),
    ];
    let mut gone = 0;
    for (sql, ids) in unused {
        let mut delete = db.prepare_cached(sql)?;
        for id in ids {
            gone += delete.execute([id])?;
        }
    }
    if gone > 0 {
        names.forget_calls();
    }
    drops::forget(db, names, dropped.owners)
}

/// Drops the `count` oldest calls of one node. Where it holds fewer than was written down, that is put right.
fn drop_oldest(db: &Connection, node: i64, count: i64, dropped: &mut Dropped) -> Result<(), Failure> {
    let mut taken = 0;
    let mut delete = db.prepare_cached(
        "DELETE FROM call WHERE id IN
             (SELECT id FROM call INDEXED BY call_by_arrival WHERE node = ?1 ORDER BY id LIMIT ?2)
         RETURNING method, user, owner, batch",
    )?;
    for row in delete.query_map((node, count), |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?], row.get(3)?)))? {
        let (method, whose, batch): (i64, [Option<i64>; 2], i64) = row?;
        dropped.count(node, method, whose, batch);
        taken += 1;
    }
    if taken == count {
        db.prepare_cached("UPDATE call_node SET held = held - ?2 WHERE id = ?1")?.execute((node, count))?;
    } else {
        let count = "UPDATE call_node SET held = (SELECT count(*) FROM call WHERE node = ?1) WHERE id = ?1";
        db.prepare_cached(count)?.execute([node])?;
        dropped.nodes.entry(node).or_default();
    }
    Ok(())
}

/// Notes what was taken of each cluster, and when the youngest of it had come: at the time of its entry. That of the change at hand is not
/// written yet, and is as old as the one before at least.
fn note_taken(db: &Connection, dropped: &Dropped) -> Result<(), Failure> {
    let mut note = db.prepare_cached(
        "INSERT INTO call_taken (cluster, calls, youngest)
         SELECT cluster, ?2, coalesce((SELECT time FROM leaf WHERE idx <= ?3 ORDER BY idx DESC LIMIT 1), 0)
         FROM call_node WHERE id = ?1
         ON CONFLICT (cluster) DO UPDATE SET calls = calls + excluded.calls,
             youngest = max(youngest, excluded.youngest)",
    )?;
    for (node, (calls, newest)) in &dropped.nodes {
        note.execute((node, calls, newest))?;
    }
    Ok(())
}

// === reading ===

pub(super) fn held(db: &Connection) -> Result<Vec<NodeHeld>, Failure> {
    db.prepare_cached(
        "SELECT call_node.cluster, call_node.name, held, call.id, call.batch FROM call_node JOIN call ON call.id =
             (SELECT min(id) FROM call INDEXED BY call_by_arrival WHERE node = call_node.id)
         ORDER BY call_node.cluster, call_node.name",
    )?
    .query_and_then([], |row| {
        Ok(NodeHeld {
            cluster: row.get(0)?,
            node: row.get(1)?,
            calls: unsigned(row.get(2)?)?,
            oldest: unsigned(row.get(3)?)?,
            batch: unsigned(row.get(4)?)?,
        })
    })?
    .collect()
}

pub(super) fn taken(db: &Connection) -> Result<Vec<CallsTaken>, Failure> {
    db.prepare_cached("SELECT cluster, calls, youngest FROM call_taken ORDER BY cluster")?
        .query_and_then([], |row| {
            let calls = unsigned(row.get(1)?)?;
            Ok(CallsTaken { cluster: row.get(0)?, calls, youngest: time(row.get(2)?)? })
        })?
        .collect()
}

/// Pairs of numbers.
fn rows(db: &Connection, sql: &str, values: impl Params) -> Result<Vec<(i64, i64)>, Failure> {
    let mut select = db.prepare_cached(sql)?;
    let rows = select.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
