//! What one broker would remember in its process and several must remember together: proofs that were used, and how much of a
//! limit is used up. Both tables are unlogged, so a write to them waits for no disk.

use deadpool_postgres::Object;

use super::Failure;

/// A minute, in microseconds: an allowance is full again after it.
const MINUTE: i64 = 60_000_000;

pub(super) async fn use_once(db: &Object, id: &[u8; 16], until: i64) -> Result<bool, Failure> {
    let insert = db.prepare_cached("INSERT INTO proof (id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING").await?;
    Ok(db.execute(&insert, &[&id.as_slice(), &until]).await? == 1)
}

/// The row says when nothing of the allowance is used any more; each use moves that by its share of a minute, and none may move
/// it further than a minute ahead (the generic cell rate algorithm, ITU-T I.371 Annex A).
pub(super) async fn take(db: &Object, key: &[u8; 32], per_minute: u32, now: i64) -> Result<bool, Failure> {
    let upsert = db
        .prepare_cached(
            "INSERT INTO allowance AS kept (id, full_at) VALUES ($1, $2::bigint + $3::bigint)
             ON CONFLICT (id) DO UPDATE SET full_at = greatest(kept.full_at, $2) + $3
             WHERE greatest(kept.full_at, $2) + $3 <= $4",
        )
        .await?;
    let share = MINUTE / i64::from(per_minute.max(1));
    Ok(db.execute(&upsert, &[&key.as_slice(), &now, &share, &now.saturating_add(MINUTE)]).await? == 1)
}

pub(super) async fn sweep(db: &Object, now: i64) -> Result<(), Failure> {
    for sql in [
        "DELETE FROM proof WHERE id IN (SELECT id FROM proof WHERE expires_at <= $1 FOR UPDATE SKIP LOCKED)",
        "DELETE FROM allowance WHERE id IN (SELECT id FROM allowance WHERE full_at <= $1 FOR UPDATE SKIP LOCKED)",
    ] {
        db.execute(&db.prepare_cached(sql).await?, &[&now]).await?;
    }
    Ok(())
}
