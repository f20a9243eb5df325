//! Break-glass requests, with their approvals and uses.

mod reading;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};

use crate::domain::{BreakGlassId, BreakGlassState, GrantId, Person};
use crate::store::Condition;
use crate::store::break_glass::{
    ApprovalRow, AskBounds, BreakGlassChange, BreakGlassRow, BreakGlassUse, Closing, NONE_OPEN, ToldRow,
};

use super::Failure;
use super::locks::{self, Approved};
use crate::store::value::{micros, signed};
pub(super) use reading::{due, file, list, open_uses, overdue};

/// What a change comes to: done, or the condition that failed.
type Done = Result<Result<(), Condition>, Failure>;

// === changing ===

pub(super) fn change(db: &Connection, change: &BreakGlassChange, now: Timestamp) -> Done {
    let at = micros(now);
    match change {
        BreakGlassChange::Ask { request, bounds } => ask(db, request, *bounds, now),
        BreakGlassChange::Approve { request, approval } => approve(db, *request, approval, at),
        BreakGlassChange::Close { request, to, closing } => close(db, *request, *to, closing, at),
        BreakGlassChange::TimeOut { request } => {
            let changed = db
                .prepare_cached(&format!(
                    "UPDATE break_glass SET closed_at = ?2,
                         state = CASE WHEN state = 0 THEN 3 WHEN used > 0 THEN 5 ELSE 7 END
                     WHERE id = ?1 AND ((state = 0 AND waits_until <= ?2) OR (state = 1 AND good_until <= ?2))
                         AND {NONE_OPEN}",
                ))?
                .execute((request.0.as_bytes(), at))?;
            Ok(moved(changed == 1))
        }
        BreakGlassChange::Reopened { request } => {
            let changed = db
                .prepare_cached(
                    "UPDATE break_glass SET closed_at = ?2,
                         state = CASE WHEN state = 0 THEN 3 WHEN used > 0 THEN 6 ELSE 7 END
                     WHERE id = ?1 AND state IN (0, 1)",
                )?
                .execute((request.0.as_bytes(), at))?;
            Ok(moved(changed == 1))
        }
        BreakGlassChange::Return { grant } => {
            give_back(db, *grant)?;
            Ok(Ok(()))
        }
        BreakGlassChange::Abandon { grant, before } => {
            let is_open = db
                .prepare_cached(
                    "SELECT 1 FROM break_glass_use WHERE grant_id = ?1 AND returned = 0 AND issued_at IS NULL AND at <= ?2",
                )?
                .exists((grant.0.as_bytes(), micros(*before)))?;
            if is_open {
                give_back(db, *grant)?;
            }
            Ok(moved(is_open))
        }
        BreakGlassChange::Told { request, told } => tell(db, *request, told, at),
        BreakGlassChange::Touch { grant } => {
            let changed = db
                .prepare_cached(
                    "UPDATE break_glass_use SET touched_at = ?2 WHERE grant_id = ?1 AND touched_at IS NULL",
                )?
                .execute((grant.0.as_bytes(), at))?;
            Ok(moved(changed == 1))
        }
        BreakGlassChange::Remind { request, before } => {
            let changed = db
                .prepare_cached(
                    "UPDATE break_glass SET reminded_at = ?2 WHERE id = ?1 AND state IN (5, 6) AND used > 0
                         AND (reminded_at IS NULL OR reminded_at <= ?3)",
                )?
                .execute((request.0.as_bytes(), at, micros(*before)))?;
            Ok(moved(changed == 1))
        }
        BreakGlassChange::Review { request, review } => {
            let changed = db
                .prepare_cached(&format!(
                    "UPDATE break_glass SET state = 8, label = ?2, note = ?3, reviewed_by = ?4, reviewed_at = ?5
                     WHERE id = ?1 AND state IN (5, 6) AND used > 0 AND {NONE_OPEN}",
                ))?
                .execute((request.0.as_bytes(), &review.label, &review.note, &review.by, micros(review.at)))?;
            Ok(moved(changed == 1))
        }
    }
}

/// Counts a use, if the request allows it.
pub(super) fn take(db: &Connection, using: &BreakGlassUse, now: Timestamp) -> Done {
    let locked = db
        .prepare_cached(
            "SELECT 1 FROM lock INDEXED BY sqlite_autoindex_lock_1 JOIN break_glass_use used ON lock.one = lower(hex(used.grant_id))
             WHERE used.request = ?1 AND lock.kind = 2 AND lock.ended_at IS NULL AND (lock.until IS NULL OR lock.until > ?2)",
        )?
        .exists((using.request.0.as_bytes(), micros(now)))?;
    if locked || locks::stops_approver(db, Approved::Request(using.request), micros(now))? {
        return Ok(Err(Condition::Locked));
    }
    let taken = db
        .prepare_cached(
            "UPDATE break_glass SET used = used + 1, jkt = :jkt, state = CASE WHEN used + 1 >= :uses THEN 5 ELSE 1 END
             WHERE id = :id AND hash = :hash AND state = 1 AND used < :uses AND good_until > :now
                 AND provider = :provider AND issuer = :issuer AND subject = :subject AND (jkt IS NULL OR jkt = :jkt)
                 AND self_service = :alone
                 AND CASE self_service WHEN 0
                     THEN (SELECT count(*) FROM break_glass_approval a WHERE a.request = :id AND a.hash = :hash)
                         >= max(1, quorum, :quorum)
                     ELSE EXISTS (SELECT 1 FROM break_glass_told t WHERE t.request = :id AND t.hash = :hash) END",
        )?
        .execute(named_params! {
            ":id": using.request.0.as_bytes(),
            ":hash": using.hash,
            ":jkt": using.jkt,
            ":now": micros(now),
            ":provider": using.person.provider.as_str(),
            ":issuer": using.person.issuer,
            ":subject": using.person.subject,
            ":quorum": signed(using.quorum),
            ":alone": using.self_service,
            ":uses": signed(using.uses),
        })?;
    if taken == 1 {
        db.prepare_cached("INSERT INTO break_glass_use (grant_id, request, at, returned) VALUES (?1, ?2, ?3, 0)")?
            .execute((using.grant.0.as_bytes(), using.request.0.as_bytes(), micros(now)))?;
        return Ok(Ok(()));
    }
    let other = db.prepare_cached("SELECT 1 FROM break_glass WHERE id = ?1 AND state = 1 AND jkt <> ?2")?;
    let is_other = { other }.exists((using.request.0.as_bytes(), &using.jkt))?;
    Ok(Err(if is_other { Condition::OtherKey } else { Condition::RequestMoved }))
}

/// Notes that a certificate was made of the grant, if it used a request; whether its use is the grant's still.
pub(super) fn issued(db: &Connection, grant: GrantId, now: i64) -> Result<bool, Failure> {
    // most grants use none
    let is_returned: Option<bool> = db
        .prepare_cached("SELECT returned FROM break_glass_use WHERE grant_id = ?1")?
        .query_row([grant.0.as_bytes()], |row| row.get(0))
        .optional()?;
    if is_returned == Some(false) {
        db.prepare_cached("UPDATE break_glass_use SET issued_at = ?2 WHERE grant_id = ?1")?
            .execute((grant.0.as_bytes(), now))?;
    }
    Ok(is_returned != Some(true))
}

fn ask(db: &Connection, row: &BreakGlassRow, bounds: AskBounds, now: Timestamp) -> Done {
    let (since, now) = (micros(AskBounds::since(now)), micros(now));
    let Person { provider, issuer, subject } = &row.person;
    let count = |sql: &str, since: Option<i64>| -> Result<i64, Failure> {
        let mut counted = db.prepare_cached(sql)?;
        Ok(match since {
            Some(since) => counted.query_row((row.human, since), |row| row.get(0))?,
            None => counted.query_row([row.human], |row| row.get(0))?,
        })
    };
    let open = "SELECT count(*) FROM break_glass WHERE human = ?1 AND state = 0 AND waits_until > ?2";
    if count(open, Some(now))? >= signed(bounds.open) {
        return Ok(Err(Condition::TooManyOpen));
    }
    let asked = "SELECT count(*) FROM break_glass WHERE human = ?1 AND asked_at > ?2";
    if count(asked, Some(since))? >= signed(bounds.hourly) {
        return Ok(Err(Condition::TooManyAsked));
    }
    let alone = "SELECT count(*) FROM break_glass WHERE human = ?1 AND self_service = 1
             AND (state IN (0, 1) OR state IN (5, 6) AND used > 0)";
    if row.self_service && count(alone, None)? >= signed(bounds.unreviewed_alone) {
        return Ok(Err(Condition::Unreviewed));
    }
    db.prepare_cached(
        "INSERT INTO break_glass (id, state, provider, issuer, subject, human, cluster, contents, hash, tag, quorum, uses,
             life, waits_until, used, self_service, asked_at)
         VALUES (:id, 0, :provider, :issuer, :subject, :human, :cluster, :contents, :hash, :tag, :quorum, :uses, :life,
             :waits_until, 0, :self_service, :asked_at)",
    )?
    .execute(named_params! {
        ":id": row.id.0.as_bytes(),
        ":provider": provider.as_str(),
        ":issuer": issuer,
        ":subject": subject,
        ":human": row.human,
        ":cluster": row.cluster,
        ":contents": row.contents,
        ":hash": row.hash,
        ":tag": row.tag,
        ":quorum": signed(row.quorum),
        ":uses": signed(row.uses),
        ":life": i64::try_from(row.life.as_micros()).unwrap_or(i64::MAX),
        ":waits_until": micros(row.waits_until),
        ":self_service": row.self_service,
        ":asked_at": now,
    })?;
    Ok(Ok(()))
}

fn approve(db: &Connection, request: BreakGlassId, approval: &ApprovalRow, now: i64) -> Done {
    let found = db
        .prepare_cached("SELECT hash, human, provider, issuer, subject FROM break_glass WHERE id = ?1 AND state = 0 AND waits_until > ?2 AND self_service = 0")?
        .query_row((request.0.as_bytes(), now), |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?, [row.get::<_, String>(2)?, row.get(3)?, row.get(4)?]))
        })
        .optional()?;
    let Some((contents, human, asker)) = found else { return Ok(Err(Condition::RequestMoved)) };
    if contents != approval.hash {
        return Ok(Err(Condition::OtherContents));
    }
    let Person { provider, issuer, subject } = &approval.person;
    if human == approval.human || asker == [provider.as_str(), issuer, subject] {
        return Ok(Err(Condition::OwnRequest));
    }
    let given = db
        .prepare_cached(
            "INSERT INTO break_glass_approval (request, human, hash, provider, issuer, subject, name, user, session, comment,
                 at, tag)
             VALUES (:request, :human, :hash, :provider, :issuer, :subject, :name, :user, :session, :comment, :at, :tag)
             ON CONFLICT DO NOTHING",
        )?
        .execute(named_params! {
            ":request": request.0.as_bytes(),
            ":human": approval.human,
            ":hash": approval.hash,
            ":provider": provider.as_str(),
            ":issuer": issuer,
            ":subject": subject,
            ":name": approval.name,
            ":user": approval.user,
            ":session": approval.session.0.as_bytes(),
            ":comment": approval.comment,
            ":at": micros(approval.at),
            ":tag": approval.tag,
        })?;
    if given == 0 {
        return Ok(Err(Condition::ApprovedBefore));
    }
    db.prepare_cached(
        "UPDATE break_glass SET state = 1, good_until = ?2 + life
         WHERE id = ?1 AND (SELECT count(*) FROM break_glass_approval a WHERE a.request = ?1 AND a.hash = ?3) >= max(1, quorum)",
    )?
    .execute((request.0.as_bytes(), micros(approval.at), approval.hash))?;
    Ok(Ok(()))
}

fn tell(db: &Connection, request: BreakGlassId, told: &ToldRow, now: i64) -> Done {
    let changed = db
        .prepare_cached(
            "UPDATE break_glass SET state = 1, good_until = ?2 + life
             WHERE id = ?1 AND state = 0 AND self_service = 1 AND hash = ?3 AND waits_until > ?4",
        )?
        .execute((request.0.as_bytes(), micros(told.at), told.hash, now))?;
    if changed == 1 {
        db.prepare_cached("INSERT INTO break_glass_told (request, hash, sink, at, tag) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute((request.0.as_bytes(), told.hash, &told.sink, micros(told.at), told.tag))?;
    }
    Ok(moved(changed == 1))
}

fn close(db: &Connection, request: BreakGlassId, to: BreakGlassState, closing: &Closing, now: i64) -> Done {
    let changed = db
        .prepare_cached(&format!(
            "UPDATE break_glass SET state = ?2, closed_by = ?3, closed_at = ?4, comment = ?5
             WHERE id = ?1 AND ((?2 IN (2, 4) AND state = 0 AND waits_until > ?6)
                 OR (?2 = 6 AND good_until > ?6 AND (state = 1 OR state = 5 AND NOT {NONE_OPEN})))",
        ))?
        .execute((request.0.as_bytes(), to.number(), &closing.by, micros(closing.at), &closing.comment, now))?;
    Ok(moved(changed == 1))
}

fn give_back(db: &Connection, grant: GrantId) -> Result<(), Failure> {
    let request: Option<Vec<u8>> = db
        .prepare_cached(
            "UPDATE break_glass_use SET returned = 1 WHERE grant_id = ?1 AND returned = 0 RETURNING request",
        )?
        .query_row([grant.0.as_bytes()], |row| row.get(0))
        .optional()?;
    if let Some(request) = request {
        db.prepare_cached(
            "UPDATE break_glass SET used = used - 1, state = CASE WHEN state = 5 THEN 1 ELSE state END
             WHERE id = ?1 AND state IN (1, 5, 6) AND used > 0",
        )?
        .execute([request])?;
    }
    Ok(())
}

const fn moved(done: bool) -> Result<(), Condition> {
    if done { Ok(()) } else { Err(Condition::RequestMoved) }
}
