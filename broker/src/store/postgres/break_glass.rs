//! Break-glass requests, with their approvals and uses. Each change is one statement, as all within a batch are.

use deadpool_postgres::{Object, Transaction};
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use crate::domain::{BreakGlassId, BreakGlassState, GrantId, Person, ProviderAlias, SessionId};
use crate::store::Condition;
use crate::store::break_glass::{
    ApprovalRow, BreakGlassChange, BreakGlassFile, BreakGlassFilter, BreakGlassRow, BreakGlassUse, Closing, Review,
    ToldRow, UseRow,
};
use crate::store::lock::LockKeys;

use super::Failure;
use super::locks::{self, Held};
use super::sessions::LIVE;
use super::value::{hash, id, micros, signed, time, unsigned};

const COLUMNS: &str =
    "SELECT id, state, provider, issuer, subject, human, cluster, contents, hash, tag, quorum, uses, life,
    waits_until, good_until, used, jkt, closed_by, closed_at, comment, label, note, reviewed_by, reviewed_at,
    (SELECT count(*) FROM break_glass_approval a WHERE a.request = r.id AND a.hash = r.hash), self_service
    FROM break_glass r";

/// What a change comes to: done, or the condition that failed.
type Done = Result<Result<(), Condition>, Failure>;

/// The statements, prepared.
pub(super) struct Statements {
    ask: Statement,
    approve: Statement,
    close: Statement,
    time_out: Statement,
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
        let take = format!(
            "WITH live AS (SELECT FROM session WHERE {LIVE}),
                locked AS (SELECT WHERE {locked}),
                taken AS (UPDATE break_glass SET used = used + 1, jkt = $3,
                        state = CASE WHEN used + 1 >= uses THEN 5 ELSE 1 END
                    WHERE id = $4 AND hash = $5 AND state = 1 AND used < uses AND good_until > $2
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
                            WHERE provider = $2 AND issuer = $3 AND subject = $4 AND state = 0 AND waits_until > $14),
                        made AS (INSERT INTO break_glass (id, state, provider, issuer, subject, human, cluster, contents, hash,
                                tag, quorum, uses, life, waits_until, used, self_service)
                            SELECT $1, 0, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, $16::smallint FROM open
                            WHERE open.number < $15 ON CONFLICT DO NOTHING RETURNING 1)
                     SELECT EXISTS (SELECT FROM made), (SELECT number >= $15 FROM open)",
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
                .prepare_cached(
                    "UPDATE break_glass SET state = $2::smallint, closed_by = $3, closed_at = $4, comment = $5
                     WHERE id = $1 AND (($2::smallint IN (2, 4) AND state = 0 AND waits_until > $6)
                        OR ($2::smallint = 6 AND state = 1 AND good_until > $6))",
                )
                .await?,
            time_out: db
                .prepare_cached(
                    "UPDATE break_glass SET closed_at = $2,
                        state = CASE WHEN state = 0 THEN 3 WHEN used > 0 THEN 5 ELSE 7 END
                     WHERE id = $1 AND ((state = 0 AND waits_until <= $2) OR (state = 1 AND good_until <= $2))",
                )
                .await?,
            give_back: db
                .prepare_cached(
                    "WITH given AS (UPDATE break_glass_use SET returned = 1 WHERE grant_id = $1 AND returned = 0
                            RETURNING request)
                     UPDATE break_glass SET used = used - 1, state = CASE WHEN state = 5 THEN 1 ELSE state END
                     WHERE id = (SELECT request FROM given) AND state IN (1, 5, 6) AND used > 0",
                )
                .await?,
            review: db
                .prepare_cached(
                    "UPDATE break_glass SET state = 8, label = $2, note = $3, reviewed_by = $4, reviewed_at = $5
                     WHERE id = $1 AND state IN (5, 6) AND used > 0",
                )
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

    pub(super) async fn change(&self, db: &Transaction<'_>, change: &BreakGlassChange, now: Timestamp) -> Done {
        let at = micros(now);
        match change {
            BreakGlassChange::Ask { request, most_open } => {
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
                            &signed(*most_open),
                            &i16::from(request.self_service),
                        ],
                    )
                    .await?;
                let otherwise = if row.try_get(1)? { Condition::TooManyOpen } else { Condition::Stale };
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
            BreakGlassChange::Return { grant } => {
                db.execute(&self.give_back, &[&grant.0.as_bytes().as_slice()]).await?;
                Ok(Ok(()))
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
        let alone: &(dyn ToSql + Sync) = &alone;
        let values: Vec<_> = values.into_iter().chain(held.values()).chain([alone]).collect();
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

// === reading ===

pub(super) async fn file(db: &Object, request: BreakGlassId) -> Result<Option<BreakGlassFile>, Failure> {
    let key: &[u8] = request.0.as_bytes();
    let select = db.prepare_cached(&format!("{COLUMNS} WHERE id = $1")).await?;
    let Some(found) = db.query_opt(&select, &[&key]).await? else { return Ok(None) };
    let approvals = db
        .prepare_cached(
            "SELECT human, hash, provider, issuer, subject, name, \"user\", session, comment, at, tag
             FROM break_glass_approval WHERE request = $1 ORDER BY at, human",
        )
        .await?;
    let uses = db
        .prepare_cached("SELECT grant_id, at, returned FROM break_glass_use WHERE request = $1 ORDER BY at, grant_id")
        .await?;
    let told_of = db.prepare_cached("SELECT hash, sink, at, tag FROM break_glass_told WHERE request = $1").await?;
    Ok(Some(BreakGlassFile {
        request: parse(&found)?,
        approvals: db.query(&approvals, &[&key]).await?.iter().map(approval).collect::<Result<_, _>>()?,
        told: db.query_opt(&told_of, &[&key]).await?.as_ref().map(told).transpose()?,
        uses: db.query(&uses, &[&key]).await?.iter().map(used).collect::<Result<_, _>>()?,
    }))
}

pub(super) async fn list(
    db: &Object,
    filter: &BreakGlassFilter,
    before: Option<BreakGlassId>,
    limit: u32,
) -> Result<Vec<BreakGlassRow>, Failure> {
    let mut sql = format!("{COLUMNS} WHERE true");
    let mut values: Vec<Box<dyn ToSql + Sync + Send>> = Vec::new();
    if let Some(Person { provider, issuer, subject }) = &filter.person {
        sql.push_str(" AND provider = $1 AND issuer = $2 AND subject = $3");
        for text in [provider.as_str().to_owned(), issuer.clone(), subject.clone()] {
            values.push(Box::new(text));
        }
    }
    if let Some(cluster) = &filter.cluster {
        values.push(Box::new(cluster.clone()));
        sql.push_str(&format!(" AND cluster = ${}", values.len()));
    }
    if !filter.states.is_empty() {
        let numbers: Vec<_> = filter.states.iter().map(|state| state.number().to_string()).collect();
        sql.push_str(&format!(" AND state IN ({})", numbers.join(", ")));
    }
    if let Some(before) = before {
        values.push(Box::new(before.0.as_bytes().to_vec()));
        sql.push_str(&format!(" AND id < ${}", values.len()));
    }
    sql.push_str(&format!(" ORDER BY id DESC LIMIT {limit}"));
    let select = db.prepare_cached(&sql).await?;
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
    db.query(&select, &values).await?.iter().map(parse).collect()
}

pub(super) async fn due(db: &Object, now: i64, limit: u32) -> Result<Vec<BreakGlassRow>, Failure> {
    let mut due = Vec::new();
    for condition in ["state = 0 AND waits_until <= $1", "state = 1 AND good_until <= $1"] {
        let select = db.prepare_cached(&format!("{COLUMNS} WHERE {condition} ORDER BY id LIMIT $2")).await?;
        for row in db.query(&select, &[&now, &i64::from(limit)]).await? {
            due.push(parse(&row)?);
        }
    }
    Ok(due)
}

pub(super) async fn overdue(
    db: &Object,
    used: i64,
    reminded: Option<i64>,
    limit: u32,
) -> Result<Vec<BreakGlassRow>, Failure> {
    let sql = format!(
        "{COLUMNS} WHERE state IN (5, 6) AND used > 0
            AND (SELECT max(at) FROM break_glass_use u WHERE u.request = r.id AND u.returned = 0) <= $1
            AND ($2::bigint IS NULL OR reminded_at IS NULL OR reminded_at <= $2)
         ORDER BY id LIMIT $3"
    );
    let select = db.prepare_cached(&sql).await?;
    db.query(&select, &[&used, &reminded, &i64::from(limit)]).await?.iter().map(parse).collect()
}

fn person(row: &Row, at: usize) -> Result<Person, Failure> {
    let provider = ProviderAlias::new(row.try_get(at)?).map_err(|error| Failure::Damaged(error.to_string()))?;
    Ok(Person { provider, issuer: row.try_get(at + 1)?, subject: row.try_get(at + 2)? })
}

fn parse(row: &Row) -> Result<BreakGlassRow, Failure> {
    let state: i16 = row.try_get(1)?;
    let state = BreakGlassState::numbered(state.into())
        .ok_or_else(|| Failure::Damaged(format!("`{state}` is no state of a break-glass request")))?;
    let at = |place: usize| row.try_get::<_, Option<i64>>(place)?.map(time).transpose();
    let closing = match (row.try_get::<_, Option<String>>(17)?, at(18)?) {
        (Some(by), Some(at)) => Some(Closing { by, at, comment: row.try_get(19)? }),
        _ => None,
    };
    let review = match (row.try_get::<_, Option<String>>(20)?, row.try_get(21)?, row.try_get(22)?, at(23)?) {
        (Some(label), Some(note), Some(by), Some(at)) => Some(Review { label, note, by, at }),
        _ => None,
    };
    Ok(BreakGlassRow {
        id: BreakGlassId(id(row.try_get(0)?)?),
        state,
        person: person(row, 2)?,
        human: hash(row.try_get(5)?)?,
        cluster: row.try_get(6)?,
        contents: row.try_get(7)?,
        hash: hash(row.try_get(8)?)?,
        tag: hash(row.try_get(9)?)?,
        quorum: unsigned(row.try_get(10)?)?,
        uses: unsigned(row.try_get(11)?)?,
        life: SignedDuration::from_micros(row.try_get(12)?),
        waits_until: time(row.try_get(13)?)?,
        good_until: at(14)?,
        used: unsigned(row.try_get(15)?)?,
        jkt: row.try_get(16)?,
        closing,
        review,
        given: unsigned(row.try_get(24)?)?,
        self_service: row.try_get::<_, i16>(25)? != 0,
    })
}

fn approval(row: &Row) -> Result<ApprovalRow, Failure> {
    Ok(ApprovalRow {
        human: hash(row.try_get(0)?)?,
        hash: hash(row.try_get(1)?)?,
        person: person(row, 2)?,
        name: row.try_get(5)?,
        user: row.try_get(6)?,
        session: SessionId(id(row.try_get(7)?)?),
        comment: row.try_get(8)?,
        at: time(row.try_get(9)?)?,
        tag: hash(row.try_get(10)?)?,
    })
}

fn told(row: &Row) -> Result<ToldRow, Failure> {
    Ok(ToldRow {
        hash: hash(row.try_get(0)?)?,
        sink: row.try_get(1)?,
        at: time(row.try_get(2)?)?,
        tag: hash(row.try_get(3)?)?,
    })
}

fn used(row: &Row) -> Result<UseRow, Failure> {
    Ok(UseRow {
        grant: GrantId(id(row.try_get(0)?)?),
        at: time(row.try_get(1)?)?,
        was_returned: row.try_get::<_, i16>(2)? != 0,
    })
}
