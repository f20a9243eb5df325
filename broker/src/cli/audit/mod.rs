//! `audit verify|key|rotate-key|reopen`.

mod key;
mod reopen;
mod rotate_key;
mod verify;

use std::io::Write;
use std::sync::Arc;

use anyhow::bail;
use clap::Subcommand;

use super::{block_on, owner};
use crate::app;
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::store::{Store, StoreError};
pub(super) use verify::{Checked, check};

/// Commands on the log as it lies on this host.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Read the whole log and hold it against what was signed and anchored. Works beside a running broker.
    ///
    /// Indexes without gaps, every body as its leaf says, every index column as its body says, times in
    /// order, every tile of the tree as its leaves make it; the root as the kept checkpoint says, which the
    /// log's key signed; and the same for each anchor that can be read.
    ///
    /// Without an anchor an older copy of the whole database is not found out: all of it fits together.
    #[command(verbatim_doc_comment)]
    Verify(verify::Verify),
    /// Print the key that verifies the log's checkpoints, as signed notes name it.
    Key(key::Key),
    /// Make a new key that signs the log from now on, or the first one of a folder that was made without.
    /// The change is recorded and signed by the key before. Needs the broker stopped, and every broker on the same database.
    RotateKey(rotate_key::RotateKey),
    /// Go on with a log that is not the one that was signed or anchored last, as after a restore of an older
    /// database. It gets a new name, and an entry that names the head that was lost. Needs the broker stopped, and every broker on
    /// the same database.
    Reopen(reopen::Reopen),
}

impl AuditCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let _ = crate::custody::harden_process();
        match self {
            Self::Verify(command) => command.run(out),
            Self::Key(command) => command.run(out),
            Self::RotateKey(command) => command.run(out),
            Self::Reopen(command) => command.run(out),
        }
    }
}

/// The store, held by this process alone.
async fn alone(loaded: &Loaded) -> anyhow::Result<Arc<dyn Store>> {
    owner::check(loaded)?;
    match app::open_alone(&loaded.settings).await {
        Ok(store) => {
            app::check_both(&loaded.settings, &*store, SystemClock.now()).await?;
            Ok(store)
        }
        Err(StoreError::Locked) if loaded.settings.postgres.is_some() => {
            bail!("a broker, or another command, has this database open; stop every broker on it, then run this again")
        }
        Err(StoreError::Locked) => bail!("a broker runs on this folder; stop it first, then run this again"),
        Err(error) => Err(error.into()),
    }
}
