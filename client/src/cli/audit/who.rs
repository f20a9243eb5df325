//! `ichor audit who`: who touched a node.

use std::collections::BTreeSet;

use ichor_wire::api::{AuditEntry, ClustersAnswer, NodeCall};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::calls::{calls, short_method, taken};
use super::times::{Stretch, Zone, ZoneArgs, stretch};
use super::{MORE, Query, entries, note_undeclared};
use crate::cli::terminal::Terminal;
use crate::cli::{Here, block_on};
use crate::error::Error;
use crate::session::Session;

/// No certificate lives longer, whatever a policy says: one that was issued before is over.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// Tell who touched a node, by the node's own log; where it tells nothing, who could have
///
/// A line of a node's log is a claim that a certificate trusted by the node made the call: `explained` does not mean proven.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node, by the name or address that the broker knows it by
    #[arg(long, value_name = "NODE")]
    node: String,
    /// Only as a node of this cluster
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,
    /// From this time on: 2026-11-22T10:00:00Z, or 24h or 30d for so long ago
    #[arg(long, value_name = "TIME", default_value = "24h")]
    since: String,
    /// Up to this time, written alike
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only calls of this method, whole or as Reboot
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// At most so many calls, the newest
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    zone: ZoneArgs,
}

/// What there is to tell.
struct Told {
    clusters: Vec<String>,
    calls: Vec<NodeCall>,
    /// Certificates with which the node could have been called, where its log tells of no call.
    could: Vec<AuditEntry>,
    /// There are more of these than were asked for.
    could_more: bool,
    /// There are more calls than were asked for.
    more: bool,
    /// The quota took calls of that time, which came up to this one.
    taken_until: Option<Timestamp>,
}

/// What a certificate is had by: an issuing, or a kit's opening, which may be reported long after.
const HAD_BY: [&str; 2] = ["issued", "kit-opened"];

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let now = here.around.clock.now();
    let Stretch { since, until } = stretch(Some(&args.since), args.until.as_deref(), now)?;
    let since = since.unwrap_or(now);
    let session = here.session()?;
    let waiting = here.around.terminal.waiting("asking the broker".into());
    let told = block_on(ask(&session, &args, since, until));
    drop(waiting);
    let told = told?;
    if told.calls.is_empty() && told.could.is_empty() {
        note_undeclared(here, &session, args.cluster.as_deref());
    }
    let value = json!({ "node": args.node, "clusters": told.clusters, "calls": told.calls, "could_have": told.could,
        "more": told.more || told.could_more, "taken_until": told.taken_until });
    let zone = args.zone.zone();
    here.print(&value, |terminal| print(terminal, &args, &told, &zone))
}

async fn ask(session: &Session, args: &Args, since: Timestamp, until: Option<Timestamp>) -> Result<Told, Error> {
    let clusters = match &args.cluster {
        Some(cluster) => vec![cluster.clone()],
        None => clusters_of(session, &args.node).await?,
    };
    let between = |since: Timestamp| {
        let until = until.map(|until| ("until", until.to_string()));
        std::iter::once(("since", since.to_string())).chain(until)
    };
    // whoever may read the audit of one cluster alone is answered too, where the node is of one
    let one = <&[String; 1]>::try_from(clusters.as_slice()).ok().map(|[cluster]| ("cluster", cluster.clone()));
    let mut query: Query = vec![("node", args.node.clone())];
    query.extend(one);
    query.extend(between(since));
    query.extend(args.method.clone().map(|method| ("method", method)));
    let found = calls(session, &query, args.limit).await?;
    let (more, taken_until, calls) = (found.more, found.taken_until(Some(since)), found.calls);
    let (mut could, mut could_more) = (Vec::new(), false);
    if calls.is_empty() {
        let longest = since.saturating_sub(LONGEST_LIFE).unwrap_or(Timestamp::MIN);
        for (cluster, kind) in clusters.iter().flat_map(|cluster| HAD_BY.map(|kind| (cluster, kind))) {
            let mut query: Query = vec![("cluster", cluster.clone()), ("kind", kind.into())];
            match kind {
                "issued" => query.extend(between(longest)),
                _ => query.push(("since", longest.to_string())),
            }
            let found = entries(session, &query, args.limit).await?;
            could_more |= found.more;
            could.extend(found.entries);
        }
        could.retain(|entry| end(entry).is_none_or(|end| end > since));
        could.sort_by_key(|entry| std::cmp::Reverse(entry.index));
    }
    Ok(Told { clusters, calls, could, could_more, more, taken_until })
}

/// The clusters that declare this node, as a node or an endpoint.
async fn clusters_of(session: &Session, node: &str) -> Result<Vec<String>, Error> {
    let answer: ClustersAnswer = session.broker().get(session, &["clusters"], &[]).await?;
    let declares = |texts: &[String]| texts.iter().any(|text| host(text) == host(node));
    let clusters = answer.clusters.into_iter().filter(|one| declares(&one.nodes) || declares(&one.endpoints));
    Ok(clusters.map(|cluster| cluster.name).collect())
}

/// The host of an endpoint: without scheme, port and brackets.
fn host(text: &str) -> &str {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
    if let Some((host, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => text,
    }
}

fn end(entry: &AuditEntry) -> Option<Timestamp> {
    entry.detail.get("not_after")?.parse().ok()
}

fn print(terminal: &mut Terminal, args: &Args, told: &Told, zone: &Zone) -> std::io::Result<()> {
    if let Some(until) = told.taken_until {
        terminal.line(&taken(until, zone))?;
    }
    if !told.calls.is_empty() {
        let head = ["TIME", "METHOD", "CODE", "USER", "ROLES", "CLASS", "PEER", "GRANT", "WHY"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(told.calls.iter().map(|call| call_row(call, zone)));
        terminal.table(&rows)?;
        return if told.more { terminal.line(MORE) } else { Ok(()) };
    }
    let of = args.method.as_ref().map(|method| format!(" of {method}")).unwrap_or_default();
    terminal.line(&format!("no node log tells of a call{of} at {} in that time", args.node))?;
    if told.clusters.is_empty() {
        return terminal.line("no cluster declares this node: name its cluster with --cluster");
    }
    let clusters = told.clusters.join(", ");
    if told.could.is_empty() {
        return terminal.line(&format!("and no certificate for {clusters} was good then"));
    }
    let people: BTreeSet<_> = told.could.iter().map(super::who).collect();
    let whose = match (people.len(), told.could_more) {
        (1, false) => "one person".into(),
        (count, false) => format!("{count} people"),
        (count, true) => format!("{count} at least"),
    };
    terminal.line(&format!(
        "NOT who did, but who could have, with certificates for {clusters} that were good in that time: {whose}"
    ))?;
    let mut rows = vec![["ISSUED", "UNTIL", "USER", "CLUSTER", "GRANT"].map(str::to_owned).to_vec()];
    rows.extend(told.could.iter().map(|entry| {
        vec![
            zone.show(entry.time),
            end(entry).map(|end| zone.show(end)).unwrap_or_default(),
            super::who(entry),
            entry.cluster.clone().unwrap_or_default(),
            entry.grant_id.map(|id| id.to_string()).unwrap_or_default(),
        ]
    }));
    terminal.table(&rows)?;
    if told.could_more { terminal.line(MORE) } else { Ok(()) }
}

fn call_row(call: &NodeCall, zone: &Zone) -> Vec<String> {
    vec![
        zone.show(call.started),
        short_method(call).to_owned(),
        call.code.clone().unwrap_or_default(),
        call.user.clone().unwrap_or_else(|| "?".into()),
        call.roles.join(" "),
        call.class.clone(),
        call.peer.clone().unwrap_or_default(),
        call.grant_id.map(|id| id.to_string()).unwrap_or_default(),
        call.why.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn an_endpoint_is_known_by_its_host() {
        for (text, expected) in [
            ("10.0.0.2", "10.0.0.2"),
            ("10.0.0.2:50000", "10.0.0.2"),
            ("https://cp.example.com:443/", "cp.example.com"),
            ("[2001:db8::1]:50000", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(host(text), expected, "{text}");
        }
    }
}
