//! `audit key`.

use std::io::Write;

use clap::Args;

use super::block_on;
use crate::app;
use crate::cli::{FolderArg, vault_key};
use crate::custody::LogPin;

/// `audit key`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Key {
    #[command(flatten)]
    folder: FolderArg,
}

impl Key {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        if let Some(pin) = LogPin::read(&loaded.settings.vault)? {
            return Ok(writeln!(out, "{}", pin.key)?);
        }
        // before the first start only the key itself tells
        let custody = app::custody(&loaded, vault_key::vault(&loaded.settings)?)?;
        let key = block_on(async { Ok(custody.audit_key().await?) })?;
        let notary = app::notary(&custody, &loaded.settings.audit, key, &loaded.settings.audit.name)?;
        Ok(writeln!(out, "{}", notary.log())?)
    }
}
