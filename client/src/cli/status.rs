//! `ichor status`

use std::path::{Path, PathBuf};

use ichor_wire::talosconfig::Ours;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::lifetime::spell;
use super::terminal::Terminal;
use super::{Here, block_on};
use crate::audit::kept::{self, Report};
use crate::audit::known::Because;
use crate::audit::receipts::{Open, Receipts};
use crate::error::{EXIT_FAILED, Error};
use crate::settings::Settings;
use crate::talosconfig::{self, Written};

/// Who you are to the broker, and how long your certificates last
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The talosconfig whose contexts are shown [default: as talosctl]
    #[arg(long, value_name = "FILE")]
    talosconfig: Option<PathBuf>,
    /// Check every kept receipt, and that the broker's audit log still continues what was seen of it
    #[arg(long)]
    verify: bool,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let settings = Settings::find(&here.around.environment, &here.flags)?;
    let asked = here.session().and_then(|session| Ok((block_on(session.describe())?, session)));
    let (described, session) = match asked {
        Ok(asked) => asked,
        // what lies here is asked for just when nobody answers
        Err(error) => {
            if let Ok(held) = Held::find(here, args.talosconfig.as_deref()) {
                let value = json!({ "session": null, "talosconfig": held.path, "contexts": held.json });
                here.print(&value, |terminal| held.table(terminal))?;
            }
            return Err(error);
        }
    };
    let report = if args.verify {
        let waiting = here.around.terminal.waiting("checking the receipts".into());
        let report = block_on(kept::verify(&here.around.environment, &session));
        drop(waiting);
        Some(report?)
    } else {
        None
    };
    let open = Receipts::of(&here.around.environment, session.broker())?.open()?;
    let now = here.around.clock.now();
    let held = Held::find(here, args.talosconfig.as_deref())?;
    let mut value = json!({
        "broker": session.broker().url(), "broker_from": settings.source.to_string(), "session": described,
        "talosconfig": held.path, "contexts": held.json, "receipts": open,
    });
    if let (Some(report), Some(value)) = (&report, value.as_object_mut()) {
        value.insert("audit".into(), json!(report));
    }
    let code = here.print(&value, |terminal| {
        terminal.line(&format!("broker   {} (from {})", session.broker().url(), settings.source))?;
        terminal.line(&format!("you      {} ({}), user:{}", described.name, described.provider, described.user))?;
        terminal.line(&format!("subject  {}", described.subject))?;
        terminal.line(&format!(
            "groups   {}",
            if described.groups.is_empty() { "none".into() } else { described.groups.join(", ") }
        ))?;
        terminal.line(&format!("session  {}", left(described.expires_at, now)))?;
        if held.rows.len() > 1 {
            terminal.line("")?;
        }
        held.table(terminal)?;
        match &report {
            Some(report) => verified(terminal, report),
            None => said_of(terminal, open),
        }
    })?;
    Ok(if report.is_some_and(|report| !(report.faults.is_empty() && report.doubts.is_empty())) {
        EXIT_FAILED
    } else {
        code
    })
}

/// The contexts that lie here.
struct Held {
    path: PathBuf,
    json: Vec<serde_json::Value>,
    /// With a head.
    rows: Vec<Vec<String>>,
    /// Those whose key the cluster made.
    elsewhere: Vec<String>,
}

impl Held {
    fn find(here: &Here, talosconfig: Option<&Path>) -> Result<Self, Error> {
        let now = here.around.clock.now();
        let path = talosconfig::readable(&here.around.environment, talosconfig)?;
        let file = talosconfig::read(&path)?;
        let records = Written::load(&here.around.environment)?;
        let ours: Vec<(&str, Ours, bool)> = file
            .names()
            .filter_map(|name| {
                let context = file.context(name)?;
                let ours = records.ours(&path, name, &context)?;
                Some((name, ours, records.key_made_by_cluster(&path, name, &context)))
            })
            .collect();
        let json = ours.iter().map(|(name, ours, elsewhere)| {
            let cluster = records.find(&path, name).map(|record| record.cluster.clone());
            let key = if *elsewhere { "cluster" } else { "here" };
            json!({
                "context": name, "cluster": cluster, "roles": ours.roles, "not_after": ours.not_after,
                "grant": ours.grant, "key_made_by": key,
            })
        });
        let head = std::iter::once(["CONTEXT", "ROLES", "EXPIRES"].map(str::to_owned).to_vec());
        let rows = head.chain(ours.iter().map(|(name, ours, _)| {
            let roles: Vec<&str> = ours.roles.iter().map(|role| role.as_str()).collect();
            vec![(*name).to_owned(), roles.join(","), left(ours.not_after, now)]
        }));
        let elsewhere = ours.iter().filter(|(_, _, elsewhere)| *elsewhere).map(|(name, ..)| (*name).to_owned());
        Ok(Self { json: json.collect(), rows: rows.collect(), elsewhere: elsewhere.collect(), path })
    }

    fn table(&self, terminal: &mut Terminal) -> std::io::Result<()> {
        if self.rows.len() > 1 {
            terminal.table(&self.rows)?;
        }
        self.elsewhere.iter().try_for_each(|name| {
            terminal.line(&format!("{name}: its key was made by the cluster, not on this machine"))
        })
    }
}

/// What is open of the receipts, as they lie here.
fn said_of(terminal: &mut Terminal, open: Open) -> std::io::Result<()> {
    if open == Open::default() {
        return Ok(());
    }
    let pending = (open.pending > 0).then(|| format!("{} the log had not signed yet", open.pending));
    let unbelieved = (open.unbelieved > 0).then(|| format!("{} of a log's key that is not believed", open.unbelieved));
    let not_held = (open.not_held > 0).then(|| format!("{} found FALSE", open.not_held));
    let said: Vec<String> = pending.into_iter().chain(unbelieved).chain(not_held).collect();
    terminal.line("")?;
    terminal.line(&format!("receipts {}: see `ichor status --verify`", said.join(", ")))
}

/// What became of the check of the receipts.
fn verified(terminal: &mut Terminal, report: &Report) -> std::io::Result<()> {
    let because = match (report.because, report.first_use) {
        (Because::Pinned, _) => "is pinned",
        (Because::FirstUse, true) => "was seen for the first time now",
        (Because::FirstUse, false) => "is kept since it was first seen",
    };
    terminal.line("")?;
    terminal
        .line(&format!("log      {}, {} entries; its key {because}: {}", report.origin, report.size, report.key))?;
    let mut said = vec![format!("{} hold", report.verified)];
    said.extend((report.pending > 0).then(|| format!("{} the log has not signed yet", report.pending)));
    said.extend((report.other_log > 0).then(|| format!("{} are of a log before this one", report.other_log)));
    terminal.line(&format!("receipts {}", said.join(", ")))?;
    report.doubts.iter().try_for_each(|doubt| terminal.line(&format!("NOT SHOWN {doubt}")))?;
    report.faults.iter().try_for_each(|fault| terminal.line(&format!("FALSE    {fault}")))?;
    if report.faults.is_empty() {
        return Ok(());
    }
    terminal.line("         tell who answers for the audit; what is false is kept as evidence")
}

/// How long until `end`, as people say it.
pub(super) fn left(end: Timestamp, now: Timestamp) -> String {
    let left = end.duration_since(now);
    if left <= SignedDuration::ZERO {
        return format!("expired {end}");
    }
    format!("in {}", spell(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_reads_well() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(left(at(59), at(0)), "in 59 s");
        assert!(left(at(0), at(1)).starts_with("expired"));
    }
}
