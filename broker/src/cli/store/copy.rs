//! `store copy`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use crate::app;
use crate::cli::block_on;
use crate::cli::desk;
use crate::regular::{self, Links};
use crate::store::copy::Place;
use crate::store::postgres::{Address, TlsFiles};

/// `store copy`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Copy {
    /// The database to read.
    #[arg(long, value_name = "DATABASE")]
    from: String,
    /// The database to fill.
    #[arg(long, value_name = "DATABASE")]
    to: String,
    /// The CA that signed the Postgres server's certificate, PEM, instead of the system's roots.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A client certificate for the Postgres server, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of `--certificate`, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Why; it goes into the audit of the new database.
    #[arg(long, value_parser = desk::reason)]
    reason: String,
}

impl Copy {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let (from, to) = (self.place(&self.from)?, self.place(&self.to)?);
        let (from_name, to_name) = (said(&from), said(&to));
        let act = desk::act(desk::Deed {
            message: format!("state and log copied from {from_name} to {to_name}"),
            reason: self.reason.clone(),
            ..desk::Deed::default()
        });
        let copied = block_on(async move { Ok(app::move_store(&from, &to, act.into_content()).await?) })?;
        writeln!(out, "copied {} rows, {} of them entries of the log, to {to_name}", copied.rows, copied.entries)?;
        writeln!(out, "read back and compared: sha256 {}", copied.digest)?;
        writeln!(out, "next: name the new database in the configuration, then `ichor-broker audit verify`")?;
        Ok(())
    }

    fn place(&self, text: &str) -> anyhow::Result<Place> {
        let url = match text.strip_prefix('@') {
            Some(file) => regular::read_text(file.as_ref(), regular::LINE, Links::Followed)
                .with_context(|| format!("cannot read `{file}`"))?,
            None => text.to_owned(),
        };
        let url = url.trim();
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                bail!("name the file, as `sqlite:/etc/ichor/data/ichor.db`");
            }
            return Ok(Place::Sqlite(path.into()));
        }
        if !url.starts_with("postgres") {
            bail!("`{text}` is no database; write `sqlite:PATH`, `postgres://…`, or `@FILE` with such a URL in it");
        }
        let client = self.certificate.clone().zip(self.key.clone());
        Ok(Place::Postgres(Box::new(Address::parse(&url.into(), TlsFiles { ca: self.ca.clone(), client })?)))
    }
}

/// A database for people, without its password.
fn said(place: &Place) -> String {
    match place {
        Place::Sqlite(path) => format!("sqlite:{}", path.display()),
        Place::Postgres(address) => address.to_string(),
    }
}
