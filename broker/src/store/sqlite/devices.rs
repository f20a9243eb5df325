//! Device logins on their way (RFC 8628), kept as [`super::logins`] are.

use rusqlite::{Connection, OptionalExtension, Row};

use super::{DeviceLogin, Failure};
use crate::store::value::{hash, id, micros, signed, time, unsigned};

const COLUMNS: &str = "SELECT id, version, device_hash, user_code, state, expires_at FROM device";

pub(super) fn begin(db: &Connection, device: &DeviceLogin, max_pending: u32, now: i64) -> Result<bool, Failure> {
    sweep(db, now)?;
    let pending: u32 = db.prepare_cached("SELECT count(*) FROM device")?.query_row([], |row| row.get(0))?;
    if pending >= max_pending {
        return Ok(false);
    }
    // A user code is short enough to be drawn twice: then the second device is told to try again.
    let made = db
        .prepare_cached(
            "INSERT INTO device (id, version, device_hash, user_code, state, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (user_code) DO NOTHING",
        )?
        .execute((
            device.id.as_bytes(),
            signed(device.version),
            device.device_hash,
            &device.user_code,
            &device.state,
            micros(device.expires_at),
        ))?;
    Ok(made == 1)
}

pub(super) fn by_code(db: &Connection, device: &[u8; 32], now: i64) -> Result<Option<DeviceLogin>, Failure> {
    let sql = format!("{COLUMNS} WHERE device_hash = ?1 AND expires_at > ?2");
    db.prepare_cached(&sql)?.query_row((device, now), |row| Ok(parse(row))).optional()?.transpose()
}

pub(super) fn by_user_code(db: &Connection, user_code: &str, now: i64) -> Result<Option<DeviceLogin>, Failure> {
    let sql = format!("{COLUMNS} WHERE user_code = ?1 AND expires_at > ?2");
    db.prepare_cached(&sql)?.query_row((user_code, now), |row| Ok(parse(row))).optional()?.transpose()
}

pub(super) fn advance(db: &Connection, device: &DeviceLogin) -> Result<bool, Failure> {
    let changed = db
        .prepare_cached(
            "UPDATE device SET version = version + 1, device_hash = ?3, user_code = ?4, state = ?5, expires_at = ?6
             WHERE id = ?1 AND version = ?2",
        )?
        .execute((
            device.id.as_bytes(),
            signed(device.version),
            device.device_hash,
            &device.user_code,
            &device.state,
            micros(device.expires_at),
        ))?;
    Ok(changed == 1)
}

/// Removes the unexpired device login with this device code; whether there was one.
pub(super) fn consume(db: &Connection, device: &[u8; 32], now: i64) -> Result<bool, Failure> {
    let gone =
        db.prepare_cached("DELETE FROM device WHERE device_hash = ?1 AND expires_at > ?2")?.execute((device, now))?;
    Ok(gone == 1)
}

pub(super) fn sweep(db: &Connection, now: i64) -> Result<(), Failure> {
    db.prepare_cached("DELETE FROM device WHERE expires_at <= ?1")?.execute([now])?;
    Ok(())
}

fn parse(row: &Row<'_>) -> Result<DeviceLogin, Failure> {
    Ok(DeviceLogin {
        id: id(&row.get::<_, Vec<u8>>(0)?)?,
        version: unsigned(row.get(1)?)?,
        device_hash: hash(&row.get::<_, Vec<u8>>(2)?)?,
        user_code: row.get(3)?,
        state: row.get(4)?,
        expires_at: time(row.get(5)?)?,
    })
}
