//! What would help: the question is put again with other circumstances until the answer is yes.

use std::borrow::Cow;

use jiff::SignedDuration;

use crate::domain::Role;

use super::evaluate::{Circumstances, Question, Verdict};
use super::judgement::Judgement;
use super::reads::Reads;
use super::refusal::{ASK_KEEPERS, StepUp};
use super::rule::{Rule, shown, spoken};
use super::vocabulary::Action;

/// At most so many authentication contexts or lifetimes are tried, so that a refusal stays cheap.
const TRIES: usize = 8;

/// What tells what would help: [`help`] or [`changes_that_help`].
pub(super) type Advise<'a> = fn(&Question<'a>, &Judgement<'a>, &Circumstances<'_>) -> Advice;

/// What would help.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Advice {
    /// A sentence each, the best first.
    pub(super) said: Vec<String>,
    /// The login that alone would.
    pub(super) step_up: Option<StepUp>,
}

/// What someone could do differently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Change {
    /// Give a reason.
    reason: bool,
    /// Ask for so many seconds.
    ttl: Option<i64>,
    /// Sign in again.
    login: bool,
    /// Sign in again with this authentication context.
    acr: Option<String>,
}

/// What would help, a sentence each, never none: [`changes_that_help`], what can be held as things are, or whom to ask.
/// The question must be about all roles.
pub(super) fn help(question: &Question<'_>, refused: &Judgement<'_>, circumstances: &Circumstances<'_>) -> Advice {
    let roles: Vec<_> = refused.roles.iter().map(|(role, _)| *role).collect();
    let mut help = changes_that_help(question, refused, circumstances);
    help.said.extend(held(question, &roles, circumstances));
    if refused.roles.iter().any(|(_, verdict)| matches!(verdict, Verdict::Unapproved(_))) {
        return help; // whoever gives it says how to ask
    }
    if help.said.is_empty() {
        help.said.push(ASK_KEEPERS.into());
    }
    help
}

/// The login that would lead to a yes about this action: a fresh one, with the first context that policies name where that is not
/// enough.
pub(super) fn login_that_helps(
    question: &Question<'_>,
    action: Action,
    circumstances: &Circumstances<'_>,
) -> Option<StepUp> {
    let mut reads = Reads::default();
    question.scoped_rules(action).into_iter().for_each(|rule| reads.extend(&rule.reads));
    let contexts = reads.acr.iter().take(TRIES).map(|acr| Some(acr.clone()));
    std::iter::once(None).chain(contexts).map(|acr| StepUp { acr }).find(|step_up| {
        let change = Change { login: true, acr: step_up.acr.clone(), ..Change::default() };
        matches!(question.ask(action, &change.applied_to(circumstances)), Verdict::Permitted(_))
    })
}

/// The login to make, in words. Whoever has just asked for the context, and whose provider told none at all, is helped by no further login.
pub(super) fn sign_in(acr: Option<&str>, now: &Circumstances<'_>) -> String {
    let Some(acr) = acr else { return "sign in again with `ichor login --fresh`".into() };
    let login = format!("sign in again with `ichor login --fresh --acr {acr}`");
    match now.acr {
        Some(_) => login,
        None => format!(
            "{login}; if the provider tells no acr even then, ask whoever runs the broker whether it knows `{acr}` and tells it"
        ),
    }
}

/// The smallest change that leads to a yes with the hints of the policies that then decide; where none is known, the hints of
/// those that decided, if following them can lead to a yes. Each once.
pub(super) fn changes_that_help(
    question: &Question<'_>,
    refused: &Judgement<'_>,
    circumstances: &Circumstances<'_>,
) -> Advice {
    let roles: Vec<_> = refused.roles.iter().map(|(role, _)| *role).collect();
    let (mut help, mut step_up) = (Vec::new(), None);
    let change = changes(question, &roles, circumstances).into_iter().find_map(|change| {
        let judged = Judgement::of(question, &roles, &change.applied_to(circumstances));
        judged.approved(question).map(|approved| (change, approved))
    });
    match change {
        Some((change, approved)) => {
            help.push(change.said(circumstances));
            step_up =
                (change.login && !change.reason && change.ttl.is_none()).then(|| StepUp { acr: change.acr.clone() });
            if change.login {
                help.extend(login_now(&reads(question, &roles), circumstances));
            }
            help.extend(approved.deciding.iter().filter_map(|(_, rule)| rule.terms.hint.clone()));
        }
        None => {
            let hints = refused.roles.iter().map(|(role, verdict)| hints(question, *role, verdict, circumstances));
            // every role must be granted: where one cannot be, no hint about another one helps
            help.extend(hints.collect::<Option<Vec<_>>>().into_iter().flatten().flatten());
        }
    }
    let mut said = Vec::new();
    help.retain(|sentence| {
        let first = !said.contains(sentence);
        said.push(sentence.clone());
        first
    });
    Advice { said: help, step_up }
}

/// What the policies that refused a role say would help; `None` where nothing they say leads to a yes. A forbid's hint helps
/// by itself only if a permit grants the role but for it; where permits are about this person and not met either, it needs
/// theirs beside it; without any permit it would send someone on an errand that changes nothing.
fn hints(
    question: &Question<'_>,
    role: Role,
    verdict: &Verdict<'_>,
    circumstances: &Circumstances<'_>,
) -> Option<Vec<String>> {
    let said = |rules: &[&Rule]| rules.iter().filter_map(|rule| rule.terms.hint.clone()).collect::<Vec<_>>();
    let action = Action::Hold(role);
    match verdict {
        Verdict::Permitted(_) => Some(Vec::new()),
        Verdict::Unapproved(permits) => Some(said(permits)),
        Verdict::Failed(_) => None,
        Verdict::Unmet(permits) => (!permits.is_empty()).then(|| said(permits)),
        Verdict::Forbidden(forbids) => {
            let permits: Vec<_> = question.scoped_rules(action).into_iter().filter(|rule| rule.permits()).collect();
            if permits.iter().any(|permit| question.is_met(permit, action, circumstances) == Ok(true)) {
                return Some(said(forbids));
            }
            let needed = said(&permits);
            (!needed.is_empty()).then(|| [said(forbids), needed].concat())
        }
    }
}

/// The roles that can be had as things are, one by one, if asked for alone.
fn held(question: &Question<'_>, asked: &[Role], circumstances: &Circumstances<'_>) -> Option<String> {
    let roles: Vec<_> = Role::ALL.into_iter().filter(|role| asked.len() > 1 || !asked.contains(role)).collect();
    let grants = roles.into_iter().filter_map(|role| {
        let approved = Judgement::of(question, &[role], circumstances).approved(question)?;
        Some(format!("{role} for up to {}", spoken(approved.longest)))
    });
    let grants: Vec<_> = grants.collect();
    (!grants.is_empty()).then(|| format!("can be had now: {}", grants.join(", ")))
}

/// What the policies in scope look at.
fn reads(question: &Question<'_>, roles: &[Role]) -> Reads {
    let mut reads = Reads::default();
    for role in roles {
        for rule in question.scoped_rules(Action::Hold(*role)) {
            reads.extend(&rule.reads);
        }
    }
    reads
}

/// What the session has of what a new login would change: someone who logged in anew and is refused again can tell whether
/// the provider did as it was asked.
fn login_now(reads: &Reads, now: &Circumstances<'_>) -> Option<String> {
    let acr = reads.has_acr.then(|| match now.acr {
        Some(acr) => format!("had the acr `{}`", shown(acr)),
        None => "told no acr".into(),
    });
    let age = reads.auth_age.then(|| match now.auth_age {
        Some(age) => format!("was {} ago", spoken(SignedDuration::from_secs(age))),
        None => "told no time of authentication".into(),
    });
    let said: Vec<_> = [acr, age].into_iter().flatten().collect();
    (!said.is_empty()).then(|| format!("your login {}", said.join(" and ")))
}

/// The changes worth trying, the smallest first: only what a policy in scope looks at.
fn changes(question: &Question<'_>, roles: &[Role], now: &Circumstances<'_>) -> Vec<Change> {
    let reads = reads(question, roles);
    let reasons = if reads.reason && now.reason.is_none() { vec![false, true] } else { vec![false] };
    let mut logins = vec![(false, None)];
    if reads.auth_age {
        logins.push((true, None));
    }
    let stronger = reads.acr.iter().filter(|acr| now.acr != Some(acr.as_str())).take(TRIES);
    logins.extend(stronger.map(|acr| (true, Some(acr.clone()))));
    let shorter = reads.ttl.iter().rev().flat_map(|ttl| [*ttl, ttl.saturating_sub(1)]);
    let shorter = shorter.filter(|ttl| (1..now.ttl).contains(ttl)).map(Some).take(TRIES);
    let lives: Vec<_> = std::iter::once(None).chain(shorter).collect();

    let mut changes = Vec::new();
    for reason in reasons {
        for (login, acr) in &logins {
            for ttl in &lives {
                changes.push(Change { reason, ttl: *ttl, login: *login, acr: acr.clone() });
            }
        }
    }
    changes.retain(|change| *change != Change::default());
    changes.sort_by_key(Change::effort); // stable: of equal ones the longer life stays first
    changes
}

// === impl Change ===

impl Change {
    fn effort(&self) -> u8 {
        u8::from(self.reason)
            + u8::from(self.ttl.is_some())
            + 2 * u8::from(self.login)
            + 2 * u8::from(self.acr.is_some())
    }

    fn applied_to<'a>(&'a self, now: &Circumstances<'a>) -> Circumstances<'a> {
        let mut then = now.clone();
        if self.reason {
            then.reason = Some("a reason");
        }
        if self.login {
            then.auth_age = Some(0);
        }
        if let Some(acr) = &self.acr {
            then.acr = Some(acr);
        }
        then.ttl = self.ttl.unwrap_or(then.ttl);
        then
    }

    fn said(&self, now: &Circumstances<'_>) -> String {
        let mut parts: Vec<Cow<'static, str>> = Vec::new();
        if self.reason {
            parts.push("give a reason with `--reason`".into());
        }
        if let Some(ttl) = self.ttl {
            let ttl = spoken(SignedDuration::from_secs(ttl)).replace(' ', "");
            parts.push(format!("ask for less with `--ttl {ttl}`").into());
        }
        if self.login {
            parts.push(sign_in(self.acr.as_deref(), now).into());
        }
        parts.join(", and ")
    }
}
