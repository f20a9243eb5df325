//! Locks: stopping what is issued for someone or something, at once.

use ichor_wire::api::{LockAnswer, LockAsk, LockList, LockOn, LockSetAnswer, PeopleAnswer, PersonAnswer, UnlockAsk};
use uuid::Uuid;

use crate::error::Error;
use crate::session::Session;

/// Sets a lock. Returns once it counts at every broker.
///
/// # Errors
/// The broker's refusal or problem.
pub async fn set(session: &Session, ask: &LockAsk) -> Result<LockSetAnswer, Error> {
    session.broker().post(session, &["locks"], ask).await
}

/// The locks that this person may see, newest first.
///
/// # Errors
/// The broker's problem.
pub async fn list(session: &Session, with_ended: bool) -> Result<Vec<LockAnswer>, Error> {
    let query = [("ended", "true".to_owned())];
    let query = if with_ended { &query[..] } else { &[] };
    let list: LockList = session.broker().get(session, &["locks"], query).await?;
    Ok(list.locks)
}

/// Lifts a lock; one of everything: asks for that, or with `ask.confirm` confirms what another asked for.
///
/// # Errors
/// The broker's refusal or problem.
pub async fn lift(session: &Session, id: Uuid, ask: &UnlockAsk) -> Result<LockAnswer, Error> {
    session.broker().post(session, &["locks", &id.to_string(), "unlock"], ask).await
}

/// The one person who has exactly this subject or value behind `user:`.
///
/// # Errors
/// When there is none, or there are several; the broker's refusal or problem.
pub async fn person(session: &Session, name: &str) -> Result<PersonAnswer, Error> {
    let found: PeopleAnswer = session.broker().get(session, &["people"], &[("name", name.to_owned())]).await?;
    let mut people = found.people.into_iter();
    match (people.next(), people.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Error::usage(
            format!("nobody with the subject or `user:` value `{}` has logged in lately", name.escape_debug()),
            "name them as the provider does, with `--issuer URL --subject SUBJECT`; names and spellings do not count",
        )),
        (Some(one), Some(other)) => {
            let each: Vec<_> = [one, other].into_iter().chain(people).map(|one| said(&one)).collect();
            Err(Error::usage(
                format!("`{}` is the name of several", name.escape_debug()),
                format!("say which: {}", each.join(" or ")),
            ))
        }
    }
}

/// What a lock is on, in words.
#[must_use]
pub fn on(on: &LockOn) -> String {
    match on {
        LockOn::User { issuer, subject } => format!("user {subject} of {issuer}"),
        LockOn::Session { id } => format!("session {id}"),
        LockOn::Grant { id } => format!("grant {id}"),
        LockOn::Cluster { name } => format!("cluster {name}"),
        LockOn::Everything => "everything".into(),
    }
}

fn said(person: &PersonAnswer) -> String {
    format!("`--issuer {} --subject {}` ({})", person.issuer, person.subject, person.name)
}
