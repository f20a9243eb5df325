//! The broker's mark on a session's row. Whoever can write the database, but does not have the key in the vault, must not
//! become anyone: a row is believed only with this mark.
//!
//! What a writer can still do: delete a row, take back its end, or put back an older row of the same session.

use jiff::Timestamp;

use crate::custody::DataKey;
use crate::domain::PageUse;
use crate::store::SessionRow;

/// What the tag is made for.
const CONTEXT: &[u8] = b"ichor session row 1\0";

/// The row was not written by this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session's row was not written by this broker")]
pub struct Forged;

/// Puts the broker's tag on the row. Only for what was verified: a login's person, or groups that the provider just told.
pub fn vouch(row: &mut SessionRow, key: &DataKey) {
    row.tag = key.tag(CONTEXT, &told(row));
}

/// Whether the broker wrote what this row says. About a microsecond.
#[must_use]
pub fn is_vouched(row: &SessionRow, key: &DataKey) -> bool {
    key.has_tagged(CONTEXT, &told(row), &row.tag)
}

/// Everything of the row that decides, each part with its length before it, so that no two rows are told alike. Left out is
/// what changes with use: version, use, end and the provider's token, which is bound to its row by its own seal.
fn told(row: &SessionRow) -> Vec<u8> {
    let SessionRow { id, token_hash, jkt, person, name, user, groups, groups_at, acr, auth_time, human, page, .. } =
        row;
    let mut out = Vec::with_capacity(512);
    part(&mut out, id.0.as_bytes());
    part(&mut out, token_hash);
    for text in [jkt, person.provider.as_str(), &person.issuer, &person.subject, name, user] {
        part(&mut out, text.as_bytes());
    }
    count(&mut out, groups.len());
    for group in groups {
        part(&mut out, group.provider.as_str().as_bytes());
        part(&mut out, group.name.as_bytes());
    }
    time(&mut out, *groups_at);
    count(&mut out, usize::from(acr.is_some()));
    part(&mut out, acr.as_deref().unwrap_or_default().as_bytes());
    count(&mut out, usize::from(auth_time.is_some()));
    time(&mut out, auth_time.unwrap_or(Timestamp::UNIX_EPOCH));
    time(&mut out, row.created_at);
    time(&mut out, row.expires_at);
    // only where there is something to tell: sessions of before they were told stay as they are
    if human.to_bytes().is_some() || page.is_some() {
        for told in [human.to_bytes(), page.map(PageUse::to_bytes)] {
            count(&mut out, usize::from(told.is_some()));
            part(&mut out, &told.unwrap_or_default());
        }
    }
    out
}

fn part(out: &mut Vec<u8>, bytes: &[u8]) {
    count(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn count(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&(number as u64).to_be_bytes());
}

/// To the microsecond, as the store keeps it.
fn time(out: &mut Vec<u8>, at: Timestamp) {
    out.extend_from_slice(&at.as_microsecond().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{BreakGlassId, Group, HumanClaim, ProviderAlias, SessionId};
    use crate::identity::Identity;
    use crate::identity::fixture::key;
    use crate::store::conformance;

    fn session(number: u8) -> SessionRow {
        let mut row = conformance::session(number);
        vouch(&mut row, &key());
        row
    }

    #[test]
    fn a_row_is_believed_only_as_the_broker_wrote_it() {
        let (row, other) = (session(1), DataKey::new(&[2; 32]).unwrap());
        assert!(Identity::restore(&row, &key()).is_ok());
        assert_eq!(Identity::restore(&row, &other).unwrap_err(), Forged);
        let later = SignedDuration::from_secs(1);
        let provider = ProviderAlias::new("other").unwrap();
        type Edit<'a> = &'a dyn Fn(&mut SessionRow);
        let edits: [(&str, Edit<'_>); 23] = [
            ("id", &|row| row.id = SessionId(Uuid::from_u128(9))),
            ("token", &|row| row.token_hash[31] ^= 1),
            ("key", &|row| row.jkt.push('x')),
            ("provider", &|row| row.person.provider = provider.clone()),
            ("issuer", &|row| row.person.issuer.push('x')),
            ("subject", &|row| row.person.subject.push('x')),
            ("name", &|row| row.name.push('x')),
            ("user", &|row| row.user.push('x')),
            ("a further group", &|row| row.groups.push(Group { provider: provider.clone(), name: "admins".into() })),
            ("a group less", &|row| drop(row.groups.pop())),
            ("a group's name", &|row| row.groups[0].name.push('x')),
            ("a group's provider", &|row| row.groups[0].provider = provider.clone()),
            ("groups' time", &|row| row.groups_at += later),
            ("acr", &|row| row.acr = Some("phr".into())),
            ("no acr", &|row| row.acr = None),
            ("time of authentication", &|row| row.auth_time = row.auth_time.map(|at| at + later)),
            ("no time of authentication", &|row| row.auth_time = None),
            ("beginning", &|row| row.created_at += later),
            ("end", &|row| row.expires_at += later),
            ("human", &|row| row.human = HumanClaim::of("another")),
            ("a human untold", &|row| row.human = HumanClaim::Untold),
            ("page", &|row| row.page = Some(PageUse::Look)),
            ("what a page is for", &|row| {
                row.page = Some(PageUse::Decide { request: BreakGlassId(Uuid::from_u128(3)), hash: [4; 32] });
            }),
        ];
        for (what, edit) in edits {
            let mut changed = row.clone();
            edit(&mut changed);
            assert_eq!(Identity::restore(&changed, &key()).unwrap_err(), Forged, "{what}");
            vouch(&mut changed, &key());
            assert!(Identity::restore(&changed, &key()).is_ok(), "{what}");
        }
        let mut blank = row.clone();
        blank.tag = [0; 32];
        assert_eq!(Identity::restore(&blank, &key()).unwrap_err(), Forged);
    }

    #[test]
    fn what_moves_from_one_part_to_the_next_is_told_apart() {
        let row = |name: &str, user: &str, acr: Option<&str>| {
            let mut row = session(1);
            (row.name, row.user, row.acr) = (name.into(), user.into(), acr.map(String::from));
            row
        };
        assert_ne!(told(&row("ab", "c", None)), told(&row("a", "bc", None)));
        assert_ne!(told(&row("", "abc", None)), told(&row("abc", "", None)));
        assert_ne!(told(&row("a", "b", None)), told(&row("a", "b", Some(""))), "no context is not an empty one");
        let mut without = session(1);
        without.auth_time = None;
        let mut at_epoch = session(1);
        at_epoch.auth_time = Some(Timestamp::UNIX_EPOCH);
        assert_ne!(told(&without), told(&at_epoch));
    }
}
