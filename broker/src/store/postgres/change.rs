//! State changes within a batch. Each is written by one statement that does all of it or nothing, so that a failed condition leaves
//! nothing to undo, and a batch's statements can be sent without waiting for each answer. What reads before it writes (locks, bodies)
//! or keeps calls has several, and those of later parts may come between.
//!
//! Sessions are made here alone, under the lock of the log's end: what a statement finds missing stays missing.

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use crate::domain::PageUse;
use crate::store::{Call, Change, Condition};

use super::break_glass::Statements;
use super::nul::has_nul;
use super::sessions::{COLUMNS, LIVE};
use super::{Failure, drops, locks};
use crate::store::value::{groups_text, micros, signed};

/// The statements, prepared.
pub(super) struct Changes {
    create: tokio_postgres::Statement,
    end: tokio_postgres::Statement,
    refresh: tokio_postgres::Statement,
    live: tokio_postgres::Statement,
    certificate: tokio_postgres::Statement,
    has_since: tokio_postgres::Statement,
    locks: locks::Statements,
    break_glass: Statements,
}

// === impl Changes ===

impl Changes {
    /// Prepares the statements, which costs nothing where the connection has them.
    pub(super) async fn prepare(db: &Transaction<'_>) -> Result<Self, Failure> {
        let create = format!(
            "WITH twin AS (SELECT FROM session WHERE id = $1 OR token_hash = $2),
                locked AS (SELECT WHERE {}),
                known AS (SELECT FROM login WHERE code_hash = $20 AND expires_at > $21
                    UNION ALL SELECT FROM device WHERE device_hash = $20 AND expires_at > $21),
                browser AS (DELETE FROM login WHERE code_hash = $20 AND expires_at > $21
                    AND NOT EXISTS (SELECT FROM twin) AND NOT EXISTS (SELECT FROM locked) RETURNING 1),
                device_too AS (DELETE FROM device WHERE device_hash = $20 AND expires_at > $21
                    AND NOT EXISTS (SELECT FROM twin) AND NOT EXISTS (SELECT FROM locked)
                    AND NOT EXISTS (SELECT FROM browser) RETURNING 1),
                made AS (INSERT INTO session ({COLUMNS})
                    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $22, $23
                    WHERE EXISTS (SELECT FROM browser) OR EXISTS (SELECT FROM device_too) RETURNING 1)
             SELECT EXISTS (SELECT FROM made), EXISTS (SELECT FROM twin) AND EXISTS (SELECT FROM known),
                EXISTS (SELECT FROM locked)",
            locks::stops_login("$5", "$6", "$21")
        );
        let refresh = format!(
            "WITH done AS (UPDATE session SET version = version + 1, groups = $4, groups_at = $5,
                    refresh_sealed = coalesce($6, refresh_sealed), tag = $7
                 WHERE {LIVE} AND version = $3 RETURNING 1)
             SELECT EXISTS (SELECT FROM done), EXISTS (SELECT FROM session WHERE {LIVE})"
        );
        Ok(Self {
            create: db.prepare_cached(&create).await?,
            // Its refresh token goes too: nobody needs it any more.
            end: db
                .prepare_cached(
                    "UPDATE session SET ended_at = $2, refresh_sealed = NULL, lease_until = NULL
                     WHERE id = $1 AND ended_at IS NULL",
                )
                .await?,
            refresh: db.prepare_cached(&refresh).await?,
            live: db
                .prepare_cached(&format!(
                    "SELECT EXISTS (SELECT FROM session WHERE {LIVE}), {}",
                    locks::stops(3, "$2", "")
                ))
                .await?,
            // of a grant that used a break-glass request, whoever approved that too; and its use is the grant's still
            certificate: db
                .prepare_cached(&format!(
                    "WITH stopped AS (SELECT WHERE {} OR {}),
                        used AS (SELECT returned FROM break_glass_use WHERE grant_id = decode($5::text, 'hex')),
                        noted AS (UPDATE break_glass_use SET issued_at = $1
                            WHERE grant_id = decode($5::text, 'hex') AND returned = 0 AND NOT EXISTS (SELECT FROM stopped))
                     SELECT EXISTS (SELECT FROM stopped), EXISTS (SELECT FROM used WHERE returned <> 0)",
                    locks::stops(2, "$1", ""),
                    locks::stops_approver(
                        "(SELECT request FROM break_glass_use WHERE grant_id = decode($5::text, 'hex'))",
                        "$1"
                    )
                ))
                .await?,
            has_since: db
                .prepare_cached("SELECT EXISTS (SELECT FROM leaf WHERE kind = ANY ($1::smallint[]) AND idx >= $2)")
                .await?,
            locks: locks::Statements::prepare(db).await?,
            break_glass: Statements::prepare(db).await?,
        })
    }

    /// Makes the change, or nothing of it and answers the condition that failed. Its statement is sent when the future is first
    /// polled.
    pub(super) async fn make(&self, db: &Transaction<'_>, change: &Change) -> Result<Result<(), Condition>, Failure> {
        let (done, otherwise) = match change {
            // without a condition, and kept once their entry has its place
            Change::CallsKept { calls, .. } => {
                // such calls are refused alone, and no writer beside them suffers
                return Ok(if has_nul(calls.iter().flat_map(texts)) { Err(Condition::Stale) } else { Ok(()) });
            }
            Change::SessionCreate { session, code_hash, now } => {
                let groups = groups_text(&session.groups)?;
                let row = db
                    .query_one(
                        &self.create,
                        &[
                            &session.id.0.as_bytes().as_slice(),
                            &session.token_hash.as_slice(),
                            &session.jkt,
                            &session.person.provider.as_str(),
                            &session.person.issuer,
                            &session.person.subject,
                            &session.name,
                            &session.user,
                            &groups,
                            &micros(session.groups_at),
                            &session.acr,
                            &session.auth_time.map(micros),
                            &session.refresh_sealed,
                            &signed(session.version),
                            &micros(session.created_at),
                            &micros(session.expires_at),
                            &micros(session.used_at),
                            &session.ended_at.map(micros),
                            &session.tag.as_slice(),
                            &code_hash.as_slice(),
                            &micros(*now),
                            &session.human.to_bytes(),
                            &session.page.map(PageUse::to_bytes),
                        ],
                    )
                    .await?;
                let otherwise = match (row.try_get(2)?, row.try_get(1)?) {
                    (true, _) => Condition::Locked,
                    (false, true) => Condition::Stale,
                    (false, false) => Condition::CodeGone,
                };
                (row.try_get(0)?, otherwise)
            }
            Change::SessionEnd { session, now } => {
                let ended = db.execute(&self.end, &[&session.0.as_bytes().as_slice(), &micros(*now)]).await?;
                (ended == 1, Condition::SessionEnded)
            }
            Change::SessionRefresh { session, version, groups, groups_at, refresh_sealed, tag, now } => {
                let row = db
                    .query_one(
                        &self.refresh,
                        &[
                            &session.0.as_bytes().as_slice(),
                            &micros(*now),
                            &signed(*version),
                            &groups_text(groups)?,
                            &micros(*groups_at),
                            refresh_sealed,
                            &tag.as_slice(),
                        ],
                    )
                    .await?;
                let otherwise = if row.try_get(1)? { Condition::Stale } else { Condition::SessionEnded };
                (row.try_get(0)?, otherwise)
            }
            Change::GrantMade { session, now, not_after, using: Some(using), keys } => {
                return self.break_glass.take(db, using, *session, (*now, *not_after), keys).await;
            }
            Change::CertificateMade { keys, now } => {
                let (held, at) = (locks::Held::of(keys), micros(*now));
                let values: Vec<&(dyn ToSql + Sync)> =
                    std::iter::once(&at as &(dyn ToSql + Sync)).chain(held.values()).collect();
                let row = db.query_one(&self.certificate, &values).await?;
                match (row.try_get(0)?, row.try_get::<_, bool>(1)?) {
                    (true, _) => (false, Condition::Locked),
                    (false, was_returned) => (!was_returned, Condition::RequestMoved),
                }
            }
            Change::BreakGlass { change, now, keys } => {
                // Asked before, which is when this part's first statement stands in the order of the batch's: a lock of an earlier part
                // is seen, and one of a later part is later.
                if let Some(keys) = keys
                    && self.locks.stops(db, keys, *now).await?
                {
                    return Ok(Err(Condition::Locked));
                }
                return self.break_glass.change(db, change, *now).await;
            }
            Change::Lock { change, now } => return self.locks.change(db, change, *now).await,
            Change::GrantMade { session, now, not_after, using: None, keys } => {
                let (id, held, at) = (session.0.as_bytes().as_slice(), locks::Held::of(keys), micros(*now));
                let values: Vec<&(dyn ToSql + Sync)> =
                    [&id as &(dyn ToSql + Sync), &at].into_iter().chain(held.values()).collect();
                let row = db.query_one(&self.live, &values).await?;
                match (row.try_get::<_, bool>(0)?, row.try_get::<_, bool>(1)?) {
                    (false, _) => (false, Condition::SessionEnded),
                    (true, _) if now >= not_after => (false, Condition::GrantOver),
                    (true, locked) => (!locked, Condition::Locked),
                }
            }
            // what came in before the batch; its own leaves are written behind all changes
            Change::AsRead { kinds, from } => {
                let kinds: Vec<i16> = kinds.iter().map(|kind| kind.number().into()).collect();
                let has: bool = db.query_one(&self.has_since, &[&kinds, &signed(*from)]).await?.try_get(0)?;
                (!has, Condition::Stale)
            }
            // asked before, as for break-glass
            Change::DropAsk { keys, now, .. } | Change::BodyDrop { keys, now, .. }
                if self.locks.stops(db, keys, *now).await? =>
            {
                (false, Condition::Locked)
            }
            Change::DropAsk { request, .. } => (drops::ask(db, request).await?, Condition::Stale),
            Change::BodyDrop { .. } => return drops::run(db, change).await,
        };
        Ok(if done { Ok(()) } else { Err(otherwise) })
    }
}

/// Every text of a call.
fn texts(call: &Call) -> impl Iterator<Item = &str> {
    let owner = call.owner.iter().flat_map(|owner| [owner.subject.as_str(), owner.issuer.as_str()]);
    let own = [&call.cluster, &call.node, &call.method, &call.roles].map(String::as_str);
    let maybe = [call.user.as_deref(), call.peer.as_deref(), call.why.as_deref()];
    own.into_iter().chain(maybe.into_iter().flatten()).chain(owner)
}
