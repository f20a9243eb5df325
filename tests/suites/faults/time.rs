//! The clock jumping.

use ichor_tests::{Person, World};
use ichor_wire::log::Kind;
use ichor_wire::problem::Code;
use jiff::SignedDuration;

use super::{asks, count, faulty, held, is_well, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn case_25_a_clock_that_goes_back_is_refused_until_it_is_forward_again() -> anyhow::Result<()> {
    let (world, _) = faulty().await?;
    let alice = Person::log_in(&world, "alice").await?;
    world.clock.advance(SignedDuration::from_secs(60));
    is_well(&world, &alice).await?;
    for back in [SignedDuration::from_micros(1), SignedDuration::from_secs(30)] {
        world.clock.advance(-back);
        assert_eq!(refusal(asks(&alice).await), Code::StoreUnavailable, "{back} back");
        assert_eq!(count(&world, ["grant", "issued"]).await?, [1, 1]);
        world.clock.advance(back);
    }
    is_well(&world, &alice).await?;
    Ok(())
}

/// Nothing is recorded, and whoever watches the broker hears of it, and until when.
#[tokio::test(flavor = "multi_thread")]
async fn case_25_a_clock_that_is_behind_the_newest_entry_is_told_by_readiness() -> anyhow::Result<()> {
    let world = World::with_health().await?;
    let ready = async || {
        let url = format!("http://{}/readyz", world.running.health_address().unwrap());
        let answer = world.http()?.get(url).send().await?;
        anyhow::Ok((answer.status().as_u16(), answer.json::<serde_json::Value>().await?))
    };
    world.clock.advance(SignedDuration::from_secs(60));
    Person::log_in(&world, "alice").await?;
    assert_eq!(ready().await?.0, 200);
    world.clock.advance(SignedDuration::from_hours(-24));
    let (status, said) = ready().await?;
    let clock = said["checks"].as_array().unwrap().iter().find(|check| check["name"] == "clock").unwrap();
    assert_eq!((status, &clock["ok"]), (503, &false.into()), "{said}");
    let detail = clock["detail"].as_str().unwrap();
    assert!(detail.contains("24h ahead of this host's clock, and nothing is recorded until then"), "{detail}");
    // all brokers of this process count together, and no other's clock is as far behind
    let page = crate::metrics::scrape(&world).await?;
    assert!(page.contains("ichor_newest_entry_ahead_seconds"), "{page}");
    world.clock.advance(SignedDuration::from_hours(24));
    assert_eq!(ready().await?.0, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_between_grant_and_certificate_leaves_no_certificate() -> anyhow::Result<()> {
    let (world, faults) = faulty().await?;
    let alice = Person::log_in(&world, "alice").await?;
    world.clock.advance(SignedDuration::from_secs(60));
    let mut hold = faults.hold(Kind::Grant);
    let back = async {
        hold.arrived().await;
        world.clock.advance(SignedDuration::from_secs(-1));
        hold.release();
        Ok(())
    };
    let refused = held(asks(&alice), back).await?;
    assert_eq!(refusal(refused), Code::StoreUnavailable);
    assert_eq!(count(&world, ["grant", "issued"]).await?, [1, 0]);
    world.clock.advance(SignedDuration::from_secs(1));
    is_well(&world, &alice).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_was_overtaken_by_the_clock_leads_to_no_certificate() -> anyhow::Result<()> {
    let (world, faults) = faulty().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let mut hold = faults.hold(Kind::Grant);
    // the default life is one hour: what would be signed now would be over, or would outlive its grant
    let jump = async {
        hold.arrived().await;
        world.clock.advance(SignedDuration::from_hours(2));
        hold.release();
        Ok(())
    };
    let refused = held(asks(&alice), jump).await?;
    assert_eq!(refusal(refused), Code::CustodyUnavailable);
    assert_eq!(count(&world, ["grant", "issue-failed", "issued"]).await?, [1, 1, 0]);
    is_well(&world, &alice).await?;
    Ok(())
}
