//! A request as people read it.

use std::io;

use jiff::{SignedDuration, Timestamp};

use crate::break_glass::Glass;
use crate::cli::lifetime::{good_for, spell};
use crate::cli::terminal::Terminal;

/// That the nodes named are a statement.
const NOT_ENFORCED: &str = "not enforced in direct mode; the review flags calls elsewhere";

/// Everything that matters to whoever decides, a line each.
pub(super) fn lines(glass: &Glass, now: Timestamp) -> Vec<String> {
    let Glass { answer, contents } = glass;
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<12}{text}"));
    line("request", answer.id.to_string());
    line("state", answer.state.clone());
    if let Some(why) = &answer.suspect {
        line("NOT BELIEVED", format!(" {why}; nothing is made of it: tell the broker's operator"));
    }
    line("who", format!("{} ({} at {}, from {})", contents.name, contents.user, contents.provider, contents.address));
    line("why", contents.reason.clone());
    if let Some(ticket) = &contents.ticket {
        line("ticket", ticket.clone());
    }
    let roles: Vec<_> = contents.roles.iter().map(|role| role.as_str()).collect();
    let life = SignedDuration::from_secs(i64::try_from(contents.ttl).unwrap_or(i64::MAX));
    let certificates =
        if contents.uses == 1 { "one certificate".into() } else { format!("{} certificates", contents.uses) };
    line("what", format!("{} on {}, {certificates}", roles.join(","), contents.cluster));
    let from = if contents.self_service { "the accepted notification" } else { "the last approval" };
    line("how long", format!("{} from {from} on", spell(life)));
    if !contents.nodes.is_empty() {
        line("nodes", format!("{} ({NOT_ENFORCED})", contents.nodes.join(", ")));
    }
    match (contents.self_service, &answer.told) {
        (true, Some(sink)) => line("approval", format!("none: self-service; `{sink}` has accepted the notification")),
        (true, None) => line("approval", "none: self-service; no sink has accepted the notification yet".into()),
        (false, _) => line("agreed", format!("{} of {}{}", answer.approvals.len(), contents.approvals, who(glass))),
    }
    match answer.good_until {
        Some(until) => line("good until", format!("{until:.0}")),
        None if answer.closing.is_some() => {}
        None => line("waits until", format!("{:.0}{}", contents.waits_until, left(contents.waits_until, now))),
    }
    if answer.used > 0 {
        line("used", format!("{} of {}", answer.used, contents.uses));
    }
    for grant in &answer.grants {
        line("grant", grant.to_string());
    }
    if let Some(closing) = &answer.closing {
        line("ended by", format!("{}{}", closing.user, said(closing.comment.as_deref())));
    }
    if let Some(review) = &answer.review {
        line("reviewed", format!("{} by {}: {}", review.label, review.user, review.note));
    }
    line("sha256", answer.sha256.clone());
    lines
}

/// What can be done with it, as commands.
pub(super) fn steps(glass: &Glass) -> Vec<String> {
    let id = glass.answer.id;
    let command = |what: &str| match what {
        "review" => format!("ichor break-glass review {id} --as emergency|drill|misuse --note TEXT"),
        what => format!("ichor break-glass {what} {id}"),
    };
    glass.answer.may.iter().map(|what| command(what)).collect()
}

pub(super) fn print(terminal: &mut Terminal, glass: &Glass, now: Timestamp) -> io::Result<()> {
    lines(glass, now).iter().try_for_each(|line| terminal.line(line))?;
    steps(glass).iter().try_for_each(|step| terminal.line(&format!("  → {step}")))
}

/// A row of a list.
pub(super) fn row(glass: &Glass) -> Vec<String> {
    let Glass { answer, contents } = glass;
    let roles: Vec<_> = contents.roles.iter().map(|role| role.as_str()).collect();
    vec![
        answer.id.to_string(),
        if answer.suspect.is_some() { format!("{}, suspect", answer.state) } else { answer.state.clone() },
        contents.user.clone(),
        contents.cluster.clone(),
        roles.join(","),
        match contents.self_service {
            true => "alone".into(),
            false => format!("{}/{}", answer.approvals.len(), contents.approvals),
        },
        answer.may.join(","),
        contents.reason.clone(),
    ]
}

/// What it gives now.
pub(super) fn gives(glass: &Glass, end: Timestamp, now: Timestamp) -> String {
    good_for(&glass.contents.roles, end, now)
}

fn who(glass: &Glass) -> String {
    let names: Vec<_> = glass
        .answer
        .approvals
        .iter()
        .map(|approval| format!("{}{}", approval.user, said(approval.comment.as_deref())))
        .collect();
    if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
}

fn said(comment: Option<&str>) -> String {
    comment.map(|comment| format!(" ({comment})")).unwrap_or_default()
}

fn left(until: Timestamp, now: Timestamp) -> String {
    let left = until.duration_since(now);
    if left.is_positive() { format!(" ({} left)", spell(left)) } else { String::new() }
}
