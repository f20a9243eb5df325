//! Calls at nodes, as the nodes' own logs tell of them.

use ichor_wire::api::{CallAnswer, NodeCall};
use jiff::Timestamp;

use super::times::Zone;
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

// === impl Found ===

impl Found {
    /// Up to when calls of the time from `since` on may be missing.
    pub(super) fn taken_until(&self, since: Option<Timestamp>) -> Option<Timestamp> {
        self.taken_until.filter(|until| since.is_none_or(|since| *until >= since))
    }
}

/// What is said where the quota took calls that came up to this time.
pub(super) fn taken(until: Timestamp, zone: &Zone) -> String {
    format!("the broker's quota took calls that came up to {}: of that time calls may be missing", zone.show(until))
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
