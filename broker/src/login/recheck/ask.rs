//! What the provider says about a session's person now, and what that means for the session.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::super::Recheck;
use super::super::provider::{Provider, ProviderError};
use super::super::token_endpoint::Tokens;
use crate::domain::Group;
use crate::identity::{Claims, GroupsFrom, IdTokenError};
use crate::store::SessionRow;

/// What came of asking.
pub(super) enum Asked {
    /// The groups.
    Groups(BTreeSet<Group>),
    /// A no: end the session.
    No(String),
    /// No answer. A rotated token may have come all the same.
    Nothing(String),
}

/// Asks the provider about the session's person. A rotated token comes along even where the rest is of no use.
pub(super) async fn ask(provider: &Provider, row: &SessionRow, secret: &str) -> (Asked, Option<Zeroizing<String>>) {
    match provider.settings.recheck {
        Recheck::LoginOnly => (Asked::Nothing("this provider is asked at login only".into()), None),
        Recheck::Userinfo => {
            let claims = provider.userinfo(secret, &row.person.subject).await;
            (claims.map_or_else(judge, |claims| read(provider, row, None, Some(&claims))), None)
        }
        Recheck::Refresh => match provider.refresh(secret).await {
            Err(error) => (judge(error), None),
            Ok(mut tokens) => {
                let rotated = tokens.refresh_token.take();
                let asked = match read_tokens(provider, row, &tokens).await {
                    Ok(asked) => asked,
                    Err(error) => judge(error),
                };
                (asked, rotated)
            }
        },
    }
}

async fn read_tokens(provider: &Provider, row: &SessionRow, tokens: &Tokens) -> Result<Asked, ProviderError> {
    let verified = provider.verified(tokens, None, None).await?;
    if verified
        .as_ref()
        .is_some_and(|token| token.issuer() != row.person.issuer || token.subject() != row.person.subject)
    {
        return Ok(Asked::No("the provider answered for another person".into()));
    }
    let userinfo = match provider.settings.mapping.groups_from {
        GroupsFrom::Userinfo => Some(provider.userinfo(&tokens.access_token, &row.person.subject).await?),
        GroupsFrom::IdToken => None,
    };
    Ok(read(provider, row, verified.as_ref().map(|token| token.claims()), userinfo.as_ref()))
}

/// The groups in the provider's answer. An answer without any is a no, unless the person had none from there to lose.
fn read(provider: &Provider, row: &SessionRow, id_token: Option<&Claims>, userinfo: Option<&Claims>) -> Asked {
    let mapping = &provider.settings.mapping;
    match mapping.told_groups(id_token, userinfo) {
        Ok(Some(told)) => Asked::Groups(mapping.groups(&row.person.subject, told)),
        Ok(None) => {
            let local = mapping.groups(&row.person.subject, BTreeSet::new());
            match row.groups.iter().all(|group| local.contains(group)) {
                true => Asked::Groups(local),
                false => Asked::No("the provider answered without groups".into()),
            }
        }
        Err(error) => Asked::No(error.to_string()),
    }
}

/// What an error of the provider means for the session: only an answer about this person ends it.
fn judge(error: ProviderError) -> Asked {
    match error {
        ProviderError::Refused(_) => Asked::No("the provider no longer vouches for the person".into()),
        ProviderError::Claims(error) => Asked::No(error.to_string()),
        ProviderError::IdToken(IdTokenError::UnknownKey) => Asked::Nothing(IdTokenError::UnknownKey.to_string()),
        ProviderError::IdToken(error) => Asked::No(error.to_string()),
        error => Asked::Nothing(error.to_string()),
    }
}
