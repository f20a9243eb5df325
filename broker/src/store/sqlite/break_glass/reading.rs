//! Break-glass requests, as they are read.

use jiff::SignedDuration;
use rusqlite::types::{ToSql, Value};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::domain::{BreakGlassId, BreakGlassState, GrantId, Person, ProviderAlias, SessionId};
use crate::store::break_glass::{
    ApprovalRow, BreakGlassFile, BreakGlassFilter, BreakGlassRow, Closing, NONE_OPEN, Review, ToldRow, UseRow,
};
use crate::store::sqlite::Failure;
use crate::store::value::{hash, id, time, unsigned};

const COLUMNS: &str =
    "SELECT id, state, provider, issuer, subject, human, cluster, contents, hash, tag, quorum, uses, life,
    waits_until, good_until, used, jkt, closed_by, closed_at, comment, label, note, reviewed_by, reviewed_at,
    (SELECT count(*) FROM break_glass_approval a WHERE a.request = r.id AND a.hash = r.hash), self_service
    FROM break_glass r";

pub(in crate::store::sqlite) fn file(
    db: &Connection,
    request: BreakGlassId,
) -> Result<Option<BreakGlassFile>, Failure> {
    let sql = format!("{COLUMNS} WHERE id = ?1");
    let found = db.prepare_cached(&sql)?.query_row([request.0.as_bytes()], |row| Ok(parse(row))).optional()?;
    let Some(found) = found.transpose()? else { return Ok(None) };
    let approvals = db
        .prepare_cached(
            "SELECT human, hash, provider, issuer, subject, name, user, session, comment, at, tag
             FROM break_glass_approval WHERE request = ?1 ORDER BY at, human",
        )?
        .query_map([request.0.as_bytes()], |row| Ok(approval(row)))?
        .collect::<Result<Result<Vec<_>, _>, _>>()??;
    let uses = db
        .prepare_cached(
            "SELECT grant_id, at, returned, returned = 0 AND issued_at IS NULL FROM break_glass_use WHERE request = ?1
             ORDER BY at, grant_id",
        )?
        .query_map([request.0.as_bytes()], |row| Ok(used(row)))?
        .collect::<Result<Result<Vec<_>, _>, _>>()??;
    let told = db
        .prepare_cached("SELECT hash, sink, at, tag FROM break_glass_told WHERE request = ?1")?
        .query_row([request.0.as_bytes()], |row| Ok(told(row)))
        .optional()?
        .transpose()?;
    Ok(Some(BreakGlassFile { request: found, approvals, told, uses }))
}

pub(in crate::store::sqlite) fn list(
    db: &Connection,
    filter: &BreakGlassFilter,
    before: Option<BreakGlassId>,
    limit: u32,
) -> Result<Vec<BreakGlassRow>, Failure> {
    let mut sql = format!("{COLUMNS} WHERE true");
    let mut values: Vec<Value> = Vec::new();
    if let Some(Person { provider, issuer, subject }) = &filter.person {
        sql.push_str(" AND provider = ? AND issuer = ? AND subject = ?");
        values.extend([provider.as_str().to_owned(), issuer.clone(), subject.clone()].map(Value::Text));
    }
    if let Some(cluster) = &filter.cluster {
        sql.push_str(" AND cluster = ?");
        values.push(Value::Text(cluster.clone()));
    }
    if !filter.states.is_empty() {
        let numbers: Vec<_> = filter.states.iter().map(|state| state.number().to_string()).collect();
        sql.push_str(&format!(" AND state IN ({})", numbers.join(", ")));
    }
    if let Some(before) = before {
        sql.push_str(" AND id < ?");
        values.push(Value::Blob(before.0.as_bytes().to_vec()));
    }
    sql.push_str(&format!(" ORDER BY id DESC LIMIT {limit}"));
    let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
    db.prepare_cached(&sql)?.query_map(values.as_slice(), |row| Ok(parse(row)))?.collect::<Result<Result<_, _>, _>>()?
}

pub(in crate::store::sqlite) fn due(db: &Connection, now: i64, limit: u32) -> Result<Vec<BreakGlassRow>, Failure> {
    let mut due = Vec::new();
    for condition in
        ["state = 0 AND waits_until <= ?1".to_owned(), format!("state = 1 AND good_until <= ?1 AND {NONE_OPEN}")]
    {
        let sql = format!("{COLUMNS} WHERE {condition} ORDER BY id LIMIT ?2");
        let found = db
            .prepare_cached(&sql)?
            .query_map((now, limit), |row| Ok(parse(row)))?
            .collect::<Result<Result<Vec<_>, _>, _>>()??;
        due.extend(found);
    }
    Ok(due)
}

pub(in crate::store::sqlite) fn overdue(
    db: &Connection,
    used: i64,
    reminded: Option<i64>,
    limit: u32,
) -> Result<Vec<BreakGlassRow>, Failure> {
    let sql = format!(
        "{COLUMNS} WHERE state IN (5, 6) AND used > 0
             AND (SELECT max(at) FROM break_glass_use u WHERE u.request = r.id AND u.returned = 0) <= ?1
             AND (?2 IS NULL OR reminded_at IS NULL OR reminded_at <= ?2)
         ORDER BY id LIMIT ?3"
    );
    db.prepare_cached(&sql)?
        .query_map((used, reminded, limit), |row| Ok(parse(row)))?
        .collect::<Result<Result<_, _>, _>>()?
}

pub(in crate::store::sqlite) fn open_uses(
    db: &Connection,
    before: i64,
    limit: u32,
) -> Result<Vec<(BreakGlassId, GrantId)>, Failure> {
    db.prepare_cached(
        "SELECT request, grant_id FROM break_glass_use WHERE returned = 0 AND issued_at IS NULL AND at <= ?1
         ORDER BY at, grant_id LIMIT ?2",
    )?
    .query_and_then((before, limit), |row| {
        let (request, grant): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        Ok((BreakGlassId(id(&request)?), GrantId(id(&grant)?)))
    })?
    .collect()
}

fn person(row: &Row<'_>, at: usize) -> Result<Person, Failure> {
    let provider =
        ProviderAlias::new(&row.get::<_, String>(at)?).map_err(|error| Failure::Damaged(error.to_string()))?;
    Ok(Person { provider, issuer: row.get(at + 1)?, subject: row.get(at + 2)? })
}

fn parse(row: &Row<'_>) -> Result<BreakGlassRow, Failure> {
    let state: i64 = row.get(1)?;
    let state = BreakGlassState::numbered(state)
        .ok_or_else(|| Failure::Damaged(format!("`{state}` is no state of a break-glass request")))?;
    let at = |place| -> Result<_, Failure> { Ok(row.get::<_, Option<i64>>(place)?.map(time).transpose()?) };
    let closing = match (row.get::<_, Option<String>>(17)?, at(18)?) {
        (Some(by), Some(at)) => Some(Closing { by, at, comment: row.get(19)? }),
        _ => None,
    };
    let review = match (row.get::<_, Option<String>>(20)?, row.get(21)?, row.get(22)?, at(23)?) {
        (Some(label), Some(note), Some(by), Some(at)) => Some(Review { label, note, by, at }),
        _ => None,
    };
    Ok(BreakGlassRow {
        id: BreakGlassId(id(&row.get::<_, Vec<u8>>(0)?)?),
        state,
        person: person(row, 2)?,
        human: hash(&row.get::<_, Vec<u8>>(5)?)?,
        cluster: row.get(6)?,
        contents: row.get(7)?,
        hash: hash(&row.get::<_, Vec<u8>>(8)?)?,
        tag: hash(&row.get::<_, Vec<u8>>(9)?)?,
        quorum: unsigned(row.get(10)?)?,
        uses: unsigned(row.get(11)?)?,
        life: SignedDuration::from_micros(row.get(12)?),
        waits_until: time(row.get(13)?)?,
        good_until: at(14)?,
        used: unsigned(row.get(15)?)?,
        jkt: row.get(16)?,
        closing,
        review,
        given: unsigned(row.get(24)?)?,
        self_service: row.get::<_, i64>(25)? != 0,
    })
}

fn approval(row: &Row<'_>) -> Result<ApprovalRow, Failure> {
    Ok(ApprovalRow {
        human: hash(&row.get::<_, Vec<u8>>(0)?)?,
        hash: hash(&row.get::<_, Vec<u8>>(1)?)?,
        person: person(row, 2)?,
        name: row.get(5)?,
        user: row.get(6)?,
        session: SessionId(id(&row.get::<_, Vec<u8>>(7)?)?),
        comment: row.get(8)?,
        at: time(row.get(9)?)?,
        tag: hash(&row.get::<_, Vec<u8>>(10)?)?,
    })
}

fn told(row: &Row<'_>) -> Result<ToldRow, Failure> {
    Ok(ToldRow {
        hash: hash(&row.get::<_, Vec<u8>>(0)?)?,
        sink: row.get(1)?,
        at: time(row.get(2)?)?,
        tag: hash(&row.get::<_, Vec<u8>>(3)?)?,
    })
}

fn used(row: &Row<'_>) -> Result<UseRow, Failure> {
    Ok(UseRow {
        grant: GrantId(id(&row.get::<_, Vec<u8>>(0)?)?),
        at: time(row.get(1)?)?,
        was_returned: row.get::<_, i64>(2)? != 0,
        is_open: row.get(3)?,
    })
}
