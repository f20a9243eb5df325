//! One question to Cedar: may this person do this, here, in these circumstances?

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use cedar_policy::{Context, Decision, Entities, Entity, EntityUid, Request, RestrictedExpression};
use jiff::{SignedDuration, Timestamp};

use crate::domain::{Cluster, Group, Person, Role};
use crate::identity::Identity;

use super::index::{Bucket, PrincipalKey, ResourceKey};
use super::quorum::Backing;
use super::rule::Rule;
use super::set::PolicySet;
use super::vocabulary::{Action, Kind};

/// A time in the future by no more than this is a clock that differs, and counts as now; by more, it is not believed.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// An age that no condition can take for fresh: some 136 years, small enough to calculate with.
const AGES_AGO: i64 = u32::MAX as i64;

/// What conditions can look at, besides who asks for what.
#[derive(Clone, Debug)]
pub(super) struct Circumstances<'a> {
    pub(super) reason: Option<&'a str>,
    pub(super) acr: Option<&'a str>,
    /// Seconds; absent where the provider did not tell, or told a time to come.
    pub(super) auth_age: Option<i64>,
    /// Seconds.
    pub(super) groups_age: i64,
    /// Seconds.
    pub(super) ttl: i64,
    pub(super) address: Option<IpAddr>,
    /// The roles that another asked for, where this is about approving them.
    pub(super) roles: &'a [Role],
    /// What is locked, where this is about locks.
    pub(super) what: Option<&'a str>,
    /// What stands behind it: others' approval, or that someone was told; mostly nothing.
    pub(super) backing: Option<Backing>,
}

/// Who asks about what, made ready for Cedar; the action and the circumstances come with each [`Self::ask`].
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) set: &'a PolicySet,
    principal: EntityUid,
    principals: Vec<PrincipalKey>,
    resource: EntityUid,
    resources: Vec<ResourceKey>,
    entities: Entities,
}

/// What the set says to one question.
#[derive(Clone, Debug)]
pub(super) enum Verdict<'a> {
    /// Yes, by each of these permits.
    Permitted(Vec<&'a Rule>),
    /// No, by these forbids.
    Forbidden(Vec<&'a Rule>),
    /// No: these permits are met, but more others must approve.
    Unapproved(Vec<&'a Rule>),
    /// No: of these permits, which are about this person and thing, none is met.
    Unmet(Vec<&'a Rule>),
    /// A policy could not be evaluated. It might have been a forbid, so the answer is no.
    Failed(String),
}

/// The reason, if it is one: with a letter or digit in it, so that blanks and marks do not stand for an answer.
pub(super) fn given(reason: Option<&str>) -> Option<&str> {
    reason.filter(|reason| crate::domain::check_reason(reason).is_ok())
}

// === impl Circumstances ===

impl<'a> Circumstances<'a> {
    /// The same, of someone who asks others: with a reason, and freshly logged in, for both are asked for then.
    pub(super) fn as_asking(&self) -> Self {
        Self { reason: self.reason.or(Some("a reason")), auth_age: Some(0), ..self.clone() }
    }

    /// The circumstances of a verified identity that asks for `ttl` now.
    pub(super) fn of(
        identity: &'a Identity,
        reason: Option<&'a str>,
        ttl: SignedDuration,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Self {
        Self {
            reason: given(reason),
            acr: identity.acr(),
            auth_age: identity.auth_time().and_then(|at| age(at, now)),
            groups_age: age(identity.groups_at(), now).unwrap_or(AGES_AGO),
            ttl: ttl.as_secs(),
            address,
            roles: &[],
            what: None,
            backing: None,
        }
    }

    /// As a context for the action: `Asking` in the schema for `hold:` actions and for asking others, `Approving` for
    /// approving, `Locking` for locks, `Acting` for the rest.
    ///
    /// # Errors
    /// When Cedar does not take a value, in words.
    pub(super) fn context(&self, action: Action) -> Result<Context, String> {
        let text = |text: &str| RestrictedExpression::new_string(text.into());
        let mut pairs = vec![("groups_age".to_owned(), RestrictedExpression::new_long(self.groups_age))];
        pairs.extend(self.acr.map(|acr| ("acr".into(), text(acr))));
        pairs.extend(self.auth_age.map(|age| ("auth_age".into(), RestrictedExpression::new_long(age))));
        if action == Action::BreakGlassApprove {
            let roles = self.roles.iter().map(|role| text(role.as_str()));
            pairs.push(("roles".into(), RestrictedExpression::new_set(roles)));
        }
        if matches!(action, Action::Lock | Action::Unlock) {
            pairs.extend(self.what.map(|what| ("what".into(), text(what))));
        }
        if action.is_hold() || action == Action::BreakGlassRequest {
            pairs.push(("ttl".into(), RestrictedExpression::new_long(self.ttl)));
            pairs.extend(self.reason.map(|reason| ("reason".into(), text(reason))));
            pairs.extend(
                self.address.map(|ip| ("address".into(), RestrictedExpression::new_ip(ip.to_canonical().to_string()))),
            );
        }
        Context::from_pairs(pairs).map_err(|error| error.to_string())
    }
}

/// Whole seconds from `at` to `now`.
fn age(at: Timestamp, now: Timestamp) -> Option<i64> {
    let age = now.duration_since(at);
    (age >= -SKEW).then(|| age.as_secs().max(0))
}

// === impl Question ===

impl<'a> Question<'a> {
    /// A question about a cluster.
    ///
    /// # Errors
    /// When the question cannot be put; in words, for the broker's log. The answer is then no.
    pub(super) fn about_cluster(
        set: &'a PolicySet,
        person: &Person,
        groups: &BTreeSet<Group>,
        cluster: &Cluster,
        actions: &[Action],
    ) -> Result<Self, String> {
        let resource = set.vocabulary.cluster(&cluster.name);
        let mut labels = HashSet::new();
        let mut resources = vec![ResourceKey::Any, ResourceKey::OfKind(Some(Kind::Cluster))];
        resources.extend(set.index.key(&resource).map(ResourceKey::Is));
        for (key, value) in &cluster.labels {
            let label = set.vocabulary.label(key, value).map_err(|error| error.to_string())?;
            if let Some(key) = set.index.key(&label) {
                resources.push(ResourceKey::Is(key));
                labels.insert(label);
            }
        }
        Self::new(set, person, groups, (resource, labels), resources, actions)
    }

    /// A question about Ichor itself.
    ///
    /// # Errors
    /// As for [`Self::about_cluster`].
    pub(super) fn about_ichor(
        set: &'a PolicySet,
        person: &Person,
        groups: &BTreeSet<Group>,
        actions: &[Action],
    ) -> Result<Self, String> {
        let resource = set.vocabulary.ichor();
        let mut resources = vec![ResourceKey::Any, ResourceKey::OfKind(Some(Kind::Ichor))];
        resources.extend(set.index.key(&resource).map(ResourceKey::Is));
        Self::new(set, person, groups, (resource, HashSet::new()), resources, actions)
    }

    fn new(
        set: &'a PolicySet,
        person: &Person,
        groups: &BTreeSet<Group>,
        (resource, labels): (EntityUid, HashSet<EntityUid>),
        resources: Vec<ResourceKey>,
        actions: &[Action],
    ) -> Result<Self, String> {
        let principal = set.vocabulary.person(person);
        let mut principals = vec![PrincipalKey::Any];
        principals.extend(set.index.key(&principal).map(PrincipalKey::Is));
        let mut parents = HashSet::new();
        for named in groups.iter().filter_map(|group| set.index.group(group)) {
            principals.push(PrincipalKey::Is(named.key));
            parents.insert(named.uid.clone());
        }
        principals.sort_unstable();
        let mut entities: Vec<_> = actions.iter().map(|action| set.vocabulary.action_entity(*action)).collect();
        entities.push(Entity::new_no_attrs(principal.clone(), parents));
        entities.push(Entity::new_no_attrs(resource.clone(), labels));
        let entities = Entities::from_entities(entities, None).map_err(|error| error.to_string())?;
        Ok(Self { set, principal, principals, resource, resources, entities })
    }

    /// The set's answer. `action` must be one of those that the question was made with.
    pub(super) fn ask(&self, action: Action, circumstances: &Circumstances<'_>) -> Verdict<'a> {
        match circumstances.context(action) {
            Ok(context) => self.ask_in(action, context),
            Err(error) => Verdict::Failed(error),
        }
    }

    /// The same, with the circumstances as a context of that action's kind; one context serves all `hold:` actions.
    pub(super) fn ask_in(&self, action: Action, context: Context) -> Verdict<'a> {
        let request = match self.request(action, context) {
            Ok(request) => request,
            Err(error) => return Verdict::Failed(error),
        };
        let (mut permits, mut forbids, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        let scoped = self.scoped(action);
        for bucket in &scoped {
            let response = self.set.authorizer.is_authorized(&request, &bucket.policies, &self.entities);
            failures.extend(response.diagnostics().errors().map(ToString::to_string));
            let rules = response.diagnostics().reason().filter_map(|id| self.set.rule(id));
            match response.decision() {
                Decision::Allow => permits.extend(rules),
                Decision::Deny => forbids.extend(rules),
            }
        }
        // Cedar leaves out a policy that fails, a forbid too; so any failure is a no
        if !failures.is_empty() {
            failures.sort();
            return Verdict::Failed(failures.join("; "));
        }
        if !forbids.is_empty() {
            return Verdict::Forbidden(by_id(forbids));
        }
        if permits.is_empty() {
            let about = scoped.iter().flat_map(|bucket| self.rules_of(bucket));
            return Verdict::Unmet(by_id(about.filter(|rule| rule.permits()).collect()));
        }
        Verdict::Permitted(by_id(permits))
    }

    /// Whether one policy alone is met, whatever the others say.
    ///
    /// # Errors
    /// When it cannot be evaluated, in words.
    pub(super) fn is_met(
        &self,
        rule: &Rule,
        action: Action,
        circumstances: &Circumstances<'_>,
    ) -> Result<bool, String> {
        let request = self.request(action, circumstances.context(action)?)?;
        let alone = cedar_policy::PolicySet::from_policies([rule.policy.clone()]).map_err(|error| error.to_string())?;
        let response = self.set.authorizer.is_authorized(&request, &alone, &self.entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(error.to_string());
        }
        Ok(response.diagnostics().reason().next().is_some())
    }

    /// The policies whose scope is about this person, thing and action.
    pub(super) fn scoped_rules(&self, action: Action) -> Vec<&'a Rule> {
        by_id(self.scoped(action).iter().flat_map(|bucket| self.rules_of(bucket)).collect())
    }

    fn scoped(&self, action: Action) -> Vec<&'a Bucket> {
        self.set.index.scoped(action, &self.principals, &self.resources)
    }

    fn rules_of(&self, bucket: &'a Bucket) -> impl Iterator<Item = &'a Rule> {
        bucket.rules.iter().filter_map(|place| self.set.rules.get(*place))
    }

    fn request(&self, action: Action, context: Context) -> Result<Request, String> {
        let action_uid = self.set.vocabulary.action(action);
        let schema = Some(&self.set.vocabulary.schema);
        Request::new(self.principal.clone(), action_uid, self.resource.clone(), context, schema)
            .map_err(|error| error.to_string())
    }
}

fn by_id(mut rules: Vec<&Rule>) -> Vec<&Rule> {
    rules.sort_by(|one, other| one.id.cmp(&other.id));
    rules
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use cedar_policy::{Authorizer, EntityId, EntityTypeName, PolicySet as CedarSet};
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::super::fixture::{cluster, load, row};
    use super::*;
    use crate::domain::Role;

    /// A policy of any shape that loads: scopes that match often, conditions that are met, unmet or fail.
    fn policy() -> impl Strategy<Value = String> {
        let effect = select(vec!["permit", "permit", "forbid"]);
        let principal = select(vec![
            "principal",
            "principal is Person",
            r#"principal == Person::"corp/https://idp.example.com#alice""#,
            r#"principal in Person::"corp/https://idp.example.com#alice""#,
            r#"principal == Person::"corp/https://idp.example.com#bob""#,
            r#"principal in Group::"corp/a""#,
            r#"principal in Group::"corp/b""#,
            r#"principal is Person in Group::"corp/c/d""#,
            r#"principal in Group::"other/a""#,
        ]);
        let action = select(vec![
            "action",
            r#"action in Action::"hold""#,
            r#"action == Action::"hold:os:reader""#,
            r#"action in Action::"hold:os:admin""#,
            r#"action in [Action::"hold:os:reader", Action::"audit:read"]"#,
            r#"action in [Action::"hold", Action::"audit:read"]"#,
        ]);
        let resource = select(vec![
            "resource",
            "resource is Cluster",
            r#"resource == Cluster::"prod""#,
            r#"resource in Cluster::"prod""#,
            r#"resource in Cluster::"other""#,
            r#"resource in Label::"env=prod""#,
            r#"resource is Cluster in Label::"env=dev""#,
            r#"resource in Label::"region=eu=1""#,
        ]);
        let condition = select(vec![
            "",
            "",
            "when { context has reason }",
            r#"unless { context has acr && context.acr == "mfa" }"#,
            "when { context has auth_age && context.auth_age < 600 }",
            "when { context.groups_age * 9223372036854775807 > 0 }",
            r#"when { principal in Group::"corp/unscoped" }"#,
            r#"unless { resource in [Label::"tier=1", Label::"env=prod"] }"#,
            r#"when { action in Action::"hold" }"#,
        ]);
        (effect, principal, action, resource, condition)
            .prop_map(|(effect, who, what, on, condition)| format!("{effect} ({who}, {what}, {on}) {condition};"))
    }

    prop_compose! {
        fn asked()(
            subject in select(vec!["alice", "bob", "carol"]),
            groups in subsequence(vec!["a", "b", "c/d", "unscoped", "never named"], 0..=5),
            labels in subsequence(vec![("env", "prod"), ("region", "eu=1"), ("tier", "1"), ("never", "named")], 0..=4),
            name in select(vec!["prod", "other", "third"]),
            action in select(vec![Action::Hold(Role::Reader), Action::Hold(Role::Admin), Action::AuditRead]),
            reason in any::<bool>(),
            acr in select(vec![None, Some("mfa"), Some("pwd")]),
            auth_age in select(vec![None, Some(0), Some(600)]),
            groups_age in 1..3_i64,
        ) -> (Person, BTreeSet<Group>, Cluster, Action, Circumstances<'static>) {
            let row = row(&groups);
            let person = Person { subject: subject.into(), ..row.person };
            let reason = reason.then_some("INC-42");
            let circumstances = Circumstances { reason, acr, auth_age, groups_age, ttl: 3600, address: None, roles: &[], what: None, backing: None };
            (person, row.groups.into_iter().collect(), cluster(name, &labels), action, circumstances)
        }
    }

    /// The answer of Cedar alone over the whole set, from entities that are made anew and checked against the schema.
    fn whole(
        set: &PolicySet,
        (person, groups, cluster, action, circumstances): &(
            Person,
            BTreeSet<Group>,
            Cluster,
            Action,
            Circumstances<'_>,
        ),
    ) -> (&'static str, Vec<String>) {
        let uid = |kind: &str, id: &str| {
            EntityUid::from_type_name_and_id(kind.parse::<EntityTypeName>().unwrap(), EntityId::new(id))
        };
        let principal = uid("Person", &format!("corp/{}#{}", person.issuer, person.subject));
        let resource = uid("Cluster", cluster.name.as_str());
        let parents = groups.iter().map(|group| uid("Group", &format!("{}/{}", group.provider, group.name))).collect();
        let labels = cluster.labels.iter().map(|(key, value)| uid("Label", &format!("{key}={value}"))).collect();
        let schema = &set.vocabulary.schema;
        let entities = [
            Entity::new(principal.clone(), HashMap::new(), parents).unwrap(),
            Entity::new(resource.clone(), HashMap::new(), labels).unwrap(),
        ];
        let entities = Entities::from_entities(entities, Some(schema)).unwrap();
        let context = circumstances.context(*action).unwrap();
        let request = Request::new(principal, uid("Action", &action.id()), resource, context, Some(schema)).unwrap();
        let policies = CedarSet::from_policies(set.rules.iter().map(|rule| rule.policy.clone())).unwrap();
        let response = Authorizer::new().is_authorized(&request, &policies, &entities);
        let mut reasons: Vec<_> = response.diagnostics().reason().map(ToString::to_string).collect();
        reasons.sort();
        match (response.diagnostics().errors().next(), response.decision(), reasons.is_empty()) {
            (Some(_), _, _) => ("failed", Vec::new()),
            (None, Decision::Allow, _) => ("permitted", reasons),
            (None, Decision::Deny, false) => ("forbidden", reasons),
            (None, Decision::Deny, true) => ("unmet", reasons),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_index_answers_as_the_whole_set_does(
            policies in prop::collection::vec(policy(), 0..24),
            questions in prop::collection::vec(asked(), 16),
        ) {
            let text: String = policies.iter().enumerate().map(|(n, policy)| format!("@id(\"p{n}\")\n{policy}\n")).collect();
            // a forbid that cannot apply is refused at load, so there is nothing to compare
            let Ok(set) = load(&text) else { return Ok(()) };
            for asked in questions {
                let (person, groups, cluster, action, circumstances) = &asked;
                let question = Question::about_cluster(&set, person, groups, cluster, &[*action]).unwrap();
                let ids = |rules: &[&Rule]| rules.iter().map(|rule| rule.id.clone()).collect::<Vec<_>>();
                let ours = match question.ask(*action, circumstances) {
                    Verdict::Permitted(rules) => ("permitted", ids(&rules)),
                    Verdict::Forbidden(rules) => ("forbidden", ids(&rules)),
                    Verdict::Unmet(_) | Verdict::Unapproved(_) => ("unmet", Vec::new()),
                    Verdict::Failed(_) => ("failed", Vec::new()),
                };
                prop_assert_eq!(ours, whole(&set, &asked));
            }
        }
    }
}
