//! Identities for the tests of other rooms, from rows as the broker would have written them.

use super::{Identity, vouch};
use crate::custody::DataKey;
use crate::store::SessionRow;

pub(crate) fn key() -> DataKey {
    DataKey::new(&[1; 32]).unwrap()
}

/// The identity of a row that says this.
pub(crate) fn who(row: &SessionRow) -> Identity {
    let mut row = row.clone();
    vouch(&mut row, &key());
    Identity::restore(&row, &key()).unwrap()
}
