//! Sees from time to time, with a certificate of the broker's own, whether each cluster's nodes still accept its CA. After
//! `talosctl rotate-ca` they accept an imported one no more, and nothing else would say so before a person is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ichor_wire::log::{Content, Kind};
use ichor_wire::profile::pem;
use tokio::sync::watch;
use tokio::time::Instant;

use super::prober::{self, Answer, Prober};
use super::serve::told;
use crate::audit::Sequencer;
use crate::domain::{Cluster, ClusterName, Clusters};
use crate::entropy::within;
use crate::issuer::Issuer;
use crate::issuer::talos_api::EndpointError;
use crate::mint::Issuers;
use crate::policy::PolicySet;
use crate::readiness::{Check, Readiness};

/// So many times sooner nodes are asked again where something was wrong, or another CA came to issue.
const SOONER: u32 = 12;

/// So many nodes are named where they do not accept the CA.
const NAMED: usize = 5;

/// Asks the nodes of one cluster after the other.
pub(super) struct Acceptance {
    pub(super) prober: Prober,
    pub(super) policies: watch::Receiver<Arc<PolicySet>>,
    pub(super) clusters: watch::Receiver<Clusters>,
    pub(super) issuers: watch::Receiver<Issuers>,
    pub(super) sequencer: Sequencer,
    pub(super) readiness: Arc<Readiness>,
    /// Each cluster's nodes are asked at least once in so long.
    pub(super) every: Duration,
}

/// What is known of a cluster.
struct Known {
    /// When its nodes are asked next.
    due: Instant,
    /// What came of the last time.
    found: Option<Found>,
    /// Whether nodes accepted the CA since it came to issue.
    was_accepted: bool,
    /// Whether it is in the log that they do not.
    is_recorded: bool,
    /// What the last certificate was made by.
    issuer: Option<Arc<dyn Issuer>>,
}

/// What nodes made of the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// Every node that could be asked accepts it.
    Accepted,
    /// Some do not. What is so, and what to do.
    Refused(String),
    /// None could be asked, for this reason.
    Unasked(String),
    /// No certificate came about, for this reason.
    Unissued(String),
}

// === impl Acceptance ===

impl Acceptance {
    /// Asks until it is told to stop. A certificate that was begun is finished before.
    pub(super) async fn run(mut self, stopped: watch::Receiver<bool>) {
        let mut stop = std::pin::pin!(told(stopped));
        let mut known = BTreeMap::new();
        loop {
            self.look(&mut known);
            let next = known.iter().min_by_key(|(_, known)| known.due).map(|(name, known)| (name.clone(), known.due));
            let due = async {
                match &next {
                    Some((_, due)) => tokio::time::sleep_until(*due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut stop => return,
                changed = self.issuers.changed() => if changed.is_err() { return },
                changed = self.clusters.changed() => if changed.is_err() { return },
                () = due => if let Some(mut one) = next.and_then(|(name, _)| known.remove_entry(&name)) {
                    if !self.see(&one.0, &mut one.1, &mut stop).await {
                        return;
                    }
                    known.insert(one.0, one.1);
                },
            }
        }
    }

    /// Takes up the clusters that issue, forgets those that do not, and asks sooner where another CA came to issue.
    fn look(&mut self, all: &mut BTreeMap<ClusterName, Known>) {
        let (issuers, clusters) = (self.issuers.borrow_and_update(), self.clusters.borrow_and_update());
        all.retain(|name, _| {
            let stays = issuers.contains_key(name) && clusters.contains_key(name);
            if !stays {
                self.readiness.forget(&check_name(name));
            }
            stays
        });
        for (name, issuer) in issuers.iter().filter(|(name, _)| clusters.contains_key(name)) {
            let known = all.entry(name.clone()).or_insert_with(|| Known {
                due: Instant::now() + within(self.every),
                found: None,
                was_accepted: false,
                is_recorded: false,
                issuer: None,
            });
            let is_another = known.issuer.as_ref().is_some_and(|before| !Arc::ptr_eq(before, issuer));
            if is_another || known.found.as_ref().is_some_and(|found| *found != Found::Accepted) {
                known.due = known.due.min(Instant::now() + within(self.every / SOONER));
            }
        }
    }

    /// Asks the nodes of one cluster, and says what came of it; whether to go on.
    async fn see(&self, name: &ClusterName, known: &mut Known, stop: impl Future<Output = ()>) -> bool {
        let cluster = self.clusters.borrow().get(name).cloned();
        let issuer = self.issuers.borrow().get(name).cloned();
        let (Some(cluster), Some(issuer)) = (cluster, issuer) else { return true };
        if known.issuer.as_ref().is_some_and(|before| !Arc::ptr_eq(before, &issuer)) {
            known.was_accepted = false;
        }
        let policies = Arc::clone(&self.policies.borrow());
        // to its end: what was granted gets its outcome
        let found = match self.prober.own(&policies, &cluster, &*issuer).await {
            Err(error) => Found::Unissued(error.to_string()),
            Ok(own) => {
                let is_own = is_among(&own.ca_pem, &cluster.ca);
                let nodes = prober::addresses(&cluster);
                let answers = tokio::select! {
                    () = stop => return false,
                    answers = prober::ask(&cluster, &nodes, own.credential, &self.prober.clock) => answers,
                };
                match answers {
                    Ok(answers) => Found::of(&cluster, &answers, is_own, known.was_accepted),
                    Err(error) => Found::Unasked(error.to_string()),
                }
            }
        };
        known.issuer = Some(issuer);
        known.was_accepted |= found == Found::Accepted;
        self.say(name, known, &found).await;
        let again = if found == Found::Accepted { self.every } else { self.every / SOONER };
        (known.due, known.found) = (Instant::now() + within(again), Some(found));
        true
    }

    /// To readiness and metrics each time, to the log when it changes.
    async fn say(&self, name: &ClusterName, known: &mut Known, found: &Found) {
        let (outcome, ok, detail) = match found {
            Found::Accepted => ("accepted", true, None),
            Found::Refused(why) => ("refused", false, Some(why.clone())),
            Found::Unasked(why) => ("unasked", true, Some(format!("no node could be asked: {why}"))),
            Found::Unissued(why) => ("unissued", false, Some(format!("no certificate to ask nodes with: {why}"))),
        };
        let cluster = name.to_string();
        metrics::counter!("ichor_probes_total", "cluster" => cluster.clone(), "outcome" => outcome).increment(1);
        if matches!(found, Found::Accepted | Found::Refused(_)) {
            metrics::gauge!("ichor_nodes_accept_ca", "cluster" => cluster).set(if ok { 1.0 } else { 0.0 });
        }
        self.readiness.report(Check { name: check_name(name), ok, required: false, detail });
        let message = match found {
            Found::Refused(why) if !known.is_recorded => why.clone(),
            Found::Accepted if known.is_recorded => "every node that was asked accepts it again".to_owned(),
            _ => return,
        };
        tracing::warn!(cluster = %name, message, "whether nodes accept the CA has changed");
        let message = format!("CA of cluster `{name}`: {message}");
        let content = Content { message: Some(message), cluster: Some(name.to_string()), ..Content::of(Kind::Ca) };
        match self.sequencer.note(content, None).await {
            Ok(_) => known.is_recorded = !ok,
            // it is tried again when the nodes are asked again
            Err(error) => tracing::error!(cluster = %name, %error, "that could not be recorded"),
        }
    }
}

// === impl Found ===

impl Found {
    /// What these answers say. `is_own`: the CA is the cluster's own, as its file has it; `before`: it was accepted before.
    fn of(cluster: &Cluster, answers: &[Answer], is_own: bool, before: bool) -> Self {
        let refuse =
            |answer: &&Answer| matches!(answer.outcome, Err(EndpointError::Untrusted | EndpointError::AnotherCluster));
        let is_foreign = answers.iter().any(|answer| answer.outcome == Err(EndpointError::AnotherCluster));
        let refusing: Vec<&str> = answers.iter().filter(refuse).map(|answer| answer.node.as_str()).collect();
        if refusing.is_empty() {
            // who answers at all has accepted the certificate
            let accepts = |answer: &Answer| match &answer.outcome {
                Ok(_) => true,
                Err(error) => matches!(
                    error,
                    EndpointError::Denied(_) | EndpointError::NotControlPlane(_) | EndpointError::Status(..)
                ),
            };
            if answers.iter().any(accepts) {
                return Self::Accepted;
            }
            let first = answers.iter().find_map(|a| Some(format!("`{}`: {}", a.node, a.outcome.as_ref().err()?)));
            return Self::Unasked(first.unwrap_or_else(|| "its file names none".into()));
        }
        let name = &cluster.name;
        let (all, more) = (answers.len(), refusing.len().saturating_sub(NAMED));
        let named = refusing.iter().take(NAMED).map(|node| format!("`{node}`")).collect::<Vec<_>>().join(", ");
        let named = if more == 0 { named } else { format!("{named} and {more} more") };
        let count = refusing.len();
        let change = match (is_own, is_foreign, before) {
            (true, ..) => format!(
                "the cluster's own CA was replaced, as `talosctl rotate-ca` does, and certificates of the imported one are refused; \
                 import the new one with `ichor-broker ca import {name} --from FILE --replace --reason …`, and put its \
                 certificate into `ca` of clusters/{name}.toml"
            ),
            (false, true, _) => format!(
                "they show certificates of another CA than clusters/{name}.toml names, as after `talosctl rotate-ca`; put the \
                 new one into `ca` there, and see with `ichor-broker ca probe {name}` whether they accept ours"
            ),
            (false, false, true) => format!(
                "they did before; put it back into `machine.acceptedCAs` with what `ichor-broker ca patch {name}` prints"
            ),
            (false, false, false) => format!(
                "apply what `ichor-broker ca patch {name}` prints to them, or bring another CA with `ichor-broker ca import {name} \
                 --replace`"
            ),
        };
        Self::Refused(format!("{count} of {all} nodes do not accept it ({named}): {change}"))
    }
}

/// Whether this certificate is one of the bundle's.
fn is_among(certificate: &str, bundle: &str) -> bool {
    let (Ok(one), Ok(all)) = (pem::blocks(certificate), pem::blocks(bundle)) else { return false };
    one.iter().any(|one| all.iter().any(|other| other.der == one.der))
}

fn check_name(cluster: &ClusterName) -> String {
    format!("nodes {cluster}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(outcomes: &[Result<(), EndpointError>], is_own: bool, before: bool) -> Found {
        let name = ClusterName::new("prod").unwrap();
        let cluster = Cluster { name, labels: [].into(), endpoints: Vec::new(), nodes: Vec::new(), ca: String::new() };
        let version = || crate::issuer::talos_api::Version { tag: "v1.13.9".into(), rbac: true };
        let answer = |(at, outcome): (usize, &Result<(), EndpointError>)| Answer {
            node: format!("n{at}"),
            outcome: outcome.clone().map(|()| version()),
        };
        Found::of(&cluster, &outcomes.iter().enumerate().map(answer).collect::<Vec<_>>(), is_own, before)
    }

    #[test]
    fn one_node_that_refuses_is_said_with_the_next_step_and_an_outage_is_none() {
        let refused = |outcomes: &[Result<(), EndpointError>], is_own, before| match found(outcomes, is_own, before) {
            Found::Refused(why) => why,
            other => panic!("{other:?}"),
        };
        let (no, foreign) = (Err(EndpointError::Untrusted), Err(EndpointError::AnotherCluster));
        let said = refused(&[Ok(()), no.clone(), Err(EndpointError::Late)], true, true);
        assert!(said.starts_with("1 of 3 nodes do not accept it (`n1`): ") && said.contains("ca import prod --from"));
        assert!(said.contains("talosctl rotate-ca"), "{said}");
        assert!(refused(std::slice::from_ref(&foreign), true, true).contains("ca import prod --from"));
        assert!(refused(&[foreign], false, true).contains("into `ca` there"));
        assert!(refused(std::slice::from_ref(&no), false, true).contains("they did before"));
        assert!(
            refused(std::slice::from_ref(&no), false, false).contains("apply what `ichor-broker ca patch prod` prints")
        );
        assert!(refused(&vec![no; 9], false, false).contains("`n4` and 4 more"));

        assert_eq!(found(&[Ok(()), Err(EndpointError::Late)], true, true), Found::Accepted);
        assert_eq!(found(&[Err(EndpointError::Denied("no".into()))], true, true), Found::Accepted);
        for none in [&[Err(EndpointError::Late)][..], &[Err(EndpointError::Expired)], &[]] {
            assert!(matches!(found(none, true, true), Found::Unasked(_)));
        }
    }

    #[test]
    fn nodes_are_asked_at_least_once_in_the_time_and_not_in_step() {
        let most = Duration::from_secs(1000);
        let all: Vec<_> = (0..50).map(|_| within(most)).collect();
        assert!(all.iter().all(|span| (most / 2..=most).contains(span)), "{all:?}");
        assert!(all.iter().any(|span| *span != all[0]));
    }
}
