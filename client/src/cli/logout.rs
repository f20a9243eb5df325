//! `ichor logout`

use serde_json::json;

use super::{Here, block_on};
use crate::certificate::CertificateStore;
use crate::error::Error;

/// End the session at the broker and forget it here, with the certificates kept for `exec`
///
/// Certificates in talosconfigs stay good until they expire.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

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
    match revoked {
        Ok(()) => here.print(&json!({ "ended": true }), |terminal| terminal.line("the session has ended")),
        Err(Error::NotLoggedIn { .. } | Error::SessionEnded { .. }) => {
            here.print(&json!({ "ended": false }), |terminal| terminal.line("there was no session"))
        }
        Err(error) => {
            here.around.terminal.note("the session is forgotten here, but the broker was not told");
            Err(error)
        }
    }
}
