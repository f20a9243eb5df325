//! A fresh login where the broker says that nothing else is missing.

use super::login::{How, log_in};
use super::{Here, block_on};
use crate::error::Error;
use crate::login::Way;
use crate::session::Session;

/// Does `work` with the session. Where policy wants a fresh login for it, and someone sits at the terminal who agrees, logs in so
/// and does it once more.
pub(super) fn with<T>(here: &mut Here, work: impl AsyncFn(&Session) -> Result<T, Error>) -> Result<T, Error> {
    let session = here.session()?;
    let error = match block_on(work(&session)) {
        Err(Error::Problem(problem)) if problem.step_up.is_some() && here.around.ask.is_some() => problem,
        done => return done,
    };
    let acr = error.step_up.as_ref().and_then(|step_up| step_up.acr_values.clone());
    let (terminal, ask) = (&mut here.around.terminal, &here.around.ask);
    terminal.note(&error.detail.to_string());
    let how = acr.as_deref().map(|acr| format!(" with `{acr}`")).unwrap_or_default();
    terminal
        .note(&format!("A fresh login{how} is what is missing. Press Enter or y to log in, anything else to stop."));
    let agreed = ask.as_ref().is_some_and(|ask| {
        ask().is_ok_and(|typed| matches!(typed.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes"))
    });
    if !agreed {
        return Err(Error::Problem(error));
    }
    let provider = Some(block_on(session.describe())?.provider);
    log_in(here, How { way: Way::Browser, provider, fresh: true, acr })?;
    let session = here.session()?;
    block_on(work(&session))
}
