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
    /// Also the certificates of CAs that issued before, those that were retired as well; where none is in force, those alone.
    #[arg(long)]
    former: bool,
}

impl ExportPublic {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = app::custody(&loaded, vault_key::vault(&loaded.settings)?)?;
        let certificate =
            block_on(async { Ok(custody.certificate(&cluster, &app::known_cas(&loaded.settings).await?).await?) });
        match certificate {
            Ok(certificate) => write!(out, "{}", certificate.pem())?,
            // those of before are wanted most where none is in force any more
            Err(error) if self.former => writeln!(std::io::stderr(), "none in force is here: {error:#}")?,
            Err(error) => return Err(error),
        }
        if self.former {
            let formers = super::formers(&loaded, &self.cluster, &mut std::io::stderr())?;
            formers.iter().try_for_each(|pem| write!(out, "{pem}"))?;
        }
        Ok(())
    }
}
