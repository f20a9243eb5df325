//! The Postgres that is measured: a database that is named with `--postgres`, and must be empty.

use anyhow::ensure;
use ichor_broker::store::Store;
use ichor_broker::store::postgres::{Address, Options, PostgresStore, TlsFiles};
use secrecy::SecretString;

/// The address of the database, which has its tables afterwards and no entry.
pub(crate) async fn empty(url: &str) -> anyhow::Result<Address> {
    let address = Address::parse(&SecretString::from(url), TlsFiles::default())?;
    PostgresStore::migrate(&address, &options()).await?;
    let entries = PostgresStore::open(&address, &options()).await?.head().await?.size;
    ensure!(entries == 0, "the database has {entries} entries; name an empty one with --postgres");
    Ok(address)
}

/// As a broker has them, with time enough for a busy machine.
pub(crate) fn options() -> Options {
    Options { deadline: std::time::Duration::from_secs(60), ..Options::default() }
}
