//! The one path from a request to policy's answer. [`super::decide()`] makes a grant of its yes, [`super::explain()`] words; so what
//! is explained and tested is what decides.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::domain::{Cluster, Group, Person, Role};

use super::advice;
use super::evaluate::{Circumstances, Question};
use super::judgement::Judgement;
use super::refusal::{Refusal, ToldBy};
use super::rule::Rule;
use super::set::{HARD_MAX_TTL, PolicySet};
use super::vocabulary::Action;

/// Who asks for what.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    pub(super) person: &'a Person,
    pub(super) groups: &'a BTreeSet<Group>,
    pub(super) told_by: ToldBy<'a>,
    pub(super) cluster: &'a Cluster,
    /// None asks for os:reader.
    pub(super) roles: &'a [Role],
    pub(super) ttl: SignedDuration,
    pub(super) circumstances: Circumstances<'a>,
    pub(super) now: Timestamp,
}

/// Yes to every role that was asked for. Only [`answer`] makes one.
#[derive(Clone, Debug)]
pub(super) struct Permission<'a> {
    deciding: Vec<(Role, &'a Rule)>,
    longest: SignedDuration,
    life: SignedDuration,
    not_after: Timestamp,
}

/// What policy says. It lasts no longer than what was asked for, than each deciding policy gives, than the broker's longest
/// life, and than [`HARD_MAX_TTL`].
pub(super) fn answer<'a>(policies: &'a PolicySet, asked: &Asked<'_>) -> Result<Permission<'a>, Refusal> {
    if asked.ttl < SignedDuration::from_secs(1) {
        return Err(Refusal::plain("the lifetime asked for is less than a second", "ask for longer with `--ttl`"));
    }
    let roles = roles(asked.roles);
    let question = holding(policies, asked.person, asked.groups, asked.cluster, &roles)?;
    let judgement = Judgement::of(&question, &roles, &asked.circumstances);
    let Some(best) = judgement.approved(&question) else {
        // what would help may be another role
        let question = holding(policies, asked.person, asked.groups, asked.cluster, &Role::ALL)?;
        let refusal = judgement.refusal(&question, &asked.cluster.name, &asked.circumstances, advice::help);
        return Err(refusal.naming(asked.groups, asked.told_by));
    };
    let life = asked.ttl.min(best.longest).min(HARD_MAX_TTL);
    let not_after = asked.now.checked_add(life).map_err(|error| Refusal::failed(&error.to_string()))?;
    Ok(Permission { deciding: best.deciding, longest: best.longest, life, not_after })
}

/// A question about these roles on a cluster.
pub(super) fn holding<'a>(
    policies: &'a PolicySet,
    person: &Person,
    groups: &BTreeSet<Group>,
    cluster: &Cluster,
    roles: &[Role],
) -> Result<Question<'a>, Refusal> {
    let actions: Vec<_> = roles.iter().copied().map(Action::Hold).collect();
    Question::about_cluster(policies, person, groups, cluster, &actions).map_err(|error| Refusal::failed(&error))
}

/// The roles to decide about: those asked for, sorted and each once, or os:reader.
pub(super) fn roles(asked: &[Role]) -> Vec<Role> {
    let mut roles = asked.to_vec();
    if roles.is_empty() {
        roles.push(Role::Reader);
    }
    roles.sort_unstable();
    roles.dedup();
    roles
}

// === impl Permission ===

impl<'a> Permission<'a> {
    /// For each role the permit that decides, in the order of the roles.
    pub(super) fn deciding(&self) -> &[(Role, &'a Rule)] {
        &self.deciding
    }

    /// The roles.
    pub(super) fn roles(&self) -> Vec<Role> {
        self.deciding.iter().map(|(role, _)| *role).collect()
    }

    /// The longest life that could be asked for.
    pub(super) fn longest(&self) -> SignedDuration {
        self.longest
    }

    /// The life.
    pub(super) fn life(&self) -> SignedDuration {
        self.life
    }

    /// When it ends.
    pub(super) fn not_after(&self) -> Timestamp {
        self.not_after
    }
}
