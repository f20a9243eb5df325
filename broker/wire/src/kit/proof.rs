//! That a holder has their share, shown without showing it.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use uuid::Uuid;

use super::facts::Facts;
use super::share::Share;
use super::split::{ShareFault, check, proof_key, salt};

/// What begins a proof.
const PREFIX: &str = "ichor-proof1";

/// Who is to prove: what the log or a kit's facts say of a share.
#[derive(Clone, Copy, Debug)]
pub struct Prover<'a> {
    /// The kit's number.
    pub number: u16,
    /// The kit's id.
    pub id: Uuid,
    /// The shares' indexes and proof keys, lower-case hex.
    pub keys: &'a [(u8, String)],
}

/// Why a text proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadProof {
    /// Not a proof.
    #[error("this is not a proof; a holder makes one with `ichor kit prove`")]
    NotAProof,
    /// Of another kit.
    #[error("this proof is of kit {0}")]
    OtherKit(u16),
    /// The kit has no such share.
    #[error("the kit has no share {0}")]
    NoSuchShare(u8),
    /// It is not of this share, or for another challenge.
    #[error("the proof of share {0} is none for this drill: it was made with another share or another challenge")]
    Wrong(u8),
}

/// A holder's proof for a challenge: `ichor-proof1.<kit>.<share>.<signature>`, which is no secret. Only a share that is this kit's
/// and as it was made is proved.
///
/// # Errors
/// When it is not.
pub fn prove(facts: &Facts, share: &Share, challenge: &[u8; 32]) -> Result<String, ShareFault> {
    check(facts, share)?;
    let known = facts.share(share.index()).ok_or(ShareFault::NoSuchIndex(share.index()))?;
    let wrong = || ShareFault::Wrong { index: known.index, holder: known.holder.clone() };
    let salt = salt(&known.salt).ok_or_else(wrong)?;
    let key = proof_key(share, facts.id, &salt).map_err(|_| wrong())?;
    let signature = key.sign(&message(facts.id, known.index, challenge));
    Ok(format!("{PREFIX}.{}.{}.{}", facts.number, known.index, BASE64URL_NOPAD.encode(signature.as_ref())))
}

/// The index of the share that a text proves.
///
/// # Errors
/// When it proves none of this kit for this challenge.
pub fn check_proof(prover: &Prover<'_>, challenge: &[u8; 32], text: &str) -> Result<u8, BadProof> {
    let mut parts = text.trim().split('.');
    let (Some(PREFIX), Some(number), Some(index), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BadProof::NotAProof);
    };
    let number: u16 = number.parse().map_err(|_| BadProof::NotAProof)?;
    if number != prover.number {
        return Err(BadProof::OtherKit(number));
    }
    let index: u8 = index.parse().map_err(|_| BadProof::NotAProof)?;
    let (_, key) = prover.keys.iter().find(|(known, _)| *known == index).ok_or(BadProof::NoSuchShare(index))?;
    let key = HEXLOWER.decode(key.as_bytes()).map_err(|_| BadProof::Wrong(index))?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| BadProof::NotAProof)?;
    let verified = UnparsedPublicKey::new(&ED25519, key).verify(&message(prover.id, index, challenge), &signature);
    verified.map(|()| index).map_err(|_| BadProof::Wrong(index))
}

fn message(id: Uuid, index: u8, challenge: &[u8; 32]) -> Vec<u8> {
    [b"ichor kit drill 1\0".as_slice(), id.as_bytes(), &[index], challenge].concat()
}
