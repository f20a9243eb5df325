//! The issuers of the clusters whose CA is in custody, opened at the start and anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use ichor_wire::profile::CaCertificate;
use jiff::{SignedDuration, Timestamp};

use super::digests::Files;
use crate::clock::SharedClock;
use crate::config::Settings;
use crate::custody::{Vault, VaultError};
use crate::domain::{Cluster, ClusterName, Clusters};
use crate::issuer::talos_api::{Credential, TalosApiError};
use crate::issuer::{Issuer, LocalCa, TalosApi};
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
    clock: &SharedClock,
) -> Opened {
    let time = clock.now();
    let mut issuers: BTreeMap<ClusterName, Arc<dyn Issuer>> = BTreeMap::new();
    let (mut checks, mut refused, mut in_force) = (Vec::new(), Vec::new(), Files::new());
    let mut changed = before.keys().any(|name| !clusters.contains_key(name));
    for (name, cluster) in clusters.iter() {
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
            Err(missing @ VaultError::Missing(_)) => {
                let file = adopted_file(name);
                let same = then.get(&file) == now.get(&file);
                match (adopted(vault, cluster, clock), old) {
                    (Ok((_, warning)), Some(old)) if same && old.serves(cluster) && then.contains_key(&file) => {
                        issuers.insert(name.clone(), Arc::clone(old));
                        in_force.extend(now.get(&file).map(|digest| (file, digest.clone())));
                        (true, warning)
                    }
                    (Ok((issuer, warning)), _) => {
                        changed = true;
                        issuers.insert(name.clone(), Arc::new(issuer));
                        in_force.extend(now.get(&file).map(|digest| (file, digest.clone())));
                        (true, warning)
                    }
                    (Err(AdoptedError::Vault(VaultError::Missing(_))), old) => {
                        changed |= old.is_some();
                        (false, Some(missing.to_string()))
                    }
                    (Err(error), old) => {
                        if let Some(old) = old {
                            issuers.insert(name.clone(), Arc::clone(old));
                        }
                        let stays = if old.is_some() { "; the credential opened before stays in force" } else { "" };
                        in_force.extend(then.get(&file).map(|digest| (file, digest.clone())));
                        refused.push(format!("cluster `{name}`: {error}"));
                        (false, Some(format!("{error}{stays}")))
                    }
                }
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

/// Why a cluster whose credential was adopted has no issuer.
#[derive(Debug, thiserror::Error)]
pub enum AdoptedError {
    /// The credential is not in the vault, or does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// It is expired, or cannot be used with this cluster.
    #[error(transparent)]
    Issuer(#[from] TalosApiError),
}

/// The issuer of a cluster whose own API makes the certificates, and what an operator should know of its credential. Nothing
/// is called.
///
/// # Errors
/// When there is no credential for it, or it cannot be used.
pub fn adopted(
    vault: &Vault,
    cluster: &Arc<Cluster>,
    clock: &SharedClock,
) -> Result<(TalosApi, Option<String>), AdoptedError> {
    let credential = vault.open_talos_credential(&cluster.name)?;
    credential.check_time(clock.now()).map_err(TalosApiError::from)?;
    let end = credential.not_after();
    let near = end.duration_since(clock.now()) < NEAR_END;
    let warning = near.then(|| {
        format!(
            "the standing credential expires at {end}; adopt a new one with `ichor-broker cluster add {} --adopt FILE \
             --replace` before that",
            cluster.name
        )
    });
    let issuer = TalosApi::new(Arc::clone(cluster), Credential::Standing(credential), Arc::clone(clock))?;
    Ok((issuer, warning))
}

/// How the digests name a cluster's standing credential.
fn adopted_file(cluster: &ClusterName) -> String {
    format!("secrets/talos-{cluster}.age")
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
