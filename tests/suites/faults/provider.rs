//! The provider gone, refusing connections, or slow, at each step that needs it.

use std::time::Duration;

use ichor_standins::provider::{Endpoint, Hold, Outage};
use ichor_tests::{Person, World};
use ichor_wire::problem::Code;
use jiff::SignedDuration;

use super::{asks, count, held, is_well, refusal};

/// Longer than groups are believed.
const OLD: SignedDuration = SignedDuration::from_mins(6);

/// Longer than the broker waits for a provider, shorter than its client waits for the broker.
const TOO_LONG: Duration = Duration::from_secs(11);

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_out_at_a_login_gives_no_session() -> anyhow::Result<()> {
    let world = World::start().await?;
    for outage in [Outage::Unavailable, Outage::Refusing] {
        world.provider.set_outage(outage);
        assert!(Person::log_in(&world, "alice").await.is_err(), "{outage:?}");
        world.provider.set_outage(Outage::None);
        // a provider that failed is left alone for two seconds
        world.clock.advance(SignedDuration::from_secs(3));
    }
    assert_eq!(count(&world, ["login"]).await?, [0]);
    is_well(&world, &Person::log_in(&world, "alice").await?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_goes_away_during_a_login_gives_no_session() -> anyhow::Result<()> {
    let world = World::start().await?;
    for endpoint in [Endpoint::Authorize, Endpoint::Login, Endpoint::Token] {
        let mut hold = world.provider.hold(endpoint);
        let gone = async {
            hold.arrived(1).await;
            // whoever waits is answered 503
            world.provider.set_down(true);
            hold.release();
            Ok(())
        };
        let result = held(Person::log_in(&world, "alice"), gone).await?;
        assert!(result.is_err(), "{endpoint:?}");
        world.provider.set_down(false);
        assert_eq!(count(&world, ["login"]).await?, [0], "{endpoint:?}");
    }
    is_well(&world, &Person::log_in(&world, "alice").await?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_groups_are_never_a_stale_yes() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    for outage in [Outage::Unavailable, Outage::Refusing] {
        world.clock.advance(OLD);
        world.provider.set_outage(outage);
        let before = count(&world, ["grant", "issued"]).await?;
        assert_eq!(refusal(asks(&alice).await), Code::ProviderUnavailable, "{outage:?}");
        assert_eq!(count(&world, ["grant", "issued"]).await?, before, "{outage:?}");
        // what needs no groups goes on
        alice.session.describe().await?;
        world.provider.set_outage(Outage::None);
        is_well(&world, &alice).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_provider_holds_up_only_those_who_need_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    world.clock.advance(OLD);
    let oscar = Person::log_in(&world, "oscar").await?;
    let mut hold = world.provider.hold(Endpoint::Token);
    let meanwhile = async {
        hold.arrived(1).await;
        is_well(&world, &oscar).await?;
        // gone while alice waits: she is told so, and her session stays
        world.provider.set_down(true);
        hold.release();
        Ok(())
    };
    let refused = held(asks(&alice), meanwhile).await?;
    assert_eq!(refusal(refused), Code::ProviderUnavailable);
    world.provider.set_down(false);
    is_well(&world, &alice).await?;
    Ok(())
}

#[tokio::test]
async fn a_login_gives_up_on_a_provider_that_does_not_answer() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mut hold = world.provider.hold(Endpoint::Token);
    let result = held(Person::log_in(&world, "alice"), waits_too_long(&mut hold)).await?;
    // it ended, and the provider has still not answered
    let error = format!("{:#}", result.err().expect("no login without the provider's word"));
    assert!(error.contains("the identity provider is out of reach; try again in a moment"), "{error}");
    assert_eq!(count(&world, ["login"]).await?, [0]);
    drop(hold);
    is_well(&world, &Person::log_in(&world, "alice").await?).await?;
    Ok(())
}

#[tokio::test]
async fn a_certificate_gives_up_on_a_provider_that_does_not_answer() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    world.clock.advance(OLD);
    let mut hold = world.provider.hold(Endpoint::Token);
    let refused = held(asks(&alice), waits_too_long(&mut hold)).await?;
    assert_eq!(refusal(refused), Code::ProviderUnavailable);
    assert_eq!(count(&world, ["session-end", "session-refresh", "grant"]).await?, [0, 0, 0]);
    // the refresh that was given up must not be answered late: its token would be used up
    world.provider.set_down(true);
    drop(hold);
    alice.session.describe().await?;
    world.provider.set_down(false);
    is_well(&world, &alice).await?;
    Ok(())
}

/// Returns once a request waits at the provider and has waited [`TOO_LONG`], in a time of its own.
async fn waits_too_long(hold: &mut Hold) -> anyhow::Result<()> {
    hold.arrived(1).await;
    tokio::time::pause();
    tokio::time::advance(TOO_LONG).await;
    tokio::time::resume();
    Ok(())
}
