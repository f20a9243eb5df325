//! Those who wait for an entry: from its batch until it is vouched for.

use std::sync::Arc;

use super::notary::Signed;
use super::recorded::{Place, Proof};
use super::sequencer::{Answer, Care};

/// One that waits for its entry, and for what.
pub(super) struct Writer {
    pub(super) answer: Answer,
    pub(super) care: Care,
    /// The encoded entry, where it is part of the answer.
    pub(super) encoded: Option<Vec<u8>>,
}

/// One whose entry is durable and not yet vouched for.
pub(super) struct Committing {
    pub(super) place: Place,
    pub(super) writer: Writer,
}

/// Gives each writer its place, with the proof where there is a checkpoint and the writer asked for one.
pub(super) fn answer(signed: Option<&Signed>, writers: Vec<Committing>) {
    let mut prover = signed.map(|signed| signed.tree.edge.prover(&signed.tree.tiles));
    for Committing { mut place, writer } in writers {
        if let (Some(entry), Some(prover), Some(signed)) = (writer.encoded, &mut prover, signed) {
            // without one the receipt is pending, and can be asked for later
            place.proof = prover.inclusion(place.index).ok().map(|path| Proof {
                path,
                checkpoint: Arc::clone(&signed.note),
                entry,
            });
        }
        writer.answer.give(Ok(place));
    }
}
