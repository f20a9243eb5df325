//! How a server last was, for those who watch.

use std::sync::atomic::Ordering;

use super::{BaoError, Client, Kind};

/// How the server last was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether it answers and takes our token.
    pub ok: bool,
    /// What is wrong.
    pub detail: Option<String>,
}

impl Client {
    /// Tells the state what came of a call. A denial is that of one path, and so of one cluster: it is no outage.
    pub(super) fn note_outcome(&self, outcome: Result<(), &BaoError>) {
        if outcome.is_err_and(|error| matches!(error.kind(), Kind::Denied(_))) {
            self.shared.denials.fetch_add(1, Ordering::Relaxed);
        }
        let error = outcome.err().filter(|error| error.kind().is_outage());
        let state = State { ok: error.is_none(), detail: error.map(ToString::to_string) };
        self.shared.state.send_if_modified(|old| {
            let is_new = *old != state;
            if is_new && (old.ok != state.ok) {
                tracing::warn!(server = self.name(), ok = state.ok, detail = state.detail, "OpenBao's state changed");
            }
            *old = state;
            is_new
        });
    }
}
