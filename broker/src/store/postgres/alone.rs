//! Who has the database open: brokers and commands share it, and a command that changes whose log it is holds it alone.
//!
//! Both are advisory locks of the session, so they end with the connection, however it ends.

use std::time::Duration;

use tokio_postgres::Client;

use super::{Address, Failure, single};
use crate::store::StoreError;

/// Any number that nothing else in this database takes.
const LOCK: i64 = 0x6963_686f_7200_0002;

/// A server sees a moment later that a broker's connections are gone: so often, and with such pauses, that is waited for.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// What whoever would share it is told.
pub(super) const HELD: &str =
    "`audit rotate-key` or `audit reopen` holds it alone at this moment; start this again once that has ended";

/// Shares the database for as long as the session lives; whether nobody holds it alone.
pub(super) async fn share(db: &Client) -> Result<bool, tokio_postgres::Error> {
    db.query_one("SELECT pg_try_advisory_lock_shared($1)", &[&LOCK]).await?.try_get(0)
}

/// Holds the database alone for as long as what is answered lives.
///
/// # Errors
/// [`StoreError::Locked`] where a broker or a command has it open.
pub(super) async fn hold(address: &Address) -> Result<Client, StoreError> {
    let db = single::connect(address).await?;
    for _ in 0..TRIES {
        let held = async { db.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?.try_get(0) };
        if held.await.map_err(Failure::Postgres)? {
            return Ok(db);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(StoreError::Locked)
}
