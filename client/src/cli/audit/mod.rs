//! `ichor audit`: one file per question.

mod calls;
mod drop;
mod export;
mod follow;
mod log;
mod prove;
mod show;
mod times;
mod unexplained;
mod verify;
mod what;
mod who;

use ichor_wire::api::{AuditAnswer, AuditEntry, ClustersAnswer};

use super::{Here, block_on};
use crate::error::Error;
use crate::session::Session;

/// The largest page that the broker gives.
const PAGE: u64 = 500;

/// Ask who did what, and when
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    Who(who::Args),
    What(what::Args),
    Log(log::Args),
    Show(show::Args),
    Export(export::Args),
    Drop(drop::Args),
    Verify(verify::Args),
    Prove(prove::Args),
    CheckProof(prove::CheckArgs),
    Unexplained(unexplained::Args),
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    match args.command {
        AuditCommand::Who(args) => who::run(here, args),
        AuditCommand::What(args) => what::run(here, args),
        AuditCommand::Log(args) => log::run(here, args),
        AuditCommand::Show(args) => show::run(here, args),
        AuditCommand::Export(args) => export::run(here, args),
        AuditCommand::Drop(args) => drop::run(here, args),
        AuditCommand::Verify(args) => verify::run(here, args),
        AuditCommand::Prove(args) => prove::run(here, args),
        AuditCommand::CheckProof(args) => prove::check(here, args),
        AuditCommand::Unexplained(args) => unexplained::run(here, args),
    }
}

/// What is said where not everything was shown.
const MORE: &str = "there may be more: these are the newest, see --limit and --until";

/// A query, as the broker takes it.
type Query = Vec<(&'static str, String)>;

/// Entries that were found.
struct Entries {
    /// Newest first.
    entries: Vec<AuditEntry>,
    /// There may be more.
    more: bool,
}

/// Entries that match, newest first, page by page, until there are `limit` or no more.
async fn entries(session: &Session, query: &Query, limit: u64) -> Result<Entries, Error> {
    let mut entries: Vec<AuditEntry> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let missing = limit.saturating_sub(entries.len() as u64);
        let mut page = query.to_vec();
        page.push(("limit", missing.min(PAGE).to_string()));
        page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let answer: AuditAnswer = session.broker().get(session, &["audit", "entries"], &page).await?;
        let empty = answer.entries.is_empty();
        entries.extend(answer.entries);
        let beyond = entries.len() as u64 > limit;
        entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        match answer.next {
            Some(next) if !empty && (entries.len() as u64) < limit => cursor = Some(next),
            next => return Ok(Entries { entries, more: beyond || next.is_some() && !empty }),
        }
    }
}

/// Tells, where an answer about this cluster is empty, that no cluster of that name is declared: it may be mistyped. Where the broker
/// does not say which are, nothing is told.
fn note_undeclared(here: &mut Here, session: &Session, cluster: Option<&str>) {
    let Some(name) = cluster else { return };
    let found: Result<ClustersAnswer, Error> = block_on(session.broker().get(session, &["clusters"], &[]));
    if found.is_ok_and(|answer| answer.clusters.iter().all(|cluster| cluster.name != name)) {
        here.around.terminal.note(&format!("no cluster `{name}` is declared; see `ichor clusters`"));
    }
}

/// Whom an entry is about.
fn who(entry: &AuditEntry) -> String {
    entry.user.clone().or_else(|| entry.subject.clone()).unwrap_or_default()
}

/// What else an entry says, in one line.
fn more(entry: &AuditEntry) -> String {
    let more: Vec<String> = entry.detail.iter().map(|(name, value)| format!("{name}={value}")).collect();
    more.join(" ")
}
