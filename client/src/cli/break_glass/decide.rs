//! `ichor break-glass approve`, `deny`, `cancel` and `revoke`

use uuid::Uuid;

use super::shown;
use crate::break_glass::{self, End, Glass, Vote};
use crate::cli::{Here, block_on, step_up};
use crate::error::Error;

/// Approve someone else's request, exactly as it is shown
#[derive(Debug, clap::Args)]
pub(super) struct ApproveArgs {
    /// The request: its id, or the address of its page
    #[arg(value_parser = super::request_id)]
    id: Uuid,
    /// In your words; recorded
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Do not ask again: you have looked at it with `ichor break-glass show`
    #[arg(long)]
    yes: bool,
}

/// Deny someone else's request; one denial ends it
#[derive(Debug, clap::Args)]
pub(super) struct DenyArgs {
    /// The request: its id, or the address of its page
    #[arg(value_parser = super::request_id)]
    id: Uuid,
    /// In your words; recorded
    #[arg(long, alias = "reason", value_name = "TEXT")]
    comment: Option<String>,
    /// Do not ask again, at a terminal; elsewhere nobody is asked
    #[arg(long)]
    yes: bool,
}

/// Take your own pending request back
#[derive(Debug, clap::Args)]
pub(super) struct CancelArgs {
    /// The request: its id, or the address of its page
    #[arg(value_parser = super::request_id)]
    id: Uuid,
    /// In your words; recorded
    #[arg(long, alias = "reason", value_name = "TEXT")]
    comment: Option<String>,
}

/// Take away what an approved request still allows; a certificate that was made of it is good until it expires
#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    /// The request: its id, or the address of its page
    #[arg(value_parser = super::request_id)]
    id: Uuid,
    /// In your words; recorded
    #[arg(long, alias = "reason", value_name = "TEXT")]
    comment: Option<String>,
}

pub(super) fn approve(here: &mut Here, args: ApproveArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let glass = block_on(break_glass::show(&session, args.id))?;
    if !args.yes && glass.answer.state == "pending" {
        if here.around.ask.is_none() {
            return Err(Error::usage(
                "nobody sits at a terminal to look at what is approved",
                format!("look with `ichor break-glass show {}`, then add `--yes`", args.id),
            ));
        }
        if !agreed(here, &glass, "approve exactly this? type yes:")? {
            let next = format!("say no with `ichor break-glass deny {}`, or let it expire", args.id);
            return Err(Error::failed("not approved", next));
        }
    }
    let approved = voted(here, &glass, Vote::Approve, args.comment)?;
    done(here, &approved)
}

pub(super) fn deny(here: &mut Here, args: DenyArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let glass = block_on(break_glass::show(&session, args.id))?;
    let is_asked = !args.yes && here.around.ask.is_some() && glass.answer.state == "pending";
    if is_asked && !agreed(here, &glass, "deny this? nobody can approve it any more; type yes:")? {
        let next =
            format!("it still waits: say yes to it with `ichor break-glass approve {}`, or let it expire", args.id);
        return Err(Error::failed("not denied", next));
    }
    let denied = voted(here, &glass, Vote::Deny, args.comment)?;
    done(here, &denied)
}

pub(super) fn cancel(here: &mut Here, args: CancelArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let cancelled = block_on(break_glass::end(&session, args.id, End::Cancel, args.comment))?;
    done(here, &cancelled)
}

pub(super) fn revoke(here: &mut Here, args: RevokeArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let revoked = block_on(break_glass::end(&session, args.id, End::Revoke, args.comment))?;
    done(here, &revoked)
}

/// Says yes or no to what was looked at, after a fresh login where policy wants one.
fn voted(here: &mut Here, glass: &Glass, vote: Vote, comment: Option<String>) -> Result<Glass, Error> {
    step_up::with(here, async |session| break_glass::vote(session, glass, vote, comment.clone()).await)
}

/// Shows exactly what is asked for, and whether the person at the terminal says yes to the question.
fn agreed(here: &mut Here, glass: &Glass, question: &str) -> Result<bool, Error> {
    for line in shown::lines(glass, here.around.clock.now()) {
        here.around.terminal.note(&line);
    }
    here.around.terminal.note(question);
    let Some(ask) = &here.around.ask else { return Ok(false) };
    let typed = ask().map_err(|error| Error::failed(format!("nothing could be read: {error}"), "add `--yes`"))?;
    Ok(typed.trim().eq_ignore_ascii_case("yes"))
}

fn done(here: &mut Here, glass: &Glass) -> Result<u8, Error> {
    let now = here.around.clock.now();
    here.print(&glass.answer, |terminal| shown::print(terminal, glass, now))
}
