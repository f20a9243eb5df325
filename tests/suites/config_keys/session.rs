//! How long people stay logged in.

use ichor_broker::clock::Clock;
use ichor_tests::{Options, Person, World};
use jiff::SignedDuration;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lives_as_long_as_configured() -> anyhow::Result<()> {
    let world = World::with(Options { edits: vec![("life = \"12h\"", "life = \"2h\"")], ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    assert_eq!(
        alice.session.describe().await?.expires_at.duration_since(world.clock.now()),
        SignedDuration::from_hours(2)
    );
    world.clock.advance(SignedDuration::from_mins(119));
    alice.session.describe().await?;
    world.clock.advance(SignedDuration::from_mins(2));
    assert!(matches!(alice.session.describe().await, Err(ichor_client::Error::SessionEnded { .. })));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_session_ends() -> anyhow::Result<()> {
    let world =
        World::with(Options { edits: vec![("[session]\n", "[session]\nidle = \"20m\"\n")], ..Options::default() })
            .await?;
    let alice = Person::log_in(&world, "alice").await?;
    for _ in 0..3 {
        world.clock.advance(SignedDuration::from_mins(19));
        alice.session.describe().await?;
    }
    world.clock.advance(SignedDuration::from_mins(21));
    assert!(matches!(alice.session.describe().await, Err(ichor_client::Error::SessionEnded { .. })));
    Ok(())
}
