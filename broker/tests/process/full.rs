//! No room left for the database: the process may not make a file longer than it is.

use ichor_client::Error;
use ichor_wire::problem::Code;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::Host;
use super::ledger::{Landed, attempt, compare};

/// What a commit adds to the write-ahead log at least, in bytes: one page and its header.
const FRAME: u64 = 4096 + 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_a_full_disk_at_each_step_of_issuing_lets_nothing_out() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.start()?;
    let session = host.log_in().await?;
    attempt(&session, "with room".into()).await.result?;

    let mut attempts = Vec::new();
    let mut room = 0;
    loop {
        // Room for so many pages more: at first for no grant, in the end for grant and certificate.
        limit(&host, Some(host.journal() + room * FRAME))?;
        let tried = attempt(&session, format!("room for {room}")).await;
        // it recovers by itself once there is room
        limit(&host, None)?;
        attempts.push(attempt(&session, format!("after {room}")).await);
        assert!(attempts.last().unwrap().result.is_ok(), "{attempts:?}");
        let done = tried.result.is_ok();
        if let Err(error) = &tried.result {
            assert!(
                matches!(error, Error::Problem(problem) if problem.code == Code::StoreUnavailable),
                "room for {room}: {error:?}"
            );
        }
        attempts.push(tried);
        if done {
            break;
        }
        room += 1;
        assert!(room < 100, "two entries have a few pages");
    }
    let landed = compare(&attempts, &host.log().await?);
    println!("full after 0 to {room} pages: {landed:?}");
    assert!(landed.before_the_grant > 0 && landed.before_the_outcome > 0, "{landed:?}");
    assert_eq!(landed, Landed { before_the_answer: 0, failed: 0, ..landed });
    Ok(())
}

/// Sets how many bytes long the broker's files may get; `None` for any length.
fn limit(host: &Host, bytes: Option<u64>) -> anyhow::Result<()> {
    let broker = Pid::from_raw(host.pid().try_into()?);
    prlimit(broker, Resource::Fsize, Rlimit { current: bytes, maximum: None })?;
    Ok(())
}
