//! Why something did not come about.

use crate::audit::RecordError;
use crate::domain::{BadReason, ClusterName};
use crate::entropy::EntropyError;
use crate::policy::Refusal;
use crate::store::StoreError;

/// Why something did not come about. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BreakGlassError {
    /// No such request, or none that this person may see, or none that the broker wrote.
    #[error("there is no such break-glass request")]
    Unknown,
    /// No such cluster.
    #[error("there is no cluster `{0}`")]
    UnknownCluster(ClusterName),
    /// What was asked cannot be read.
    #[error("{0}")]
    Bad(String),
    /// Policy, or a rule of the house, says no; that is recorded.
    #[error("{}", .0.sentence)]
    Refused(Refusal),
    /// The request is not where it would have to be.
    #[error("{0}")]
    State(String),
    /// The database says something else of the request than the broker's marks and the log: nothing is made of it.
    #[error("the request is suspect: {0}")]
    Suspect(String),
    /// What was looked at is not what the request says.
    #[error("the request says something else than what was looked at")]
    OtherContents,
    /// A browser decides without a login made for just that.
    #[error("a decision on a page needs a fresh sign-in for exactly this request, at most five minutes before")]
    NotFresh,
    /// Nothing could be recorded, so nothing was done.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl From<BadReason> for BreakGlassError {
    fn from(bad: BadReason) -> Self {
        Self::Bad(bad.to_string())
    }
}
