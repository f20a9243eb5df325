//! `audit verify`.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use ichor_wire::log::{Checkpoint, LogKey};

use super::block_on;
use crate::app::{self, NO_ANCHOR};
use crate::audit::{self, OpenError, VerifyReport};
use crate::cli::FolderArg;
use crate::config::{self, Loaded};
use crate::custody::LogPin;
use crate::nodelog;
use crate::store::Store;

/// `audit verify`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    #[command(flatten)]
    folder: FolderArg,
}

impl Verify {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let checked = block_on(async {
            let store = app::read_store(&loaded.settings).await?;
            check(&loaded, &*store).await
        })?;
        for line in checked.lines {
            writeln!(out, "{line}")?;
        }
        if let Some(restored) = checked.restored {
            writeln!(out, "{restored}")?;
        }
        match checked.unknown {
            Some(unknown) => bail!("{unknown}"),
            None => Ok(()),
        }
    }
}

/// A log without damage.
pub(in crate::cli) struct Checked {
    /// A line for each thing that fits.
    pub(in crate::cli) lines: Vec<String>,
    /// Why nobody can tell here whose log it is: whole in itself it may be, and anyone's.
    pub(in crate::cli) unknown: Option<String>,
    /// What has to be done before a broker starts on it, where it was restored.
    pub(in crate::cli) restored: Option<String>,
}

/// The whole log, held against what was signed and anchored.
///
/// # Errors
/// With the first thing that does not fit.
pub(in crate::cli) async fn check(loaded: &Loaded, store: &dyn Store) -> anyhow::Result<Checked> {
    // taken before the log is read, which may grow meanwhile: what they say is then part of it
    let kept = store.checkpoint().await?;
    let pin = LogPin::read(&loaded.settings.vault)?;
    let clients = config::openbao_clients(&loaded.folder, &loaded.file)?;
    let mut held = Vec::new();
    for anchor in app::anchors(&clients, &loaded.settings.audit)? {
        held.push((anchor.said(), anchor.held().await?, anchor.can_be_read()));
    }
    let report = audit::verify_log(store).await?;
    let (mut lines, mut unknown) = (vec![format!("no damage: {report}")], None);
    let calls = nodelog::verify_calls(store).await?;
    if let Some((entry, why)) = calls.faults.first() {
        bail!("calls at nodes, kept under entry {entry}: {why}");
    }
    if calls.calls > 0 {
        lines.push(format!("{} calls at nodes, {} whole batches of them as recorded", calls.calls, calls.batches));
    }
    if let Some(pin) = &pin {
        not_foreign(pin, &report)?;
    }
    let key: Option<LogKey> =
        pin.as_ref().map(|pin| pin.key.parse()).transpose().context("the vault's audit-log.toml")?;
    let signed = kept.as_ref().map_or(0, |kept| kept.size);
    let restored = report.restored.filter(|place| *place >= signed).map(|place| OpenError::Restored(place).to_string());
    match (kept, key) {
        (None, None) => lines.push("no checkpoint yet: made at the broker's next start".into()),
        (None, Some(_)) => bail!("the log's checkpoint is missing, though it has been signed before"),
        (Some(kept), None) => {
            let origin = Checkpoint::parse_unverified(&kept.note)?.origin().to_string();
            unknown = Some(format!(
                "the log is whole in itself and signed as `{origin}`, and this vault has seen no log yet, so whose it is shows at the \
                 broker's next start; an export of it is verified by `ichor audit verify --pubkey KEY`"
            ));
        }
        (Some(kept), Some(key)) => {
            let said = fits(store, &report, &kept.note, &key, "the kept checkpoint").await?;
            if Checkpoint::parse_unverified(&kept.note)?.size() != kept.size {
                bail!(
                    "the kept checkpoint's row says {} entries, and its note does not; keep this database as evidence",
                    kept.size
                );
            }
            lines.push(format!("signed by {key}: {said}"));
            for (anchor, note, can_be_read) in held {
                match note {
                    Some(note) => {
                        let said = fits(store, &report, &note, &key, &anchor).await?;
                        lines.push(format!("{anchor} agrees: {said}"));
                    }
                    // no backup has it, and a log that is opened again begins it anew
                    None if can_be_read && restored.is_none() => bail!("{anchor} holds no checkpoint"),
                    None if can_be_read => lines.push(format!("{anchor} holds no checkpoint yet")),
                    None => lines.push(format!("{anchor} cannot be read back; the broker asks it at each batch")),
                }
            }
        }
    }
    if !loaded.settings.audit.is_anchored() {
        lines.push(NO_ANCHOR.into());
    }
    Ok(Checked { lines, unknown, restored })
}

/// Whether each entry that hands this log over to another key is of a change that was made here.
fn not_foreign(pin: &LogPin, report: &VerifyReport) -> anyhow::Result<()> {
    for (place, change) in
        report.changes.iter().filter(|(_, change)| change.origin == pin.origin && change.old.is_some())
    {
        let is_known = pin.rotations.iter().any(|rotation| rotation.index == *place)
            || change.new == pin.key
            || pin.given_up.iter().chain(&pin.next).any(|key| *key == change.new);
        if !is_known {
            bail!(
                "audit entry {place}: it hands the log over to the key {}, and nobody here has changed to that: keep this database as \
                 evidence, and tell whoever verifies the log",
                change.new
            );
        }
    }
    Ok(())
}

async fn fits(store: &dyn Store, report: &VerifyReport, note: &str, key: &LogKey, who: &str) -> anyhow::Result<String> {
    let checkpoint = Checkpoint::parse_and_verify(note, key).with_context(|| who.to_owned())?;
    let size = checkpoint.size();
    if size > report.entries {
        bail!(
            "{who} speaks of {size} entries, and the log has {}: it was cut or rolled back; keep this database as evidence",
            report.entries
        );
    }
    // every tile was held against the leaves, so the tree at that size is what the leaves make
    if store.edge(size).await?.root() != *checkpoint.root() {
        bail!("the first {size} entries are not those that {who} names; keep this database as evidence");
    }
    Ok(format!("{size} entries of {}", checkpoint.origin()))
}
