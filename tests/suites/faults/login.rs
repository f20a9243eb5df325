//! The database failing at each write of a login.

use ichor_broker::audit::verify_log;
use ichor_standins::provider::Endpoint;
use ichor_tests::{Fault, Faults, Options, Person, World};

use super::{count, faulty, is_well};

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_alias_cannot_be_pinned_logs_nobody_in() -> anyhow::Result<()> {
    // Before the first pin there is nothing to hold an issuer against, so it must be there before anyone is sent to it.
    let faults = Faults::none();
    faults.set_no_pin(true);
    let world = World::with(Options { wrap_store: Some(faults.wrap()), ..Options::default() }).await?;
    let error = Person::log_in(&world, "alice").await.err().expect("no login without the pin");
    let error = format!("{error:#}");
    assert!(error.contains("the broker's database is unavailable; try again in a moment"), "{error}");
    assert_eq!(world.provider.count(Endpoint::Authorize), 0);
    assert_eq!(count(&world, ["login"]).await?, [0]);
    faults.set_no_pin(false);
    is_well(&world, &Person::log_in(&world, "alice").await?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_whose_writes_fail_gives_no_session_and_the_next_one_does() -> anyhow::Result<()> {
    let (world, faults) = faulty().await?;
    for fault in [Fault::Before, Fault::After] {
        // every write in turn, until a login needs no more
        let mut failed = 0;
        loop {
            let sessions = count(&world, ["login"]).await?[0];
            faults.at_write(failed, fault);
            let result = Person::log_in(&world, "alice").await;
            if !faults.happened() {
                result?;
                break;
            }
            assert!(result.is_err(), "{fault:?} at write {failed}");
            // A lost answer may leave an entry, and a session whose token nobody was told.
            let more = count(&world, ["login"]).await?[0] - sessions;
            assert!(more == 0 || fault == Fault::After, "{fault:?} at write {failed}");
            failed += 1;
            assert!(failed < 20, "a login has a few writes");
        }
        assert!(failed >= 3, "begin, advance, create: {failed}");
        is_well(&world, &Person::log_in(&world, "alice").await?).await?;
    }
    verify_log(&*world.running.store()).await?;
    Ok(())
}
