//! Tokens are renewed, and replaced where that ends. Leases are of a few seconds: nothing here waits for more.

use std::time::Duration;

use http::Method;
use ichor_broker::openbao::Retry;
use ichor_standins::openbao::Fault;
use jiff::SignedDuration;

use super::{World, ask, until};

const RENEW: &str = "auth/token/renew-self";

async fn with_life(seconds: i64, in_all: i64) -> World {
    let world = World::new().await;
    world.bao.set_token_life(SignedDuration::from_secs(seconds), SignedDuration::from_secs(in_all));
    world
}

#[tokio::test]
async fn a_lease_is_renewed_at_two_thirds() {
    let world = with_life(3, 3_600).await;
    let client = world.client();
    ask(&client).await.unwrap();
    let begun = tokio::time::Instant::now();
    until("a renewal", || world.bao.count(RENEW) >= 1).await;
    assert!(begun.elapsed() > Duration::from_millis(1_900), "{:?}", begun.elapsed());
    until("another", || world.bao.count(RENEW) >= 2).await;
    ask(&client).await.unwrap();
    // had a renewal come too late, or been lost, there would have been a login
    assert_eq!(world.bao.logins(), 1);
}

/// Asks all the while until there was a second login, and none of it fails.
async fn is_replaced(world: &World) {
    let client = world.client();
    ask(&client).await.unwrap();
    tokio::time::timeout(super::LONG, async {
        while world.bao.logins() < 2 {
            ask(&client).await.unwrap();
        }
    })
    .await
    .unwrap();
    ask(&client).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_not_renewable_is_replaced() {
    let world = with_life(1, 3_600).await;
    world.bao.set_renewable(false);
    is_replaced(&world).await;
    assert_eq!(world.bao.count(RENEW), 0);
}

#[tokio::test]
async fn a_token_whose_renewal_is_refused_is_replaced() {
    let world = with_life(3, 3_600).await;
    world.bao.set_fault(RENEW, Some(Fault::Status(400, "lease is not renewable".into())));
    is_replaced(&world).await;
    assert_eq!(world.bao.count(RENEW), 1);
}

#[tokio::test]
async fn a_token_near_its_last_end_is_replaced() {
    let world = with_life(3, 4).await;
    is_replaced(&world).await;
    assert!(world.bao.count(RENEW) >= 1);
}

/// OpenBao's answer to a renewal then is status 500, which from other calls is an outage.
#[tokio::test]
async fn a_token_past_its_longest_life_is_replaced_and_nothing_is_said_to_be_out() {
    let world = with_life(3, 3_600).await;
    world.bao.set_fault(RENEW, Some(Fault::Status(500, "past the max TTL, cannot renew".into())));
    let client = world.client();
    ask(&client).await.unwrap();
    let mut state = client.state();
    state.borrow_and_update();
    until("a second login", || world.bao.logins() >= 2).await;
    assert_eq!(world.bao.count(RENEW), 1);
    ask(&client).await.unwrap();
    assert!(!state.has_changed().unwrap(), "{:?}", state.borrow());
}

#[tokio::test]
async fn a_renewal_that_failed_by_an_outage_is_tried_again() {
    let world = with_life(3, 3_600).await;
    world.bao.spoil_next(RENEW, Fault::Quota, 1);
    let settings = ichor_broker::openbao::Settings { pace: Duration::from_millis(50), ..world.settings() };
    let client = ichor_broker::openbao::Client::new(settings).unwrap();
    ask(&client).await.unwrap();
    until("a second try", || world.bao.count(RENEW) >= 2).await;
    ask(&client).await.unwrap();
    assert_eq!(world.bao.logins(), 1);
}

#[tokio::test]
async fn a_call_under_way_outlives_the_swap_of_the_token() {
    let world = with_life(1, 3_600).await;
    world.bao.set_renewable(false);
    let client = world.client();
    ask(&client).await.unwrap();
    let mut hold = world.bao.hold_answers("sys/internal/ui/mounts/transit");
    let call = client.call(Method::GET, "sys/internal/ui/mounts/transit", None, Retry::Never);
    let swap = async {
        hold.arrived(1).await;
        until("a swap", || world.bao.logins() >= 2).await;
        hold.release();
    };
    let (answer, ()) = tokio::join!(call, swap);
    answer.unwrap();
}
