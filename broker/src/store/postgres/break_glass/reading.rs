//! Break-glass requests, as they are read.

use deadpool_postgres::Object;
use jiff::SignedDuration;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::domain::{BreakGlassId, BreakGlassState, GrantId, Person, ProviderAlias, SessionId};
use crate::store::break_glass::{
    ApprovalRow, BreakGlassFile, BreakGlassFilter, BreakGlassRow, Closing, NONE_OPEN, Review, ToldRow, UseRow,
};
use crate::store::postgres::Failure;
use crate::store::postgres::nul::has_nul;
use crate::store::value::{hash, id, time, unsigned};

const COLUMNS: &str =
    "SELECT id, state, provider, issuer, subject, human, cluster, contents, hash, tag, quorum, uses, life,
    waits_until, good_until, used, jkt, closed_by, closed_at, comment, label, note, reviewed_by, reviewed_at,
    (SELECT count(*) FROM break_glass_approval a WHERE a.request = r.id AND a.hash = r.hash), self_service
    FROM break_glass r";

pub(in crate::store::postgres) async fn file(
    db: &Object,
    request: BreakGlassId,
) -> Result<Option<BreakGlassFile>, Failure> {
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
        .prepare_cached(
            "SELECT grant_id, at, returned, returned = 0 AND issued_at IS NULL FROM break_glass_use WHERE request = $1
             ORDER BY at, grant_id",
        )
        .await?;
    let told_of = db.prepare_cached("SELECT hash, sink, at, tag FROM break_glass_told WHERE request = $1").await?;
    Ok(Some(BreakGlassFile {
        request: parse(&found)?,
        approvals: db.query(&approvals, &[&key]).await?.iter().map(approval).collect::<Result<_, _>>()?,
        told: db.query_opt(&told_of, &[&key]).await?.as_ref().map(told).transpose()?,
        uses: db.query(&uses, &[&key]).await?.iter().map(used).collect::<Result<_, _>>()?,
    }))
}

pub(in crate::store::postgres) async fn list(
    db: &Object,
    filter: &BreakGlassFilter,
    before: Option<BreakGlassId>,
    limit: u32,
) -> Result<Vec<BreakGlassRow>, Failure> {
    if has_nul(&filter.cluster) {
        return Ok(Vec::new());
    }
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

pub(in crate::store::postgres) async fn due(db: &Object, now: i64, limit: u32) -> Result<Vec<BreakGlassRow>, Failure> {
    let mut due = Vec::new();
    for condition in
        ["state = 0 AND waits_until <= $1".to_owned(), format!("state = 1 AND good_until <= $1 AND {NONE_OPEN}")]
    {
        let select = db.prepare_cached(&format!("{COLUMNS} WHERE {condition} ORDER BY id LIMIT $2")).await?;
        for row in db.query(&select, &[&now, &i64::from(limit)]).await? {
            due.push(parse(&row)?);
        }
    }
    Ok(due)
}

pub(in crate::store::postgres) async fn overdue(
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

pub(in crate::store::postgres) async fn open_uses(
    db: &Object,
    before: i64,
    limit: u32,
) -> Result<Vec<(BreakGlassId, GrantId)>, Failure> {
    let select = "SELECT request, grant_id FROM break_glass_use WHERE returned = 0 AND issued_at IS NULL AND at <= $1
         ORDER BY at, grant_id LIMIT $2";
    let rows = db.query(&db.prepare_cached(select).await?, &[&before, &i64::from(limit)]).await?;
    rows.iter().map(|row| Ok((BreakGlassId(id(row.try_get(0)?)?), GrantId(id(row.try_get(1)?)?)))).collect()
}

fn person(row: &Row, at: usize) -> Result<Person, Failure> {
    let provider = ProviderAlias::new(row.try_get(at)?).map_err(|error| Failure::Damaged(error.to_string()))?;
    Ok(Person { provider, issuer: row.try_get(at + 1)?, subject: row.try_get(at + 2)? })
}

fn parse(row: &Row) -> Result<BreakGlassRow, Failure> {
    let state: i16 = row.try_get(1)?;
    let state = BreakGlassState::numbered(state.into())
        .ok_or_else(|| Failure::Damaged(format!("`{state}` is no state of a break-glass request")))?;
    let at = |place: usize| -> Result<_, Failure> { Ok(row.try_get::<_, Option<i64>>(place)?.map(time).transpose()?) };
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
        is_open: row.try_get(3)?,
    })
}
