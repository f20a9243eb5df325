//! What policies look at that someone else must provide: labels on clusters, contexts and times of logins from providers.
//! Where it is not there, a `forbid` on it protects nothing and a permit on it permits nobody; both look as if they did.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Cluster, ProviderAlias};

use super::rule::{Rule, principal, shown};
use super::set::PolicySet;
use super::vocabulary::Kind;

/// At most so many policies are named in one warning.
const NAMED: usize = 5;

// === impl PolicySet ===

impl PolicySet {
    /// For each label key that policies name and the cluster does not have at all, a sentence that names them.
    #[must_use]
    pub fn missing_labels(&self, cluster: &Cluster) -> Vec<String> {
        let mut readers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for rule in &self.rules {
            for key in rule.reads.labels.iter().filter(|key| !cluster.labels.contains_key(*key)) {
                readers.entry(key).or_default().insert(&rule.id);
            }
        }
        let sentence = |(key, ids): (&str, BTreeSet<&str>)| {
            format!("cluster `{}` has no label `{}`, which {}", cluster.name, shown(key), look_at(&ids))
        };
        readers.into_iter().map(sentence).collect()
    }

    /// For each alias that policies name groups or people by and that is none of `providers`, a sentence that names the policies: nobody
    /// is what they name.
    #[must_use]
    pub fn unknown_providers(&self, providers: &[&str]) -> Vec<String> {
        let mut readers: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for rule in &self.rules {
            for uid in rule.policy.entity_literals().into_iter().chain(principal(rule)) {
                let is_of_one = matches!(Kind::of(&uid), Some(Kind::Group | Kind::Person));
                let alias = uid.id().unescaped().split_once('/').map(|(alias, _)| alias.to_owned());
                if let Some(alias) = alias.filter(|alias| is_of_one && !providers.contains(&alias.as_str())) {
                    readers.entry(alias).or_default().insert(&rule.id);
                }
            }
        }
        let sentence = |(alias, ids): (String, BTreeSet<&str>)| {
            format!("no provider has the alias `{}`, which {}", shown(&alias), look_at(&ids))
        };
        readers.into_iter().map(sentence).collect()
    }

    /// What policies look at and this provider is not asked for, a sentence each that names the policies and the key of the
    /// configuration. Policies about another provider's people are left out.
    #[must_use]
    pub fn missing_at_login(&self, provider: &ProviderAlias, has_acr_values: bool, has_max_age: bool) -> Vec<String> {
        let readers = |reads: fn(&Rule) -> bool| -> BTreeSet<&str> {
            let rules = self.rules.iter().filter(|rule| reads(rule) && is_about(rule, provider));
            rules.map(|rule| rule.id.as_str()).collect()
        };
        let acr = readers(|rule| rule.reads.has_acr);
        let auth_age = readers(|rule| rule.reads.auth_age);
        let missing = [("acr", "acr_values", acr, has_acr_values), ("auth_age", "max_age", auth_age, has_max_age)];
        let sentence = |(attribute, key, ids, is_set): (&str, &str, BTreeSet<&str>, bool)| {
            (!is_set && !ids.is_empty())
                .then(|| format!("no `{key}`, so its logins may come without `{attribute}`, which {}", look_at(&ids)))
        };
        missing.into_iter().filter_map(sentence).collect()
    }
}

/// ``policy `a` looks at``, or several.
fn look_at(ids: &BTreeSet<&str>) -> String {
    let named: Vec<_> = ids.iter().take(NAMED).map(|id| format!("`{id}`")).collect();
    let (named, more) = (named.join(", "), ids.len().saturating_sub(NAMED));
    match (ids.len(), more) {
        (1, _) => format!("policy {named} looks at"),
        (_, 0) => format!("policies {named} look at"),
        _ => format!("policies {named} and {more} more look at"),
    }
}

/// Whether the rule can be about people of this provider, by whom its scope names.
fn is_about(rule: &Rule, provider: &ProviderAlias) -> bool {
    let Some(uid) = principal(rule) else { return true };
    // people and groups alike are named `alias/…`
    uid.id().unescaped().split_once('/').is_none_or(|(alias, _)| alias == provider.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{cluster, load, prod};
    use super::*;

    const POLICIES: &str = r#"
        @id("scope") permit (principal in Group::"corp/sre", action == Action::"hold:os:reader", resource in Label::"env=prod");
        @id("guard") forbid (principal, action == Action::"hold:os:admin", resource)
          when { resource in [Label::"env=prod", Label::"tier=gold"] }
          unless { context has acr && context.acr like "urn:*" && context has auth_age && context.auth_age < 60 };
        @id("fresh") permit (principal in Group::"corp/sre", action == Action::"hold:os:admin", resource)
          when { context has auth_age && context.auth_age < 60 };
    "#;

    #[test]
    fn names_the_label_keys_that_a_cluster_lacks() {
        let set = load(POLICIES).unwrap();
        assert_eq!(
            set.missing_labels(&cluster("lab", &[("region", "eu")])),
            [
                "cluster `lab` has no label `env`, which policies `guard`, `scope` look at",
                "cluster `lab` has no label `tier`, which policy `guard` looks at",
            ]
        );
        assert_eq!(set.missing_labels(&prod()).len(), 1, "another value of the key is a choice, not a lack");
    }

    #[test]
    fn names_the_aliases_that_no_provider_has() {
        let condition = r#"@id("ops") permit (principal, action == Action::"hold:os:operator", resource in Label::"team=a/b")
          when { principal in Group::"okta/ops" || principal == Person::"old/https://id.example.com#ada" };"#;
        let set = load(&[POLICIES, condition].concat()).unwrap();
        assert_eq!(
            set.unknown_providers(&["corp"]),
            [
                "no provider has the alias `okta`, which policy `ops` looks at",
                "no provider has the alias `old`, which policy `ops` looks at",
            ]
        );
        assert_eq!(
            set.unknown_providers(&["okta", "old"]),
            ["no provider has the alias `corp`, which policies `fresh`, `scope` look at"]
        );
        assert_eq!(set.unknown_providers(&["corp", "okta", "old"]), [""; 0]);
    }

    #[test]
    fn names_what_a_provider_is_not_asked_for() {
        let set = load(POLICIES).unwrap();
        let missing = |alias: &str, acr, age| set.missing_at_login(&ProviderAlias::new(alias).unwrap(), acr, age);
        assert_eq!(
            missing("corp", false, false),
            [
                "no `acr_values`, so its logins may come without `acr`, which policy `guard` looks at",
                "no `max_age`, so its logins may come without `auth_age`, which policies `fresh`, `guard` look at",
            ]
        );
        assert_eq!(missing("corp", true, true), [""; 0]);
        assert_eq!(missing("other", true, false).len(), 1);
        assert!(!missing("other", true, false)[0].contains("fresh"), "it is about people of `corp`");
    }
}
