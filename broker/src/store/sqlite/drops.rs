//! Requests to drop bodies, and the dropping.

use std::collections::BTreeSet;

use ichor_wire::log::{Entry, Kind, Places};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use uuid::Uuid;

use crate::domain::{Human, Person, ProviderAlias, SessionId};
use crate::store::Condition;
use crate::store::KEPT;
use crate::store::rows::DropRequest;

use super::names::Names;
use super::{Failure, certificates, locks, log};
use crate::store::value::{hash, id, micros, signed, time, unsigned};

/// A drop, as [`crate::store::Change::BodyDrop`] has it.
pub(super) struct Drop<'a> {
    pub(super) request: Uuid,
    pub(super) approver: &'a Human,
    pub(super) places: &'a Places,
    pub(super) min_age: SignedDuration,
    pub(super) next: u64,
    pub(super) done: bool,
    pub(super) now: Timestamp,
}

pub(super) fn ask(db: &Connection, request: &DropRequest) -> Result<(), Failure> {
    db.prepare_cached(
        "INSERT INTO drop_request (id, provider, issuer, subject, person, before, next, expires_at, approved_at, done_at,
             human, session)
         VALUES (:id, :provider, :issuer, :subject, :person, :before, :next, :expires_at, :approved_at, :done_at, :human,
             :session)",
    )?
    .execute(named_params! {
        ":id": request.id.as_bytes(),
        ":provider": request.asked_by.provider.as_str(),
        ":issuer": request.asked_by.issuer,
        ":subject": request.asked_by.subject,
        ":person": request.person,
        ":before": micros(request.before),
        ":next": signed(request.next),
        ":expires_at": micros(request.expires_at),
        ":approved_at": request.approved_at.map(micros),
        ":done_at": request.done_at.map(micros),
        ":human": request.asker_told,
        ":session": request.session.map(|session| session.0.into_bytes()),
    })?;
    Ok(())
}

pub(super) fn by_id(db: &Connection, id: Uuid) -> Result<Option<DropRequest>, Failure> {
    db.prepare_cached(
        "SELECT id, provider, issuer, subject, person, before, next, expires_at, approved_at, done_at, human, session
         FROM drop_request WHERE id = ?1",
    )?
    .query_row([id.as_bytes()], |row| Ok(parse(row)))
    .optional()?
    .transpose()
}

/// Drops the bodies; what it began is for the caller to undo where the answer is a condition.
pub(super) fn run(db: &Connection, names: &mut Names, drop: &Drop<'_>) -> Result<Result<(), Condition>, Failure> {
    let Some(request) = by_id(db, drop.request)? else { return Ok(Err(Condition::RequestGone)) };
    let is_open = request.done_at.is_none() && (request.approved_at.is_some() || drop.now < request.expires_at);
    if !is_open {
        return Ok(Err(Condition::RequestGone));
    }
    if !drop.approver.is_surely_another(&request.asker()) {
        return Ok(Err(Condition::SamePerson));
    }
    if locks::stops_asker(db, drop.request, micros(drop.now))? {
        return Ok(Err(Condition::Locked));
    }
    let Ok(oldest) = drop.now.checked_sub(drop.min_age) else { return Ok(Err(Condition::BodyStays)) };
    let (too_young, not_asked) = (micros(oldest), micros(request.before));
    let mut persons = BTreeSet::new();
    for index in drop.places.runs().flatten() {
        let row: Option<(i64, u8, Option<i64>)> = db
            .prepare_cached("SELECT time, kind, person FROM leaf WHERE idx = ?1")?
            .query_row([signed(index)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((at, kind, person)) = row else { return Ok(Err(Condition::BodyStays)) };
        let may = Kind::ALL.iter().any(|known| known.number() == kind && known.may_be_dropped());
        let body = log::one(db, signed(index))?.body;
        let (Some(body), true) = (body, may && at <= too_young && at < not_asked) else {
            return Ok(Err(Condition::BodyStays));
        };
        if let Ok(entry) = Entry::decode(&body) {
            certificates::forget(db, index, &entry.content)?;
        }
        db.prepare_cached("DELETE FROM body WHERE idx = ?1")?.execute([signed(index)])?;
        db.prepare_cached("UPDATE leaf SET person = NULL, cluster = NULL, grant_id = NULL WHERE idx = ?1")?
            .execute([signed(index)])?;
        persons.extend(person);
    }
    forget(db, names, persons)?;
    db.prepare_cached(
        "UPDATE drop_request SET approved_at = coalesce(approved_at, ?2), done_at = iif(?3, ?2, NULL),
             person = iif(?3, NULL, person), next = ?4
         WHERE id = ?1",
    )?
    .execute((drop.request.as_bytes(), micros(drop.now), drop.done, signed(drop.next)))?;
    Ok(Ok(()))
}

/// Removes those of these persons whom no entry and no call names any more.
pub(super) fn forget(
    db: &Connection,
    names: &mut Names,
    persons: impl IntoIterator<Item = i64>,
) -> Result<(), Failure> {
    let mut delete = db.prepare_cached(
        "DELETE FROM log_person WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM leaf INDEXED BY leaf_by_person WHERE person = ?1)
         AND NOT EXISTS (SELECT 1 FROM call INDEXED BY call_by_owner WHERE owner = ?1)",
    )?;
    for person in persons {
        if delete.execute([person])? > 0 {
            // its number may be given to someone else
            names.forget();
        }
    }
    Ok(())
}

pub(super) fn sweep(db: &Connection, now: i64) -> Result<(), Failure> {
    let before = now.saturating_sub(KEPT);
    db.prepare_cached("DELETE FROM drop_request WHERE done_at < ?1 OR (approved_at IS NULL AND expires_at < ?1)")?
        .execute([before])?;
    Ok(())
}

fn parse(row: &Row<'_>) -> Result<DropRequest, Failure> {
    let provider = row.get::<_, String>(1)?;
    let provider = ProviderAlias::new(&provider).map_err(|error| Failure::Damaged(error.to_string()))?;
    Ok(DropRequest {
        id: id(&row.get::<_, Vec<u8>>(0)?)?,
        asked_by: Person { provider, issuer: row.get(2)?, subject: row.get(3)? },
        person: row.get(4)?,
        before: time(row.get(5)?)?,
        next: unsigned(row.get(6)?)?,
        expires_at: time(row.get(7)?)?,
        approved_at: row.get::<_, Option<i64>>(8)?.map(time).transpose()?,
        done_at: row.get::<_, Option<i64>>(9)?.map(time).transpose()?,
        asker_told: row.get::<_, Option<Vec<u8>>>(10)?.as_deref().map(hash).transpose()?,
        session: row.get::<_, Option<Vec<u8>>>(11)?.as_deref().map(id).transpose()?.map(SessionId),
    })
}
