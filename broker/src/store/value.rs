//! How values stand in columns, in both dialects alike. What does not fit its type was not written by us: the database is damaged.

use jiff::Timestamp;
use uuid::Uuid;

use super::CallClass;
use crate::domain::{Group, HumanClaim, PageUse, ProviderAlias};

/// What in a row was not written by us.
#[derive(Debug)]
pub(super) struct Damaged(pub(super) String);

/// A time as a column has it: microseconds since the epoch.
pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(super) fn time(micros: i64) -> Result<Timestamp, Damaged> {
    Timestamp::from_microsecond(micros).map_err(|_| Damaged(format!("`{micros}` is not a time")))
}

pub(super) fn id(bytes: &[u8]) -> Result<Uuid, Damaged> {
    Uuid::from_slice(bytes).map_err(|_| Damaged("an id does not have 16 bytes".into()))
}

pub(super) fn hash(bytes: &[u8]) -> Result<[u8; 32], Damaged> {
    bytes.try_into().map_err(|_| Damaged("a hash does not have 32 bytes".into()))
}

/// A number that is never negative, as a signed integer has it.
pub(super) fn unsigned(number: i64) -> Result<u64, Damaged> {
    u64::try_from(number).map_err(|_| Damaged(format!("`{number}` is negative")))
}

/// A number for a column; one beyond `i64` cannot be reached by counting.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Groups as JSON pairs: two values each, never one joined text.
pub(super) fn groups_text(groups: &[Group]) -> Result<String, Damaged> {
    let pairs: Vec<_> = groups.iter().map(|group| (group.provider.as_str(), &group.name)).collect();
    serde_json::to_string(&pairs).map_err(|error| Damaged(error.to_string()))
}

pub(super) fn groups(text: &str) -> Result<Vec<Group>, Damaged> {
    let pairs: Vec<(String, String)> =
        serde_json::from_str(text).map_err(|_| Damaged("a session's groups cannot be read".into()))?;
    pairs.into_iter().map(|(provider, name)| Ok(Group { provider: alias(&provider)?, name })).collect()
}

pub(super) fn alias(text: &str) -> Result<ProviderAlias, Damaged> {
    ProviderAlias::new(text).map_err(|error| Damaged(error.to_string()))
}

/// Who called: the value behind `user:` of a call's owner, or the one that stands by itself where nobody known called. Never both: the second
/// would be what a query finds, and the first what is shown.
pub(super) fn caller(owner: Option<String>, user: Option<String>) -> Result<Option<String>, Damaged> {
    match (owner, user) {
        (Some(_), Some(_)) => Err(Damaged("a call has an owner and somebody else's name beside".into())),
        (owner, user) => Ok(owner.or(user)),
    }
}

pub(super) fn human(kept: Option<&[u8]>) -> Result<HumanClaim, Damaged> {
    HumanClaim::from_bytes(kept).ok_or_else(|| Damaged("a session's human cannot be read".into()))
}

pub(super) fn page(kept: &[u8]) -> Result<PageUse, Damaged> {
    PageUse::from_bytes(kept).ok_or_else(|| Damaged("a session's page cannot be read".into()))
}

/// The class of a call by its number.
pub(super) fn class(number: u8) -> Result<CallClass, Damaged> {
    CallClass::of_number(number).ok_or_else(|| Damaged(format!("`{number}` is no class of calls")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_an_owner_or_a_name_and_never_both() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(caller(some("ada"), None).unwrap(), some("ada"));
        assert_eq!(caller(None, some("claimed:eve")).unwrap(), some("claimed:eve"));
        assert_eq!(caller(None, None).unwrap(), None);
        assert!(caller(some("ada"), some("claimed:eve")).is_err());
    }
}
