//! `ca export-public`.

use std::io::Write;

use clap::Args;

use crate::app;
use crate::cli::{FolderArg, block_on, vault_key};

/// `ca export-public`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportPublic {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// Also the certificates of CAs that issued before.
    #[arg(long)]
    former: bool,
}

impl ExportPublic {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = app::custody(&loaded, vault_key::vault(&loaded.settings)?)?;
        let certificate =
            block_on(async { Ok(custody.certificate(&cluster, &app::known_cas(&loaded.settings).await?).await?) })?;
        write!(out, "{}", certificate.pem())?;
        if self.former {
            let record = custody.record(&cluster)?;
            record
                .former
                .iter()
                .filter_map(|former| former.certificate.as_ref())
                .try_for_each(|pem| write!(out, "{pem}"))?;
        }
        Ok(())
    }
}
