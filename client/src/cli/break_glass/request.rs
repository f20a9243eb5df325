//! `ichor break-glass request`

use ichor_wire::api::BreakGlassAsk;

use super::{shown, take};
use crate::break_glass;
use crate::cli::lifetime::Shortened;
use crate::cli::{Here, WishArgs, block_on, step_up};
use crate::error::Error;

/// Ask for access that others must approve
///
/// Prints the request's id, and the address of its page for approvers. With `--wait` it waits for them and then writes the talosconfig context.
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
    /// In an emergency in which nobody can be reached: be let in without approval, where policy allows that. People are told, and
    /// it opens once a sink outside the broker has accepted the notification
    #[arg(long)]
    self_service: bool,
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
        self_service: args.self_service,
    };
    let glass = step_up::with(here, async |session| break_glass::ask(session, &ask).await)?;
    let session = here.session()?;
    let now = here.around.clock.now();
    let id = glass.answer.id;
    let page = glass.page(session.broker());
    if let Some(shortened) = Shortened::of(args.wish.ttl, glass.contents.ttl) {
        here.around.terminal.note(&shortened.to_string());
    }
    if !args.wait {
        return here.print(&glass.answer, |terminal| {
            shown::print(terminal, &glass, now)?;
            if args.self_service {
                terminal.line("  once a sink outside the broker has accepted the notification of it:")?;
            } else {
                terminal.line("  ask others to approve it, in their browser or terminal:")?;
                terminal.line(&format!("  → {page}"))?;
                terminal.line(&format!("  → ichor break-glass approve {id}"))?;
                terminal.line("  then:")?;
            }
            terminal.line(&format!("  → ichor break-glass use {id}"))
        });
    }
    for line in shown::lines(&glass, now) {
        here.around.terminal.note(&line);
    }
    let waits_for = match args.self_service {
        true => "waiting until a sink outside the broker has accepted the notification of this request",
        false => {
            here.around.terminal.note(&format!("  approvers: {page} or ichor break-glass approve {id}"));
            "waiting for approval"
        }
    };
    let waiting = here.around.terminal.waiting(waits_for.into());
    let decided = block_on(break_glass::decided(&session, &glass));
    drop(waiting);
    take::use_into(here, &session, &decided?, &target)
}
