//! `GET /v1/audit/lines`: entries as lines, oldest first, as many as there are; and those to come.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderName;
use http::header::CONTENT_TYPE;
use ichor_wire::api::{AuditEntry, LINES_AFTER, LinesQuery};
use ichor_wire::problem::Problem;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Api;
use super::audit::Asked;
use super::readers::Place;
use crate::audit;
use crate::clock::SharedClock;
use crate::domain::SessionId;
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, StrictQuery};
use crate::policy::PolicySet;
use crate::store::{EntryFilter, Store, StoreError};

/// So many entries are read at a time.
const PAGE: u32 = 500;

/// How often a log that someone follows is looked at. A look at nothing new costs one read of its end.
const LOOK: Duration = Duration::from_millis(500);

/// How often someone who waits gets an empty line, so that both ends know that the other is there.
const BEAT: Duration = Duration::from_secs(15);

/// How long one answer follows the log. Then the client asks again, and session and policy are looked at anew.
const FOLLOWS: Duration = Duration::from_secs(300);

/// Entries as JSON lines, oldest first: all that match up to the log's present end, or with `follow` also those to come, for
/// five minutes or until the session ends or the policies change; then ask again with `after`, the index of the last line, or what
/// the header `ichor-lines-after` said where there was none. Without `follow` such an end breaks the answer off. An
/// empty line says only that the broker is there. Who may read what, and that it is recorded, is as for `/v1/audit/entries`;
/// an answer is recorded once, when it begins.
#[utoipa::path(get, path = "/v1/audit/lines", tag = "audit", params(LinesQuery), responses(
    (status = 200, description = "a line for each entry", body = AuditEntry, content_type = "application/x-ndjson",
        headers(("ichor-lines-after" = u64, description = "the index of the entry that the first line comes behind"))),
    (status = 400, description = "a filter cannot be read", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses", body = Problem),
    (status = 429, description = "one person reads too often at once", body = Problem),
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
    let place = api.readers.enter(caller.identity.person())?;
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
        place,
    };
    // an entry that comes before the first line was printed is behind this, whenever the client asks again
    let behind = next.checked_sub(1).map(|last| [(HeaderName::from_static(LINES_AFTER), last.to_string())]);
    let lines = stream::try_unfold(lines, |mut lines| async move {
        let chunk = lines.chunk().await;
        if let Err(error) = &chunk {
            tracing::error!(%error, "lines of the audit end early");
        }
        Ok::<_, StoreError>(chunk?.map(|chunk| (chunk, lines)))
    });
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok(match behind {
        Some(behind) => (kind, behind, Body::from_stream(lines)).into_response(),
        None => (kind, Body::from_stream(lines)).into_response(),
    })
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
    /// When the session was last looked at.
    beat: Instant,
    place: Place,
}

impl Lines {
    /// The next lines; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        if !self.place.taken() {
            return self.cut("nobody took its lines");
        }
        let chunk = self.next_lines().await;
        if matches!(chunk, Ok(Some(_))) {
            self.place.given();
        }
        chunk
    }

    async fn next_lines(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            // whatever there is still to read: a backlog keeps nobody reading
            let due = self.beat.elapsed() >= BEAT;
            if due {
                self.beat = Instant::now();
                if !self.is_live().await? {
                    return self.cut("its session is over");
                }
            }
            if self.policies.has_changed().unwrap_or(true) {
                return self.cut("the policies changed, or the broker stops");
            }
            if self.follow && self.began.elapsed() >= FOLLOWS {
                return Ok(None);
            }
            if let Some(chunk) = self.read().await? {
                return Ok(Some(chunk));
            }
            if !self.follow {
                return Ok(None);
            }
            if due {
                return Ok(Some(Bytes::from_static(b"\n")));
            }
            tokio::select! {
                // a change of policy, or the end of the broker
                _ = self.policies.changed() => return Ok(None),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// The end before the end: whoever follows asks again, and an answer that was to be whole must not look it.
    fn cut(&self, why: &str) -> Result<Option<Bytes>, StoreError> {
        match self.follow {
            true => Ok(None),
            false => Err(StoreError::Unavailable(format!("the answer is cut, since {why}; ask again"))),
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
    use ichor_wire::log::{Content, Kind};

    use super::*;
    use crate::clock::FrozenClock;
    use crate::http::api::readers::Readers;
    use crate::policy::{Limits, Source};
    use crate::store::conformance::{after, append, entry, logged_in, noon, one, with};
    use crate::store::sqlite::{Options, SqliteStore};
    use crate::store::{Append, Change};

    fn no_policies() -> PolicySet {
        PolicySet::load(&[Source { name: "none.cedar".into(), text: String::new() }], Limits::default()).unwrap()
    }

    async fn following() -> (Lines, watch::Sender<Arc<PolicySet>>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap());
        let session = logged_in(&*store, 1).await;
        let place = Readers::default().enter(&session.person).unwrap();
        let session = session.id;
        let (publish, policies) = watch::channel(Arc::new(no_policies()));
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
            place,
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

    /// Entries enough for several pages.
    async fn backlog(lines: &mut Lines) {
        let part = || Append { entry: entry(Content::of(Kind::Login), noon()), change: None };
        append(&*lines.store, (0..5 * PAGE).map(|_| part()).collect()).await;
        lines.next = 0;
        assert!(lines.chunk().await.unwrap().is_some_and(|chunk| chunk.len() > 1), "there is more than a page");
    }

    #[tokio::test]
    async fn a_backlog_keeps_nobody_reading() {
        let (mut lines, publish, _folder) = following().await;
        backlog(&mut lines).await;
        lines.began = lines.began.checked_sub(FOLLOWS).unwrap();
        assert_eq!(lines.chunk().await.unwrap(), None, "five minutes are over");
        lines.began = Instant::now();
        publish.send(Arc::new(no_policies())).unwrap();
        assert_eq!(lines.chunk().await.unwrap(), None, "the policies changed");
        lines.policies.mark_unchanged();
        assert!(lines.chunk().await.unwrap().is_some());
        let session = lines.session.unwrap();
        one(&*lines.store, with(Change::SessionEnd { session, now: after(1) })).await;
        lines.beat = lines.beat.checked_sub(BEAT).unwrap();
        assert_eq!(lines.chunk().await.unwrap(), None, "the session is over");
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_does_not_look_whole() {
        let (mut lines, publish, _folder) = following().await;
        backlog(&mut lines).await;
        (lines.follow, lines.end) = (false, u64::MAX);
        lines.began = lines.began.checked_sub(FOLLOWS).unwrap();
        assert!(lines.chunk().await.unwrap().is_some(), "what was asked for whole may last");
        publish.send(Arc::new(no_policies())).unwrap();
        let cut = lines.chunk().await.unwrap_err().to_string();
        assert!(cut.contains("the policies changed"), "{cut}");
    }
}
