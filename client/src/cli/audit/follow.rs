//! `ichor audit log --follow`: entries as they come.

use std::time::Duration;

use ichor_wire::api::AuditEntry;
use tokio::time::Instant;

use super::times::Zone;
use super::{Query, more, who};
use crate::cli::terminal::Terminal;
use crate::cli::{Here, block_on};
use crate::error::{EXIT_OK, EXIT_UNREACHABLE, Error};
use crate::session::Session;

/// The wait after a broken connection, or an answer that ended at once; each in a row doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// An answer that lasted so long came to something. One that ends sooner, each time, must not have us ask all the time: every
/// asking is an entry of the log.
const AT_ONCE: Duration = Duration::from_secs(5);

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The broker ended it, after so long.
    Orderly(Duration),
    /// The connection broke, or the broker was not there; after new entries, or without one.
    Broken {
        /// Whether it brought any.
        news: bool,
    },
    /// The broker has too much to do and says after how many seconds to come again.
    Busy(u64),
}

/// How long to wait before asking again.
struct Patience(Duration);

/// Too many requests (RFC 6585 §4).
const TOO_MANY: u16 = 429;

/// Where it stands.
struct Following<'a> {
    terminal: &'a mut Terminal,
    json: bool,
    zone: &'a Zone,
    /// The index of the last entry that was printed; before that, of the one that the first answer began behind.
    last: Option<u64>,
    /// The reader of what is printed has gone, as in `| head`.
    gone: bool,
}

/// Prints entries until Ctrl-C; connects again where the connection breaks, the broker has too much to do, or an answer is over.
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
    let mut patience = Patience(FIRST_WAIT);
    loop {
        let mut asked = query.clone();
        asked.push(("follow", "true".into()));
        if let Some(last) = at.last {
            asked.push(("after", last.to_string()));
        }
        let (before, began) = (at.last, Instant::now());
        let (path, mut behind) = (["audit", "lines"], None);
        let ended = session.broker().lines_behind(session, &path, &asked, &mut behind, |entry| at.print(&entry)).await;
        if at.gone {
            return Ok(());
        }
        let end = match &ended {
            // the broker ends each answer after a while, to look anew at who asks
            Ok(()) => End::Orderly(began.elapsed()),
            Err(Error::Problem(problem)) if problem.retry_after.is_some() || problem.status == TOO_MANY => {
                End::Busy(problem.retry_after.unwrap_or_default())
            }
            Err(error) if error.exit_code() == EXIT_UNREACHABLE => End::Broken { news: at.last != before },
            Err(_) => return ended,
        };
        // what comes before the next answer begins is not passed over, though nothing was printed yet
        at.last = at.last.or(behind);
        let wait = patience.after(end);
        if let Err(error) = &ended {
            at.terminal.note(&format!("{error}; trying again in {} s", wait.as_secs()));
        }
        tokio::time::sleep(wait).await;
    }
}

// === impl Patience ===

impl Patience {
    /// How long to wait after such an end: not at all where the answer lasted, else one second at first and thirty at most.
    fn after(&mut self, end: End) -> Duration {
        let asked_for = match end {
            End::Orderly(lasted) if lasted >= AT_ONCE => {
                self.0 = FIRST_WAIT;
                return Duration::ZERO;
            }
            End::Broken { news: true } => {
                self.0 = FIRST_WAIT;
                0
            }
            End::Busy(seconds) => seconds,
            End::Orderly(_) | End::Broken { news: false } => 0,
        };
        let wait = self.0.max(Duration::from_secs(asked_for)).min(LONGEST_WAIT);
        self.0 = self.0.saturating_mul(2).min(LONGEST_WAIT);
        wait
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_cut_off_at_once_waits_longer_each_time() {
        let mut patience = Patience(FIRST_WAIT);
        let mut waits = |end| patience.after(end).as_secs();
        let at_once = End::Orderly(Duration::from_millis(20));
        assert_eq!([at_once; 7].map(&mut waits), [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(waits(End::Orderly(AT_ONCE)), 0, "the broker ends each answer after a while");
        assert_eq!([at_once, End::Broken { news: false }].map(&mut waits), [1, 2]);
        assert_eq!(waits(End::Broken { news: true }), 1, "it worked meanwhile");
        assert_eq!([End::Busy(0), End::Busy(7), End::Busy(3600)].map(&mut waits), [2, 7, 30]);
    }
}
