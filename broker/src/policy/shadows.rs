//! Permits that say more than they do: a weaker one beside them permits the same.

use std::collections::HashMap;

use cedar_policy::{EntityUid, ResourceConstraint};

use super::rule::{Rule, principal};
use super::set::PolicySet;

/// A warning for every permit with conditions or approvals whose whole scope an unconditional permit covers, for at least as
/// long: its conditions are never needed. A longer life on conditions is what alternatives are for and is no warning.
pub(super) fn warnings(set: &PolicySet) -> Vec<String> {
    let mut unconditional: HashMap<Option<EntityUid>, Vec<&Rule>> = HashMap::new();
    for rule in set.rules.iter().filter(|rule| rule.permits() && !rule.is_conditional() && !rule.needs_backing()) {
        unconditional.entry(principal(rule)).or_default().push(rule);
    }
    let mut warnings = Vec::new();
    for strict in set.rules.iter().filter(|rule| rule.permits() && (rule.is_conditional() || rule.needs_backing())) {
        // one whose scope names the same principal, or none at all
        let mut candidates = vec![None];
        candidates.extend(principal(strict).map(Some));
        let weaker = candidates.iter().filter_map(|key| unconditional.get(key)).flatten();
        if let Some(weaker) = weaker.filter(|weaker| covers(set, weaker, strict)).min_by_key(|weaker| &weaker.id) {
            warnings.push(format!(
                "{}: the conditions of `{}` are never needed, because `{}` ({}) permits the same without any",
                strict.place, strict.id, weaker.id, weaker.place
            ));
        }
    }
    warnings
}

fn covers(set: &PolicySet, weaker: &Rule, strict: &Rule) -> bool {
    let resource = match weaker.policy.resource_constraint() {
        ResourceConstraint::Any => true,
        constraint => constraint == strict.policy.resource_constraint(),
    };
    resource
        && strict.actions.iter().all(|action| weaker.actions.contains(action))
        && set.longest(weaker) >= set.longest(strict)
}
