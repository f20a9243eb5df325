//! What a stored entry says, once its parts fit together.

use ichor_wire::log::{Entry, Kind, Leaf};

use crate::store::{StoreError, StoredEntry};

/// An entry in the database is not one that was recorded there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {place} {what}")]
pub struct NotRecorded {
    /// Its place.
    pub place: u64,
    /// What is wrong with it, behind its name.
    pub what: &'static str,
}

/// What the entry says; `None` where its body is gone. Nothing outside the store that decides decodes a body in another way: its leaf must be of this
/// place and stand for it, their times must be one, and an entry that was found by the column of its `kind` must be of that.
///
/// Whoever writes the database can change leaf and body alike: that shows only in the signed tree, see [`super::Walk`].
///
/// # Errors
/// When the parts do not fit.
pub fn as_recorded(stored: &StoredEntry, kind: Option<Kind>) -> Result<Option<Entry>, NotRecorded> {
    let unlike = |what| NotRecorded { place: stored.index, what };
    let leaf = Leaf::decode(&stored.leaf).map_err(|_| unlike("has a damaged leaf"))?;
    if leaf.index != stored.index {
        return Err(unlike("has another entry's leaf"));
    }
    let Some(body) = &stored.body else { return Ok(None) };
    if !leaf.stands_for(body) {
        return Err(unlike("has another body than was recorded"));
    }
    let entry = Entry::decode(body).map_err(|_| unlike("cannot be decoded"))?;
    if entry.time != leaf.time {
        return Err(unlike("has another time than its leaf"));
    }
    if kind.is_some_and(|kind| kind != entry.content.kind) {
        return Err(unlike("is of another kind than its column says"));
    }
    Ok(Some(entry))
}

impl From<NotRecorded> for StoreError {
    fn from(unlike: NotRecorded) -> Self {
        Self::Damaged(format!("{unlike}; run `ichor-broker audit verify`"))
    }
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::Content;

    use super::*;
    use crate::store::conformance::{entry, noon};

    #[test]
    fn an_entry_whose_parts_do_not_fit_says_nothing() {
        let made = |kind| entry(Content::of(kind), noon());
        let (grant, start) = (made(Kind::Grant), made(Kind::Start));
        let stored = |place, body: &[u8], of: &[u8], time| StoredEntry {
            index: place,
            leaf: Leaf::of(7, of, time).encode().unwrap(),
            body: Some(body.to_vec()),
        };
        let (body, time) = (&grant.encoded[..], grant.entry.time);
        let fits = stored(7, body, body, time);
        assert_eq!(as_recorded(&fits, Some(Kind::Grant)), Ok(Some(grant.entry.clone())));
        assert_eq!(as_recorded(&fits, None), Ok(Some(grant.entry.clone())));
        assert_eq!(as_recorded(&StoredEntry { body: None, ..fits.clone() }, Some(Kind::Grant)), Ok(None));
        let cases = [
            (fits.clone(), Kind::Issued, "is of another kind than its column says"),
            (stored(8, body, body, time), Kind::Grant, "has another entry's leaf"),
            (stored(7, &start.encoded, body, time), Kind::Start, "has another body than was recorded"),
            (stored(7, body, body, time + 1), Kind::Grant, "has another time than its leaf"),
            (StoredEntry { leaf: vec![0], ..fits }, Kind::Grant, "has a damaged leaf"),
        ];
        for (forged, kind, why) in cases {
            assert_eq!(as_recorded(&forged, Some(kind)).map_err(|unlike| unlike.what), Err(why));
        }
    }
}
