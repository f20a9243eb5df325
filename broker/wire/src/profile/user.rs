//! The value behind `user:` in a certificate.

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

/// The longest user value, in bytes: X.520 allows an Organization 64 characters (ub-organization-name), `user:` takes five.
pub const MAX_USER: usize = 59;

/// How many characters of the base32 digest a made-up value has: 130 bits.
const DIGEST_CHARS: usize = 26;

/// The value behind `user:`, and whether it had to be made up.
///
/// It is the first candidate that [`user_fits`]; else `~` and 26 characters of the lower-case base32 of SHA-256 over issuer
/// and subject, each preceded by its length, so that no two pairs are hashed alike. No candidate can begin with `~`, so
/// nobody can take another's made-up value as a name.
#[must_use]
pub fn user_value(issuer: &str, subject: &str, candidates: &[&str]) -> (String, bool) {
    match candidates.iter().find(|candidate| user_fits(candidate) && !candidate.starts_with('~')) {
        Some(candidate) => ((*candidate).to_owned(), false),
        None => (made_up(issuer, subject), true),
    }
}

/// Whether a value can stand behind `user:`: printable ASCII without blanks and `,;=()`, 1 to [`MAX_USER`] bytes.
///
/// A node refuses every call of a certificate whose Organization holds anything but printable ASCII; the other characters
/// structure the node's log line, where the value must not be able to pretend to be something else.
#[must_use]
pub fn user_fits(value: &str) -> bool {
    (1..=MAX_USER).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b';' | b'=' | b'(' | b')'))
}

fn made_up(issuer: &str, subject: &str) -> String {
    let mut hash = Sha256::new();
    for part in [issuer, subject] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut text = BASE32_NOPAD.encode(&hash.finalize()).to_ascii_lowercase();
    text.truncate(DIGEST_CHARS);
    format!("~{text}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_first_candidate_that_fits() {
        let long = "a".repeat(MAX_USER + 1);
        let exact = "a".repeat(MAX_USER);
        let with = |candidates: &[&str]| user_value("https://idp", "s1", candidates);
        assert_eq!(with(&["alice@example.com"]), ("alice@example.com".into(), false));
        assert_eq!(with(&["Alice Ångström", "", &long, "alice"]), ("alice".into(), false));
        assert_eq!(with(&[&exact]), (exact.clone(), false));
        for bad in ["a b", "a,b", "a;b", "a=b", "a(b", "a)b", "a\tb", "a\nb", "ä", "", "a\u{7f}", " a"] {
            assert!(with(&[bad]).1, "{bad:?} must not fit");
        }
    }

    #[test]
    fn nobody_takes_anothers_made_up_value() {
        let (victim, made_up) = user_value("https://idp", "victim", &[]);
        assert!(made_up);
        let (value, made_up) = user_value("https://idp", "mallory", &[&victim]);
        assert!(made_up);
        assert_ne!(value, victim);
    }

    #[test]
    fn the_parts_of_the_digest_cannot_be_shifted() {
        assert_ne!(user_value("ab", "c", &[]), user_value("a", "bc", &[]));
    }

    #[test]
    fn the_made_up_value_is_stable() {
        // Changing it would give people new names in nodes' logs.
        assert_eq!(user_value("https://idp.example.com", "248289761001", &[]).0, VECTOR);
    }

    /// Computed by an independent implementation.
    const VECTOR: &str = "~x5tqapx7t7redektfwzpw3rvyz";

    proptest! {
        #[test]
        fn always_fits(issuer in ".*", subject in ".*", candidate in ".*") {
            let (value, _) = user_value(&issuer, &subject, &[&candidate]);
            prop_assert!(user_fits(&value));
            prop_assert!("user:".len() + value.len() <= 64);
        }
    }
}
