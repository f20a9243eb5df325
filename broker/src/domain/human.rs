//! Who is behind an account, as far as a provider tells it.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::Person;

/// The longest value of a claim that is believed, in bytes.
const LONGEST: usize = 256;

/// What a provider tells of the human behind an account, in the claim configured for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HumanClaim {
    /// No claim is configured: at this provider each human has one account.
    #[default]
    NotAsked,
    /// A claim is configured, and tells nothing of this account.
    Untold,
    /// What tells the human from others: first the mark of the claims that it was read by, then SHA-256 over the claim's value,
    /// shortened. The same value is the same human, whatever provider tells it; values of other claims say nothing of each other.
    Told([u8; 32]),
}

/// A mark of the claims that the providers are configured to tell humans by, all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimsInForce([u8; IN_FORCE]);

/// So many bytes mark the claims in force.
pub(crate) const IN_FORCE: usize = 8;

/// A human, as others are held against them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Human {
    /// The account.
    pub person: Person,
    /// What the configured claim tells; `None` where none is configured.
    pub told: Option<[u8; 32]>,
}

// === impl HumanClaim ===

impl HumanClaim {
    /// What a claim's value tells. Two spellings of one value never make two humans: letters count without their case, blanks at
    /// the ends not at all, and a value that is not printable ASCII tells nothing.
    #[must_use]
    pub fn of(value: &str) -> Self {
        let value = value.trim().to_ascii_lowercase();
        if value.is_empty() || value.len() > LONGEST || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Self::Untold;
        }
        let mut digest = Sha256::new_with_prefix(b"ichor human 1\0");
        digest.update(value);
        Self::Told(digest.finalize().into()).under(ClaimsInForce::default())
    }

    /// The same, as read while these claims are in force.
    #[must_use]
    pub fn under(self, claims: ClaimsInForce) -> Self {
        let Self::Told(mut told) = self else { return self };
        told.iter_mut().zip(claims.0).for_each(|(byte, mark)| *byte = mark);
        Self::Told(told)
    }

    /// As the database keeps it.
    #[must_use]
    pub fn to_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::NotAsked => None,
            Self::Untold => Some(Vec::new()),
            Self::Told(digest) => Some(digest.to_vec()),
        }
    }

    /// What the database kept; `None` for what it cannot have been.
    #[must_use]
    pub fn from_bytes(kept: Option<&[u8]>) -> Option<Self> {
        match kept {
            None => Some(Self::NotAsked),
            Some([]) => Some(Self::Untold),
            Some(digest) => digest.try_into().ok().map(Self::Told),
        }
    }
}

// === impl ClaimsInForce ===

impl ClaimsInForce {
    /// Of the claims that the providers name, in whatever order.
    #[must_use]
    pub fn of<'a>(claims: impl IntoIterator<Item = &'a str>) -> Self {
        let mut digest = Sha256::new_with_prefix(b"ichor human claims 1\0");
        for claim in claims.into_iter().collect::<BTreeSet<_>>() {
            digest.update(u64::try_from(claim.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(claim);
        }
        let mut mark = [0; IN_FORCE];
        mark.iter_mut().zip(digest.finalize()).for_each(|(mark, byte)| *mark = byte);
        Self(mark)
    }

    /// Whether this was told under these claims.
    #[must_use]
    pub fn are_of(self, told: &[u8; 32]) -> bool {
        told.starts_with(&self.0)
    }
}

// === impl Human ===

impl Human {
    /// Whether this is surely another human than `other`: by the claim that both providers tell, read under the same configuration;
    /// where no claim is configured for either, by being another account of the same provider. One that a claim is told of and one
    /// that none or another claim is told of may be the same human.
    #[must_use]
    pub fn is_surely_another(&self, other: &Self) -> bool {
        let (one, two) = (&self.person, &other.person);
        match (self.told, other.told) {
            (Some(own), Some(others)) => self.is_told_as(other) && own != others && one != two,
            (None, None) => one.provider == two.provider && one.issuer == two.issuer && one.subject != two.subject,
            _ => false,
        }
    }

    /// Whether both were told apart from others in the same way: by the same claims, or both by their account.
    #[must_use]
    pub fn is_told_as(&self, other: &Self) -> bool {
        match (&self.told, &other.told) {
            (Some(own), Some(others)) => own.first_chunk::<IN_FORCE>() == others.first_chunk(),
            (own, others) => own.is_none() && others.is_none(),
        }
    }

    /// Tells the human from others: the claim, or the account by provider, issuer and subject. Names do not count.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        if let Some(told) = self.told {
            return told;
        }
        let mut digest = Sha256::new_with_prefix(b"ichor account 1\0");
        for part in [self.person.provider.as_str(), &self.person.issuer, &self.person.subject] {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ProviderAlias;

    fn human(provider: &str, subject: &str, claim: HumanClaim) -> Human {
        let person = Person {
            provider: ProviderAlias::new(provider).unwrap(),
            issuer: format!("https://{provider}.example"),
            subject: subject.into(),
        };
        let told = match claim {
            HumanClaim::Told(digest) => Some(digest),
            _ => None,
        };
        Human { person, told }
    }

    #[test]
    fn case_15_spellings_of_a_claim_are_one_human() {
        let same = HumanClaim::of("E1234@example.com");
        for spelling in ["e1234@example.com", " E1234@EXAMPLE.COM ", "e1234@example.com\n"] {
            assert_eq!(HumanClaim::of(spelling), same, "{spelling:?}");
        }
        for nothing in ["", "  ", "Ｅ1234@example.com", "e1234\u{200b}@example.com", "a\u{0}b", &"x".repeat(257)] {
            assert_eq!(HumanClaim::of(nothing), HumanClaim::Untold, "{nothing:?}");
        }
        assert_ne!(HumanClaim::of("e1"), HumanClaim::of("e2"));
    }

    #[test]
    fn across_providers_only_the_claim_tells_humans_apart() {
        let (one, two) = (HumanClaim::of("1"), HumanClaim::of("2"));
        let is_another = |a: &Human, b: &Human| {
            assert_eq!(a.is_surely_another(b), b.is_surely_another(a));
            a.is_surely_another(b)
        };
        assert!(is_another(&human("a", "x", one), &human("b", "y", two)));
        assert!(is_another(&human("a", "x", one), &human("a", "y", two)));
        assert!(!is_another(&human("a", "x", one), &human("b", "y", one)), "two accounts of one human");
        assert!(!is_another(&human("a", "x", one), &human("a", "y", one)), "two accounts at one provider");
        assert!(!is_another(&human("a", "x", one), &human("a", "x", two)), "one account is one human");
        assert!(is_another(&human("a", "x", HumanClaim::NotAsked), &human("a", "y", HumanClaim::NotAsked)));
        assert!(!is_another(&human("a", "x", HumanClaim::NotAsked), &human("b", "y", HumanClaim::NotAsked)));
        assert!(!is_another(&human("a", "x", HumanClaim::NotAsked), &human("b", "y", one)));
        assert!(!is_another(&human("a", "x", HumanClaim::NotAsked), &human("a", "y", one)));
    }

    #[test]
    fn values_of_other_claims_say_nothing_of_each_other() {
        let [number, login] = ["employee_number", "login"].map(|claim| ClaimsInForce::of([claim]));
        let (seven, ada) = (HumanClaim::of("7").under(number), HumanClaim::of("ada").under(login));
        assert!(!human("a", "x", seven).is_surely_another(&human("a", "y", ada)), "both may be ada's");
        let eight = HumanClaim::of("8").under(number);
        assert!(human("a", "x", seven).is_surely_another(&human("b", "y", eight)));
        assert!(number.are_of(&human("a", "x", seven).digest()) && !login.are_of(&human("a", "x", seven).digest()));
        let both = |claims: [&'static str; 3]| ClaimsInForce::of(claims);
        assert_eq!(both(["a", "b", "a"]), both(["b", "a", "b"]));
        assert_ne!(both(["a", "b", "a"]), number);
        let is_told_as = |one, two| human("a", "x", one).is_told_as(&human("b", "y", two));
        assert!(is_told_as(seven, eight) && is_told_as(HumanClaim::NotAsked, HumanClaim::NotAsked));
        assert!(!is_told_as(seven, ada) && !is_told_as(seven, HumanClaim::NotAsked));
        assert_eq!(HumanClaim::Untold.under(number), HumanClaim::Untold);
    }

    #[test]
    fn what_is_kept_reads_back() {
        for claim in [HumanClaim::NotAsked, HumanClaim::Untold, HumanClaim::of("1")] {
            assert_eq!(HumanClaim::from_bytes(claim.to_bytes().as_deref()), Some(claim));
        }
        assert_eq!(HumanClaim::from_bytes(Some(&[1])), None);
    }
}
