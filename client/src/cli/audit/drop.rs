//! `ichor audit drop`: bodies of old entries go, asked for by one person and approved by another.

use ichor_wire::api::{DropAnswer, DropAsk, DroppedAnswer, Nothing};
use serde_json::json;
use uuid::Uuid;

use super::times::{Zone, ZoneArgs, time};
use crate::cli::{Here, block_on};
use crate::error::{EXIT_OK, Error};
use crate::session::Session;

/// Ask for bodies of old entries to be dropped, or approve what someone else asked for
///
/// The entries' places and hashes stay, so that the log can still be verified. Nothing that is dropped comes back.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("act").required(true).multiple(true).args(["person", "before", "approve", "show"]))]
pub(super) struct Args {
    /// The bodies of this person's entries: their `user:` value or subject
    #[arg(long, value_name = "USER", requires = "reason")]
    person: Option<String>,
    /// The bodies of entries before this time: 2026-11-22T10:00:00Z, or 8760h or 365d for so long ago
    #[arg(long, value_name = "TIME", requires = "reason")]
    before: Option<String>,
    /// Why. It stays in the audit for ever, so name nobody in it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Approve the request of this id, which someone else made, and drop the bodies
    #[arg(long, value_name = "ID", conflicts_with_all = ["person", "before", "reason", "show"])]
    approve: Option<Uuid>,
    /// Show the request of this id
    #[arg(long, value_name = "ID", conflicts_with_all = ["person", "before", "reason"])]
    show: Option<Uuid>,
    /// Approve without being asked again
    #[arg(long, requires = "approve")]
    yes: bool,
    #[command(flatten)]
    zone: ZoneArgs,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let session = here.session()?;
    let zone = args.zone.zone();
    if let Some(id) = args.approve {
        return approve(here, &session, id, args.yes, &zone);
    }
    let answer: DropAnswer = match args.show {
        Some(id) => block_on(request(&session, id))?,
        None => {
            let now = here.around.clock.now();
            let before = args.before.as_deref().map(|before| time(before, now)).transpose()?;
            let ask = DropAsk { person: args.person, before, reason: args.reason.unwrap_or_default() };
            block_on(session.broker().post(&session, &["audit", "drops"], &ask))?
        }
    };
    here.print(&answer, |terminal| {
        said(&answer, &zone).iter().try_for_each(|line| terminal.line(line))?;
        if !answer.done {
            terminal.line(&format!("someone else approves: ichor audit drop --approve {}", answer.request_id))?;
        }
        Ok(())
    })
}

fn approve(here: &mut Here, session: &Session, id: Uuid, yes: bool, zone: &Zone) -> Result<u8, Error> {
    let asked = block_on(request(session, id))?;
    for line in said(&asked, zone) {
        here.around.terminal.note(&line);
    }
    if !yes {
        let Some(ask) = &here.around.ask else {
            return Err(Error::usage("nobody is here to ask", "look at it with `--show`, then give `--yes`"));
        };
        here.around.terminal.note("these bodies cannot be brought back; type `drop` to go on");
        let typed = ask().map_err(|error| Error::failed(format!("nothing could be read: {error}"), "try again"))?;
        if typed.trim() != "drop" {
            here.around.terminal.note("nothing was dropped");
            return Ok(EXIT_OK);
        }
    }
    let id = id.to_string();
    let path = ["audit", "drops", id.as_str(), "approval"];
    let (mut bodies, mut receipts) = (0_u64, Vec::new());
    loop {
        let answer: DroppedAnswer = block_on(session.broker().post(session, &path, &Nothing {}))?;
        bodies = bodies.saturating_add(answer.bodies);
        receipts.extend(answer.receipts);
        if !answer.more {
            break;
        }
    }
    let entries: Vec<_> = receipts.iter().map(|receipt| receipt.index.to_string()).collect();
    here.print(&json!({ "bodies": bodies, "receipts": receipts }), |terminal| {
        terminal.line(&format!("{bodies} bodies are gone; which, is said in entry {}", entries.join(", ")))
    })
}

async fn request(session: &Session, id: Uuid) -> Result<DropAnswer, Error> {
    session.broker().get(session, &["audit", "drops", &id.to_string()], &[]).await
}

fn said(request: &DropAnswer, zone: &Zone) -> Vec<String> {
    let whose = match (&request.person, request.done) {
        (Some(person), _) => format!("of entries of {person}"),
        (None, true) => "of entries".into(),
        (None, false) => "of everyone's entries".into(),
    };
    let state = match request.done {
        true => "done".into(),
        false => match request.bodies {
            Some(bodies) if bodies >= 10_000 || request.bodies_or_more => format!("{bodies} bodies or more would go"),
            Some(bodies) => format!("{bodies} bodies would go"),
            None => "how many bodies would go is told to whoever may read the whole audit".into(),
        },
    };
    vec![
        format!("request {}: bodies {whose} before {}", request.request_id, zone.show(request.before)),
        format!("asked for by {}, open until {}: {state}", request.asked_by, zone.show(request.expires_at)),
    ]
}
