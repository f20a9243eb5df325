//! What is to be done about a kit, in a sentence: lists, readiness and reminders say it.

use jiff::Timestamp;

use super::{Opening, Standing, State};

// === impl Standing ===

impl Standing {
    /// What is to be done about it, one sentence; nothing for a fresh kit, a revoked one, and one whose first drill has time.
    #[must_use]
    pub fn complaint(&self, now: Timestamp) -> Option<String> {
        let Self { number, cluster, .. } = self;
        let said = match self.state(now) {
            State::Fresh | State::Undrilled | State::Revoked => None,
            State::Due if let Some(moved) = self.moved.filter(|_| self.is_left_behind()) => Some(format!(
                "kit {number} of cluster `{cluster}` {}; run `ichor-broker kit rotate {number}`",
                moved.as_str()
            )),
            State::Due if now < self.next_drill() => Some(format!(
                "kit {number} of cluster `{cluster}` ends at {:.0}; run `ichor-broker kit rotate {number}`",
                self.until
            )),
            State::Due => Some(format!(
                "kit {number} of cluster `{cluster}` was to be drilled by {:.0}; run `ichor-broker kit drill {number}`",
                self.next_drill()
            )),
            State::Expired => Some(match self.replaced_by {
                Some(successor) => format!(
                    "kit {number} of cluster `{cluster}` expired at {:.0}, and kit {successor} is there in its place; run \
                     `ichor-broker kit revoke {number}`",
                    self.until
                ),
                None => format!(
                    "kit {number} of cluster `{cluster}` expired at {:.0}; run `ichor-broker kit rotate {number}`",
                    self.until
                ),
            }),
            State::Used => Some(match self.replaced_by {
                Some(successor) => format!(
                    "kit {number} of cluster `{cluster}` was opened, and kit {successor} is there in its place; once nodes accept that \
                     one, run `ichor-broker kit revoke {number}`"
                ),
                None => format!(
                    "kit {number} of cluster `{cluster}` was opened; run `ichor-broker kit rotate {number}`, then `kit revoke {number}`"
                ),
            }),
            State::Unreported if self.revoked.is_some() => Some(format!(
                "kit {number} of cluster `{cluster}` was revoked, and a node takes it still: find out who opened it, and take its CA out \
                 of every node with `ichor-broker kit revoke {number} --machine-config FILE`"
            )),
            State::Unreported if self.unreported.iter().any(|used| used.is_beyond) => Some(format!(
                "kit {number} of cluster `{cluster}` was used, and not as its opening was reported: what it gave may be in others' hands; \
                 find out who uses it, and end it with `ichor-broker kit revoke {number}`"
            )),
            State::Unreported => Some(format!(
                "kit {number} of cluster `{cluster}` is in use, and nobody has reported it: find out who opened it; import their \
                 record with `ichor-broker kit report`, or end it with `ichor-broker kit revoke {number}`"
            )),
        };
        let is_beyond = self.openings.iter().any(Opening::is_beyond);
        said.map(|said| match is_beyond {
            true => format!(
                "{said}; a record that its key signed claims more than the kit gives, so the key may be in strangers' hands: run \
                 `ichor-broker kit revoke {number}` now"
            ),
            false => said,
        })
    }
}
