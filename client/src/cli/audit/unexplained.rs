//! `ichor audit unexplained`: calls at nodes that want a look.

use ichor_wire::api::NodeCall;
use serde_json::json;

use super::calls::{calls, taken};
use super::times::{Zone, ZoneArgs, stretch};
use super::{MORE, Query, note_undeclared};
use crate::cli::{Here, block_on};
use crate::error::Error;

/// Print calls that nodes' own logs tell of and that no grant explains, or that want a look for another reason
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only at nodes of this cluster
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Only at this node
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only by certificates with this `user:` value; `me` for one's own
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only of this method, whole or its last part, as Reboot
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Only of these classes, separated by commas: explained, after-expiry-on-open-connection, escape, suspect, weak,
    /// unexplained; every class but explained unless given
    #[arg(long, value_name = "CLASSES", default_value = "alarming")]
    class: String,
    /// Only begun at or after this time: 2026-11-22T10:00:00Z, or 24h for so long ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only begun before this time, written alike
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many calls
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    zone: ZoneArgs,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let now = here.around.clock.now();
    let session = here.session()?;
    let texts = [("cluster", &args.cluster), ("node", &args.node), ("user", &args.user), ("method", &args.method)];
    let mut query: Query = texts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    query.push(("class", args.class.clone()));
    let stretch = stretch(args.since.as_deref(), args.until.as_deref(), now)?;
    query.extend(stretch.query());
    let waiting = here.around.terminal.waiting("asking the broker".into());
    let found = block_on(calls(&session, &query, args.limit));
    drop(waiting);
    let found = found?;
    let (more, taken_until, calls) = (found.more, found.taken_until(stretch.since), found.calls);
    if calls.is_empty() {
        note_undeclared(here, &session, args.cluster.as_deref());
    }
    let zone = args.zone.zone();
    let heading = ["STARTED", "CLUSTER", "NODE", "METHOD", "CODE", "USER", "ROLES", "CLASS", "WHY"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(calls.iter().map(|call| row(call, &zone)));
    here.print(&json!({ "calls": calls, "more": more, "taken_until": taken_until }), |terminal| {
        if let Some(until) = taken_until {
            terminal.line(&taken(until, &zone))?;
        }
        if calls.is_empty() {
            return terminal.line("no call matches");
        }
        terminal.table(&rows)?;
        if more { terminal.line(MORE) } else { Ok(()) }
    })
}

fn row(call: &NodeCall, zone: &Zone) -> Vec<String> {
    vec![
        zone.show(call.started),
        call.cluster.clone(),
        call.node.clone(),
        call.method.rsplit('/').next().unwrap_or_default().into(),
        call.code.clone().unwrap_or_default(),
        call.user.clone().unwrap_or_default(),
        call.roles.join(" "),
        call.class.clone(),
        call.why.clone().unwrap_or_default(),
    ]
}
