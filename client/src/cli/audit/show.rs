//! `ichor audit show`: a whole story as a tree.

use ichor_wire::api::{AuditEntry, StoryAnswer};

use super::times::{Zone, ZoneArgs};
use super::who;
use crate::cli::{Here, block_on};
use crate::error::Error;

/// Tell the whole story of a grant, a session, a certificate or an entry: login, grant, certificate, end
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A grant's, session's or entry's id, an entry's index, or a certificate's serial number or SHA-256 fingerprint in hex
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
    let story: Result<StoryAnswer, Error> = block_on(session.broker().get(&session, &path, &[]));
    drop(waiting);
    let story = story?;
    let zone = args.zone.zone();
    here.print(&story, |terminal| {
        let mut lines = Vec::new();
        tree(&story, &zone).print("", "", &mut lines);
        if story.hidden > 0 {
            lines.push(format!("{} more entries are not for you to see", story.hidden));
        }
        if story.truncated {
            lines.push("there is more than one answer holds: ask `ichor audit log` by time".into());
        }
        lines.iter().try_for_each(|line| terminal.line(line))
    })
}

fn tree(story: &StoryAnswer, zone: &Zone) -> Branch {
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
        let below = grant.outcome.iter().map(|entry| leaf(entry, &outcome)).collect();
        let line = match &grant.grant {
            Some(entry) => said(entry, &["roles", "not_after", "reason", "policies", "address"], zone),
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
