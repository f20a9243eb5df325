//! `ichor audit log`

use ichor_wire::api::{AuditAnswer, AuditEntry};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::broker::Broker;
use crate::cli::{Here, block_on};
use crate::error::Error;
use crate::session::Session;

/// The largest page that the broker gives.
const PAGE: u64 = 500;

/// Print audit entries, newest first
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only of this person: their `user:` value or subject
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
    /// Only at or after this time: 2026-11-22T10:00:00Z, or 24h for so long ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time, written alike
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many entries
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "all", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Every entry that matches
    #[arg(long)]
    all: bool,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let now = here.around.clock.now();
    let session = here.session()?;
    let limit = if args.all { u64::MAX } else { args.limit };
    let query = query(&args, now)?;
    let waiting = here.around.terminal.waiting("asking the broker".into());
    let entries = block_on(fetch(session.broker(), &session, &query, limit));
    drop(waiting);
    let entries = entries?;
    let mut rows = vec![["INDEX", "TIME", "KIND", "USER", "CLUSTER", "GRANT", "MORE"].map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(row));
    here.print(&json!({ "entries": entries }), |terminal| match entries.len() {
        0 => terminal.line("no entry matches"),
        _ => terminal.table(&rows),
    })
}

fn query(args: &Args, now: Timestamp) -> Result<Vec<(&'static str, String)>, Error> {
    let texts = [("person", &args.person), ("cluster", &args.cluster), ("kind", &args.kind)];
    let mut query: Vec<_> = texts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    query.extend(args.grant.map(|grant| ("grant", grant.to_string())));
    for (name, value) in [("since", &args.since), ("until", &args.until)] {
        if let Some(text) = value {
            query.push((name, time(text, now)?.to_string()));
        }
    }
    Ok(query)
}

/// Page by page, until there are `limit` entries or no more.
async fn fetch(
    broker: &Broker,
    session: &Session,
    query: &[(&'static str, String)],
    limit: u64,
) -> Result<Vec<AuditEntry>, Error> {
    let mut entries: Vec<AuditEntry> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let missing = limit.saturating_sub(entries.len() as u64);
        let mut page = query.to_vec();
        page.push(("limit", missing.min(PAGE).to_string()));
        page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let answer: AuditAnswer = broker.get(session, &["audit", "entries"], &page).await?;
        let empty = answer.entries.is_empty();
        entries.extend(answer.entries);
        entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        match answer.next {
            Some(next) if !empty && (entries.len() as u64) < limit => cursor = Some(next),
            _ => return Ok(entries),
        }
    }
}

fn row(entry: &AuditEntry) -> Vec<String> {
    let more: Vec<String> = entry.detail.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        entry.index.to_string(),
        entry.time.to_string(),
        entry.kind.clone(),
        entry.user.clone().or_else(|| entry.subject.clone()).unwrap_or_default(),
        entry.cluster.clone().unwrap_or_default(),
        entry.grant_id.map(|id| id.to_string()).unwrap_or_default(),
        more.join(" "),
    ]
}

/// A time as someone writes it: RFC 3339, or how long ago.
pub(super) fn time(text: &str, now: Timestamp) -> Result<Timestamp, Error> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago: Option<SignedDuration> = text.parse().ok().filter(|ago| *ago >= SignedDuration::ZERO);
    let time = ago.and_then(|ago| now.checked_sub(ago).ok());
    time.ok_or_else(|| {
        Error::usage(format!("`{text}` is not a time"), "write 2026-11-22T10:00:00Z, or 24h for so long ago")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        let now = Timestamp::from_second(100_000).unwrap();
        assert_eq!(time("1h", now).unwrap(), Timestamp::from_second(96_400).unwrap());
        assert_eq!(time("1970-01-01T00:00:09Z", now).unwrap().as_second(), 9);
        assert!(time("-1h", now).is_err());
        assert!(time("yesterday", now).is_err());
    }
}
