//! `ichor audit log --follow`: entries as they come.

use std::time::Duration;

use ichor_wire::api::AuditEntry;

use super::times::Zone;
use super::{Query, more, who};
use crate::cli::terminal::Terminal;
use crate::cli::{Here, block_on};
use crate::error::{EXIT_OK, EXIT_UNREACHABLE, Error};
use crate::session::Session;

/// The wait after a broken connection; each failure in a row doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Where it stands.
struct Following<'a> {
    terminal: &'a mut Terminal,
    json: bool,
    zone: &'a Zone,
    /// The index of the last entry that was printed.
    last: Option<u64>,
    /// The reader of what is printed has gone, as in `| head`.
    gone: bool,
}

/// Prints entries until Ctrl-C; connects again where the connection breaks.
pub(super) fn run(here: &mut Here, session: &Session, query: Query, zone: &Zone) -> Result<u8, Error> {
    let json = here.json;
    let mut at = Following { terminal: &mut here.around.terminal, json, zone, last: None, gone: false };
    block_on(async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => Ok(EXIT_OK),
            done = follow(&mut at, session, &query) => done.map(|()| EXIT_OK),
        }
    })
}

async fn follow(at: &mut Following<'_>, session: &Session, query: &Query) -> Result<(), Error> {
    let mut wait = FIRST_WAIT;
    loop {
        let mut asked = query.clone();
        asked.push(("follow", "true".into()));
        if let Some(last) = at.last {
            asked.push(("after", last.to_string()));
        }
        let before = at.last;
        let ended = session.broker().lines(session, &["audit", "lines"], &asked, |entry| at.print(&entry)).await;
        if at.gone {
            return Ok(());
        }
        match ended {
            // the broker ends each answer after a while, to look anew at who asks
            Ok(()) => wait = FIRST_WAIT,
            Err(error) if error.exit_code() == EXIT_UNREACHABLE => {
                if at.last != before {
                    wait = FIRST_WAIT;
                }
                at.terminal.note(&format!("{error}; trying again in {} s", wait.as_secs()));
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2).min(LONGEST_WAIT);
            }
            Err(error) => return Err(error),
        }
    }
}

// === impl Following ===

impl Following<'_> {
    fn print(&mut self, entry: &AuditEntry) -> Result<(), Error> {
        // a broker that repeats itself is not repeated
        if self.last.is_some_and(|last| entry.index <= last) {
            return Ok(());
        }
        self.last = Some(entry.index);
        let printed = if self.json { self.terminal.json(entry) } else { self.terminal.line(&line(entry, self.zone)) };
        printed.map_err(|error| {
            self.gone = error.kind() == std::io::ErrorKind::BrokenPipe;
            Error::failed(format!("the result cannot be printed: {error}"), "check where the output goes")
        })
    }
}

/// Columns of a width of their own, since nobody knows what comes.
fn line(entry: &AuditEntry, zone: &Zone) -> String {
    let (user, cluster) = (who(entry), entry.cluster.as_deref().unwrap_or("-"));
    let grant = entry.grant_id.map(|id| format!("grant={id} ")).unwrap_or_default();
    let line = format!(
        "{:>6}  {}  {:<15}  {user:<24}  {cluster:<12}  {grant}{}",
        entry.index,
        zone.show(entry.time),
        entry.kind,
        more(entry)
    );
    line.trim_end().to_owned()
}
