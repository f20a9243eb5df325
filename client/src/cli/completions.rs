//! `ichor completions`

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Here};
use crate::error::{EXIT_OK, Error};

/// Print the completions of a shell
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ichor", &mut script);
    let printed = here.around.terminal.text(&String::from_utf8_lossy(&script));
    printed.map_err(|error| {
        Error::failed(format!("the completions cannot be printed: {error}"), "check where the output goes")
    })?;
    Ok(EXIT_OK)
}
