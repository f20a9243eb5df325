//! `audit reopen`: a lawful restore.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use ichor_wire::log::{Checkpoint, Content, Kind, LogKey, OldHead};

use super::rotate_key::{attest, by_hand, record};
use super::{alone, block_on};
use crate::app;
use crate::audit::{self, Notary};
use crate::cli::{FolderArg, unlock};
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::custody::{Custody, LogPin};
use crate::store::Store;

/// `audit reopen`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Reopen {
    #[command(flatten)]
    folder: FolderArg,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl Reopen {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let custody = app::custody(&loaded, unlock::vault(&loaded.settings)?)?;
        let (lost, notary) = block_on(async {
            let store = alone(&loaded).await?;
            reopen(&loaded, &custody, store, &self.reason).await
        })?;
        writeln!(
            out,
            "the log goes on as `{}`; its first entry there names the head that was lost:",
            notary.log().name()
        )?;
        writeln!(
            out,
            "  {} entries of `{}`, root {}",
            lost.size,
            lost.origin,
            data_encoding::HEXLOWER.encode(&lost.root)
        )?;
        writeln!(out, "its key is now {}; give that to whoever verifies the log, and to witnesses", notary.log())?;
        Ok(())
    }
}

async fn reopen(
    loaded: &Loaded,
    custody: &Custody,
    store: Arc<dyn Store>,
    reason: &str,
) -> anyhow::Result<(OldHead, Notary)> {
    let settings = &loaded.settings.audit;
    let pin = custody.log_pin()?.context("this log was never opened: `ichor-broker serve` opens it")?;
    if app::open_log(custody, settings, &*store, SystemClock.now()).await.is_ok() {
        bail!("this log is what was signed and anchored, so there is nothing to open again; start the broker");
    }
    // what is there must fit together, whatever it is the continuation of
    let report = audit::verify_log(&*store).await?;
    let origin = app::next_origin(&pin.origin, &settings.name);
    if let Some((place, _)) = report.changes.iter().find(|(_, change)| change.origin == origin) {
        bail!(
            "entry {place} names a key of the log `{origin}`, which does not exist yet: somebody else writes the database"
        );
    }
    let notary = app::notary(custody, settings, custody.audit_key().await?, &origin)?;
    let lost = lost(&notary, &pin, &*store).await?;
    let content = Content {
        reason: Some(reason.to_owned()),
        message: Some(format!("the log goes on as {origin}")),
        old_head: Some(lost.clone()),
        ..by_hand(Kind::LogOpened)
    };
    record(loaded, Arc::clone(&store), None, content).await?;
    attest(custody, &*store, &notary).await?;
    Ok((lost, notary))
}

/// The newest head that is known of the log: the largest that the database or an anchor holds with a signature of its key. The
/// anchors are the new notary's, which then writes over what was seen here and over nothing else.
async fn lost(notary: &Notary, pin: &LogPin, store: &dyn Store) -> anyhow::Result<OldHead> {
    let key: LogKey = pin.key.parse().context("the vault's audit-log.toml")?;
    let mut notes: Vec<String> = store.checkpoint().await?.map(|kept| kept.note).into_iter().collect();
    for anchor in notary.anchors() {
        notes.extend(anchor.held().await?);
    }
    let known = notes.iter().filter_map(|note| Checkpoint::parse_and_verify(note, &key).ok());
    match known.max_by_key(Checkpoint::size) {
        Some(head) => Ok(OldHead { origin: pin.origin.clone(), size: head.size(), root: head.root().to_vec() }),
        // everything that knew it is gone: what is left is its name
        None => Ok(OldHead { origin: pin.origin.clone(), size: 0, root: vec![0; 32] }),
    }
}
