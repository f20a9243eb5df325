//! What runs beside the service must run for as long as the service does: a broker that forwards nothing any more, or no longer
//! looks at what is locked, must not look like one that does.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::task::JoinSet;

/// Everything that runs beside the service.
pub(super) type Tasks = JoinSet<Ended>;

/// A task that ended, in words for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// It came to its end.
    #[error("{0} ended")]
    Returned(&'static str),
    /// It panicked; the process's log has where.
    #[error("{0} ended by a panic, a bug of ours")]
    Panicked(&'static str),
}

/// The task, which says at its end what it was.
pub(super) async fn named(name: &'static str, task: impl Future<Output = ()> + Send) -> Ended {
    // what the task held is dropped with it, and nothing else looks at it again
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(()) => Ended::Returned(name),
        Err(_) => Ended::Panicked(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_says_what_it_was() {
        let mut tasks = Tasks::new();
        tasks.spawn(named("the watch over locks", async { panic!("a test's panic") }));
        let ended = tasks.join_next().await.unwrap().unwrap();
        assert_eq!(ended.to_string(), "the watch over locks ended by a panic, a bug of ours");
        tasks.spawn(named("the forwarding", async {}));
        assert_eq!(tasks.join_next().await.unwrap().unwrap().to_string(), "the forwarding ended");
    }
}
