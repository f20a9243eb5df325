//! `ca delegate`.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;

use super::keep::{about, taken_up};
use super::probe::Probing;
use crate::app;
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, vault_key};
use crate::config::load_clusters;
use crate::custody::DELEGATED;
use crate::custody::ca::CaFacts;

/// `ca delegate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Delegate {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// The CA signs the people's certificates itself again.
    #[arg(long)]
    end: bool,
    /// Do not ask the endpoints whether they accept the CA.
    #[arg(long, conflicts_with = "end")]
    offline: bool,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl Delegate {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let name = super::declared(&loaded, &self.cluster)?;
        let clusters = load_clusters(&loaded.settings.clusters)?;
        let cluster = clusters.get(&name).context("the cluster is not declared")?;
        let custody = Arc::new(app::custody(&loaded, vault_key::vault(&loaded.settings)?)?);
        let record = custody.record(&name)?;
        let known = block_on(async { Ok(app::known_cas(&loaded.settings).await?) })?;
        match (record.delegated, self.end) {
            // a record that the log knows nothing of is said again
            (true, false) if known.is_delegated(&name) => {
                bail!("cluster `{name}` makes its certificates already; `--end` ends that")
            }
            (false, true) => bail!("the CA of cluster `{name}` signs the certificates itself already"),
            _ => {}
        }
        // a CA that cannot be opened makes no certificate to ask with
        let opened = block_on(async { Ok(custody.open_place(&name, &record.active, &known).await?) })?;
        let facts = CaFacts::of(&opened.certificate);
        let mut digests = about(&facts, Some(&record.active));
        if !self.end {
            digests.insert(DELEGATED.to_owned(), facts.fingerprint);
        }
        block_on(async {
            let desk = Desk::open(&loaded).await?;
            if !self.end && !self.offline {
                let probing = Probing { loaded: &loaded, custody: &custody, cluster: &name, desk: &desk };
                let answers = probing.ask(&cluster.endpoints, false).await?;
                answers.iter().try_for_each(|answer| writeln!(out, "{answer}"))?;
                if !answers.iter().any(|answer| answer.is_accepted) {
                    bail!(
                        "no endpoint accepts the CA, so nothing was changed; apply what `ichor-broker ca patch {name}{}` prints \
                         first (`--offline` does not ask)",
                        self.folder.said()
                    );
                }
            }
            let place = record.active.said();
            let message = match self.end {
                true => format!("cluster `{name}`: its certificates are signed by the CA again: {place}"),
                false => format!(
                    "cluster `{name}`: its own API makes the certificates from now on, asked with certificates of os:admin \
                     that the CA signs: {place}"
                ),
            };
            let reason = self.reason.clone();
            let deed = Deed { ca: true, cluster: Some(name.to_string()), message, reason, digests };
            let changed = record.delegating(!self.end);
            let dir = custody.vault().sealer().dir();
            let done = desk.act(deed, "the certificates are made as before", async || {
                changed.replace(dir, &name, &record)?;
                anyhow::Ok(())
            });
            done.await?;
            let taken = taken_up(&name, desk.reload().await?);
            desk.close().await;
            if self.end {
                writeln!(out, "the CA signs the certificates again: {place}")?;
            } else {
                writeln!(
                    out,
                    "the cluster makes the certificates from now on, and their keys with them; see docs/custody.md"
                )?;
                writeln!(
                    out,
                    "it is asked with certificates of os:admin of 15 minutes by {place}, each in the log as ~system's"
                )?;
            }
            // it is so by record and log: what a running broker makes of it changes nothing of that
            taken.err().map_or(Ok(()), |why| writeln!(out, "{why}"))?;
            Ok(())
        })
    }
}
