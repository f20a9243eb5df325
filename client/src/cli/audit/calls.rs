//! Calls at nodes, as the nodes' own logs tell of them.

use ichor_wire::problem::Code;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PAGE, Query};
use crate::error::Error;
use crate::session::Session;

/// One call, as far as it is shown. A broker may say more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) node: String,
    pub(super) cluster: String,
    pub(super) method: String,
    #[serde(default)]
    pub(super) code: Option<String>,
    pub(super) started: Timestamp,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    #[serde(default)]
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) grant_id: Option<Uuid>,
    #[serde(default)]
    pub(super) peer: Option<String>,
    pub(super) class: String,
    #[serde(default)]
    pub(super) why: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Page {
    calls: Vec<Call>,
    #[serde(default)]
    next: Option<String>,
}

/// The calls that match, newest first, at most `limit`; `None` where the broker takes no node logs in.
pub(super) async fn calls(session: &Session, query: &Query, limit: u64) -> Result<Option<Vec<Call>>, Error> {
    let mut found: Vec<Call> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let missing = limit.saturating_sub(found.len() as u64);
        let mut page = query.clone();
        page.push(("limit", missing.min(PAGE).to_string()));
        page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let answer: Page = match session.broker().get(session, &["audit", "calls"], &page).await {
            Ok(answer) => answer,
            Err(Error::Problem(problem)) if problem.code == Code::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let empty = answer.calls.is_empty();
        found.extend(answer.calls);
        match answer.next {
            Some(next) if !empty && (found.len() as u64) < limit => cursor = Some(next),
            _ => return Ok(Some(found)),
        }
    }
}

// === impl Call ===

impl Call {
    /// The method without its package, as people name it.
    pub(super) fn short_method(&self) -> &str {
        self.method.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("?")
    }
}
