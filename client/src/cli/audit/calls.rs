//! Calls at nodes, as the nodes' own logs tell of them.

use ichor_wire::api::{CallAnswer, NodeCall};
use jiff::Timestamp;

use super::{PAGE, Query};
use crate::error::Error;
use crate::session::Session;

/// Calls that were found.
pub(super) struct Found {
    /// Newest first.
    pub(super) calls: Vec<NodeCall>,
    /// There are more.
    pub(super) more: bool,
    /// Calls that came up to this time may be missing: the broker's quota took some.
    pub(super) taken_until: Option<Timestamp>,
}

/// The calls that match, newest first, page by page, until there are `limit` or no more.
pub(super) async fn calls(session: &Session, query: &Query, limit: u64) -> Result<Found, Error> {
    let mut calls: Vec<NodeCall> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let missing = limit.saturating_sub(calls.len() as u64);
        let mut page = query.clone();
        page.push(("limit", missing.min(PAGE).to_string()));
        page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let answer: CallAnswer = session.broker().get(session, &["audit", "calls"], &page).await?;
        let empty = answer.calls.is_empty();
        calls.extend(answer.calls);
        let beyond = calls.len() as u64 > limit;
        calls.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        match answer.next {
            Some(next) if !empty && (calls.len() as u64) < limit => cursor = Some(next),
            next => {
                let more = beyond || next.is_some() && !empty;
                return Ok(Found { calls, more, taken_until: answer.taken_until });
            }
        }
    }
}

/// The method without its package, as people name it.
pub(super) fn short_method(call: &NodeCall) -> &str {
    call.method.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("?")
}
