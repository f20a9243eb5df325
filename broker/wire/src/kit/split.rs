//! Shamir's secret sharing over GF(256), by a crate; and the commitments by which a share is known.

use std::convert::Infallible;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use data_encoding::HEXLOWER;
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use super::facts::{Facts, MAX_SHARES, MIN_SHARES};
use super::share::{Share, id_prefix};

/// So many random bytes a split may use: 32 bytes of the key, 15 coefficients, four bytes drawn for each, and as many to spare.
pub const RANDOM_BYTES: usize = 4096;

/// The file key could not be split, or put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// The numbers do not fit.
    #[error("2 to 16 shares must be needed, of at most 16")]
    Numbers,
    /// The library refused.
    #[error("the key cannot be shared")]
    Library,
}

/// Why a share does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareFault {
    /// It is of another kit.
    #[error("this share is of kit {of}, and this is kit {kit}: bring the one of kit {kit}")]
    Foreign {
        /// The kit that it is of.
        of: u16,
        /// The kit that is to be opened.
        kit: u16,
    },
    /// It is of a kit with the same number that was made another time.
    #[error("this share is of another kit {0}, made at another time: bring the share that belongs to this file")]
    OtherMaking(u16),
    /// The kit has no such share.
    #[error("this kit has no share {0}")]
    NoSuchIndex(u8),
    /// It is not what was made.
    #[error(
        "share {index} ({holder}) is not the one that was made: it does not match its commitment; bring another copy of it"
    )]
    Wrong {
        /// Its index.
        index: u8,
        /// Who holds it.
        holder: String,
    },
    /// It has been given already.
    #[error("share {index} ({holder}) is here already: bring another one")]
    Twice {
        /// Its index.
        index: u8,
        /// Who holds it.
        holder: String,
    },
}

/// Shares that were checked, on their way to open one kit. In any order; what does not belong changes nothing.
#[derive(Debug)]
pub struct Gathered {
    number: u16,
    id: Uuid,
    threshold: u8,
    shares: Vec<Share>,
}

/// Splits the file key into `limit` shares, any `threshold` of which are it, with this randomness. Answers their values by index
/// from 1.
///
/// # Errors
/// When the numbers do not fit.
pub fn split(
    key: &[u8; 32],
    threshold: u8,
    limit: u8,
    random: &Zeroizing<[u8; RANDOM_BYTES]>,
) -> Result<Vec<Zeroizing<[u8; 32]>>, SplitError> {
    if threshold < MIN_SHARES || threshold > limit || limit > MAX_SHARES {
        return Err(SplitError::Numbers);
    }
    let mut drawn = Drawn { from: random, used: 0, is_dry: false };
    let shares = Gf256::split_bytes(usize::from(threshold), usize::from(limit), key, &mut drawn);
    let shares: Vec<_> = shares.map_err(|_| SplitError::Library)?.into_iter().map(Zeroizing::new).collect();
    if drawn.is_dry {
        return Err(SplitError::Library);
    }
    let value = |(at, share): (usize, &Zeroizing<Vec<u8>>)| match share.split_first() {
        Some((index, value)) if usize::from(*index) == at + 1 => <[u8; 32]>::try_from(value).ok().map(Zeroizing::new),
        _ => None,
    };
    shares.iter().enumerate().map(|share| value(share).ok_or(SplitError::Library)).collect()
}

/// The key of enough shares; of fewer, or of others, some other bytes.
///
/// # Errors
/// When two have one index, or there are none.
pub fn combine(shares: &[Share]) -> Result<Zeroizing<[u8; 32]>, SplitError> {
    let whole: Vec<Vec<u8>> =
        shares.iter().map(|share| [[share.index].as_slice(), share.value.as_slice()].concat()).collect();
    let whole = Zeroizing::new(whole);
    let key = Gf256::combine_bytes(whole.as_slice()).map_err(|_| SplitError::Library)?;
    let key = Zeroizing::new(key);
    Ok(Zeroizing::new(<[u8; 32]>::try_from(key.as_slice()).map_err(|_| SplitError::Library)?))
}

/// A share's commitment and the public half of the key with which its holder proves to have it, both lower-case hex. A share is
/// 256 random bits, so neither tells anything of it, and nothing at all of the others.
///
/// # Errors
/// When no key can be made of it.
pub fn commitment(share: &Share, id: Uuid, salt: &[u8; 16]) -> Result<(String, String), SplitError> {
    let key = proof_key(share, id, salt)?;
    let hash = hash(b"ichor kit share commitment 1", share, id, salt);
    Ok((HEXLOWER.encode(hash.as_slice()), HEXLOWER.encode(key.public_key().as_ref())))
}

/// The key with which a share's holder proves to have it.
pub(super) fn proof_key(share: &Share, id: Uuid, salt: &[u8; 16]) -> Result<Ed25519KeyPair, SplitError> {
    let seed = hash(b"ichor kit share proof key 1", share, id, salt);
    Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| SplitError::Library)
}

fn hash(purpose: &[u8], share: &Share, id: Uuid, salt: &[u8; 16]) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(purpose);
    hash.update([0]);
    hash.update(id.as_bytes());
    hash.update([share.index]);
    hash.update(salt);
    hash.update(share.value.as_slice());
    Zeroizing::new(hash.finalize().into())
}

/// The salt of a share's facts.
pub(super) fn salt(text: &str) -> Option<[u8; 16]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

// === impl Gathered ===

impl Gathered {
    /// None yet.
    #[must_use]
    pub fn new(facts: &Facts) -> Self {
        Self { number: facts.number, id: facts.id, threshold: facts.threshold, shares: Vec::new() }
    }

    /// Takes a share that is this kit's and as it was made; answers how many are still needed.
    ///
    /// # Errors
    /// What is wrong with it; what is here already stays.
    pub fn take(&mut self, facts: &Facts, share: Share) -> Result<usize, ShareFault> {
        check(facts, &share)?;
        if facts.id != self.id {
            return Err(ShareFault::OtherMaking(share.number));
        }
        if self.shares.iter().any(|have| have.index == share.index) {
            return Err(ShareFault::Twice { index: share.index, holder: holder(facts, share.index) });
        }
        self.shares.push(share);
        Ok(self.missing())
    }

    /// How many are still needed.
    #[must_use]
    pub fn missing(&self) -> usize {
        usize::from(self.threshold).saturating_sub(self.shares.len())
    }

    /// Which are here, by index, sorted.
    #[must_use]
    pub fn indexes(&self) -> Vec<u8> {
        let mut indexes: Vec<u8> = self.shares.iter().map(|share| share.index).collect();
        indexes.sort_unstable();
        indexes
    }

    pub(super) fn shares(&self) -> &[Share] {
        &self.shares
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

/// Whether the share is this kit's and as it was made.
pub(super) fn check(facts: &Facts, share: &Share) -> Result<(), ShareFault> {
    if share.number != facts.number {
        return Err(ShareFault::Foreign { of: share.number, kit: facts.number });
    }
    if share.kit != id_prefix(facts.id) {
        return Err(ShareFault::OtherMaking(facts.number));
    }
    let known = facts.share(share.index).ok_or(ShareFault::NoSuchIndex(share.index))?;
    let wrong = || ShareFault::Wrong { index: share.index, holder: known.holder.clone() };
    let salt = salt(&known.salt).ok_or_else(wrong)?;
    let committed = HEXLOWER.decode(known.commitment.as_bytes()).map_err(|_| wrong())?;
    let found = hash(b"ichor kit share commitment 1", share, facts.id, &salt);
    if bool::from(found.as_slice().ct_eq(&committed)) { Ok(()) } else { Err(wrong()) }
}

fn holder(facts: &Facts, index: u8) -> String {
    facts.share(index).map(|share| share.holder.clone()).unwrap_or_default()
}

/// Random bytes that were drawn before: the library's generators cannot fail, the system's can.
struct Drawn<'a> {
    from: &'a [u8; RANDOM_BYTES],
    used: usize,
    is_dry: bool,
}

impl TryRng for Drawn<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        let end = self.used.saturating_add(out.len());
        match self.from.get(self.used..end) {
            Some(bytes) => out.copy_from_slice(bytes),
            // what was split with it is thrown away
            None => self.is_dry = true,
        }
        self.used = end;
        Ok(())
    }
}

impl TryCryptoRng for Drawn<'_> {}
