//! One batch of the sequencer: entries and the state changes that stand or fall with them.
//!
//! The transaction begins by locking the row of the log's end. Brokers' batches so follow each other, each onto the log as the
//! one before left it. A broker that stops while it holds the lock loses its transaction to the server's timeout; when it goes
//! on, its commit fails.

use std::sync::Arc;

use deadpool_postgres::{Object, Transaction};
use futures_util::future::try_join_all;
use ichor_wire::log::tree::Edge;
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::IsolationLevel;

use crate::store::{Change, Condition};

use super::change::Changes;
use super::log::{self, Rows};
use super::names::Names;
use super::{Append, Appended, Committed, Failure, Grown, StoredCheckpoint, drops, kept, tree};

/// What is known of the log before a batch.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// How many entries the log had at least.
    pub(super) seen: u64,
    /// The tree's edge after this broker's last batch; an empty one where there was none.
    pub(super) edge: Edge,
    pub(super) names: Names,
    /// How far an entry's time may lie behind the newest one's.
    pub(super) skew: SignedDuration,
}

/// How an entry's time fits behind the log's newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It is as new, or newer.
    Ahead,
    /// It was a little behind, and has the newest one's time now.
    Retimed,
    /// It lies too far behind.
    Late,
}

/// Beyond so many entries of others since the last batch their tiles are not gathered: nobody waits for a proof over them.
const GATHERED: u64 = 1 << 16;

/// Writes the batch in order and answers with what became of each part, the tree after it, and the names that are known to be in the
/// database with it.
pub(super) async fn batch(
    db: &mut Object,
    mut batch: Vec<Append>,
    checkpoint: Option<&StoredCheckpoint>,
    Known { seen, mut edge, mut names, skew }: Known,
) -> Result<(Committed, Names), Failure> {
    let transaction = db.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    // before the lock: on a new connection these are several trips
    let changes = Changes::prepare(&transaction).await?;
    let log::End { mut head, root, mut forgotten } = log::lock(&transaction).await?;
    if head.size < seen {
        return Err(Failure::Damaged(format!(
            "the log has {} entries where this broker has seen {seen}; restore the database that it was writing to",
            head.size
        )));
    }
    let mut tiles = Vec::new();
    if edge.size() != head.size {
        // others have appended since: their tiles prove, with ours, what came in before
        if edge.size() > 0 && head.size - edge.size() <= GATHERED {
            tiles = tree::between(&transaction, edge.size(), head.size).await?;
        }
        let plain: &tokio_postgres::Transaction<'_> = &transaction;
        edge = tree::edge(plain, head.size).await?;
    }
    if root.is_some_and(|root| root != edge.root()) {
        return Err(Failure::Damaged(format!(
            "the log's tree has another root at {} entries than this broker knows; restore the database that it was writing to",
            head.size
        )));
    }
    let fits = in_order(&mut batch, head.time, skew)?;
    let concerned = drops::concerned(&transaction, &batch).await?;
    let refused = refusals(&transaction, &changes, &batch, &fits).await?;
    if drops::forget(&transaction, &concerned).await? {
        forgotten = forgotten.saturating_add(1);
    }
    names.keep_if_learned_at(forgotten);
    names.learn(&transaction, batch.iter().map(|part| &part.entry.entry.content)).await?;

    let mut owners = std::collections::BTreeSet::new();
    let (mut parts, mut rows, mut completed) = (Vec::with_capacity(batch.len()), Rows::default(), Vec::new());
    for ((part, refused), fit) in batch.into_iter().zip(refused).zip(fits) {
        let refused = refused.or_else(|| match &part.change {
            Some(Change::AsRead { kinds, from }) => rows.has_since(kinds, *from).then_some(Condition::Stale),
            _ => None,
        });
        parts.push(match refused {
            Some(condition) => Appended::Refused(condition),
            None => {
                let index = head.size;
                if let Some(Change::CallsKept { calls, most }) = &part.change {
                    owners.extend(kept::keep(&transaction, index, calls, *most).await?);
                }
                head.size += 1;
                head.time = part.entry.entry.time;
                let retimed = (fit == Fit::Retimed).then(|| part.entry.encoded.clone());
                let leaf_hash = rows.add(&names, index, part.entry)?;
                completed.extend(edge.push(leaf_hash));
                Appended::Recorded { index, leaf_hash, retimed }
            }
        });
    }
    log::insert(&transaction, &rows, head, &edge.root()).await?;
    // only now do the batch's own entries keep those whom they name
    if drops::forget(&transaction, &Vec::from_iter(owners)).await? {
        names.keep_if_learned_at(forgotten.saturating_add(1));
    }
    tree::insert(&transaction, &completed).await?;
    if let Some(checkpoint) = checkpoint {
        tree::keep(&transaction, checkpoint).await?;
    }
    transaction.commit().await?;
    tiles.extend(completed);
    Ok((Committed { parts, tree: Arc::new(Grown { edge, tiles }) }, names))
}

/// Gives an entry that lies at most `skew` before the newest one the newest one's time: the clocks of several brokers never agree
/// to the microsecond, and the log's times never decrease. Answers how each part fits.
fn in_order(batch: &mut [Append], newest: i64, skew: SignedDuration) -> Result<Vec<Fit>, Failure> {
    let skew = i64::try_from(skew.as_micros()).unwrap_or(i64::MAX);
    let mut newest = newest;
    let mut fits = Vec::with_capacity(batch.len());
    for part in batch {
        let entry = &mut part.entry.entry;
        if entry.time >= newest {
            newest = entry.time;
            fits.push(Fit::Ahead);
        } else if entry.time < newest.saturating_sub(skew) {
            fits.push(Fit::Late);
        } else {
            fits.push(Fit::Retimed);
            entry.time = newest;
            part.entry.encoded = entry.encode().map_err(|error| Failure::Server(error.to_string()))?;
            let at = Timestamp::from_microsecond(newest).map_err(|error| Failure::Damaged(error.to_string()))?;
            part.change = part.change.take().map(|change| change.at(at));
        }
    }
    Ok(fits)
}

/// Makes the parts' changes, in order, and answers the condition of each part that failed.
async fn refusals(
    db: &Transaction<'_>,
    changes: &Changes,
    batch: &[Append],
    fits: &[Fit],
) -> Result<Vec<Option<Condition>>, Failure> {
    // Polled in their order, so sent in their order, and the server takes them one after the other.
    try_join_all(batch.iter().zip(fits).map(|(part, fit)| async move {
        match (&part.change, fit) {
            (_, Fit::Late) => Ok(Some(Condition::ClockWentBack)),
            (None, _) => Ok(None),
            (Some(change), _) => Ok(changes.make(db, change).await?.err()),
        }
    }))
    .await
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::{Entry, Kind};

    use super::*;
    use crate::store::conformance::{after, keys, noon, note, session};

    #[test]
    fn an_entry_a_little_behind_takes_the_newest_time_and_its_change_too() {
        let grant = Change::GrantMade {
            session: session(1).id,
            now: after(-1),
            not_after: after(60),
            using: None,
            keys: keys(),
        };
        let mut batch = vec![
            Append { change: Some(grant), ..note(Kind::Grant, after(-1)) },
            note(Kind::Start, after(3)),
            note(Kind::Start, after(1)),
            note(Kind::Start, after(-8)),
        ];
        let fits = in_order(&mut batch, noon().as_microsecond(), SignedDuration::from_secs(10)).unwrap();
        assert_eq!(fits, [Fit::Retimed, Fit::Ahead, Fit::Retimed, Fit::Late]);
        let times: Vec<_> = batch.iter().map(|part| part.entry.entry.time).collect();
        assert_eq!(times, [noon(), after(3), after(3), after(-8)].map(Timestamp::as_microsecond));
        for part in &batch {
            assert_eq!(Entry::decode(&part.entry.encoded).unwrap(), part.entry.entry, "what is hashed says so too");
        }
        let Some(Change::GrantMade { now, .. }) = batch[0].change else { panic!("{:?}", batch[0].change) };
        assert_eq!(now, noon(), "held against the entry's time");
    }

    #[test]
    fn without_skew_no_entry_lies_behind() {
        let mut batch = vec![note(Kind::Start, noon()), note(Kind::Start, after(-1))];
        let fits = in_order(&mut batch, noon().as_microsecond(), SignedDuration::ZERO).unwrap();
        assert_eq!(fits, [Fit::Ahead, Fit::Late]);
    }
}
