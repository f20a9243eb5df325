//! How the accounts of humans are told apart, by the configuration in force.

use super::Contents;
use crate::domain::{ClaimsInForce, Human, Person, ProviderAlias};

/// The providers in force, and by what they tell humans apart.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    /// Each provider's alias and issuer, and whether it tells the human behind an account.
    pub providers: Vec<(ProviderAlias, String, bool)>,
    /// The claims by which they do.
    pub claims: ClaimsInForce,
}

// === impl Apart ===

impl Apart {
    /// Whether whoever asked is told apart from others now as when they asked. Where not, nobody is surely another by what is told, and
    /// no login changes that.
    pub(super) fn is_as_asked(&self, contents: &Contents) -> bool {
        self.is_as_now(&contents.person, contents.said.human_told.then_some(&contents.human))
    }

    /// Whether this session tells its human from others as one that began now would. Where not, another login does.
    pub(super) fn is_of_now(&self, human: &Human) -> bool {
        self.is_as_now(&human.person, human.told.as_ref())
    }

    fn is_as_now(&self, person: &Person, told: Option<&[u8; 32]>) -> bool {
        let is_theirs = |(alias, issuer, tells): &(ProviderAlias, String, bool)| {
            *alias == person.provider && *issuer == person.issuer && *tells == told.is_some()
        };
        self.providers.iter().any(is_theirs) && told.is_none_or(|told| self.claims.are_of(told))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tokio::sync::watch;

    use crate::break_glass::tests::{Glass, POLICIES, address, apart, asks, at_corp, declared, load};
    use crate::break_glass::{BreakGlass, BreakGlassError};
    use crate::domain::{BreakGlassId, BreakGlassState, HumanClaim};
    use crate::identity::Identity;
    use crate::identity::fixture::who;
    use crate::store::SessionRow;
    use crate::store::conformance::session;

    use super::*;

    fn told(number: u8, person: Person, human: HumanClaim) -> Identity {
        who(&SessionRow { user: person.subject.clone(), person, human, ..session(number) })
    }

    async fn denied(glass: &BreakGlass, id: BreakGlassId, by: &Identity) -> Result<(), BreakGlassError> {
        let hash = glass.load(id).await?.1.hash;
        glass.deny(by, id, hash, None, address()).await
    }

    #[tokio::test]
    async fn what_was_asked_under_another_rule_is_ended_by_another_account_and_approved_by_nobody() {
        let glass = Glass::new().await;
        let (id, other) = (glass.asked().await, glass.asked().await);
        let Person { provider, issuer, .. } = glass.ada.person().clone();
        let tells = Apart { providers: vec![(provider, issuer, true)], claims: ClaimsInForce::of(["number"]) };
        let human = |value: &str| HumanClaim::of(value).under(ClaimsInForce::of(["number"]));
        let bob = told(2, at_corp("bob"), human("7"));
        let own = told(3, glass.ada.person().clone(), human("8"));
        let refused = |done: Result<(), BreakGlassError>| matches!(done, Err(BreakGlassError::Refused(_)));

        let before = glass.anew(apart(), declared());
        assert!(refused(denied(&before, id, &bob).await), "humans are told apart as they were");
        let after = glass.anew(tells, declared());
        let hash = after.load(id).await.unwrap().1.hash;
        assert!(refused(after.approve(&bob, id, hash, None, address()).await), "that is not enough to approve");
        assert!(refused(denied(&after, id, &own).await), "their own account is no other");
        denied(&after, id, &bob).await.unwrap();
        let entry = glass.entries().await.pop().unwrap();
        assert_eq!(entry.detail.get("by_account").map(String::as_str), Some("true"), "{entry:?}");
        let elsewhere = Apart { providers: Vec::new(), ..Apart::default() };
        denied(&glass.anew(elsewhere, declared()), other, &told(4, at_corp("eve"), human("9"))).await.unwrap();
    }

    #[tokio::test]
    async fn a_session_of_before_the_claims_in_force_asks_for_nothing_more_and_is_told_to_log_in() {
        let glass = Glass::new().await;
        let Person { provider, issuer, .. } = glass.ada.person().clone();
        let claims = |name| ClaimsInForce::of([name]);
        let told_by = |name| Apart { providers: vec![(provider.clone(), issuer.clone(), true)], claims: claims(name) };
        let of = |value: &str, name| HumanClaim::of(value).under(claims(name));
        let after = glass.anew(told_by("number"), declared());
        let old = [HumanClaim::NotAsked, of("ada", "login"), of("ada", "number")]
            .map(|human| told(1, glass.ada.person().clone(), human));
        for session in &old[..2] {
            let refused = after.ask(session, asks()).await.unwrap_err();
            let BreakGlassError::Refused(refusal) = refused else { panic!("{refused}") };
            assert!(refusal.help.iter().any(|help| help.contains("`ichor login`")), "{refusal:?}");
        }
        let id = after.ask(&old[2], asks()).await.unwrap();
        let help = async |glass: &BreakGlass, by: &Identity| {
            let hash = glass.load(id).await.unwrap().1.hash;
            let refused = glass.approve(by, id, hash, None, address()).await.unwrap_err();
            let BreakGlassError::Refused(refusal) = refused else { panic!("{refused}") };
            refusal.help.concat()
        };
        let by = |human| told(2, at_corp("bob"), human);
        assert!(help(&after, &by(HumanClaim::NotAsked)).await.contains("log in anew (`ichor login`), and"));
        assert!(help(&after, &by(of("bob", "login"))).await.contains("log in anew (`ichor login`), and"));
        let later = glass.anew(told_by("login"), declared());
        assert!(help(&later, &by(of("bob", "login"))).await.contains("log in anew (`ichor login`), both"));
    }

    #[tokio::test]
    async fn a_request_of_a_cluster_that_is_declared_no_more_is_ended_and_approved_by_nobody() {
        let glass = Glass::new().await;
        let id = glass.asked().await;
        let undeclared = glass.anew(apart(), Arc::new(BTreeMap::new()));
        let hash = undeclared.load(id).await.unwrap().1.hash;
        let refused = undeclared.approve(&glass.bob, id, hash, None, address()).await.unwrap_err();
        assert!(refused.to_string().contains("no longer declared"), "{refused}");
        denied(&undeclared, id, &glass.bob).await.unwrap();
        assert_eq!(undeclared.load(id).await.unwrap().0.request.state, BreakGlassState::Denied);
        assert_eq!(glass.entries().await.pop().unwrap().detail.get("by_account"), None);
    }

    /// It has no labels any more: a policy that forbids something by one forbids it no more.
    #[tokio::test]
    async fn a_request_of_a_cluster_that_is_declared_no_more_is_seen_and_reviewed_by_whoever_may_read_everything() {
        let glass = Glass::new().await;
        let id = glass.asked().await;
        let undeclared = glass.anew(apart(), Arc::new(BTreeMap::new()));
        let review = async |glass: &BreakGlass, by: &Identity| {
            glass.review(by, id, crate::break_glass::Label::Drill, "none", address()).await
        };
        assert!(matches!(undeclared.show(&glass.bob, id).await, Err(BreakGlassError::Unknown)));
        assert!(matches!(review(&undeclared, &glass.bob).await, Err(BreakGlassError::Unknown)));
        let policies =
            format!("{POLICIES}\n@id(\"read\") permit (principal, action == Action::\"audit:read\", resource);");
        let reads = BreakGlass { policies: watch::channel(load(&policies)).1, ..undeclared };
        assert!(!reads.show(&glass.bob, id).await.unwrap().may.contains(&"approve"));
        assert!(matches!(review(&reads, &glass.bob).await, Err(BreakGlassError::State(_))), "nothing was made of it");
    }
}
