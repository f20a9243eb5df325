//! `audit verify`.

use std::io::Write;
use std::sync::Arc;

use anyhow::bail;
use clap::Subcommand;

use super::{FolderArg, block_on};
use crate::store::Store;
use crate::store::sqlite::{Options, SqliteStore};

/// Commands on the log as it lies on this host.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Read the whole log: indexes without gaps, every body as its leaf says, every index column as its body says, times in
    /// order; and every call that nodes told of against the digest recorded with it. Finds damage, gaps, and entries whose parts disagree; not whoever writes the database and recomputes what
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
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open_to_read(&loaded.settings.database, Options::default())?);
        let report = block_on(async { Ok(crate::audit::verify_log(&*store).await?) })?;
        writeln!(out, "no damage: {report}")?;
        let calls = block_on(async { Ok(crate::nodelog::verify_calls(&*store).await?) })?;
        if let Some((entry, why)) = calls.faults.first() {
            bail!("calls at nodes, kept under entry {entry}: {why}");
        }
        if calls.calls > 0 {
            writeln!(out, "no damage: {} calls at nodes, {} whole batches as recorded", calls.calls, calls.batches)?;
        }
        Ok(())
    }
}
