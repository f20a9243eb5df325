//! `kit patch`.

use std::io::Write;

use anyhow::bail;

use super::one;
use crate::cli::block_on;
use crate::config::Loaded;

/// The patch, alone on the output, so that it can be a file; one that nodes are to trust no more has none.
pub(super) fn run(loaded: &Loaded, number: u16, out: &mut dyn Write) -> anyhow::Result<()> {
    let kit = block_on(one(loaded, number))?;
    if kit.revoked.is_some() {
        bail!("kit {number} is revoked: nodes are to accept it no more; `ichor-broker kit list` shows the others");
    }
    write!(out, "{}", kit.ca.accepting_patch())?;
    Ok(())
}
