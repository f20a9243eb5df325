//! Which places in the log each start wrote down, so that one which is gone, or lost its mark, is not taken for a new one.

use std::collections::{BTreeMap, BTreeSet};

use ichor_wire::log::Kind;
use sha2::{Digest, Sha256};

use crate::audit::{self, QueryError};
use crate::store::{EntryFilter, Store, StoreError};

/// What begins a place's name among the digests of a start.
const PART: &str = "place/";

/// What an entry as people read it says before each digest's name.
const SHOWN: &str = "digest of ";

/// So many starts are looked at: brokers that share a database may have different forwardings.
const STARTS: u32 = 20;

/// The names of the places that the latest starts wrote down: each has been in the database, marked, since then.
///
/// # Errors
/// When the store cannot be read or is damaged.
pub(super) async fn known(store: &dyn Store) -> Result<BTreeSet<String>, StoreError> {
    let starts = EntryFilter { kind: Some(Kind::Start), ..EntryFilter::default() };
    let starts = audit::entries(store, &starts, None, STARTS).await.map_err(|error| match error {
        QueryError::Store(error) => error,
        QueryError::Cursor => StoreError::Damaged(error.to_string()),
    })?;
    let names = starts.entries.iter().flat_map(|start| start.detail.keys());
    let place = |name: &String| Some(name.strip_prefix(SHOWN)?.strip_prefix(PART)?.to_owned());
    Ok(names.filter_map(place).collect())
}

/// What a start writes down of these places: by name, the digest of the name.
pub(super) fn written<'a>(places: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let digest = |place: &str| data_encoding::HEXLOWER.encode(&Sha256::digest(place));
    places.map(|place| (format!("{PART}{place}"), digest(place))).collect()
}
