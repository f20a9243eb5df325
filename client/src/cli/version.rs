//! `ichor version`

use serde_json::json;

use super::Here;
use crate::broker::VERSION;
use crate::error::Error;

/// Print this client's version
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(here: &mut Here, _args: Args) -> Result<u8, Error> {
    here.print(&json!({ "version": VERSION }), |terminal| terminal.line(&format!("ichor {VERSION}")))
}
