//! `GET /v1/audit/lines`: entries as lines, oldest first, as many as there are; and those to come.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use ichor_wire::api::{AuditEntry, LinesQuery};
use ichor_wire::problem::{Code, Problem};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::Api;
use super::audit::Asked;
use crate::audit;
use crate::clock::SharedClock;
use crate::domain::SessionId;
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, StrictQuery};
use crate::policy::PolicySet;
use crate::store::{EntryFilter, Store, StoreError};

/// So many people may take lines at once; more are told to come again.
pub const READERS: usize = 64;

/// So many entries are read at a time.
const PAGE: u32 = 500;

/// How often a log that someone follows is looked at. A look at nothing new costs one read of its end.
const LOOK: Duration = Duration::from_millis(500);

/// How often someone who waits gets an empty line, so that both ends know that the other is there.
const BEAT: Duration = Duration::from_secs(15);

/// How long one answer follows the log. Then the client asks again, and session and policy are looked at anew.
const FOLLOWS: Duration = Duration::from_secs(300);

/// Entries as JSON lines, oldest first: all that match up to the log's present end, or with `follow` also those to come, for
/// five minutes or until the session ends or the policies change; then ask again with `after`, the index of the last line. An
/// empty line says only that the broker is there. Who may read what, and that it is recorded, is as for `/v1/audit/entries`;
/// an answer is recorded once, when it begins.
#[utoipa::path(get, path = "/v1/audit/lines", tag = "audit", params(LinesQuery), responses(
    (status = 200, description = "a line for each entry", body = AuditEntry, content_type = "application/x-ndjson"),
    (status = 400, description = "a filter cannot be read", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses", body = Problem),
    (status = 503, description = "too many read at once", body = Problem),
))]
pub async fn list(
    State(api): State<Api>,
    StrictQuery(query): StrictQuery<LinesQuery>,
    caller: Fresh,
) -> Result<Response, ApiError> {
    let follow = query.follow.unwrap_or_default();
    let after = query.after;
    let asked = Asked::of(&query.into_filters())?;
    let place = Arc::clone(&api.readers).try_acquire_owned();
    let busy = || ApiError::new(Code::Unavailable, "too many people take the audit line by line").retry_after(5);
    let place = place.map_err(|_| busy())?;
    // those in force now, before they are asked: only a change from here on ends the answer
    let mut policies = api.policies.clone();
    policies.mark_unchanged();
    let filter = asked.admit(&api, &caller.identity, caller.address).await?;
    // what is recorded from here on belongs to who follows, not to who wants what there is
    let end = if follow { u64::MAX } else { api.store.head().await?.size };
    let next = match after {
        Some(after) => after.saturating_add(1),
        // nobody follows the past by accident: it is asked for with `since` or `after`
        None if follow && filter.since.is_none() => api.store.head().await?.size,
        None => 0,
    };
    let lines = Lines {
        store: Arc::clone(&api.store),
        clock: Arc::clone(&api.clock),
        session: caller.identity.session(),
        policies,
        filter,
        next,
        end,
        follow,
        began: Instant::now(),
        beat: Instant::now(),
        _place: place,
    };
    let lines = stream::try_unfold(lines, |mut lines| async move {
        let chunk = lines.chunk().await;
        if let Err(error) = &chunk {
            tracing::error!(%error, "lines of the audit end early");
        }
        Ok::<_, StoreError>(chunk?.map(|chunk| (chunk, lines)))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// An answer on its way. It holds no handle to the sequencer, so that it keeps no broker from ending.
struct Lines {
    store: Arc<dyn Store>,
    clock: SharedClock,
    session: Option<SessionId>,
    /// Those that let this person read; where they change, or the broker stops and with it whoever publishes them, it ends.
    policies: watch::Receiver<Arc<PolicySet>>,
    filter: EntryFilter,
    /// The first place that was not looked at yet.
    next: u64,
    end: u64,
    follow: bool,
    began: Instant,
    beat: Instant,
    _place: OwnedSemaphorePermit,
}

impl Lines {
    /// The next lines; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            if let Some(chunk) = self.read().await? {
                return Ok(Some(chunk));
            }
            if !self.follow || self.began.elapsed() >= FOLLOWS {
                return Ok(None);
            }
            tokio::select! {
                // a change of policy, or the end of the broker
                _ = self.policies.changed() => return Ok(None),
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.beat.elapsed() >= BEAT {
                self.beat = Instant::now();
                return Ok(if self.is_live().await? { Some(Bytes::from_static(b"\n")) } else { None });
            }
        }
    }

    /// What there is now, if there is anything.
    async fn read(&mut self) -> Result<Option<Bytes>, StoreError> {
        let size = self.store.head().await?.size.min(self.end);
        if self.next >= size {
            return Ok(None);
        }
        let found = audit::entries_from(&*self.store, &self.filter, self.next, PAGE).await?;
        let full = found.len() >= PAGE as usize;
        let mut lines = Vec::new();
        for entry in found.iter().filter(|entry| entry.index < self.end) {
            serde_json::to_writer(&mut lines, entry).map_err(|error| StoreError::Damaged(error.to_string()))?;
            lines.push(b'\n');
        }
        // where the page was not full, all up to the size that was seen before was looked at
        let seen = found.last().map_or(size, |last| last.index.saturating_add(1));
        self.next = if full { seen } else { seen.max(size) };
        Ok((!lines.is_empty()).then(|| Bytes::from(lines)))
    }

    async fn is_live(&self) -> Result<bool, StoreError> {
        let Some(id) = self.session else { return Ok(false) };
        let now: Timestamp = self.clock.now();
        let session = self.store.session(id).await?;
        Ok(session.is_some_and(|session| session.ended_at.is_none() && now < session.expires_at))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::clock::FrozenClock;
    use crate::policy::{Limits, Source};
    use crate::store::Change;
    use crate::store::conformance::{after, logged_in, noon, one, with};
    use crate::store::sqlite::{Options, SqliteStore};

    fn no_policies() -> PolicySet {
        PolicySet::load(&[Source { name: "none.cedar".into(), text: String::new() }], Limits::default()).unwrap()
    }

    async fn following() -> (Lines, watch::Sender<Arc<PolicySet>>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap());
        let session = logged_in(&*store, 1).await.id;
        let (publish, policies) = watch::channel(Arc::new(no_policies()));
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let lines = Lines {
            store,
            clock: FrozenClock::at(noon()),
            session: Some(session),
            policies,
            filter: EntryFilter::default(),
            next: 1,
            end: u64::MAX,
            follow: true,
            began: Instant::now(),
            beat: Instant::now(),
            _place: place,
        };
        (lines, publish, folder)
    }

    #[tokio::test]
    async fn whoever_follows_is_cut_off_with_their_session() {
        let (mut lines, _publish, _folder) = following().await;
        let beat = |lines: &mut Lines| lines.beat = lines.beat.checked_sub(BEAT).unwrap();
        beat(&mut lines);
        assert_eq!(lines.chunk().await.unwrap(), Some(Bytes::from_static(b"\n")), "the broker is there");
        let session = lines.session.unwrap();
        one(&*lines.store, with(Change::SessionEnd { session, now: after(1) })).await;
        lines.next = 2;
        beat(&mut lines);
        assert_eq!(lines.chunk().await.unwrap(), None);
    }

    #[tokio::test]
    async fn whoever_follows_asks_again_when_the_policies_change() {
        let (mut lines, publish, _folder) = following().await;
        publish.send(Arc::new(no_policies())).unwrap();
        let ended = tokio::time::timeout(BEAT / 2, lines.chunk()).await;
        assert_eq!(ended.expect("at once").unwrap(), None);
    }
}
