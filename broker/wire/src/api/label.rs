//! What an emergency access was, as it is labelled afterwards.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a use of a break-glass request, or an opening of a kit, was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// It was needed.
    Emergency,
    /// An exercise. The full opening of a kit is a use all the same: the kit is to be rotated.
    Drill,
    /// It should not have been.
    Misuse,
}

/// A text is no [`Label`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a label is `emergency`, `drill` or `misuse`")]
pub struct NotALabel;

// === impl Label ===

impl Label {
    /// Every label.
    pub const ALL: [Self; 3] = [Self::Emergency, Self::Drill, Self::Misuse];

    /// The label as entries have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Drill => "drill",
            Self::Misuse => "misuse",
        }
    }

    /// What it says, as command lines explain it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Emergency => "It was needed",
            Self::Drill => "An exercise; the full opening of a kit is a use all the same",
            Self::Misuse => "It should not have been",
        }
    }
}

impl FromStr for Label {
    type Err = NotALabel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|label| label.as_str() == text).ok_or(NotALabel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_is_written() {
        for label in Label::ALL {
            assert_eq!(label.as_str().parse(), Ok(label));
            assert_eq!(serde_json::to_value(label).unwrap(), label.as_str());
        }
        assert_eq!("Drill".parse::<Label>(), Err(NotALabel));
    }
}
