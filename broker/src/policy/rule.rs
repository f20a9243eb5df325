//! One policy of a loaded set: its Cedar text, and what its annotations oblige to.

use std::fmt;

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, PrincipalConstraint};
use jiff::SignedDuration;

use super::approval::{Approval, LONGEST_ALONE};
use super::quorum::Backing;
use super::reads::Reads;
use super::set::HARD_MAX_TTL;
use super::vocabulary::Action;

/// A policy, checked.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its `@id`, unique in the set; also its Cedar id.
    pub(super) id: String,
    /// Where it stands.
    pub(super) place: Place,
    /// The policy itself.
    pub(super) policy: Policy,
    /// The actions that its scope covers.
    pub(super) actions: Vec<Action>,
    /// What its annotations say.
    pub(super) terms: Terms,
    /// What its conditions look at.
    pub(super) reads: Reads,
}

/// A line of a source, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) source: String,
    pub(super) line: usize,
}

/// What a policy's annotations say besides its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// The longest life of a certificate granted by it; absent, the broker's default life is the longest.
    pub(super) max_ttl: Option<SignedDuration>,
    /// What to tell someone whom it would let through, were its conditions met.
    pub(super) hint: Option<String>,
    /// What must come before it permits; absent, nothing.
    pub(super) approval: Option<Approval>,
}

// === impl Rule ===

impl Rule {
    /// Whether it permits, when it is met.
    pub(super) fn permits(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }

    /// How many others must approve before it permits; 0 also where nobody approves and someone must be told.
    pub(super) fn approvals(&self) -> u64 {
        self.terms.approval.as_ref().map_or(0, |approval| approval.others)
    }

    /// Whether it needs others' approval, or that someone is told, before it permits.
    pub(super) fn needs_backing(&self) -> bool {
        self.terms.approval.is_some()
    }

    /// Whether this is what it needs. One that needs nothing is always met.
    pub(super) fn is_backed(&self, backing: Option<Backing>) -> bool {
        match (&self.terms.approval, backing) {
            (None, _) => true,
            (Some(needed), Some(Backing::Approvals(given))) => !needed.self_service && given >= needed.others.max(1),
            (Some(needed), Some(Backing::Told)) => needed.self_service,
            (Some(_), None) => false,
        }
    }

    /// Whether it says more than whom, what and where.
    pub(super) fn is_conditional(&self) -> bool {
        self.policy.has_non_scope_constraint()
    }
}

// === impl Place ===

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.line)
    }
}

// === impl Terms ===

impl Terms {
    /// Reads a policy's annotations. The list of known ones is closed: what a newer build would enforce, or what is
    /// misspelt, must not be passed over as if it were not there.
    ///
    /// # Errors
    /// Every annotation that is unknown, unparsable, out of place, or not enforced by this build; in words.
    pub(super) fn read(policy: &Policy, actions: &[Action]) -> Result<Self, Vec<String>> {
        let mut terms = Self::default();
        let mut problems = Vec::new();
        let permits = policy.effect() == Effect::Permit;
        let mut annotations: Vec<_> = policy.annotations().collect();
        annotations.sort_unstable();
        for (key, value) in annotations {
            if !permits && matches!(key, "max_ttl" | "mode" | "approvals" | "self_service" | "wait" | "uses" | "ticket")
            {
                problems
                    .push(format!("`@{key}` is an obligation, and a forbid cannot carry one; put it on the permits"));
                continue;
            }
            match key {
                "id" => {}
                "max_ttl" => match max_ttl(value, actions) {
                    Ok(ttl) => terms.max_ttl = Some(ttl),
                    Err(problem) => problems.push(problem),
                },
                "hint" if value.trim().is_empty() => problems.push("`@hint` is empty; say what would help".into()),
                "hint" => terms.hint = Some(value.trim().into()),
                "mode" if value == "direct" => {}
                "mode" => problems.push(format!(
                    "`@mode(\"{}\")` is not enforced by this build, which knows only `direct`; remove the policy or update the broker",
                    shown(value)
                )),
                "approvals" | "self_service" | "wait" | "uses" | "ticket" => {}
                other => problems.push(format!(
                    "unknown annotation `@{}`; known are @id, @max_ttl, @hint, @mode, @approvals, @self_service, @wait, @uses and @ticket",
                    shown(other)
                )),
            }
        }
        if permits {
            match Approval::read(policy, actions) {
                Ok(approval) => {
                    if approval.as_ref().is_some_and(|approval| approval.self_service)
                        && terms.max_ttl.is_none_or(|ttl| ttl > LONGEST_ALONE)
                    {
                        problems.push("`@self_service` needs `@max_ttl` of at most 15m beside it".into());
                    }
                    terms.approval = approval;
                }
                Err(mut wrong) => problems.append(&mut wrong),
            }
        }
        if problems.is_empty() { Ok(terms) } else { Err(problems) }
    }
}

fn max_ttl(value: &str, actions: &[Action]) -> Result<SignedDuration, String> {
    if !actions.iter().any(|action| action.is_hold()) {
        return Err("`@max_ttl` limits certificates, but the policy covers no `hold:` action; remove it".into());
    }
    let unreadable =
        || format!("`@max_ttl(\"{}\")` is not a duration; write it as `8h`, `15m` or `1h30m`", shown(value));
    let ttl: SignedDuration = value.parse().map_err(|_| unreadable())?;
    if ttl < SignedDuration::from_secs(1) || ttl.subsec_nanos() != 0 {
        return Err(unreadable());
    }
    if ttl > HARD_MAX_TTL {
        return Err(format!("`@max_ttl(\"{}\")` is more than the 24h that any certificate may last", shown(value)));
    }
    Ok(ttl)
}

/// The actions that a policy's scope covers.
pub(super) fn covered(policy: &Policy) -> Vec<Action> {
    let mut actions: Vec<_> = match policy.action_constraint() {
        ActionConstraint::Any => Action::ALL.to_vec(),
        ActionConstraint::Eq(uid) => {
            // `==` names the action itself, so it never means the members of a group
            Action::named(uid.id().unescaped())
                .into_iter()
                .filter(|action| action.id() == uid.id().unescaped())
                .collect()
        }
        ActionConstraint::In(uids) => uids.iter().flat_map(|uid| Action::named(uid.id().unescaped())).collect(),
    };
    actions.sort_unstable();
    actions.dedup();
    actions
}

/// Whom the scope of a rule names.
pub(super) fn principal(rule: &Rule) -> Option<EntityUid> {
    match rule.policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => Some(uid),
    }
}

/// A text from a policy, fit to stand in a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// A duration in words and whole seconds, as `8h` or `1h 30m`.
pub(super) fn spoken(duration: SignedDuration) -> String {
    format!("{:#}", SignedDuration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &str, effect: &str) -> Result<Terms, Vec<String>> {
        let policy = format!("{annotations} {effect}(principal, action, resource);");
        Terms::read(&Policy::parse(None, policy).unwrap(), &Action::ALL)
    }

    #[test]
    fn durations_are_read_and_said() {
        for (text, said) in [("8h", "8h"), ("15m", "15m"), ("1h30m", "1h 30m"), ("90m", "1h 30m"), ("24h", "24h")] {
            let terms = read(&format!("@max_ttl(\"{text}\")"), "permit").unwrap();
            assert_eq!(spoken(terms.max_ttl.unwrap()), said);
        }
        assert_eq!(spoken(SignedDuration::new(60, 123_456_789)), "1m");
    }

    #[test]
    fn what_is_not_a_sensible_duration_is_refused() {
        for text in ["", "8", "soon", "-1h", "0s", "0h", "24h1s", "25h", "1d", "1.5s", "9999999999999999h", "8h ago"] {
            assert!(read(&format!("@max_ttl(\"{text}\")"), "permit").is_err(), "{text}");
        }
    }

    #[test]
    fn annotations_are_a_closed_list() {
        for annotation in ["@max-ttl", "@maxttl(\"1h\")", "@Max_ttl(\"1h\")", "@ttl(\"1h\")", "@advice(\"x\")"] {
            let policy = format!("{annotation} permit(principal, action, resource);");
            if let Ok(policy) = Policy::parse(None, policy) {
                assert!(Terms::read(&policy, &Action::ALL).is_err(), "{annotation}");
            }
        }
        assert!(read("@mode(\"gateway\")", "permit").is_err());
        assert!(read("@mode(\"direct\")", "permit").is_ok());
        assert!(read("@hint", "permit").is_err());
    }

    #[test]
    fn a_forbid_carries_no_obligation_but_may_hint() {
        for annotation in ["@max_ttl(\"1h\")", "@mode(\"direct\")", "@approvals(\"1\")"] {
            assert!(read(annotation, "forbid").unwrap_err()[0].contains("forbid"), "{annotation}");
        }
        assert_eq!(read("@hint(\"wait\")", "forbid").unwrap().hint.as_deref(), Some("wait"));
    }
}
