//! `custody backup`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::{count, deed, recorded, vault_key};
use crate::cli::FolderArg;
use crate::clock::{Clock, SystemClock};
use crate::custody::Backup;

/// `custody backup`. What is there is written also where something is missing that belongs to it; then the exit code is 1.
#[derive(Debug, Args)]
pub(in crate::cli) struct BackUp {
    #[command(flatten)]
    folder: FolderArg,
    /// The file to write.
    file: PathBuf,
    /// Seal to this recipient instead of the vault's. May be given again.
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl BackUp {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let file = self.file.display();
        if self.file.symlink_metadata().is_ok() {
            bail!("`{file}` exists, and a backup overwrites nothing; name another file");
        }
        let vault = vault_key::vault(&loaded.settings)?;
        let backup = vault.backup(&self.recipients, SystemClock.now())?;
        let mut message = format!("vault backed up to `{file}`: {}", count(backup.holds().len(), "file"));
        if !backup.lacks().is_empty() {
            message = format!("{message}; not whole, {} missing", count(backup.lacks().len(), "file"));
        }
        let deed = deed(message, &self.reason, [("backup", backup.digest())]);
        recorded(&loaded, deed, "no backup was written", || backup.write(&self.file))?;
        writeln!(out, "wrote `{file}`, sealed to {}; it holds", backup.recipients())?;
        for held in backup.holds() {
            writeln!(out, "  {held}")?;
        }
        writeln!(out, "sha256 {}", backup.digest())?;
        if self.recipients.is_empty() && vault.opens_only_by_itself() {
            writeln!(
                out,
                "warning: only the identity in the vault's own folder opens this backup, so both are lost together; give a \
                 key that is kept elsewhere with `--recipient`"
            )?;
        }
        let identity = if self.recipients.is_empty() { "" } else { " --identity KEY" };
        let drill = format!("ichor-broker custody restore {file} --drill{identity}{}", self.folder.said());
        writeln!(out, "next: see that it opens, with `{drill} --reason \"a drill\"`")?;
        check_whole(&self.file, &backup, out)
    }
}

/// Fails where a backup that was written lacks what belongs to it, and prints what.
pub(in crate::cli) fn check_whole(file: &Path, backup: &Backup, out: &mut dyn Write) -> anyhow::Result<()> {
    for lacked in backup.lacks() {
        writeln!(out, "MISSING  {lacked}")?;
    }
    match backup.lacks().len() {
        0 => Ok(()),
        missing => bail!(
            "`{}` was written and is not whole: the vault lacks {}, named above; make another once that is mended",
            file.display(),
            count(missing, "file")
        ),
    }
}
