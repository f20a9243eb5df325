//! `ichor kit show`

use std::path::PathBuf;

use crate::cli::Here;
use crate::error::Error;
use crate::kit::read;

/// Show what a kit says of itself, in plain text; only opening it tells that nobody changed that
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The kit's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let file = read(&args.file)?;
    let facts = file.unverified_facts().clone();
    let fingerprint = file.fingerprint();
    let now = here.around.clock.now();
    here.print(&facts, |terminal| {
        let roles: Vec<&str> = facts.roles.iter().map(|role| role.as_str()).collect();
        let over = if now >= facts.until { " (over)" } else { "" };
        terminal.line(&format!("kit {} of cluster {}", facts.number, facts.cluster))?;
        terminal.line(&format!("made {:.0}, good until {:.0}{over}", facts.made, facts.until))?;
        if facts.is_static() {
            let gives =
                format!("static: gives {} to whoever opens it, by one certificate until its end", roles.join(" "));
            terminal.line(&gives)?;
            terminal.line(&format!(
                "nodes log every opener as user:{}; an opening is to last {} s",
                facts.fixed_user(),
                facts.ttl_cap
            ))?;
        } else {
            terminal.line(&format!("gives {}, for at most {} s", roles.join(" "), facts.ttl_cap))?;
        }
        terminal.line(&format!("endpoints {}", facts.endpoints.join(" ")))?;
        terminal.line(&format!("opens with {} of {} shares:", facts.threshold, facts.shares.len()))?;
        for share in &facts.shares {
            let sealed = if share.sealed_to == ichor_wire::kit::PAPER { "on paper" } else { "sealed" };
            terminal.line(&format!("  {}  {}  {sealed}", share.index, share.holder))?;
        }
        terminal.line(&format!("SHA-256 of the file {fingerprint}"))?;
        terminal.line("")?;
        facts.instructions.lines().try_for_each(|line| terminal.line(line))
    })
}
