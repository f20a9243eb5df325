//! `reload`.

use std::io::Write;

use anyhow::bail;
use clap::Args;

use super::{FolderArg, block_on};
use crate::readiness::Check;

/// Tell the running broker to load anew; the same as SIGHUP, with an answer.
#[derive(Debug, Args)]
pub(super) struct ReloadCommand {
    #[command(flatten)]
    folder: FolderArg,
}

impl ReloadCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let answer = block_on(super::desk::call(&loaded.settings.admin_socket, "POST", "/v1/reload", Vec::new()))?;
        let checks: Vec<Check> = serde_json::from_slice(&answer)?;
        print_checks(out, &checks)
    }
}

/// A line each; fails when one of them does not work.
pub(super) fn print_checks(out: &mut dyn Write, checks: &[Check]) -> anyhow::Result<()> {
    for check in checks {
        let mark = match (check.ok, &check.detail) {
            (true, None) => "ok  ",
            (true, Some(_)) => "warn",
            (false, _) => "FAIL",
        };
        match &check.detail {
            Some(detail) => writeln!(out, "{mark}  {}: {detail}", check.name)?,
            None => writeln!(out, "{mark}  {}", check.name)?,
        }
    }
    let failed = checks.iter().filter(|check| !check.ok).count();
    if failed > 0 {
        bail!("{failed} of {} checks failed; mend what the lines above name", checks.len());
    }
    Ok(())
}
