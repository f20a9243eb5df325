//! `ichor talosconfig`

use std::path::PathBuf;

use ichor_wire::api::ClustersAnswer;
use ichor_wire::role::Role;
use ichor_wire::talosconfig::Ours;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::clusters::{has_labels, label};
use super::lifetime::{Shortened, ago, good_for, granted_at, shortened};
use super::terminal::Tone;
use super::{Here, WishArgs, block_on};
use crate::broker::Broker;
use crate::certificate::{Held, Wish};
use crate::error::{EXIT_FAILED, EXIT_OK, Error};
use crate::talosconfig::{self, Outcome, Target, Written};

/// Write contexts into your talosconfig; then plain talosctl works until they expire
///
/// Everything else in the file stays as it is, byte for byte. Running it again renews a certificate once less than a fifth
/// of its life is left; with `--ttl` or `--reason` it asks for a new one at once.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false).args(["clusters", "all", "labels"]))]
pub(super) struct Args {
    /// The clusters
    #[arg(value_name = "CLUSTER")]
    clusters: Vec<String>,
    /// Every cluster on which you may hold the roles
    #[arg(long)]
    all: bool,
    /// Every such cluster with this label; several must all match
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    wish: WishArgs,
    /// The context's name [default: the cluster's]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The file to write [default: as talosctl: $TALOSCONFIG, $TALOS_HOME/config, ~/.talos/config]
    #[arg(long, value_name = "FILE")]
    talosconfig: Option<PathBuf>,
    /// Make it the current context
    #[arg(long)]
    set_current: bool,
    /// Replace a context that ichor did not write, or that is another cluster's
    #[arg(long)]
    replace: bool,
    /// Say what would be written, and ask for no certificate, nor whether policy would give one
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Line {
    cluster: String,
    context: String,
    outcome: Option<Outcome>,
    #[serde(flatten)]
    certificate: Option<Shown>,
    /// Of a dry run: whether the broker was asked if policy permits it.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<bool>,
    error: Option<String>,
    #[serde(skip)]
    failure: Option<Error>,
}

/// What is told of a context's certificate.
#[derive(Serialize)]
struct Shown {
    roles: Vec<Role>,
    issued: Timestamp,
    expires: Timestamp,
    grant: String,
    /// That it was held already, and nobody was asked for a new one.
    reused: bool,
    /// That less time was granted than asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    shortened: Option<Shortened>,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let broker = here.broker()?;
    let path = talosconfig::writable(&here.around.environment, args.talosconfig.as_deref())?;
    // A malformed file is known before anyone is asked for anything.
    talosconfig::read(&path)?;
    let clusters =
        if args.clusters.is_empty() { block_on(choose(here, &broker, &args))? } else { args.clusters.clone() };
    if args.context.is_some() && clusters.len() != 1 {
        return Err(Error::usage("`--context` names one context, but there are several clusters", "name one cluster"));
    }
    if args.set_current && clusters.len() != 1 {
        return Err(Error::usage("only one context can be the current one", "name one cluster with `--set-current`"));
    }
    let mut lines = Vec::new();
    for cluster in &clusters {
        let target = Target {
            path: path.clone(),
            context: args.context.clone().unwrap_or_else(|| cluster.clone()),
            set_current: args.set_current,
            replace: args.replace,
        };
        let line = block_on(one(here, &broker, &args, &target, cluster));
        lines.push(line.unwrap_or_else(|error| Line {
            cluster: cluster.clone(),
            context: target.context.clone(),
            outcome: None,
            certificate: None,
            asked: args.asked(),
            error: Some(error.to_string()),
            failure: Some(error),
        }));
    }
    if let [Line { failure: failure @ Some(_), .. }] = lines.as_mut_slice() {
        return failure.take().map_or(Ok(EXIT_FAILED), Err);
    }
    let now = here.around.clock.now();
    let failed = lines.iter().filter_map(|line| line.failure.as_ref()).map(Error::exit_code).max();
    let file = talosconfig::read(&path)?;
    let current = file.current();
    let elsewhere = current.filter(|_| !args.set_current).and_then(|current| elsewhere(current, &lines));
    let value = json!({ "talosconfig": path, "dry_run": args.dry_run, "current_context": current, "contexts": lines });
    here.print(&value, |terminal| {
        for line in &lines {
            let Line { context, .. } = line;
            if let Some(failure) = &line.failure {
                terminal.toned_line(&[(Tone::Bad, "✗"), (Tone::Plain, &format!(" {context}: {failure}"))])?;
                for step in failure.next_steps() {
                    terminal.line(&format!("    → {step}"))?;
                }
                continue;
            }
            if let Some((would, unasked)) = line.planned() {
                let rest = format!(" in {}{unasked}", path.display());
                terminal.toned_line(&[(Tone::Plain, would), (Tone::Strong, context), (Tone::Plain, &rest)])?;
                continue;
            }
            let done = match line.outcome {
                Some(Outcome::Added) => "written",
                // A certificate of before renews nothing: only the file changed.
                Some(Outcome::Renewed) if line.is_reused() => "written",
                Some(Outcome::Renewed) => "renewed",
                Some(Outcome::Replaced) => "replaced",
                Some(Outcome::UpToDate) | None => "is up to date",
            };
            let certificate = line
                .certificate
                .as_ref()
                .map(|shown| format!(": {}, grant {}", good_for(&shown.roles, shown.expires, now), shown.grant));
            let rest = format!(" {done} in {}{}", path.display(), certificate.unwrap_or_default());
            let parts = [(Tone::Good, "✓"), (Tone::Plain, " context "), (Tone::Strong, context), (Tone::Plain, &rest)];
            terminal.toned_line(&parts)?;
            if let Some(shown) = line.certificate.as_ref().filter(|shown| shown.reused) {
                let issued = ago(shown.issued, now);
                terminal.line(&format!("  reused: issued {issued}; `--ttl TIME` asks for a new one"))?;
            }
            if let Some(shortened) = line.certificate.as_ref().and_then(|shown| shown.shortened) {
                terminal.line(&format!("  {shortened}"))?;
            }
        }
        elsewhere.iter().try_for_each(|note| terminal.line(&format!("  {note}")))?;
        if lines.is_empty() {
            terminal.line("no cluster is there for you with these roles; `ichor clusters` says why")?;
        }
        Ok(())
    })?;
    Ok(failed.unwrap_or(EXIT_OK))
}

// === impl Args ===

impl Args {
    /// Of a dry run: whether the broker was asked if policy permits it, which it is where the clusters are of its own list.
    fn asked(&self) -> Option<bool> {
        self.dry_run.then_some(self.clusters.is_empty())
    }
}

// === impl Line ===

impl Line {
    /// What a dry run would do with a context that is not up to date, and that nobody has said yet that it could.
    fn planned(&self) -> Option<(&'static str, &'static str)> {
        let unasked = if self.asked? { "" } else { "; the broker was not asked whether policy lets you" };
        let would = match self.outcome? {
            Outcome::Added => "would write context ",
            Outcome::Renewed => "would renew context ",
            Outcome::Replaced => "would replace context ",
            Outcome::UpToDate => return None,
        };
        Some((would, unasked))
    }

    fn is_reused(&self) -> bool {
        self.certificate.as_ref().is_some_and(|shown| shown.reused)
    }
}

// === impl Shown ===

impl Shown {
    fn of_written(ours: Ours) -> Self {
        Self {
            issued: granted_at(&ours.grant, ours.not_before, ours.not_after),
            roles: ours.roles,
            expires: ours.not_after,
            grant: ours.grant,
            reused: true,
            shortened: None,
        }
    }

    fn of_held(held: &Held, reused: bool, wish: &Wish) -> Self {
        let answer = &held.answer;
        let grant = answer.grant_id.to_string();
        Self {
            roles: answer.roles.clone(),
            issued: granted_at(&grant, answer.not_before, answer.not_after),
            expires: answer.not_after,
            grant,
            reused,
            shortened: shortened(wish.ttl, answer),
        }
    }
}

async fn one(here: &Here, broker: &Broker, args: &Args, target: &Target, cluster: &str) -> Result<Line, Error> {
    let environment = &here.around.environment;
    let wish: Wish = args.wish.wish(cluster);
    let now = here.around.clock.now();
    let records = Written::load(environment)?;
    let planned = talosconfig::plan(target, &wish, &broker.url(), &records, now)?;
    let line = |outcome, certificate| Line {
        cluster: cluster.into(),
        context: target.context.clone(),
        outcome: Some(outcome),
        certificate,
        asked: args.asked(),
        error: None,
        failure: None,
    };
    if args.dry_run || planned == Outcome::UpToDate {
        let there = talosconfig::read(&target.path)?.context(&target.context);
        let there = there.and_then(|context| records.ours(&target.path, &target.context, &context));
        let there = there.filter(|_| planned == Outcome::UpToDate);
        return Ok(line(planned, there.map(Shown::of_written)));
    }
    let (held, reused) = here.held_or_reused(broker, &wish).await?;
    let outcome =
        Written::update(environment, |records| talosconfig::write(target, &wish, &broker.url(), &held, records, now))?;
    Ok(line(outcome, Some(Shown::of_held(&held, reused, &wish))))
}

/// What to type where the current context is not what was written: plain talosctl would go to another cluster.
fn elsewhere(current: &str, lines: &[Line]) -> Option<String> {
    let written: Vec<&str> =
        lines.iter().filter(|line| line.failure.is_none()).map(|line| line.context.as_str()).collect();
    let says = format!("the current context is `{current}`: use `talosctl --context");
    match written.as_slice() {
        [] => None,
        [one] if *one == current => None,
        [one] => Some(format!("{says} {one} …`, or run again with `--set-current`")),
        _ => Some(format!("{says} NAME …`, or `talosctl config context NAME`")),
    }
}

/// The clusters of `--all` and `--label` on which every role asked for is allowed now.
async fn choose(here: &Here, broker: &Broker, args: &Args) -> Result<Vec<String>, Error> {
    let session = here.sessions()?.load(broker)?;
    let answer: ClustersAnswer = broker.get(&session, &["clusters"], &[]).await?;
    let roles = args.wish.wish("").effective_roles();
    let mut chosen: Vec<String> = answer
        .clusters
        .into_iter()
        .filter(|cluster| has_labels(cluster, &args.labels) && cluster.unavailable.is_none())
        .filter(|cluster| {
            roles.iter().all(|role| cluster.roles.iter().any(|answer| answer.role == *role && answer.allowed))
        })
        .map(|cluster| cluster.name)
        .collect();
    chosen.sort();
    Ok(chosen)
}
