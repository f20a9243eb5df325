//! Why a request would be granted or refused, for `ichor-broker policy explain` and for policies' own test cases.
//!
//! Here the person is a claim, not a verified identity; so nothing of this room but words comes out of it, never a grant.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};

use crate::domain::{Cluster, Group, Person, Role};

use super::answer::{Asked, answer, holding, roles};
use super::evaluate::{Circumstances, given};
use super::quorum::Backing;
use super::refusal::{Refusal, ToldBy};
use super::rule::spoken;
use super::set::PolicySet;
use super::vocabulary::Action;

/// Someone, as claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The person.
    pub person: Person,
    /// Their groups.
    pub groups: BTreeSet<Group>,
    /// The authentication context that their provider would vouch for.
    pub acr: Option<String>,
    /// How long ago they authenticated; absent where the provider does not tell.
    pub auth_age: Option<SignedDuration>,
}

/// What they would ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Which roles; none means `os:reader`.
    pub roles: Vec<Role>,
    /// For how long; absent means the broker's default.
    pub ttl: Option<SignedDuration>,
    /// Why.
    pub reason: Option<String>,
    /// From where; absent, a condition on the address is not met.
    pub address: Option<IpAddr>,
    /// How many others would have approved.
    pub approvals: u64,
    /// Whether nobody approves and someone outside would have been told; then `approvals` is of no moment.
    pub self_service: bool,
}

/// What would be decided and why. Its text is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The answer.
    pub outcome: Result<Granted, Refusal>,
    /// Every policy whose scope is about this person, role and cluster, and whether it is met.
    pub considered: Vec<Considered>,
}

/// A yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// For each role the policy that decides, by `@id`.
    pub deciding: Vec<(Role, String)>,
    /// How long a certificate would last.
    pub life: SignedDuration,
    /// The longest that could be asked for.
    pub longest: SignedDuration,
    /// When it would end.
    pub not_after: Timestamp,
}

/// A policy that was considered for a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// For which role.
    pub role: Role,
    /// The policy's `@id`.
    pub id: String,
    /// Its file and line, as `team.cedar:12`.
    pub place: String,
    /// Whether it permits when it is met; otherwise it forbids.
    pub permits: bool,
    /// Whether its conditions are met, or why they cannot be evaluated.
    pub met: Result<bool, String>,
    /// How many others must approve besides.
    pub approvals: u64,
    /// Whether nobody approves, and someone outside must be told first.
    pub self_service: bool,
}

/// Explains what would be decided for this person now.
#[must_use]
pub fn explain(policies: &PolicySet, who: &Who, cluster: &Cluster, asks: &Asks, now: Timestamp) -> Explanation {
    let ttl = asks.ttl.unwrap_or(policies.limits.default_ttl);
    let circumstances = Circumstances {
        reason: given(asks.reason.as_deref()),
        acr: who.acr.as_deref(),
        auth_age: who.auth_age.map(|age| age.as_secs()),
        groups_age: 0,
        ttl: ttl.as_secs(),
        address: asks.address,
        roles: &[],
        what: None,
        backing: match (asks.self_service, asks.approvals) {
            (true, _) => Some(Backing::Told),
            (false, 0) => None,
            (false, given) => Some(Backing::Approvals(given)),
        },
    };
    let (person, groups) = (&who.person, &who.groups);
    let told_by = ToldBy::Claim;
    let asked = Asked { person, groups, told_by, cluster, roles: &asks.roles, ttl, circumstances, now };
    let outcome = answer(policies, &asked).map(|approved| Granted {
        deciding: approved.deciding().iter().map(|(role, rule)| (*role, rule.id.clone())).collect(),
        life: approved.life(),
        longest: approved.longest(),
        not_after: approved.not_after(),
    });
    let question = match holding(policies, person, groups, cluster, &Role::ALL) {
        Ok(question) => question,
        Err(refusal) => return Explanation { outcome: Err(refusal), considered: Vec::new() },
    };
    let consider = |role: Role| {
        let action = Action::Hold(role);
        let rules = question.scoped_rules(action).into_iter();
        let considered = rules.map(|rule| Considered {
            role,
            id: rule.id.clone(),
            place: rule.place.to_string(),
            permits: rule.permits(),
            met: question.is_met(rule, action, &asked.circumstances),
            approvals: rule.approvals(),
            self_service: rule.needs_backing() && rule.approvals() == 0,
        });
        considered.collect::<Vec<_>>()
    };
    Explanation { outcome, considered: roles(asked.roles).into_iter().flat_map(consider).collect() }
}

// === impl Explanation ===

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(granted) => {
                let (life, not_after) = (spoken(granted.life), granted.not_after);
                writeln!(f, "granted for {life}, until {not_after:.0}")?; // certificates end at whole seconds

                for (role, id) in &granted.deciding {
                    writeln!(f, "  {role}: `{id}` decides")?;
                }
                writeln!(f, "  at most {} could be asked for", spoken(granted.longest))?;
            }
            Err(refusal) => {
                writeln!(f, "refused: {refusal}")?;
                // this is shown to whoever keeps the policies, so what the person is not told stands here
                if let (Code::PolicyError, Some(internal)) = (refusal.code, &refusal.internal) {
                    writeln!(f, "  {internal}")?;
                }
                writeln!(f, "what would help:")?;
                for help in &refusal.help {
                    writeln!(f, "  {help}")?;
                }
            }
        }
        if self.considered.is_empty() {
            return writeln!(f, "no policy is about this person, role and cluster");
        }
        writeln!(f, "policies about this person, role and cluster:")?;
        for considered in &self.considered {
            writeln!(f, "  {considered}")?;
        }
        Ok(())
    }
}

// === impl Considered ===

impl fmt::Display for Considered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = if self.permits { "permit" } else { "forbid" };
        let met = match &self.met {
            Ok(true) if self.self_service => "met, as self-service break-glass, once someone outside was told",
            Ok(true) if self.approvals > 0 => "met, once as many others approve as it says",
            Ok(true) => "met",
            Ok(false) => "conditions not met",
            Err(error) => error,
        };
        write!(f, "{}: {effect} `{}` ({}): {met}", self.role, self.id, self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{alice, asks, decided, load, now, prod, row};
    use super::*;

    const POLICIES: &str = r#"
        @id("read") @max_ttl("8h")
        permit (principal in Group::"corp/sre", action == Action::"hold:os:reader", resource);
        @id("admin") @max_ttl("15m")
        permit (principal in Group::"corp/sre", action == Action::"hold:os:admin", resource) when { context has reason };
        @id("freeze")
        forbid (principal, action == Action::"hold:os:admin", resource) when { context has reason && context.reason like "*later*" };
    "#;

    fn who() -> Who {
        let row = row(&["sre"]);
        Who {
            person: row.person,
            groups: row.groups.into_iter().collect(),
            acr: row.acr,
            auth_age: Some(SignedDuration::from_mins(10)),
        }
    }

    fn said(asks: &Asks) -> String {
        explain(&load(POLICIES).unwrap(), &who(), &prod(), asks, now()).to_string()
    }

    #[test]
    fn says_which_policy_decides() {
        insta::assert_snapshot!(said(&Asks::default()), @r"
        granted for 1h, until 2027-01-15T09:00:00Z
          os:reader: `read` decides
          at most 8h could be asked for
        policies about this person, role and cluster:
          os:reader: permit `read` (test.cedar:2): met
        ");
    }

    #[test]
    fn says_whole_seconds() {
        let now = now() + SignedDuration::from_nanos(123_456_789);
        let said = explain(&load(POLICIES).unwrap(), &who(), &prod(), &Asks::default(), now).to_string();
        assert!(said.starts_with("granted for 1h, until 2027-01-15T09:00:00Z\n"), "{said}");
    }

    #[test]
    fn says_what_would_help() {
        insta::assert_snapshot!(said(&Asks { roles: vec![Role::Admin], ..Asks::default() }), @r"
        refused: os:admin on `prod` is permitted by `admin` only on conditions that are not met
        what would help:
          give a reason with `--reason`
          can be had now: os:reader for up to 8h
        policies about this person, role and cluster:
          os:admin: permit `admin` (test.cedar:4): conditions not met
          os:admin: forbid `freeze` (test.cedar:6): conditions not met
        ");
    }

    #[test]
    fn says_what_forbids() {
        let asks = Asks { roles: vec![Role::Admin], reason: Some("later".into()), ..Asks::default() };
        insta::assert_snapshot!(said(&asks), @r"
        refused: os:admin on `prod` is forbidden by `freeze`
        what would help:
          can be had now: os:reader for up to 8h
        policies about this person, role and cluster:
          os:admin: permit `admin` (test.cedar:4): met
          os:admin: forbid `freeze` (test.cedar:6): met
        ");
    }

    #[test]
    fn agrees_with_the_decision() {
        let set = load(POLICIES).unwrap();
        for role in Role::ALL {
            let explained = explain(&set, &who(), &prod(), &Asks { roles: vec![role], ..Asks::default() }, now());
            match (explained.outcome, decided(&set, &alice(&["sre"]), &asks(&[role]))) {
                (Ok(granted), Ok(grant)) => assert_eq!(granted.not_after, grant.not_after()),
                (Err(explained), Err(refusal)) => assert_eq!(explained, refusal),
                (explained, decided) => panic!("{explained:?} but {decided:?}"),
            }
        }
    }
}
