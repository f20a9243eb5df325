//! `ichor audit show`: a whole story as a tree.

use std::collections::BTreeMap;

use ichor_wire::api::{AuditEntry, GrantStory, NodeCall, StoryAnswer};
use ichor_wire::problem::Code;
use serde_json::json;
use uuid::Uuid;

use super::calls::{Found, calls, short_method};
use super::times::{Zone, ZoneArgs};
use super::{Query, who};
use crate::cli::{Here, block_on};
use crate::error::Error;
use crate::session::Session;

/// So many grants' calls are asked for.
const GRANTS: usize = 20;

/// So many calls of each.
const CALLS: u64 = 100;

/// Tell the whole story of a grant, a session, a break-glass request, a certificate or an entry: login, break-glass request and
/// approvals, grant, certificate, calls, review, end
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A grant's, session's, break-glass request's or entry's id, an entry's index, or a certificate's serial number or SHA-256 fingerprint in hex
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    zone: ZoneArgs,
}

/// A line of the tree, and what hangs from it.
struct Branch {
    line: String,
    twigs: Vec<Branch>,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let session = here.session()?;
    let waiting = here.around.terminal.waiting("asking the broker".into());
    let path = ["audit", "stories", args.id.as_str()];
    let told = block_on(async {
        let story: StoryAnswer = session.broker().get(&session, &path, &[]).await?;
        let calls = calls_of(&session, &story).await?;
        Ok((story, calls))
    });
    drop(waiting);
    let (story, calls) = told?;
    let zone = args.zone.zone();
    here.print(
        &json!({ "story": story, "calls": calls.of.values().flatten().collect::<Vec<_>>(), "cut": calls.cut }),
        |terminal| {
            let mut lines = Vec::new();
            tree(&story, &calls, &zone).print("", "", &mut lines);
            lines.extend(calls.cut.iter().cloned());
            if story.hidden > 0 {
                lines.push(format!("{} more entries are not for you to see", story.hidden));
            }
            if story.truncated {
                lines.push("there is more than one answer holds: ask `ichor audit log` by time".into());
            }
            lines.iter().try_for_each(|line| terminal.line(line))
        },
    )
}

/// The calls of a story.
#[derive(Default)]
struct Calls {
    /// By grant, oldest first.
    of: BTreeMap<Uuid, Vec<NodeCall>>,
    /// What was left out, in sentences.
    cut: Vec<String>,
}

/// What the nodes' own logs tell of the story's grants, as far as the asker may read it.
async fn calls_of(session: &Session, story: &StoryAnswer) -> Result<Calls, Error> {
    let mut told = Calls::default();
    if story.grants.len() > GRANTS {
        told.cut.push(format!("calls are shown of the first {GRANTS} grants alone: show the others by their id"));
    }
    for grant in story.grants.iter().take(GRANTS) {
        let id = grant.grant_id;
        let mut found = calls_by(session, grant, ("grant", id.to_string())).await?;
        // where certificates name no grant, their calls rest on its entry
        if let (true, Some(entry)) = (found.calls.is_empty(), &grant.grant) {
            found = calls_by(session, grant, ("entry", entry.index.to_string())).await?;
        }
        if found.more {
            let user = "`ichor audit what --user` and `ichor audit who --node` tell of more";
            told.cut.push(format!("of grant {id} only the newest {CALLS} calls are shown: {user}"));
        }
        found.calls.reverse();
        told.of.insert(id, found.calls);
    }
    Ok(told)
}

/// The calls of a grant by this name of it; one's own where others' are not for this asker.
async fn calls_by(session: &Session, grant: &GrantStory, name: (&'static str, String)) -> Result<Found, Error> {
    let first = grant.grant.iter().chain(&grant.outcome).next();
    let cluster = first.and_then(|entry| entry.cluster.clone()).map(|cluster| ("cluster", cluster));
    let mut query: Query = std::iter::once(name).chain(cluster).collect();
    let mut found = calls(session, &query, CALLS).await;
    if matches!(&found, Err(Error::Problem(problem)) if problem.code == Code::Refused) {
        query.push(("user", "me".into()));
        found = calls(session, &query, CALLS).await;
    }
    match found {
        // at a broker of an older build: of a cluster that is no longer declared, or by an entry
        Err(Error::Problem(problem)) if [Code::UnknownCluster, Code::BadRequest].contains(&problem.code) => {
            Ok(Found { calls: Vec::new(), more: false, taken_until: None })
        }
        found => found,
    }
}

fn call_line(call: &NodeCall, zone: &Zone) -> String {
    let code = call.code.as_deref().unwrap_or("?");
    let peer = call.peer.as_ref().map(|peer| format!(" from {peer}")).unwrap_or_default();
    format!("call  {}  {} at {}{peer}, {code}, {}", zone.show(call.started), short_method(call), call.node, call.class)
}

fn tree(story: &StoryAnswer, calls: &Calls, zone: &Zone) -> Branch {
    let person = story.entries().find(|entry| entry.user.is_some() || entry.subject.is_some());
    let name = person.and_then(|entry| entry.detail.get("name")).map(|name| format!(" ({name})")).unwrap_or_default();
    let whose = person.map(|entry| format!(" of {}{name}", who(entry))).unwrap_or_default();
    let line = match story.session_id {
        Some(id) => format!("session {id}{whose}"),
        None => format!("{}{whose}", story.what),
    };
    let leaf = |entry: &AuditEntry, shown: &[&str]| Branch { line: said(entry, shown, zone), twigs: Vec::new() };
    let mut twigs: Vec<(u64, Branch)> = Vec::new();
    twigs.extend(story.login.iter().map(|entry| (entry.index, leaf(entry, &["provider", "address"]))));
    for grant in &story.grants {
        let outcome = ["serial", "fingerprint", "not_after", "code", "message", "key_made_by"];
        let mut below: Vec<_> = grant.outcome.iter().map(|entry| leaf(entry, &outcome)).collect();
        let calls = calls.of.get(&grant.grant_id).into_iter().flatten();
        below.extend(calls.map(|call| Branch { line: call_line(call, zone), twigs: Vec::new() }));
        let request = ["requester", "roles", "reason", "ticket", "quorum", "nodes", "self_service", "told"];
        twigs.extend(grant.request.iter().map(|entry| (entry.index, acted(entry, &request, zone))));
        below.extend(grant.afterwards.iter().map(|entry| acted(entry, &["label", "message"], zone)));
        let line = match &grant.grant {
            Some(entry) => {
                said(entry, &["roles", "not_after", "reason", "policies", "approvers", "told", "address"], zone)
            }
            None => format!("grant {}, whose entry is not shown", grant.grant_id),
        };
        let first = grant.grant.iter().chain(&grant.outcome).map(|entry| entry.index).min().unwrap_or(u64::MAX);
        twigs.push((first, Branch { line, twigs: below }));
    }
    let others = story.others.iter().chain(&story.entry);
    twigs.extend(others.map(|entry| (entry.index, leaf(entry, &["roles", "reason", "code", "message", "address"]))));
    twigs.extend(story.end.iter().map(|entry| (entry.index, leaf(entry, &["message", "address"]))));
    twigs.sort_by_key(|(index, _)| *index);
    Branch { line, twigs: twigs.into_iter().map(|(_, branch)| branch).collect() }
}

/// A step of a break-glass request, by whoever took it.
fn acted(entry: &AuditEntry, shown: &[&str], zone: &Zone) -> Branch {
    let by =
        if entry.user.is_some() || entry.subject.is_some() { format!(", by {}", who(entry)) } else { String::new() };
    let comment = entry.detail.get("message").filter(|_| !shown.contains(&"message"));
    let comment = comment.map(|said| format!(", said {said}")).unwrap_or_default();
    Branch { line: format!("{}{by}{comment}", said(entry, shown, zone)), twigs: Vec::new() }
}

/// An entry in a line: what happened, when, and these of its fields.
fn said(entry: &AuditEntry, shown: &[&str], zone: &Zone) -> String {
    let mut parts = vec![format!("{}  {}  entry {}", entry.kind, zone.show(entry.time), entry.index)];
    if entry.kind == "grant" {
        parts.extend(entry.grant_id.map(|id| format!("grant {id}")));
    }
    parts.extend(entry.cluster.as_ref().map(|cluster| format!("cluster {cluster}")));
    for name in shown {
        if let Some(value) = entry.detail.get(*name) {
            let value = if *name == "not_after" { zone.show_text(value) } else { value.clone() };
            let name = if *name == "not_after" { "until" } else { name };
            parts.push(format!("{name} {value}"));
        }
    }
    parts.join(", ")
}

// === impl Branch ===

impl Branch {
    fn print(&self, first: &str, rest: &str, lines: &mut Vec<String>) {
        lines.push(format!("{first}{}", self.line));
        let last = self.twigs.len().saturating_sub(1);
        for (number, twig) in self.twigs.iter().enumerate() {
            let (mark, below) = if number == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            twig.print(&format!("{rest}{mark}"), &format!("{rest}{below}"), lines);
        }
    }
}
