//! One batch of the sequencer: entries and the state changes that stand or fall with them.

use std::sync::Arc;

use ichor_wire::log::tree::Edge;
use rusqlite::{Connection, Transaction};

use super::locks::Approved;
use super::names::Names;
use super::{
    Append, Appended, Committed, Failure, Grown, LogHead, StoredCheckpoint, break_glass, devices, drops, kept, locks,
    log, logins, sessions, tree,
};
use crate::store::value::micros;
use crate::store::{Change, Condition};

/// What the thread knows of the log before a batch. There is no other writer, so it is all that there is.
#[derive(Debug)]
pub(super) struct Known {
    /// How many entries the log has.
    pub(super) seen: u64,
    /// The tree's edge; `None` before it was first read.
    pub(super) edge: Option<Edge>,
    /// The edge after a batch of which it is not known whether it was committed.
    pub(super) doubtful: Option<Edge>,
}

/// Writes the batch in order to the log with this edge, and answers with what became of each part, and the tree after it.
pub(super) fn batch(
    db: &Transaction<'_>,
    names: &mut Names,
    batch: &[Append],
    checkpoint: Option<&StoredCheckpoint>,
    mut edge: Edge,
) -> Result<Committed, Failure> {
    let mut head = log::head(db)?;
    let mut tiles = Vec::new();
    let mut parts = Vec::with_capacity(batch.len());
    for part in batch {
        parts.push(match refusal(db, names, part, head)? {
            Some(condition) => Appended::Refused(condition),
            None => {
                let (index, leaf_hash) = (head.size, log::insert(db, names, head.size, &part.entry)?);
                head.size += 1;
                head.time = part.entry.entry.time;
                for tile in edge.push(leaf_hash) {
                    tree::insert(db, &tile)?;
                    tiles.push(tile);
                }
                Appended::Recorded { index, leaf_hash, retimed: None }
            }
        });
    }
    if let Some(checkpoint) = checkpoint {
        tree::keep(db, checkpoint)?;
    }
    Ok(Committed { parts, tree: Arc::new(Grown { edge, tiles }) })
}

impl Known {
    /// The edge to append to. Entries that this process did not append are somebody else's, whom the
    /// writer lock keeps out if they are a broker: nothing is appended to them, so nothing is signed that has them.
    pub(super) fn edge(self, db: &Connection) -> Result<Edge, Failure> {
        let size = log::head(db)?.size;
        let Self { seen, edge, doubtful } = self;
        if let Some(doubtful) = doubtful.filter(|doubtful| doubtful.size() == size && size != seen) {
            return match tree::edge(db, size)? == doubtful {
                true => Ok(doubtful),
                false => Err(Failure::Damaged(format!(
                    "the log's last entries, up to {size}, are not this broker's; {RESTORE}"
                ))),
            };
        }
        if size != seen {
            let what = if size < seen { "has lost entries" } else { "has entries of somebody else" };
            return Err(Failure::Damaged(format!(
                "the log has {size} entries where this broker knows {seen}: it {what}; {RESTORE}"
            )));
        }
        edge.map_or_else(|| tree::edge(db, size), Ok)
    }
}

/// What to do about a log that somebody else wrote to.
const RESTORE: &str =
    "nothing is recorded; find out who writes the database, and restore the one that this broker was writing to";

/// Makes the part's change, or undoes what it began and answers the condition that failed.
fn refusal(
    db: &Transaction<'_>,
    names: &mut Names,
    part: &Append,
    head: LogHead,
) -> Result<Option<Condition>, Failure> {
    if part.entry.entry.time < head.time {
        return Ok(Some(Condition::ClockWentBack));
    }
    let Some(change) = &part.change else { return Ok(None) };
    db.prepare_cached("SAVEPOINT part")?.execute([])?;
    let made = match make(db, names, change, head.size) {
        Err(Failure::Sqlite(error)) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
            // The row is there already, so it is not what this writer took it for; the others need not suffer.
            Err(Condition::Stale)
        }
        made => made?,
    };
    if made.is_err() {
        db.prepare_cached("ROLLBACK TO part")?.execute([])?;
        if matches!(change, Change::CallsKept { .. }) {
            // what it numbered is undone, and the numbers may be given to other names
            *names = Names::default();
        }
    }
    db.prepare_cached("RELEASE part")?.execute([])?;
    Ok(made.err())
}

/// Makes the change that commits with the entry at `index`.
fn make(
    db: &Transaction<'_>,
    names: &mut Names,
    change: &Change,
    index: u64,
) -> Result<Result<(), Condition>, Failure> {
    let (done, otherwise) = match change {
        Change::SessionCreate { session, code_hash, now } => {
            let now = micros(*now);
            if locks::stops_login(db, &session.person, now)? {
                return Ok(Err(Condition::Locked));
            }
            let consumed = logins::consume(db, code_hash, now)? || devices::consume(db, code_hash, now)?;
            if consumed {
                sessions::create(db, session)?;
            }
            (consumed, Condition::CodeGone)
        }
        Change::SessionEnd { session, now } => (sessions::end(db, *session, micros(*now))?, Condition::SessionEnded),
        Change::SessionRefresh { session, version, groups, groups_at, refresh_sealed, tag, now } => {
            let now = micros(*now);
            let told = (groups.as_slice(), *groups_at, *tag);
            let done = sessions::refresh(db, *session, *version, told, refresh_sealed.as_deref(), now)?;
            let live = done || sessions::is_live(db, *session, now)?;
            (done, if live { Condition::Stale } else { Condition::SessionEnded })
        }
        Change::GrantMade { session, now, not_after, using, keys } => {
            if !sessions::is_live(db, *session, micros(*now))? {
                (false, Condition::SessionEnded)
            } else if now >= not_after {
                (false, Condition::GrantOver)
            } else if locks::stops(db, keys, micros(*now))? {
                (false, Condition::Locked)
            } else {
                return using.as_ref().map_or(Ok(Ok(())), |using| break_glass::take(db, using, *now));
            }
        }
        Change::CertificateMade { keys, now } => {
            let grant = |grant| locks::stops_approver(db, Approved::UsedBy(grant), micros(*now));
            let stopped = locks::stops(db, keys, micros(*now))? || keys.grant.map_or(Ok(false), grant)?;
            let issued = |grant| break_glass::issued(db, grant, micros(*now));
            match stopped {
                true => (false, Condition::Locked),
                false => (keys.grant.map_or(Ok(true), issued)?, Condition::RequestMoved),
            }
        }
        Change::BreakGlass { keys: Some(keys), now, .. } if locks::stops(db, keys, micros(*now))? => {
            (false, Condition::Locked)
        }
        Change::BreakGlass { change, now, .. } => return break_glass::change(db, change, *now),
        Change::Lock { change, now } => return locks::change(db, change, *now),
        Change::DropAsk { keys, now, .. } | Change::BodyDrop { keys, now, .. }
            if locks::stops(db, keys, micros(*now))? =>
        {
            (false, Condition::Locked)
        }
        Change::DropAsk { request, .. } => {
            drops::ask(db, request)?;
            return Ok(Ok(()));
        }
        Change::BodyDrop { request, approver, places, min_age, next, done, now, .. } => {
            let (request, min_age, next, done, now) = (*request, *min_age, *next, *done, *now);
            return drops::run(db, names, &drops::Drop { request, approver, places, min_age, next, done, now });
        }
        Change::AsRead { kinds, from } => (!log::has_since(db, kinds, *from)?, Condition::Stale),
        Change::CallsKept { calls, most } => {
            kept::keep(db, names, index, calls, *most)?;
            (true, Condition::Stale)
        }
    };
    Ok(if done { Ok(()) } else { Err(otherwise) })
}
