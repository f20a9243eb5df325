//! Brings a CA into custody: recorded before anything is made, in force last.

use std::collections::BTreeMap;

use anyhow::bail;
use ichor_wire::profile::CaCertificate;
use jiff::Timestamp;

use super::target::At;
use crate::cli::block_on;
use crate::cli::desk::{Deed, Desk};
use crate::cli::vault_key;
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::custody::ca::{CaFacts, CaMaterial};
use crate::custody::{
    ABOUT, CERTIFICATE, Custody, For, KV_PLACE, KnownCas, PUBLIC_KEY, Place, Places, Record, Sealer, SettleError,
    Settled, Target, VaultError,
};
use crate::domain::ClusterName;
use crate::readiness::Check;

/// A CA that is to be kept.
pub(super) struct Keeping<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) cluster: &'a ClusterName,
    pub(super) target: &'a Target,
    /// Where, from the command line.
    pub(super) at: &'a At,
    /// What is done, one sentence.
    pub(super) message: String,
    pub(super) reason: String,
    pub(super) replace: bool,
}

impl Keeping<'_> {
    /// Keeps a CA that is in memory.
    pub(super) fn keep(self, material: &CaMaterial) -> anyhow::Result<Settled> {
        let foreseen = Some(material.certificate());
        self.settle(foreseen, async |places, of, target| places.bring(of, target, material).await)
    }

    /// Makes the CA where it is to live: its digests are known only then.
    pub(super) fn create_there(self, now: Timestamp, years: u16) -> anyhow::Result<Settled> {
        self.settle(None, async |places, of, target| places.create(of, target, now, years).await)
    }

    /// Takes up the CA that a PKI engine has: its digests are known only then.
    pub(super) fn take_up(self) -> anyhow::Result<Settled> {
        self.settle(None, async |places, of, target| places.take_up(of, target).await)
    }

    /// Records the act, then makes the CA, then its record (a first one in the vault before its key), then lets a running broker
    /// open it. In this order: a CA that nobody recorded never issues.
    fn settle(
        self,
        material: Option<&CaCertificate>,
        make: impl AsyncFnOnce(&Places<'_>, For<'_>, &Target) -> Result<Settled, SettleError>,
    ) -> anyhow::Result<Settled> {
        let Self { loaded, cluster, target, at, message, reason, replace } = self;
        let sealer = vault_key::sealer(&loaded.settings)?;
        let servers = at.clients(target, loaded)?;
        // a key whose record is missing is replaced like any
        let (before, is_stray) = match Record::read(sealer.dir(), cluster) {
            Err(VaultError::NoRecord { .. }) if replace => (None, true),
            read => (read?, false),
        };
        // a command was ended between the two, or someone took the key away: the record is there and its key is not
        let is_keyless = before.as_ref().is_some_and(|record| !replace && sealer.lacks_key_of(&record.active));
        if let Some(before) = before.as_ref().filter(|_| !replace && !is_keyless) {
            if before.active == Place::Retired {
                bail!(
                    "the CA of cluster `{cluster}` was retired, and none took its place; `--replace` puts this one there, and nodes must then be \
                     told of it"
                );
            }
            bail!(
                "cluster `{cluster}` has a CA in custody ({}); `ichor-broker ca move` takes it to another custody, `--replace` \
                 replaces it, and nodes must then be told of the new one",
                before.active.said()
            );
        }
        if let Some(rotation) = before.as_ref().and_then(|before| before.rotation.as_ref()) {
            bail!(
                "a rotation of cluster `{cluster}` is under way since {}, and nodes may accept its new CA ({}); `ichor-broker ca rotate \
                 {cluster} --continue` goes on with it, `--abandon` drops it",
                rotation.begun,
                rotation.next.said()
            );
        }
        let generation =
            before.as_ref().map_or(1 + u32::from(is_stray), |record| record.generation + u32::from(!is_keyless));
        // where no CA was, the record of one in the vault comes first: a key without it is one that someone put there
        let first = match (&before, target) {
            (None, Target::Age) => {
                let active = Place::Age { file: sealer.free_ca_file(cluster, generation)? };
                Some(Record::first(active.clone()).numbered(active.number().max(generation)))
            }
            _ => None,
        };
        let foreseen = material.map(|certificate| digests(&CaFacts::of(certificate), None)).unwrap_or_default();
        let deed = Deed { ca: true, cluster: Some(cluster.to_string()), message, reason, digests: foreseen.clone() };
        let (mut settled, checks) = block_on(async {
            let desk = Desk::open(loaded).await?;
            let known = &crate::app::known_cas(&loaded.settings).await?;
            let places = Places { sealer: &sealer, servers: &servers, known };
            let settled = desk.act(deed.clone(), "the CA in force is what it was", async || {
                if let Some(certificate) = material {
                    // before the record: one that is refused leaves none
                    places.check_own(cluster, certificate.public_key())?;
                }
                if let Some(first) = &first {
                    first.write(sealer.dir(), cluster, false)?;
                }
                let keyless = if is_keyless { before.as_ref() } else { first.as_ref() };
                let awaited = keyless.and_then(|record| record.active.file());
                let of = For { cluster, generation, replace, awaited };
                let settled = make(&places, of, target).await?;
                let facts = digests(&CaFacts::of(&settled.certificate), Some(&settled.place));
                let written = async || {
                    let Some(before) = keyless.or(before.as_ref()) else {
                        let first = Record::first(settled.place.clone()).numbered(generation);
                        return Ok(first.write(sealer.dir(), cluster, false)?);
                    };
                    let after = match keyless {
                        // no CA was there that this one follows
                        Some(keyless) => keyless.moved(settled.place.clone()),
                        None => before.succeeded_by(settled.place.clone(), SystemClock.now(), None),
                    };
                    Ok(put(&sealer, cluster, &settled.place, &after, before)?)
                };
                if facts == foreseen {
                    written().await?;
                } else {
                    let message = format!("{}: {}", deed.message, settled.place.said());
                    // what the entry above brought is not brought once more: it may have been retired since
                    let digests = match material {
                        Some(certificate) => about(&CaFacts::of(certificate), Some(&settled.place)),
                        None => facts,
                    };
                    let fingerprint = CaFacts::of(&settled.certificate).fingerprint;
                    let since = crate::app::known_cas(&loaded.settings).await?;
                    if since.is_retired(cluster, &fingerprint) && !known.is_retired(cluster, &fingerprint) {
                        bail!(
                            "the CA with the certificate sha256 {fingerprint} was retired by another command meanwhile"
                        );
                    }
                    let made = Deed { message, digests, ..deed.clone() };
                    desk.act(made, "the CA in force is what it was", written).await?;
                }
                Ok(settled)
            });
            let mut settled = settled.await?;
            let fingerprint = CaFacts::of(&settled.certificate).fingerprint;
            let since = crate::app::known_cas(&loaded.settings).await?;
            if since.is_retired(cluster, &fingerprint) {
                bail!(
                    "the CA with the certificate sha256 {fingerprint} was retired by another command meanwhile, and no broker uses it; make a new \
                     one with `ichor-broker ca create {cluster} --replace --reason …`"
                );
            }
            if known.is_retired(cluster, &fingerprint) {
                settled
                    .remarks
                    .push("this CA was retired by an entry of the log before, and is the cluster's again".to_owned());
            }
            let checks = desk.reload().await;
            desk.close().await;
            Ok((settled, checks?))
        })?;
        // it is there and recorded: what a running broker makes of it changes nothing of that
        settled.remarks.extend(taken_up(cluster, checks).err());
        Ok(settled)
    }
}

/// Returns if the broker itself can use what was just made, before anything is put in force: an operator's token may more than its own.
///
/// # Errors
/// When it cannot, with what to do.
pub(super) async fn tried(
    custody: &Custody,
    cluster: &ClusterName,
    place: &Place,
    known: &KnownCas,
) -> anyhow::Result<()> {
    custody.open_place(cluster, place, known).await.map(drop).map_err(|error| {
        anyhow::anyhow!(
            "the key is in {}, and the broker itself cannot use it there, so nothing was put in force: {error}. It is the broker's own \
             token that has to, whatever an operator's may: see deploy/openbao; then run the same command again",
            place.said()
        )
    })
}

/// The record is to remind of a key that was made for nothing. Where it cannot be written, the command that failed tells where it lies.
pub(super) fn leave(sealer: &Sealer, cluster: &ClusterName, record: &Record, place: &Place) {
    let left = record.left_at(place);
    if left != *record {
        let _ = left.replace(sealer.dir(), cluster, record);
    }
}

/// Whether the running broker has taken up a cluster's CA; `false` where none runs.
///
/// # Errors
/// In a sentence, when it has not.
pub(super) fn taken_up(cluster: &ClusterName, checks: Vec<Check>) -> Result<bool, String> {
    let (own, is_running) = (format!("ca {cluster}"), !checks.is_empty());
    // where what it opened could not be recorded, there is a line for all of them
    match checks.into_iter().find(|check| !check.ok && (check.name == own || check.name == "ca keys")) {
        None => Ok(is_running),
        Some(check) => {
            let why = check.detail.unwrap_or_default();
            Err(format!(
                "The running broker has not taken it up: {why}. Where that is about its token, restart the broker."
            ))
        }
    }
}

/// Returns once the record, which names what was just made, is durable in the place of `before`. Where another command was first, its
/// record and its CA stay, and the key that was made for nothing goes, where that record does not name it.
///
/// # Errors
/// As [`Record::replace`].
pub(super) fn put(
    sealer: &Sealer,
    cluster: &ClusterName,
    made: &Place,
    after: &Record,
    before: &Record,
) -> Result<(), VaultError> {
    let is_written = || Record::written(sealer.dir(), cluster);
    // what says so already needs nobody else to stand aside
    let written = match after == before && is_written()?.as_ref() == Some(before) {
        true => Ok(()),
        false => after.replace(sealer.dir(), cluster, before),
    };
    let names_it =
        |file: &str| is_written().map_or(true, |record| record.is_some_and(|record| record.names_file(file)));
    if let (Err(VaultError::RecordChanged(_) | VaultError::Busy(_)), Some(file)) = (&written, made.file())
        && !names_it(file)
    {
        // where it cannot be removed, `check` reminds of it
        let _ = sealer.discard_ca_file(file);
    }
    written
}

/// The digests by which an entry that is about a CA, and does not bring it into custody, names it: what was retired meanwhile stays retired.
pub(super) fn about(facts: &CaFacts, place: Option<&Place>) -> BTreeMap<String, String> {
    let mut digests = digests(facts, place);
    if let Some(certificate) = digests.remove(CERTIFICATE) {
        digests.insert(ABOUT.to_owned(), certificate);
    }
    digests
}

/// The digests by which an entry that brings a CA into custody names it, and the secret of KV that it lies in.
pub(super) fn digests(facts: &CaFacts, place: Option<&Place>) -> BTreeMap<String, String> {
    let in_kv = place.and_then(Place::in_kv).map(|place| (KV_PLACE.to_owned(), place));
    let named =
        [(CERTIFICATE.to_owned(), facts.fingerprint.clone()), (PUBLIC_KEY.to_owned(), facts.key_fingerprint.clone())];
    named.into_iter().chain(in_kv).collect()
}

#[cfg(test)]
mod tests {
    use nix::fcntl::{Flock, FlockArg};

    use super::*;
    use crate::custody::{Keep, Vault, ca};

    #[test]
    fn a_key_that_the_record_names_is_not_removed_whatever_others_do() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("vault");
        Vault::create(&dir, Keep::DangerBeside, &[]).unwrap();
        let (sealer, cluster) = (Sealer::at(&dir).unwrap(), ClusterName::new("prod").unwrap());
        let place = Place::Age { file: "prod.age".into() };
        let first = Record::first(place.clone());
        let (key, now) = (dir.join("ca/prod.age"), SystemClock.now());
        sealer.seal_ca(&cluster, &ca::create(&cluster, now, 5).unwrap(), false).unwrap();
        assert_eq!(Record::written(&dir, &cluster).unwrap().as_ref(), Some(&first));
        {
            // another command writes in the vault
            let _lock = Flock::lock(std::fs::File::open(&dir).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
            put(&sealer, &cluster, &place, &first, &first).unwrap();
            let other = first.clone().numbered(2);
            assert!(matches!(put(&sealer, &cluster, &place, &other, &first), Err(VaultError::Busy(_))));
        }
        assert!(key.exists());
        // another command changed the record, which still has it
        first.delegating(true).write(&dir, &cluster, true).unwrap();
        assert!(matches!(put(&sealer, &cluster, &place, &first, &first), Err(VaultError::RecordChanged(_))));
        assert!(key.exists());
        Record::first(Place::TalosApi).write(&dir, &cluster, true).unwrap();
        assert!(matches!(put(&sealer, &cluster, &place, &first, &first), Err(VaultError::RecordChanged(_))));
        assert!(!key.exists(), "one that nothing names goes");
    }
}
