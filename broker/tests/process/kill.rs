//! kill -9 while certificates are issued: nobody holds one that the log does not have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ichor_client::Session;
use tokio::sync::mpsc;

use super::Host;
use super::ledger::{Attempt, attempt, compare};

/// Requests under way at once.
const CLIENTS: usize = 8;
/// Certificates that the client must hold in the end.
const CERTIFICATES: usize = 200;
/// The least number of kills, and of those that a host too slow to show every step gets.
const KILLS: usize = 9;
const MOST_KILLS: usize = 90;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_certificate_is_held_that_the_log_does_not_have() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.start()?;
    let session = Arc::new(host.log_in().await?);
    let numbers = Arc::new(AtomicUsize::new(0));
    let mut ledger = Vec::<Attempt>::new();
    let (mut kills, mut held) = (0, 0);
    let landed = loop {
        let mut attempts = clients(&session, &numbers);
        // The moment of the kill: after so many more certificates, then at once, or at the next sign of a commit, which is
        // then on its way to the disk, or done with its answers not yet sent.
        let enough = held + CERTIFICATES / KILLS + kills % 3;
        while held < enough {
            let attempt = attempts.recv().await.expect("the clients go on until the broker is killed");
            held += usize::from(attempt.result.is_ok());
            ledger.push(attempt);
        }
        wait_for_commits(&host, kills % 3);
        host.kill();
        kills += 1;
        while let Some(attempt) = attempts.recv().await {
            held += usize::from(attempt.result.is_ok());
            ledger.push(attempt);
        }
        host.start()?;
        let landed = compare(&ledger, &host.log().await?);
        let every_step = landed.before_the_grant > 0 && landed.before_the_outcome > 0 && landed.before_the_answer > 0;
        if (kills >= KILLS && held >= CERTIFICATES && every_step) || kills >= MOST_KILLS {
            break landed;
        }
    };

    println!("{kills} kills, {held} certificates held, each in the log after its grant; requests cut off: {landed:?}");
    assert!(held >= CERTIFICATES);
    assert!(landed.before_the_grant > 0, "no kill landed before a grant was durable: {landed:?}");
    assert!(landed.before_the_outcome > 0, "no kill landed between grant and outcome: {landed:?}");
    assert!(landed.before_the_answer > 0, "no kill landed between outcome and answer: {landed:?}");
    assert_eq!(landed.failed, 0);
    // the broker that was killed so often still works
    let last = attempt(&session, "the last".into()).await;
    assert!(last.result.is_ok(), "{last:?}");
    compare(&[last], &host.log().await?);
    Ok(())
}

/// Clients that ask for one certificate after the other, each until it is cut off.
fn clients(session: &Arc<Session>, numbers: &Arc<AtomicUsize>) -> mpsc::UnboundedReceiver<Attempt> {
    let (done, attempts) = mpsc::unbounded_channel();
    for _ in 0..CLIENTS {
        let (session, numbers, done) = (Arc::clone(session), Arc::clone(numbers), done.clone());
        tokio::spawn(async move {
            loop {
                let number = numbers.fetch_add(1, Ordering::SeqCst);
                let attempt = attempt(&session, format!("attempt {number}")).await;
                let is_cut_off = attempt.result.is_err();
                if done.send(attempt).is_err() || is_cut_off {
                    return;
                }
            }
        });
    }
    attempts
}

/// Returns once the write-ahead log was seen to grow so often; it need not, so not for ever.
fn wait_for_commits(host: &Host, commits: usize) {
    let (mut seen, mut size) = (0, host.journal());
    for _ in 0..100_000 {
        if seen >= commits {
            return;
        }
        let now = host.journal();
        seen += usize::from(now != size);
        size = now;
    }
}
