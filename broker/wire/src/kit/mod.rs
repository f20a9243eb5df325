//! The break-glass kit: a sealed credential that opens with shares and needs none of our services.
//!
//! ```text
//! FILE     [kit]     the facts, plain: which nodes, which CA, until when, which roles, who holds the shares
//!          [sealed]  AES-256-GCM under the file key: the same facts once more, and the secret: the key of the kit's CA, or in a
//!                    static kit that of its one certificate
//! SHARES   the file key, split by Shamir over GF(256): any `threshold` of them are it, fewer say nothing
//! ```
//!
//! - [`Facts`] are what a kit says of itself; [`KitFile`] is the file. Opening refuses a plain part that differs from the
//!   sealed one, and says where.
//! - [`Share`] is a share and its checked text; [`split`] makes them, [`Gathered`] takes them in any order and names what does
//!   not belong: each share has a salted hash among the facts that tells nothing of the others.
//! - [`prove`] shows that a holder has a share without showing it; [`check_proof`] needs nothing secret.
//! - A static kit holds one certificate for whoever opens it: [`Facts::fixed_certificate`].
//! - [`Record`] is what an opener signs before a certificate exists.

mod facts;
mod file;
mod fixed;
mod proof;
mod record;
mod share;
mod split;

pub use facts::{Facts, FactsError, MAX_LIFE, MAX_SHARES, MIN_SHARES, PAPER, ShareFacts, VERSION, VERSION_WITH_CA_KEY};
pub use file::{KitError, KitFile, MAX_FILE, Secret};
pub use proof::{BadProof, Prover, check_proof, prove};
pub use record::{Record, RecordError, SignedRecord};
pub use share::{BadShare, Share};
pub use split::{Gathered, RANDOM_BYTES, ShareFault, SplitError, combine, commitment, split};

#[cfg(test)]
mod tests;
