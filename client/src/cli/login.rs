//! `ichor login`

use std::sync::{Arc, Mutex, PoisonError};

use ichor_wire::api::SessionAnswer;
use serde_json::json;

use super::terminal::{Terminal, Tone};
use super::{Here, block_on};
use crate::broker::Broker;
use crate::error::Error;
use crate::login::{Event, LoginOptions, Way, login};
use crate::session::{KeptIn, SessionStore};
use crate::settings::{Settings, Source};

/// Log in at the broker through your company's identity provider
///
/// The browser is the desktop's own, or the first command of BROWSER that works: several with colons between them, `%s` stands
/// for the address.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The provider's alias, where the broker has several
    #[arg(long, value_name = "ALIAS")]
    provider: Option<String>,
    /// Authenticate anew even if the provider still knows you
    #[arg(long)]
    fresh: bool,
    /// Ask the provider for this authentication context, as for a second factor
    #[arg(long, value_name = "VALUE")]
    acr: Option<String>,
    /// Print the address instead of opening it, and paste the code that the broker's page shows
    #[arg(long, conflicts_with = "device")]
    no_browser: bool,
    /// Type a short code into the broker's page on any device
    #[arg(long)]
    device: bool,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let way = match (args.no_browser, args.device) {
        (true, _) => Way::Paste(Arc::new(|| Box::pin(read_line()))),
        (_, true) => Way::Device,
        _ => Way::Browser,
    };
    let acr = args.acr.clone();
    let (session, kept) = log_in(here, How { way, provider: args.provider, fresh: args.fresh, acr: args.acr })?;
    if let (Some(asked), None) = (acr, &session.acr) {
        let terminal = &mut here.around.terminal;
        terminal.note("warning: the provider told no acr, so what needs one is still refused");
        terminal.note(&format!("  → ask whoever runs the broker whether the provider knows `{asked}` and tells it"));
    }
    let value = json!({ "session": session, "kept_in": kept });
    here.print(&value, |terminal| {
        terminal.toned_line(&[
            (Tone::Good, "✓"),
            (Tone::Plain, " logged in as "),
            (Tone::Strong, &session.name),
            (Tone::Plain, &format!(" until {}", session.expires_at)),
        ])?;
        if session.user.starts_with('~') {
            terminal.line(&format!(
                "  your name does not fit into a certificate; nodes will log you as {}",
                session.user
            ))?;
        }
        if let KeptIn::File(path) = kept {
            terminal.line(&format!(
                "  no keyring is used: the session is kept in {} (readable by you only)",
                path.display()
            ))?;
        }
        Ok(())
    })
}

/// How someone logs in.
pub(super) struct How {
    pub(super) way: Way,
    pub(super) provider: Option<String>,
    pub(super) fresh: bool,
    pub(super) acr: Option<String>,
}

/// Logs in, and keeps the session.
pub(super) fn log_in(here: &mut Here, how: How) -> Result<(SessionAnswer, KeptIn), Error> {
    let broker = here.broker()?;
    let store = here.sessions()?;
    agree_to_project(here, &broker, &store)?;
    let pasted = matches!(how.way, Way::Paste(_));
    // What happens is told at once, from within the login; the terminal is back afterwards.
    let silent = Terminal::new(Box::new(std::io::sink()), Box::new(std::io::sink()), false, false);
    let terminal = Arc::new(Mutex::new(std::mem::replace(&mut here.around.terminal, silent)));
    let options = LoginOptions {
        way: how.way,
        provider: how.provider,
        fresh: how.fresh,
        acr: how.acr,
        host: here.around.host.clone(),
        open: if pasted { Arc::new(|_| ()) } else { here.around.open.clone() },
        on: Arc::new({
            let terminal = terminal.clone();
            move |event| tell(&mut terminal.lock().unwrap_or_else(PoisonError::into_inner), event, pasted)
        }),
    };
    let done = block_on(async {
        let session = login(&broker, &options).await?;
        let kept = store.save(&session)?;
        Ok((session.describe().await?, kept))
    });
    drop(options);
    if let Some(terminal) = Arc::into_inner(terminal) {
        here.around.terminal = terminal.into_inner().unwrap_or_else(PoisonError::into_inner);
    }
    done
}

/// Asks, before anything is sent or opened, whether a broker is meant that only a project's file names and where this user
/// has never logged in, and whether a CA is right that only such a file names: it may have come with a stranger's
/// repository. Where nobody can be asked, the login ends here.
fn agree_to_project(here: &mut Here, broker: &Broker, store: &SessionStore) -> Result<(), Error> {
    let (url, known) = (broker.url(), store.knows(&broker.url()));
    let source = Settings::find(&here.around.environment, &here.flags)?.source;
    let ca = if store.agrees(broker)? { None } else { broker.trusting() };
    let (file, next) = match (&source, ca) {
        (_, Some(file)) => {
            let next = "if it is your broker's, name the CA yourself: `ichor login --ca FILE`, or `broker` with `ca_file` or \
                        `ca_pin` in a config.toml of your own";
            (file, next.to_owned())
        }
        (Source::Project(file), None) if !known => {
            (file.as_path(), format!("if this is your broker, run `ichor login --broker {url}`"))
        }
        _ => return Ok(()),
    };
    let trust = if ca.is_some() { broker.trust().to_compare()? } else { String::new() };
    let file = file.display();
    let terminal = &mut here.around.terminal;
    let Some(ask) = &here.around.ask else {
        let message = match ca {
            Some(_) => format!("you have never logged in at {url} with the CA that `{file}` names"),
            None => format!("you have never logged in at {url}, which only `{file}` names"),
        };
        return Err(Error::usage(message, next));
    };
    let before = if known { "You have logged in before at  " } else { "You have never logged in at  " };
    terminal.toned_note(&[(Tone::Plain, before), (Tone::Strong, &url)]);
    if matches!(source, Source::Project(_)) {
        terminal.note(&format!("It is named by  {file}"));
    }
    if ca.is_some() {
        let whose = if known { "Another CA than then is believed because of  " } else { "Its CA is named by  " };
        terminal.toned_note(&[(Tone::Plain, whose), (Tone::Strong, &file.to_string())]);
        terminal.note(&format!("Compare with whoever runs the broker:  {trust}"));
    }
    // Enter alone is no answer where whom to believe is told by a file that may be a stranger's
    let is_plain = !known && ca.is_none();
    let how = match (known, is_plain) {
        (true, _) => "Type y if you know why, anything else to stop.",
        (false, true) => "Press Enter or y to log in there, anything else to stop.",
        (false, false) => "Type y if it is the broker's, anything else to stop.",
    };
    terminal.note(how);
    match ask().map(|answer| answer.trim().to_ascii_lowercase()) {
        Ok(answer) if matches!(answer.as_str(), "y" | "yes") || (is_plain && answer.is_empty()) => Ok(()),
        _ => Err(Error::usage(format!("nothing was sent to {url}"), next)),
    }
}

fn tell(terminal: &mut Terminal, event: Event, pasted: bool) {
    match event {
        Event::Number(number) => {
            let says = (Tone::Plain, "Confirm only if the page shows this number:  ");
            terminal.toned_note(&[says, (Tone::Strong, &number)]);
        }
        Event::Opening(url) => {
            terminal.note(match pasted {
                true => "Open this address and paste the code here:",
                false => "If no browser opens, open this address:",
            });
            terminal.note(&format!("  {url}"));
        }
        Event::Code { at, code } => {
            let says = format!("Open {at} and type the code  ");
            terminal.toned_note(&[(Tone::Plain, &says), (Tone::Strong, &code)]);
        }
    }
}

async fn read_line() -> std::io::Result<String> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    });
    read.await.map_err(std::io::Error::other)?
}
