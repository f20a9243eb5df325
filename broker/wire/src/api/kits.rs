//! Bodies of `/v1/kits`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Label, Receipt};

/// The body of `POST /v1/kits/reports`: an opening of a break-glass kit is brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KitReportAsk {
    /// The record's text, as `ichor kit open` wrote it.
    pub record: String,
    /// What the opening was.
    pub label: Label,
    /// What is to be said of it; it goes into the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
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
    /// What it was.
    pub label: Label,
    /// The entry that says so.
    pub receipt: Receipt,
}
