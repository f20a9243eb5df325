//! The database failing at each write of a login.

use ichor_broker::audit::verify_log;
use ichor_tests::{Fault, Person};

use super::{count, faulty, is_well};

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
