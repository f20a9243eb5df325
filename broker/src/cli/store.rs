//! `store`.

mod copy;

use std::io::Write;

use clap::Subcommand;

use super::{FolderArg, block_on, owner};
use crate::app;

/// Commands on the database.
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Bring the database's schema to this build's, making its tables where there are none.
    ///
    /// A SQLite database is brought up to date whenever it is opened. A Postgres database, which several brokers share, only by
    /// this command or by `serve --migrate`.
    Migrate {
        #[command(flatten)]
        folder: FolderArg,
    },
    /// Copy state and log to another database, its proofs intact, and compare what was written with what was read.
    ///
    /// Stop the brokers first: what they wrote to the old database afterwards would be missing in the new
    /// one. A database is one of these:
    ///
    ///   sqlite:PATH        a file
    ///   postgres://…       a URL, as in `url_file` of the configuration
    ///   @FILE              a file with such a URL, so that no password stands in the command line
    ///
    /// A target must be empty: a SQLite file must not exist, a Postgres database is given its tables. It is
    /// filled in one transaction, so a copy that fails there leaves nothing; one that is not
    /// what was read, or whose log is not whole, is told of, with what to do about it. Examples:
    ///
    ///   ichor-broker store copy --from sqlite:/etc/ichor/data/ichor.db --to @/etc/ichor/database-url \\
    ///     --reason "three brokers from now on"
    #[command(verbatim_doc_comment)]
    Copy(copy::Copy),
}

impl StoreCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Migrate { folder } => migrate(&folder, out),
            Self::Copy(command) => command.run(out),
        }
    }
}

fn migrate(folder: &FolderArg, out: &mut dyn Write) -> anyhow::Result<()> {
    let loaded = folder.folder().load()?;
    owner::check(&loaded)?;
    let steps = block_on(async { Ok(app::migrate_store(&loaded.settings).await?) })?;
    match (steps, &loaded.settings.postgres) {
        (_, None) => writeln!(out, "the database is this build's: SQLite is brought up to date whenever it is opened")?,
        (0, Some(_)) => writeln!(out, "the database is this build's already")?,
        (1, Some(_)) => writeln!(out, "took one step; the database is this build's")?,
        (steps, Some(_)) => writeln!(out, "took {steps} steps; the database is this build's")?,
    }
    Ok(())
}
