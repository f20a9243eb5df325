//! The issuers of the clusters whose CA is in custody, opened at the start and anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use ichor_wire::profile::CaCertificate;
use jiff::{SignedDuration, Timestamp};

use super::digests::Files;
use crate::clock::SharedClock;
use crate::config::Settings;
use crate::custody::{Custody, CustodyError, Means, Opened as Ca, Vault, VaultError};
use crate::domain::{Cluster, ClusterName, Clusters};
use crate::issuer::talos_api::{Credential, TalosApiError};
use crate::issuer::{Issuer, LocalCa, PkiCa, TalosApi};
use crate::mint::Issuers;
use crate::readiness::Check;

/// A CA whose end is nearer than this is warned of.
const NEAR_END: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The issuers after a look into custody, and what became of each cluster's.
pub(super) struct Opened {
    /// One for each cluster whose CA is in custody.
    pub(super) issuers: Issuers,
    /// What tells the CA behind each from another.
    pub(super) marks: Marks,
    /// A line for each cluster.
    pub(super) checks: Vec<Check>,
    /// The files of what is in force then.
    pub(super) in_force: Files,
    /// Whether an issuer is another than before.
    pub(super) changed: bool,
    /// What is wrong with the CAs that are there and cannot be opened.
    pub(super) refused: Vec<String>,
    /// Whether a server was out, so that another look is worth its while.
    pub(super) is_waiting: bool,
    /// The CAs whose end is near or past, and what to say of it.
    pub(super) ending: BTreeMap<ClusterName, String>,
}

/// By cluster, what tells its CA from another.
pub(super) type Marks = BTreeMap<ClusterName, String>;

/// What was in force before.
pub(super) struct Before<'a> {
    pub(super) issuers: &'a Issuers,
    pub(super) marks: &'a Marks,
    pub(super) files: &'a Files,
}

/// Opens the CA of each cluster. What is as it was stays; one that is there and cannot be opened leaves the issuer as it was,
/// one that is gone ends it.
pub(super) async fn open(
    settings: &Settings,
    custody: &Custody,
    clusters: &Clusters,
    before: Before<'_>,
    now: &Files,
    clock: &SharedClock,
) -> Opened {
    let time = clock.now();
    let mut opened = Opened {
        issuers: Issuers::default(),
        marks: Marks::new(),
        checks: Vec::new(),
        in_force: Files::new(),
        changed: before.issuers.keys().any(|name| !clusters.contains_key(name)),
        refused: Vec::new(),
        is_waiting: false,
        ending: BTreeMap::new(),
    };
    let mut issuers: BTreeMap<ClusterName, Arc<dyn Issuer>> = BTreeMap::new();
    let all = clusters.values().map(async |cluster| (cluster, custody.open(&cluster.name).await));
    for (cluster, found) in futures_util::future::join_all(all).await {
        let name = &cluster.name;
        let old = before.issuers.get(name);
        let files = [format!("{name}.age"), format!("{name}.toml")];
        let (ok, detail) = match found {
            Ok(ca) => {
                let is_same = before.marks.get(name) == Some(&ca.mark)
                    && files.iter().all(|file| before.files.get(file) == now.get(file));
                opened.changed |= !is_same || old.is_none();
                opened.marks.insert(name.clone(), ca.mark.clone());
                let end = ca_warning(&ca.certificate, time);
                opened.ending.extend(end.clone().map(|warning| (name.clone(), warning)));
                #[expect(clippy::cast_precision_loss, reason = "seconds of our time fit into a float's 53 bits")]
                metrics::gauge!("ichor_ca_not_after_seconds", "cluster" => name.to_string())
                    .set(ca.certificate.not_after().as_second() as f64);
                let warnings: Vec<_> = end.into_iter().chain(ca.warnings.clone()).collect();
                let issuer = match old {
                    Some(old) if is_same => Arc::clone(old),
                    _ => issuer(settings.backdate, ca),
                };
                issuers.insert(name.clone(), issuer);
                for file in files {
                    opened.in_force.extend(now.get(&file).map(|digest| (file, digest.clone())));
                }
                (true, (!warnings.is_empty()).then(|| warnings.join("; ")))
            }
            Err(error) if error.may_be_adopted() => match adopted(custody.vault(), cluster, clock) {
                Ok((issuer, warning)) => {
                    let file = adopted_file(name);
                    let same = before.files.get(&file).is_some_and(|digest| now.get(&file) == Some(digest));
                    let old = old.filter(|old| same && old.serves(cluster));
                    opened.changed |= old.is_none();
                    issuers.insert(name.clone(), old.map_or_else(|| Arc::new(issuer) as Arc<dyn Issuer>, Arc::clone));
                    for file in files.into_iter().chain([file]) {
                        opened.in_force.extend(now.get(&file).map(|digest| (file, digest.clone())));
                    }
                    (true, warning)
                }
                Err(AdoptedError::Vault(VaultError::Missing(_))) => {
                    opened.changed |= old.is_some();
                    (false, Some(error.to_string()))
                }
                Err(error) => {
                    if let Some(old) = old {
                        issuers.insert(name.clone(), Arc::clone(old));
                    }
                    let file = adopted_file(name);
                    opened.in_force.extend(before.files.get(&file).map(|digest| (file, digest.clone())));
                    (false, Some(opened.refuse(name, &error, old.is_some())))
                }
            },
            Err(error) if error.is_none() => {
                opened.changed |= old.is_some();
                (false, Some(error.to_string()))
            }
            Err(error) => {
                if let Some(old) = old {
                    issuers.insert(name.clone(), Arc::clone(old));
                    opened.marks.extend(before.marks.get(name).map(|mark| (name.clone(), mark.clone())));
                }
                for file in files {
                    opened.in_force.extend(before.files.get(&file).map(|digest| (file, digest.clone())));
                }
                (false, Some(opened.note(name, &error, old.is_some())))
            }
        };
        opened.checks.push(Check { name: check_name(name), ok, required: false, detail });
    }
    opened.issuers = Arc::new(issuers);
    opened
}

impl Opened {
    /// What to say of a CA that is there and cannot be opened.
    fn note(&mut self, name: &ClusterName, error: &CustodyError, stays: bool) -> String {
        if error.is_passing() {
            // an outage is nothing that someone wrote: there is nothing to refuse
            self.is_waiting = true;
            return error.to_string();
        }
        self.refuse(name, error, stays)
    }

    fn refuse(&mut self, name: &ClusterName, error: &dyn std::fmt::Display, stays: bool) -> String {
        // without the server's request id, which differs each time: one refusal is recorded once
        let text = error.to_string();
        let text = text.split(" (request ").next().unwrap_or_default();
        self.refused.push(format!("cluster `{name}`: {text}"));
        let stays = if stays { "; the CA opened before stays in force" } else { "" };
        format!("{error}{stays}")
    }
}

pub(super) fn issuer(backdate: SignedDuration, ca: Ca) -> Arc<dyn Issuer> {
    match ca.means {
        Means::Pki(engine) => Arc::new(PkiCa::new(engine, ca.certificate)),
        Means::Signer(signer) => Arc::new(LocalCa::new(signer, ca.certificate, backdate)),
    }
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
        return Some(format!("it expired at {end}; nothing can be issued: replace it with `ichor-broker ca rotate`"));
    }
    (left < NEAR_END).then(|| format!("it expires at {end}; replace it with `ichor-broker ca rotate` before that"))
}
