//! Which human is behind an account.

use sha2::{Digest, Sha256};

use crate::domain::Person;

/// Tells the human behind an account from others: the account itself, by provider, issuer and subject. Two spellings of a name
/// never make two humans, since names do not count.
pub(super) fn human(person: &Person) -> [u8; 32] {
    let mut digest = Sha256::new_with_prefix(b"ichor account 1\0");
    for part in [person.provider.as_str(), &person.issuer, &person.subject] {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}
