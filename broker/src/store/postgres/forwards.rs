//! How far each forwarding of the log has come.

use deadpool_postgres::Object;

use super::{Failure, SKEW};
use crate::store::ForwardRow;
use crate::store::value::{signed, unsigned};

/// Whoever asks may have waited so long for a connection and the row, while the one that holds it held it anew.
const LATE: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);

pub(super) async fn cursor(db: &Object, name: &str) -> Result<Option<ForwardRow>, Failure> {
    let select = db.prepare_cached("SELECT next, tag FROM forward WHERE name = $1").await?;
    let row = db.query_opt(&select, &[&name]).await?;
    row.map(|row| Ok(ForwardRow { next: unsigned(row.try_get(0)?)?, tag: row.try_get(1)? })).transpose()
}

/// Whether `to` is kept now, which it is only where `was` was.
pub(super) async fn replace(
    db: &Object,
    name: &str,
    was: Option<&ForwardRow>,
    to: &ForwardRow,
) -> Result<bool, Failure> {
    let next = signed(to.next);
    let changed = match was {
        None => {
            let insert = "INSERT INTO forward (name, next, tag) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            db.execute(&db.prepare_cached(insert).await?, &[&name, &next, &to.tag]).await?
        }
        Some(was) => {
            let update = "UPDATE forward SET next = $2, tag = $3
                          WHERE name = $1 AND next = $4 AND tag IS NOT DISTINCT FROM $5";
            let update = db.prepare_cached(update).await?;
            db.execute(&update, &[&name, &next, &to.tag, &signed(was.next), &was.tag]).await?
        }
    };
    Ok(changed == 1)
}

/// Whether `holder` holds it now, until `until`. Whoever else would hold it beyond that and the clocks' difference does not: no broker
/// holds it for longer than is asked for now.
pub(super) async fn hold(db: &Object, name: &str, holder: &[u8; 16], now: i64, until: i64) -> Result<bool, Failure> {
    let held = db
        .prepare_cached(
            "INSERT INTO forward_holder AS kept (name, holder, until) VALUES ($1, $2, $4)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
                WHERE kept.holder = excluded.holder OR kept.until <= $3 OR kept.until > $5",
        )
        .await?;
    let latest = until.saturating_add(i64::try_from((SKEW + LATE).as_micros()).unwrap_or(i64::MAX));
    Ok(db.execute(&held, &[&name, &holder.as_slice(), &now, &until, &latest]).await? == 1)
}
