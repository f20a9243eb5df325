//! `ichor break-glass request`

use ichor_wire::api::BreakGlassAsk;

use super::{shown, take};
use crate::break_glass;
use crate::cli::{Here, WishArgs, block_on};
use crate::error::Error;

/// Ask for access that others must approve
///
/// Prints the request's id for approvers. With `--wait` it waits for them and then writes the talosconfig context.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The cluster
    cluster: String,
    #[command(flatten)]
    wish: WishArgs,
    /// A node that you will touch; several by repetition. A statement for approvers and the review: it is not enforced in direct
    /// mode
    #[arg(long = "node", value_name = "NODE")]
    nodes: Vec<String>,
    /// The ticket, an https URL; some policies require one
    #[arg(long, value_name = "URL")]
    ticket: Option<String>,
    /// Wait until it is decided, and once it is approved write the context
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    into: take::Into,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let Some(reason) = args.wish.reason else {
        return Err(Error::usage("break-glass needs a reason", "say why with `--reason TEXT`: approvers read it"));
    };
    let target = args.into.target(here, &args.cluster)?;
    let ask = BreakGlassAsk {
        cluster: args.cluster,
        roles: args.wish.roles.iter().map(ToString::to_string).collect(),
        ttl: args.wish.ttl,
        reason,
        nodes: args.nodes,
        ticket: args.ticket,
    };
    let session = here.session()?;
    let glass = block_on(break_glass::ask(&session, &ask))?;
    let now = here.around.clock.now();
    let id = glass.answer.id;
    if !args.wait {
        return here.print(&glass.answer, |terminal| {
            shown::print(terminal, &glass, now)?;
            terminal.line("  ask others to approve it; then:")?;
            terminal.line(&format!("  → ichor break-glass use {id}"))
        });
    }
    for line in shown::lines(&glass, now) {
        here.around.terminal.note(&line);
    }
    here.around.terminal.note(&format!("  approvers: ichor break-glass approve {id}"));
    let waiting = here.around.terminal.waiting("waiting for approval".into());
    let decided = block_on(break_glass::decided(&session, id));
    drop(waiting);
    take::use_into(here, &session, &decided?, &target)
}
