//! A connection outside of the pool, without deadlines: for who reads or writes a whole database.

use tokio_postgres::Client;

use super::connections::{FITNESS, OLDEST};
use super::{Address, Failure, schema};
use crate::store::StoreError;

/// Connects to the database, which must be fit and have this build's schema.
pub(in crate::store) async fn connect_for_copy(address: &Address) -> Result<Client, StoreError> {
    let db = connect(address).await?;
    schema::check(&db).await?;
    Ok(db)
}

/// Connects to the database, which must be fit, whatever is in it.
pub(super) async fn connect(address: &Address) -> Result<Client, StoreError> {
    let tls = address.tls.connector().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let mut config = address.config.clone();
    config.application_name("ichor-broker command").options(
        "-c synchronous_commit=on -c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=10000",
    );
    let connected = async {
        let (db, connection) = config.connect(tls).await?;
        // its end is seen by the client's next call
        tokio::spawn(connection);
        let unfit: Option<String> = db.query_one(FITNESS, &[&OLDEST]).await?.try_get(0)?;
        match unfit {
            Some(why) => Err(Failure::Server(format!("the server is unfit: {why}"))),
            None => Ok(db),
        }
    };
    Ok(connected.await?)
}

/// What the server says is wrong.
pub(in crate::store) fn told(error: tokio_postgres::Error) -> StoreError {
    Failure::Postgres(error).into()
}
