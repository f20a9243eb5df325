//! `ichor break-glass use`: what was approved becomes a certificate.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::json;
use uuid::Uuid;

use super::shown;
use crate::break_glass::{self, Glass};
use crate::cli::terminal::Tone;
use crate::cli::{Here, block_on};
use crate::error::Error;
use crate::exec::{PrivateTalosconfig, run as run_command, startable};
use crate::session::Session;
use crate::talosconfig::{self, Target, Written};

/// Turn an approved request into a certificate, and write it as a context of its own
///
/// With a command behind `--` it runs that with the certificate and writes nothing. A command that is not there spends no use.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The request: its id, or the address of its page
    #[arg(value_parser = super::request_id)]
    id: Uuid,
    #[command(flatten)]
    into: Into,
    /// A command to run with the certificate
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Where the context goes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Into {
    /// The context's name [default: the cluster's with `-break-glass` behind it]
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
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let session = here.session()?;
    let glass = block_on(break_glass::show(&session, args.id))?;
    let target = args.into.target(here, &glass.contents.cluster)?;
    if args.command.is_empty() {
        return use_into(here, &session, &glass, &target);
    }
    usable(&glass)?;
    // what cannot be run is known before a use is spent
    startable(&here.around.environment, &args.command)?;
    PrivateTalosconfig::check_place(&here.around.environment)?;
    let has_terminal = here.around.terminal.interactive();
    block_on(async {
        let held = break_glass::certificate(&session, &glass).await?;
        here.take(&session, &held).await;
        let private = PrivateTalosconfig::create(&here.around.environment, &target.context, &held, None)?;
        run_command(&args.command, Some(&private), has_terminal).await
    })
}

/// Uses an approved request, and writes the context.
pub(super) fn use_into(here: &mut Here, session: &Session, glass: &Glass, target: &Target) -> Result<u8, Error> {
    usable(glass)?;
    let (environment, wish, url) = (here.around.environment.clone(), glass.wish(), session.broker().url());
    let now = here.around.clock.now();
    // what cannot be written is known before a use is spent
    talosconfig::plan(target, &wish, &url, &Written::load(&environment)?, now)?;
    let waiting = here.around.terminal.waiting(format!("asking for a certificate for {}", wish.cluster));
    let held = block_on(async {
        let held = break_glass::certificate(session, glass).await?;
        here.take(session, &held).await;
        Ok(held)
    });
    drop(waiting);
    let held = held?;
    let write = |records: &mut Written| talosconfig::write(target, &wish, &url, &held, records, now);
    let outcome = Written::update(&environment, write)?;
    let context = target.context.clone();
    let value = json!({
        "talosconfig": target.path, "context": context, "outcome": outcome, "request": glass.answer.id,
        "grant": held.answer.grant_id, "roles": held.answer.roles, "expires": held.answer.not_after,
    });
    let said = format!(
        " written in {}: {}, grant {}",
        target.path.display(),
        shown::gives(glass, held.answer.not_after, now),
        held.answer.grant_id
    );
    let id = glass.answer.id;
    here.print(&value, |terminal| {
        terminal.toned_line(&[
            (Tone::Good, "✓"),
            (Tone::Plain, " context "),
            (Tone::Strong, &context),
            (Tone::Plain, &said),
        ])?;
        terminal.line(&format!("  → talosctl --context {context} …"))?;
        terminal.line(&format!("  someone else reviews it afterwards: ichor break-glass review {id}"))
    })
}

/// Says what is in the way where it cannot be used.
fn usable(glass: &Glass) -> Result<(), Error> {
    // what is suspect the broker refuses, and records that someone asked
    if glass.may("use") || glass.answer.suspect.is_some() {
        return Ok(());
    }
    let id = glass.answer.id;
    let more = glass.contents.approvals.saturating_sub(u64::try_from(glass.answer.approvals.len()).unwrap_or(u64::MAX));
    Err(match glass.answer.state.as_str() {
        "pending" if glass.contents.self_service => Error::failed(
            "the request waits until a sink outside the broker has accepted the notification of it",
            "try again in a moment; if it stays so, ask others: `ichor break-glass request` without `--self-service`",
        ),
        "pending" => Error::failed(
            format!("the request waits for {more} more to approve"),
            format!("let them run `ichor break-glass approve {id}`"),
        ),
        "approved" => Error::failed("the request is someone else's", "only whoever asked uses it"),
        state => Error::failed(
            format!("the request is {state}, so it gives nothing"),
            format!("see why with `ichor break-glass show {id}`; then ask anew with `ichor break-glass request`"),
        ),
    })
}

// === impl Into ===

impl Into {
    /// Where the context of this cluster goes; a malformed file is known before anyone is asked for anything.
    pub(super) fn target(&self, here: &Here, cluster: &str) -> Result<Target, Error> {
        let path = talosconfig::writable(&here.around.environment, self.talosconfig.as_deref())?;
        talosconfig::read(&path)?;
        Ok(Target {
            path,
            context: self.context.clone().unwrap_or_else(|| format!("{cluster}-break-glass")),
            set_current: self.set_current,
            replace: self.replace,
        })
    }
}
