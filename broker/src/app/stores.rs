//! Which database a broker keeps its state in, by its configuration.

use std::sync::Arc;

use ichor_wire::log::Content;

use crate::audit::{self, Sequencer};
use crate::clock::SystemClock;
use crate::config::{Postgres, Settings};
use crate::custody::KnownCas;
use crate::store::copy::{self, Copied, Place};
use crate::store::postgres::{Address, PostgresStore};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Store, StoreError};

/// The store as configured. SQLite: its writer lock is taken and its schema brought up to date. Postgres: other brokers may have
/// it open too, and it must have this build's schema, see [`migrate_store`].
///
/// # Errors
/// When another process holds the lock, or the database cannot be opened.
pub async fn open_store(settings: &Settings) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match &settings.postgres {
        Some(postgres) => Arc::new(PostgresStore::open(&address(postgres)?, &postgres.options).await?),
        None => Arc::new(SqliteStore::open(&settings.database, Options::default())?),
    })
}

/// The store as configured, with no broker and no other command beside it.
///
/// # Errors
/// As [`open_store`]; [`StoreError::Locked`] where one has it open, on Postgres also another host's.
pub async fn open_alone(settings: &Settings) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match &settings.postgres {
        Some(postgres) => Arc::new(PostgresStore::open_alone(&address(postgres)?, &postgres.options).await?),
        None => open_store(settings).await?,
    })
}

/// The store as configured, only to read, beside brokers that may be running.
///
/// # Errors
/// When the database cannot be opened, or has another schema than this build's.
pub async fn read_store(settings: &Settings) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match &settings.postgres {
        Some(_) => open_store(settings).await?,
        None => Arc::new(SqliteStore::open_to_read(&settings.database, Options::default())?),
    })
}

/// Brings the database's schema to this build's and answers how many steps were taken. SQLite takes its steps whenever it is
/// opened to write: it has one broker.
///
/// # Errors
/// When the database cannot be opened, or was written by a newer build.
pub async fn migrate_store(settings: &Settings) -> Result<usize, StoreError> {
    match &settings.postgres {
        Some(postgres) => PostgresStore::migrate(&address(postgres)?).await,
        None => SqliteStore::open(&settings.database, Options::default()).map(|_| 0),
    }
}

/// The CAs that the log of this folder knows; none before its first entry. Works beside a running broker.
///
/// # Errors
/// When the log is there and cannot be read.
pub async fn known_cas(settings: &Settings) -> Result<KnownCas, StoreError> {
    let mut known = KnownCas::default();
    if settings.postgres.is_some() || settings.database.exists() {
        audit::learn_cas(&*read_store(settings).await?, &mut known).await?;
    }
    Ok(known)
}

/// Copies state and log into an empty database, which is given its tables, reads it back, and records there what was done. A
/// SQLite source is held by its writer lock meanwhile.
///
/// # Errors
/// When a broker holds the source, the target is not empty, or either cannot be reached; then the target is as it was. A copy whose log
/// is not whole, or in which the act is not recorded, stays where it is, and the error says so.
pub async fn move_store(from: &Place, to: &Place, deed: Content) -> Result<Copied, MoveError> {
    let _held = match from {
        Place::Sqlite(path) => {
            if !path.exists() {
                return Err(StoreError::Unavailable(format!("there is no `{}`", path.display())).into());
            }
            Some(SqliteStore::open(path, Options::default())?)
        }
        Place::Postgres(_) => None,
    };
    let options = crate::store::postgres::Options::default();
    if let Place::Postgres(address) = to {
        PostgresStore::migrate(address).await?;
    }
    let copied = copy::copy(from, to).await?;
    let target: Arc<dyn Store> = match to {
        Place::Sqlite(path) => Arc::new(SqliteStore::open(path, Options::default())?),
        Place::Postgres(address) => Arc::new(PostgresStore::open(address, &options).await?),
    };
    audit::verify_log(&*target).await?;
    let (sequencer, task) = Sequencer::start(target, Arc::new(SystemClock), audit::Settings::named("store copy"));
    let deed = Content { digests: Some([("rows".to_owned(), copied.digest.clone())].into()), ..deed };
    sequencer.note(deed, None).await?;
    drop(sequencer);
    let _ = task.await;
    Ok(copied)
}

/// Why a store was not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// A database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy is whole, but its log is not: neither was the one it was made of.
    #[error(
        "the copy is what was read, and its log cannot be vouched for, nor could the source's; remove the copy, and use neither: {0}"
    )]
    Log(#[from] audit::VerifyError),
    /// The copy is whole, but the act could not be recorded in it.
    #[error("the copy is whole, but the act could not be recorded in it; remove the copy, and make another: {0}")]
    Record(#[from] audit::RecordError),
}

/// What an operator should know about how durable the database is.
///
/// # Errors
/// When it cannot be asked.
pub async fn store_warning(settings: &Settings) -> Result<Option<String>, StoreError> {
    let Some(postgres) = &settings.postgres else { return Ok(None) };
    let store = PostgresStore::open(&address(postgres)?, &postgres.options).await?;
    Ok((!store.has_synchronous_standby().await?).then(|| {
        "warning: no synchronous standby, so whoever loses this server's disk loses what was recorded last; set \
         `synchronous_standby_names` on the server"
            .into()
    }))
}

fn address(postgres: &Postgres) -> Result<Address, StoreError> {
    postgres.address().map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// Where the store is, for a copy of it.
///
/// # Errors
/// When the file with a Postgres database's URL cannot be read.
pub fn place_of(settings: &Settings) -> Result<Place, StoreError> {
    Ok(match &settings.postgres {
        Some(postgres) => Place::Postgres(Box::new(address(postgres)?)),
        None => Place::Sqlite(settings.database.clone()),
    })
}
