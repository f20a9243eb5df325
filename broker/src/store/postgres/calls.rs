//! Calls that nodes told of: kept with their entry, dropped beyond the quota, found by node, person, grant, class and method.
//!
//! As with the log, a query reads at most `limit` rows from each stretch of one index, newest first. Calls are written under the
//! lock of the log's end alone, so their ids count without a gap and a name goes only with its last call.

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::domain::{GrantId, Person};
use crate::store::calls::{Call, CallClass, CallFilter, CallPlace, NodeSeen, NodeService, StoredCall};

use super::Failure;
use super::value::{id, micros, signed, time, unsigned};

/// At most so many calls more than are kept with it are dropped by one change, so that no commit takes long.
const DROPPED_BEYOND: u64 = 1_000;

type Param<'a> = &'a (dyn ToSql + Sync);

// === writing ===

/// Whether a column can have every text: Postgres has none with a NUL in it.
pub(super) fn are_storable(calls: &[Call]) -> bool {
    calls.iter().all(|call| {
        let texts = [Some(&call.cluster), Some(&call.node), Some(&call.method), Some(&call.roles)];
        let more = [call.user.as_ref(), call.peer.as_ref(), call.why.as_ref()];
        let owner = call.owner.as_ref().map(|owner| &owner.subject);
        !texts.into_iter().chain(more).chain([owner]).flatten().any(|text| text.contains('\0'))
    })
}

/// Keeps the calls under the entry at `batch`, and drops the oldest of those beyond `most`, in bounded steps.
pub(super) async fn keep(db: &Transaction<'_>, batch: u64, calls: &[Call], most: u64) -> Result<(), Failure> {
    if !calls.is_empty() {
        insert(db, batch, calls).await?;
    }
    drop_oldest(db, most, calls.len() as u64).await
}

async fn insert(db: &Transaction<'_>, batch: u64, calls: &[Call]) -> Result<(), Failure> {
    let (_, next) = span(db).await?;
    let batch = signed(batch);
    let ids: Vec<i64> = (next..).take(calls.len()).collect();
    let clusters: Vec<_> = calls.iter().map(|call| call.cluster.as_str()).collect();
    let nodes: Vec<_> = calls.iter().map(|call| call.node.as_str()).collect();
    let services: Vec<_> = calls.iter().map(|call| i16::from(call.service.number())).collect();
    let methods: Vec<_> = calls.iter().map(|call| call.method.as_str()).collect();
    let codes: Vec<_> = calls.iter().map(|call| call.code.map(i16::from)).collect();
    let started: Vec<_> = calls.iter().map(|call| micros(call.started)).collect();
    let durations: Vec<_> = calls.iter().map(|call| call.duration).collect();
    let roles: Vec<_> = calls.iter().map(|call| call.roles.as_str()).collect();
    // an owner without a `user:` value is none, as the contract of a call has it
    let owners: Vec<_> = calls.iter().map(|call| call.owner.as_ref().filter(|_| call.user.is_some())).collect();
    let providers: Vec<_> = owners.iter().map(|owner| owner.map(|owner| owner.provider.as_str())).collect();
    let issuers: Vec<_> = owners.iter().map(|owner| owner.map(|owner| owner.issuer.as_str())).collect();
    let subjects: Vec<_> = owners.iter().map(|owner| owner.map(|owner| owner.subject.as_str())).collect();
    let users: Vec<_> = calls.iter().map(|call| call.user.as_deref()).collect();
    let grants: Vec<_> = calls.iter().map(|call| call.grant.map(|grant| grant.0.into_bytes().to_vec())).collect();
    let peers: Vec<_> = calls.iter().map(|call| call.peer.as_deref()).collect();
    let classes: Vec<_> = calls.iter().map(|call| i16::from(call.class.number())).collect();
    let whys: Vec<_> = calls.iter().map(|call| call.why.as_deref()).collect();
    let entries: Vec<_> = calls.iter().map(|call| call.entry.map(signed)).collect();

    let names: [(&str, &[Param<'_>]); 4] = [
        (
            "INSERT INTO call_node (cluster, name) SELECT DISTINCT * FROM unnest($1::text[], $2::text[])
             ON CONFLICT DO NOTHING",
            &[&clusters, &nodes],
        ),
        ("INSERT INTO call_method (name) SELECT DISTINCT unnest($1::text[]) ON CONFLICT DO NOTHING", &[&methods]),
        (
            r#"INSERT INTO call_user (name) SELECT DISTINCT "user" FROM unnest($1::text[], $2::text[]) AS told ("user", owner)
             WHERE "user" IS NOT NULL AND owner IS NULL ON CONFLICT DO NOTHING"#,
            &[&users, &subjects],
        ),
        (
            r#"INSERT INTO log_person (provider, issuer, subject, "user")
             SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS told (p, i, s, u)
             WHERE p IS NOT NULL ON CONFLICT DO NOTHING"#,
            &[&providers, &issuers, &subjects, &users],
        ),
    ];
    for (sql, values) in names {
        db.execute(&db.prepare_cached(sql).await?, values).await?;
    }
    let sql = r#"INSERT INTO call (id, batch, node, service, method, code, started, duration, roles, owner, "user", grant_id, peer,
            class, why, entry)
        SELECT t.id, $1, (SELECT n.id FROM call_node n WHERE n.cluster = t.cluster AND n.name = t.node), t.service,
            (SELECT m.id FROM call_method m WHERE m.name = t.method), t.code, t.started, t.duration, t.roles,
            (SELECT p.id FROM log_person p WHERE p.subject = t.subject AND p.issuer = t.issuer AND p.provider = t.provider
                AND p."user" = t."user"),
            CASE WHEN t.provider IS NULL THEN (SELECT u.id FROM call_user u WHERE u.name = t."user") END,
            t.grant_id, t.peer, t.class, t.why, t.entry
        FROM unnest($2::bigint[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::smallint[], $8::bigint[], $9::bigint[],
            $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bytea[], $16::text[], $17::smallint[],
            $18::text[], $19::bigint[]) AS t (id, cluster, node, service, method, code, started, duration, roles, provider,
            issuer, subject, "user", grant_id, peer, class, why, entry)"#;
    let values: [Param<'_>; 19] = [
        &batch, &ids, &clusters, &nodes, &services, &methods, &codes, &started, &durations, &roles, &providers,
        &issuers, &subjects, &users, &grants, &peers, &classes, &whys, &entries,
    ];
    db.execute(&db.prepare_cached(sql).await?, &values).await?;
    Ok(())
}

/// The first id that is kept and the one that comes next.
async fn span(db: &Transaction<'_>) -> Result<(i64, i64), Failure> {
    let select = "SELECT (SELECT id FROM call ORDER BY id LIMIT 1), (SELECT id FROM call ORDER BY id DESC LIMIT 1)";
    let row = db.query_one(&db.prepare_cached(select).await?, &[]).await?;
    let (oldest, newest): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let next = newest.map_or(0, |newest| newest.saturating_add(1));
    Ok((oldest.unwrap_or(next), next))
}

/// Drops the oldest calls beyond `most`, at most as many as were just kept and [`DROPPED_BEYOND`] more, and the names that no
/// call has any more.
async fn drop_oldest(db: &Transaction<'_>, most: u64, kept: u64) -> Result<(), Failure> {
    let (oldest, next) = span(db).await?;
    let beyond = (next - oldest).saturating_sub(signed(most)).min(signed(kept.saturating_add(DROPPED_BEYOND)));
    if beyond <= 0 {
        return Ok(());
    }
    let delete = db.prepare_cached(r#"DELETE FROM call WHERE id < $1 RETURNING node, method, "user""#).await?;
    let (mut nodes, mut methods, mut users) = (Vec::<i64>::new(), Vec::<i64>::new(), Vec::<i64>::new());
    for row in db.query(&delete, &[&(oldest + beyond)]).await? {
        nodes.push(row.try_get(0)?);
        methods.push(row.try_get(1)?);
        users.extend(row.try_get::<_, Option<i64>>(2)?);
    }
    // ordered and limited, so that each look is one step into an index, whatever the server thinks of the table
    let unused = [
        ("call_node", "node", "started", nodes),
        ("call_method", "method", "node, started", methods),
        ("call_user", r#""user""#, "started", users),
    ];
    for (table, column, order, ids) in unused {
        let sql = format!(
            "DELETE FROM {table} AS named WHERE named.id = ANY ($1) AND
                 (SELECT call.id FROM call WHERE call.{column} = named.id ORDER BY {order} LIMIT 1) IS NULL"
        );
        db.execute(&db.prepare_cached(&sql).await?, &[&ids]).await?;
    }
    Ok(())
}

/// Notes when services were last heard of; a time never goes back.
pub(super) async fn see(db: &Object, seen: &[NodeSeen]) -> Result<(), Failure> {
    let note = db
        .prepare_cached(
            "INSERT INTO node_seen (cluster, node, service, line, probe) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (cluster, node, service) DO UPDATE SET line = greatest(node_seen.line, excluded.line),
                 probe = greatest(node_seen.probe, excluded.probe)",
        )
        .await?;
    for one in seen {
        let (service, line, probe) = (i16::from(one.service.number()), micros(one.line), one.probe.map(micros));
        db.execute(&note, &[&one.cluster, &one.node, &service, &line, &probe]).await?;
    }
    Ok(())
}

// === reading ===

pub(super) async fn seen(db: &Object) -> Result<Vec<NodeSeen>, Failure> {
    let select = r#"SELECT cluster, node, service, line, probe FROM node_seen
        ORDER BY cluster COLLATE "C", node COLLATE "C", service"#;
    let rows = db.query(&db.prepare_cached(select).await?, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(NodeSeen {
                cluster: row.try_get(0)?,
                node: row.try_get(1)?,
                service: service(row.try_get(2)?)?,
                line: time(row.try_get(3)?)?,
                probe: row.try_get::<_, Option<i64>>(4)?.map(time).transpose()?,
            })
        })
        .collect()
}

pub(super) async fn range(db: &Object, from: u64, limit: u32) -> Result<Vec<StoredCall>, Failure> {
    let select = db.prepare_cached(&format!("{CALL} WHERE call.id >= $1 ORDER BY call.id LIMIT $2")).await?;
    db.query(&select, &[&signed(from), &i64::from(limit)]).await?.iter().map(stored).collect()
}

pub(super) async fn find(
    db: &Object,
    filter: &CallFilter,
    before: Option<CallPlace>,
    limit: u32,
) -> Result<Vec<StoredCall>, Failure> {
    let texts = [&filter.cluster, &filter.node, &filter.user, &filter.method];
    // Postgres has no text with a NUL in it, so none is found by one.
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (stretch, among) in stretches(db, filter).await? {
        walk(db, filter, before, limit, (&stretch, &among), &mut found).await?;
    }
    found.sort_unstable_by(|a: &(i64, i64), b| b.cmp(a));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let ids: Vec<_> = found.into_iter().map(|(_, id)| id).collect();
    let select =
        db.prepare_cached(&format!("{CALL} WHERE call.id = ANY ($1) ORDER BY started DESC, call.id DESC")).await?;
    db.query(&select, &[&ids]).await?.iter().map(stored).collect()
}

/// A column and the numbers that it may have.
type Among = (&'static str, Vec<i64>);

/// The stretches of one index each, by the columns in front of the time, and what is compared besides.
async fn stretches(db: &Object, filter: &CallFilter) -> Result<Vec<(Vec<Among>, Vec<Among>)>, Failure> {
    let persons = persons(db, filter).await?;
    let methods = match &filter.method {
        Some(name) => {
            let select = "SELECT id FROM call_method WHERE name = $1 OR right(name, length($1) + 1) = '/' || $1";
            Some(ids(db, select, &[name]).await?)
        }
        None => None,
    };
    let classes: Vec<_> = filter.classes.iter().map(|class| i64::from(class.number())).collect();
    let is_alarming = !classes.is_empty() && !classes.contains(&i64::from(CallClass::Explained.number()));
    let by_node = filter.grant.is_none() && persons.is_none() && !is_alarming;
    let nodes = if by_node || filter.cluster.is_some() || filter.node.is_some() {
        let select = "SELECT id FROM call_node WHERE cluster = coalesce($1, cluster) AND name = coalesce($2, name)";
        Some(ids(db, select, &[&filter.cluster, &filter.node]).await?)
    } else {
        None
    };
    let mut front = Vec::new();
    let mut among = Vec::new();
    let (into_nodes, is_by_class) = (by_node, is_alarming && filter.grant.is_none() && persons.is_none());
    let place = if into_nodes { &mut front } else { &mut among };
    place.extend(methods.map(|methods| ("method", methods)));
    place.extend(nodes.map(|nodes| ("node", nodes)));
    if !classes.is_empty() {
        if is_by_class { front.push(("class", classes)) } else { among.push(("class", classes)) }
    }
    Ok(match persons {
        // a call has an owner or a user, so none is in two stretches
        Some((owners, users)) => [("owner", owners), (r#""user""#, users)]
            .into_iter()
            .map(|(column, ids)| match filter.grant {
                Some(_) => (Vec::new(), among.iter().cloned().chain([(column, ids)]).collect()),
                None => (vec![(column, ids)], among.clone()),
            })
            .collect(),
        None => vec![(front, among)],
    })
}

/// Adds the newest `limit` places of each stretch.
async fn walk(
    db: &Object,
    filter: &CallFilter,
    before: Option<CallPlace>,
    limit: u32,
    (stretch, among): (&[Among], &[Among]),
    found: &mut Vec<(i64, i64)>,
) -> Result<(), Failure> {
    if stretch.iter().chain(among).any(|(_, ids)| ids.is_empty()) {
        return Ok(());
    }
    let since = filter.since.map_or(i64::MIN, micros);
    let last = before.map_or((i64::MAX, i64::MAX), |place| (place.started, signed(place.id)));
    let until = filter.until.map_or(i64::MAX, micros).min(last.0.saturating_add(1));
    let limit = i64::from(limit);
    let grant = filter.grant.map(|grant| grant.0.into_bytes().to_vec());
    let mut values: Vec<Param<'_>> = vec![&since, &until, &last.0, &last.1, &limit];
    let (mut from, mut conditions) = (String::from("(SELECT) AS one"), String::new());
    if let Some(grant) = &grant {
        values.push(grant);
        conditions += &format!(" AND grant_id = ${}", values.len());
    }
    for (place, (column, ids)) in stretch.iter().enumerate() {
        values.push(ids);
        // a class is a smaller number than the others
        let kind = if *column == "class" { "::smallint" } else { "" };
        from += &format!(", unnest(${}::bigint[]) AS of_{place}", values.len());
        conditions += &format!(" AND {column} = of_{place}{kind}");
        if *column == "class" {
            // what the index leaves out must be said to be left out
            conditions += " AND class <> 0";
        }
    }
    for (column, ids) in among {
        values.push(ids);
        conditions += &format!(" AND {column} = ANY (${}::bigint[])", values.len());
    }
    let sql = format!(
        "SELECT place.started, place.id FROM {from}, LATERAL (
             SELECT started, id FROM call WHERE started >= $1 AND started < $2 AND (started, id) < ($3, $4){conditions}
             ORDER BY started DESC, id DESC LIMIT $5
         ) AS place ORDER BY place.started DESC, place.id DESC LIMIT $5"
    );
    for row in db.query(&db.prepare_cached(&sql).await?, &values).await? {
        found.push((row.try_get(0)?, row.try_get(1)?));
    }
    Ok(())
}

/// Whose calls are asked for, as owners and as `user:` values without an owner; `None` where nobody's in particular.
async fn persons(db: &Object, filter: &CallFilter) -> Result<Option<(Vec<i64>, Vec<i64>)>, Failure> {
    let sought = crate::store::EntryFilter {
        person: filter.user.clone(),
        own: filter.own.clone(),
        ..crate::store::EntryFilter::default()
    };
    let Some(owners) = super::names::persons(db, &sought).await? else { return Ok(None) };
    let users = match &filter.user {
        // a claim alone makes no call one's own
        Some(user) if filter.own.is_none() => ids(db, "SELECT id FROM call_user WHERE name = $1", &[user]).await?,
        _ => Vec::new(),
    };
    Ok(Some((owners, users)))
}

async fn ids(db: &Object, select: &str, values: &[Param<'_>]) -> Result<Vec<i64>, Failure> {
    let select = db.prepare_cached(select).await?;
    db.query(&select, values).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

// === one row ===

const CALL: &str = r#"SELECT call.id, batch, call_node.cluster, call_node.name, service, call_method.name, code, started,
        duration, roles, call_user.name, grant_id, peer, class, why, entry,
        log_person.provider, log_person.issuer, log_person.subject, log_person."user"
    FROM call JOIN call_node ON call_node.id = node JOIN call_method ON call_method.id = method
        LEFT JOIN call_user ON call_user.id = call."user" LEFT JOIN log_person ON log_person.id = owner"#;

fn stored(row: &Row) -> Result<StoredCall, Failure> {
    let owner = match row.try_get::<_, Option<String>>(16)? {
        Some(provider) => {
            let owner = Person::recorded(&provider, row.try_get(17)?, row.try_get(18)?);
            Some(owner.map_err(|error| Failure::Damaged(error.to_string()))?)
        }
        None => None,
    };
    let class: i16 = row.try_get(13)?;
    let call = Call {
        cluster: row.try_get(2)?,
        node: row.try_get(3)?,
        service: service(row.try_get(4)?)?,
        method: row.try_get(5)?,
        code: row
            .try_get::<_, Option<i16>>(6)?
            .map(|code| u8::try_from(code).map_err(|_| Failure::Damaged(format!("`{code}` is no status code"))))
            .transpose()?,
        started: time(row.try_get(7)?)?,
        duration: row.try_get(8)?,
        roles: row.try_get(9)?,
        user: row.try_get::<_, Option<String>>(19)?.or(row.try_get(10)?),
        owner,
        grant: row.try_get::<_, Option<Vec<u8>>>(11)?.map(|bytes| id(&bytes)).transpose()?.map(GrantId),
        peer: row.try_get(12)?,
        class: u8::try_from(class)
            .ok()
            .and_then(CallClass::of_number)
            .ok_or_else(|| Failure::Damaged(format!("`{class}` is no class of calls")))?,
        why: row.try_get(14)?,
        entry: row.try_get::<_, Option<i64>>(15)?.map(unsigned).transpose()?,
    };
    Ok(StoredCall { id: unsigned(row.try_get(0)?)?, batch: unsigned(row.try_get(1)?)?, call })
}

fn service(number: i16) -> Result<NodeService, Failure> {
    u8::try_from(number)
        .ok()
        .and_then(NodeService::of_number)
        .ok_or_else(|| Failure::Damaged(format!("`{number}` is no service")))
}
