//! `audit verify`.

use std::io::Write;

use clap::Subcommand;

use super::{FolderArg, block_on};
use crate::app;

/// Commands on the log as it lies on this host.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Read the whole log: indexes without gaps, every body as its leaf says, every index column as its body says, times in
    /// order. Finds damage, gaps, and entries whose parts disagree; not whoever writes the database and recomputes what
    /// belongs together, nor a log whose end was cut off. Works beside a running broker.
    Verify {
        #[command(flatten)]
        folder: FolderArg,
    },
}

impl AuditCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let Self::Verify { folder } = self;
        let loaded = folder.folder().load()?;
        let report = block_on(async {
            let store = app::read_store(&loaded.settings).await?;
            Ok(crate::audit::verify_log(&*store).await?)
        })?;
        writeln!(out, "no damage: {report}")?;
        Ok(())
    }
}
