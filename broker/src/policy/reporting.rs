//! Who may bring back the record of an opened kit.

use jiff::{SignedDuration, Timestamp};

use crate::domain::Cluster;
use crate::identity::Identity;

use super::decide::answered;
use super::evaluate::{Circumstances, Question, Verdict};
use super::refusal::{Refusal, Subject, ToldBy};
use super::set::PolicySet;
use super::vocabulary::Action;

/// Returns if policy lets this person report an opening of a kit of this cluster (`kit:report`); without a cluster, where it is no longer
/// declared, of any. Who may for every cluster may for each, unless a policy forbids that.
///
/// # Errors
/// When policy does not, or could not be evaluated.
pub fn may_report_kit(
    policies: &PolicySet,
    identity: &Identity,
    cluster: Option<&Cluster>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let (person, groups) = (identity.person(), identity.groups());
    let circumstances = Circumstances::of(identity, None, SignedDuration::ZERO, None, now);
    let failed = |error: String| Refusal::failed(&error);
    let actions = [Action::KitReport];
    let whole = || {
        let question = Question::about_ichor(policies, person, groups, &actions).map_err(failed)?;
        Ok(question.ask(Action::KitReport, &circumstances))
    };
    let verdict = match cluster {
        None => whole()?,
        Some(cluster) => {
            let question = Question::about_cluster(policies, person, groups, cluster, &actions).map_err(failed)?;
            match question.ask(Action::KitReport, &circumstances) {
                Verdict::Unmet(rules) => match whole()? {
                    Verdict::Unmet(_) => Verdict::Unmet(rules),
                    decided => decided,
                },
                decided => decided,
            }
        }
    };
    answered(Subject::ReportingKits, &verdict, None).map_err(|refusal| refusal.naming(groups, ToldBy::of(identity)))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{alice, cluster, load, now, prod};
    use super::*;

    const SET: &str = r#"
        @id("on-call") permit (principal in Group::"corp/on-call", action == Action::"kit:report", resource in Label::"env=prod");
        @id("security") permit (principal in Group::"corp/security", action == Action::"kit:report", resource == Ichor::"broker");
        @id("never") forbid (principal, action == Action::"kit:report", resource == Cluster::"vault");
    "#;

    #[test]
    fn who_may_report_a_kit_is_policy() {
        let set = load(SET).unwrap();
        let (prod, vault, lab) = (prod(), cluster("vault", &[("env", "prod")]), cluster("lab", &[("env", "lab")]));
        let may = |groups: &[&str], cluster| {
            may_report_kit(&set, &alice(groups), cluster, now()).map_err(|refusal| refusal.sentence)
        };
        assert_eq!(may(&["on-call"], Some(&prod)), Ok(()));
        assert!(may(&["on-call"], Some(&lab)).is_err() && may(&["on-call"], None).is_err());
        assert_eq!(may(&["security"], Some(&lab)), Ok(()), "everywhere is here too");
        assert_eq!(may(&["security"], None), Ok(()));
        assert!(may(&["security"], Some(&vault)).is_err(), "unless it is forbidden");
        let nobody = may_report_kit(&set, &alice(&["sre"]), Some(&prod), now()).unwrap_err();
        assert_eq!(nobody.help.last().map(String::as_str), Some("decided with the group `corp/sre`"));
        let refused = may(&[], Some(&prod)).unwrap_err();
        assert_eq!(refused, "no policy permits reporting that a break-glass kit was opened");
    }
}
