//! Reading the log, newest first, page by page.

use data_encoding::BASE64URL_NOPAD;
use ichor_wire::api::{AuditAnswer, AuditEntry};
use ichor_wire::log::{Leaf, LogError, leaf_hash};

use super::as_recorded;
use crate::store::{EntryFilter, Store, StoreError, StoredEntry};

/// What a cursor begins with: another meaning of the rest gets another number.
const CURSOR: &str = "1:";

/// Why a page cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The cursor is not one that an answer gave.
    #[error("the cursor is not one of ours; begin again without it")]
    Cursor,
    /// The store cannot be read, or what it holds is not what was recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The newest `limit` entries that match and lie behind `cursor`, and the cursor of the next page where there is one. An
/// entry whose body is not the one that its leaf stands for is never answered.
///
/// Who may ask is for the caller to decide; [`EntryFilter::own`] is what everyone may see.
///
/// # Errors
/// When the cursor is not ours, or the store cannot be read or is damaged.
pub async fn entries(
    store: &dyn Store,
    filter: &EntryFilter,
    cursor: Option<&str>,
    limit: u32,
) -> Result<AuditAnswer, QueryError> {
    let before = cursor.map(parse_cursor).transpose()?;
    // One more than asked for tells whether there is a next page.
    let mut found = store.entries(filter, before, limit.saturating_add(1)).await?;
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > page;
    found.truncate(page);
    let next = if more { found.last().map(|last| cursor_after(last.index)) } else { None };
    let entries = found.iter().map(show).collect::<Result<_, _>>()?;
    Ok(AuditAnswer { entries, next })
}

/// The oldest `limit` entries that match, from the place `from` on. What is said of [`entries`] holds here too.
///
/// # Errors
/// When the store cannot be read or is damaged.
pub async fn entries_from(
    store: &dyn Store,
    filter: &EntryFilter,
    from: u64,
    limit: u32,
) -> Result<Vec<AuditEntry>, StoreError> {
    store.entries_from(filter, from, limit).await?.iter().map(show).collect()
}

/// Whether the cursor is one of ours.
///
/// # Errors
/// When it is not.
pub fn check_cursor(cursor: &str) -> Result<(), QueryError> {
    parse_cursor(cursor).map(drop)
}

/// The entry as people and programs read it.
pub(super) fn show(stored: &StoredEntry) -> Result<AuditEntry, StoreError> {
    let hash = leaf_hash(&stored.leaf);
    if let Some(entry) = as_recorded(stored, None)? {
        return Ok(AuditEntry::of(stored.index, &entry, &hash));
    }
    let damaged = |error: LogError| StoreError::Damaged(format!("entry {}: {error}", stored.index));
    Ok(AuditEntry::of_dropped(&Leaf::decode(&stored.leaf).map_err(damaged)?, &hash))
}

fn cursor_after(index: u64) -> String {
    BASE64URL_NOPAD.encode(format!("{CURSOR}{index}").as_bytes())
}

fn parse_cursor(text: &str) -> Result<u64, QueryError> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| QueryError::Cursor)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| QueryError::Cursor)?;
    text.strip_prefix(CURSOR).and_then(|index| index.parse().ok()).ok_or(QueryError::Cursor)
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::{Content, Kind};

    use super::*;
    use crate::audit::tests::Room;
    use crate::store::conformance::{log_person, person};

    async fn said(room: &Room, count: usize) {
        for number in 0..count {
            let who = if number % 2 == 0 { "ada" } else { "bob" };
            let content = Content { person: Some(log_person(who, who)), ..Content::of(Kind::Login) };
            room.sequencer.note(content, None).await.unwrap();
        }
    }

    #[tokio::test]
    async fn pages_lead_through_the_whole_log_without_gap_or_repeat() {
        let room = Room::new([]);
        said(&room, 10).await;
        for limit in [1, 3, 5, 10, 11] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = entries(&*room.store, &EntryFilter::default(), cursor.as_deref(), limit).await.unwrap();
                assert!(!page.entries.is_empty(), "a cursor leads somewhere");
                seen.extend(page.entries.iter().map(|entry| entry.index));
                match page.next {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen, (0..10).rev().collect::<Vec<_>>(), "by {limit}");
        }
    }

    #[tokio::test]
    async fn ones_own_entries_and_nobody_elses() {
        let room = Room::new([]);
        said(&room, 4).await;
        let own = EntryFilter { own: Some(person("ada")), ..EntryFilter::default() };
        let answer = entries(&*room.store, &own, None, 10).await.unwrap();
        assert_eq!(answer.entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [2, 0]);
        assert_eq!(answer.entries[0].user.as_deref(), Some("ada"));
        assert_eq!(answer.next, None);
    }

    #[tokio::test]
    async fn a_cursor_that_is_not_ours_is_refused() {
        let room = Room::new([]);
        for text in ["", "7", "MQ", "MTot", "MTo3IA", "é", "MjoxNw"] {
            let refused = entries(&*room.store, &EntryFilter::default(), Some(text), 10).await;
            assert_eq!(refused, Err(QueryError::Cursor), "{text:?}");
        }
    }
}
