//! What issues by a talosconfig's credential that was adopted, and when anything that issues ends.

use std::sync::Arc;

use ichor_wire::profile::CaCertificate;
use jiff::{SignedDuration, Timestamp};

use crate::clock::SharedClock;
use crate::custody::{Custody, Familiar, ForeignCa, KnownCas, VaultError};
use crate::domain::{Cluster, ClusterName};
use crate::issuer::TalosApi;
use crate::issuer::talos_api::{Credential, TalosApiError};

/// What ends sooner than this is warned of.
const NEAR_END: SignedDuration = SignedDuration::from_hours(60 * 24);

/// When what issues for a cluster ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// What an operator should know: that it is near, or past.
    pub said: Option<String>,
    /// Whether it is past, so that nothing can be issued.
    pub is_over: bool,
}

/// What issues by a credential that was adopted.
#[derive(Debug)]
pub struct Adopted {
    /// Asks the cluster.
    pub issuer: TalosApi,
    /// When the credential ends.
    pub end: End,
    /// SHA-256 of its certificate, lower-case hex.
    pub fingerprint: String,
}

/// Why a cluster whose credential was adopted has no issuer.
#[derive(Debug, thiserror::Error)]
pub enum AdoptedError {
    /// The credential is not in the vault, or does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// No entry of the log names it.
    #[error(
        "the standing credential of cluster `{cluster}` that lies in the vault has the certificate sha256 {found}, which no entry of the \
         audit log names: someone else may have put it there. Look at who can write the vault's folder and adopt the right one with \
         `ichor-broker cluster add {cluster} --adopt FILE --replace --reason …`, or, where this one is meant, say so with `ichor-broker \
         ca record {cluster} --certificate {found} --reason …`"
    )]
    Unnamed {
        /// The cluster.
        cluster: ClusterName,
        /// The fingerprint of what was opened.
        found: String,
    },
    /// An entry of the log says that it is used no more.
    #[error(
        "the standing credential of cluster `{cluster}` that lies in the vault has the certificate sha256 {found}, which was retired by an \
         entry of the audit log; someone may have put it back. Remove `secrets/talos-{cluster}.age` from the vault, or adopt a new one with \
         `ichor-broker cluster add {cluster} --adopt FILE --replace --reason …`"
    )]
    Retired {
        /// The cluster.
        cluster: ClusterName,
        /// Its fingerprint.
        found: String,
    },
    /// It is past its end.
    #[error("{}", .0.said.as_deref().unwrap_or("the standing credential expired"))]
    Over(End),
    /// It is not valid yet, or cannot be used with this cluster.
    #[error(transparent)]
    Issuer(#[from] TalosApiError),
}

/// The issuer of a cluster whose own API makes the certificates, and when its credential ends. Nothing is called.
///
/// # Errors
/// When there is no credential for it, the log does not name it (who adopts one has it recorded first), or it cannot be used.
pub async fn adopted(
    custody: &Custody,
    cluster: &Arc<Cluster>,
    known: &KnownCas,
    clock: &SharedClock,
) -> Result<Adopted, AdoptedError> {
    let credential = custody.talos_credential(&cluster.name).await?;
    let found = credential.fingerprint();
    match known.check_fingerprint(&cluster.name, found.clone()) {
        Ok(Familiar::Named) => {}
        Err(ForeignCa::Retired { cluster, found }) => return Err(AdoptedError::Retired { cluster, found }),
        _ => return Err(AdoptedError::Unnamed { cluster: cluster.name.clone(), found }),
    }
    let end = End::of_credential(&cluster.name, credential.not_after(), clock.now());
    if end.is_over {
        return Err(AdoptedError::Over(end));
    }
    credential.check_time(clock.now()).map_err(TalosApiError::from)?;
    let issuer = TalosApi::new(Arc::clone(cluster), Credential::Standing(credential), Arc::clone(clock))?;
    Ok(Adopted { issuer, end, fingerprint: found })
}

// === impl End ===

impl End {
    /// A CA's.
    #[must_use]
    pub fn of_ca(certificate: &CaCertificate, now: Timestamp) -> Self {
        let how =
            "replace it with `ichor-broker ca rotate` (the CA of a PKI engine by a second mount, see docs/custody.md)";
        Self::of("it", how, certificate.not_after(), now)
    }

    fn of_credential(cluster: &ClusterName, end: Timestamp, now: Timestamp) -> Self {
        let how = format!("adopt a new one with `ichor-broker cluster add {cluster} --adopt FILE --replace`");
        Self::of("the standing credential", &how, end, now)
    }

    fn of(what: &str, how: &str, at: Timestamp, now: Timestamp) -> Self {
        let left = at.duration_since(now);
        let is_over = left.is_negative();
        let said = match is_over {
            true => Some(format!("{what} expired at {at}; nothing can be issued: {how}")),
            false => (left < NEAR_END).then(|| format!("{what} expires at {at}; {how} before that")),
        };
        Self { at, said, is_over }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::ca;

    #[test]
    fn an_end_is_told_when_it_is_near_and_is_over_once_it_is_past() {
        let made: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let cluster = ClusterName::new("prod").unwrap();
        let material = ca::create(&cluster, made, 1).unwrap();
        let of = |time| End::of_ca(material.certificate(), time);
        let at = material.certificate().not_after();
        assert_eq!(of(made), End { at, said: None, is_over: false });
        let near = of(at - SignedDuration::from_hours(24 * 59));
        assert!(!near.is_over && near.said.is_some_and(|said| said.starts_with(&format!("it expires at {at}; "))));
        let past = of(at + SignedDuration::from_secs(1));
        assert!(past.is_over && past.said.is_some_and(|said| said.contains("nothing can be issued")));
        let credential = End::of_credential(&cluster, at, at + SignedDuration::from_secs(1)).said.unwrap();
        assert!(
            credential.starts_with("the standing credential expired at") && credential.contains("--adopt"),
            "{credential}"
        );
    }
}
