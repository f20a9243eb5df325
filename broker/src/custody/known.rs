//! The CAs that the audit log knows. Whoever writes the vault's folder can seal a CA of their own there, since sealing needs no secret;
//! what they cannot write is the log. So a cluster's CA is used only where the log names it.

use std::collections::{BTreeMap, BTreeSet};

use ichor_wire::profile::CaCertificate;
use sha2::{Digest, Sha256};

use crate::domain::ClusterName;

/// The digest by which an entry names a CA that was brought into custody: SHA-256 of its certificate, lower-case hex.
pub const CERTIFICATE: &str = "certificate";

/// The digest by which an entry names a CA that it is about and does not bring into custody, as one that moves. Names it as [`CERTIFICATE`]
/// does, but brings none back that was retired: whoever moves it may not have seen that.
pub const ABOUT: &str = "certificate that it is about";

/// The digest by which such an entry names its key: SHA-256 of the SubjectPublicKeyInfo, lower-case hex.
pub const PUBLIC_KEY: &str = "public key";

/// The digest by which such an entry names the secret of KV that the CA lies in: new versions are published there. [`kv_place`].
pub const KV_PLACE: &str = "secret of KV";

/// The digest by which an entry says that the cluster makes the certificates from then on, of the CA that asks it.
pub const DELEGATED: &str = "certificate that the cluster is asked with";

/// The digest by which an entry says that a CA, which an entry before named, was not brought into custody after all.
pub const WITHDRAWN: &str = "certificate that was not brought";

/// The digest by which an entry that names a CA, and the one that says it failed, name their act: random, hex.
pub const ACT: &str = "act";

/// What the digests begin with by which an entry names CAs that are to issue no more.
pub const RETIRED: &str = "retired certificate";

/// The CAs of each cluster that entries name, as far as the log was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownCas {
    /// The place in the log from which it is to be read on.
    pub next: u64,
    clusters: BTreeMap<String, Known>,
}

/// What entries say of one cluster's CAs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// What each said, oldest first, but for what failed.
    said: Vec<Said>,
    /// What follows from them.
    so: So,
}

/// What one entry says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    /// Its act; entries of earlier builds have none.
    act: Option<String>,
    retired: Vec<String>,
    /// The fingerprint that it names.
    named: Option<String>,
    /// Whether as one that is brought into custody.
    is_brought: bool,
    /// The fingerprint of its key.
    key: Option<String>,
    /// The secret of KV that it lies in.
    in_kv: Option<String>,
    is_delegated: bool,
}

/// What is so once entries said what they did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct So {
    /// Fingerprints, in the order in which they were last named.
    certificates: Vec<String>,
    retired: BTreeSet<String>,
    /// The fingerprints of their keys, by theirs.
    keys: BTreeMap<String, String>,
    /// The secrets of KV that they lie in, by theirs.
    places: BTreeMap<String, String>,
    is_delegated: bool,
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
    /// It names none of this cluster's that has been published there, and this key as another's.
    #[error(
        "what lies in custody for cluster `{cluster}` has the key of cluster `{other}`'s CA, as the audit log names it: whoever may do something \
         on the one could do it on the other. Someone may have copied the record: restore the vault from a backup, or, where both do have \
         one CA, say so with `ichor-broker ca record {cluster} --certificate {found} --reason …`"
    )]
    OthersKey {
        /// The cluster.
        cluster: ClusterName,
        /// Whose key it is.
        other: String,
        /// The fingerprint of what was opened.
        found: String,
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
    /// Takes in what one entry about CAs says, oldest first. What failed is as though it had never been said, whatever was said since: it
    /// neither makes a CA known nor brings a retired one back, and undoes nothing of another act.
    pub fn learn(&mut self, cluster: &str, digests: &BTreeMap<String, String>) {
        let (said, withdrawn) = (Said::of(digests), digests.get(WITHDRAWN));
        let says_something = said.named.is_some() || said.is_delegated || !said.retired.is_empty();
        if !says_something && withdrawn.is_none() {
            return;
        }
        let known = self.clusters.entry(cluster.to_owned()).or_default();
        if let Some(withdrawn) = withdrawn {
            known.withdraw(withdrawn, said.act.as_deref());
        }
        if says_something {
            known.so.take(&said);
            known.said.push(said);
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
        let Some(known) = self.so(cluster) else { return Ok(Familiar::First) };
        if known.retired.contains(&found) {
            return Err(ForeignCa::Retired { cluster: cluster.clone(), found });
        }
        match known.certificates.as_slice() {
            [] => Ok(Familiar::First),
            named if named.contains(&found) => Ok(Familiar::Named),
            named => Err(ForeignCa::Unknown { cluster: cluster.clone(), found, known: named.join(", ") }),
        }
    }

    /// The fingerprint of the CA that the newest entry of this cluster names, of those that were not retired.
    #[must_use]
    pub fn newest(&self, cluster: &ClusterName) -> Option<&str> {
        let known = self.so(cluster)?;
        let mut named = known.certificates.iter().rev().filter(|named| !known.retired.contains(*named));
        named.next().map(String::as_str)
    }

    /// The fingerprints that entries of this cluster name, of those that were not retired.
    pub fn in_use(&self, cluster: &ClusterName) -> impl Iterator<Item = &str> {
        let known = self.so(cluster);
        let named = known.into_iter().flat_map(|known| known.certificates.iter().map(move |named| (known, named)));
        named.filter(|(known, named)| known.is_in_use(named)).map(|(_, named)| named.as_str())
    }

    /// Whether entries say that the CA was retired, and none after them that it is one of this cluster's.
    #[must_use]
    pub fn is_retired(&self, cluster: &ClusterName, fingerprint: &str) -> bool {
        self.so(cluster).is_some_and(|known| known.retired.contains(fingerprint))
    }

    /// The other clusters with a CA that has this key (SubjectPublicKeyInfo, DER) and was not retired.
    pub fn others_with_key(&self, but: &ClusterName, public_key: &[u8]) -> impl Iterator<Item = &str> {
        let key = data_encoding::HEXLOWER.encode(&Sha256::digest(public_key));
        let others = self.clusters.iter().filter(move |(name, _)| name.as_str() != but.as_str());
        let has_it = move |so: &So| so.keys.iter().any(|(named, it)| *it == key && so.is_in_use(named));
        others.filter(move |(_, known)| has_it(&known.so)).map(|(name, _)| name.as_str())
    }

    /// Whether a CA of this cluster that was not retired lies in this secret of KV, so that new versions are published there.
    #[must_use]
    pub fn is_published_at(&self, cluster: &ClusterName, place: &str) -> bool {
        let known = self.so(cluster);
        let is_there =
            |(named, there): (&String, &String)| there == place && known.is_some_and(|it| it.is_in_use(named));
        known.is_some_and(|known| known.places.iter().any(is_there))
    }

    /// What the log says of the secret of KV that this CA of the cluster lies in, if it does: [`kv_place`].
    #[must_use]
    pub fn secret_of(&self, cluster: &ClusterName, fingerprint: &str) -> Option<&str> {
        self.so(cluster)?.places.get(fingerprint).map(String::as_str)
    }

    /// Whether an entry says that the cluster makes the certificates itself, asked with its CA's.
    #[must_use]
    pub fn is_delegated(&self, cluster: &ClusterName) -> bool {
        self.so(cluster).is_some_and(|known| known.is_delegated)
    }

    /// Whether a CA of this cluster that was retired has this key (SubjectPublicKeyInfo, DER).
    #[must_use]
    pub fn has_retired(&self, cluster: &ClusterName, public_key: &[u8]) -> bool {
        let key = data_encoding::HEXLOWER.encode(&Sha256::digest(public_key));
        let known = self.so(cluster);
        known.is_some_and(|known| known.retired.iter().any(|retired| known.keys.get(retired) == Some(&key)))
    }

    /// Whether this CA of the cluster may have issued, as the log has it: it was brought into custody, or named more than once, as one is that
    /// takes another's place. One that is to come by a rotation was named once, when it was made.
    #[must_use]
    pub fn may_have_issued(&self, cluster: &ClusterName, fingerprint: &str) -> bool {
        let said = self.clusters.get(cluster.as_str()).map(|known| known.said.as_slice()).unwrap_or_default();
        let mut named = said.iter().filter(|said| said.named.as_deref() == Some(fingerprint));
        named.next().is_some_and(|first| first.is_brought || named.next().is_some())
    }

    /// As [`Self::newest`], where it is another CA than this one: a command at another broker may have put that one in force.
    #[must_use]
    pub fn newer(&self, cluster: &ClusterName, certificate: &CaCertificate) -> Option<&str> {
        self.newest(cluster).filter(|newest| *newest != fingerprint(certificate))
    }

    fn so(&self, cluster: &ClusterName) -> Option<&So> {
        self.clusters.get(cluster.as_str()).map(|known| &known.so)
    }
}

// === impl Known ===

impl Known {
    /// Takes back what an act said of this CA; without its name, as in entries of earlier builds, what was said last.
    fn withdraw(&mut self, withdrawn: &str, act: Option<&str>) {
        let is_it = |said: &Said| said.named.as_deref() == Some(withdrawn) && said.act.as_deref() == act;
        let Some(it) = self.said.iter().rposition(is_it) else { return };
        self.said.remove(it);
        self.so = So::default();
        self.said.iter().for_each(|said| self.so.take(said));
    }
}

// === impl Said ===

impl Said {
    fn of(digests: &BTreeMap<String, String>) -> Self {
        let retired = digests.iter().filter(|(name, _)| name.starts_with(RETIRED)).map(|(_, digest)| digest.clone());
        let (brought, told) = (digests.get(CERTIFICATE), |name| digests.get(name).cloned());
        Self {
            act: told(ACT),
            retired: retired.collect(),
            named: brought.cloned().or_else(|| told(ABOUT)),
            is_brought: brought.is_some(),
            key: told(PUBLIC_KEY),
            in_kv: told(KV_PLACE),
            is_delegated: digests.contains_key(DELEGATED),
        }
    }
}

// === impl So ===

impl So {
    fn is_in_use(&self, named: &String) -> bool {
        self.certificates.contains(named) && !self.retired.contains(named)
    }

    fn take(&mut self, said: &Said) {
        self.retired.extend(said.retired.iter().cloned());
        self.is_delegated |= said.is_delegated;
        let Some(named) = &said.named else { return };
        if said.is_brought {
            self.retired.remove(named);
        }
        self.certificates.retain(|certificate| certificate != named);
        self.certificates.push(named.clone());
        self.keys.extend(said.key.iter().map(|key| (named.clone(), key.clone())));
        // named without one, it is in KV no more
        match &said.in_kv {
            Some(place) => drop(self.places.insert(named.clone(), place.clone())),
            None => drop(self.places.remove(named)),
        }
    }
}

/// What an entry says of a secret of KV: SHA-256 of where it is, lower-case hex.
#[must_use]
pub fn kv_place(server: &str, mount: &str, path: &str) -> String {
    // none of the three can hold a line break
    data_encoding::HEXLOWER.encode(&Sha256::digest(format!("ichor secret of KV\n{server}\n{mount}\n{path}")))
}

/// SHA-256 of a CA's certificate, lower-case hex.
pub(super) fn fingerprint(certificate: &CaCertificate) -> String {
    data_encoding::HEXLOWER.encode(&certificate.fingerprint())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::ca::{self, CaFacts};

    fn made(cluster: &ClusterName) -> CaCertificate {
        ca::create(cluster, "2026-11-22T12:00:00Z".parse().unwrap(), 5).unwrap().certificate().clone()
    }

    fn digests(name: &str, certificate: &CaCertificate) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), fingerprint(certificate))])
    }

    #[test]
    fn an_entry_about_a_ca_names_it_and_brings_none_back_that_was_retired() {
        let cluster = ClusterName::new("prod").unwrap();
        let (own, other) = (made(&cluster), made(&cluster));
        let mut known = KnownCas::default();
        known.learn("prod", &digests(ABOUT, &other));
        assert_eq!(known.check(&cluster, &other), Ok(Familiar::Named));
        known.learn("prod", &digests(CERTIFICATE, &own));
        known.learn("prod", &digests(&format!("{RETIRED} 1"), &own));
        // as of a command that began before that: whether it was done or failed then
        known.learn("prod", &digests(ABOUT, &own));
        let retired = |known: &KnownCas| matches!(known.check(&cluster, &own), Err(ForeignCa::Retired { .. }));
        assert!(retired(&known) && known.newest(&cluster) == Some(&*fingerprint(&other)));
        known.learn("prod", &digests(WITHDRAWN, &own));
        assert!(retired(&known));
        // retired between the two entries of a command that failed
        known.learn("prod", &digests(CERTIFICATE, &own));
        known.learn("prod", &digests(ABOUT, &own));
        known.learn("prod", &digests(&format!("{RETIRED} 1"), &own));
        known.learn("prod", &digests(WITHDRAWN, &own));
        known.learn("prod", &digests(WITHDRAWN, &own));
        assert!(retired(&known));
        // who means it says so
        known.learn("prod", &digests(CERTIFICATE, &own));
        assert_eq!(known.check(&cluster, &own), Ok(Familiar::Named));
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
        let key = CaFacts::of(&own).key_fingerprint;
        let both = digests(CERTIFICATE, &own).into_iter().chain([(PUBLIC_KEY.to_owned(), key)]).collect();
        known.learn("prod", &both);
        assert!(!known.has_retired(&cluster, own.public_key()));
        known.learn("prod", &digests(&format!("{RETIRED} 2"), &own));
        assert!(matches!(known.check(&cluster, &own), Err(ForeignCa::Retired { .. })));
        assert!(
            known.has_retired(&cluster, own.public_key()) && !known.has_retired(&cluster, made(&cluster).public_key())
        );
        known.learn("prod", &digests(CERTIFICATE, &own));
        assert_eq!(known.check(&cluster, &own), Ok(Familiar::Named));
    }

    #[test]
    fn new_versions_are_published_only_where_the_log_has_a_ca_of_the_cluster() {
        let cluster = ClusterName::new("prod").unwrap();
        let (own, here) = (made(&cluster), kv_place("main", "secret", "ichor/prod"));
        let in_kv = || digests(CERTIFICATE, &own).into_iter().chain([(KV_PLACE.to_owned(), here.clone())]).collect();
        let mut known = KnownCas::default();
        known.learn("prod", &digests(CERTIFICATE, &made(&cluster)));
        assert!(!known.is_published_at(&cluster, &here));
        known.learn("prod", &in_kv());
        assert!(known.is_published_at(&cluster, &here));
        assert!(!known.is_published_at(&cluster, &kv_place("main", "secret", "ichor/dev")));
        assert!(!known.is_published_at(&ClusterName::new("dev").unwrap(), &here));
        // retired, or moved elsewhere
        let mut retired = known.clone();
        retired.learn("prod", &digests(&format!("{RETIRED} 1"), &own));
        assert!(!retired.is_published_at(&cluster, &here));
        known.learn("prod", &digests(CERTIFICATE, &own));
        assert!(!known.is_published_at(&cluster, &here));
        assert!(!known.is_delegated(&cluster));
        known.learn("prod", &digests(DELEGATED, &own));
        assert!(known.is_delegated(&cluster));
    }

    #[test]
    fn what_was_not_brought_in_after_all_is_as_it_was_before() {
        let cluster = ClusterName::new("prod").unwrap();
        let (own, retired, other) = (made(&cluster), made(&cluster), made(&cluster));
        let mut known = KnownCas::default();
        known.learn("prod", &digests(CERTIFICATE, &retired));
        known.learn("prod", &digests(CERTIFICATE, &own));
        known.learn("prod", &digests(&format!("{RETIRED} 1"), &retired));
        assert_eq!(known.newer(&cluster, &own), None);
        for failed in [&retired, &other, &own] {
            known.learn("prod", &digests(CERTIFICATE, failed));
            assert_eq!(known.newest(&cluster), Some(&*fingerprint(failed)));
            known.learn("prod", &digests(WITHDRAWN, failed));
            assert_eq!(known.newest(&cluster), Some(&*fingerprint(&own)));
            assert!(matches!(known.check(&cluster, &retired), Err(ForeignCa::Retired { .. })));
            assert!(matches!(known.check(&cluster, &other), Err(ForeignCa::Unknown { .. })));
            assert_eq!(known.check(&cluster, &own), Ok(Familiar::Named));
        }
        // nor where one act lies within another, as those of an import do
        for digest in [CERTIFICATE, CERTIFICATE, WITHDRAWN, WITHDRAWN] {
            known.learn("prod", &digests(digest, &retired));
        }
        assert!(matches!(known.check(&cluster, &retired), Err(ForeignCa::Retired { .. })));
        assert_eq!(known.newest(&cluster), Some(&*fingerprint(&own)));
        // nor does what failed move one out of KV, or have the cluster make the certificates
        let place = kv_place("main", "secret", "ca");
        let with = |names: &[&str]| -> BTreeMap<String, String> {
            let more = names.iter().map(|name| ((*name).to_owned(), place.clone()));
            digests(CERTIFICATE, &own).into_iter().chain(more).collect()
        };
        known.learn("prod", &with(&[KV_PLACE]));
        for failed in [with(&[]), with(&[KV_PLACE, DELEGATED])] {
            known.learn("prod", &failed);
            known.learn("prod", &digests(WITHDRAWN, &own));
            assert!(known.is_published_at(&cluster, &place) && !known.is_delegated(&cluster));
        }
        known.learn("prod", &with(&[KV_PLACE, DELEGATED]));
        known.learn("prod", &with(&[KV_PLACE]));
        known.learn("prod", &digests(WITHDRAWN, &own));
        assert!(known.is_delegated(&cluster), "what was so before stays");
        // one that issues while another was named later is told so
        known.learn("prod", &digests(CERTIFICATE, &other));
        assert_eq!(known.newer(&cluster, &own), Some(&*fingerprint(&other)));
        assert_eq!(known.newer(&cluster, &other), None);
    }

    #[test]
    fn of_acts_that_overlap_each_takes_back_what_it_said_itself() {
        let cluster = ClusterName::new("prod").unwrap();
        let own = made(&cluster);
        let (one, two) = (kv_place("main", "secret", "one"), kv_place("main", "secret", "two"));
        let says = |act: &str, name: &str, more: &[(&str, &str)]| -> BTreeMap<String, String> {
            let more = more.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned()));
            digests(name, &own).into_iter().chain([(ACT.to_owned(), act.to_owned())]).chain(more).collect()
        };
        let retired = format!("{RETIRED} 1");
        let after = |entries: &[BTreeMap<String, String>]| {
            let mut known = KnownCas::default();
            entries.iter().for_each(|entry| known.learn("prod", entry));
            known
        };
        let is_retired = |known: &KnownCas| matches!(known.check(&cluster, &own), Err(ForeignCa::Retired { .. }));
        let end = || says("r", &retired, &[]);
        // an act about a CA keeps none in use that another one failed to bring back, whichever of them ends first
        let begun = [says("0", CERTIFICATE, &[]), end(), says("a", CERTIFICATE, &[]), says("b", ABOUT, &[])];
        let failed = |acts: &[&str]| {
            let ends = acts.iter().map(|act| says(act, WITHDRAWN, &[]));
            after(&begun.iter().cloned().chain(ends).collect::<Vec<_>>())
        };
        assert!(is_retired(&failed(&["a"])) && is_retired(&failed(&["a", "b"])) && is_retired(&failed(&["b", "a"])));
        assert!(!is_retired(&failed(&["b"])) && !is_retired(&failed(&[])));
        // none that fails ends what another one of its kind brought
        let entries = [says("a", CERTIFICATE, &[]), end(), says("b", CERTIFICATE, &[]), says("a", WITHDRAWN, &[])];
        assert!(!is_retired(&after(&entries)));
        // nor makes known what nothing else does
        let entries =
            [says("a", CERTIFICATE, &[]), says("b", ABOUT, &[]), says("a", WITHDRAWN, &[]), says("b", WITHDRAWN, &[])];
        assert_eq!(after(&entries).check(&cluster, &own), Ok(Familiar::First));
        // a place in KV, and who makes the certificates, are those of the act that was done
        let at = |act, place: &str| says(act, ABOUT, &[(KV_PLACE, place)]);
        for (fails, (is, is_not)) in [("a", (&two, &one)), ("b", (&one, &two))] {
            let known = after(&[at("a", &one), at("b", &two), says(fails, WITHDRAWN, &[])]);
            assert!(known.is_published_at(&cluster, is) && !known.is_published_at(&cluster, is_not));
        }
        let delegates = || says("d", ABOUT, &[(DELEGATED, "x")]);
        let known = after(&[says("a", ABOUT, &[]), delegates(), says("a", WITHDRAWN, &[])]);
        assert!(known.is_delegated(&cluster));
        let known = after(&[delegates(), says("a", CERTIFICATE, &[]), says("d", WITHDRAWN, &[])]);
        assert!(!known.is_delegated(&cluster) && known.check(&cluster, &own) == Ok(Familiar::Named));
    }
}
