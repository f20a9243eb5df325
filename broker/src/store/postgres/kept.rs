//! Calls that nodes told of: kept with their entry, dropped beyond the quota. Whoever appends waits for this under the lock of the log's
//! end, so each step is one statement however many calls there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use deadpool_postgres::{Object, Transaction};
use futures_util::future::try_join3;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::store::calls::{Call, CallsTaken, NodeHeld};
use crate::store::quota::{self, Dropped, Takes};

use super::Failure;
use crate::store::value::{micros, signed, time, unsigned};

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The numbers of names.
struct Numbers {
    nodes: HashMap<[String; 2], i64>,
    methods: HashMap<[String; 1], i64>,
    users: HashMap<[String; 1], i64>,
    owners: HashMap<[String; 4], i64>,
}

// === writing ===

/// Keeps the calls under the entry at `batch`, and drops what is beyond `most`, in bounded steps. Under the lock of the log's end.
/// Answers whose calls were dropped: they may be named by nothing else.
pub(super) async fn keep(
    db: &Transaction<'_>,
    batch: u64,
    calls: &[Call],
    most: u64,
) -> Result<BTreeSet<i64>, Failure> {
    if !calls.is_empty() {
        insert(db, batch, calls).await?;
    }
    let sum = db.prepare_cached("SELECT coalesce(sum(held), 0)::bigint FROM call_node").await?;
    let held: i64 = db.query_one(&sum, &[]).await?.try_get(0)?;
    match quota::beyond(held, most, calls.len()) {
        0 => Ok(BTreeSet::new()),
        beyond => take(db, beyond).await,
    }
}

/// One statement for all calls, in columns.
async fn insert(db: &Transaction<'_>, batch: u64, calls: &[Call]) -> Result<(), Failure> {
    let numbers = Numbers::of(db, calls).await?;
    let (mut nodes, mut methods, mut owners, mut users) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut held = BTreeMap::<i64, i64>::new();
    for call in calls {
        let node = number(&numbers.nodes, &node(call))?;
        *held.entry(node).or_default() += 1;
        nodes.push(node);
        methods.push(number(&numbers.methods, &method(call))?);
        owners.push(owner(call).map(|owner| number(&numbers.owners, &owner)).transpose()?);
        users.push(user(call).map(|user| number(&numbers.users, &user)).transpose()?);
    }
    let services: Vec<_> = calls.iter().map(|call| i16::from(call.service.number())).collect();
    let codes: Vec<_> = calls.iter().map(|call| call.code.map(i16::from)).collect();
    let started: Vec<_> = calls.iter().map(|call| micros(call.started)).collect();
    let durations: Vec<_> = calls.iter().map(|call| call.duration).collect();
    let roles: Vec<_> = calls.iter().map(|call| call.roles.as_str()).collect();
    let grants: Vec<_> = calls.iter().map(|call| call.grant.map(|grant| grant.0.into_bytes().to_vec())).collect();
    let peers: Vec<_> = calls.iter().map(|call| call.peer.as_deref()).collect();
    let classes: Vec<_> = calls.iter().map(|call| i16::from(call.class.number())).collect();
    let why: Vec<_> = calls.iter().map(|call| call.why.as_deref()).collect();
    let entries: Vec<_> = calls.iter().map(|call| call.entry.map(signed)).collect();
    let insert = db
        .prepare_cached(
            r#"INSERT INTO call (id, batch, node, service, method, code, started, duration, roles, owner, "user", grant_id,
                 peer, class, why, entry)
             SELECT (SELECT coalesce(max(id), -1) FROM call) + place, $1::bigint, node, service, method, code, started, duration, roles,
                 owner, "user", grant_id, peer, class, why, entry
             FROM unnest($2::bigint[], $3::smallint[], $4::bigint[], $5::smallint[], $6::bigint[], $7::bigint[], $8::text[],
                 $9::bigint[], $10::bigint[], $11::bytea[], $12::text[], $13::smallint[], $14::text[], $15::bigint[])
                 WITH ORDINALITY AS one (node, service, method, code, started, duration, roles, owner, "user", grant_id, peer,
                     class, why, entry, place)"#,
        )
        .await?;
    let columns: [&(dyn ToSql + Sync); 15] = [
        &signed(batch),
        &nodes,
        &services,
        &methods,
        &codes,
        &started,
        &durations,
        &roles,
        &owners,
        &users,
        &grants,
        &peers,
        &classes,
        &why,
        &entries,
    ];
    db.execute(&insert, &columns).await?;
    let more = db
        .prepare_cached(
            "UPDATE call_node SET held = held + more.count FROM unnest($1::bigint[], $2::bigint[]) AS more (node, count)
             WHERE call_node.id = more.node",
        )
        .await?;
    let (nodes, counts): (Vec<_>, Vec<_>) = held.into_iter().unzip();
    db.execute(&more, &[&nodes, &counts]).await?;
    Ok(())
}

/// Drops the oldest calls of the nodes that hold most, `beyond` in all, and the names that no call has any more. Answers whose calls
/// they were.
async fn take(db: &Transaction<'_>, beyond: i64) -> Result<BTreeSet<i64>, Failure> {
    let Takes { of, one_of, above } = quota::takes(pairs(db, "SELECT id, held FROM call_node", &[]).await?, beyond);
    let mut dropped = Dropped::default();
    if !of.is_empty() {
        drop_oldest(db, of, &mut dropped).await?;
    }
    if one_of > 0 {
        let select = "SELECT id, 1::bigint FROM call_node WHERE held > $1
            ORDER BY (SELECT min(id) FROM call WHERE node = call_node.id) LIMIT $2";
        drop_oldest(db, pairs(db, select, &[&above, &one_of]).await?, &mut dropped).await?;
    }
    note_taken(db, &dropped).await?;
    let ids = |ids: BTreeSet<i64>| Vec::from_iter(ids);
    let (nodes, methods, users) = (Vec::from_iter(dropped.nodes.into_keys()), ids(dropped.methods), ids(dropped.users));
    let unused = |table, column| {
        format!(
            "DELETE FROM {table} WHERE id = ANY ($1) AND NOT EXISTS (SELECT FROM call WHERE call.{column} = {table}.id)"
        )
    };
    let execute = async |sql: String, ids: &Vec<i64>| -> Result<(), Failure> {
        db.execute(&db.prepare_cached(&sql).await?, &[ids]).await?;
        Ok(())
    };
    try_join3(
        execute("DELETE FROM call_node WHERE id = ANY ($1) AND held <= 0".into(), &nodes),
        execute(unused("call_method", "method"), &methods),
        execute(unused("call_user", "\"user\""), &users),
    )
    .await?;
    Ok(dropped.owners)
}

/// Drops so many of the oldest calls of these nodes. Where one holds fewer than was written down, that is put right.
async fn drop_oldest(db: &Transaction<'_>, of: Vec<(i64, i64)>, dropped: &mut Dropped) -> Result<(), Failure> {
    let (nodes, counts): (Vec<i64>, Vec<i64>) = of.iter().copied().unzip();
    let delete = db
        .prepare_cached(
            r#"DELETE FROM call WHERE id IN (
                 SELECT oldest.id FROM unnest($1::bigint[], $2::bigint[]) AS share (node, count)
                 CROSS JOIN LATERAL (SELECT id FROM call WHERE call.node = share.node ORDER BY id LIMIT share.count) AS oldest
             ) RETURNING node, method, "user", owner, batch"#,
        )
        .await?;
    let mut taken = BTreeMap::<i64, i64>::new();
    for row in db.query(&delete, &[&nodes, &counts]).await? {
        let (node, batch): (i64, i64) = (row.try_get(0)?, row.try_get(4)?);
        dropped.count(node, row.try_get(1)?, [row.try_get(2)?, row.try_get(3)?], batch);
        *taken.entry(node).or_default() += 1;
    }
    let less =
        "UPDATE call_node SET held = held - share.count FROM unnest($1::bigint[], $2::bigint[]) AS share (node, count)
        WHERE call_node.id = share.node";
    db.execute(&db.prepare_cached(less).await?, &[&nodes, &counts]).await?;
    let short = of.into_iter().filter(|(node, count)| taken.get(node) != Some(count)).map(|(node, _)| node);
    let short: Vec<i64> = short.collect();
    if !short.is_empty() {
        let count =
            "UPDATE call_node SET held = (SELECT count(*) FROM call WHERE node = call_node.id) WHERE id = ANY ($1)";
        db.execute(&db.prepare_cached(count).await?, &[&short]).await?;
        for node in short {
            dropped.nodes.entry(node).or_default();
        }
    }
    Ok(())
}

/// Notes what was taken of each cluster, and when the youngest of it had come: at the time of its entry. That of the change at hand is not
/// written yet, and is as old as the one before at least.
async fn note_taken(db: &Transaction<'_>, dropped: &Dropped) -> Result<(), Failure> {
    let nodes: Vec<i64> = dropped.nodes.keys().copied().collect();
    let (calls, newest): (Vec<i64>, Vec<i64>) = dropped.nodes.values().copied().unzip();
    let note = "INSERT INTO call_taken (cluster, calls, youngest)
        SELECT cluster, sum(one.calls)::bigint,
            coalesce((SELECT time FROM leaf WHERE idx <= max(one.newest) ORDER BY idx DESC LIMIT 1), 0)
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS one (node, calls, newest)
            JOIN call_node ON call_node.id = one.node
        GROUP BY cluster
        ON CONFLICT (cluster) DO UPDATE SET calls = call_taken.calls + excluded.calls,
            youngest = greatest(call_taken.youngest, excluded.youngest)";
    db.execute(&db.prepare_cached(note).await?, &[&nodes, &calls, &newest]).await?;
    Ok(())
}

// === names ===

fn node(call: &Call) -> [String; 2] {
    [call.cluster.clone(), call.node.clone()]
}

fn method(call: &Call) -> [String; 1] {
    [call.method.clone()]
}

/// The person that the call is kept under: the name that people read does not count.
fn owner(call: &Call) -> Option<[String; 4]> {
    let person = call.owner.as_ref()?.logged("", call.user.as_ref()?);
    Some([person.subject, person.issuer, person.provider, person.user])
}

/// The `user:` value of a call without an owner.
fn user(call: &Call) -> Option<[String; 1]> {
    if call.owner.is_some() { None } else { call.user.clone().map(|user| [user]) }
}

fn number<K: Eq + Hash>(numbers: &HashMap<K, i64>, name: &K) -> Result<i64, Failure> {
    let missing = || Failure::Damaged("a name of a call has no number".into());
    numbers.get(name).copied().ok_or_else(missing)
}

impl Numbers {
    /// The numbers of all that these calls name, given where they have none.
    async fn of(db: &Transaction<'_>, calls: &[Call]) -> Result<Self, Failure> {
        Ok(Self {
            nodes: numbers(db, "call_node", ["cluster", "name"], calls.iter().map(node)).await?,
            methods: numbers(db, "call_method", ["name"], calls.iter().map(method)).await?,
            users: numbers(db, "call_user", ["name"], calls.iter().filter_map(user)).await?,
            owners: numbers(
                db,
                "log_person",
                ["subject", "issuer", "provider", "\"user\""],
                calls.iter().filter_map(owner),
            )
            .await?,
        })
    }
}

/// The numbers of these names in one table, whose `columns` are unlike in each row.
async fn numbers<const N: usize>(
    db: &Transaction<'_>,
    table: &str,
    columns: [&str; N],
    names: impl Iterator<Item = [String; N]>,
) -> Result<HashMap<[String; N], i64>, Failure> {
    // in one order at every broker
    let names: BTreeSet<[String; N]> = names.collect();
    let mut found = HashMap::with_capacity(names.len());
    if names.is_empty() {
        return Ok(found);
    }
    let texts: [Vec<&str>; N] =
        std::array::from_fn(|place| names.iter().filter_map(|name| name.get(place).map(String::as_str)).collect());
    let values: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|texts| texts as &(dyn ToSql + Sync)).collect();
    let listed = columns.join(", ");
    let arrays = (1..=N).map(|place| format!("${place}::text[]")).collect::<Vec<_>>().join(", ");
    let insert = format!("INSERT INTO {table} ({listed}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING");
    let select =
        format!("SELECT id, {listed} FROM {table} JOIN unnest({arrays}) AS sought ({listed}) USING ({listed})");
    // most are there already: only then are numbers given
    let select = db.prepare_cached(&select).await?;
    let mut rows = db.query(&select, &values).await?;
    if rows.len() < names.len() {
        db.execute(&db.prepare_cached(&insert).await?, &values).await?;
        rows = db.query(&select, &values).await?;
    }
    for row in rows {
        found.insert(name(&row)?, row.try_get(0)?);
    }
    Ok(found)
}

/// The texts behind a row's number.
fn name<const N: usize>(row: &Row) -> Result<[String; N], Failure> {
    let mut texts: [String; N] = std::array::from_fn(|_| String::new());
    for (place, text) in (1..).zip(&mut texts) {
        *text = row.try_get(place)?;
    }
    Ok(texts)
}

// === reading ===

pub(super) async fn held(db: &Object) -> Result<Vec<NodeHeld>, Failure> {
    let select = r#"SELECT call_node.cluster, call_node.name, held, call.id, call.batch FROM call_node
        JOIN call ON call.id = (SELECT min(id) FROM call WHERE node = call_node.id)
        ORDER BY call_node.cluster COLLATE "C", call_node.name COLLATE "C""#;
    let rows = db.query(&db.prepare_cached(select).await?, &[]).await?;
    let held = |row: &Row| {
        Ok(NodeHeld {
            cluster: row.try_get(0)?,
            node: row.try_get(1)?,
            calls: unsigned(row.try_get(2)?)?,
            oldest: unsigned(row.try_get(3)?)?,
            batch: unsigned(row.try_get(4)?)?,
        })
    };
    rows.iter().map(held).collect()
}

pub(super) async fn taken(db: &Object) -> Result<Vec<CallsTaken>, Failure> {
    let select = r#"SELECT cluster, calls, youngest FROM call_taken ORDER BY cluster COLLATE "C""#;
    let rows = db.query(&db.prepare_cached(select).await?, &[]).await?;
    let taken = |row: &Row| {
        let calls = unsigned(row.try_get(1)?)?;
        Ok(CallsTaken { cluster: row.try_get(0)?, calls, youngest: time(row.try_get(2)?)? })
    };
    rows.iter().map(taken).collect()
}

/// Pairs of numbers.
async fn pairs(db: &Transaction<'_>, sql: &str, values: Values<'_>) -> Result<Vec<(i64, i64)>, Failure> {
    let rows = db.query(&db.prepare_cached(sql).await?, values).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
