//! Policies by the action, principal and resource of their scope, so that a decision looks only at those that could apply.
//!
//! Cedar's own cost is linear in the set. A policy whose scope does not match can neither permit, forbid nor fail (the scope
//! is evaluated first), so leaving it out changes nothing; a property test compares with the whole set.

use std::collections::HashMap;

use cedar_policy::{EntityUid, PolicySet as CedarSet, PrincipalConstraint, ResourceConstraint};

use crate::domain::{Group, ProviderAlias};

use super::rule::Rule;
use super::vocabulary::{Action, Kind};

/// The policies of a set by scope.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Every group that any policy names, in scope or condition. Groups nobody names cannot matter.
    groups: HashMap<Group, Named>,
    /// Everything else that any policy names.
    others: HashMap<EntityUid, u32>,
    buckets: Vec<Bucket>,
    by_action: HashMap<Action, HashMap<ResourceKey, HashMap<PrincipalKey, usize>>>,
    next: u32,
}

/// Policies with one scope, ready to be evaluated.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// The policies, as Cedar evaluates them.
    pub(super) policies: CedarSet,
    /// Their places in the set's list of rules.
    pub(super) rules: Vec<usize>,
}

/// A group that policies name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) uid: EntityUid,
    pub(super) key: u32,
}

/// What a scope says of the principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PrincipalKey {
    Any,
    Is(u32),
}

/// What a scope says of the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ResourceKey {
    Any,
    OfKind(Option<Kind>),
    Is(u32),
}

// === impl Index ===

impl Index {
    /// An index over the rules.
    ///
    /// # Errors
    /// When Cedar does not take a policy into a set, in words.
    pub(super) fn new(rules: &[Rule]) -> Result<Self, String> {
        let mut index = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            for uid in rule.policy.entity_literals() {
                index.intern(&uid);
            }
            let principal = match rule.policy.principal_constraint() {
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => PrincipalKey::Any,
                PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
                    PrincipalKey::Is(index.intern(&uid))
                }
            };
            let resource = match rule.policy.resource_constraint() {
                ResourceConstraint::Any => ResourceKey::Any,
                ResourceConstraint::Is(kind) => ResourceKey::OfKind(Kind::named(&kind.to_string())),
                ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
                    ResourceKey::Is(index.intern(&uid))
                }
            };
            for action in &rule.actions {
                let scope = index.by_action.entry(*action).or_default().entry(resource).or_default();
                let bucket = *scope.entry(principal).or_insert_with(|| {
                    index.buckets.push(Bucket::default());
                    index.buckets.len() - 1
                });
                if let Some(bucket) = index.buckets.get_mut(bucket) {
                    bucket.policies.add(rule.policy.clone()).map_err(|error| error.to_string())?;
                    bucket.rules.push(place);
                }
            }
        }
        Ok(index)
    }

    /// The group, if any policy names it.
    pub(super) fn group(&self, group: &Group) -> Option<&Named> {
        self.groups.get(group)
    }

    /// The key of a person, label or cluster, if any policy names it.
    pub(super) fn key(&self, uid: &EntityUid) -> Option<u32> {
        self.others.get(uid).copied()
    }

    /// The policies that could apply to this action, a principal that is all of `principals` (sorted) and a resource that
    /// is all of `resources`.
    pub(super) fn scoped(
        &self,
        action: Action,
        principals: &[PrincipalKey],
        resources: &[ResourceKey],
    ) -> Vec<&Bucket> {
        let Some(by_resource) = self.by_action.get(&action) else { return Vec::new() };
        let mut found: Vec<&usize> = Vec::new();
        for by_principal in resources.iter().filter_map(|key| by_resource.get(key)) {
            // whichever is shorter: the person's groups, or those that policies name here
            if principals.len() <= by_principal.len() {
                found.extend(principals.iter().filter_map(|key| by_principal.get(key)));
            } else {
                let ours = by_principal.iter().filter(|(key, _)| principals.binary_search(key).is_ok());
                found.extend(ours.map(|(_, bucket)| bucket));
            }
        }
        found.into_iter().filter_map(|bucket| self.buckets.get(*bucket)).collect()
    }

    fn intern(&mut self, uid: &EntityUid) -> u32 {
        let fresh = self.next;
        let key = match group(uid) {
            Some(group) => self.groups.entry(group).or_insert_with(|| Named { uid: uid.clone(), key: fresh }).key,
            None => *self.others.entry(uid.clone()).or_insert(fresh),
        };
        self.next = self.next.max(key.saturating_add(1));
        key
    }
}

/// The group that a name in a policy, `alias/name`, stands for. An alias has no `/`, so the first one ends it.
fn group(uid: &EntityUid) -> Option<Group> {
    if Kind::of(uid)? != Kind::Group {
        return None;
    }
    let (alias, name) = uid.id().unescaped().split_once('/')?;
    Some(Group { provider: ProviderAlias::new(alias).ok()?, name: name.into() })
}

#[cfg(test)]
mod tests {
    use cedar_policy::{EntityId, EntityTypeName};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_groups_name_is_taken_apart_at_its_alias(alias in "[a-z]([a-z0-9-]{0,5}[a-z0-9])?", name in "[a/#%= é]{1,6}") {
            let kind = "Group".parse::<EntityTypeName>().unwrap();
            let uid = EntityUid::from_type_name_and_id(kind, EntityId::new(format!("{alias}/{name}")));
            let expected = Group { provider: ProviderAlias::new(&alias).unwrap(), name };
            prop_assert_eq!(group(&uid), Some(expected));
        }
    }
}
