//! `custody plan|apply`.

mod engine;

use std::io::Write;

use clap::Subcommand;

pub(super) use engine::EngineArgs;

/// Commands on custody as a whole.
#[derive(Debug, Subcommand)]
pub(super) enum CustodyCommand {
    /// Print which roles a PKI engine must have for a cluster, as commands, and how they differ now.
    Plan(engine::Plan),
    /// Write the roles that a PKI engine must have for a cluster, and read them back. What is right already stays as it is.
    Apply(engine::Apply),
}

impl CustodyCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Plan(command) => command.run(out),
            Self::Apply(command) => command.run(out),
        }
    }
}
