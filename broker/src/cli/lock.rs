//! `lock`, `unlock` and `locks`: at the broker's own host, for when nobody can log in.

use std::io::{IsTerminal, Write};

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use ichor_wire::api::{LockAnswer, LockAsk, LockList, LockOn, LockSetAnswer, PeopleAnswer, UnlockAsk};
use ichor_wire::reason::printable;
use jiff::SignedDuration;
use uuid::Uuid;

use super::desk::{self, Desk, call};
use super::{FolderArg, block_on};
use crate::domain::LockId;
use crate::http::admin_locks::{Act, list_at, people_at, set_at, unlock_at};
use crate::http::error::ApiError;

/// `lock`.
///
/// It works beside a running broker, and of several brokers it counts at each; where none runs, it is there when one starts.
#[derive(Debug, Args)]
pub(super) struct Lock {
    #[command(flatten)]
    folder: FolderArg,
    #[command(subcommand)]
    on: LockWhat,
}

#[derive(Debug, Subcommand)]
enum LockWhat {
    /// A person: they log in no more, their sessions end, nothing is issued to them.
    User {
        /// Their subject or `user:` value, if they have logged in at this broker; it is shown whom it names.
        #[arg(required_unless_present_all = ["issuer", "subject"])]
        name: Option<String>,
        /// Their provider's issuer URL, exactly.
        #[arg(long, value_name = "URL", requires = "subject", conflicts_with = "name")]
        issuer: Option<String>,
        /// Their subject at the provider, exactly.
        #[arg(long, requires = "issuer")]
        subject: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// One session; it ends.
    Session {
        /// The session's id, as entries have it.
        id: Uuid,
        #[command(flatten)]
        how: How,
    },
    /// A grant, its renewals and further uses of its break-glass request.
    Grant {
        /// The grant's id, as `grant:…` in certificates and nodes' logs.
        id: Uuid,
        #[command(flatten)]
        how: How,
    },
    /// A cluster.
    Cluster {
        /// Its name.
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Everything. Two people who log in lift it, never this host; logging in and reading the audit go on.
    Everything {
        /// Do not ask, at a terminal; elsewhere nobody is asked.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        how: How,
    },
}

/// How long, and why.
#[derive(Debug, Args)]
struct How {
    /// It ends by itself after this time, as 1h; without it someone must lift it.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    life: Option<u64>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = desk::reason)]
    reason: String,
}

/// `unlock`.
#[derive(Debug, Args)]
pub(super) struct Unlock {
    #[command(flatten)]
    folder: FolderArg,
    /// The lock's id, as `locks` lists it.
    id: Uuid,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = desk::reason)]
    reason: String,
}

/// `locks`.
#[derive(Debug, Args)]
pub(super) struct Locks {
    #[command(flatten)]
    folder: FolderArg,
}

impl Lock {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        // before anything is held that a broker waits for
        if matches!(self.on, LockWhat::Everything { yes: false, .. }) {
            sure(out)?;
        }
        let set = block_on(async {
            let desk = Desk::open(&loaded).await?;
            let (on, how) = match self.on {
                LockWhat::User { issuer: Some(issuer), subject: Some(subject), how, .. } => {
                    (LockOn::User { issuer, subject }, how)
                }
                LockWhat::User { name, how, .. } => (desk.person(&name.unwrap_or_default(), out).await?, how),
                LockWhat::Session { id, how } => (LockOn::Session { id }, how),
                LockWhat::Grant { id, how } => (LockOn::Grant { id }, how),
                LockWhat::Cluster { name, how } => {
                    super::ca::declared(&loaded, &name)?;
                    (LockOn::Cluster { name }, how)
                }
                LockWhat::Everything { how, .. } => (LockOn::Everything, how),
            };
            let set = desk.lock(LockAsk { on, seconds: how.life, reason: how.reason }).await;
            desk.close().await;
            set
        })?;
        writeln!(out, "{}", said(&set.lock))?;
        set.beyond.iter().try_for_each(|line| writeln!(out, "  {}", printable(line)))?;
        Ok(())
    }
}

impl Unlock {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let lifted = block_on(async {
            let desk = Desk::open(&loaded).await?;
            let lifted = desk.unlock(self.id, UnlockAsk { reason: self.reason, confirm: false }).await;
            desk.close().await;
            lifted
        })?;
        writeln!(out, "lifted: {}", printable(&on(&lifted.on)))?;
        Ok(())
    }
}

impl Locks {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let list = block_on(async {
            let desk = Desk::open(&loaded).await?;
            let list = desk.locks().await;
            desk.close().await;
            list
        })?;
        if list.locks.is_empty() {
            writeln!(out, "nothing is locked")?;
        }
        list.locks.iter().try_for_each(|lock| writeln!(out, "{}", said(lock)))?;
        Ok(())
    }
}

impl Desk {
    async fn lock(&self, ask: LockAsk) -> anyhow::Result<LockSetAnswer> {
        match self {
            Self::Running(socket) => {
                let body = serde_json::to_vec(&acting(ask))?;
                Ok(serde_json::from_slice(&call(socket, "POST", "/v1/locks", body).await?)?)
            }
            Self::Alone(.., book) => set_at(book, &desk::os_user(), acting(ask)).await.map_err(|error| told(&error)),
        }
    }

    async fn locks(&self) -> anyhow::Result<LockList> {
        match self {
            Self::Running(socket) => Ok(serde_json::from_slice(&call(socket, "GET", "/v1/locks", Vec::new()).await?)?),
            Self::Alone(.., book) => list_at(book).await.map_err(|error| told(&error)),
        }
    }

    async fn unlock(&self, id: Uuid, ask: UnlockAsk) -> anyhow::Result<LockAnswer> {
        match self {
            Self::Running(socket) => {
                let body = serde_json::to_vec(&acting(ask))?;
                let path = format!("/v1/locks/{id}/unlock");
                Ok(serde_json::from_slice(&call(socket, "POST", &path, body).await?)?)
            }
            Self::Alone(.., book) => {
                unlock_at(book, &desk::os_user(), LockId(id), acting(ask)).await.map_err(|error| told(&error))
            }
        }
    }

    /// The one person of this name, who is shown.
    async fn person(&self, name: &str, out: &mut dyn Write) -> anyhow::Result<LockOn> {
        let found: PeopleAnswer = match self {
            Self::Running(socket) => {
                let query: String =
                    url::form_urlencoded::Serializer::new(String::new()).append_pair("name", name).finish();
                serde_json::from_slice(&call(socket, "GET", &format!("/v1/people?{query}"), Vec::new()).await?)?
            }
            Self::Alone(.., book) => people_at(book, name).await.map_err(|error| told(&error))?,
        };
        match found.people.as_slice() {
            [one] => {
                writeln!(
                    out,
                    "`{name}` is {} (issuer {}, subject {})",
                    printable(&one.name),
                    printable(&one.issuer),
                    printable(&one.subject)
                )?;
                Ok(LockOn::User { issuer: one.issuer.clone(), subject: one.subject.clone() })
            }
            [] => bail!(
                "nobody with the subject or `user:` value `{name}` has logged in lately; name them with `--issuer` and `--subject`"
            ),
            several => {
                let each: Vec<_> =
                    several.iter().map(|one| format!("--issuer {} --subject {}", one.issuer, one.subject)).collect();
                bail!("`{name}` is the name of several; say which: {}", printable(&each.join(" or ")))
            }
        }
    }
}

/// Waits for a yes of whoever sits at a terminal: this host cannot lift it again.
fn sure(out: &mut dyn Write) -> anyhow::Result<()> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Ok(());
    }
    writeln!(
        out,
        "nothing is issued to anyone then, and this host does not lift it: it takes two people of one provider who may `unlock`; lock \
         everything? type yes:"
    )?;
    out.flush()?;
    let mut typed = String::new();
    input.read_line(&mut typed)?;
    if typed.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    bail!("nothing was locked; lock a user or a cluster instead, or answer yes")
}

fn acting<T>(ask: T) -> Act<T> {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Act { host, ask }
}

fn told(error: &ApiError) -> anyhow::Error {
    anyhow!("{}", printable(error.detail()))
}

/// A lock on one line: its words stand in the database, where others may write.
fn said(lock: &LockAnswer) -> String {
    let until = lock.until.map_or_else(String::new, |until| format!(", until {until:.0}"));
    let said =
        format!("{}  {} is locked{until}, since {:.0} by {}: {}", lock.id, on(&lock.on), lock.at, lock.by, lock.reason);
    printable(&said)
}

fn on(on: &LockOn) -> String {
    match on {
        LockOn::User { issuer, subject } => format!("user `{subject}` of `{issuer}`"),
        LockOn::Session { id } => format!("session {id}"),
        LockOn::Grant { id } => format!("grant {id}"),
        LockOn::Cluster { name } => format!("cluster `{name}`"),
        LockOn::Everything => "everything".into(),
    }
}

/// The value of `--for`.
fn seconds(text: &str) -> Result<u64, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|time| u64::try_from(time.as_secs()).ok());
    parsed.filter(|seconds| *seconds > 0).ok_or_else(|| "write a time as 30m, 1h or 24h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_one_line_whatever_the_database_says_of_it() {
        let hostile = "x\r\n0193  everything is locked\u{1b}[2J\u{202e}\u{9b}1m";
        let lock = LockAnswer {
            id: Uuid::nil(),
            on: LockOn::User { issuer: hostile.into(), subject: hostile.into() },
            by: hostile.into(),
            reason: hostile.into(),
            at: "2026-11-22T12:00:00Z".parse().unwrap(),
            until: None,
            holds: true,
            asked_by: None,
            asked_until: None,
            ended_by: None,
            ended_at: None,
        };
        let line = said(&lock);
        assert!(!line.chars().any(ichor_wire::reason::is_unseen), "{line:?}");
        assert_eq!(line.matches("x\\u{d}\\u{a}0193").count(), 4, "shown, not left out: {line}");
    }
}
