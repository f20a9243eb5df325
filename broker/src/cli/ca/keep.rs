//! Brings a CA into custody: recorded before anything is made, in force last.

use std::collections::BTreeMap;

use anyhow::bail;
use jiff::Timestamp;

use super::target::At;
use crate::cli::block_on;
use crate::cli::desk::{Deed, Desk};
use crate::cli::unlock;
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::custody::ca::{CaFacts, CaMaterial};
use crate::custody::{
    CERTIFICATE, For, KV_PLACE, PUBLIC_KEY, Place, Places, Record, Sealer, SettleError, Settled, Target, VaultError,
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
        let digests = digests(&material.facts(), None);
        self.settle(digests, async |places, of, target| places.bring(of, target, material).await)
    }

    /// Makes the CA where it is to live: its digests are known only then.
    pub(super) fn create_there(self, now: Timestamp, years: u16) -> anyhow::Result<Settled> {
        let known = block_on(async { Ok(crate::app::known_cas(&self.loaded.settings).await?) })?;
        self.settle(BTreeMap::new(), async |places, of, target| places.create(of, target, now, years, &known).await)
    }

    /// Takes up the CA that a PKI engine has: its digests are known only then.
    pub(super) fn take_up(self) -> anyhow::Result<Settled> {
        self.settle(BTreeMap::new(), async |places, of, target| places.take_up(of, target).await)
    }

    /// Records the act, then makes the CA, then its record (a first one in the vault before its key), then lets a running broker
    /// open it. In this order: a CA that nobody recorded never issues.
    fn settle(
        self,
        known: BTreeMap<String, String>,
        make: impl AsyncFnOnce(&Places<'_>, For<'_>, &Target) -> Result<Settled, SettleError>,
    ) -> anyhow::Result<Settled> {
        let Self { loaded, cluster, target, at, message, reason, replace } = self;
        let sealer = unlock::sealer(&loaded.settings)?;
        let servers = at.clients(target, loaded)?;
        // a key whose record is missing is replaced like any; its file stays, and `check` says so
        let (before, is_stray) = match Record::read(sealer.dir(), cluster) {
            Err(VaultError::NoRecord { .. }) if replace => (None, true),
            read => (read?, false),
        };
        // a command was ended between the two, or someone took the key away: the record is there and its key is not
        let is_keyless = before.as_ref().is_some_and(|record| !replace && sealer.lacks_key_of(&record.active));
        if let Some(before) = before.as_ref().filter(|_| !replace && !is_keyless) {
            bail!(
                "cluster `{cluster}` has a CA in custody ({}); `ichor-broker ca move` takes it to another custody, `--replace` \
                 replaces it, and nodes must then be told of the new one",
                before.active.said()
            );
        }
        let generation =
            before.as_ref().map_or(1 + u32::from(is_stray), |record| record.generation + u32::from(!is_keyless));
        let deed = Deed { ca: true, cluster: Some(cluster.to_string()), message, reason, digests: known.clone() };
        let (mut settled, checks) = block_on(async {
            let desk = Desk::open(loaded).await?;
            let places = Places { sealer: &sealer, servers: &servers };
            let settled = desk.act(deed.clone(), "the CA in force is what it was", async || {
                let of = For { cluster, generation, replace };
                // where no CA was, the record of one in the vault comes first: a key without it is one that someone put there
                let mut before = before;
                if let (None, Target::Age) = (&before, target) {
                    let first = Record::first(Place::Age { file: of.file() }).numbered(generation);
                    first.write(sealer.dir(), cluster, false)?;
                    before = Some(first);
                }
                let settled = make(&places, of, target).await?;
                let facts = digests(&CaFacts::of(&settled.certificate), Some(&settled.place));
                let written = async || write(&sealer, of, before.as_ref(), &settled);
                if facts == known {
                    written().await?;
                } else {
                    let message = format!("{}: {}", deed.message, settled.place.said());
                    let made = Deed { message, digests: facts, ..deed.clone() };
                    desk.act(made, "the CA in force is what it was", written).await?;
                }
                Ok(settled)
            });
            let settled = settled.await?;
            let checks = desk.reload().await;
            desk.close().await;
            Ok((settled, checks?))
        })?;
        // it is there and recorded: what a running broker makes of it changes nothing of that
        settled.remarks.extend(taken_up(cluster, checks).err());
        Ok(settled)
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

/// Writes the record.
fn write(sealer: &Sealer, of: For<'_>, before: Option<&Record>, settled: &Settled) -> anyhow::Result<()> {
    let cluster = of.cluster;
    let Some(before) = before else {
        let first = Record::first(settled.place.clone()).numbered(of.generation);
        return Ok(first.write(sealer.dir(), cluster, false)?);
    };
    let after = match before {
        // no CA was there that this one follows
        before if before.generation == of.generation && before.active == settled.place => return Ok(()),
        before if before.generation == of.generation => before.moved(settled.place.clone()),
        before => before.succeeded_by(settled.place.clone(), SystemClock.now(), None),
    };
    after.replace(sealer.dir(), cluster, before)?;
    Ok(())
}

/// The digests by which a CA is known in entries, and the secret of KV that it lies in.
pub(super) fn digests(facts: &CaFacts, place: Option<&Place>) -> BTreeMap<String, String> {
    let in_kv = place.and_then(Place::in_kv).map(|place| (KV_PLACE.to_owned(), place));
    let named =
        [(CERTIFICATE.to_owned(), facts.fingerprint.clone()), (PUBLIC_KEY.to_owned(), facts.key_fingerprint.clone())];
    named.into_iter().chain(in_kv).collect()
}
