//! Locks.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use uuid::Uuid;

use crate::domain::{BreakGlassId, GrantId, Human, LockId, LockTarget, Person, ProviderAlias, SessionId};
use crate::store::Condition;
use crate::store::KEPT;
use crate::store::lock::{Account, KnownPerson, LiftAsk, LockChange, LockKeys, LockQuota, LockRow, columns, target};

use super::Failure;
use super::sessions;
use crate::store::value::{hash, id, micros, signed, time};

const COLUMNS: &str =
    "SELECT id, kind, one, two, set_by, reason, at, until, asked_provider, asked_issuer, asked_subject,
    asked_user, asked_until, ended_by, ended_at, asked_human, set_issuer, set_subject, asked_session FROM lock";

/// The condition that whoever asked for the row's lock to be lifted may still count, at `:now`: they are in that session, and neither
/// it nor they are locked.
const ASKING_COUNTS: &str = "(EXISTS (SELECT 1 FROM session s WHERE s.id = lock.asked_session AND s.ended_at IS NULL
        AND s.expires_at > :now)
    AND NOT EXISTS (SELECT 1 FROM lock l INDEXED BY sqlite_autoindex_lock_1 WHERE l.ended_at IS NULL AND (l.until IS NULL OR l.until > :now)
        AND ((l.kind = 0 AND l.one = lock.asked_issuer AND l.two = lock.asked_subject)
            OR (l.kind = 1 AND l.one = lower(hex(lock.asked_session))))))";

/// The condition that a row has this setter: an account by issuer and subject, anybody else by name.
const SET_BY: &str = "(set_issuer IS :issuer AND set_subject IS :subject AND (:issuer IS NOT NULL OR set_by = :by))";

/// What a change comes to: done, or the condition that failed.
type Done = Result<Result<(), Condition>, Failure>;

// === conditions ===
//
// They read the table itself, which for one without rowids is the index of its primary key: out of any other index somebody who writes the
// database can take a row, and the row is listed still.

/// Whether a lock on any of this holds at `now`.
pub(super) fn stops(db: &Connection, keys: &LockKeys, now: i64) -> Result<bool, Failure> {
    let [session, grant, renewal] = keys.texts();
    let found = db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM lock INDEXED BY sqlite_autoindex_lock_1 WHERE ended_at IS NULL AND (until IS NULL OR until > :now) AND (kind = 4
                 OR (kind = 0 AND one = :issuer AND two = :subject) OR (kind = 1 AND one = :session)
                 OR (kind = 2 AND (one = :grant OR two = :renewal)) OR (kind = 3 AND one = :cluster)))",
        )?
        .query_row(
            named_params! {
                ":now": now,
                ":issuer": keys.issuer,
                ":subject": keys.subject,
                ":session": session,
                ":grant": grant,
                ":renewal": renewal,
                ":cluster": keys.cluster,
            },
            |row| row.get(0),
        )?;
    Ok(found)
}

/// What people approved.
#[derive(Clone, Copy)]
pub(super) enum Approved {
    /// This request.
    Request(BreakGlassId),
    /// The request that this grant used, if it used one.
    UsedBy(GrantId),
}

/// Whether at `now` someone is locked who approved it, or the session that they approved with.
pub(super) fn stops_approver(db: &Connection, approved: Approved, now: i64) -> Result<bool, Failure> {
    let (request, grant) = match approved {
        Approved::Request(request) => (Some(request.0), None),
        Approved::UsedBy(grant) => (None, Some(grant.0)),
    };
    Ok(db
        .prepare_cached(
            "SELECT 1 FROM break_glass_approval a JOIN lock INDEXED BY sqlite_autoindex_lock_1 ON (lock.kind = 0 AND lock.one = a.issuer AND lock.two = a.subject)
                 OR (lock.kind = 1 AND lock.one = lower(hex(a.session)))
             WHERE a.request = coalesce(?1, (SELECT request FROM break_glass_use WHERE grant_id = ?2))
                 AND lock.ended_at IS NULL AND (lock.until IS NULL OR lock.until > ?3)",
        )?
        .exists((request.as_ref().map(Uuid::as_bytes), grant.as_ref().map(Uuid::as_bytes), now))?)
}

/// Whether at `now` someone is locked who asked for bodies to be dropped, or the session that they asked in.
pub(super) fn stops_asker(db: &Connection, request: Uuid, now: i64) -> Result<bool, Failure> {
    Ok(db
        .prepare_cached(
            "SELECT 1 FROM drop_request d JOIN lock INDEXED BY sqlite_autoindex_lock_1 ON (lock.kind = 0 AND lock.one = d.issuer AND lock.two = d.subject)
                 OR (lock.kind = 1 AND lock.one = lower(hex(d.session)))
             WHERE d.id = ?1 AND lock.ended_at IS NULL AND (lock.until IS NULL OR lock.until > ?2)",
        )?
        .exists((request.as_bytes(), now))?)
}

/// Whether a lock on this user holds at `now`: they do not log in. A lock of everything is no reason.
pub(super) fn stops_login(db: &Connection, person: &Person, now: i64) -> Result<bool, Failure> {
    Ok(db
        .prepare_cached(
            "SELECT 1 FROM lock INDEXED BY sqlite_autoindex_lock_1 WHERE ended_at IS NULL AND (until IS NULL OR until > ?3) AND kind = 0 AND one = ?1 AND two = ?2",
        )?
        .exists((&person.issuer, &person.subject, now))?)
}

// === changing ===

pub(super) fn change(db: &Connection, change: &LockChange, now: Timestamp) -> Done {
    let now = micros(now);
    match change {
        LockChange::Set { lock, session, quota } => set(db, lock, *session, *quota, now),
        LockChange::AskLift { lock, ask, instead } => ask_lift(db, *lock, ask, *instead, now),
        LockChange::Lift { lock, person, by, session } => {
            if let Some(session) = session
                && !sessions::is_live(db, *session, now)?
            {
                return Ok(Err(Condition::SessionEnded));
            }
            lift(db, *lock, person.as_ref(), by, now)
        }
        LockChange::TimeOut { lock } => {
            let ended = db
                .prepare_cached(
                    "UPDATE lock SET ended_by = 'its time was over', ended_at = ?2
                     WHERE id = ?1 AND ended_at IS NULL AND until <= ?2",
                )?
                .execute((lock.0.as_bytes(), now))?;
            Ok(if ended == 1 { Ok(()) } else { Err(Condition::LockGone) })
        }
    }
}

fn ask_lift(db: &Connection, lock: LockId, ask: &LiftAsk, instead: Option<SessionId>, now: i64) -> Done {
    let LiftAsk { person: Person { provider, issuer, subject }, user, until, told, session } = ask;
    if !sessions::is_live(db, *session, now)? {
        return Ok(Err(Condition::SessionEnded));
    }
    let asked = db
        .prepare_cached(&format!(
            "UPDATE lock SET asked_provider = :provider, asked_issuer = :issuer, asked_subject = :subject,
                 asked_user = :user, asked_until = :until, asked_human = :told, asked_session = :session
             WHERE id = :id AND kind = 4 AND ended_at IS NULL AND (until IS NULL OR until > :now)
                 AND (asked_until IS NULL OR asked_until <= :now OR (asked_provider = :provider
                     AND asked_issuer = :issuer AND asked_subject = :subject) OR asked_session = :instead
                     OR NOT {ASKING_COUNTS})"
        ))?
        .execute(named_params! {
            ":id": lock.0.as_bytes(),
            ":provider": provider.as_str(),
            ":issuer": issuer,
            ":subject": subject,
            ":user": user,
            ":until": micros(*until),
            ":told": told,
            ":session": session.0.as_bytes(),
            ":instead": instead.map(|session| session.0.into_bytes()),
            ":now": now,
        })?;
    Ok(if asked == 1 { Ok(()) } else { Err(Condition::LockGone) })
}

fn set(db: &Connection, lock: &LockRow, session: Option<SessionId>, quota: Option<LockQuota>, now: i64) -> Done {
    if let Some(session) = session
        && !sessions::is_live(db, session, now)?
    {
        return Ok(Err(Condition::SessionEnded));
    }
    let (kind, one, two) = columns(&lock.target);
    let (id, until) = (lock.id.0.as_bytes(), lock.until.map(micros));
    let issuer = lock.setter.as_ref().map(|account| &account.issuer);
    let subject = lock.setter.as_ref().map(|account| &account.subject);
    let moved = db
        .prepare_cached(&format!(
            "UPDATE lock SET until = :until, asked_provider = NULL, asked_issuer = NULL, asked_subject = NULL,
                 asked_user = NULL, asked_until = NULL, asked_human = NULL, asked_session = NULL
             WHERE id = :id AND kind = :kind AND one = :one AND two = :two AND {SET_BY} AND ended_at IS NULL
                 AND (until IS NULL OR until > :now) AND (:until IS NULL OR until <= :until)"
        ))?
        .execute(named_params! {
            ":id": id, ":until": until, ":kind": kind, ":one": one, ":two": two, ":now": now,
            ":issuer": issuer, ":subject": subject, ":by": lock.by,
        })?;
    if moved == 0 {
        // its setter's own of the same, one that ended, or one whose end is later by now
        let has_other = db
            .prepare_cached(&format!(
                "SELECT 1 FROM lock WHERE id = :id OR (kind = :kind AND one = :one AND two = :two AND {SET_BY}
                     AND ended_at IS NULL AND (until IS NULL OR until > :now))"
            ))?
            .exists(named_params! {
                ":id": id, ":kind": kind, ":one": one, ":two": two, ":now": now,
                ":issuer": issuer, ":subject": subject, ":by": lock.by,
            })?;
        if has_other {
            return Ok(Err(Condition::Stale));
        }
        if let Some(quota) = quota {
            let (all, own): (i64, i64) = db
                .prepare_cached(&format!(
                    "SELECT count(*), count(*) FILTER (WHERE {SET_BY}) FROM lock
                     WHERE ended_at IS NULL AND (until IS NULL OR until > :now) AND kind <> 4 AND set_by NOT LIKE '% %'"
                ))?
                .query_row(
                    named_params! { ":now": now, ":issuer": issuer, ":subject": subject, ":by": lock.by },
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
            if all >= signed(quota.all) || own >= signed(quota.own) {
                return Ok(Err(Condition::TooManyLocks));
            }
        }
        db.prepare_cached(
            "INSERT INTO lock (id, kind, one, two, set_by, reason, at, until, set_issuer, set_subject)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute((id, kind, &one, &two, &lock.by, &lock.reason, micros(lock.at), until, issuer, subject))?;
    }
    match &lock.target {
        LockTarget::User { issuer, subject } => sessions::end_of(db, issuer, subject, now)?,
        LockTarget::Session(session) => drop(sessions::end(db, *session, now)?),
        LockTarget::Grant { .. } | LockTarget::Cluster(_) | LockTarget::Everything => {}
    }
    Ok(Ok(()))
}

fn lift(db: &Connection, lock: LockId, person: Option<&Human>, by: &str, now: i64) -> Done {
    let found =
        db.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?.query_row([lock.0.as_bytes()], |row| Ok(parse(row)));
    let Some(found) = found.optional()?.transpose()? else { return Ok(Err(Condition::LockGone)) };
    if found.ended.is_some() || found.until.is_some_and(|until| micros(until) <= now) {
        return Ok(Err(Condition::LockGone));
    }
    if found.target == LockTarget::Everything {
        let asked = found.asked.filter(|ask| micros(ask.until) > now);
        let is_second = asked.zip(person).is_some_and(|(ask, person)| person.is_surely_another(&ask.human()));
        let counts = db
            .prepare_cached(&format!("SELECT 1 FROM lock WHERE id = :id AND {ASKING_COUNTS}"))?
            .exists(named_params! { ":id": lock.0.as_bytes(), ":now": now })?;
        if !is_second || !counts {
            return Ok(Err(Condition::SecondPerson));
        }
    }
    db.prepare_cached("UPDATE lock SET ended_by = ?2, ended_at = ?3 WHERE id = ?1")?.execute((
        lock.0.as_bytes(),
        by,
        now,
    ))?;
    Ok(Ok(()))
}

pub(super) fn sweep(db: &Connection, now: i64) -> Result<(), Failure> {
    db.prepare_cached("DELETE FROM lock WHERE ended_at < ?1")?.execute([now.saturating_sub(KEPT)])?;
    Ok(())
}

// === reading ===

pub(super) fn by_id(db: &Connection, lock: LockId) -> Result<Option<LockRow>, Failure> {
    let found =
        db.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?.query_row([lock.0.as_bytes()], |row| Ok(parse(row)));
    found.optional()?.transpose()
}

pub(super) fn list(db: &Connection, with_ended: bool, limit: u32) -> Result<Vec<LockRow>, Failure> {
    let which = if with_ended { "true" } else { "ended_at IS NULL" };
    db.prepare_cached(&format!("{COLUMNS} WHERE {which} ORDER BY id DESC LIMIT ?1"))?
        .query_map([limit], |row| Ok(parse(row)))?
        .collect::<Result<Result<_, _>, _>>()?
}

/// Whoever had a session and has this subject or this value behind `user:`, each once, with what was told last.
pub(super) fn people(db: &Connection, name: &str, limit: u32) -> Result<Vec<KnownPerson>, Failure> {
    db.prepare_cached(
        "SELECT provider, issuer, subject, name, user, max(created_at) FROM session WHERE subject = ?1 OR user = ?1
         GROUP BY provider, issuer, subject ORDER BY provider, issuer, subject LIMIT ?2",
    )?
    .query_map((name, limit), |row| {
        Ok(person(row, 0).and_then(|person| Ok(KnownPerson { person, name: row.get(3)?, user: row.get(4)? })))
    })?
    .collect::<Result<Result<_, _>, _>>()?
}

fn person(row: &Row<'_>, at: usize) -> Result<Person, Failure> {
    let provider =
        ProviderAlias::new(&row.get::<_, String>(at)?).map_err(|error| Failure::Damaged(error.to_string()))?;
    Ok(Person { provider, issuer: row.get(at + 1)?, subject: row.get(at + 2)? })
}

fn parse(row: &Row<'_>) -> Result<LockRow, Failure> {
    let two: String = row.get(3)?;
    let target = target(row.get(1)?, row.get(2)?, &two);
    let at = |place| -> Result<_, Failure> { Ok(row.get::<_, Option<i64>>(place)?.map(time).transpose()?) };
    // one without its session was asked before that was kept, and counts no more
    let asked = match (at(12)?, row.get(11)?, row.get::<_, Option<Vec<u8>>>(18)?) {
        (Some(until), Some(user), Some(session)) => {
            let told = row.get::<_, Option<Vec<u8>>>(15)?.as_deref().map(hash).transpose()?;
            Some(LiftAsk { person: person(row, 8)?, user, until, told, session: SessionId(id(&session)?) })
        }
        _ => None,
    };
    let setter = row.get::<_, Option<String>>(16)?.zip(row.get(17)?);
    Ok(LockRow {
        id: LockId(id(&row.get::<_, Vec<u8>>(0)?)?),
        target: target.ok_or_else(|| Failure::Damaged("a lock is on nothing that this build knows".into()))?,
        by: row.get(4)?,
        setter: setter.map(|(issuer, subject)| Account { issuer, subject }),
        reason: row.get(5)?,
        at: time(row.get(6)?)?,
        until: at(7)?,
        asked,
        ended: row.get::<_, Option<String>>(13)?.zip(at(14)?),
    })
}
