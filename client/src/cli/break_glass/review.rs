//! `ichor break-glass review` and `report`

use ichor_wire::api::{AuditEntry, BreakGlassLabel, CallSum, NodeCall};
use uuid::Uuid;

use super::shown;
use crate::break_glass;
use crate::cli::{Here, block_on};
use crate::error::Error;

/// What is said where a call is of a request by what it looks like alone.
const NAMELESS: &str = "certificates of this cluster name no grant";

/// Say what someone else's use was
#[derive(Debug, clap::Args)]
pub(super) struct ReviewArgs {
    /// The request: its id, or the address of its page
    #[arg(value_parser = super::request_id)]
    id: Uuid,
    /// What it was
    #[arg(long = "as", value_name = "LABEL", value_parser = ["emergency", "drill", "misuse"])]
    label: String,
    /// What was done and why; recorded
    #[arg(long, value_name = "TEXT")]
    note: String,
}

/// Show what was done under a request: grants, certificates, and calls at nodes
#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// The request: its id, or the address of its page
    #[arg(value_parser = super::request_id)]
    id: Uuid,
}

pub(super) fn review(here: &mut Here, args: ReviewArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let label = BreakGlassLabel { label: args.label, note: args.note };
    let glass = block_on(break_glass::review(&session, args.id, &label))?;
    let now = here.around.clock.now();
    here.print(&glass.answer, |terminal| shown::print(terminal, &glass, now))
}

pub(super) fn report(here: &mut Here, args: ReportArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let (glass, report) = block_on(async {
        Ok((break_glass::show(&session, args.id).await?, break_glass::report(&session, args.id).await?))
    })?;
    let now = here.around.clock.now();
    let mut entries = vec![["INDEX", "TIME", "KIND", "GRANT"].map(str::to_owned).to_vec()];
    entries.extend(report.entries.iter().map(entry));
    let mut calls = vec![["STARTED", "NODE", "METHOD", "CODE", "CLASS"].map(str::to_owned).to_vec()];
    calls.extend(report.calls.iter().map(call));
    let mut sums = vec![["CALLS", "NODE", "METHOD", "CLASS"].map(str::to_owned).to_vec()];
    sums.extend(report.sums.iter().map(sum));
    here.print(&report, |terminal| {
        shown::print(terminal, &glass, now)?;
        match report.entries.len() {
            0 => terminal.line("nothing was made of it")?,
            _ => terminal.table(&entries)?,
        }
        match (report.calls.len(), report.names_no_grant) {
            (0, false) => terminal.line("no node's log tells of a call by its certificates")?,
            (0, true) => terminal
                .line(&format!("no node's log tells of a call that could be by its certificates; {NAMELESS}"))?,
            (_, names_no_grant) => {
                terminal.table(&calls)?;
                if names_no_grant {
                    terminal.line(&format!("  {NAMELESS}: these calls fit by person, roles and time"))?;
                }
            }
        }
        if report.more {
            terminal.line(&format!(
                "  {} of {} calls are shown, those first that want a look; all of them, counted:",
                report.calls.len(),
                report.sums.iter().map(|sum| sum.count).sum::<u64>()
            ))?;
            terminal.table(&sums)?;
        }
        report
            .other_nodes
            .iter()
            .try_for_each(|node| terminal.line(&format!("  calls at `{node}`, which the request did not name")))
    })
}

fn entry(entry: &AuditEntry) -> Vec<String> {
    let grant = entry.grant_id.map(|id| id.to_string()).unwrap_or_default();
    vec![entry.index.to_string(), entry.time.to_string(), entry.kind.clone(), grant]
}

fn sum(sum: &CallSum) -> Vec<String> {
    vec![sum.count.to_string(), sum.node.clone(), method(&sum.method), sum.class.clone()]
}

fn method(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().into()
}

fn call(call: &NodeCall) -> Vec<String> {
    vec![
        call.started.to_string(),
        call.node.clone(),
        method(&call.method),
        call.code.clone().unwrap_or_default(),
        call.class.clone(),
    ]
}
