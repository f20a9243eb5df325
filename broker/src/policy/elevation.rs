//! Before others are asked: who may ask, what it would take, and who may approve.

use std::net::IpAddr;

use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};

use crate::domain::{Cluster, Role};
use crate::identity::Identity;

use super::advice;
use super::answer::{holding, roles};
use super::approval::{Approval, MOST_APPROVALS, fits};
use super::evaluate::{Circumstances, Question, Verdict};
use super::judgement::{Best, Judgement};
use super::quorum::Backing;
use super::refusal::{ASK_KEEPERS, Refusal, Subject, ToldBy};
use super::set::{HARD_MAX_TTL, PolicySet};
use super::vocabulary::Action;

/// What someone asks others to approve.
#[derive(Clone, Debug)]
pub struct Elevation<'a> {
    /// Which roles; none asks for `os:reader`.
    pub roles: &'a [Role],
    /// For how long; absent asks for the broker's default.
    pub ttl: Option<SignedDuration>,
    /// Why.
    pub reason: &'a str,
    /// The ticket's URL.
    pub ticket: Option<&'a str>,
    /// Where the request comes from.
    pub address: IpAddr,
    /// Whether nobody is to approve it.
    pub self_service: bool,
}

/// What it takes, and what it would give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElevationTerms {
    /// The roles, sorted, each once.
    pub roles: Vec<Role>,
    /// How many others must approve, at least one; 0 where nobody does.
    pub approvals: u64,
    /// How long the access lasts from the last approval on.
    pub life: SignedDuration,
    /// How long the request waits for approvals.
    pub wait: SignedDuration,
    /// How many certificates it allows.
    pub uses: u64,
    /// The deciding policies, by `@id`, sorted.
    pub policies: Vec<String>,
}

/// Returns what it takes, if policy lets this person ask and would permit every role with enough approvals.
///
/// Where nobody is to approve it, policy must say so of every role that needs approval.
///
/// Of several numbers of approvals the smallest counts that gives the life asked for; where none does, the one that gives most.
///
/// # Errors
/// When policy does not, when nobody's approval is needed, when a ticket is missing, or when policies cannot be evaluated.
pub fn elevation(
    policies: &PolicySet,
    identity: &Identity,
    cluster: &Cluster,
    asks: &Elevation<'_>,
    now: Timestamp,
) -> Result<ElevationTerms, Refusal> {
    let (person, groups, told_by) = (identity.person(), identity.groups(), ToldBy::of(identity));
    let ttl = asks.ttl.unwrap_or(policies.limits.default_ttl);
    let circumstances = Circumstances::of(identity, Some(asks.reason), ttl, Some(asks.address), now);
    let asking = Question::about_cluster(policies, person, groups, cluster, &[Action::BreakGlassRequest]);
    let asking = asking.map_err(|error| Refusal::failed(&error))?;
    permitted(&asking, Action::BreakGlassRequest, &circumstances, Subject::Asking(&cluster.name))
        .map_err(|refusal| refusal.naming(groups, told_by))?;

    let roles = roles(asks.roles);
    let question = holding(policies, person, groups, cluster, &Role::ALL)?;
    let with = |backing: Option<Backing>| {
        let circumstances = Circumstances { backing, ..circumstances.clone() };
        let judgement = Judgement::of(&question, &roles, &circumstances);
        let best = judgement.approved(&question);
        (judgement, circumstances, best)
    };
    if with(None).2.is_some() {
        let said: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        let said = said.join(",");
        return Err(Refusal::plain(
            "nobody needs to approve this: you may hold it as things are",
            &format!("ask for it with `ichor talosconfig {} --role {said} --reason TEXT`", cluster.name),
        ));
    }
    let mut chosen: Option<(u64, Best<'_>)> = None;
    if asks.self_service {
        chosen = with(Some(Backing::Told)).2.map(|best| (0, best));
    }
    for approvals in (1..=MOST_APPROVALS).filter(|_| !asks.self_service) {
        let Some(best) = with(Some(Backing::Approvals(approvals))).2 else { continue };
        if chosen.as_ref().is_none_or(|(_, known)| known.longest < ttl && known.longest < best.longest) {
            chosen = Some((approvals, best));
        }
    }
    let Some((approvals, best)) = chosen else {
        let most = if asks.self_service { Backing::Told } else { Backing::Approvals(MOST_APPROVALS) };
        let (judgement, circumstances, _) = with(Some(most));
        let refusal = judgement.refusal(&question, &cluster.name, &circumstances, advice::help);
        return Err(refusal.naming(groups, told_by));
    };
    let needed: Vec<&Approval> = best.deciding.iter().filter_map(|(_, rule)| rule.terms.approval.as_ref()).collect();
    for pattern in needed.iter().filter_map(|approval| approval.ticket.as_deref()) {
        if !asks.ticket.is_some_and(|ticket| fits(pattern, ticket)) {
            return Err(Refusal::plain(&format!("a ticket like `{pattern}` is needed"), "name it with `--ticket URL`"));
        }
    }
    let (Some(wait), Some(uses)) =
        (needed.iter().map(|approval| approval.wait).min(), needed.iter().map(|approval| approval.uses).min())
    else {
        return Err(Refusal::failed("approvals are needed that no policy asks for"));
    };
    let mut policies: Vec<_> = best.deciding.iter().map(|(_, rule)| rule.id.clone()).collect();
    policies.sort();
    policies.dedup();
    Ok(ElevationTerms { roles, approvals, life: ttl.min(best.longest).min(HARD_MAX_TTL), wait, uses, policies })
}

/// Returns if policy lets this person approve a request of someone else's for these roles. That it is someone else's is not
/// asked here.
///
/// # Errors
/// When policy does not, or could not be evaluated.
pub fn may_approve(
    policies: &PolicySet,
    identity: &Identity,
    cluster: &Cluster,
    roles: &[Role],
    now: Timestamp,
) -> Result<(), Refusal> {
    let (question, circumstances) =
        approving(policies, identity, cluster, roles, now).map_err(|error| Refusal::failed(&error))?;
    permitted(&question, Action::BreakGlassApprove, &circumstances, Subject::Approving(&cluster.name))
        .map_err(|refusal| refusal.naming(identity.groups(), ToldBy::of(identity)))
}

/// Returns the authentication context to ask the provider for, so that after a fresh login this person may approve such a request;
/// `None` where any will do.
///
/// # Errors
/// When no login changes policy's answer.
pub fn login_to_approve(
    policies: &PolicySet,
    identity: &Identity,
    cluster: &Cluster,
    roles: &[Role],
    now: Timestamp,
) -> Result<Option<String>, Refusal> {
    let (question, circumstances) =
        approving(policies, identity, cluster, roles, now).map_err(|error| Refusal::failed(&error))?;
    let action = Action::BreakGlassApprove;
    match advice::login_that_helps(&question, action, &circumstances) {
        // one that was vouched for is asked for again: a login without it may come without
        Some(step_up) => Ok(step_up.acr.or_else(|| identity.acr().map(Into::into))),
        None => {
            permitted(&question, action, &circumstances, Subject::Approving(&cluster.name))?;
            Ok(None)
        }
    }
}

/// Whether a permit of approving such requests is about this person at all, its conditions met or not, and no policy forbids
/// it: whoever could approve after a fresh login may look before.
#[must_use]
pub fn could_approve(
    policies: &PolicySet,
    identity: &Identity,
    cluster: &Cluster,
    roles: &[Role],
    now: Timestamp,
) -> bool {
    let asked = approving(policies, identity, cluster, roles, now);
    match asked.map(|(question, circumstances)| question.ask(Action::BreakGlassApprove, &circumstances)) {
        Ok(Verdict::Permitted(_)) => true,
        Ok(Verdict::Unmet(rules)) => !rules.is_empty(),
        _ => false,
    }
}

fn approving<'a>(
    policies: &'a PolicySet,
    identity: &'a Identity,
    cluster: &Cluster,
    roles: &'a [Role],
    now: Timestamp,
) -> Result<(Question<'a>, Circumstances<'a>), String> {
    let action = Action::BreakGlassApprove;
    let question = Question::about_cluster(policies, identity.person(), identity.groups(), cluster, &[action])?;
    let circumstances = Circumstances::of(identity, None, SignedDuration::ZERO, None, now);
    Ok((question, Circumstances { roles, ..circumstances }))
}

fn permitted(
    question: &Question<'_>,
    action: Action,
    circumstances: &Circumstances<'_>,
    subject: Subject<'_>,
) -> Result<(), Refusal> {
    let verdict = question.ask(action, circumstances);
    let rules = match &verdict {
        Verdict::Permitted(_) => return Ok(()),
        Verdict::Failed(failure) => return Err(Refusal::failed(failure)),
        Verdict::Forbidden(rules) | Verdict::Unmet(rules) | Verdict::Unapproved(rules) => rules,
    };
    let mut help: Vec<_> = rules.iter().filter_map(|rule| rule.terms.hint.clone()).collect();
    let step_up = advice::login_that_helps(question, action, circumstances);
    help.extend(step_up.as_ref().map(|step_up| advice::sign_in(step_up.acr.as_deref(), circumstances)));
    if help.is_empty() {
        help.push(ASK_KEEPERS.into());
    }
    Err(Refusal {
        code: Code::Refused,
        sentence: subject.refused(&verdict).unwrap_or_default(),
        help,
        policies: rules.iter().map(|rule| rule.id.clone()).collect(),
        step_up,
        internal: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{alice, elevated, load, now, prod, row, who};
    use super::*;

    const TWO: &str = r#"@id("two") @approvals("2") @max_ttl("1h")
        permit (principal, action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);"#;
    const ALONE: &str = r#"@id("alone") @self_service("true") @max_ttl("10m") @wait("5m")
        permit (principal, action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);"#;

    fn asked(text: &str, roles: &[Role], self_service: bool) -> Result<ElevationTerms, String> {
        asked_with(text, roles, self_service, None)
    }

    fn asked_with(
        text: &str,
        roles: &[Role],
        self_service: bool,
        ticket: Option<&str>,
    ) -> Result<ElevationTerms, String> {
        let ttl = Some(SignedDuration::from_hours(2));
        let asks = Elevation { ttl, ticket, self_service, ..elevated(roles) };
        elevation(&load(text).unwrap(), &alice(&["sre"]), &prod(), &asks, now()).map_err(|refusal| refusal.sentence)
    }

    #[test]
    fn who_asks_to_be_let_in_alone_gets_that_and_nobody_else_does() {
        let both = format!("{TWO} {ALONE}");
        let alone = asked(&both, &[Role::Admin], true).unwrap();
        assert_eq!((alone.approvals, alone.uses, alone.policies), (0, 1, vec!["alone".to_owned()]));
        assert_eq!((alone.life, alone.wait), (SignedDuration::from_mins(10), SignedDuration::from_mins(5)));
        let approved = asked(&both, &[Role::Admin], false).unwrap();
        assert_eq!((approved.approvals, approved.policies), (2, vec!["two".to_owned()]));
        assert_eq!(approved.life, SignedDuration::from_hours(1));
        let refused = asked(TWO, &[Role::Admin], true).unwrap_err();
        assert!(refused.contains("only with the approval of 2 other people"), "{refused}");
        let refused = asked(ALONE, &[Role::Admin], false).unwrap_err();
        assert!(refused.contains("only as self-service break-glass"), "{refused}");
    }

    #[test]
    fn whose_login_told_no_acr_is_told_whom_to_ask_if_another_tells_none_either() {
        let text = r#"@id("factor") permit (principal, action == Action::"break-glass:approve", resource)
            when { context has acr && context.acr == "mfa" };"#;
        let set = load(text).unwrap();
        let refused = |acr: Option<&str>| {
            let mut session = row(&["sre"]);
            session.acr = acr.map(Into::into);
            may_approve(&set, &who(&session), &prod(), &[Role::Admin], now()).unwrap_err()
        };
        let login = "sign in again with `ichor login --fresh --acr mfa`";
        assert_eq!(refused(Some("pwd")).help, [login]);
        let none = refused(None);
        let ask = "ask whoever runs the broker whether it knows `mfa` and tells it";
        assert_eq!(none.help, [format!("{login}; if the provider tells no acr even then, {ask}")]);
        assert_eq!(none.step_up.unwrap().acr.as_deref(), Some("mfa"), "it may help all the same");
    }

    #[test]
    fn every_role_must_be_one_that_nobody_approves() {
        let reader = |annotation: &str| {
            format!(
                r#"{ALONE} @id("read") {annotation} permit (principal, action == Action::"hold:os:reader", resource);"#
            )
        };
        let roles = [Role::Admin, Role::Reader];
        assert!(asked(&reader("@max_ttl(\"8h\")"), &roles, true).is_ok(), "one that needs nothing");
        let refused = asked(&reader("@approvals(\"1\")"), &roles, true).unwrap_err();
        assert!(refused.contains("os:reader on `prod` is permitted by `read` only with the approval"), "{refused}");
    }

    #[test]
    fn a_ticket_is_named_where_one_is_required_and_fits() {
        const PATTERN: &str = "https://tickets.example.com/browse/INC-*";
        let with = |text: &str, self_service, ticket| asked_with(text, &[Role::Admin], self_service, ticket);
        for (text, alone) in [(TWO, false), (ALONE, true)] {
            let required = text.replacen("@max_ttl", &format!("@ticket(\"{PATTERN}\") @max_ttl"), 1);
            for ticket in [
                None,
                Some(""),
                Some("https://tickets.example.com/browse/OPS-1"),
                Some("https://tickets.example.net/browse/INC-1"),
                Some("http://tickets.example.com/browse/INC-1"),
                Some("x https://tickets.example.com/browse/INC-1"),
            ] {
                let refused = with(&required, alone, ticket).unwrap_err();
                assert_eq!(refused, format!("a ticket like `{PATTERN}` is needed"), "{ticket:?}");
            }
            assert!(with(&required, alone, Some("https://tickets.example.com/browse/INC-1")).is_ok());
            // and where none is required, none is asked for
            assert!(with(text, alone, None).is_ok());
        }
    }
}
