//! What the set says to all roles that were asked for together.

use ichor_wire::problem::Code;
use jiff::SignedDuration;

use crate::domain::{ClusterName, Role};

use super::advice::Advise;
use super::evaluate::{Circumstances, Question, Verdict};
use super::quorum::Backing;
use super::refusal::{ASK_KEEPERS, Refusal, Subject};
use super::rule::Rule;
use super::vocabulary::Action;

/// A verdict for each role.
#[derive(Clone, Debug)]
pub(super) struct Judgement<'a> {
    pub(super) roles: Vec<(Role, Verdict<'a>)>,
}

/// What permits every role best.
#[derive(Clone, Debug)]
pub(super) struct Best<'a> {
    /// For each role the permit that decides.
    pub(super) deciding: Vec<(Role, &'a Rule)>,
    /// The longest life that all of them give.
    pub(super) longest: SignedDuration,
}

// === impl Judgement ===

impl<'a> Judgement<'a> {
    /// Judges each role.
    pub(super) fn of(question: &Question<'a>, roles: &[Role], circumstances: &Circumstances<'_>) -> Self {
        let Some(first) = roles.first() else { return Self { roles: Vec::new() } };
        let context = circumstances.context(Action::Hold(*first));
        let judge = |role: &Role| match &context {
            Ok(context) => {
                (*role, approved(question.ask_in(Action::Hold(*role), context.clone()), circumstances.backing))
            }
            Err(error) => (*role, Verdict::Failed(error.clone())),
        };
        Self { roles: roles.iter().map(judge).collect() }
    }

    /// Yes, if every role is permitted and there is at least one.
    ///
    /// Within a role permits are alternatives: the one with the longest life decides, ties by id, and its annotations alone
    /// apply. Across roles the shortest of those lives holds.
    pub(super) fn approved(&self, question: &Question<'a>) -> Option<Best<'a>> {
        let mut deciding = Vec::new();
        for (role, verdict) in &self.roles {
            let Verdict::Permitted(permits) = verdict else { return None };
            // permits come sorted by id, and of equals the first one wins
            let best = permits.iter().rev().max_by_key(|rule| question.set.longest(rule))?;
            deciding.push((*role, *best));
        }
        let longest = deciding.iter().map(|(_, rule)| question.set.longest(rule)).min()?;
        Some(Best { deciding, longest })
    }

    /// How to ask others, where their approval is all that is missing, but for what whoever asks is asked for: a reason and a fresh login.
    pub(super) fn to_be_approved(
        question: &Question<'a>,
        roles: &[Role],
        circumstances: &Circumstances<'_>,
        cluster: &ClusterName,
    ) -> Option<String> {
        Self::of(question, roles, &circumstances.as_asking()).how_to_ask(cluster)
    }

    fn how_to_ask(&self, cluster: &ClusterName) -> Option<String> {
        let is_waiting = |verdict: &Verdict<'_>| matches!(verdict, Verdict::Unapproved(_));
        let is_near = |verdict: &Verdict<'_>| matches!(verdict, Verdict::Permitted(_)) || is_waiting(verdict);
        if !self.roles.iter().all(|(_, verdict)| is_near(verdict))
            || !self.roles.iter().any(|(_, verdict)| is_waiting(verdict))
        {
            return None;
        }
        let roles: Vec<_> = self.roles.iter().map(|(role, _)| role.as_str()).collect();
        let request = format!("ichor break-glass request {cluster} --role {} --reason TEXT", roles.join(","));
        let others = |verdict: &Verdict<'_>| match verdict {
            Verdict::Unapproved(rules) => rules.iter().any(|rule| rule.approvals() > 0),
            _ => true,
        };
        Some(match self.roles.iter().all(|(_, verdict)| others(verdict)) {
            true => format!("ask others to approve: `{request}`"),
            false => format!("in an emergency let yourself in, loudly: `{request} --self-service`"),
        })
    }

    /// The refusal, where [`Self::approved`] is none: which policy decided, in words, and what would help by
    /// `advise`.
    pub(super) fn refusal(
        &self,
        question: &Question<'a>,
        cluster: &ClusterName,
        circumstances: &Circumstances<'_>,
        advise: Advise<'a>,
    ) -> Refusal {
        let mut sentences = Vec::new();
        let mut policies = Vec::new();
        let mut failures = Vec::new();
        for (role, verdict) in &self.roles {
            let subject = Subject::Role(*role, cluster);
            // where nothing would permit it anyway, to name what forbids it would only mislead
            let hopeless = Verdict::Unmet(Vec::new());
            let permitting = || question.scoped_rules(Action::Hold(*role)).iter().any(|rule| rule.permits());
            let verdict = if matches!(verdict, Verdict::Forbidden(_)) && !permitting() { &hopeless } else { verdict };
            match verdict {
                Verdict::Permitted(_) => continue,
                Verdict::Failed(failure) => failures.push(failure.clone()),
                Verdict::Forbidden(rules) | Verdict::Unmet(rules) | Verdict::Unapproved(rules) => {
                    policies.extend(rules.iter().map(|rule| rule.id.clone()))
                }
            }
            sentences.extend(subject.refused(verdict));
        }
        if !failures.is_empty() {
            return Refusal::failed(&failures.join("; "));
        }
        policies.sort();
        policies.dedup();
        let mut help = advise(question, self, circumstances);
        let roles: Vec<_> = self.roles.iter().map(|(role, _)| *role).collect();
        if let Some(how) = Self::to_be_approved(question, &roles, circumstances, cluster) {
            help.said.retain(|said| said != ASK_KEEPERS);
            help.said.insert(0, how);
        }
        let (help, step_up) = (help.said, help.step_up);
        Refusal { code: Code::Refused, sentence: sentences.join("; "), help, policies, step_up, internal: None }
    }
}

/// Leaves out the permits that more others must approve, and those that someone must be told of.
fn approved(verdict: Verdict<'_>, backing: Option<Backing>) -> Verdict<'_> {
    let Verdict::Permitted(permits) = verdict else { return verdict };
    let (met, waiting): (Vec<_>, Vec<_>) = permits.into_iter().partition(|rule| rule.is_backed(backing));
    if met.is_empty() { Verdict::Unapproved(waiting) } else { Verdict::Permitted(met) }
}
