//! From an identity and a request to a [`Grant`] or a refusal. Pure: no clock, no store, no files.
//!
//! Policies are Cedar. What is yes or no is a Cedar condition; what is not (`@max_ttl`, `@hint`, …) is an annotation that
//! we check ourselves, because Cedar's validator ignores annotations. A set is loaded whole or not at all ([`PolicySet::load`]),
//! and [`decide`] is the one door to a grant; [`probe`] and [`delegation`] are the broker's own, for errands that are what they are.
//! Everything that is not a plain yes is a no: nothing permits, something forbids, a policy cannot be evaluated.

mod advice;
mod answer;
mod approval;
mod case_file;
mod cases;
mod decide;
mod elevation;
mod evaluate;
mod explain;
#[cfg(test)]
mod fixture;
mod grant;
mod index;
mod judgement;
mod load;
mod locking;
mod needs;
mod nesting;
mod probe;
mod problem;
mod quorum;
mod reads;
mod refusal;
mod rule;
mod set;
mod shadows;
mod shipped;
mod vocabulary;

pub use cases::{CaseError, CaseFailure, CaseReport, run_cases};
pub use decide::{AuditScope, decide, listing, may_drop_audit, may_read_audit};
pub use elevation::{Elevation, ElevationTerms, could_approve, elevation, login_to_approve, may_approve};
pub use explain::{Asks, Considered, Explanation, Granted, Who, explain};
pub use grant::{Grant, Mode};
pub use locking::{LockAct, may_lock};
pub use probe::{DELEGATION_LIFE, PROBE_LIFE, delegation, probe};
pub use problem::{LoadError, Problem};
pub use quorum::Quorum;
pub use refusal::{NO_HUMAN, NO_HUMAN_HELP, Refusal, StepUp};
pub use set::{HARD_MAX_TTL, Limits, PolicySet, Source};
pub use shipped::{COMPANY, SMALL_TEAM};
pub use vocabulary::SCHEMA;
