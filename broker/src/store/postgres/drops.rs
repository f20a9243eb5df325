//! Requests to drop bodies, and the dropping.

use deadpool_postgres::{Object, Transaction};
use ichor_wire::log::Kind;
use tokio_postgres::Row;

use crate::domain::{Person, ProviderAlias, SessionId};
use crate::store::KEPT;
use crate::store::rows::DropRequest;
use crate::store::{Append, Change, Condition};

use super::human::{Told, surely_another};
use super::{Failure, certificates};
use crate::store::value::{hash, id, micros, signed, time, unsigned};

pub(super) async fn ask(db: &Transaction<'_>, request: &DropRequest) -> Result<bool, Failure> {
    let insert = db
        .prepare_cached(
            "INSERT INTO drop_request
                 (id, provider, issuer, subject, person, before, next, expires_at, approved_at, done_at, human,
                 session)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
        )
        .await?;
    let made = db
        .execute(
            &insert,
            &[
                &request.id.as_bytes().as_slice(),
                &request.asked_by.provider.as_str(),
                &request.asked_by.issuer,
                &request.asked_by.subject,
                &request.person,
                &micros(request.before),
                &signed(request.next),
                &micros(request.expires_at),
                &request.approved_at.map(micros),
                &request.done_at.map(micros),
                &request.asker_told.as_ref().map(<[u8; 32]>::as_slice),
                &request.session.map(|session| session.0.as_bytes().to_vec()),
            ],
        )
        .await?;
    Ok(made == 1)
}

pub(super) async fn by_id(db: &Object, id: uuid::Uuid) -> Result<Option<DropRequest>, Failure> {
    let select = db
        .prepare_cached(
            "SELECT id, provider, issuer, subject, person, before, next, expires_at, approved_at, done_at, human,
                 session
             FROM drop_request WHERE id = $1",
        )
        .await?;
    db.query_opt(&select, &[&id.as_bytes().as_slice()]).await?.map(|row| parse(&row)).transpose()
}

/// Drops the bodies of a [`Change::BodyDrop`], or nothing and answers the condition that failed. Persons who are nowhere after
/// it are for [`forget`].
pub(super) async fn run(db: &Transaction<'_>, change: &Change) -> Result<Result<(), Condition>, Failure> {
    let Change::BodyDrop { request, approver, places, min_age, next, done, now, .. } = change else {
        return Ok(Err(Condition::Stale));
    };
    let Ok(oldest) = now.checked_sub(*min_age) else { return Ok(Err(Condition::BodyStays)) };
    let places: Vec<i64> = places.runs().flatten().map(signed).collect();
    let select = db.prepare_cached("SELECT idx, body FROM body WHERE idx = ANY ($1)").await?;
    let mut named = certificates::Rows::default();
    for row in db.query(&select, &[&places]).await? {
        named.add_body(row.try_get(0)?, row.try_get(1)?);
    }
    let (prefixes, of) = named.columns();
    let kinds: Vec<i16> =
        Kind::ALL.into_iter().filter(|kind| kind.may_be_dropped()).map(|kind| kind.number().into()).collect();
    let other = surely_another(
        Told { human: "human", provider: "provider", issuer: "issuer", subject: "subject" },
        Told { human: "$13::bytea", provider: "$12", issuer: "$3", subject: "$4" },
    );
    let drop = db
        .prepare_cached(
            &format!("WITH asked AS (SELECT * FROM drop_request WHERE id = $1),
                opened AS (SELECT FROM asked WHERE done_at IS NULL AND (approved_at IS NOT NULL OR $2 < expires_at)),
                other AS (SELECT FROM asked WHERE {other}),
                held AS (SELECT FROM asked JOIN lock l ON (l.kind = 0 AND l.one = asked.issuer AND l.two = asked.subject)
                        OR (l.kind = 1 AND l.one = encode(asked.session, 'hex'))
                    WHERE l.ended_at IS NULL AND (l.until IS NULL OR l.until > $2)),
                fit AS (SELECT count(*) AS number FROM leaf JOIN body ON body.idx = leaf.idx, asked
                    WHERE leaf.idx = ANY ($5::bigint[]) AND kind = ANY ($6::smallint[])
                    AND time <= $7 AND time < before),
                fine AS (SELECT FROM opened, other, fit WHERE number = cardinality($5::bigint[])
                    AND NOT EXISTS (SELECT FROM held)),
                bodies AS (DELETE FROM body WHERE idx = ANY ($5::bigint[]) AND EXISTS (SELECT FROM fine)),
                blanked AS (UPDATE leaf SET person = NULL, cluster = NULL, grant_id = NULL
                    WHERE idx = ANY ($5::bigint[]) AND EXISTS (SELECT FROM fine)),
                names AS (DELETE FROM certificate USING unnest($8::bigint[], $9::bigint[]) AS gone (prefix, idx)
                    WHERE certificate.prefix = gone.prefix AND certificate.idx = gone.idx AND EXISTS (SELECT FROM fine)),
                noted AS (UPDATE drop_request SET approved_at = coalesce(approved_at, $2), next = $11,
                        done_at = CASE WHEN $10 THEN $2 END, person = CASE WHEN $10 THEN NULL ELSE person END
                    WHERE id = $1 AND EXISTS (SELECT FROM fine))
             SELECT EXISTS (SELECT FROM opened), EXISTS (SELECT FROM other), EXISTS (SELECT FROM fine),
                EXISTS (SELECT FROM held)"),
        )
        .await?;
    let row = db
        .query_one(
            &drop,
            &[
                &request.as_bytes().as_slice(),
                &micros(*now),
                &approver.person.issuer,
                &approver.person.subject,
                &places,
                &kinds,
                &micros(oldest),
                prefixes,
                of,
                done,
                &signed(*next),
                &approver.person.provider.as_str(),
                &approver.told.as_ref().map(<[u8; 32]>::as_slice),
            ],
        )
        .await?;
    Ok(match (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?, row.try_get(2)?) {
        (false, _, _, _) => Err(Condition::RequestGone),
        (_, false, _, _) => Err(Condition::SamePerson),
        (_, _, true, _) => Err(Condition::Locked),
        (_, _, _, false) => Err(Condition::BodyStays),
        (true, true, false, true) => Ok(()),
    })
}

/// Whose bodies the batch may drop. Asked before its changes are made: after them no column says it.
pub(super) async fn concerned(db: &Transaction<'_>, batch: &[Append]) -> Result<Vec<i64>, Failure> {
    let places = batch.iter().filter_map(|part| match &part.change {
        Some(Change::BodyDrop { places, .. }) => Some(places.runs().flatten().map(signed)),
        _ => None,
    });
    let places: Vec<i64> = places.flatten().collect();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let select = "SELECT DISTINCT person FROM leaf WHERE idx = ANY ($1) AND person IS NOT NULL";
    let select = db.prepare_cached(select).await?;
    db.query(&select, &[&places]).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Removes those of these persons whom no entry and no call names any more. Answers whether there were any: then every broker's
/// memory of names is out of date, which the log's end says.
pub(super) async fn forget(db: &Transaction<'_>, persons: &[i64]) -> Result<bool, Failure> {
    if persons.is_empty() {
        return Ok(false);
    }
    let delete = db
        .prepare_cached(
            "DELETE FROM log_person WHERE id = ANY ($1) AND NOT EXISTS (SELECT FROM leaf WHERE person = log_person.id)
             AND NOT EXISTS (SELECT FROM call WHERE owner = log_person.id)",
        )
        .await?;
    if db.execute(&delete, &[&persons]).await? == 0 {
        return Ok(false);
    }
    let update = db.prepare_cached("UPDATE log_head SET forgotten = forgotten + 1 WHERE id = 1").await?;
    db.execute(&update, &[]).await?;
    Ok(true)
}

pub(super) async fn sweep(db: &Object, now: i64) -> Result<(), Failure> {
    let delete = db
        .prepare_cached(
            "DELETE FROM drop_request WHERE id IN (SELECT id FROM drop_request
             WHERE done_at < $1 OR (approved_at IS NULL AND expires_at < $1) FOR UPDATE SKIP LOCKED)",
        )
        .await?;
    db.execute(&delete, &[&now.saturating_sub(KEPT)]).await?;
    Ok(())
}

fn parse(row: &Row) -> Result<DropRequest, Failure> {
    let provider = ProviderAlias::new(row.try_get(1)?).map_err(|error| Failure::Damaged(error.to_string()))?;
    Ok(DropRequest {
        id: id(row.try_get(0)?)?,
        asked_by: Person { provider, issuer: row.try_get(2)?, subject: row.try_get(3)? },
        person: row.try_get(4)?,
        before: time(row.try_get(5)?)?,
        next: unsigned(row.try_get(6)?)?,
        expires_at: time(row.try_get(7)?)?,
        approved_at: row.try_get::<_, Option<i64>>(8)?.map(time).transpose()?,
        done_at: row.try_get::<_, Option<i64>>(9)?.map(time).transpose()?,
        asker_told: row.try_get::<_, Option<&[u8]>>(10)?.map(hash).transpose()?,
        session: row.try_get::<_, Option<&[u8]>>(11)?.map(id).transpose()?.map(SessionId),
    })
}
