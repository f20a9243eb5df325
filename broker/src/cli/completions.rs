//! `completions`.

use std::io::Write;

use clap::{Args, CommandFactory};

/// Print a completion script, as `ichor-broker completions bash > /etc/bash_completion.d/ichor-broker`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "ichor-broker", &mut text);
        out.write_all(&text)?;
        Ok(())
    }
}
