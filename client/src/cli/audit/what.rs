//! `ichor audit what`: everything that one person did.

use std::collections::BTreeMap;

use ichor_wire::api::{AuditEntry, NodeCall};
use serde_json::json;

use super::calls::{calls, short_method, taken};
use super::times::{Zone, ZoneArgs, stretch};
use super::{Entries, MORE, Query, entries};
use crate::cli::{Here, block_on};
use crate::error::Error;

/// Tell all of one person: logins, grants, certificates, refusals, calls at nodes, ends
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The person: their `user:` value or subject; `me` for yourself
    #[arg(long, value_name = "USER")]
    user: String,
    /// From this time on: 2026-11-22T10:00:00Z, or 24h or 30d for so long ago
    #[arg(long, value_name = "TIME", default_value = "24h")]
    since: String,
    /// Up to this time, written alike
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    zone: ZoneArgs,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let now = here.around.clock.now();
    let session = here.session()?;
    let stretch = stretch(Some(&args.since), args.until.as_deref(), now)?;
    let mut query: Query = vec![("person", args.user.clone())];
    query.extend(stretch.query());
    let waiting = here.around.terminal.waiting("asking the broker".into());
    let found = block_on(async {
        let found = entries(&session, &query, args.limit).await?;
        let mut query = query.clone();
        query.retain(|(name, _)| *name != "person");
        query.push(("user", args.user.clone()));
        Ok((found, calls(&session, &query, args.limit).await?))
    });
    drop(waiting);
    let (Entries { entries: mut found, more }, calls) = found?;
    let (more, taken_until) = (more || calls.more, calls.taken_until(stretch.since));
    let calls = calls.calls;
    found.reverse();
    let zone = args.zone.zone();
    let value =
        json!({ "user": args.user, "entries": found, "calls": calls, "more": more, "taken_until": taken_until });
    here.print(&value, |terminal| {
        if let Some(until) = taken_until {
            terminal.line(&taken(until, &zone))?;
        }
        if found.is_empty() && calls.is_empty() {
            return terminal.line("nothing of this person in that time; a person is named in full: the `user:` value, as alice@example.com, or the subject");
        }
        let mut rows = vec![["TIME", "WHAT", "CLUSTER", "ROLES", "GRANT", "MORE"].map(str::to_owned).to_vec()];
        let mut timed: Vec<_> = found.iter().map(|entry| (entry.time, row(entry, &zone))).collect();
        timed.extend(calls.iter().map(|call| (call.started, call_row(call, &zone))));
        timed.sort_by_key(|(time, _)| *time);
        rows.extend(timed.into_iter().map(|(_, row)| row));
        terminal.table(&rows)?;
        let since = stretch.since.map_or_else(String::new, |since| format!("; since {}", zone.show(since)));
        terminal.line(&format!("{}{since}", counted(&found, &calls)))?;
        if more {
            terminal.line(MORE)?;
        }
        Ok(())
    })
}

fn row(entry: &AuditEntry, zone: &Zone) -> Vec<String> {
    let detail = |name: &str| entry.detail.get(name).cloned();
    let until = detail("not_after").map(|until| format!("until {}", zone.show_text(&until)));
    let more = [until, detail("reason"), detail("message"), detail("address").map(|address| format!("from {address}"))];
    vec![
        zone.show(entry.time),
        entry.kind.clone(),
        entry.cluster.clone().unwrap_or_default(),
        detail("roles").unwrap_or_default(),
        entry.grant_id.map(|id| id.to_string()).unwrap_or_default(),
        more.into_iter().flatten().collect::<Vec<_>>().join("; "),
    ]
}

fn call_row(call: &NodeCall, zone: &Zone) -> Vec<String> {
    let more = [Some(call.class.clone()), call.code.clone(), call.peer.as_ref().map(|peer| format!("from {peer}"))];
    vec![
        zone.show(call.started),
        format!("call {} at {}", short_method(call), call.node),
        call.cluster.clone(),
        call.roles.join(" "),
        call.grant_id.map(|id| id.to_string()).unwrap_or_default(),
        more.into_iter().flatten().collect::<Vec<_>>().join("; "),
    ]
}

fn counted(entries: &[AuditEntry], calls: &[NodeCall]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries {
        *counts.entry(&entry.kind).or_default() += 1;
    }
    let counts: Vec<_> = counts.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let calls = if calls.is_empty() { String::new() } else { format!("; {} calls at nodes", calls.len()) };
    format!("{} entries: {}{calls}", entries.len(), counts.join(", "))
}
