//! Device logins on their way (RFC 8628), kept as [`super::logins`] are.

use deadpool_postgres::Object;
use tokio_postgres::Row;

use super::nul::has_nul;
use super::{DeviceLogin, Failure};
use crate::store::value::{hash, id, micros, signed, time, unsigned};

const COLUMNS: &str = "SELECT id, version, device_hash, user_code, state, expires_at FROM device";

pub(super) async fn begin(db: &Object, device: &DeviceLogin, max_pending: u32, now: i64) -> Result<bool, Failure> {
    sweep(db, now).await?;
    // A user code is short enough to be drawn twice: then the second device is told to try again.
    let insert = db
        .prepare_cached(
            "INSERT INTO device (id, version, device_hash, user_code, state, expires_at)
             SELECT $1, $2, $3, $4, $5, $6 WHERE (SELECT count(*) FROM device) < $7
             ON CONFLICT (user_code) DO NOTHING",
        )
        .await?;
    let made = db
        .execute(
            &insert,
            &[
                &device.id.as_bytes().as_slice(),
                &signed(device.version),
                &device.device_hash.as_slice(),
                &device.user_code,
                &device.state,
                &micros(device.expires_at),
                &i64::from(max_pending),
            ],
        )
        .await?;
    Ok(made == 1)
}

pub(super) async fn by_code(db: &Object, device: &[u8; 32], now: i64) -> Result<Option<DeviceLogin>, Failure> {
    let select = db.prepare_cached(&format!("{COLUMNS} WHERE device_hash = $1 AND expires_at > $2")).await?;
    db.query_opt(&select, &[&device.as_slice(), &now]).await?.map(parse).transpose()
}

pub(super) async fn by_user_code(db: &Object, user_code: &str, now: i64) -> Result<Option<DeviceLogin>, Failure> {
    if has_nul([user_code]) {
        return Ok(None);
    }
    let select = db.prepare_cached(&format!("{COLUMNS} WHERE user_code = $1 AND expires_at > $2")).await?;
    db.query_opt(&select, &[&user_code, &now]).await?.map(parse).transpose()
}

pub(super) async fn advance(db: &Object, device: &DeviceLogin) -> Result<bool, Failure> {
    let update = db
        .prepare_cached(
            "UPDATE device SET version = version + 1, device_hash = $3, user_code = $4, state = $5, expires_at = $6
             WHERE id = $1 AND version = $2",
        )
        .await?;
    let changed = db
        .execute(
            &update,
            &[
                &device.id.as_bytes().as_slice(),
                &signed(device.version),
                &device.device_hash.as_slice(),
                &device.user_code,
                &device.state,
                &micros(device.expires_at),
            ],
        )
        .await?;
    Ok(changed == 1)
}

pub(super) async fn sweep(db: &Object, now: i64) -> Result<(), Failure> {
    let delete = db
        .prepare_cached(
            "DELETE FROM device WHERE id IN (SELECT id FROM device WHERE expires_at <= $1 FOR UPDATE SKIP LOCKED)",
        )
        .await?;
    db.execute(&delete, &[&now]).await?;
    Ok(())
}

fn parse(row: Row) -> Result<DeviceLogin, Failure> {
    Ok(DeviceLogin {
        id: id(row.try_get(0)?)?,
        version: unsigned(row.try_get(1)?)?,
        device_hash: hash(row.try_get(2)?)?,
        user_code: row.try_get(3)?,
        state: row.try_get(4)?,
        expires_at: time(row.try_get(5)?)?,
    })
}
