//! `ca record`.

use std::io::Write;

use anyhow::bail;
use clap::Args;

use super::keep::{digests, taken_up};
use crate::app;
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, unlock};
use crate::custody::ca::CaFacts;
use crate::custody::{KnownCas, Place, Record};

/// `ca record`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RecordCa {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// The CA's fingerprint (SHA-256 of its certificate, hex), from a source that you trust, as a node's machine config. Needed unless
    /// the newest entry of the log about this cluster names it.
    #[arg(long, value_name = "SHA256")]
    certificate: Option<String>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl RecordCa {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = app::custody(&loaded, unlock::vault(&loaded.settings)?)?;
        let dir = custody.vault().sealer().dir();
        let written = Record::written(dir, &cluster)?;
        let record = written.clone().unwrap_or_else(|| Record::first(Place::Age { file: format!("{cluster}.age") }));
        block_on(async {
            let known = app::known_cas(&loaded.settings).await?;
            // opened whatever the log says: the operator says what it is to be
            let opened = custody.open_place(&cluster, &record.active, &KnownCas::default()).await?;
            let facts = CaFacts::of(&opened.certificate);
            let newest = known.newest(&cluster);
            let is_meant = match &self.certificate {
                Some(said) => said.trim().eq_ignore_ascii_case(&facts.fingerprint),
                None => {
                    let is_newest = newest.is_none_or(|newest| newest == facts.fingerprint);
                    is_newest && known.check(&cluster, &opened.certificate).is_ok()
                }
            };
            if !is_meant {
                let named = newest.unwrap_or("none");
                bail!(
                    "what lies in custody for cluster `{cluster}` is the CA with the certificate sha256 {}; the newest entry of the log \
                     names {named}{}. Compare it with what nodes accept, and where it is the one, name it with `--certificate {0}`",
                    facts.fingerprint,
                    if self.certificate.is_some() { ", and you another" } else { "" }
                );
            }
            if written.is_some() && known.check(&cluster, &opened.certificate).is_ok() && newest.is_some() {
                bail!("the CA of cluster `{cluster}` has its record, and the log knows it: there is nothing to do");
            }
            let desk = Desk::open(&loaded).await?;
            let deed = Deed {
                ca: true,
                cluster: Some(cluster.to_string()),
                message: format!(
                    "cluster `{cluster}`: the CA that lies in custody is the one that is meant: {}",
                    record.active.said()
                ),
                reason: self.reason.clone(),
                digests: digests(&facts),
            };
            let done = async || match written {
                Some(_) => Ok(()),
                None => Ok(record.write(dir, &cluster, false)?),
            };
            desk.act(deed, "nothing was changed", done).await?;
            let taken = taken_up(&cluster, desk.reload().await?);
            desk.close().await;
            writeln!(out, "recorded: {} ({}), valid until {}", facts.subject, facts.algorithm, facts.not_after)?;
            writeln!(out, "certificate sha256 {}", facts.fingerprint)?;
            writeln!(out, "lives in {}", record.active.said())?;
            taken.err().map_or(Ok(()), |why| writeln!(out, "{why}"))?;
            Ok(())
        })
    }
}
