//! The database failing at each step of issuing.

use ichor_broker::audit::verify_log;
use ichor_broker::config::Folder;
use ichor_client::Error;
use ichor_tests::{Fault, Person};
use ichor_wire::log::Kind;
use ichor_wire::problem::Code;

use super::{asks, count, faulty, held, is_well, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_that_could_not_be_recorded() -> anyhow::Result<()> {
    let (world, faults) = faulty().await?;
    let alice = Person::log_in(&world, "alice").await?;
    // What the log has afterwards, beyond what was there: grants and certificates. A lost answer may leave an entry without
    // effect outside, never the other way round.
    let cases = [
        (Kind::Grant, Fault::Before, [0, 0]),
        (Kind::Grant, Fault::After, [1, 0]),
        (Kind::Issued, Fault::Before, [1, 0]),
        (Kind::Issued, Fault::After, [1, 1]),
    ];
    for (kind, fault, more) in cases {
        let before = count(&world, ["grant", "issued"]).await?;
        faults.at_entry(kind, fault);
        assert_eq!(refusal(asks(&alice).await), Code::StoreUnavailable, "{kind} {fault:?}");
        assert!(faults.happened(), "{kind} {fault:?}");
        let after = count(&world, ["grant", "issued"]).await?;
        assert_eq!([after[0] - before[0], after[1] - before[1]], more, "{kind} {fault:?}");
        is_well(&world, &alice).await?;
    }
    Ok(())
}

/// Asks for everybody's entries.
async fn reads(person: &Person) -> Result<serde_json::Value, Error> {
    person.session.broker().get(&person.session, &["audit", "entries"], &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_cannot_be_recorded_is_still_no() -> anyhow::Result<()> {
    let (world, faults) = faulty().await?;
    let carol = Person::log_in(&world, "carol").await?;
    for fault in [Fault::Before, Fault::After] {
        faults.at_entry(Kind::Refusal, fault);
        assert_eq!(refusal(asks(&carol).await), Code::StoreUnavailable, "{fault:?}");
        // nor may she read others' entries, and that is not answered either before it is recorded
        faults.at_entry(Kind::Refusal, fault);
        assert_eq!(refusal(reads(&carol).await), Code::StoreUnavailable, "{fault:?}");
    }
    assert_eq!(refusal(asks(&carol).await), Code::Refused);
    assert_eq!(refusal(reads(&carol).await), Code::Refused);
    assert_eq!(count(&world, ["refusal", "grant"]).await?, [4, 0]);
    verify_log(&*world.running.store()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_every_call_says_so_and_recovers_by_itself() -> anyhow::Result<()> {
    let (world, faults) = faulty().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let broker = world.broker();
    faults.set_down(true);
    assert_eq!(refusal(alice.session.describe().await), Code::StoreUnavailable);
    assert_eq!(refusal(asks(&alice).await), Code::StoreUnavailable);
    for path in [["clusters"].as_slice(), &["audit", "entries"]] {
        let answer = broker.get::<serde_json::Value>(&alice.session, path, &[]).await;
        assert_eq!(refusal(answer), Code::StoreUnavailable, "{path:?}");
    }
    faults.set_down(false);
    assert_eq!(count(&world, ["grant", "issued"]).await?, [0, 0]);
    is_well(&world, &alice).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_file_that_goes_away_at_any_step_ends_that_step() -> anyhow::Result<()> {
    let (world, faults) = faulty().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let database = Folder::new(&world.dir).load()?.settings.database;
    let aside = database.with_extension("aside");
    for (kind, more) in [(Kind::Grant, [0, 0]), (Kind::Issued, [1, 0])] {
        let before = count(&world, ["grant", "issued"]).await?;
        let mut hold = faults.hold(kind);
        let away = async {
            hold.arrived().await;
            std::fs::rename(&database, &aside)?;
            hold.release();
            Ok(())
        };
        let refused = held(asks(&alice), away).await?;
        assert_eq!(refusal(refused), Code::StoreUnavailable, "at {kind}");
        assert_eq!(refusal(asks(&alice).await), Code::StoreUnavailable, "still away");
        std::fs::rename(&aside, &database)?;
        let after = count(&world, ["grant", "issued"]).await?;
        assert_eq!([after[0] - before[0], after[1] - before[1]], more, "at {kind}");
        is_well(&world, &alice).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_between_decision_and_record_gets_nothing() -> anyhow::Result<()> {
    let (world, faults) = faulty().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let mut reads = faults.session_reads();
    // The session's end is on its way into the log, and not there yet …
    let mut hold = faults.hold(Kind::SessionEnd);
    let asked = async {
        hold.arrived().await;
        // … so this request finds the session alive, is decided on, and queues behind it.
        let seen = *reads.borrow_and_update();
        let release = async {
            reads.wait_for(|reads| *reads > seen).await?;
            hold.release();
            Ok(())
        };
        held(asks(&alice), release).await
    };
    let (ended, refused) = tokio::join!(alice.session.revoke(), asked);
    ended?;
    assert_eq!(refusal(refused?), Code::SessionEnded);
    // The refusal stands in the log because the grant's own transaction found out; a session that is over is not decided on.
    assert_eq!(count(&world, ["session-end", "refusal", "grant", "issued"]).await?, [1, 1, 0, 0]);
    let again = Person::log_in(&world, "alice").await?;
    is_well(&world, &again).await?;
    Ok(())
}

/// Else a broker that no longer ends requests whose time is over, or forwards nothing more, would look like one that does.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_beside_the_service_that_ends_is_the_end_of_the_broker() -> anyhow::Result<()> {
    let (mut world, faults) = faulty().await?;
    let alice = Person::log_in(&world, "alice").await?;
    is_well(&world, &alice).await?;
    assert!(futures_util::poll!(std::pin::pin!(world.running.failed())).is_pending(), "all is well");
    faults.panic_beside();
    let ended = world.running.failed().await;
    assert_eq!(ended, "the watch over break-glass requests ended by a panic, a bug of ours");
    // and it still stops in order
    let store = world.running.store();
    world.running.stop().await;
    verify_log(&*store).await?;
    Ok(())
}
