//! `ca import`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::keep::Keeping;
use super::target::Where;
use crate::cli::FolderArg;
use crate::clock::{Clock, SystemClock};
use crate::custody::ca;

/// `ca import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Import {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// The file; `-` reads standard input. Certificate and key in two files: give the option twice.
    #[arg(long, value_name = "FILE", required = true)]
    from: Vec<PathBuf>,
    #[command(flatten)]
    place: Where,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
    /// Replace the CA that is in custody.
    #[arg(long)]
    replace: bool,
}

impl Import {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let target = self.place.target(&loaded)?;
        let mut text = Zeroizing::new(String::new());
        for path in &self.from {
            text.push_str(&super::read(path)?);
            text.push('\n');
        }
        let (material, kind) = ca::import(&text, SystemClock.now())?;
        let facts = material.facts();
        let keeping = Keeping {
            loaded: &loaded,
            cluster: &cluster,
            target: &target,
            message: format!("CA imported for cluster `{cluster}` from {kind}"),
            reason: self.reason,
            replace: self.replace,
        };
        let settled = keeping.keep(&material)?;
        settled.remarks.iter().try_for_each(|remark| writeln!(out, "{remark}"))?;
        writeln!(
            out,
            "imported from {kind}: {} ({}), valid until {}",
            facts.subject, facts.algorithm, facts.not_after
        )?;
        writeln!(out, "certificate sha256 {}", facts.fingerprint)?;
        writeln!(out, "its key is now in custody: {}", settled.place.said())?;
        writeln!(out, "this is the cluster's own CA: whoever has its key has the cluster until `talosctl rotate-ca`")?;
        Ok(())
    }
}
