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
use crate::custody::{For, Place, Places, Record, Sealer, SettleError, Settled, Target};
use crate::domain::ClusterName;

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
        let digests = digests(&material.facts());
        self.settle(digests, async |places, of, target| places.bring(of, target, material).await)
    }

    /// Makes the CA where it is to live: its digests are known only then.
    pub(super) fn create_there(self, now: Timestamp, years: u16) -> anyhow::Result<Settled> {
        self.settle(BTreeMap::new(), async |places, of, target| places.create(of, target, now, years).await)
    }

    /// Takes up the CA that a PKI engine has: its digests are known only then.
    pub(super) fn take_up(self) -> anyhow::Result<Settled> {
        self.settle(BTreeMap::new(), async |places, of, target| places.take_up(of, target).await)
    }

    /// Records the act, then makes the CA, then its record, then lets a running broker open it. In this order: a CA that nobody
    /// recorded never issues.
    fn settle(
        self,
        known: BTreeMap<String, String>,
        make: impl AsyncFnOnce(&Places<'_>, For<'_>, &Target) -> Result<Settled, SettleError>,
    ) -> anyhow::Result<Settled> {
        let Self { loaded, cluster, target, at, message, reason, replace } = self;
        let sealer = unlock::sealer(&loaded.settings)?;
        let servers = at.clients(target, loaded)?;
        let before = Record::read(sealer.dir(), cluster)?;
        if let Some(before) = before.as_ref().filter(|_| !replace) {
            bail!(
                "cluster `{cluster}` has a CA in custody ({}); `ichor-broker ca move` takes it to another custody, `--replace` \
                 replaces it, and nodes must then be told of the new one",
                before.active.said()
            );
        }
        let generation = before.as_ref().map_or(1, |record| record.generation + 1);
        let deed = Deed { ca: true, cluster: Some(cluster.to_string()), message, reason, digests: known.clone() };
        let (mut settled, checks) = block_on(async {
            let desk = Desk::open(loaded).await?;
            let places = Places { sealer: &sealer, servers: &servers };
            let settled = desk.act(deed.clone(), "the CA in force is what it was", async || {
                let of = For { cluster, generation, replace };
                let settled = make(&places, of, target).await?;
                let facts = digests(&CaFacts::of(&settled.certificate));
                if facts != known {
                    let message = format!("{}: {}", deed.message, settled.place.said());
                    desk.record(Deed { message, digests: facts, ..deed.clone() }).await?;
                }
                write(&sealer, cluster, before.as_ref(), &settled)?;
                Ok(settled)
            });
            let settled = settled.await?;
            let checks = desk.reload().await;
            desk.close().await;
            Ok((settled, checks?))
        })?;
        let own = format!("ca {cluster}");
        // it is there and recorded: what a running broker makes of it changes nothing of that
        let not_taken = checks.into_iter().find(|check| check.name == own && !check.ok);
        settled.remarks.extend(not_taken.map(|check| {
            let why = check.detail.unwrap_or_default();
            format!("The running broker has not taken it up: {why}. Where that is about its token, restart the broker.")
        }));
        Ok(settled)
    }
}

/// Writes the record, unless the file alone says it all.
fn write(sealer: &Sealer, cluster: &ClusterName, before: Option<&Record>, settled: &Settled) -> anyhow::Result<()> {
    let first = Record::first(settled.place.clone());
    let Some(before) = before else {
        if settled.place != (Place::Age { file: format!("{cluster}.age") }) {
            first.write(sealer.dir(), cluster, false)?;
        }
        return Ok(());
    };
    before.succeeded_by(settled.place.clone(), SystemClock.now(), None).replace(sealer.dir(), cluster, before)?;
    Ok(())
}

/// The digests by which a CA is known in entries.
pub(super) fn digests(facts: &CaFacts) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("certificate".to_owned(), facts.fingerprint.clone()),
        ("public key".to_owned(), facts.key_fingerprint.clone()),
    ])
}
