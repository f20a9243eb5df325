//! Bodies of `/v1/kits`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Receipt;

/// The body of `POST /v1/kits/reports`: an opening of a break-glass kit is brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KitReportAsk {
    /// The record's text, as `ichor kit open` wrote it.
    pub record: String,
    /// What the opening was.
    pub label: KitLabel,
    /// What is to be said of it; it goes into the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What an opening was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KitLabel {
    /// It was needed.
    Emergency,
    /// A full opening as exercise. It is a use all the same: the kit is to be rotated.
    Drill,
    /// It should not have been.
    Misuse,
}

/// An opening that was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KitReportAnswer {
    /// The kit's number.
    pub kit: u16,
    /// The cluster's name.
    pub cluster: String,
    /// The grant, as nodes log it.
    pub grant: String,
    /// The name that the opener gave; nobody checked it.
    pub claimed: String,
    /// When it was opened, by the opener's clock.
    #[schema(value_type = String, format = DateTime)]
    pub opened: Timestamp,
    /// What it was said to be.
    pub label: KitLabel,
    /// In what the record claims more than the kit gives, if it does: it is recorded as that then, and explains nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond: Option<String>,
    /// The entry that says so.
    pub receipt: Receipt,
}

// === impl KitLabel ===

impl KitLabel {
    /// The label as entries have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Drill => "drill",
            Self::Misuse => "misuse",
        }
    }
}
