//! Who may lock, and who may lift locks.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::domain::{Cluster, Group, LockKind, Person};
use crate::identity::Identity;

use super::decide::answered;
use super::evaluate::{Circumstances, Question, Verdict};
use super::explain::Who;
use super::refusal::{Refusal, Subject, ToldBy};
use super::set::PolicySet;
use super::vocabulary::Action;

/// What someone does about a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockAct {
    /// Set one (`lock`).
    Lock,
    /// Lift one, ask for that, or confirm it (`unlock`).
    Unlock,
}

/// Returns if policy lets this person lock what is of this kind, or lift such a lock. A lock on a cluster or a grant is about that
/// `cluster`; all others, and those on a cluster that is no longer declared, are about Ichor itself. Who may lock everywhere may lock
/// each cluster, unless a policy forbids that.
///
/// # Errors
/// When policy does not, or could not be evaluated.
pub fn may_lock(
    policies: &PolicySet,
    identity: &Identity,
    act: LockAct,
    kind: LockKind,
    cluster: Option<&Cluster>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let circumstances = Circumstances::of(identity, None, SignedDuration::ZERO, None, now);
    let who = (identity.person(), identity.groups(), ToldBy::of(identity));
    judged(policies, who, act, kind, cluster, circumstances).map(drop)
}

/// The same for someone as claimed: the policies that would permit it, by `@id`. A lock on a cluster or a grant is on `cluster`.
pub(super) fn would_lock(
    policies: &PolicySet,
    who: &Who,
    act: LockAct,
    kind: LockKind,
    cluster: &Cluster,
) -> Result<Vec<String>, Refusal> {
    let circumstances = Circumstances {
        reason: None,
        acr: who.acr.as_deref(),
        auth_age: who.auth_age.map(|age| age.as_secs()),
        groups_age: 0,
        ttl: 0,
        address: None,
        roles: &[],
        what: None,
        backing: None,
    };
    let cluster = matches!(kind, LockKind::Cluster | LockKind::Grant).then_some(cluster);
    judged(policies, (&who.person, &who.groups, ToldBy::Claim), act, kind, cluster, circumstances)
}

fn judged(
    policies: &PolicySet,
    (person, groups, told_by): (&Person, &BTreeSet<Group>, ToldBy<'_>),
    act: LockAct,
    kind: LockKind,
    cluster: Option<&Cluster>,
    circumstances: Circumstances<'_>,
) -> Result<Vec<String>, Refusal> {
    let action = match act {
        LockAct::Lock => Action::Lock,
        LockAct::Unlock => Action::Unlock,
    };
    let circumstances = Circumstances { what: Some(kind.as_str()), ..circumstances };
    let whole = || {
        let question = Question::about_ichor(policies, person, groups, &[action]);
        question.map(|question| question.ask(action, &circumstances)).map_err(|error| Refusal::failed(&error))
    };
    let verdict = match cluster {
        None => whole()?,
        Some(cluster) => {
            let question = Question::about_cluster(policies, person, groups, cluster, &[action]);
            let question = question.map_err(|error| Refusal::failed(&error))?;
            match question.ask(action, &circumstances) {
                Verdict::Unmet(rules) => match whole()? {
                    Verdict::Unmet(_) => Verdict::Unmet(rules),
                    decided => decided,
                },
                decided => decided,
            }
        }
    };
    answered(Subject::Locking(act, kind), &verdict, None).map_err(|refusal| refusal.naming(groups, told_by))?;
    Ok(match verdict {
        Verdict::Permitted(rules) => rules.into_iter().map(|rule| rule.id.clone()).collect(),
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{alice, cluster, load, now, prod};
    use super::*;

    const SET: &str = r#"
        @id("on-call-locks") permit (principal in Group::"corp/on-call", action == Action::"lock", resource)
        when { context.what != "everything" };
        @id("security") @hint("sign in again with your security key")
        permit (principal in Group::"corp/security", action in [Action::"lock", Action::"unlock"], resource == Ichor::"broker")
        when { context has auth_age && context.auth_age < 900 };
        @id("payments") permit (principal in Group::"corp/payments", action == Action::"unlock", resource in Label::"env=prod");
        @id("never") forbid (principal, action == Action::"unlock", resource == Cluster::"vault");
    "#;

    #[test]
    fn who_may_lock_and_who_may_lift_is_policy() {
        let set = load(SET).unwrap();
        let (prod, vault) = (prod(), cluster("vault", &[("env", "prod")]));
        let may = |groups: &[&str], act, kind, cluster: Option<&Cluster>| {
            may_lock(&set, &alice(groups), act, kind, cluster, now()).map_err(|refusal| refusal.sentence)
        };
        use LockAct::{Lock, Unlock};
        for kind in LockKind::ALL {
            assert_eq!(may(&["on-call"], Lock, kind, None).is_ok(), kind != LockKind::Everything, "{kind:?}");
            assert!(may(&["on-call"], Unlock, kind, None).is_err(), "{kind:?}");
            assert_eq!(may(&["security"], Unlock, kind, None), Ok(()), "{kind:?}");
            assert!(may(&["sre"], Lock, kind, None).is_err(), "{kind:?}");
        }
        assert_eq!(may(&["security"], Unlock, LockKind::Cluster, Some(&prod)), Ok(()), "everywhere is here too");
        assert!(may(&["security"], Unlock, LockKind::Cluster, Some(&vault)).is_err(), "unless it is forbidden");
        assert_eq!(may(&["payments"], Unlock, LockKind::Grant, Some(&prod)), Ok(()));
        assert!(may(&["payments"], Unlock, LockKind::User, None).is_err(), "a cluster is not everything");
        assert_eq!(may(&[], Lock, LockKind::Everything, None).unwrap_err(), "no policy permits locking everything");
        assert_eq!(may(&[], Unlock, LockKind::User, None).unwrap_err(), "no policy permits lifting the lock of a user");
        let stale = super::super::fixture::row(&["security"]);
        let stale = crate::store::SessionRow { auth_time: None, ..stale };
        let refusal =
            may_lock(&set, &super::super::fixture::who(&stale), Lock, LockKind::User, None, now()).unwrap_err();
        assert_eq!(refusal.help, ["sign in again with your security key"]);
        let nobody = may_lock(&set, &alice(&["sre"]), Lock, LockKind::User, None, now()).unwrap_err();
        assert_eq!(nobody.help.last().map(String::as_str), Some("decided with the group `corp/sre`"));
    }

    #[test]
    fn a_policy_about_locks_names_what_it_knows() {
        assert!(
            load(r#"@id("x") permit (principal, action == Action::"lock", resource) when { context has waht };"#)
                .is_err()
        );
        assert!(load(r#"@id("x") @max_ttl("1h") permit (principal, action == Action::"lock", resource);"#).is_err());
    }
}
