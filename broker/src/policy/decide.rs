//! The one door to a [`Grant`], and the answers that go with it: what may I hold, and may I read the audit.

use std::net::IpAddr;

use ichor_wire::api::RoleAnswer;
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};

use crate::domain::{Cluster, GrantId, Request, Role};
use crate::identity::Identity;

use super::advice;
use super::answer::{Asked, answer, holding};
use super::evaluate::{Circumstances, Question, Verdict};
use super::grant::Grant;
use super::judgement::Judgement;
use super::quorum::Quorum;
use super::refusal::{ASK_KEEPERS, Refusal, Subject, ToldBy};
use super::set::PolicySet;
use super::vocabulary::Action;

/// What part of the audit someone wants to read. One's own entries need no policy.
#[derive(Clone, Copy, Debug)]
pub enum AuditScope<'a> {
    /// All of it.
    Everything,
    /// The entries about one cluster.
    Cluster(&'a Cluster),
}

/// Returns the grant, if policy permits every role that `request` asks for on `cluster` now.
///
/// `quorum` is what others approved, or that someone outside was told; without it no permit counts that needs that. With it the grant uses one of the
/// approved request's uses, and ends with it.
///
/// It lasts no longer than what was asked for (or the broker's default), than each deciding policy gives, than the broker's
/// longest life, and than [`super::HARD_MAX_TTL`]. The identity must belong to a session, and whoever calls must have asked the
/// provider for its groups recently.
///
/// # Errors
/// Everything else, evaluation errors included: the refusal says which policy decided and what would help.
pub fn decide(
    policies: &PolicySet,
    identity: &Identity,
    cluster: &Cluster,
    request: &Request,
    quorum: Option<&Quorum>,
    id: GrantId,
    now: Timestamp,
) -> Result<Grant, Refusal> {
    let Some(session) = identity.session() else {
        return Err(Refusal::plain("a grant needs a session", Code::NotLoggedIn.next_step()));
    };
    if request.cluster != cluster.name {
        return Err(Refusal::failed("the request is for another cluster than the one to decide about"));
    }
    let backing = quorum.map(|quorum| quorum.counts_for(identity, request, policies.digest)).transpose()?;
    let ttl = request.ttl.unwrap_or(policies.limits.default_ttl);
    let circumstances = Circumstances::of(identity, request.reason.as_deref(), ttl, Some(request.address), now);
    let asked = Asked {
        person: identity.person(),
        groups: identity.groups(),
        told_by: ToldBy::of(identity),
        cluster,
        roles: &request.roles,
        ttl,
        circumstances: Circumstances { backing, ..circumstances },
        now,
    };
    let approved = answer(policies, &asked)?;
    Ok(Grant::new(approved, identity, session, request, quorum, id, policies.digest))
}

/// For every role: would a request for it alone, from `address` and with nothing else said, be granted now, and if not, why,
/// what change would help, and whether a break-glass request would do, after a fresh login and perhaps with a ticket. Without an
/// address no condition on one is met.
#[must_use]
pub fn listing(
    policies: &PolicySet,
    identity: &Identity,
    cluster: &Cluster,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Vec<RoleAnswer> {
    let circumstances = Circumstances::of(identity, None, policies.limits.default_ttl, address, now);
    let question = holding(policies, identity.person(), identity.groups(), cluster, &Role::ALL);
    let asking =
        Question::about_cluster(policies, identity.person(), identity.groups(), cluster, &[Action::BreakGlassRequest]);
    let then = circumstances.as_asking();
    let verdict = asking.as_ref().map(|question| question.ask(Action::BreakGlassRequest, &then));
    let may_ask = matches!(verdict, Ok(Verdict::Permitted(_)));
    let answer = |role: Role| {
        let question = match &question {
            Ok(question) => question,
            Err(refusal) => return refused(role, refusal.clone()),
        };
        let judgement = Judgement::of(question, &[role], &circumstances);
        match judgement.approved(question) {
            Some(approved) => RoleAnswer {
                role,
                allowed: true,
                by_request: false,
                max_ttl: u64::try_from(approved.longest.as_secs()).ok(),
                why: None,
                help: Vec::new(),
                policies: approved.deciding.iter().map(|(_, rule)| rule.id.clone()).collect(),
            },
            None => {
                let refusal = judgement.refusal(question, &cluster.name, &circumstances, advice::changes_that_help);
                let how = Judgement::to_be_approved(question, &[role], &circumstances, &cluster.name);
                RoleAnswer { by_request: may_ask && how.is_some(), ..refused(role, refusal) }
            }
        }
    };
    Role::ALL.into_iter().map(answer).collect()
}

/// Returns if policy lets this person read that part of the audit now (`audit:read`). Who may read everything may read a
/// part, unless a policy forbids the part.
///
/// # Errors
/// When policy does not, or could not be evaluated.
pub fn may_read_audit(
    policies: &PolicySet,
    identity: &Identity,
    scope: AuditScope<'_>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let (person, groups) = (identity.person(), identity.groups());
    let failed = |error: String| Refusal::failed(&error);
    let circumstances = Circumstances::of(identity, None, SignedDuration::ZERO, None, now);
    let whole = || {
        let question = Question::about_ichor(policies, person, groups, &[Action::AuditRead]).map_err(failed)?;
        Ok(question.ask(Action::AuditRead, &circumstances))
    };
    let (subject, verdict) = match scope {
        AuditScope::Everything => (Subject::WholeAudit, whole()?),
        AuditScope::Cluster(cluster) => {
            let question = Question::about_cluster(policies, person, groups, cluster, &[Action::AuditRead]);
            let verdict = question.map_err(failed)?.ask(Action::AuditRead, &circumstances);
            let verdict = match verdict {
                Verdict::Unmet(rules) => match whole()? {
                    permitted @ Verdict::Permitted(_) => permitted,
                    failed @ Verdict::Failed(_) => failed,
                    Verdict::Forbidden(_) | Verdict::Unmet(_) | Verdict::Unapproved(_) => Verdict::Unmet(rules),
                },
                decided => decided,
            };
            (Subject::AuditOf(&cluster.name), verdict)
        }
    };
    answered(subject, &verdict, Some("your own entries need no policy: `ichor audit log --person me`"))
        .map_err(|refusal| refusal.naming(groups, ToldBy::of(identity)))
}

/// Returns if policy lets this person ask for bodies of audit entries to be dropped, and approve what others asked for
/// (`audit:drop`).
///
/// # Errors
/// When policy does not, or could not be evaluated.
pub fn may_drop_audit(policies: &PolicySet, identity: &Identity, now: Timestamp) -> Result<(), Refusal> {
    let circumstances = Circumstances::of(identity, None, SignedDuration::ZERO, None, now);
    let question = Question::about_ichor(policies, identity.person(), identity.groups(), &[Action::AuditDrop]);
    let verdict = question.map_err(|error| Refusal::failed(&error))?.ask(Action::AuditDrop, &circumstances);
    answered(Subject::Dropping, &verdict, None)
        .map_err(|refusal| refusal.naming(identity.groups(), ToldBy::of(identity)))
}

/// Policy's answer about the audit or a lock, in words where it is no; `help` stands behind the hints of the policies.
pub(super) fn answered(subject: Subject<'_>, verdict: &Verdict<'_>, help: Option<&str>) -> Result<(), Refusal> {
    let rules = match verdict {
        Verdict::Permitted(_) => return Ok(()),
        Verdict::Failed(failure) => return Err(Refusal::failed(failure)),
        Verdict::Forbidden(rules) | Verdict::Unmet(rules) | Verdict::Unapproved(rules) => rules,
    };
    let hints = rules.iter().filter_map(|rule| rule.terms.hint.clone());
    let mut help: Vec<_> = hints.chain(help.map(Into::into)).collect();
    if help.is_empty() {
        help.push(ASK_KEEPERS.into());
    }
    Err(Refusal {
        code: Code::Refused,
        sentence: subject.refused(verdict).unwrap_or_default(),
        help,
        policies: rules.iter().map(|rule| rule.id.clone()).collect(),
        step_up: None,
        internal: None,
    })
}

fn refused(role: Role, refusal: Refusal) -> RoleAnswer {
    RoleAnswer {
        role,
        allowed: false,
        by_request: false,
        max_ttl: None,
        why: Some(refusal.sentence),
        help: refusal.help,
        policies: refusal.policies,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{alice, asks, cluster, decided, life, load, load_with, now, prod, row, who};
    use super::super::set::HARD_MAX_TTL;
    use super::super::set::Limits;
    use super::*;

    const HOURS: fn(i64) -> SignedDuration = SignedDuration::from_hours;
    const MINUTES: fn(i64) -> SignedDuration = SignedDuration::from_mins;

    const READ: &str = r#"@id("read") @max_ttl("8h")
        permit (principal in Group::"corp/sre", action == Action::"hold:os:reader", resource in Label::"env=prod");"#;
    const ADMIN: &str = r#"@id("admin") @max_ttl("15m") @hint("use the second factor")
        permit (principal in Group::"corp/admins", action == Action::"hold:os:admin", resource in Label::"env=prod")
        when { context has reason && context has acr && context.acr == "mfa" && context has auth_age && context.auth_age < 3600 };"#;

    #[test]
    fn grants_what_a_policy_permits_and_says_which() {
        let set = load(READ).unwrap();
        let grant = decided(&set, &alice(&["sre"]), &asks(&[])).unwrap();
        assert_eq!(grant.roles(), [Role::Reader], "no role asked means os:reader");
        assert_eq!(grant.policies(), ["read"]);
        assert_eq!(grant.policy_digest(), &set.digest());
        assert_eq!(grant.not_after(), now() + HOURS(1), "no life asked means the broker's default");
        assert_eq!(grant.user(), "alice@example.com");
        assert_eq!(grant.public_key(), [1, 2, 3]);
    }

    #[test]
    fn a_refusal_that_no_policy_decides_names_the_groups_it_was_decided_with() {
        let set = load(READ).unwrap();
        let said = |groups: &[&str]| decided(&set, &alice(groups), &asks(&[Role::Admin])).unwrap_err().help.pop();
        assert_eq!(said(&[]).as_deref(), Some("decided without any group: the provider tells of none"));
        assert_eq!(said(&["b", "a\u{7}"]).as_deref(), Some("decided with the groups `corp/a`, `corp/b`"));
        let many: Vec<String> = (10..23).map(|number| format!("g{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let last = said(&many).unwrap();
        assert!(last.ends_with("`corp/g19` and 3 more") && !last.contains("g20"), "{last}");
        let admin = load(ADMIN).unwrap();
        let met = decided(&admin, &alice(&["admins"]), &asks(&[Role::Admin])).unwrap_err();
        assert!(!met.help.iter().any(|help| help.contains("decided with")), "a policy is about them: {met:?}");
        let audit = may_read_audit(&set, &alice(&["sre"]), AuditScope::Everything, now()).unwrap_err();
        let drops = may_drop_audit(&set, &alice(&["sre"]), now()).unwrap_err();
        for refusal in [audit, drops] {
            assert_eq!(refusal.help.last().map(String::as_str), Some("decided with the group `corp/sre`"));
        }
    }

    #[test]
    fn everything_is_refused_by_default() {
        let refusal = decided(&load("").unwrap(), &alice(&["sre"]), &asks(&[Role::Reader])).unwrap_err();
        assert_eq!(refusal.code, Code::Refused);
        assert_eq!(refusal.sentence, "no policy permits os:reader on `prod`");
        assert!(!refusal.help.is_empty());
        let set = load(READ).unwrap();
        assert!(decided(&set, &alice(&["dev"]), &asks(&[])).is_err(), "another group");
        assert!(decided(&set, &alice(&["corp/sre"]), &asks(&[])).is_err(), "a group named like a joined one");
        assert!(decided(&set, &alice(&["sre"]), &asks(&[Role::Operator])).is_err(), "another role");
        let staging = cluster("prod", &[("env", "staging")]);
        assert!(decide(&set, &alice(&["sre"]), &staging, &asks(&[]), None, GrantId(uuid::Uuid::nil()), now()).is_err());
    }

    #[test]
    fn a_grant_needs_a_session() {
        let set = load(READ).unwrap();
        // as just told by the provider: verified, but not logged in
        let refusal = decided(&set, &alice(&["sre"]).without_session(), &asks(&[])).unwrap_err();
        assert_eq!(refusal.sentence, "a grant needs a session");
    }

    #[test]
    fn a_life_is_the_shortest_of_all_limits() {
        let set = load(READ).unwrap();
        let sre = alice(&["sre"]);
        let ask = |ttl| Request { ttl: Some(ttl), ..asks(&[]) };
        assert_eq!(life(&set, &sre, &ask(MINUTES(5))).unwrap(), MINUTES(5));
        assert_eq!(life(&set, &sre, &ask(HOURS(100))).unwrap(), HOURS(8), "cut to what the policy gives");
        let strict = Limits { default_ttl: MINUTES(30), max_ttl: HOURS(2) };
        let set = load_with(READ, strict).unwrap();
        assert_eq!(life(&set, &sre, &ask(HOURS(100))).unwrap(), HOURS(2), "cut to what the broker gives");
        let set = load_with(&READ.replace("@max_ttl(\"8h\")", ""), strict).unwrap();
        assert_eq!(
            life(&set, &sre, &ask(HOURS(100))).unwrap(),
            MINUTES(30),
            "without `@max_ttl` the default is the longest"
        );
        for ttl in [SignedDuration::ZERO, MINUTES(-5), SignedDuration::from_millis(999), SignedDuration::MIN] {
            assert!(life(&set, &sre, &ask(ttl)).is_err(), "{ttl}");
        }
        assert!(life(&set, &sre, &ask(SignedDuration::MAX)).is_ok());
    }

    #[test]
    fn nothing_lasts_longer_than_the_hard_maximum() {
        // limits that load refuses, put in behind its back
        let mut set = load(READ).unwrap();
        set.limits = Limits { default_ttl: HOURS(1000), max_ttl: HOURS(1000) };
        set.rules[0].terms.max_ttl = Some(HOURS(1000));
        let request = Request { ttl: Some(HOURS(1000)), ..asks(&[]) };
        assert_eq!(life(&set, &alice(&["sre"]), &request).unwrap(), HARD_MAX_TTL);
    }

    #[test]
    fn within_a_role_the_longest_permit_decides_and_ties_go_by_id() {
        let more = |id: &str, ttl: &str| READ.replace("read\"", &format!("{id}\"")).replace("8h", ttl);
        let set = load(&[more("z", "2h"), more("c", "9h"), more("b", "9h"), more("a", "1h")].concat()).unwrap();
        let request = Request { ttl: Some(HOURS(24)), ..asks(&[]) };
        let grant = decided(&set, &alice(&["sre"]), &request).unwrap();
        assert_eq!(grant.policies(), ["b"]);
        assert_eq!(grant.not_after(), now() + HOURS(9));
    }

    #[test]
    fn across_roles_all_must_be_granted_and_the_shortest_life_holds() {
        let operator = r#"@id("operate") @max_ttl("2h")
            permit (principal in Group::"corp/sre", action == Action::"hold:os:operator", resource);"#;
        let set = load(&[READ, operator, ADMIN].concat()).unwrap();
        let both = Request { ttl: Some(HOURS(24)), ..asks(&[Role::Operator, Role::Reader, Role::Operator]) };
        let grant = decided(&set, &alice(&["sre"]), &both).unwrap();
        assert_eq!(grant.roles(), [Role::Operator, Role::Reader]);
        assert_eq!(grant.policies(), ["operate", "read"]);
        assert_eq!(grant.not_after(), now() + HOURS(2));
        let refusal = decided(&set, &alice(&["sre"]), &asks(&[Role::Reader, Role::Admin])).unwrap_err();
        assert_eq!(refusal.sentence, "no policy permits os:admin on `prod`");
        let held = "can be had now: os:operator for up to 2h, os:reader for up to 8h";
        assert_eq!(refusal.help, [held, "decided with the group `corp/sre`"]);
    }

    #[test]
    fn a_refusal_finds_what_would_help() {
        let set = load(&[READ, ADMIN].concat()).unwrap();
        let admin = alice(&["admins", "sre"]);
        let refusal = decided(&set, &admin, &asks(&[Role::Admin])).unwrap_err();
        assert_eq!(refusal.sentence, "os:admin on `prod` is permitted by `admin` only on conditions that are not met");
        assert_eq!(refusal.policies, ["admin"]);
        assert_eq!(
            refusal.help,
            [
                "give a reason with `--reason`, and sign in again with `ichor login --fresh --acr mfa`",
                "your login had the acr `pwd` and was 10m ago",
                "use the second factor",
                "can be had now: os:reader for up to 8h",
            ]
        );
        let request = Request { reason: Some("INC-42".into()), ..asks(&[Role::Admin]) };
        let refusal = decided(&set, &admin, &request).unwrap_err();
        assert_eq!(refusal.help[0], "sign in again with `ichor login --fresh --acr mfa`");
        let mut session = row(&["admins"]);
        session.acr = Some("mfa".into());
        assert_eq!(life(&set, &who(&session), &request).unwrap(), MINUTES(15));
        session.auth_time = Some(now() - HOURS(2));
        let refusal = decided(&set, &who(&session), &request).unwrap_err();
        assert_eq!(
            refusal.help[..2],
            ["sign in again with `ichor login --fresh`", "your login had the acr `mfa` and was 2h ago"]
        );
        (session.acr, session.auth_time) = (None, None);
        let refusal = decided(&set, &who(&session), &request).unwrap_err();
        assert_eq!(
            refusal.help[0],
            "sign in again with `ichor login --fresh --acr mfa`; if the provider tells no acr even then, ask whoever runs the broker whether \
             it knows `mfa` and tells it"
        );
        assert_eq!(refusal.help[1], "your login told no acr and told no time of authentication");
    }

    #[test]
    fn a_forbids_hint_is_told_only_where_it_can_lead_to_a_yes() {
        let forbid = |role: &str, hint: &str| {
            format!(
                r#"@id("forbid-{role}") @hint("{hint}")
                forbid (principal, action == Action::"hold:os:{role}", resource) unless {{
                    context has address && context.address.isInRange(ip("192.0.2.0/24")) }};"#
            )
        };
        let set =
            load(&[READ, ADMIN, &forbid("reader", "come from the office"), &forbid("admin", "and on foot")].concat());
        let set = set.unwrap();
        let help = |who: &[&str], roles: &[Role]| decided(&set, &alice(who), &asks(roles)).unwrap_err().help;

        assert_eq!(help(&["sre"], &[Role::Reader]), ["come from the office"], "a permit grants it but for the forbid");
        let nothing = "ask whoever keeps the broker's policies";
        let decided_with = "decided with the group `corp/others`";
        assert_eq!(help(&["others"], &[Role::Reader]), [nothing, decided_with], "no permit is about them");
        let both = ["and on foot", "use the second factor"];
        assert_eq!(help(&["admins"], &[Role::Admin]), both, "a permit is, and is not met either");
        assert_eq!(
            help(&["sre"], &[Role::Reader, Role::Admin])[0],
            nothing,
            "reader would not help: both are asked for"
        );
        let answers = listing(&set, &alice(&["others"]), &prod(), Some(asks(&[]).address), now());
        assert!(answers.iter().all(|answer| answer.help.is_empty()), "{answers:?}");
    }

    #[test]
    fn a_shorter_life_can_be_what_helps() {
        let set = load(r#"@id("short") permit (principal, action == Action::"hold:os:reader", resource) when { context.ttl <= 900 };"#).unwrap();
        let refusal = decided(&set, &alice(&[]), &asks(&[])).unwrap_err();
        assert_eq!(refusal.help[0], "ask for less with `--ttl 15m`");
        assert!(decided(&set, &alice(&[]), &Request { ttl: Some(MINUTES(15)), ..asks(&[]) }).is_ok());
    }

    #[test]
    fn an_absent_acr_or_auth_time_is_not_met() {
        let set = load(ADMIN).unwrap();
        let request = Request { reason: Some("INC-42".into()), ..asks(&[Role::Admin]) };
        let mut session = row(&["admins"]);
        session.acr = Some("mfa".into());
        assert!(decided(&set, &who(&session), &request).is_ok());
        for (acr, auth_time) in [(None, session.auth_time), (session.acr.clone(), None)] {
            let changed = crate::store::SessionRow { acr, auth_time, ..session.clone() };
            assert!(decided(&set, &who(&changed), &request).is_err());
        }
        session.auth_time = Some(now() + HOURS(1));
        assert!(decided(&set, &who(&session), &request).is_err(), "a time to come is not believed");
        session.auth_time = Some(now() + SignedDuration::from_secs(30));
        assert!(decided(&set, &who(&session), &request).is_ok(), "a clock that differs a little is");
    }

    #[test]
    fn a_blank_reason_is_none() {
        let set = load(r#"@id("why") permit (principal, action, resource) when { context has reason };"#).unwrap();
        let refusal = decided(&set, &alice(&[]), &Request { reason: Some(" \t".into()), ..asks(&[]) }).unwrap_err();
        assert_eq!(refusal.help[0], "give a reason with `--reason`");
        assert_eq!(
            decided(&set, &alice(&[]), &Request { reason: Some("x".into()), ..asks(&[]) }).unwrap().reason(),
            Some("x")
        );
    }

    #[test]
    fn a_forbid_wins_wherever_it_stands() {
        let freeze = r#"@id("freeze") @hint("wait for the end of the freeze")
            forbid (principal, action in Action::"hold", resource in Label::"region=eu");"#;
        for text in [[READ, freeze].concat(), [freeze, READ].concat()] {
            let refusal = decided(&load(&text).unwrap(), &alice(&["sre"]), &asks(&[])).unwrap_err();
            assert_eq!(refusal.sentence, "os:reader on `prod` is forbidden by `freeze`");
            assert_eq!(refusal.policies, ["freeze"]);
            assert_eq!(refusal.help, ["wait for the end of the freeze"]);
        }
    }

    #[test]
    fn a_policy_that_cannot_be_evaluated_refuses_everything_it_is_about() {
        // a forbid that overflows: Cedar alone would leave it out and allow
        let broken = r#"@id("broken")
            forbid (principal, action, resource) when { context.groups_age * 9223372036854775807 > 0 };"#;
        let set = load(&[READ, broken].concat()).unwrap();
        let refusal = decided(&set, &alice(&["sre"]), &asks(&[])).unwrap_err();
        assert_eq!(refusal.code, Code::PolicyError);
        assert!(refusal.internal.as_deref().unwrap().contains("broken"), "{refusal:?}");
        assert!(!refusal.sentence.contains("overflow"), "what failed is for the log");
        assert!(listing(&set, &alice(&["sre"]), &prod(), None, now()).iter().all(|answer| !answer.allowed));
    }

    #[test]
    fn a_label_that_could_be_another_one_refuses() {
        let set = load(r#"@id("all") permit (principal, action, resource);"#).unwrap();
        let odd = cluster("prod", &[("a=b", "c")]);
        let refusal = decide(&set, &alice(&[]), &odd, &asks(&[]), None, GrantId(uuid::Uuid::nil()), now()).unwrap_err();
        assert_eq!(refusal.code, Code::PolicyError);
    }

    #[test]
    fn a_request_for_another_cluster_is_never_decided() {
        let set = load(r#"@id("all") permit (principal, action, resource);"#).unwrap();
        let other = cluster("staging", &[]);
        assert!(decide(&set, &alice(&[]), &other, &asks(&[]), None, GrantId(uuid::Uuid::nil()), now()).is_err());
    }

    #[test]
    fn the_address_can_be_a_condition() {
        let set = load(
            r#"@id("office") permit (principal, action == Action::"hold:os:reader", resource)
               when { context has address && context.address.isInRange(ip("10.1.0.0/16")) };"#,
        )
        .unwrap();
        assert!(decided(&set, &alice(&[]), &asks(&[])).is_ok());
        let elsewhere = Request { address: [192, 0, 2, 1].into(), ..asks(&[]) };
        assert!(decided(&set, &alice(&[]), &elsewhere).is_err());
        assert!(decided(&set, &alice(&[]), &Request { address: "2001:db8::1".parse().unwrap(), ..asks(&[]) }).is_err());
        let mapped = Request { address: "::ffff:10.1.2.3".parse().unwrap(), ..asks(&[]) };
        assert!(decided(&set, &alice(&[]), &mapped).is_ok(), "the same address in IPv6 clothes");
    }

    #[test]
    fn case_15_a_person_can_be_named_and_another_with_the_same_subject_is_not_them() {
        let set = load(
            r#"@id("alice") permit (principal == Person::"corp/https://idp.example.com#alice", action, resource);"#,
        )
        .unwrap();
        let mut session = row(&[]);
        assert!(decided(&set, &who(&session), &asks(&[])).is_ok());
        session.person.issuer = "https://other.example.com".into();
        assert!(decided(&set, &who(&session), &asks(&[])).is_err());
    }

    #[test]
    fn the_listing_says_what_decide_would() {
        let set = load(&[READ, ADMIN].concat()).unwrap();
        let who = alice(&["sre", "admins"]);
        for answer in listing(&set, &who, &prod(), Some(asks(&[]).address), now()) {
            let decided = decided(&set, &who, &asks(&[answer.role]));
            assert_eq!(answer.allowed, decided.is_ok(), "{answer:?}");
            match decided {
                Ok(grant) => {
                    assert_eq!((answer.max_ttl, answer.policies.as_slice()), (Some(8 * 3600), grant.policies()));
                }
                Err(refusal) => {
                    assert_eq!(answer.why, Some(refusal.sentence));
                    // what else can be held stands beside it in the listing
                    assert!(refusal.help.starts_with(&answer.help), "{answer:?} {:?}", refusal.help);
                    assert_eq!(answer.help.is_empty(), answer.role != Role::Admin);
                }
            }
        }
    }

    const GLASS: &str = r#"@id("glass") @approvals("1") @max_ttl("1h")
        permit (principal in Group::"corp/sre", action == Action::"hold:os:admin", resource)
        when { context has reason && context has auth_age && context.auth_age < 60 };"#;
    const ASKING: &str = r#"@id("asking")
        permit (principal in Group::"corp/sre", action == Action::"break-glass:request", resource)
        when { context has reason && context has auth_age && context.auth_age < 60 };"#;

    /// What the listing says can be had by a request.
    fn by_request(policies: &[&str], groups: &[&str]) -> Vec<Role> {
        let answers = listing(&load(&policies.concat()).unwrap(), &alice(groups), &prod(), None, now());
        answers.into_iter().filter(|answer| answer.by_request).map(|answer| answer.role).collect()
    }

    #[test]
    fn the_listing_tells_what_can_be_had_by_a_request() {
        let all = [READ, GLASS, ASKING];
        assert_eq!(by_request(&all, &["sre"]), [Role::Admin]);
        assert_eq!(by_request(&all, &["others"]), [] as [Role; 0]);
        let refusal = decided(&load(&all.concat()).unwrap(), &alice(&["sre"]), &asks(&[Role::Admin])).unwrap_err();
        assert_eq!(
            refusal.help[0],
            "ask others to approve: `ichor break-glass request prod --role os:admin --reason TEXT`"
        );
        assert!(!refusal.help.contains(&ASK_KEEPERS.to_owned()), "{refusal:?}");
    }

    #[test]
    fn nothing_can_be_had_by_a_request_that_nobody_may_make() {
        assert_eq!(by_request(&[READ, GLASS], &["sre"]), [] as [Role; 0]);
    }

    #[test]
    fn what_a_reason_and_a_login_give_needs_no_request() {
        let at_once = GLASS.replacen("@approvals(\"1\") ", "", 1);
        assert_eq!(by_request(&[READ, &at_once, ASKING], &["sre"]), [] as [Role; 0]);
    }

    #[test]
    fn the_audit_is_read_by_policy() {
        let set = load(
            r#"@id("auditors") permit (principal in Group::"corp/audit", action == Action::"audit:read", resource == Ichor::"broker");
               @id("sre-prod") permit (principal in Group::"corp/sre", action == Action::"audit:read", resource in Label::"env=prod");
               @id("sealed") forbid (principal, action == Action::"audit:read", resource == Cluster::"vault");"#,
        )
        .unwrap();
        let (prod, vault) = (prod(), cluster("vault", &[("env", "prod")]));
        let read = |groups: &[&str], scope| may_read_audit(&set, &alice(groups), scope, now());
        assert!(read(&["audit"], AuditScope::Everything).is_ok());
        assert!(read(&["audit"], AuditScope::Cluster(&prod)).is_ok(), "all includes each");
        assert!(read(&["audit"], AuditScope::Cluster(&vault)).is_err(), "unless forbidden");
        assert!(read(&["sre"], AuditScope::Cluster(&prod)).is_ok());
        let refusal = read(&["sre"], AuditScope::Everything).unwrap_err();
        assert_eq!(refusal.sentence, "no policy permits reading the whole audit");
        assert!(read(&[], AuditScope::Cluster(&prod)).is_err());
    }

    #[test]
    fn bodies_are_dropped_by_policy() {
        let set = load(
            r#"@id("keepers") @hint("ask with your second factor") permit (principal in Group::"corp/privacy", action == Action::"audit:drop", resource)
               when { context has acr && context.acr == "pwd" };
               @id("readers") permit (principal in Group::"corp/audit", action == Action::"audit:read", resource);
               @id("never") forbid (principal in Group::"corp/dev", action == Action::"audit:drop", resource == Ichor::"broker");"#,
        )
        .unwrap();
        let drops = |groups: &[&str]| may_drop_audit(&set, &alice(groups), now()).map_err(|refusal| refusal.sentence);
        assert_eq!(drops(&["privacy"]), Ok(()));
        assert_eq!(drops(&["audit"]).unwrap_err(), "no policy permits dropping bodies of the audit");
        assert_eq!(drops(&["privacy", "dev"]).unwrap_err(), "dropping bodies of the audit is forbidden by `never`");
        let mut session = row(&["privacy"]);
        session.acr = None;
        let refusal = may_drop_audit(&set, &who(&session), now()).unwrap_err();
        assert_eq!(refusal.help, ["ask with your second factor"]);
        assert!(load(r#"@id("x") forbid (principal, action == Action::"audit:drop", resource is Cluster);"#).is_err());
    }
}
