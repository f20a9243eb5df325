//! Break-glass requests, with their approvals and uses. Each change is written by one statement, before which some look for locks.

mod reading;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use crate::domain::{GrantId, Person, SessionId};
use crate::store::Condition;
use crate::store::break_glass::{AskBounds, BreakGlassChange, BreakGlassUse, NONE_OPEN};
use crate::store::lock::LockKeys;

use super::Failure;
use super::locks::{self, Held};
use super::sessions::LIVE;
use crate::store::value::{micros, signed};
pub(super) use reading::{due, file, list, open_uses, overdue};

/// What a change comes to: done, or the condition that failed.
type Done = Result<Result<(), Condition>, Failure>;

/// The statements, prepared.
pub(super) struct Statements {
    ask: Statement,
    approve: Statement,
    close: Statement,
    time_out: Statement,
    reopened: Statement,
    give_back: Statement,
    review: Statement,
    tell: Statement,
    touch: Statement,
    remind: Statement,
    take: Statement,
}

// === impl Statements ===

impl Statements {
    pub(super) async fn prepare(db: &Transaction<'_>) -> Result<Self, Failure> {
        let locked =
            locks::stops(12, "$2", "SELECT encode(u.grant_id, 'hex') FROM break_glass_use u WHERE u.request = $4");
        let approver = locks::stops_approver("$4", "$2");
        let take = format!(
            "WITH live AS (SELECT FROM session WHERE {LIVE}),
                locked AS (SELECT 1 WHERE {locked} OR {approver}),
                taken AS (UPDATE break_glass SET used = used + 1, jkt = $3,
                        state = CASE WHEN used + 1 >= $19 THEN 5 ELSE 1 END
                    WHERE id = $4 AND hash = $5 AND state = 1 AND used < $19 AND good_until > $2
                        AND provider = $6 AND issuer = $7 AND subject = $8 AND (jkt IS NULL OR jkt = $3)
                        AND self_service = $18::smallint
                        AND CASE self_service WHEN 0
                            THEN (SELECT count(*) FROM break_glass_approval a WHERE a.request = $4 AND a.hash = $5)
                                >= greatest(1, quorum, $9)
                            ELSE EXISTS (SELECT FROM break_glass_told t WHERE t.request = $4 AND t.hash = $5) END
                        AND $2 < $10 AND EXISTS (SELECT FROM live) AND NOT EXISTS (SELECT FROM locked)
                    RETURNING 1),
                made AS (INSERT INTO break_glass_use (grant_id, request, at, returned)
                    SELECT $11, $4, $2, 0 FROM taken RETURNING 1)
             SELECT EXISTS (SELECT FROM live), EXISTS (SELECT FROM made),
                EXISTS (SELECT FROM break_glass WHERE id = $4 AND state = 1 AND jkt <> $3),
                EXISTS (SELECT FROM locked)"
        );
        Ok(Self {
            ask: db
                .prepare_cached(
                    "WITH open AS (SELECT count(*) AS number FROM break_glass
                            WHERE human = $5 AND state = 0 AND waits_until > $14),
                        asked AS (SELECT count(*) AS number FROM break_glass WHERE human = $5 AND asked_at > $17),
                        alone AS (SELECT count(*) AS number FROM break_glass
                            WHERE human = $5 AND self_service = 1 AND (state IN (0, 1) OR state IN (5, 6) AND used > 0)),
                        bound AS (SELECT open.number >= $15 AS open, asked.number >= $18 AS asked,
                            $16::smallint = 1 AND alone.number >= $19 AS alone FROM open, asked, alone),
                        made AS (INSERT INTO break_glass (id, state, provider, issuer, subject, human, cluster, contents, hash,
                                tag, quorum, uses, life, waits_until, used, self_service, asked_at)
                            SELECT $1, 0, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, $16::smallint, $14 FROM bound
                            WHERE NOT bound.open AND NOT bound.asked AND NOT bound.alone ON CONFLICT DO NOTHING RETURNING 1)
                     SELECT EXISTS (SELECT FROM made), open, asked, alone FROM bound",
                )
                .await?,
            approve: db
                .prepare_cached(
                    "WITH open AS (SELECT hash, human, provider, issuer, subject FROM break_glass
                            WHERE id = $1 AND state = 0 AND waits_until > $13 AND self_service = 0),
                        other AS (SELECT FROM open WHERE hash <> $3),
                        own AS (SELECT FROM open
                            WHERE human = $2 OR (provider = $4 AND issuer = $5 AND subject = $6)),
                        given AS (INSERT INTO break_glass_approval (request, human, hash, provider, issuer, subject, name,
                                \"user\", session, comment, at, tag)
                            SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM open
                            WHERE NOT EXISTS (SELECT FROM other) AND NOT EXISTS (SELECT FROM own)
                            ON CONFLICT DO NOTHING RETURNING 1),
                        approved AS (UPDATE break_glass SET state = 1, good_until = $11 + life
                            WHERE id = $1 AND EXISTS (SELECT FROM given)
                                AND (SELECT count(*) FROM break_glass_approval a WHERE a.request = $1 AND a.hash = $3) + 1
                                    >= greatest(1, quorum)
                            RETURNING 1)
                     SELECT EXISTS (SELECT FROM given), EXISTS (SELECT FROM open), EXISTS (SELECT FROM other),
                        EXISTS (SELECT FROM own), EXISTS (SELECT FROM approved)",
                )
                .await?,
            close: db
                .prepare_cached(&format!(
                    "UPDATE break_glass SET state = $2::smallint, closed_by = $3, closed_at = $4, comment = $5
                     WHERE id = $1 AND (($2::smallint IN (2, 4) AND state = 0 AND waits_until > $6)
                        OR ($2::smallint = 6 AND good_until > $6 AND (state = 1 OR state = 5 AND NOT {NONE_OPEN})))",
                ))
                .await?,
            time_out: db
                .prepare_cached(&format!(
                    "UPDATE break_glass SET closed_at = $2,
                        state = CASE WHEN state = 0 THEN 3 WHEN used > 0 THEN 5 ELSE 7 END
                     WHERE id = $1 AND ((state = 0 AND waits_until <= $2) OR (state = 1 AND good_until <= $2))
                        AND {NONE_OPEN}",
                ))
                .await?,
            reopened: db
                .prepare_cached(
                    "UPDATE break_glass SET closed_at = $2,
                        state = CASE WHEN state = 0 THEN 3 WHEN used > 0 THEN 6 ELSE 7 END
                     WHERE id = $1 AND state IN (0, 1)",
                )
                .await?,
            // with `$2`, only one of which no outcome is recorded, and that was made by then
            give_back: db
                .prepare_cached(
                    "WITH given AS (UPDATE break_glass_use SET returned = 1 WHERE grant_id = $1 AND returned = 0
                            AND ($2::bigint IS NULL OR (issued_at IS NULL AND at <= $2)) RETURNING request),
                        back AS (UPDATE break_glass SET used = used - 1, state = CASE WHEN state = 5 THEN 1 ELSE state END
                            WHERE id = (SELECT request FROM given) AND state IN (1, 5, 6) AND used > 0)
                     SELECT EXISTS (SELECT FROM given)",
                )
                .await?,
            review: db
                .prepare_cached(&format!(
                    "UPDATE break_glass SET state = 8, label = $2, note = $3, reviewed_by = $4, reviewed_at = $5
                     WHERE id = $1 AND state IN (5, 6) AND used > 0 AND {NONE_OPEN}",
                ))
                .await?,
            tell: db
                .prepare_cached(
                    "WITH opened AS (UPDATE break_glass SET state = 1, good_until = $4 + life
                            WHERE id = $1 AND state = 0 AND self_service = 1 AND hash = $2 AND waits_until > $6
                            RETURNING 1)
                     INSERT INTO break_glass_told (request, hash, sink, at, tag) SELECT $1, $2, $3, $4, $5 FROM opened",
                )
                .await?,
            touch: db
                .prepare_cached(
                    "UPDATE break_glass_use SET touched_at = $2 WHERE grant_id = $1 AND touched_at IS NULL",
                )
                .await?,
            remind: db
                .prepare_cached(
                    "UPDATE break_glass SET reminded_at = $2 WHERE id = $1 AND state IN (5, 6) AND used > 0
                        AND (reminded_at IS NULL OR reminded_at <= $3)",
                )
                .await?,
            take: db.prepare_cached(&take).await?,
        })
    }

    /// Gives the grant's use back; with a time, only one that was made by then and of which no outcome is recorded. Whether it did.
    async fn give_back(&self, db: &Transaction<'_>, grant: GrantId, before: Option<i64>) -> Result<bool, Failure> {
        Ok(db.query_one(&self.give_back, &[&grant.0.as_bytes().as_slice(), &before]).await?.try_get(0)?)
    }

    pub(super) async fn change(&self, db: &Transaction<'_>, change: &BreakGlassChange, now: Timestamp) -> Done {
        let at = micros(now);
        match change {
            BreakGlassChange::Ask { request, bounds } => {
                let Person { provider, issuer, subject } = &request.person;
                let row = db
                    .query_one(
                        &self.ask,
                        &[
                            &request.id.0.as_bytes().as_slice(),
                            &provider.as_str(),
                            issuer,
                            subject,
                            &request.human.as_slice(),
                            &request.cluster,
                            &request.contents,
                            &request.hash.as_slice(),
                            &request.tag.as_slice(),
                            &signed(request.quorum),
                            &signed(request.uses),
                            &i64::try_from(request.life.as_micros()).unwrap_or(i64::MAX),
                            &micros(request.waits_until),
                            &at,
                            &signed(bounds.open),
                            &i16::from(request.self_service),
                            &micros(AskBounds::since(now)),
                            &signed(bounds.hourly),
                            &signed(bounds.unreviewed_alone),
                        ],
                    )
                    .await?;
                let otherwise = match (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?) {
                    (true, ..) => Condition::TooManyOpen,
                    (_, true, _) => Condition::TooManyAsked,
                    (.., true) => Condition::Unreviewed,
                    _ => Condition::Stale,
                };
                Ok(if row.try_get(0)? { Ok(()) } else { Err(otherwise) })
            }
            BreakGlassChange::Approve { request, approval } => {
                let Person { provider, issuer, subject } = &approval.person;
                let row = db
                    .query_one(
                        &self.approve,
                        &[
                            &request.0.as_bytes().as_slice(),
                            &approval.human.as_slice(),
                            &approval.hash.as_slice(),
                            &provider.as_str(),
                            issuer,
                            subject,
                            &approval.name,
                            &approval.user,
                            &approval.session.0.as_bytes().as_slice(),
                            &approval.comment,
                            &micros(approval.at),
                            &approval.tag.as_slice(),
                            &at,
                        ],
                    )
                    .await?;
                let [given, open, other, own] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
                Ok(match (given, open, other, own) {
                    (true, ..) => Ok(()),
                    (_, false, ..) => Err(Condition::RequestMoved),
                    (_, _, true, _) => Err(Condition::OtherContents),
                    (.., true) => Err(Condition::OwnRequest),
                    _ => Err(Condition::ApprovedBefore),
                })
            }
            BreakGlassChange::Close { request, to, closing } => {
                let values: [&(dyn ToSql + Sync); 6] = [
                    &request.0.as_bytes().as_slice(),
                    &i16::from(to.number()),
                    &closing.by,
                    &micros(closing.at),
                    &closing.comment,
                    &at,
                ];
                Ok(moved(db.execute(&self.close, &values).await? == 1))
            }
            BreakGlassChange::TimeOut { request } => {
                let changed = db.execute(&self.time_out, &[&request.0.as_bytes().as_slice(), &at]).await?;
                Ok(moved(changed == 1))
            }
            BreakGlassChange::Reopened { request } => {
                let changed = db.execute(&self.reopened, &[&request.0.as_bytes().as_slice(), &at]).await?;
                Ok(moved(changed == 1))
            }
            BreakGlassChange::Return { grant } => {
                self.give_back(db, *grant, None).await?;
                Ok(Ok(()))
            }
            BreakGlassChange::Abandon { grant, before } => {
                Ok(moved(self.give_back(db, *grant, Some(micros(*before))).await?))
            }
            BreakGlassChange::Told { request, told } => {
                let values: [&(dyn ToSql + Sync); 6] = [
                    &request.0.as_bytes().as_slice(),
                    &told.hash.as_slice(),
                    &told.sink,
                    &micros(told.at),
                    &told.tag.as_slice(),
                    &at,
                ];
                Ok(moved(db.execute(&self.tell, &values).await? == 1))
            }
            BreakGlassChange::Touch { grant } => {
                let changed = db.execute(&self.touch, &[&grant.0.as_bytes().as_slice(), &at]).await?;
                Ok(moved(changed == 1))
            }
            BreakGlassChange::Remind { request, before } => {
                let values: [&(dyn ToSql + Sync); 3] = [&request.0.as_bytes().as_slice(), &at, &micros(*before)];
                Ok(moved(db.execute(&self.remind, &values).await? == 1))
            }
            BreakGlassChange::Review { request, review } => {
                let values: [&(dyn ToSql + Sync); 5] =
                    [&request.0.as_bytes().as_slice(), &review.label, &review.note, &review.by, &micros(review.at)];
                Ok(moved(db.execute(&self.review, &values).await? == 1))
            }
        }
    }

    /// Counts a use, if the session is live, no lock stops it, and the request allows it.
    pub(super) async fn take(
        &self,
        db: &Transaction<'_>,
        using: &BreakGlassUse,
        session: SessionId,
        (now, not_after): (Timestamp, Timestamp),
        keys: &LockKeys,
    ) -> Done {
        let Person { provider, issuer, subject } = &using.person;
        let held = Held::of(keys);
        let values: [&(dyn ToSql + Sync); 11] = [
            &session.0.as_bytes().as_slice(),
            &micros(now),
            &using.jkt,
            &using.request.0.as_bytes().as_slice(),
            &using.hash.as_slice(),
            &provider.as_str(),
            issuer,
            subject,
            &signed(using.quorum),
            &micros(not_after),
            &using.grant.0.as_bytes().as_slice(),
        ];
        let alone = i16::from(using.self_service);
        let uses = signed(using.uses);
        let last: [&(dyn ToSql + Sync); 2] = [&alone, &uses];
        let values: Vec<_> = values.into_iter().chain(held.values()).chain(last).collect();
        let row = db.query_one(&self.take, &values).await?;
        let [live, made, other, locked] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
        Ok(match (live, made) {
            (_, true) => Ok(()),
            (false, _) => Err(Condition::SessionEnded),
            _ if now >= not_after => Err(Condition::GrantOver),
            _ if locked => Err(Condition::Locked),
            _ if other => Err(Condition::OtherKey),
            _ => Err(Condition::RequestMoved),
        })
    }
}

const fn moved(done: bool) -> Result<(), Condition> {
    if done { Ok(()) } else { Err(Condition::RequestMoved) }
}
