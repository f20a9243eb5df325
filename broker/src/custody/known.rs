//! The CAs that the audit log knows. Whoever writes the vault's folder can seal a CA of their own there, since sealing needs no secret;
//! what they cannot write is the log. So a cluster's CA is used only where the log names it.

use std::collections::{BTreeMap, BTreeSet};

use ichor_wire::profile::CaCertificate;

use crate::domain::ClusterName;

/// The digest by which an entry names a CA that was brought into custody: SHA-256 of its certificate, lower-case hex.
pub const CERTIFICATE: &str = "certificate";

/// What the digests begin with by which an entry names CAs that are to issue no more.
pub const RETIRED: &str = "retired certificate";

/// The CAs of each cluster that entries name, as far as the log was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownCas {
    /// The place in the log from which it is to be read on.
    pub next: u64,
    clusters: BTreeMap<String, Known>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Fingerprints, in the order in which they were last named.
    certificates: Vec<String>,
    retired: BTreeSet<String>,
}

/// What the log says of a CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Familiar {
    /// It names it.
    Named,
    /// It names none of this cluster's.
    First,
}

/// A CA that the log does not know as this cluster's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignCa {
    /// It names others.
    #[error(
        "what lies in custody for cluster `{cluster}` is the CA with the certificate sha256 {found}, which the audit log does not know: \
         it names {known}; someone else may have put it there. Restore the vault from a backup and look at who can write its folder, or, \
         where this CA is meant, say so with `ichor-broker ca record {cluster} --certificate {found} --reason …`"
    )]
    Unknown {
        /// The cluster.
        cluster: ClusterName,
        /// The fingerprint of what was opened.
        found: String,
        /// The fingerprints that the log names.
        known: String,
    },
    /// It says that this one was retired.
    #[error(
        "what lies in custody for cluster `{cluster}` is the CA with the certificate sha256 {found}, which was retired by an entry of \
         the audit log; someone may have put it back. Restore the vault from a newer backup, or make a new CA with `ichor-broker ca \
         create {cluster} --replace --reason …`"
    )]
    Retired {
        /// The cluster.
        cluster: ClusterName,
        /// Its fingerprint.
        found: String,
    },
}

// === impl KnownCas ===

impl KnownCas {
    /// Takes in what one entry about CAs says, oldest first.
    pub fn learn(&mut self, cluster: &str, digests: &BTreeMap<String, String>) {
        let retired = digests.iter().filter(|(name, _)| name.starts_with(RETIRED)).map(|(_, digest)| digest);
        let (retired, named): (Vec<_>, _) = (retired.cloned().collect(), digests.get(CERTIFICATE));
        if retired.is_empty() && named.is_none() {
            return;
        }
        let known = self.clusters.entry(cluster.to_owned()).or_default();
        known.retired.extend(retired);
        if let Some(named) = named {
            known.retired.remove(named);
            known.certificates.retain(|certificate| certificate != named);
            known.certificates.push(named.clone());
        }
    }

    /// What the log says of this CA as that cluster's.
    ///
    /// # Errors
    /// When it names others and not this one, or says that it was retired.
    pub fn check(&self, cluster: &ClusterName, certificate: &CaCertificate) -> Result<Familiar, ForeignCa> {
        self.check_fingerprint(cluster, fingerprint(certificate))
    }

    /// The same of a certificate by its fingerprint: a standing credential's stands among the CAs' in the log, and is told from
    /// them by what it is.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_fingerprint(&self, cluster: &ClusterName, found: String) -> Result<Familiar, ForeignCa> {
        let Some(known) = self.clusters.get(cluster.as_str()) else { return Ok(Familiar::First) };
        if known.retired.contains(&found) {
            return Err(ForeignCa::Retired { cluster: cluster.clone(), found });
        }
        match known.certificates.as_slice() {
            [] => Ok(Familiar::First),
            named if named.contains(&found) => Ok(Familiar::Named),
            named => Err(ForeignCa::Unknown { cluster: cluster.clone(), found, known: named.join(", ") }),
        }
    }

    /// The fingerprint of the CA that the newest entry of this cluster names.
    #[must_use]
    pub fn newest(&self, cluster: &ClusterName) -> Option<&str> {
        self.clusters.get(cluster.as_str())?.certificates.last().map(String::as_str)
    }
}

/// SHA-256 of a CA's certificate, lower-case hex.
pub(super) fn fingerprint(certificate: &CaCertificate) -> String {
    data_encoding::HEXLOWER.encode(&certificate.fingerprint())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::ca;

    fn made(cluster: &ClusterName) -> CaCertificate {
        ca::create(cluster, "2026-11-22T12:00:00Z".parse().unwrap(), 5).unwrap().certificate().clone()
    }

    fn digests(name: &str, certificate: &CaCertificate) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), fingerprint(certificate))])
    }

    #[test]
    fn a_ca_that_the_log_does_not_name_is_foreign_where_it_names_another() {
        let cluster = ClusterName::new("prod").unwrap();
        let (own, other) = (made(&cluster), made(&cluster));
        let mut known = KnownCas::default();
        assert_eq!(known.check(&cluster, &other), Ok(Familiar::First));
        known.learn("dev", &digests(CERTIFICATE, &other));
        assert_eq!(
            known.check(&cluster, &other),
            Ok(Familiar::First),
            "another cluster's entry says nothing of this one"
        );
        known.learn("prod", &digests(CERTIFICATE, &own));
        assert_eq!(known.check(&cluster, &own), Ok(Familiar::Named));
        let said = known.check(&cluster, &other).unwrap_err().to_string();
        assert!(said.contains(&fingerprint(&own)) && said.contains(&fingerprint(&other)), "{said}");
        // named by an entry of its own
        known.learn("prod", &digests(CERTIFICATE, &other));
        assert_eq!(known.check(&cluster, &other), Ok(Familiar::Named));
        assert_eq!(known.check(&cluster, &own), Ok(Familiar::Named));
        assert_eq!(known.newest(&cluster), Some(&*fingerprint(&other)));
    }

    #[test]
    fn a_retired_ca_stays_retired_until_it_is_brought_in_again() {
        let cluster = ClusterName::new("prod").unwrap();
        let own = made(&cluster);
        let mut known = KnownCas::default();
        known.learn("prod", &digests(CERTIFICATE, &own));
        known.learn("prod", &digests(&format!("{RETIRED} 2"), &own));
        assert!(matches!(known.check(&cluster, &own), Err(ForeignCa::Retired { .. })));
        known.learn("prod", &digests(CERTIFICATE, &own));
        assert_eq!(known.check(&cluster, &own), Ok(Familiar::Named));
    }
}
