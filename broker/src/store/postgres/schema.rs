//! The schema's steps. They are taken when someone asks for it, never by a start alone: of several brokers one must do it, and
//! when is the operator's choice.

use tokio_postgres::GenericClient;

use super::{Failure, certificates};

/// The schema's steps, in order; the position of a step plus one is what `schema_step` says after it. Append-only.
pub(in crate::store) const STEPS: [&str; 12] = [
    include_str!("../../../../migrations/postgres/0001_first.sql"),
    include_str!("../../../../migrations/postgres/0002_tree.sql"),
    include_str!("../../../../migrations/postgres/0003_calls.sql"),
    include_str!("../../../../migrations/postgres/0004_asking.sql"),
    include_str!("../../../../migrations/postgres/0005_break_glass.sql"),
    include_str!("../../../../migrations/postgres/0006_lock.sql"),
    include_str!("../../../../migrations/postgres/0007_told.sql"),
    include_str!("../../../../migrations/postgres/0008_page.sql"),
    include_str!("../../../../migrations/postgres/0009_marked_places.sql"),
    include_str!("../../../../migrations/postgres/0010_fair_quota.sql"),
    include_str!("../../../../migrations/postgres/0011_whose.sql"),
    include_str!("../../../../migrations/postgres/0012_glass.sql"),
];

/// The step whose tables are filled from what the log says already.
const ASKING: usize = 4;

/// The tables that the steps make.
const TABLES: [&str; 27] = [
    "body",
    "break_glass",
    "break_glass_approval",
    "break_glass_told",
    "break_glass_use",
    "call",
    "call_method",
    "call_node",
    "call_taken",
    "call_user",
    "certificate",
    "checkpoint",
    "device",
    "drop_request",
    "forward",
    "forward_holder",
    "leaf",
    "lock",
    "log_cluster",
    "log_head",
    "log_person",
    "login",
    "node_seen",
    "probe",
    "provider",
    "session",
    "tile",
];

/// The advisory lock of whoever migrates: any number that nothing else in this database takes.
const LOCK: i64 = 0x6963_686f_7200_0001;

/// Brings the schema to this build's step, all missing steps in one transaction; answers how many there were. Another who
/// does the same at this moment is waited for.
pub(super) async fn migrate(db: &mut tokio_postgres::Client) -> Result<usize, Failure> {
    db.batch_execute("SET lock_timeout = 0").await?;
    let transaction = db.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    transaction.batch_execute("CREATE TABLE IF NOT EXISTS schema_step (step integer NOT NULL)").await?;
    let reached = reached(&transaction).await?;
    let missing: Vec<_> = STEPS.iter().skip(reached).collect();
    for (number, sql) in (reached + 1..).zip(&missing) {
        transaction.batch_execute(sql).await?;
        if number == ASKING {
            certificates::fill(&transaction).await?;
        }
    }
    let step = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
    transaction.batch_execute("DELETE FROM schema_step").await?;
    transaction.execute("INSERT INTO schema_step (step) VALUES ($1)", &[&step]).await?;
    transaction.commit().await?;
    Ok(missing.len())
}

/// Checks that the schema is this build's.
pub(super) async fn check(db: &tokio_postgres::Client) -> Result<(), Failure> {
    let known = STEPS.len();
    let made: bool = db.query_one("SELECT to_regclass('schema_step') IS NOT NULL", &[]).await?.try_get(0)?;
    let step = if made { reached(db).await? } else { 0 };
    match step {
        step if step == known => match between(db).await? {
            None => Ok(()),
            Some(what) => Err(Failure::Schema(format!(
                "{what}, and a broker makes none such: it could change or hide what is stored; find out who changes the database, and take it out"
            ))),
        },
        0 => Err(Failure::Schema("it has no tables yet; make them with `ichor-broker store migrate`".into())),
        step => Err(Failure::Schema(format!(
            "it was written by an older build (schema {step}, this build knows {known}); start one broker with `serve --migrate`, \
             or run `ichor-broker store migrate`"
        ))),
    }
}

/// What somebody put between our statements and our tables, in words: row security, a rule, a trigger, tables that inherit, or something else in
/// a table's place.
pub(super) async fn between(db: &impl GenericClient) -> Result<Option<String>, Failure> {
    let found = db
        .query_opt(
            "SELECT name, CASE
                 WHEN c.oid IS NULL OR c.relkind <> 'r' THEN 'is no table'
                 WHEN c.relrowsecurity OR c.relforcerowsecurity THEN 'has row security'
                 WHEN EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid) THEN 'has a rule'
                 WHEN EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid OR inhrelid = c.oid) THEN 'inherits, or others inherit from it'
                 ELSE 'has a trigger' END
             FROM unnest($1::text[]) AS name LEFT JOIN pg_class c ON c.oid = to_regclass(quote_ident(name))
             WHERE c.oid IS NULL OR c.relkind <> 'r' OR c.relrowsecurity OR c.relforcerowsecurity
                 OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid)
                 OR EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid OR inhrelid = c.oid)
                 OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)
             ORDER BY name LIMIT 1",
            &[&TABLES.as_slice()],
        )
        .await?;
    let Some(row) = found else { return Ok(None) };
    let (table, what): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Some(format!("its table `{table}` {what}")))
}

/// The step that the database has reached, refused where it is beyond what this build knows.
async fn reached(db: &impl GenericClient) -> Result<usize, Failure> {
    let step: i32 = match db.query_opt("SELECT max(step) FROM schema_step HAVING count(*) > 0", &[]).await? {
        Some(row) => row.try_get(0)?,
        None => 0,
    };
    let known = STEPS.len();
    match usize::try_from(step) {
        Ok(step) if step <= known => Ok(step),
        _ => Err(Failure::Schema(format!(
            "it was written by a newer build (schema {step}, this build knows {known}); install that build"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_that_the_steps_make() {
        let statements = STEPS.iter().flat_map(|step| step.split("CREATE TABLE ").skip(1));
        let mut made: Vec<_> = statements.filter_map(|rest| rest.split([' ', '(']).next()).collect();
        made.sort_unstable();
        assert_eq!(made, TABLES);
    }
}
