//! Persons and clusters as numbers, so that the log's columns and indexes stay narrow.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::{Object, Transaction};
use ichor_wire::log::{Content, Person};

use crate::store::rows::EntryFilter;

use super::Failure;

/// So many names are remembered; beyond them memory is emptied and fills again.
const REMEMBERED: usize = 10_000;

/// Subject, issuer, provider, `user:` value.
type Key = [String; 4];

/// The numbers of names that are known to be in the database. Copied for each batch and put back once that is committed: what an
/// undone transaction added may get other numbers later.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<Known>);

#[derive(Clone, Debug, Default)]
struct Known {
    /// How often persons had been forgotten when these were learned.
    forgotten: i64,
    persons: HashMap<Key, i64>,
    clusters: HashMap<String, i64>,
}

// === impl Names ===

impl Names {
    /// Forgets all, unless all was learned since persons were forgotten for the last time.
    pub(super) fn keep_if_learned_at(&mut self, forgotten: i64) {
        if self.0.forgotten != forgotten {
            self.0 = Arc::new(Known { forgotten, ..Known::default() });
        }
    }

    /// Learns the numbers of all that these contents name; gives them where they have none. Under the lock of the log's end.
    pub(super) async fn learn<'a>(
        &mut self,
        db: &Transaction<'_>,
        contents: impl Iterator<Item = &'a Content>,
    ) -> Result<(), Failure> {
        let (mut persons, mut clusters) = (HashSet::new(), HashSet::new());
        for content in contents {
            persons.extend(content.person.as_ref().map(key));
            clusters.extend(content.cluster.clone());
        }
        let is_known = |known: &Known| {
            persons.iter().all(|key| known.persons.contains_key(key))
                && clusters.iter().all(|name| known.clusters.contains_key(name))
        };
        if is_known(&self.0) {
            return Ok(());
        }
        let known = Arc::make_mut(&mut self.0);
        if known.persons.len() + known.clusters.len() + persons.len() + clusters.len() > REMEMBERED {
            *known = Known { forgotten: known.forgotten, ..Known::default() };
        }
        persons.retain(|key| !known.persons.contains_key(key));
        clusters.retain(|name| !known.clusters.contains_key(name));
        known.add_persons(db, &Vec::from_iter(persons)).await?;
        known.add_clusters(db, &Vec::from_iter(clusters)).await
    }

    /// The number of this person with this `user:` value; the name that people read does not count.
    pub(super) fn person(&self, person: &Person) -> Option<i64> {
        self.0.persons.get(&key(person)).copied()
    }

    /// The number of the cluster of this name.
    pub(super) fn cluster(&self, name: &str) -> Option<i64> {
        self.0.clusters.get(name).copied()
    }
}

// === impl Known ===

impl Known {
    async fn add_persons(&mut self, db: &Transaction<'_>, keys: &[Key]) -> Result<(), Failure> {
        if keys.is_empty() {
            return Ok(());
        }
        let column = |place: usize| keys.iter().filter_map(|key| key.get(place).cloned()).collect::<Vec<_>>();
        let (subjects, issuers, providers, users) = (column(0), column(1), column(2), column(3));
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] = [&subjects, &issuers, &providers, &users];
        let insert = r#"INSERT INTO log_person (subject, issuer, provider, "user")
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING"#;
        db.execute(&db.prepare_cached(insert).await?, &values).await?;
        let select = r#"SELECT id, subject, issuer, provider, "user" FROM log_person
            JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS sought (subject, issuer, provider, "user")
            USING (subject, issuer, provider, "user")"#;
        for row in db.query(&db.prepare_cached(select).await?, &values).await? {
            let key = [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?];
            self.persons.insert(key, row.try_get(0)?);
        }
        Ok(())
    }

    async fn add_clusters(&mut self, db: &Transaction<'_>, names: &[String]) -> Result<(), Failure> {
        if names.is_empty() {
            return Ok(());
        }
        let insert = "INSERT INTO log_cluster (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING";
        db.execute(&db.prepare_cached(insert).await?, &[&names]).await?;
        let select = db.prepare_cached("SELECT id, name FROM log_cluster WHERE name = ANY ($1)").await?;
        for row in db.query(&select, &[&names]).await? {
            self.clusters.insert(row.try_get(1)?, row.try_get(0)?);
        }
        Ok(())
    }
}

fn key(person: &Person) -> Key {
    [&person.subject, &person.issuer, &person.provider, &person.user].map(Clone::clone)
}

// === looking up ===

/// The persons that the filter asks for; `None` where it asks for none.
pub(super) async fn persons(db: &Object, filter: &EntryFilter) -> Result<Option<Vec<i64>>, Failure> {
    let by_text = match &filter.person {
        Some(text) => {
            let select =
                r#"SELECT id FROM log_person WHERE "user" = $1 UNION SELECT id FROM log_person WHERE subject = $1"#;
            Some(ids(db, select, &[text]).await?)
        }
        None => None,
    };
    let Some(own) = &filter.own else { return Ok(by_text) };
    let select = "SELECT id FROM log_person WHERE subject = $1 AND issuer = $2 AND provider = $3";
    let mut found = ids(db, select, &[&own.subject, &own.issuer, &own.provider.as_str()]).await?;
    if let Some(by_text) = by_text {
        found.retain(|id| by_text.contains(id));
    }
    Ok(Some(found))
}

/// The cluster of this name, if the log names it.
pub(super) async fn cluster(db: &Object, name: &str) -> Result<Option<i64>, Failure> {
    Ok(ids(db, "SELECT id FROM log_cluster WHERE name = $1", &[&name]).await?.first().copied())
}

async fn ids(
    db: &Object,
    select: &str,
    values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<i64>, Failure> {
    let select = db.prepare_cached(select).await?;
    db.query(&select, values).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
