//! Sessions.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::domain::{Group, PageUse, Person, SessionId};
use crate::store::KEPT;
use crate::store::value::{alias, groups, groups_text, hash, human, id, micros, page, signed, time, unsigned};

use super::{Failure, SessionRow};

/// A session's use is noted once in this time, in microseconds.
const TOUCH: i64 = 60_000_000;

const COLUMNS: &str =
    "SELECT id, token_hash, jkt, provider, issuer, subject, name, user, groups, groups_at, acr, auth_time,
    refresh_sealed, version, created_at, expires_at, used_at, ended_at, tag, human, page FROM session";

/// The condition of a live session: `?1` is its id, `?2` the time.
const LIVE: &str = "id = ?1 AND ended_at IS NULL AND expires_at > ?2";

pub(super) fn by_token(db: &Connection, token: &[u8; 32]) -> Result<Option<SessionRow>, Failure> {
    let sql = format!("{COLUMNS} WHERE token_hash = ?1");
    db.prepare_cached(&sql)?.query_row([token], |row| Ok(parse(row))).optional()?.transpose()
}

pub(super) fn by_id(db: &Connection, id: SessionId) -> Result<Option<SessionRow>, Failure> {
    let sql = format!("{COLUMNS} WHERE id = ?1");
    db.prepare_cached(&sql)?.query_row([id.0.as_bytes()], |row| Ok(parse(row))).optional()?.transpose()
}

pub(super) fn is_live(db: &Connection, id: SessionId, now: i64) -> Result<bool, Failure> {
    let sql = format!("SELECT 1 FROM session WHERE {LIVE}");
    Ok(db.prepare_cached(&sql)?.exists((id.0.as_bytes(), now))?)
}

pub(super) fn create(db: &Connection, session: &SessionRow) -> Result<(), Failure> {
    db.prepare_cached(
        "INSERT INTO session (id, token_hash, jkt, provider, issuer, subject, name, user, groups, groups_at, acr,
            auth_time, refresh_sealed, version, created_at, expires_at, used_at, ended_at, tag, human, page)
         VALUES (:id, :token_hash, :jkt, :provider, :issuer, :subject, :name, :user, :groups, :groups_at, :acr,
            :auth_time, :refresh_sealed, :version, :created_at, :expires_at, :used_at, :ended_at, :tag, :human, :page)",
    )?
    .execute(named_params! {
        ":id": session.id.0.as_bytes(),
        ":token_hash": session.token_hash,
        ":jkt": session.jkt,
        ":provider": session.person.provider.as_str(),
        ":issuer": session.person.issuer,
        ":subject": session.person.subject,
        ":name": session.name,
        ":user": session.user,
        ":groups": groups_text(&session.groups)?,
        ":groups_at": micros(session.groups_at),
        ":acr": session.acr,
        ":auth_time": session.auth_time.map(micros),
        ":refresh_sealed": session.refresh_sealed,
        ":version": signed(session.version),
        ":created_at": micros(session.created_at),
        ":expires_at": micros(session.expires_at),
        ":used_at": micros(session.used_at),
        ":ended_at": session.ended_at.map(micros),
        ":tag": session.tag,
        ":human": session.human.to_bytes(),
        ":page": session.page.map(PageUse::to_bytes),
    })?;
    Ok(())
}

/// Ends the session and forgets its refresh token, which nobody needs any more; whether it had not ended yet.
pub(super) fn end(db: &Connection, id: SessionId, now: i64) -> Result<bool, Failure> {
    let ended = db
        .prepare_cached(
            "UPDATE session SET ended_at = ?2, refresh_sealed = NULL, lease_until = NULL
             WHERE id = ?1 AND ended_at IS NULL",
        )?
        .execute((id.0.as_bytes(), now))?;
    Ok(ended == 1)
}

/// Ends every session of this user, at whichever provider's alias.
pub(super) fn end_of(db: &Connection, issuer: &str, subject: &str, now: i64) -> Result<(), Failure> {
    // the table itself, as where locks are looked for
    db.prepare_cached(
        "UPDATE session INDEXED BY sqlite_autoindex_session_1 SET ended_at = ?3, refresh_sealed = NULL, lease_until = NULL
         WHERE issuer = ?1 AND subject = ?2 AND ended_at IS NULL",
    )?
    .execute((issuer, subject, now))?;
    Ok(())
}

/// What the provider told when asked again; whether the session was live and still at `version`.
pub(super) fn refresh(
    db: &Connection,
    id: SessionId,
    version: u64,
    (groups, groups_at, tag): (&[Group], Timestamp, [u8; 32]),
    refresh_sealed: Option<&[u8]>,
    now: i64,
) -> Result<bool, Failure> {
    let sql = format!(
        "UPDATE session SET version = version + 1, groups = ?4, groups_at = ?5,
             refresh_sealed = coalesce(?6, refresh_sealed), tag = ?7
         WHERE {LIVE} AND version = ?3"
    );
    let changed = db.prepare_cached(&sql)?.execute((
        id.0.as_bytes(),
        now,
        signed(version),
        groups_text(groups)?,
        micros(groups_at),
        refresh_sealed,
        tag,
    ))?;
    Ok(changed == 1)
}

pub(super) fn lease(db: &Connection, id: SessionId, now: i64, until: i64) -> Result<bool, Failure> {
    let sql =
        format!("UPDATE session SET lease_until = ?3 WHERE {LIVE} AND (lease_until IS NULL OR lease_until <= ?2)");
    Ok(db.prepare_cached(&sql)?.execute((id.0.as_bytes(), now, until))? == 1)
}

pub(super) fn release(db: &Connection, id: SessionId, until: i64) -> Result<(), Failure> {
    db.prepare_cached("UPDATE session SET lease_until = NULL WHERE id = ?1 AND lease_until = ?2")?
        .execute((id.0.as_bytes(), until))?;
    Ok(())
}

pub(super) fn touch_due(db: &Connection, id: SessionId, now: i64) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM session WHERE id = ?1 AND used_at <= ?2";
    Ok(db.prepare_cached(sql)?.exists((id.0.as_bytes(), now.saturating_sub(TOUCH)))?)
}

pub(super) fn touch(db: &Connection, id: SessionId, now: i64) -> Result<(), Failure> {
    db.prepare_cached("UPDATE session SET used_at = ?2 WHERE id = ?1 AND used_at < ?2")?
        .execute((id.0.as_bytes(), now))?;
    Ok(())
}

pub(super) fn sweep(db: &Connection, now: i64) -> Result<(), Failure> {
    let before = now.saturating_sub(KEPT);
    db.prepare_cached("DELETE FROM session WHERE expires_at < ?1 OR ended_at < ?1")?.execute([before])?;
    Ok(())
}

fn parse(row: &Row<'_>) -> Result<SessionRow, Failure> {
    Ok(SessionRow {
        id: SessionId(id(&row.get::<_, Vec<u8>>(0)?)?),
        token_hash: hash(&row.get::<_, Vec<u8>>(1)?)?,
        jkt: row.get(2)?,
        person: Person { provider: alias(&row.get::<_, String>(3)?)?, issuer: row.get(4)?, subject: row.get(5)? },
        name: row.get(6)?,
        user: row.get(7)?,
        groups: groups(&row.get::<_, String>(8)?)?,
        groups_at: time(row.get(9)?)?,
        acr: row.get(10)?,
        auth_time: row.get::<_, Option<i64>>(11)?.map(time).transpose()?,
        refresh_sealed: row.get(12)?,
        version: unsigned(row.get(13)?)?,
        created_at: time(row.get(14)?)?,
        expires_at: time(row.get(15)?)?,
        used_at: time(row.get(16)?)?,
        ended_at: row.get::<_, Option<i64>>(17)?.map(time).transpose()?,
        tag: hash(&row.get::<_, Vec<u8>>(18)?)?,
        human: human(row.get::<_, Option<Vec<u8>>>(19)?.as_deref())?,
        page: row.get::<_, Option<Vec<u8>>>(20)?.as_deref().map(page).transpose()?,
    })
}
