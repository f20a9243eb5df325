//! `ichor exec`

use std::ffi::OsString;
use std::path::PathBuf;

use super::lifetime::shortened;
use super::{Here, WishArgs, block_on};
use crate::certificate::Wish;
use crate::error::Error;
use crate::exec::{PrivateTalosconfig, context_of, is_offline, run as run_command, talosconfig_of};
use crate::talosconfig::{self, Written};

/// Run a command with a certificate of its own, writing nothing to your talosconfig
///
/// Without CLUSTER it takes the command's `--context`, else the current context of your talosconfig, so that
/// `alias talosctl='ichor exec -- talosctl'` suffices.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The cluster
    cluster: Option<String>,
    #[command(flatten)]
    wish: WishArgs,
    /// The talosconfig whose contexts are meant [default: as talosctl]
    #[arg(long, value_name = "FILE")]
    talosconfig: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let has_terminal = here.around.terminal.interactive();
    if args.cluster.is_none() && is_offline(&args.command) {
        return block_on(run_command(&args.command, None, has_terminal));
    }
    if talosconfig_of(&args.command).is_some() {
        let next = "leave it out, or run the command without `ichor exec`";
        return Err(Error::usage("with `--talosconfig` the command would not use the certificate", next));
    }
    let environment = here.around.environment.clone();
    let path = talosconfig::readable(&environment, args.talosconfig.as_deref())?;
    let file = talosconfig::read(&path)?;
    let broker = here.broker()?;
    let named = context_of(&args.command);
    let context = named.or_else(|| args.cluster.is_none().then(|| file.current().map(str::to_owned)).flatten());
    let records = Written::load(&environment)?;
    let own = context
        .as_deref()
        .or(args.cluster.as_deref())
        .and_then(|name| file.context(name).filter(|own| records.ours(&path, name, own).is_some()));
    let wish: Wish = match (&args.cluster, &context) {
        (Some(cluster), _) => args.wish.wish(cluster),
        (None, None) => {
            return Err(Error::usage(
                "no cluster is named and no context is current",
                "name one: `ichor exec CLUSTER -- …`",
            ));
        }
        (None, Some(name)) => {
            if own.is_none() && file.contains(name) {
                let message = format!("context `{name}` in `{}` was not written by ichor", path.display());
                return Err(Error::usage(
                    message,
                    "run the command itself, or name a cluster: `ichor exec CLUSTER -- …`",
                ));
            }
            match records.find(&path, name) {
                Some(record) if record.broker != broker.url() => {
                    let message = format!("context `{name}` is of the broker {}", record.broker);
                    return Err(Error::usage(message, format!("pass `--broker {}`", record.broker)));
                }
                Some(record) if args.wish.roles.is_empty() => {
                    Wish { roles: record.roles.clone(), ..args.wish.wish(&record.cluster) }
                }
                Some(record) => args.wish.wish(&record.cluster),
                None => args.wish.wish(name),
            }
        }
    };
    let name = context.unwrap_or_else(|| wish.cluster.clone());
    block_on(async {
        let held = here.held(&broker, &wish).await?;
        if let Some(shortened) = shortened(wish.ttl, &held.answer) {
            here.around.terminal.note(&shortened.to_string());
        }
        let private = PrivateTalosconfig::create(&environment, &name, &held, own.as_ref())?;
        run_command(&args.command, Some(&private), has_terminal).await
    })
}
