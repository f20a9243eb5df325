//! `custody reseal`.

use std::io::Write;

use clap::Args;

use super::{count, deed, recorded, vault_key};
use crate::cli::FolderArg;

/// `custody reseal`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Reseal {
    #[command(flatten)]
    folder: FolderArg,
    /// A recipient to add. May be given again.
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    add: Vec<String>,
    /// A recipient to take out. May be given again.
    #[arg(long, value_name = "RECIPIENT")]
    remove: Vec<String>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl Reseal {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let vault = vault_key::vault(&loaded.settings)?;
        let plan = vault.plan_reseal(&self.add, &self.remove)?;
        let (files, recipients, removed) = (count(plan.files(), "file"), plan.recipients(), plan.removed());
        let message = format!("vault sealed again: {files}, {}", count(recipients.len(), "recipient"));
        let message = match removed.len() {
            0 => message,
            some => format!("{message}, {some} removed"),
        };
        let deed = deed(message, &self.reason, [("recipients.txt", plan.digest())]);
        let undone = "some files may be sealed to the recipients before; `custody reseal` finishes it";
        recorded(&loaded, deed, undone, || plan.apply())?;
        writeln!(out, "sealed {files} again, to {}:", count(recipients.len(), "recipient"))?;
        for line in &recipients {
            writeln!(out, "  {line}")?;
        }
        if !removed.is_empty() {
            writeln!(out, "removed:")?;
            for line in &removed {
                writeln!(out, "  {line}")?;
            }
            writeln!(
                out,
                "warning: copies made before (backups, snapshots of the disk) still open for whoever was removed. If they may \
                 have one: give each cluster a new CA with `ichor-broker ca rotate CLUSTER` (a cluster's own: `talosctl \
                 rotate-ca`), retire the old one with `ca retire CLUSTER`, and destroy the old copies."
            )?;
        }
        Ok(())
    }
}
