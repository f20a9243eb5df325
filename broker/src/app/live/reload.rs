//! One reload under way: what it records before a value takes effect, and what it says of one that does not.

use ichor_wire::log::{Content, Kind};

use crate::app::digests::{Files, shown};
use crate::audit::{RecordError, Sequencer};
use crate::domain::ClusterName;
use crate::readiness::Check;

/// What is so of most values when a new one is refused.
pub(super) const STAYS: &str = "the old value stays";

/// One reload under way.
pub(super) struct Reload<'a> {
    pub(super) sequencer: &'a Sequencer,
    /// Who asked for it, where that is known.
    pub(super) by: Option<&'a str>,
    pub(super) checks: Vec<Check>,
    pub(super) is_unrecorded: bool,
}

// === impl Reload ===

impl Reload<'_> {
    /// Records that a new value is about to take effect. Not recorded, it does not.
    pub(super) async fn note(&mut self, name: &str, what: &str, files: &Files) -> bool {
        let content = Content { digests: Some(shown(files)), ..self.content(what.into()) };
        match self.sequencer.note(content, None).await {
            Ok(_) => {
                tracing::info!(what, "new value in force");
                true
            }
            Err(error) => {
                self.not_recorded(name, &error);
                false
            }
        }
    }

    /// Says that a new value could not be recorded.
    pub(super) fn not_recorded(&mut self, name: &str, error: &RecordError) {
        tracing::error!(what = name, %error, "a new value could not be recorded; the old one stays");
        self.is_unrecorded = true;
        let detail = format!("a new value could not be recorded ({error}), so the old one stays; it is tried again");
        self.checks.push(Check { name: name.into(), ok: false, required: false, detail: Some(detail) });
    }

    /// Says everywhere that a new value was refused.
    pub(super) async fn refuse(&mut self, name: &str, why: &str) {
        self.note_refusal(name, STAYS, why).await;
        // the old value still serves: the broker is ready, and the check says what is wrong
        let detail = Some(format!("{why}; the old value stays"));
        self.checks.push(Check { name: name.into(), ok: false, required: false, detail });
    }

    /// Records that a new value was refused, and what is `so` then.
    pub(super) async fn note_refusal(&mut self, name: &str, so: &str, why: &str) {
        tracing::error!(name, why, "a new value is refused; {so}");
        metrics::counter!("ichor_reload_refused_total", "what" => name.to_owned()).increment(1);
        let message = format!("{name} refused, {so}: {why}").chars().take(2_000).collect();
        if let Err(error) = self.sequencer.note(self.content(message), None).await {
            tracing::error!(%error, "the refusal of a new value could not be recorded");
            self.is_unrecorded = true;
        }
    }

    /// Records that a CA's end is near, or past; whether that was done.
    pub(super) async fn note_end(&self, cluster: &ClusterName, warning: &str) -> bool {
        let message = format!("CA of cluster `{cluster}`: {warning}");
        let content = Content { message: Some(message), cluster: Some(cluster.to_string()), ..Content::of(Kind::Ca) };
        tracing::warn!(%cluster, warning, "the end of a CA or standing credential is near, or past");
        self.sequencer.note(content, None).await.is_ok()
    }

    fn content(&self, message: String) -> Content {
        Content { message: Some(message), os_user: self.by.map(String::from), ..Content::of(Kind::Reload) }
    }
}
