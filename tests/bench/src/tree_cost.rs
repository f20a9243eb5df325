//! What the tree costs a certificate: everything that a log of bare entries would not do, in this process, by its CPU.
//!
//! Broker and generator use all cores at full load, so what each certificate costs more is what the load loses. Batches are as
//! small as half the connections of `issuance` make them; each has one checkpoint, and half of its entries are answered with a
//! proof, as certificates are.
//!
//! It is a computed part and not a difference of two runs: no broker runs without its tree, so there is none to run beside it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ichor_broker::audit::{Grace, Notary};
use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::custody::AuditKey;
use ichor_broker::store::sqlite::{Options, SqliteStore};
use ichor_broker::store::{Append, Store};
use ichor_wire::log::leaf_hash;
use jiff::SignedDuration;

use crate::meter::{each, own_cpu};
use crate::{ask, audit};

/// Entries of one batch.
const BATCH: u64 = 32;
/// Batches with a checkpoint, and as many without.
const ROUNDS: u64 = 400;

/// CPU for each certificate: its two leaves in the tree, its share of the checkpoint and of keeping it, its proof.
pub(crate) async fn each_certificate(dir: &Path) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir_in(dir)?;
    let store = SqliteStore::open(folder.path().join("ichor.db"), Options::default())?;
    let grace = Grace { key: SignedDuration::from_mins(1), anchor: SignedDuration::from_mins(1) };
    let notary = Notary::new(AuditKey::from_seed(&[1; 32])?, "bench", Vec::new(), grace)?;
    let (mut tree, mut with, mut without) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut checkpoint = None;
    for round in 0..2 * ROUNDS {
        let first = store.head().await?.size;
        let entries = (first..first + BATCH).map(|index| ask::entry(index, audit::like_a_grant(), SystemClock.now()));
        let entries = entries.collect::<anyhow::Result<Vec<_>>>()?;
        let encoded: Vec<Vec<u8>> = entries.iter().map(|entry| entry.encoded.clone()).collect();
        let batch = entries.into_iter().map(|entry| Append { entry, change: None }).collect();
        let kept = checkpoint.take().filter(|_| round % 2 == 0);
        let spent = if kept.is_some() { &mut with } else { &mut without };
        let before = own_cpu()?;
        let committed = store.append(batch, kept).await?;
        *spent += own_cpu()?.saturating_sub(before);

        let before = own_cpu()?;
        let mut edge = committed.tree.edge.clone();
        for encoded in &encoded {
            edge.push(leaf_hash(encoded));
        }
        let signed = notary.sign(Arc::clone(&committed.tree)).await?;
        let mut prover = committed.tree.edge.prover(&committed.tree.tiles);
        for index in (first..first + BATCH).step_by(2) {
            let proof: Vec<String> = prover.inclusion(index)?.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect();
            ensure!(!proof.is_empty() || first == 0, "no proof of entry {index}");
        }
        checkpoint = Some(signed.stored());
        tree += own_cpu()?.saturating_sub(before);
    }
    let certificates = usize::try_from(2 * ROUNDS * BATCH / 2)?;
    let keeping = each(with.saturating_sub(without), certificates / 2)?;
    Ok(each(tree, certificates)? + keeping)
}
