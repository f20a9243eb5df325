//! kill -9 while certificates are issued: nobody holds one that the log does not have.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ichor_client::Session;
use tokio::sync::mpsc;

use super::Host;
use super::ledger::{Attempt, Landed, attempt, compare};
use super::steps::{STEPS, Step, fits};

/// Requests under way at once.
const CLIENTS: usize = 8;
/// Certificates that the client must hold in the end.
const CERTIFICATES: usize = 200;
/// The least number of kills, and of those that a host too slow to show every step gets.
const KILLS: usize = 10;
const MOST_KILLS: usize = 90;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_20_no_certificate_is_held_that_the_log_does_not_have() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.log_steps()?;
    let mut steps = host.start_watched()?;
    let session = Arc::new(host.log_in().await?);
    let numbers = Arc::new(AtomicUsize::new(0));
    let mut ledger = Vec::<Attempt>::new();
    let mut held = HashSet::new();
    // Requests that were cut off, by the last step that they had begun.
    let mut cut_off = BTreeMap::<Step, usize>::new();
    let mut kills = 0;
    let landed = loop {
        let mut attempts = clients(&session, &numbers);
        // First so many answers that every client is somewhere on the way, then the next request to begin the step in turn.
        let (turn, _) = STEPS[kills % STEPS.len()];
        let mut answers = 0;
        while {
            let step = steps.next()?;
            answers += usize::from(step == 8);
            answers <= CERTIFICATES / KILLS || step != turn
        } {}
        host.kill();
        kills += 1;
        while let Some(attempt) = attempts.recv().await {
            held.extend(attempt.result.iter().map(|held| held.answer.grant_id));
            ledger.push(attempt);
        }
        let log = host.log().await?;
        for (grant, step) in steps.at_the_end() {
            if !held.contains(&grant) {
                fits(grant, step, &log);
                *cut_off.entry(step).or_default() += 1;
            }
        }
        let all_steps = STEPS.iter().all(|(step, _)| cut_off.contains_key(step));
        steps = host.start_watched()?;
        if (kills >= KILLS && held.len() >= CERTIFICATES && all_steps) || kills >= MOST_KILLS {
            break compare(&ledger, &log);
        }
    };

    let held = held.len();
    println!("{kills} kills, {held} certificates held, each in the log after its grant");
    println!("requests cut off, by the step that they were in: {cut_off:?}; by what the log has of them: {landed:?}");
    assert!(held >= CERTIFICATES);
    for (step, name) in STEPS {
        assert!(cut_off.contains_key(&step), "no kill landed in step {step}, {name}: {cut_off:?}");
    }
    assert_eq!(landed, Landed { failed: 0, ..landed });
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
