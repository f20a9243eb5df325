//! What an opener wants, settled before anyone brings a share.

use ichor_wire::kit::Facts;
use ichor_wire::role::Role;

use super::{asked, tell};
use crate::cli::{Here, role, seconds};
use crate::error::Error;
use crate::kit::Asked;

/// What the command line says.
pub(super) struct Given {
    pub(super) name: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) roles: Vec<Role>,
    pub(super) ttl: Option<u64>,
}

/// What is asked for, held against what the kit says of itself. Whoever sits at a terminal is asked for what is missing, and again
/// for what does not fit; elsewhere either ends the command. Opening holds it against what is sealed once more.
///
/// # Errors
/// When something is missing or does not fit, and nobody is there to ask.
pub(super) fn wanted(here: &mut Here, facts: &Facts, given: Given) -> Result<Asked, Error> {
    let ttl = settled(
        here,
        Some(given.ttl),
        "--ttl",
        "For how long, as 30m?",
        |ttl| Asked::choose_ttl(*ttl, facts).map(Some),
        |line| seconds(line).map(Some),
    )?;
    let roles = settled(
        here,
        Some(given.roles),
        "--role",
        "Which role?",
        |roles| Asked::choose_roles(roles, facts),
        |line| line.split(',').map(|one| role(one.trim())).collect(),
    )?;
    let text = |line: &str| Ok(line.to_owned());
    let name = given.name.map(|name| name.trim().to_owned());
    let name = settled(
        here,
        name,
        "--name",
        "Your name, as nodes are to log it:",
        |name: &String| Asked::check_name(name).map(|()| name.clone()),
        text,
    )?;
    let reason = given.reason.map(|reason| reason.trim().to_owned());
    let reason = settled(
        here,
        reason,
        "--reason",
        "Why is it opened?",
        |reason: &String| Asked::check_reason(reason).map(|()| reason.clone()),
        text,
    )?;
    Ok(Asked { name, reason, roles, ttl })
}

/// The value of a flag, or of the first line that fits.
fn settled<T>(
    here: &mut Here,
    given: Option<T>,
    flag: &str,
    question: &str,
    fit: impl Fn(&T) -> Result<T, Error>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Error> {
    let missing = || Error::usage(format!("`{flag}` is missing"), format!("give it as `{flag} …`"));
    let mut tried = given.map(|value| fit(&value));
    loop {
        match tried {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) if here.around.ask.is_none() => return Err(error),
            Some(Err(error)) => tell(here, &error),
            None if here.around.ask.is_none() => return Err(missing()),
            None => {}
        }
        here.around.terminal.note(question);
        let line = asked(here)?;
        let read = read(line.trim()).map_err(|error| Error::usage(error, format!("type it as for `{flag}`")));
        tried = Some(read.and_then(|value| fit(&value)));
    }
}
