//! A whole set of policies: validated, indexed, immutable.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{Authorizer, PolicyId};
use jiff::SignedDuration;

use super::index::Index;
use super::rule::Rule;
use super::vocabulary::{Action, Vocabulary};
use crate::domain::Role;

/// No certificate lasts longer, whatever policies and configuration say.
pub const HARD_MAX_TTL: SignedDuration = SignedDuration::from_hours(24);

/// A policy set that was validated whole, annotations included, and indexed. It never changes; a reload makes another.
#[derive(Debug)]
pub struct PolicySet {
    pub(super) rules: Vec<Rule>,
    pub(super) by_id: HashMap<PolicyId, usize>,
    pub(super) index: Index,
    pub(super) vocabulary: Vocabulary,
    pub(super) authorizer: Authorizer,
    pub(super) limits: Limits,
    pub(super) digest: [u8; 32],
    pub(super) warnings: Vec<String>,
}

/// One file of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's name, as messages say it.
    pub name: String,
    /// The file's text, in Cedar.
    pub text: String,
}

/// The broker's own limits on certificates; policies can only be stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The life of a certificate when none is asked for, and the longest that a permit without `@max_ttl` gives.
    pub default_ttl: SignedDuration,
    /// The longest life that any policy may give, at most [`HARD_MAX_TTL`].
    pub max_ttl: SignedDuration,
}

// === impl PolicySet ===

impl PolicySet {
    /// SHA-256 over the sources by name and text; the order in which they were given does not matter.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What loads but is probably not meant, a sentence each: a permit that a weaker one shadows, a policy that can never
    /// apply, an empty set.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none, so that everything is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The roles that some permit is about, whoever it is for, sorted.
    #[must_use]
    pub fn grantable(&self) -> Vec<Role> {
        let permits = self.rules.iter().filter(|rule| rule.permits());
        let roles = permits.flat_map(|rule| &rule.actions).filter_map(|action| match action {
            Action::Hold(role) => Some(*role),
            _ => None,
        });
        roles.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Every policy's `@id`, in the order of the sources.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.id.as_str())
    }

    /// The rule with this Cedar id.
    pub(super) fn rule(&self, id: &PolicyId) -> Option<&Rule> {
        self.by_id.get(id).and_then(|place| self.rules.get(*place))
    }

    /// The longest life that a permit gives.
    pub(super) fn longest(&self, rule: &Rule) -> SignedDuration {
        rule.terms.max_ttl.unwrap_or(self.limits.default_ttl).min(self.limits.max_ttl).min(HARD_MAX_TTL)
    }
}

// === impl Limits ===

impl Default for Limits {
    /// One hour unless asked for more, never more than [`HARD_MAX_TTL`].
    fn default() -> Self {
        Self { default_ttl: SignedDuration::from_hours(1), max_ttl: HARD_MAX_TTL }
    }
}
