//! Calls that nodes told of: found by node, person, grant, class and method. They are kept by [`super::kept`].
//!
//! As with the log, a query reads at most `limit` rows from each stretch of one index, one stretch per node, person or class,
//! newest first; what an index does not have in front is compared inside it. No query's cost grows with the number of calls,
//! but for a person *and* a node (or method) together, which walks along that person's own calls.

use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use crate::domain::{GrantId, Person};
use crate::store::calls::{Call, CallClass, CallFilter, CallPlace, CallSum, NodeSeen, NodeService, StoredCall};

use super::Failure;
use super::names;
use crate::store::value::{caller, class, id, micros, signed, time, unsigned};

// === nodes ===

/// Notes when services were last heard of; a time never goes back.
pub(super) fn see(db: &Connection, seen: &[NodeSeen]) -> Result<(), Failure> {
    let mut note = db.prepare_cached(
        "INSERT INTO node_seen (cluster, node, service, line, probe) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (cluster, node, service) DO UPDATE SET line = max(line, excluded.line),
             probe = CASE WHEN excluded.probe > coalesce(probe, 0) THEN excluded.probe ELSE probe END",
    )?;
    for one in seen {
        let (line, probe) = (micros(one.line), one.probe.map(micros));
        note.execute((&one.cluster, &one.node, one.service.number(), line, probe))?;
    }
    Ok(())
}

// === reading ===

pub(super) fn seen(db: &Connection) -> Result<Vec<NodeSeen>, Failure> {
    db.prepare_cached("SELECT cluster, node, service, line, probe FROM node_seen ORDER BY cluster, node, service")?
        .query_and_then([], |row| {
            Ok(NodeSeen {
                cluster: row.get(0)?,
                node: row.get(1)?,
                service: service(row.get(2)?)?,
                line: time(row.get(3)?)?,
                probe: row.get::<_, Option<i64>>(4)?.map(time).transpose()?,
            })
        })?
        .collect()
}

pub(super) fn range(db: &Connection, from: u64, limit: u32) -> Result<Vec<StoredCall>, Failure> {
    db.prepare_cached(&format!("{CALL} WHERE call.id >= ?1 ORDER BY call.id LIMIT ?2"))?
        .query_and_then((signed(from), limit), stored)?
        .collect()
}

/// Every call of the grant, counted.
pub(super) fn sums(db: &Connection, grant: GrantId, entry: Option<u64>, limit: u32) -> Result<Vec<CallSum>, Failure> {
    db.prepare_cached(
        "SELECT call_node.name, call_method.name, class, count(*)
         FROM (SELECT node, method, class FROM call INDEXED BY call_by_grant WHERE grant_id = ?1 AND grant_id IS NOT NULL
             UNION ALL
             SELECT node, method, class FROM call INDEXED BY call_by_entry
             WHERE entry = ?2 AND entry IS NOT NULL AND grant_id IS NULL)
             JOIN call_node ON call_node.id = node JOIN call_method ON call_method.id = method
         GROUP BY call_node.name, call_method.name, class ORDER BY call_node.name, call_method.name, class LIMIT ?3",
    )?
    .query_and_then((grant.0.as_bytes(), entry.map(signed), limit), |row| {
        let class: u8 = row.get(2)?;
        Ok(CallSum {
            node: row.get(0)?,
            method: row.get(1)?,
            class: self::class(class)?,
            count: unsigned(row.get(3)?)?,
        })
    })?
    .collect()
}

pub(super) fn find(
    db: &Connection,
    filter: &CallFilter,
    before: Option<CallPlace>,
    limit: u32,
) -> Result<Vec<StoredCall>, Failure> {
    let Some(sought) = Sought::new(db, filter, before)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for stretch in &sought.stretches {
        sought.walk(db, stretch, limit, &mut found)?;
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let mut one = db.prepare_cached(&format!("{CALL} WHERE call.id = ?1"))?;
    found.into_iter().map(|place| one.query_row([signed(place.id)], |row| Ok(stored(row)))?).collect()
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
struct Stretch {
    index: &'static str,
    fixed: Vec<(&'static str, Value)>,
}

// === impl Sought ===

impl Sought {
    /// `None` where nothing can match: no such name.
    fn new(db: &Connection, filter: &CallFilter, before: Option<CallPlace>) -> Result<Option<Self>, Failure> {
        let is_by_place = filter.cluster.is_some() || !filter.nodes.is_empty();
        let persons = names::calls_of(db, filter.user.as_deref(), filter.own.as_ref())?;
        let methods = filter.method.as_deref().map(|method| names::methods(db, method)).transpose()?;
        let classes: Vec<_> = filter.classes.iter().map(|class| i64::from(class.number())).collect();
        let is_alarming = !classes.is_empty() && !classes.contains(&i64::from(CallClass::Explained.number()));
        let is_by_node = filter.grant.is_none() && filter.entry.is_none() && persons.is_none() && !is_alarming;
        let nodes = match is_by_place || is_by_node {
            true => Some(names::nodes(db, filter.cluster.as_deref(), &filter.nodes)?),
            false => None,
        };

        let one = |index, column, ids: &[i64]| -> Vec<Stretch> {
            ids.iter().map(|id| Stretch { index, fixed: vec![(column, Value::Integer(*id))] }).collect()
        };
        let mut among = Vec::new();
        let mut by_node = false;
        let stretches = if let Some(grant) = filter.grant {
            let fixed = vec![("grant_id", Value::Blob(grant.0.into_bytes().to_vec()))];
            if let Some((owners, users)) = &persons {
                among.push(either(owners, users));
            }
            vec![Stretch { index: "call_by_grant", fixed }]
        } else if let Some(entry) = filter.entry {
            if let Some((owners, users)) = &persons {
                among.push(either(owners, users));
            }
            vec![Stretch { index: "call_by_entry", fixed: vec![("entry", Value::Integer(signed(entry)))] }]
        } else if let Some((owners, users)) = &persons {
            let mut both = one("call_by_owner", "owner", owners);
            both.extend(one("call_by_user", "user", users));
            both
        } else if is_alarming {
            one("call_by_class", "class", &classes)
        } else {
            by_node = true;
            let nodes = nodes.as_deref().unwrap_or_default();
            match &methods {
                None => one("call_by_node", "node", nodes),
                Some(methods) => methods
                    .iter()
                    .flat_map(|method| nodes.iter().map(move |node| (*method, *node)))
                    .map(|(method, node)| Stretch {
                        index: "call_by_method",
                        fixed: vec![("method", Value::Integer(method)), ("node", Value::Integer(node))],
                    })
                    .collect(),
            }
        };
        if !by_node {
            among.extend(nodes.map(|nodes| ("node", nodes)));
            among.extend(methods.map(|methods| ("method", methods)));
        }
        if !classes.is_empty() && stretches.first().is_none_or(|stretch| stretch.index != "call_by_class") {
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
    fn walk(&self, db: &Connection, stretch: &Stretch, limit: u32, found: &mut Vec<CallPlace>) -> Result<(), Failure> {
        // Named, because without statistics SQLite may take another index, and the cost would grow with the calls.
        let mut sql =
            format!("SELECT started, id FROM call INDEXED BY {} WHERE started >= ? AND started < ?", stretch.index);
        let mut bound = vec![Value::Integer(self.since), Value::Integer(self.until)];
        if let Some(before) = self.before {
            sql.push_str(" AND (started, id) < (?, ?)");
            bound.extend([Value::Integer(before.started), Value::Integer(signed(before.id))]);
        }
        for (column, value) in &stretch.fixed {
            sql.push_str(&format!(" AND {column} = ?"));
            // what the index leaves out must be said to be left out
            match *column {
                "class" => sql.push_str(" AND class <> 0"),
                "entry" => sql.push_str(" AND entry IS NOT NULL AND grant_id IS NULL"),
                _ => {}
            }
            bound.push(value.clone());
        }
        for (column, ids) in &self.among {
            sql.push_str(&format!(" AND {column} IN ({})", vec!["?"; ids.len()].join(", ")));
            bound.extend(ids.iter().map(|id| Value::Integer(*id)));
        }
        sql.push_str(" ORDER BY started DESC, id DESC LIMIT ?");
        bound.push(Value::Integer(limit.into()));
        let mut statement = db.prepare_cached(&sql)?;
        let places = statement.query_and_then(rusqlite::params_from_iter(bound), |row| -> Result<_, Failure> {
            Ok(CallPlace { started: row.get(0)?, id: unsigned(row.get(1)?)? })
        })?;
        for place in places {
            found.push(place?);
        }
        Ok(())
    }
}

// === one row ===

const CALL: &str = "SELECT call.id, batch, call_node.cluster, call_node.name, service, call_method.name, code, started,
        duration, roles, call_user.name, grant_id, peer, class, why, entry,
        log_person.provider, log_person.issuer, log_person.subject, log_person.user
    FROM call JOIN call_node ON call_node.id = node JOIN call_method ON call_method.id = method
        LEFT JOIN call_user ON call_user.id = call.user LEFT JOIN log_person ON log_person.id = owner";

fn stored(row: &Row<'_>) -> Result<StoredCall, Failure> {
    let owner = match row.get::<_, Option<String>>(16)? {
        Some(provider) => {
            let owner = Person::recorded(&provider, row.get(17)?, row.get(18)?);
            Some(owner.map_err(|error| Failure::Damaged(error.to_string()))?)
        }
        None => None,
    };
    let class: u8 = row.get(13)?;
    let call = Call {
        cluster: row.get(2)?,
        node: row.get(3)?,
        service: service(row.get(4)?)?,
        method: row.get(5)?,
        code: row.get(6)?,
        started: time(row.get(7)?)?,
        duration: row.get(8)?,
        roles: row.get(9)?,
        user: caller(row.get(19)?, row.get(10)?)?,
        owner,
        grant: row.get::<_, Option<Vec<u8>>>(11)?.map(|bytes| id(&bytes)).transpose()?.map(GrantId),
        peer: row.get(12)?,
        class: self::class(class)?,
        why: row.get(14)?,
        entry: row.get::<_, Option<i64>>(15)?.map(unsigned).transpose()?,
    };
    Ok(StoredCall { id: unsigned(row.get(0)?)?, batch: unsigned(row.get(1)?)?, call })
}

/// A call has an owner or a user: what is compared is whichever it has.
fn either(owners: &[i64], users: &[i64]) -> (&'static str, Vec<i64>) {
    ("coalesce(owner, -1 - user)", owners.iter().copied().chain(users.iter().map(|user| -1 - user)).collect())
}

fn service(number: u8) -> Result<NodeService, Failure> {
    NodeService::of_number(number).ok_or_else(|| Failure::Damaged(format!("`{number}` is no service")))
}
