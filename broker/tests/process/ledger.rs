//! What a client knows of its certificates, held against what the log says.

use std::collections::{BTreeMap, HashSet};

use ichor_client::{Error, Held, Session, Wish, certificate};
use ichor_wire::api::AuditEntry;
use sha2::{Digest, Sha256};

use super::CLUSTER;

/// One request of the client, named by the reason that it gave: the log names the request by it, even where no answer came.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) reason: String,
    pub(super) result: Result<Held, Error>,
}

/// Where requests that brought no certificate had come to, by what the log has of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Landed {
    /// No grant: before step 5 of the walk was durable.
    pub(super) before_the_grant: usize,
    /// A grant without an outcome: between the two durable moments, in step 6 or 7.
    pub(super) before_the_outcome: usize,
    /// A certificate that nobody has: after step 7, before step 8 was done.
    pub(super) before_the_answer: usize,
    /// A recorded failure.
    pub(super) failed: usize,
}

/// Asks for a certificate.
pub(super) async fn attempt(session: &Session, reason: String) -> Attempt {
    let wish = Wish { cluster: CLUSTER.into(), reason: Some(reason.clone()), ..Wish::default() };
    Attempt { result: certificate(session, &wish).await, reason }
}

/// Holds every attempt against the log.
///
/// # Panics
/// When the client holds a certificate that the log does not have, or not with a grant before it.
pub(super) fn compare(attempts: &[Attempt], log: &[AuditEntry]) -> Landed {
    let mut grants = BTreeMap::new();
    let mut outcomes = BTreeMap::new();
    for entry in log {
        match (entry.kind.as_str(), entry.grant_id) {
            ("grant", Some(id)) => drop(grants.insert(entry.detail["reason"].as_str(), (id, entry.index))),
            ("issued" | "issue-failed", Some(id)) => drop(outcomes.insert(id, entry)),
            _ => {}
        }
    }
    let mut landed = Landed::default();
    let mut seen = HashSet::new();
    for Attempt { reason, result } in attempts {
        let grant = grants.get(reason.as_str());
        let outcome = grant.and_then(|(id, _)| outcomes.get(id));
        match result {
            Ok(held) => {
                let (id, at) = grant.unwrap_or_else(|| panic!("the log has no grant for {reason}"));
                let issued = outcome.unwrap_or_else(|| panic!("the log does not have the certificate of {reason}"));
                assert_eq!((issued.kind.as_str(), *id), ("issued", held.answer.grant_id), "{reason}");
                assert!(*at < issued.index, "{reason}: the grant comes after the certificate");
                assert_eq!(issued.detail["fingerprint"], fingerprint(held), "{reason}");
                assert!(seen.insert(*id), "{reason}: one grant, two certificates");
            }
            Err(_) => match (grant, outcome.map(|entry| entry.kind.as_str())) {
                (None, _) => landed.before_the_grant += 1,
                (Some(_), None) => landed.before_the_outcome += 1,
                (Some(_), Some("issued")) => landed.before_the_answer += 1,
                (Some(_), Some(_)) => landed.failed += 1,
            },
        }
    }
    landed
}

fn fingerprint(held: &Held) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(held.answer.certificate.as_bytes()).unwrap();
    data_encoding::HEXLOWER.encode(&Sha256::digest(&pem.contents))
}
