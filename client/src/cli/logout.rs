//! `ichor logout`

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::terminal::Terminal;
use super::{Here, block_on};
use crate::broker::Broker;
use crate::certificate::CertificateStore;
use crate::error::Error;
use crate::talosconfig::{self, Written};

/// End the session at the broker and forget it here, with the certificates kept for `exec`
///
/// Certificates in talosconfigs stay good until they expire.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// A context whose certificate outlives the session: nodes know no revocation.
#[derive(Debug, Serialize)]
struct Outliving {
    context: String,
    talosconfig: PathBuf,
    not_after: Timestamp,
    /// What takes it out.
    remove: String,
}

pub(super) fn run(here: &mut Here, _args: Args) -> Result<u8, Error> {
    let broker = here.broker()?;
    let store = here.sessions()?;
    let revoked = match store.load(&broker) {
        Ok(session) => block_on(session.revoke()),
        Err(error) => Err(error),
    };
    // Whatever the broker says, nothing stays here.
    store.forget(&broker)?;
    CertificateStore::new(&here.around.environment)?.forget(&broker)?;
    let outliving = outliving(here, &broker)?;
    let (ended, says) = match revoked {
        Ok(()) => (true, "the session has ended"),
        Err(Error::NotLoggedIn { .. } | Error::SessionEnded { .. }) => (false, "there was no session"),
        Err(error) => {
            here.around.terminal.note("the session is forgotten here, but the broker was not told");
            return Err(error);
        }
    };
    here.print(&json!({ "ended": ended, "still_valid": outliving }), |terminal| {
        terminal.line(says)?;
        show(terminal, &outliving)
    })
}

/// The contexts that we wrote for this broker and whose certificates are still good. One whose file cannot be read any more
/// is none that talosctl could use.
fn outliving(here: &Here, broker: &Broker) -> Result<Vec<Outliving>, Error> {
    let environment = &here.around.environment;
    let now = here.around.clock.now();
    let usual = talosconfig::writable(environment, None).ok();
    let records = Written::load(environment)?;
    let of_broker = records.all().iter().filter(|record| record.broker == broker.url());
    let found = of_broker.filter_map(|record| {
        let file = talosconfig::read(&record.path).ok()?;
        let ours = records.ours(&record.path, &record.context, &file.context(&record.context)?);
        let ours = ours.filter(|ours| ours.not_after > now)?;
        let flag = match usual.as_ref() == Some(&record.path) {
            true => String::new(),
            false => format!(" --talosconfig {}", record.path.display()),
        };
        let name = &record.context;
        // talosctl keeps the context that is current.
        let first = match file.current() == Some(name) {
            true => format!("talosctl{flag} config context OTHER && "),
            false => String::new(),
        };
        Some(Outliving {
            context: name.clone(),
            talosconfig: record.path.clone(),
            not_after: ours.not_after,
            remove: format!("{first}talosctl{flag} config remove {name}"),
        })
    });
    Ok(found.collect())
}

fn show(terminal: &mut Terminal, outliving: &[Outliving]) -> std::io::Result<()> {
    if outliving.is_empty() {
        return Ok(());
    }
    terminal.line("nodes know no revocation: the certificates in these contexts stay valid")?;
    for Outliving { context, not_after, remove, .. } in outliving {
        terminal.line(&format!("  {context} until {not_after}; take it out with `{remove}`"))?;
    }
    Ok(())
}
