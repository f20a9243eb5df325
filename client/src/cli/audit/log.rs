//! `ichor audit log`

use ichor_wire::api::AuditEntry;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::times::{Zone, ZoneArgs, stretch};
use super::{Entries, Query, entries, follow, more, who};
use crate::cli::{Here, block_on};
use crate::error::Error;

/// Print audit entries, newest first; or follow the log
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many entries
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "all", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Every entry that matches
    #[arg(long)]
    all: bool,
    /// Print entries as they come, oldest first, until Ctrl-C; with --since, what came since then first
    #[arg(short, long, conflicts_with_all = ["limit", "all", "until"])]
    follow: bool,
    #[command(flatten)]
    zone: ZoneArgs,
}

/// Which entries.
#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
    /// Only of this person: their `user:` value or subject; `me` for your own
    #[arg(long, value_name = "USER")]
    person: Option<String>,
    /// Only about this cluster
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Only of this kind, as login, grant, refusal, issued
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only of this grant, as it stands behind `grant:` in a certificate
    #[arg(long, value_name = "ID")]
    grant: Option<Uuid>,
    /// Only at or after this time: 2026-11-22T10:00:00Z, or 24h or 30d for so long ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time, written alike
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let now = here.around.clock.now();
    let session = here.session()?;
    let query = args.filter.query(now)?;
    let zone = args.zone.zone();
    if args.follow {
        return follow::run(here, &session, query, &zone);
    }
    let limit = if args.all { u64::MAX } else { args.limit };
    let waiting = here.around.terminal.waiting("asking the broker".into());
    let found = block_on(entries(&session, &query, limit));
    drop(waiting);
    let Entries { entries, more: is_cut } = found?;
    let mut rows = vec![["INDEX", "TIME", "KIND", "USER", "CLUSTER", "GRANT", "MORE"].map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(|entry| row(entry, &zone)));
    here.print(&json!({ "entries": entries, "more": is_cut }), |terminal| {
        if entries.is_empty() {
            return terminal.line("no entry matches");
        }
        terminal.table(&rows)?;
        if is_cut { terminal.line("there may be more: these are the newest, see --limit and --all") } else { Ok(()) }
    })
}

fn row(entry: &AuditEntry, zone: &Zone) -> Vec<String> {
    vec![
        entry.index.to_string(),
        zone.show(entry.time),
        entry.kind.clone(),
        who(entry),
        entry.cluster.clone().unwrap_or_default(),
        entry.grant_id.map(|id| id.to_string()).unwrap_or_default(),
        more(entry),
    ]
}

// === impl FilterArgs ===

impl FilterArgs {
    pub(super) fn query(&self, now: Timestamp) -> Result<Query, Error> {
        let texts = [("person", &self.person), ("cluster", &self.cluster), ("kind", &self.kind)];
        let mut query: Query = texts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
        query.extend(self.grant.map(|grant| ("grant", grant.to_string())));
        query.extend(stretch(self.since.as_deref(), self.until.as_deref(), now)?.query());
        Ok(query)
    }
}
