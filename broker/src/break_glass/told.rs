//! Being let in alone: what opens such a request is that someone outside was told of it.

use ichor_wire::api::AuditEntry;
use ichor_wire::log::{Content, Kind};
use uuid::Uuid;

use super::quorum::good_until;
use super::{BreakGlass, BreakGlassError, contents};
use crate::audit::RecordError;
use crate::domain::{BreakGlassId, BreakGlassState};
use crate::store::{BreakGlassChange, Change, Condition, ToldRow};

impl BreakGlass {
    /// Takes in that `sink`, outside, has accepted the notification of this entry. Where the entry says that someone lets
    /// themselves in, returns once it is recorded that their request is open; any other entry changes nothing, and neither does
    /// one whose request waits no longer. A lock is no reason not to record it: it is the use that a lock stops.
    ///
    /// # Errors
    /// When that cannot be recorded: then it is to be sent again.
    pub async fn told(&self, entry: &AuditEntry, sink: &str) -> Result<(), BreakGlassError> {
        let detail = |name: &str| entry.detail.get(name).map(String::as_str);
        if entry.kind != Kind::BreakGlassRequest.as_str() || detail("self_service").is_none() {
            return Ok(());
        }
        let Some(id) = detail("break_glass").and_then(|id| Uuid::try_parse(id).ok()).map(BreakGlassId) else {
            return Ok(());
        };
        let (file, contents) = match self.load(id).await {
            Err(BreakGlassError::Unknown) => return Ok(()),
            loaded => loaded?,
        };
        let hash = data_encoding::HEXLOWER.encode(&contents.hash);
        let is_this = contents.said.self_service && detail("contents") == Some(hash.as_str());
        if !is_this || self.state_now(&file.request) != BreakGlassState::Pending {
            return Ok(());
        }
        let now = self.clock.now();
        let mut told = ToldRow {
            hash: contents.hash,
            sink: sink.into(),
            // as the database keeps it
            at: now.round(jiff::Unit::Microsecond).unwrap_or(now),
            tag: [0; 32],
        };
        told.tag = contents::told_tag(id, &told, &self.data_key);
        let content = Content {
            cluster: Some(contents.said.cluster.clone()),
            roles: Some(contents.said.roles.iter().map(ToString::to_string).collect()),
            break_glass: Some(id.0.as_bytes().to_vec()),
            contents: Some(contents.hash.to_vec()),
            requester: Some(contents.said.user.clone()),
            not_after: Some(good_until(told.at, &contents).as_second()),
            self_service: Some(true),
            told: Some(sink.into()),
            ..Content::of(Kind::BreakGlassTold)
        };
        let change = BreakGlassChange::Told { request: id, told: Box::new(told) };
        let change = Change::BreakGlass { change, now, keys: None };
        match self.sequencer.note(content, Some(change)).await {
            // another sink was first, or someone denied it
            Ok(_) | Err(RecordError::Refused(Condition::RequestMoved)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
