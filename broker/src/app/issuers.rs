//! The issuers of the clusters whose CA is in custody, opened at the start and anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use ichor_wire::profile::CaCertificate;
use jiff::{SignedDuration, Timestamp};

use super::digests::Files;
use crate::config::Settings;
use crate::custody::{Vault, VaultError};
use crate::domain::{ClusterName, Clusters};
use crate::issuer::{Issuer, LocalCa};
use crate::mint::Issuers;
use crate::readiness::Check;

/// A CA whose end is nearer than this is warned of.
const NEAR_END: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The issuers after a look into the vault, and what became of each cluster's.
pub(super) struct Opened {
    /// One for each cluster whose CA is in custody.
    pub(super) issuers: Issuers,
    /// A line for each cluster.
    pub(super) checks: Vec<Check>,
    /// The files of what is in force then.
    pub(super) in_force: Files,
    /// Whether an issuer is another than before.
    pub(super) changed: bool,
    /// What is wrong with the CAs that are there and cannot be opened.
    pub(super) refused: Vec<String>,
}

/// Opens the CA of each cluster. What was not touched since stays; a file that is there and bad leaves the issuer as it was,
/// one that is gone ends it.
pub(super) fn open(
    settings: &Settings,
    vault: &Vault,
    clusters: &Clusters,
    before: &Issuers,
    (then, now): (&Files, &Files),
    time: Timestamp,
) -> Opened {
    let mut issuers: BTreeMap<ClusterName, Arc<dyn Issuer>> = BTreeMap::new();
    let (mut checks, mut refused, mut in_force) = (Vec::new(), Vec::new(), Files::new());
    let mut changed = before.keys().any(|name| !clusters.contains_key(name));
    for name in clusters.keys() {
        let file = format!("{name}.age");
        let old = before.get(name);
        let (ok, detail) = match vault.open_ca(name) {
            Ok(material) => {
                let warning = ca_warning(material.certificate(), time);
                let (certificate, signer) = material.into_parts();
                changed |= old.is_none() || then.get(&file) != now.get(&file);
                issuers.insert(name.clone(), Arc::new(LocalCa::new(Arc::new(signer), certificate, settings.backdate)));
                in_force.extend(now.get(&file).map(|digest| (file, digest.clone())));
                (true, warning)
            }
            Err(error @ VaultError::Missing(_)) => {
                changed |= old.is_some();
                (false, Some(error.to_string()))
            }
            Err(error) => {
                if let Some(old) = old {
                    issuers.insert(name.clone(), Arc::clone(old));
                }
                let stays = if old.is_some() { "; the CA opened before stays in force" } else { "" };
                in_force.extend(then.get(&file).map(|digest| (file, digest.clone())));
                refused.push(format!("cluster `{name}`: {error}"));
                (false, Some(format!("{error}{stays}")))
            }
        };
        checks.push(Check { name: check_name(name), ok, required: false, detail });
    }
    Opened { issuers: Arc::new(issuers), checks, in_force, changed, refused }
}

/// The name of a cluster's check.
pub(super) fn check_name(cluster: &ClusterName) -> String {
    format!("ca {cluster}")
}

/// What an operator should know of a CA: that its end is near, or past.
#[must_use]
pub fn ca_warning(certificate: &CaCertificate, now: Timestamp) -> Option<String> {
    let end = certificate.not_after();
    let left = end.duration_since(now);
    if left.is_negative() {
        return Some(format!(
            "it expired at {end}; nothing can be issued: make a new one with `ichor-broker ca create`"
        ));
    }
    (left < NEAR_END).then(|| format!("it expires at {end}; make a new one with `ichor-broker ca create` before that"))
}
