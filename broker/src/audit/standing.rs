//! Whether the log is vouched for now, and for how long issuing may go on where it is not.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::anchor::AnchorError;
use super::notary::{Grace, NotSigned, Signed, Vouched};

/// What vouches for the log now.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The newest signed checkpoint.
    pub newest: Option<Arc<Signed>>,
    /// Since when the audit key is out.
    pub key_out: Option<Out>,
    /// Since when an anchor fails.
    pub anchor_out: Option<Out>,
}

/// Something that should vouch for the log is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// Since when.
    pub since: Timestamp,
    /// From when on nothing is issued.
    pub until: Timestamp,
    /// Why.
    pub why: String,
}

// === impl Standing ===

impl Standing {
    /// Why nothing is issued now, in one sentence; `None` where issuing goes on.
    #[must_use]
    pub fn refusal(&self, now: Timestamp) -> Option<String> {
        let outs = [
            ("the key that signs the audit log is out", &self.key_out),
            ("the audit log is not anchored", &self.anchor_out),
        ];
        let over = |(what, out): (&str, &Option<Out>)| {
            let out = out.as_ref().filter(|out| now >= out.until)?;
            Some(format!("{what} since {}, longer than configured: {}", out.since, out.why))
        };
        outs.into_iter().find_map(over)
    }

    /// Takes in what came of vouching at `now`. Whether something changed that people should hear of.
    pub(super) fn take(&mut self, vouched: &Vouched, grace: Grace, now: Timestamp) -> bool {
        let before = (self.key_out.clone().map(|out| out.until), self.anchor_out.clone().map(|out| out.until));
        match &vouched.signed {
            Ok(signed) => {
                self.key_out = None;
                let is_newer = |newest: &Arc<Signed>| newest.checkpoint.size() <= signed.checkpoint.size();
                if self.newest.as_ref().is_none_or(is_newer) {
                    self.newest = Some(Arc::new(signed.clone()));
                }
            }
            Err(error) => {
                // nor do entries that are not to be signed go away
                let is_foreign = matches!(error, NotSigned::Foreign(_));
                let grace = if is_foreign { SignedDuration::ZERO } else { grace.key };
                if is_foreign && self.key_out.as_ref().is_some_and(|out| out.until > now) {
                    self.key_out = None;
                }
                begin(&mut self.key_out, grace, now, error.to_string());
            }
        }
        match &vouched.anchored {
            None => {}
            Some(Ok(())) => self.anchor_out = None,
            Some(Err(error)) => {
                // a log that was forked or rolled back does not come right by waiting
                let grace =
                    if matches!(error, AnchorError::Forked { .. }) { SignedDuration::ZERO } else { grace.anchor };
                if grace.is_zero() && self.anchor_out.as_ref().is_some_and(|out| out.until > now) {
                    self.anchor_out = None;
                }
                begin(&mut self.anchor_out, grace, now, error.to_string());
            }
        }
        before != (self.key_out.clone().map(|out| out.until), self.anchor_out.clone().map(|out| out.until))
    }
}

/// Notes that something is out since `now`, unless it is already; the reason is the newest.
fn begin(out: &mut Option<Out>, grace: SignedDuration, now: Timestamp, why: String) {
    match out {
        Some(out) => out.why = why,
        None => *out = Some(Out { since: now, until: now.checked_add(grace).unwrap_or(Timestamp::MAX), why }),
    }
}
