//! `ichor lock`, `unlock` and `locks`

use clap::ValueEnum;
use ichor_wire::api::{LockAnswer, LockAsk, LockOn, LockSetAnswer, UnlockAsk};
use serde_json::json;
use uuid::Uuid;

use super::{Here, block_on, seconds};
use crate::error::Error;
use crate::locks;
use crate::session::Session;

const AFTER_HELP: &str = "\
  ichor lock user ada@example.com --reason \"stolen laptop\"
  ichor lock session 0193…           one session, as the audit names it
  ichor lock grant 0193…             a certificate's grant: no renewal, no further use of its break-glass request
  ichor lock cluster prod --for 1h
  ichor lock everything              two people lift it
What a lock does not end is printed with it: a certificate that was issued is good until it expires, and on open
connections beyond that.";

/// Stop what is issued for a user, a session, a grant, a cluster, or everything, at once and at every broker
///
/// A locked user logs in no more, and their sessions end. Who may lock is the broker's policy. A lock stays until it is lifted or its
/// time is over; nothing is issued in between, whatever fails or starts again.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct LockArgs {
    /// What to lock
    #[arg(value_enum)]
    what: What,
    /// Which: a user's subject or `user:` value, a session's or grant's id, a cluster's name
    name: Option<String>,
    /// A user's issuer, exactly, instead of a name
    #[arg(long, value_name = "URL", requires = "subject", conflicts_with = "name")]
    issuer: Option<String>,
    /// A user's subject, exactly
    #[arg(long, requires = "issuer")]
    subject: Option<String>,
    /// It ends by itself after this time, as 30m or 1h [default: someone lifts it]
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    life: Option<u64>,
    /// Why; it is kept in the audit, and shown to whoever sees locks
    #[arg(long, value_name = "TEXT", default_value = "no reason given", hide_default_value = true)]
    reason: String,
    /// Lock everything without being asked again
    #[arg(long)]
    yes: bool,
}

/// Lift a lock
///
/// A lock of everything is lifted by two people: one runs `ichor unlock everything`, and within the hour another, of the same provider,
/// `ichor unlock everything --confirm`.
#[derive(Debug, clap::Args)]
pub(super) struct UnlockArgs {
    /// The lock's id, or what is locked: user, session, grant, cluster or everything
    #[arg(value_name = "ID|WHAT")]
    what: String,
    /// Which, as for `ichor lock`
    name: Option<String>,
    /// A user's issuer, exactly, instead of a name
    #[arg(long, value_name = "URL", requires = "subject", conflicts_with = "name")]
    issuer: Option<String>,
    /// A user's subject, exactly
    #[arg(long, requires = "issuer")]
    subject: Option<String>,
    /// Why; it is kept in the audit
    #[arg(long, value_name = "TEXT", default_value = "no reason given", hide_default_value = true)]
    reason: String,
    /// Confirm what another person asked for: that everything is unlocked
    #[arg(long)]
    confirm: bool,
}

/// List the locks that you may set or lift
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Also those that ended within the last 30 days
    #[arg(long)]
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    User,
    Session,
    Grant,
    Cluster,
    Everything,
}

/// What someone named on the command line.
struct Named {
    what: What,
    name: Option<String>,
    issuer: Option<String>,
    subject: Option<String>,
}

pub(super) fn lock(here: &mut Here, args: LockArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let LockArgs { what, name, issuer, subject, life, reason, yes } = args;
    let on = on(here, &session, Named { what, name, issuer, subject })?;
    if on == LockOn::Everything && !yes {
        sure(here)?;
    }
    let set = block_on(locks::set(&session, &LockAsk { on, seconds: life, reason }))?;
    here.print(&set, |terminal| set_lines(&set).iter().try_for_each(|line| terminal.line(line)))
}

pub(super) fn unlock(here: &mut Here, args: UnlockArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let ask = UnlockAsk { reason: args.reason, confirm: args.confirm };
    let ids = match (Uuid::try_parse(&args.what), args.name.is_none() && args.issuer.is_none()) {
        (Ok(id), true) => vec![id],
        _ => {
            let what = What::from_str(&args.what, true).map_err(|_| {
                Error::usage(
                    format!("`{}` is neither a lock's id nor what is locked", args.what.escape_debug()),
                    "write `ichor unlock user NAME`, or the id that `ichor locks` shows",
                )
            })?;
            let named = Named { what, name: args.name, issuer: args.issuer, subject: args.subject };
            let on = on(here, &session, named)?;
            let held: Vec<_> = block_on(locks::list(&session, false))?
                .into_iter()
                .filter(|lock| lock.on == on)
                .map(|lock| lock.id)
                .collect();
            if held.is_empty() {
                let on = locks::on(&on);
                return Err(Error::failed(format!("{on} is not locked, as far as you may see"), "run `ichor locks`"));
            }
            held
        }
    };
    let mut lifted = Vec::new();
    for id in ids {
        lifted.push(block_on(locks::lift(&session, id, &ask))?);
    }
    here.print(&json!({ "locks": lifted }), |terminal| {
        lifted.iter().try_for_each(|lock| terminal.line(&lifted_line(lock)))
    })
}

pub(super) fn list(here: &mut Here, args: ListArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let held = block_on(locks::list(&session, args.ended))?;
    let heading = ["LOCK", "ON", "UNTIL", "BY", "WHY", "STATE"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(heading).chain(held.iter().map(row)).collect();
    here.print(&json!({ "locks": held }), |terminal| match held.len() {
        0 => terminal.line("nothing is locked that you may see"),
        _ => terminal.table(&rows),
    })
}

/// What is named, with a user's name resolved to their issuer and subject, which is shown.
fn on(here: &mut Here, session: &Session, named: Named) -> Result<LockOn, Error> {
    let Named { what, name, issuer, subject } = named;
    if what != What::User && issuer.is_some() {
        return Err(Error::usage(
            "only a user has an issuer and a subject",
            "name what is locked as `ichor lock --help` shows",
        ));
    }
    let missing = || Error::usage("which one is missing", "see `ichor lock --help`");
    let id = |name: Option<String>| {
        let name = name.ok_or_else(missing)?;
        Uuid::try_parse(&name).map_err(|_| {
            Error::usage(format!("`{}` is not an id", name.escape_debug()), "take it from `ichor audit log`")
        })
    };
    Ok(match (what, issuer, subject) {
        (What::User, Some(issuer), Some(subject)) => LockOn::User { issuer, subject },
        (What::User, ..) => {
            let name = name.ok_or_else(missing)?;
            let person = block_on(locks::person(session, &name))?;
            here.around
                .terminal
                .note(&format!("{name} is {}: subject {} of {}", person.name, person.subject, person.issuer));
            LockOn::User { issuer: person.issuer, subject: person.subject }
        }
        (What::Session, ..) => LockOn::Session { id: id(name)? },
        (What::Grant, ..) => LockOn::Grant { id: id(name)? },
        (What::Cluster, ..) => LockOn::Cluster { name: name.ok_or_else(missing)? },
        (What::Everything, ..) if name.is_some() => {
            return Err(Error::usage("everything has no name", "run `ichor lock everything`"));
        }
        (What::Everything, ..) => LockOn::Everything,
    })
}

/// Waits for a yes: it takes two to lift this.
fn sure(here: &mut Here) -> Result<(), Error> {
    let Some(ask) = &here.around.ask else {
        return Err(Error::usage("nobody sits at a terminal to ask whether everything is to be locked", "add `--yes`"));
    };
    here.around.terminal.note("nothing is issued to anyone then, and nobody lifts it alone: it takes two people of one provider; lock everything? type yes:");
    let typed = ask().map_err(|error| Error::failed(format!("nothing could be read: {error}"), "add `--yes`"))?;
    if typed.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Error::failed("nothing was locked", "lock a user or a cluster instead, or answer yes"))
}

fn set_lines(set: &LockSetAnswer) -> Vec<String> {
    let until = set.lock.until.map_or_else(String::new, |until| format!(" until {until:.0}"));
    let first = format!("{} is locked{until} (lock {})", locks::on(&set.lock.on), set.lock.id);
    std::iter::once(first).chain(set.beyond.iter().map(|line| format!("  {line}"))).collect()
}

fn lifted_line(lock: &LockAnswer) -> String {
    match (&lock.asked_by, lock.asked_until) {
        (Some(by), Some(until)) if lock.holds => format!(
            "{by} asks for the lock of everything to be lifted. It holds until another person, with an account of the same provider, agrees \
             by {until:.0}: ichor unlock everything --confirm"
        ),
        _ => format!("the lock of {} is lifted", locks::on(&lock.on)),
    }
}

fn row(lock: &LockAnswer) -> Vec<String> {
    let state = match (&lock.ended_by, &lock.asked_by) {
        (Some(by), _) => format!("ended by {by}"),
        (None, Some(by)) => format!("{by} asks to lift it"),
        (None, None) if lock.holds => "holds".into(),
        (None, None) => "over".into(),
    };
    let until = lock.until.map_or_else(|| "until lifted".into(), |until| format!("{until:.0}"));
    vec![lock.id.to_string(), locks::on(&lock.on), until, lock.by.clone(), lock.reason.clone(), state]
}
