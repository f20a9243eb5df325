//! What stands behind `grant:` in a certificate.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// What begins the name of a grant that a break-glass kit gave.
const KIT: &str = "kit-";

/// A grant as a certificate names it, at most 46 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GrantName {
    /// One that a broker recorded: its id.
    Recorded(Uuid),
    /// One that a kit's opener recorded on their own machine: `kit-<number>-<id>`.
    Kit {
        /// The kit's number.
        number: u16,
        /// The grant's id.
        id: Uuid,
    },
}

/// The text is no grant's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a grant is named by its id, or as `kit-7-` and its id")]
pub struct BadGrantName;

// === impl GrantName ===

impl GrantName {
    /// The grant's id, whoever recorded it.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        match self {
            Self::Recorded(id) | Self::Kit { id, .. } => *id,
        }
    }

    /// The kit that gave it, if one did.
    #[must_use]
    pub const fn kit(&self) -> Option<u16> {
        match self {
            Self::Recorded(_) => None,
            Self::Kit { number, .. } => Some(*number),
        }
    }
}

impl fmt::Display for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded(id) => id.fmt(f),
            Self::Kit { number, id } => write!(f, "{KIT}{number}-{id}"),
        }
    }
}

impl FromStr for GrantName {
    type Err = BadGrantName;

    /// A kit's grant is read in the one form in which it is written; an id in every form that an id has.
    fn from_str(text: &str) -> Result<Self, BadGrantName> {
        let Some(rest) = text.strip_prefix(KIT) else {
            return text.parse().map(Self::Recorded).map_err(|_| BadGrantName);
        };
        let (number, id) = rest.split_once('-').ok_or(BadGrantName)?;
        let number = number.parse().map_err(|_| BadGrantName)?;
        let name = Self::Kit { number, id: id.parse().map_err(|_| BadGrantName)? };
        if name.to_string() == text { Ok(name) } else { Err(BadGrantName) }
    }
}

impl From<Uuid> for GrantName {
    fn from(id: Uuid) -> Self {
        Self::Recorded(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let id = Uuid::from_u128(7);
        for name in [GrantName::Recorded(id), GrantName::Kit { number: 0, id }, GrantName::Kit { number: u16::MAX, id }]
        {
            assert_eq!(name.to_string().parse(), Ok(name));
            assert!("grant:".len() + name.to_string().len() <= 64, "an Organization has 64 characters");
            assert_eq!(name.id(), id);
        }
        assert_eq!(GrantName::Kit { number: 7, id }.kit(), Some(7));
        for bad in ["", "kit-", "kit-7", "kit-07-00000000-0000-0000-0000-000000000007", "kit-70000-x", "kit--7", "x"] {
            assert_eq!(bad.parse::<GrantName>(), Err(BadGrantName), "{bad}");
        }
    }
}
