//! `ichor audit`: one file per question.

mod log;
mod unexplained;

use super::Here;
use crate::error::Error;

/// Ask who got what
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    Log(log::Args),
    Unexplained(unexplained::Args),
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    match args.command {
        AuditCommand::Log(args) => log::run(here, args),
        AuditCommand::Unexplained(args) => unexplained::run(here, args),
    }
}
