//! Ends locks whose time is over, and says in readiness and metrics which hold.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::serve::told;
use crate::domain::{LockId, LockKind, LockTarget};
use crate::lock::{Book, Ledger, LockError};
use crate::readiness::{Check, Readiness};
use crate::store::LockRow;

/// How often the locks are looked at. No decision waits for this; that people are told of a lock's end does.
const EVERY: Duration = Duration::from_secs(1);

/// The name of the check.
const NAME: &str = "locks";

/// Looks until told to stop.
pub(super) async fn watch_locks(book: Book, readiness: Arc<Readiness>, stopped: watch::Receiver<bool>) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut ledger, mut known) = (Ledger::default(), None);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => {}
        }
        let check = match look(&book, &mut ledger).await {
            Ok(Looked { held, vanished, between }) => match between {
                Some(what) => Some(unknown(&what)),
                None => check(&held, &vanished),
            },
            Err(error) => {
                Some(Check { name: NAME.into(), ok: false, required: false, detail: Some(error.to_string()) })
            }
        };
        if check != known {
            match &check {
                Some(check) => {
                    tracing::warn!(detail = check.detail, "locks hold");
                    readiness.report(check.clone());
                }
                None => readiness.forget(NAME),
            }
            known = check;
        }
    }
}

/// What a look found.
struct Looked {
    held: Vec<LockRow>,
    vanished: Vec<LockId>,
    /// What stands between statements and tables.
    between: Option<String>,
}

async fn look(book: &Book, ledger: &mut Ledger) -> Result<Looked, LockError> {
    let held = book.time_out().await?;
    let vanished = book.vanished(ledger).await?;
    let number = f64::from(u32::try_from(vanished.len()).unwrap_or(u32::MAX));
    metrics::gauge!("ichor_locks_vanished").set(number);
    Ok(Looked { held, vanished, between: book.between().await? })
}

/// Whoever hides a lock from a decision could show it to whoever lists locks.
fn unknown(what: &str) -> Check {
    let detail =
        format!("{what}, so which locks hold is not known: find out who changes the database, and take it out");
    Check { name: NAME.into(), ok: false, required: false, detail: Some(detail) }
}

/// The line of readiness; none where nothing is locked. The broker serves all the same: a lock is lifted through it.
fn check(held: &[LockRow], vanished: &[LockId]) -> Option<Check> {
    if let [first, rest @ ..] = vanished {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        let detail =
            format!("the log has lock {first}{more}, which the database does not: someone else writes it; lock again");
        return Some(Check { name: NAME.into(), ok: false, required: false, detail: Some(detail) });
    }
    if held.is_empty() {
        return None;
    }
    let everything = held.iter().filter(|lock| lock.target == LockTarget::Everything).min_by_key(|lock| lock.at);
    let detail = match everything {
        Some(lock) => format!("everything is locked since {}, by {}: {}", lock.at, lock.by, lock.reason),
        None => {
            let number =
                |kind: LockKind| (kind.as_str(), held.iter().filter(|lock| lock.target.kind() == kind).count());
            let counted = LockKind::ALL.map(number).into_iter().filter(|(_, number)| *number > 0);
            let said: Vec<_> = counted.map(|(kind, number)| format!("{number} of a {kind}")).collect();
            format!("locks that hold: {}", said.join(", "))
        }
    };
    Some(Check { name: NAME.into(), ok: everything.is_none(), required: false, detail: Some(detail) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClusterName, LockId};
    use crate::store::conformance::noon;

    #[test]
    fn readiness_says_what_is_locked() {
        let lock = |target| LockRow {
            id: LockId(uuid::Uuid::nil()),
            target,
            by: "ada".into(),
            setter: None,
            reason: "stolen laptop".into(),
            at: noon(),
            until: None,
            asked: None,
            ended: None,
        };
        assert_eq!(check(&[], &[]), None);
        let user = || lock(LockTarget::User { issuer: "https://id.example.com".into(), subject: "x".into() });
        let cluster = || lock(LockTarget::Cluster(ClusterName::new("prod").unwrap()));
        let some = check(&[user(), cluster(), user()], &[]).unwrap();
        assert_eq!((some.ok, some.required), (true, false));
        assert_eq!(some.detail.as_deref(), Some("locks that hold: 2 of a user, 1 of a cluster"));
        let all = check(&[user(), lock(LockTarget::Everything)], &[]).unwrap();
        assert_eq!((all.ok, all.required), (false, false), "it is to be seen, and serves");
        assert_eq!(
            all.detail.as_deref(),
            Some("everything is locked since 2026-11-22T12:00:00Z, by ada: stolen laptop")
        );
        let hidden = unknown("its table `lock` has row security");
        assert!(!hidden.ok && hidden.detail.unwrap().contains("`lock` has row security, so which locks hold"));
        let gone = check(&[], &[LockId(uuid::Uuid::nil()), LockId(uuid::Uuid::nil())]).unwrap();
        assert!(!gone.ok && gone.detail.unwrap().contains("and 1 more, which the database does not"));
    }
}
