//! Calls that nodes told of: found by node, person, grant, class and method. They are kept by [`super::kept`].
//!
//! A query reads at most `limit` rows from each stretch of one index, one stretch per node, person or class, newest first; what
//! an index does not have in front is compared inside it.

use std::collections::BTreeSet;

use deadpool_postgres::Object;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::domain::{GrantId, Person};
use crate::store::calls::{Call, CallClass, CallFilter, CallPlace, CallSum, NodeSeen, NodeService, StoredCall};

use super::Failure;
use super::nul::has_nul;
use crate::store::value::{caller, class, id, micros, signed, time, unsigned};

type Values<'a> = Vec<&'a (dyn ToSql + Sync)>;

// === nodes ===

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

/// Every call of the grant, counted.
pub(super) async fn sums(db: &Object, grant: GrantId, entry: Option<u64>, limit: u32) -> Result<Vec<CallSum>, Failure> {
    let select = r#"SELECT call_node.name, call_method.name, class, count(*)
        FROM (SELECT node, method, class FROM call WHERE grant_id = $1
            UNION ALL SELECT node, method, class FROM call WHERE entry = $2 AND grant_id IS NULL) made
            JOIN call_node ON call_node.id = node JOIN call_method ON call_method.id = method
        GROUP BY call_node.name, call_method.name, class
        ORDER BY call_node.name COLLATE "C", call_method.name COLLATE "C", class LIMIT $3"#;
    let values: [&(dyn ToSql + Sync); 3] = [&grant.0.as_bytes().as_slice(), &entry.map(signed), &i64::from(limit)];
    let rows = db.query(&db.prepare_cached(select).await?, &values).await?;
    rows.iter()
        .map(|row| {
            Ok(CallSum {
                node: row.try_get(0)?,
                method: row.try_get(1)?,
                class: class(small(row.try_get(2)?)?)?,
                count: unsigned(row.try_get(3)?)?,
            })
        })
        .collect()
}

pub(super) async fn find(
    db: &Object,
    filter: &CallFilter,
    before: Option<CallPlace>,
    limit: u32,
) -> Result<Vec<StoredCall>, Failure> {
    let Some(sought) = Sought::new(db, filter, before).await? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for stretch in &sought.stretches {
        sought.walk(db, stretch, limit, &mut found).await?;
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let ids: Vec<_> = found.iter().map(|place| signed(place.id)).collect();
    let sql = format!("{CALL} WHERE call.id = ANY ($1) ORDER BY started DESC, call.id DESC");
    db.query(&db.prepare_cached(&sql).await?, &[&ids]).await?.iter().map(stored).collect()
}

/// A filter with its texts turned into numbers.
struct Sought {
    stretches: Vec<Stretch>,
    /// Conditions on columns: one of these numbers each.
    among: Vec<(&'static str, Vec<i64>)>,
    since: i64,
    until: i64,
    before: Option<CallPlace>,
}

/// One stretch of one index: the columns in front of the time.
#[derive(Default)]
struct Stretch {
    fixed: Vec<(&'static str, i64)>,
    grant: Option<Vec<u8>>,
}

// === impl Sought ===

impl Sought {
    /// `None` where nothing can match: no such name.
    async fn new(db: &Object, filter: &CallFilter, before: Option<CallPlace>) -> Result<Option<Self>, Failure> {
        let texts = [&filter.cluster, &filter.user, &filter.method].into_iter().flatten();
        if has_nul(texts.chain(filter.nodes.iter().map(|name| &name.node))) {
            return Ok(None);
        }
        let is_by_place = filter.cluster.is_some() || !filter.nodes.is_empty();
        let persons = callers(db, filter).await?;
        let methods = match &filter.method {
            Some(name) => {
                let select = "SELECT id FROM call_method WHERE name = $1 OR right(name, length($1) + 1) = '/' || $1";
                Some(ids(db, select, &[name]).await?)
            }
            None => None,
        };
        let classes: Vec<_> = filter.classes.iter().map(|class| i64::from(class.number())).collect();
        let is_alarming = !classes.is_empty() && !classes.contains(&i64::from(CallClass::Explained.number()));
        let is_by_node = filter.grant.is_none() && filter.entry.is_none() && persons.is_none() && !is_alarming;
        let nodes = match is_by_place || is_by_node {
            true => Some(nodes(db, filter).await?),
            false => None,
        };
        let one = |column, ids: &[i64]| -> Vec<Stretch> {
            ids.iter().map(|id| Stretch { fixed: vec![(column, *id)], grant: None }).collect()
        };
        let (mut among, mut by_node, mut by_class) = (Vec::new(), false, false);
        let stretches = if let Some(grant) = filter.grant {
            if let Some((owners, users)) = &persons {
                among.push(either(owners, users));
            }
            vec![Stretch { fixed: Vec::new(), grant: Some(grant.0.into_bytes().to_vec()) }]
        } else if let Some(entry) = filter.entry {
            if let Some((owners, users)) = &persons {
                among.push(either(owners, users));
            }
            vec![Stretch { fixed: vec![("entry", signed(entry))], grant: None }]
        } else if let Some((owners, users)) = &persons {
            let mut both = one("owner", owners);
            both.extend(one("\"user\"", users));
            both
        } else if is_alarming {
            by_class = true;
            one("class", &classes)
        } else {
            by_node = true;
            let nodes = nodes.as_deref().unwrap_or_default();
            match &methods {
                None => one("node", nodes),
                Some(methods) => methods
                    .iter()
                    .flat_map(|method| nodes.iter().map(move |node| (*method, *node)))
                    .map(|(method, node)| Stretch { fixed: vec![("method", method), ("node", node)], grant: None })
                    .collect(),
            }
        };
        if !by_node {
            among.extend(nodes.map(|nodes| ("node", nodes)));
            among.extend(methods.map(|methods| ("method", methods)));
        }
        if !classes.is_empty() && !by_class {
            among.push(("class", classes));
        }
        if stretches.is_empty() || among.iter().any(|(_, ids)| ids.is_empty()) {
            return Ok(None);
        }
        let since = filter.since.map_or(i64::MIN, micros);
        let mut until = filter.until.map_or(i64::MAX, micros);
        if let Some(before) = before {
            until = until.min(before.started.saturating_add(1));
        }
        Ok(Some(Self { stretches, among, since, until, before }))
    }

    /// Adds the newest `limit` places of one stretch.
    async fn walk(
        &self,
        db: &Object,
        stretch: &Stretch,
        limit: u32,
        found: &mut Vec<CallPlace>,
    ) -> Result<(), Failure> {
        let limit = i64::from(limit);
        let before = self.before.map(|before| (before.started, signed(before.id)));
        let mut values: Values<'_> = vec![&self.since, &self.until, &limit];
        let mut sql = String::from("SELECT started, id FROM call WHERE started >= $1 AND started < $2");
        if let Some((started, id)) = &before {
            values.extend([started as &(dyn ToSql + Sync), id]);
            sql += " AND (started, id) < ($4, $5)";
        }
        if let Some(grant) = &stretch.grant {
            values.push(grant);
            sql += &format!(" AND grant_id = ${}", values.len());
        }
        for (column, value) in &stretch.fixed {
            values.push(value);
            sql += &format!(" AND {column} = ${}::bigint", values.len());
            // what the index leaves out must be said to be left out
            match *column {
                "class" => sql += " AND class <> 0",
                "entry" => sql += " AND grant_id IS NULL",
                _ => {}
            }
        }
        for (column, ids) in &self.among {
            values.push(ids);
            sql += &format!(" AND {column} = ANY (${}::bigint[])", values.len());
        }
        sql += " ORDER BY started DESC, id DESC LIMIT $3";
        for row in db.query(&db.prepare_cached(&sql).await?, &values).await? {
            found.push(CallPlace { started: row.try_get(0)?, id: unsigned(row.try_get(1)?)? });
        }
        Ok(())
    }
}

/// Whose calls are asked for, as owners and as `user:` values without an owner; `None` where nobody's in particular.
async fn callers(db: &Object, filter: &CallFilter) -> Result<Option<(Vec<i64>, Vec<i64>)>, Failure> {
    let by_text = match &filter.user {
        Some(text) => {
            let select =
                r#"SELECT id FROM log_person WHERE "user" = $1 UNION SELECT id FROM log_person WHERE subject = $1"#;
            Some(ids(db, select, &[text]).await?)
        }
        None => None,
    };
    let owners = match (&filter.own, by_text) {
        (None, None) => return Ok(None),
        (None, Some(found)) => found,
        (Some(own), by_text) => {
            let select = "SELECT id FROM log_person WHERE subject = $1 AND issuer = $2 AND provider = $3";
            let mut found = ids(db, select, &[&own.subject, &own.issuer, &own.provider.as_str()]).await?;
            if let Some(by_text) = by_text {
                found.retain(|id| by_text.contains(id));
            }
            found
        }
    };
    let users = match &filter.user {
        // a claim alone makes no call one's own
        Some(user) if filter.own.is_none() => ids(db, "SELECT id FROM call_user WHERE name = $1", &[user]).await?,
        _ => Vec::new(),
    };
    Ok(Some((owners, users)))
}

/// The nodes of calls with the filter's cluster and one of its names.
async fn nodes(db: &Object, filter: &CallFilter) -> Result<Vec<i64>, Failure> {
    let select = "SELECT id FROM call_node
        WHERE cluster = coalesce($1, cluster) AND cluster = coalesce($2, cluster) AND name = coalesce($3, name)";
    let mut found = BTreeSet::new();
    if filter.nodes.is_empty() {
        found.extend(ids(db, select, &[&filter.cluster, &None::<String>, &None::<String>]).await?);
    }
    for name in &filter.nodes {
        found.extend(ids(db, select, &[&filter.cluster, &name.cluster, &name.node]).await?);
    }
    Ok(found.into_iter().collect())
}

async fn ids(db: &Object, select: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<i64>, Failure> {
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
    let class = small(row.try_get(13)?)?;
    let call = Call {
        cluster: row.try_get(2)?,
        node: row.try_get(3)?,
        service: service(row.try_get(4)?)?,
        method: row.try_get(5)?,
        code: row.try_get::<_, Option<i16>>(6)?.map(small).transpose()?,
        started: time(row.try_get(7)?)?,
        duration: row.try_get(8)?,
        roles: row.try_get(9)?,
        user: caller(row.try_get(19)?, row.try_get(10)?)?,
        owner,
        grant: row.try_get::<_, Option<Vec<u8>>>(11)?.map(|bytes| id(&bytes)).transpose()?.map(GrantId),
        peer: row.try_get(12)?,
        class: self::class(class)?,
        why: row.try_get(14)?,
        entry: row.try_get::<_, Option<i64>>(15)?.map(unsigned).transpose()?,
    };
    Ok(StoredCall { id: unsigned(row.try_get(0)?)?, batch: unsigned(row.try_get(1)?)?, call })
}

/// A call has an owner or a user: what is compared is whichever it has.
fn either(owners: &[i64], users: &[i64]) -> (&'static str, Vec<i64>) {
    (r#"coalesce(owner, -1 - "user")"#, owners.iter().copied().chain(users.iter().map(|user| -1 - user)).collect())
}

fn service(number: i16) -> Result<NodeService, Failure> {
    NodeService::of_number(small(number)?).ok_or_else(|| Failure::Damaged(format!("`{number}` is no service")))
}

fn small(number: i16) -> Result<u8, Failure> {
    u8::try_from(number).map_err(|_| Failure::Damaged(format!("`{number}` is no number of ours")))
}
