//! Policy's no, in words that help.

use std::collections::BTreeSet;

use ichor_wire::problem::Code;
use ichor_wire::reason::printable;

use crate::domain::{ClusterName, Group, LockKind, Role};
use crate::identity::Identity;

use super::evaluate::Verdict;
use super::locking::LockAct;
use super::rule::{Rule, shown};

/// Why something is refused: which policy decided, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// [`Code::Refused`], or [`Code::PolicyError`] when a policy could not be evaluated.
    pub code: Code,
    /// The reason in one sentence: lower case, no full stop.
    pub sentence: String,
    /// What would help, a sentence each, the best first; never empty.
    pub help: Vec<String>,
    /// The policies that decided, by `@id`, sorted: forbids that are met, or permits that are not.
    pub policies: Vec<String>,
    /// The login that would help, where one does.
    pub step_up: Option<StepUp>,
    /// What went wrong inside, for the broker's log alone.
    pub internal: Option<Box<str>>,
}

/// A login that leads to a yes: a fresh one, with a context where policy wants one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUp {
    /// The authentication context to ask the provider for.
    pub acr: Option<String>,
}

/// Why someone whose human is not told can neither ask nor approve.
pub const NO_HUMAN: &str = "your provider does not tell which human is behind this account";

/// What helps against that.
pub const NO_HUMAN_HELP: &str =
    "use an account of which the provider tells the broker's `human_claim`, or ask whoever runs them";

/// What helps where nothing else does.
pub(super) const ASK_KEEPERS: &str = "ask whoever keeps the broker's policies";

/// At most so many groups are named in a refusal.
const NAMED: usize = 10;

/// Who says in which groups someone is.
#[derive(Clone, Copy, Debug)]
pub(super) enum ToldBy<'a> {
    /// Their provider.
    Provider,
    /// Their provider, and the broker's `groups_file`, which has them by this subject.
    ProviderAndFile(&'a str),
    /// Whoever claims it, in a question that nobody's session asks.
    Claim,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    Role(Role, &'a ClusterName),
    AuditOf(&'a ClusterName),
    WholeAudit,
    Asking(&'a ClusterName),
    Approving(&'a ClusterName),
    Dropping,
    Locking(LockAct, LockKind),
    ReportingKits,
}

// === impl Refusal ===

impl Refusal {
    /// A refusal that no policy decided.
    pub(crate) fn plain(sentence: &str, help: &str) -> Self {
        Self {
            code: Code::Refused,
            sentence: sentence.into(),
            help: vec![help.into()],
            policies: Vec::new(),
            step_up: None,
            internal: None,
        }
    }

    /// The refusal for policies that could not be evaluated.
    pub(super) fn failed(internal: &str) -> Self {
        Self {
            code: Code::PolicyError,
            sentence: "a policy could not be evaluated, so the request is refused".into(),
            help: vec![Code::PolicyError.next_step().into()],
            policies: Vec::new(),
            step_up: None,
            internal: Some(internal.into()),
        }
    }

    /// The same, and where no policy is about this person, which of their groups it was decided with: others than they think, or others
    /// than policies name.
    pub(super) fn naming(mut self, groups: &BTreeSet<Group>, told_by: ToldBy<'_>) -> Self {
        if self.code == Code::Refused && self.policies.is_empty() {
            self.help.push(decided_with(groups, told_by));
        }
        self
    }
}

fn decided_with(groups: &BTreeSet<Group>, told_by: ToldBy<'_>) -> String {
    let name = |group: &Group| format!("`{}/{}`", group.provider.as_str(), shown(&group.name));
    let named: Vec<_> = groups.iter().take(NAMED).map(name).collect();
    let (named, more) = (named.join(", "), groups.len().saturating_sub(NAMED));
    match (groups.len(), more) {
        (0, _) => format!("decided without any group: {}", told_by.none()),
        (1, _) => format!("decided with the group {named}"),
        (_, 0) => format!("decided with the groups {named}"),
        _ => format!("decided with the groups {named} and {more} more"),
    }
}

// === impl ToldBy ===

impl<'a> ToldBy<'a> {
    pub(super) fn of(identity: &'a Identity) -> Self {
        match identity.has_groups_file() {
            true => Self::ProviderAndFile(&identity.person().subject),
            false => Self::Provider,
        }
    }

    /// Who tells of no group. The person may see their own subject; where the file lies on the broker's disk they need not know.
    fn none(self) -> String {
        match self {
            Self::Provider => "the provider tells of none".into(),
            Self::ProviderAndFile(subject) => {
                let subject = printable(subject);
                format!(
                    "when yours were last asked for, neither the provider nor the broker's `groups_file` named one for the subject \
                     `{subject}`; `ichor login --fresh` asks again"
                )
            }
            Self::Claim => "none was given".into(),
        }
    }
}

// === impl Subject ===

impl Subject<'_> {
    /// Why it is refused; nothing when it is not.
    pub(super) fn refused(self, verdict: &Verdict<'_>) -> Option<String> {
        let what = match self {
            Self::Role(role, cluster) => format!("{role} on `{cluster}`"),
            Self::AuditOf(cluster) => format!("reading the audit of `{cluster}`"),
            Self::WholeAudit => "reading the whole audit".into(),
            Self::Asking(cluster) => format!("breaking the glass on `{cluster}`"),
            Self::Approving(cluster) => format!("approving break-glass requests for these roles on `{cluster}`"),
            Self::ReportingKits => "reporting that a break-glass kit was opened".into(),
            Self::Dropping => "dropping bodies of the audit".into(),
            Self::Locking(act, kind) => {
                let what = match kind {
                    LockKind::Everything => "everything".into(),
                    kind => format!("a {}", kind.as_str()),
                };
                match act {
                    LockAct::Lock => format!("locking {what}"),
                    LockAct::Unlock => format!("lifting the lock of {what}"),
                }
            }
        };
        Some(match verdict {
            Verdict::Permitted(_) => return None,
            Verdict::Forbidden(rules) => format!("{what} is forbidden by {}", listed(rules, "and")),
            Verdict::Unapproved(rules) => {
                let others = rules.iter().map(|rule| rule.approvals()).filter(|others| *others > 0).min();
                let Some(others) = others else {
                    return Some(format!(
                        "{what} is permitted by {} only as self-service break-glass",
                        listed(rules, "or")
                    ));
                };
                let whose = if others == 1 { "another person".into() } else { format!("{others} other people") };
                let (alone, approved): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| rule.approvals() == 0);
                let by = listed(&approved, "or");
                let alone = match alone.is_empty() {
                    true => String::new(),
                    false => format!(", and by {} as self-service break-glass", listed(&alone, "or")),
                };
                format!("{what} is permitted by {by} only with the approval of {whose}{alone}")
            }
            Verdict::Unmet(rules) if rules.is_empty() => format!("no policy permits {what}"),
            Verdict::Unmet(rules) => {
                format!("{what} is permitted by {} only on conditions that are not met", listed(rules, "or"))
            }
            Verdict::Failed(_) => format!("a policy about {what} could not be evaluated"),
        })
    }
}

/// Policies by id, at most three of them.
fn listed(rules: &[&Rule], link: &str) -> String {
    let ids: Vec<_> = rules.iter().map(|rule| format!("`{}`", rule.id)).collect();
    match ids.as_slice() {
        [one] => one.clone(),
        [one, two] => format!("{one} {link} {two}"),
        [one, two, three] => format!("{one}, {two} {link} {three}"),
        [one, two, three, rest @ ..] => format!("{one}, {two}, {three} {link} {} more", rest.len()),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::fixture::{alice, asks, decided, elevated, load, now, prod, row, who};
    use super::super::{AuditScope, elevation};
    use super::super::{may_approve, may_drop_audit, may_lock, may_read_audit, may_report_kit};
    use super::*;
    use crate::identity::LocalGroups;

    /// Whoever is in no group looks for the reason where groups come from.
    #[test]
    fn a_refusal_without_any_group_says_who_tells_of_none() {
        let asking = r#"@id("asking") permit (principal, action == Action::"break-glass:request", resource);"#;
        let (set, asking, roles) = (load("").unwrap(), load(asking).unwrap(), [Role::Admin]);
        let others = elevated(&roles);
        let said = |who: &Identity| {
            let refused = [
                decided(&set, who, &asks(&roles)).map(drop),
                may_read_audit(&set, who, AuditScope::Everything, now()),
                may_drop_audit(&set, who, now()),
                may_lock(&set, who, LockAct::Lock, LockKind::User, None, now()),
                may_report_kit(&set, who, Some(&prod()), now()),
                elevation(&set, who, &prod(), &others, now()).map(drop),
                elevation(&asking, who, &prod(), &others, now()).map(drop),
                may_approve(&set, who, &prod(), &roles, now()),
            ];
            refused.map(|refused| refused.unwrap_err().help.pop().unwrap())
        };
        let file = LocalGroups::new(BTreeMap::new());
        let neither = "decided without any group: when yours were last asked for, neither the provider nor the broker's `groups_file` named one for the \
             subject";
        let again = "`ichor login --fresh` asks again";
        assert_eq!(said(&alice(&[]).beside_file(&file)), [(); 8].map(|()| format!("{neither} `alice`; {again}")));
        let none = "decided without any group: the provider tells of none";
        assert_eq!(said(&alice(&[]).beside_file(&LocalGroups::default())), [none; 8]);
        assert_eq!(said(&alice(&["sre"]).beside_file(&file)), ["decided with the group `corp/sre`"; 8]);

        let mut hidden = row(&[]);
        hidden.person.subject = "auth0|1\u{202e}".into();
        let [first, ..] = said(&who(&hidden).beside_file(&file));
        assert_eq!(first, format!("{neither} `auth0|1\\u{{202e}}`; {again}"));
    }
}
