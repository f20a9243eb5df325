//! The issuers of the clusters whose CA is in custody, opened at the start and anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use ichor_wire::profile::CaCertificate;
use jiff::SignedDuration;

use super::adopted::{Adopted, AdoptedError, End, adopted};
use super::delegating::Delegating;
use super::digests::Files;
use super::looks::Looks;
use crate::clock::SharedClock;
use crate::custody::ca::CaFacts;
use crate::custody::{Custody, CustodyError, KnownCas, Means, OpenedCa, VaultError};
use crate::domain::{Cluster, ClusterName, Clusters};
use crate::issuer::{Issuer, LocalCa, PkiCa};
use crate::mint::Issuers;
use crate::readiness::Check;

/// The issuers after a look into custody, and what became of each cluster's.
pub(super) struct Opened {
    /// One for each cluster whose CA is in custody.
    pub(super) issuers: Issuers,
    /// What tells the CA behind each from another, and those behind issuers that ended.
    pub(super) marks: Marks,
    /// A line for each cluster.
    pub(super) checks: Vec<Check>,
    /// The files of what is in force then.
    pub(super) in_force: Files,
    /// Whether an issuer is another than before.
    pub(super) changed: bool,
    /// What is wrong with the CAs that are there and cannot be opened.
    pub(super) refused: Vec<String>,
    /// The same of those for which what was opened before is not used any longer either.
    pub(super) ended: Vec<String>,
    /// Whether a server was out, so that another look is worth its while.
    pub(super) is_waiting: bool,
    /// The CAs whose end is near or past, and what to say of it.
    pub(super) ending: BTreeMap<ClusterName, String>,
    /// The CAs that the log does not name yet.
    pub(super) unnamed: Vec<Unnamed>,
}

/// A CA that the log does not name yet, and what it is to be told of it.
pub(super) struct Unnamed {
    pub(super) cluster: ClusterName,
    pub(super) certificate: CaCertificate,
    pub(super) said: String,
    /// The secret of KV that it lies in.
    pub(super) in_kv: Option<String>,
}

impl OpenedCa {
    /// What the log is to be told of it, where no entry names it yet.
    pub(super) fn unnamed(&self) -> Option<Unnamed> {
        self.is_unnamed.then(|| Unnamed {
            cluster: self.cluster.clone(),
            certificate: self.certificate.clone(),
            said: self.mark.clone(),
            in_kv: self.in_kv.clone(),
        })
    }
}

/// By cluster, what tells its CA from another.
pub(super) type Marks = BTreeMap<ClusterName, Mark>;

/// What tells a CA from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Differs if and only if certificates are made in another way; of a standing credential that is told by its file.
    text: String,
    of: Of,
    /// The vault's file that holds the key, where one does: while that and the record are as they were, nothing is opened.
    file: Option<String>,
    is_rotating: bool,
}

/// What issues by it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    /// A CA.
    Ca(CaCertificate),
    /// A standing credential, whose certificate has this SHA-256, lower-case hex.
    Credential(String),
}

/// What was in force before, and which CAs the log knows by now.
pub(super) struct Before<'a> {
    pub(super) known: &'a KnownCas,
    pub(super) issuers: &'a Issuers,
    pub(super) marks: &'a Marks,
    pub(super) files: &'a Files,
}

/// Opens the CA of each cluster. What is as it was stays; one that is there and cannot be opened leaves the issuer as it was,
/// one that is gone, or whose key or roles are no longer guarded, ends it.
pub(super) async fn open(
    backdate: SignedDuration,
    custody: &Custody,
    clusters: &Clusters,
    before: Before<'_>,
    now: &Files,
    clock: &SharedClock,
    delegating: &Delegating,
) -> Opened {
    let time = clock.now();
    let mut opened = Opened {
        issuers: Issuers::default(),
        marks: Marks::new(),
        checks: Vec::new(),
        in_force: Files::new(),
        changed: before.issuers.keys().any(|name| !clusters.contains_key(name)),
        refused: Vec::new(),
        ended: Vec::new(),
        is_waiting: false,
        ending: BTreeMap::new(),
        unnamed: Vec::new(),
    };
    let mut issuers: BTreeMap<ClusterName, Arc<dyn Issuer>> = BTreeMap::new();
    let granted = delegating.policies.borrow().grantable();
    let looked_at = clusters.values().filter(|cluster| before.as_it_was(cluster, now).is_none());
    let looks = Looks { custody, known: before.known, granted: &granted };
    let mut found: BTreeMap<_, _> =
        looks.all(looked_at.map(|cluster| cluster.name.clone())).await.into_iter().collect();
    for cluster in clusters.values() {
        let name = &cluster.name;
        let Some(found) = found.remove(name) else {
            if let Some((issuer, mark, certificate)) = before.as_it_was(cluster, now) {
                let end = opened.note_end(name, End::of_ca(certificate, time));
                let warnings: Vec<_> = end.said.into_iter().chain(before.newer(name, mark)).collect();
                issuers.insert(name.clone(), Arc::clone(issuer));
                opened.take_files(now, mark.files(name));
                opened.marks.insert(name.clone(), mark.clone());
                let detail = (!warnings.is_empty()).then(|| warnings.join("; "));
                opened.checks.push(Check { name: check_name(name), ok: !end.is_over, required: false, detail });
            }
            continue;
        };
        let old = before.issuers.get(name);
        // what the log says needs neither server nor vault: whatever keeps a CA from being opened keeps none in use that was retired
        let is_retired = before.is_retired(name);
        let kept = old.filter(|_| !is_retired);
        let held = before.marks.get(name);
        // a CA that has no record any more is used no more, whatever became of a credential
        let is_credential = held.is_some_and(|mark| mark.ca().is_none());
        let files = [format!("{name}.age"), format!("{name}.toml")];
        let (ok, detail) = match found {
            Ok(ca) => {
                let mark = Mark {
                    text: ca.mark.clone(),
                    of: Of::Ca(ca.certificate.clone()),
                    file: ca.file.clone(),
                    is_rotating: ca.is_rotating,
                };
                let files = mark.files(name);
                let is_same = before.marks.get(name) == Some(&mark)
                    && files.iter().all(|file| before.files.get(file) == now.get(file));
                opened.changed |= !is_same || old.is_none();
                opened.unnamed.extend(ca.unnamed());
                let end = opened.note_end(name, End::of_ca(&ca.certificate, time));
                // one that the log does not name yet is named next, and is the newest then
                let newer = if ca.is_unnamed { None } else { before.newer(name, &mark) };
                opened.marks.insert(name.clone(), mark);
                let mut warnings: Vec<_> = end.said.into_iter().chain(newer).chain(ca.warnings.clone()).collect();
                let issuer = match old.filter(|old| is_same && old.serves(cluster)) {
                    Some(old) => Ok(Arc::clone(old)),
                    None if ca.is_delegated => delegating.through(cluster, issuer(backdate, ca), clock),
                    None => Ok(issuer(backdate, ca)),
                };
                let is_usable = issuer.is_ok() && !end.is_over;
                match issuer {
                    Ok(issuer) => drop(issuers.insert(name.clone(), issuer)),
                    Err(error) => warnings.push(opened.refuse(name, &error, false)),
                }
                opened.take_files(now, files);
                (is_usable, (!warnings.is_empty()).then(|| warnings.join("; ")))
            }
            Err(error) if error.may_be_adopted() => match adopted(custody, cluster, before.known, clock).await {
                Ok(Adopted { issuer, end, fingerprint }) => {
                    let mark = Mark::of_credential(name, fingerprint);
                    let end = opened.note_end(name, end);
                    let file = adopted_file(name);
                    let same = before.files.get(&file).is_some_and(|digest| now.get(&file) == Some(digest));
                    let old = old.filter(|old| same && old.serves(cluster));
                    opened.changed |= old.is_none();
                    issuers.insert(name.clone(), old.map_or_else(|| Arc::new(issuer) as Arc<dyn Issuer>, Arc::clone));
                    opened.take_files(now, mark.files(name));
                    opened.marks.insert(name.clone(), mark);
                    (!end.is_over, end.said)
                }
                Err(AdoptedError::Vault(VaultError::Missing(_))) => {
                    opened.changed |= old.is_some();
                    (false, Some(error.to_string()))
                }
                Err(error @ AdoptedError::Retired { .. }) => {
                    opened.changed |= old.is_some();
                    opened.hold_mark(name, held);
                    (false, Some(opened.end(name, &error)))
                }
                // nothing can be issued, as with a CA that is past its end, and it is the alarm that this is
                Err(AdoptedError::Over(end)) => {
                    let kept = kept.filter(|_| is_credential);
                    // what was opened before issues nothing either, and says why
                    issuers.extend(kept.map(|kept| (name.clone(), Arc::clone(kept))));
                    opened.changed |= old.is_some() && kept.is_none();
                    opened.hold_mark(name, held);
                    opened.take_files(now, files.into_iter().chain([adopted_file(name)]));
                    (false, opened.note_end(name, end).said)
                }
                Err(error) => {
                    let kept = kept.filter(|_| is_credential);
                    issuers.extend(kept.map(|kept| (name.clone(), Arc::clone(kept))));
                    opened.changed |= old.is_some() && kept.is_none();
                    opened.hold_mark(name, held);
                    opened.take_files(before.files, [adopted_file(name)]);
                    let said = opened.refuse(name, &error, kept.is_some());
                    (false, Some(opened.with_retirement(name, said, is_retired)))
                }
            },
            Err(error) if error.is_none() => {
                opened.changed |= old.is_some();
                (false, Some(error.to_string()))
            }
            // what it takes from a key that may have left, or from roles that bound nothing, is taken by others too; and one that was
            // retired, at whichever broker, is used at none
            Err(error) if error.ends_use() => {
                opened.changed |= old.is_some();
                opened.hold_mark(name, held);
                (false, Some(opened.end(name, &error)))
            }
            Err(error) => {
                issuers.extend(kept.map(|kept| (name.clone(), Arc::clone(kept))));
                opened.changed |= old.is_some() && kept.is_none();
                opened.hold_mark(name, held);
                opened.take_files(before.files, held.map_or(files.to_vec(), |mark| mark.files(name)));
                let said = opened.note(name, &error, kept.is_some());
                (false, Some(opened.with_retirement(name, said, is_retired)))
            }
        };
        opened.checks.push(Check { name: check_name(name), ok, required: false, detail });
    }
    opened.forget_ends(before.issuers.keys(), &issuers);
    opened.issuers = Arc::new(issuers);
    opened
}

/// These issuers without those whose CAs the log says were retired; `None` where there are none such.
pub(super) fn without_retired(issuers: &Issuers, marks: &Marks, known: &KnownCas) -> Option<Issuers> {
    let is_retired = |name: &ClusterName| marks.get(name).is_some_and(|mark| mark.is_retired(name, known));
    issuers.keys().any(is_retired).then(|| {
        issuers.keys().filter(|name| is_retired(name)).for_each(|name| gauge(name).set(f64::NAN));
        let left = issuers.iter().filter(|(name, _)| !is_retired(name));
        Arc::new(left.map(|(name, issuer)| (name.clone(), Arc::clone(issuer))).collect())
    })
}

// === impl Before ===

impl Before<'_> {
    /// The issuer and the mark of a cluster whose CA's key is in a file of the vault, where nothing of it is another than
    /// before, nor what the log says of it. Opening it again would tell nothing, and may ask a person to touch a key.
    fn as_it_was(&self, cluster: &Cluster, now: &Files) -> Option<(&Arc<dyn Issuer>, &Mark, &CaCertificate)> {
        let (issuer, mark) = (self.issuers.get(&cluster.name)?, self.marks.get(&cluster.name)?);
        let (file, certificate) = (mark.file.as_ref()?, mark.ca()?);
        let is_same = |file: &String| self.files.get(file) == now.get(file);
        let is_there = now.contains_key(file) && mark.files(&cluster.name).iter().all(is_same);
        let is_known = self.known.check(&cluster.name, certificate).is_ok();
        (is_there && is_known && issuer.serves(cluster)).then_some((issuer, mark, certificate))
    }

    /// Whether the log says that the CA, or standing credential, was retired which issues for this cluster, or did last.
    fn is_retired(&self, name: &ClusterName) -> bool {
        self.marks.get(name).is_some_and(|mark| mark.is_retired(name, self.known))
    }

    /// What to say where the log names another CA of the cluster later than this one, and no rotation here explains it.
    fn newer(&self, name: &ClusterName, mark: &Mark) -> Option<String> {
        newer(self.known, name, mark.ca()?, mark.is_rotating)
    }
}

// === impl Mark ===

impl Mark {
    /// That of a standing credential.
    fn of_credential(cluster: &ClusterName, fingerprint: String) -> Self {
        let file = Some(adopted_file(cluster));
        Self { text: String::new(), of: Of::Credential(fingerprint), file, is_rotating: false }
    }

    /// The certificate of its CA, where it is one's.
    fn ca(&self) -> Option<&CaCertificate> {
        if let Of::Ca(certificate) = &self.of { Some(certificate) } else { None }
    }

    /// SHA-256 of its CA's certificate, or its credential's, lower-case hex.
    fn fingerprint(&self) -> String {
        match &self.of {
            Of::Ca(certificate) => CaFacts::of(certificate).fingerprint,
            Of::Credential(fingerprint) => fingerprint.clone(),
        }
    }

    /// Whether the log says that this CA, or standing credential, of the cluster was retired.
    fn is_retired(&self, name: &ClusterName, known: &KnownCas) -> bool {
        known.is_retired(name, &self.fingerprint())
    }

    /// The vault's files that say how the cluster's certificates are made.
    fn files(&self, cluster: &ClusterName) -> Vec<String> {
        let own = self.file.iter().cloned();
        let mut files: Vec<String> = own.chain([format!("{cluster}.age"), format!("{cluster}.toml")]).collect();
        files.dedup();
        files
    }
}

// === impl Opened ===

impl Opened {
    /// These files, as they are in `from`, are in force.
    fn take_files(&mut self, from: &Files, files: impl IntoIterator<Item = String>) {
        self.in_force.extend(files.into_iter().filter_map(|file| Some((file.clone(), from.get(&file)?.clone()))));
    }

    /// The mark of before stays, whether what it tells of is in use or not: by it the log's word on that is known at the next look.
    fn hold_mark(&mut self, name: &ClusterName, mark: Option<&Mark>) {
        self.marks.extend(mark.map(|mark| (name.clone(), mark.clone())));
    }

    /// When what issues ends, to metrics; that end, with what is to be said of it.
    fn note_end(&mut self, name: &ClusterName, end: End) -> End {
        self.ending.extend(end.said.clone().map(|warning| (name.clone(), warning)));
        #[expect(clippy::cast_precision_loss, reason = "seconds of our time fit into a float's 53 bits")]
        gauge(name).set(end.at.as_second() as f64);
        end
    }

    /// Takes the ends of what issues no more out of the metrics: no number compares with what they are then.
    fn forget_ends<'a>(
        &self,
        before: impl Iterator<Item = &'a ClusterName>,
        now: &BTreeMap<ClusterName, Arc<dyn Issuer>>,
    ) {
        before
            .filter(|name| !now.contains_key(*name) && !self.ending.contains_key(*name))
            .for_each(|name| gauge(name).set(f64::NAN));
    }

    /// What to say of a CA that is there and cannot be opened.
    fn note(&mut self, name: &ClusterName, error: &CustodyError, stays: bool) -> String {
        if error.is_passing() {
            // an outage is nothing that someone wrote: there is nothing to refuse
            self.is_waiting = true;
            return error.to_string();
        }
        self.refuse(name, error, stays)
    }

    /// What to say of a CA that is used no more.
    fn end(&mut self, name: &ClusterName, error: &dyn std::fmt::Display) -> String {
        self.ended.push(without_id(name, error));
        format!("{error}; the CA opened before is not used any longer")
    }

    /// What is said of a CA that cannot be opened, with what the log says of the one before.
    fn with_retirement(&mut self, name: &ClusterName, said: String, is_retired: bool) -> String {
        if !is_retired {
            return said;
        }
        format!("{said}; {}", self.end(name, &"the CA opened before was retired by an entry of the audit log"))
    }

    fn refuse(&mut self, name: &ClusterName, error: &dyn std::fmt::Display, stays: bool) -> String {
        self.refused.push(without_id(name, error));
        let stays = if stays { "; the CA opened before stays in force" } else { "" };
        format!("{error}{stays}")
    }
}

/// Without the server's request id, which differs each time: one refusal is recorded once.
fn without_id(name: &ClusterName, error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    format!("cluster `{name}`: {}", text.split(" (request ").next().unwrap_or_default())
}

pub(super) fn issuer(backdate: SignedDuration, ca: OpenedCa) -> Arc<dyn Issuer> {
    match ca.means {
        Means::Pki(engine) => Arc::new(PkiCa::new(ca.cluster, engine, ca.certificate)),
        Means::Signer(signer) => Arc::new(LocalCa::new(ca.cluster, signer, ca.certificate, backdate)),
    }
}

/// What to say where the log names another CA of the cluster later than this one, other than one that a rotation made, where one is under
/// way by the record.
#[must_use]
pub fn newer(
    known: &KnownCas,
    cluster: &ClusterName,
    certificate: &CaCertificate,
    is_rotating: bool,
) -> Option<String> {
    let newer = known.newer(cluster, certificate)?;
    if is_rotating && !known.may_have_issued(cluster, newer) {
        return None;
    }
    Some(format!(
        "the newest entry of the log about its CA names another, with the certificate sha256 {newer}: once that one is in force at \
         another broker, bring `ca/{cluster}.toml` of its vault into this one, with the file that it names"
    ))
}

/// When what issues for the cluster ends, in the metrics.
fn gauge(cluster: &ClusterName) -> metrics::Gauge {
    metrics::gauge!("ichor_ca_not_after_seconds", "cluster" => cluster.to_string())
}

/// How the digests name a cluster's standing credential.
fn adopted_file(cluster: &ClusterName) -> String {
    format!("secrets/talos-{cluster}.age")
}

/// The name of a cluster's check.
pub(super) fn check_name(cluster: &ClusterName) -> String {
    format!("ca {cluster}")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::audit::{self, Sequencer};
    use crate::clock::FrozenClock;
    use crate::custody::ca;
    use crate::custody::{CERTIFICATE, IdentitySource, Keep, RETIRED, Vault};
    use crate::mint::Press;
    use crate::policy::{Limits, PolicySet, Source};
    use crate::store::sqlite::{Options, SqliteStore};

    /// A vault in which the cluster has a CA, or has none.
    fn custody(dir: &std::path::Path, cluster: Option<&ClusterName>, now: Timestamp) -> Custody {
        Vault::create(dir, Keep::DangerBeside, &[]).unwrap();
        let vault = Vault::open(dir, IdentitySource::DangerBeside).unwrap();
        if let Some(cluster) = cluster {
            vault.sealer().seal_ca(cluster, &ca::create(cluster, now, 5).unwrap(), false).unwrap();
        }
        Custody::new(vault, BTreeMap::new())
    }

    #[tokio::test]
    async fn a_ca_whose_files_are_as_they_were_is_not_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let clock = FrozenClock::at(now);
        let name = ClusterName::new("prod").unwrap();
        let cluster = Cluster {
            name: name.clone(),
            labels: [].into(),
            endpoints: Vec::new(),
            nodes: Vec::new(),
            ca: String::new(),
        };
        let clusters: Clusters = Arc::new(BTreeMap::from([(name.clone(), Arc::new(cluster))]));
        let store = Arc::new(SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap());
        let (sequencer, _ended) = Sequencer::start(store, clock.clone(), audit::Settings::named("one"));
        let permit = r#"@id("read") permit (principal, action == Action::"hold:os:reader", resource);"#;
        let source = Source { name: "test.cedar".into(), text: permit.into() };
        let policies = Arc::new(PolicySet::load(&[source], Limits::default()).unwrap());
        let clock: SharedClock = clock;
        let press = Arc::new(Press::new(sequencer, Arc::clone(&clock)));
        let delegating = Delegating { press, policies: tokio::sync::watch::Sender::new(policies).subscribe() };
        let there = custody(&folder.path().join("there"), Some(&name), now);
        // whoever opens this one finds no CA
        let gone = custody(&folder.path().join("gone"), None, now);
        let known = KnownCas::default();
        let files = |digest: &str| Files::from([("prod.age".to_owned(), digest.to_owned())]);
        let look = async |custody: &Custody, before: Before<'_>, now: &Files| {
            open(SignedDuration::ZERO, custody, &clusters, before, now, &clock, &delegating).await
        };

        let none = Before { known: &known, issuers: &Issuers::default(), marks: &Marks::new(), files: &Files::new() };
        let first = look(&there, none, &files("one")).await;
        assert!(first.checks[0].ok && first.changed && first.in_force == files("one"), "{:?}", first.checks);
        let before = || Before { known: &known, issuers: &first.issuers, marks: &first.marks, files: &first.in_force };
        let same = look(&gone, before(), &files("one")).await;
        assert!(same.checks[0].ok && !same.changed && same.in_force == files("one"), "{:?}", same.checks);
        assert!(Arc::ptr_eq(&same.issuers[&name], &first.issuers[&name]));
        // another broker's command brought a newer one, which is said; or retired it, which ends it here too
        let own = first.marks[&name].fingerprint();
        let mut learnt = KnownCas::default();
        for (said, fingerprint) in [(CERTIFICATE, &*own), (CERTIFICATE, "another"), (&format!("{RETIRED} 1"), &*own)] {
            learnt.learn("prod", &BTreeMap::from([(said.to_owned(), fingerprint.to_owned())]));
            let heard = Before { known: &learnt, issuers: &first.issuers, marks: &first.marks, files: &first.in_force };
            let opened = look(&there, heard, &files("one")).await;
            let line = opened.checks[0].detail.clone().unwrap_or_default();
            if said == CERTIFICATE {
                assert!(opened.checks[0].ok && Arc::ptr_eq(&opened.issuers[&name], &first.issuers[&name]));
                assert_eq!(
                    line.contains("names another, with the certificate sha256 another"),
                    fingerprint != own,
                    "{line}"
                );
            } else {
                assert!(!opened.checks[0].ok && opened.issuers.is_empty() && opened.changed, "{line}");
                assert!(line.contains("which was retired by an entry of the audit log"), "{line}");
            }
        }
        // another key, a record beside it, or no file at all
        let record = files("one").into_iter().chain([("prod.toml".to_owned(), "new".to_owned())]).collect();
        for changed in [files("two"), record, Files::new()] {
            let opened = look(&gone, before(), &changed).await;
            assert!(!opened.checks[0].ok && opened.issuers.is_empty(), "{changed:?}: {:?}", opened.checks);
        }
    }
}
