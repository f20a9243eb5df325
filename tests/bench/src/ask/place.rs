//! Where the log lies.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use ichor_broker::store::Store;
use ichor_broker::store::postgres::{Address, PostgresStore, TlsFiles};
use ichor_broker::store::sqlite::{Options, SqliteStore};
use secrecy::SecretString;
use tokio::process::Command;

use crate::postgres;

/// One database.
pub(super) enum Place {
    /// The file.
    Sqlite(PathBuf),
    /// The URL, which has no password.
    Postgres(String),
}

// === impl Place ===

impl Place {
    /// The place that [`Self::name`] named.
    pub(super) fn named(name: &str) -> Self {
        if name.starts_with("postgres") { Self::Postgres(name.into()) } else { Self::Sqlite(name.into()) }
    }

    pub(super) fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "Postgres",
        }
    }

    pub(super) async fn open(&self) -> anyhow::Result<Arc<dyn Store>> {
        Ok(match self {
            Self::Sqlite(path) => Arc::new(SqliteStore::open(path, Options::default())?),
            Self::Postgres(url) => {
                let address = Address::parse(&SecretString::from(url.as_str()), TlsFiles::default())?;
                Arc::new(PostgresStore::open(&address, &postgres::options()).await?)
            }
        })
    }

    /// What [`super::peak_at`] answers in a process of its own.
    pub(super) async fn peak(&self, with_verification: bool) -> anyhow::Result<f64> {
        let mut asker = Command::new(std::env::current_exe()?);
        match self {
            Self::Sqlite(path) => asker.arg("--peak-at").arg(std::path::absolute(path)?),
            Self::Postgres(url) => asker.arg("--peak-at").arg(url),
        };
        if with_verification {
            asker.arg("--with-verification");
        }
        let output = asker.output().await.context("cannot start this program once more")?;
        ensure!(output.status.success(), "the process that asks failed: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().parse().context("no amount of memory")
    }
}
