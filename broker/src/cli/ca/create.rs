//! `ca create`.

use std::io::Write;

use clap::Args;

use super::keep::Keeping;
use super::target::{Kind, Where};
use crate::cli::FolderArg;
use crate::clock::{Clock, SystemClock};
use crate::custody::ca;

/// `ca create`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    #[command(flatten)]
    place: Where,
    /// How many years the CA lasts, 1 to 10.
    #[arg(long, default_value_t = ca::DEFAULT_YEARS)]
    years: u16,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
    /// Replace the CA that is in custody. Nodes go on to accept certificates of the old one until it is removed there.
    #[arg(long)]
    replace: bool,
}

impl Create {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let target = self.place.target(&loaded)?;
        let keeping = Keeping {
            loaded: &loaded,
            cluster: &cluster,
            target: &target,
            at: &self.place.at,
            message: format!("dedicated client CA made for cluster `{cluster}`"),
            reason: self.reason,
            replace: self.replace,
        };
        let now = SystemClock.now();
        let settled = if self.place.custody == Kind::Age {
            keeping.keep(&ca::create(&cluster, now, self.years)?)?
        } else {
            // at a server, what an earlier try left is gone on with
            keeping.create_there(now, self.years)?
        };
        settled.remarks.iter().try_for_each(|remark| writeln!(out, "{remark}"))?;
        let (pem, place) = (settled.certificate.pem(), settled.place.said());
        write!(out, "{}", ca::created_text(&cluster, &pem, &place, &self.folder.said())?)?;
        Ok(())
    }
}
