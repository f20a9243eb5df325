//! A session that is over gives its token back to the provider, and never waits for that.

use std::time::Duration;

use ichor_broker::login::{FreshError, Recheck};
use ichor_standins::browser::Browser;
use ichor_standins::provider::{Endpoint, GroupsIn, Outage};
use ichor_wire::log::Kind;

use super::client::Client;
use super::world::{Session, World};

/// Logs out; answers the status.
async fn log_out(world: &World, session: &Session) -> u16 {
    let form = [("client_id", "ichor"), ("token", session.token.as_str())];
    let mut encoded = url::form_urlencoded::Serializer::new(String::new());
    encoded.extend_pairs(form);
    let proof = world.proof(&session.client, "POST", "/oauth/revoke").token(&session.token);
    let proof = session.client.sign(&proof.body(encoded.finish().as_bytes()));
    world.post("/oauth/revoke", &form, &[proof]).await.status
}

/// A deadline for what must come without anybody's help: far beyond what it takes, and only there to end a failing test.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("nothing came")
}

#[tokio::test]
async fn logging_out_gives_the_refresh_token_back() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    // rotated once: the newest token is the one to give back
    world.wait_minutes(6);
    let row = world.call(&session).await.unwrap();
    world.login.fresh_identity(&row).await.unwrap();
    let mut revoked = world.provider.revocations();
    let mut held = world.provider.hold(Endpoint::Revoke);
    assert_eq!(log_out(&world, &session).await, 200, "the provider has not answered yet");
    assert_eq!(world.count(Kind::SessionEnd).await, 1);
    soon(held.arrived(1)).await;
    assert_eq!(*revoked.borrow_and_update(), 0);
    held.release();
    soon(revoked.changed()).await.unwrap();
    // what was over already is not given back twice
    assert_eq!(log_out(&world, &session).await, 200);
    assert_eq!(world.provider.count(Endpoint::Revoke), 1);
}

/// The provider has taken the old one back when it gave the new one.
#[tokio::test]
async fn a_refresh_that_says_no_gives_back_the_token_that_came_with_it() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    world.wait_minutes(6);
    let row = world.call(&session).await.unwrap();
    world.provider.set_groups_in(GroupsIn::Nowhere);
    let mut revoked = world.provider.revocations();
    assert!(matches!(world.login.fresh_identity(&row).await, Err(FreshError::Ended(_))));
    soon(revoked.changed()).await.unwrap();
}

#[tokio::test]
async fn a_session_that_is_found_over_gives_its_token_back_too() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    let mut revoked = world.provider.revocations();
    world.wait_minutes(12 * 60 + 1);
    assert!(world.call(&session).await.is_err());
    soon(revoked.changed()).await.unwrap();
}

#[tokio::test]
async fn a_userinfo_sessions_access_token_is_given_back() {
    let world = World::with(|settings| {
        settings.providers[0].recheck = Recheck::Userinfo;
        settings.providers[0].mapping.groups_from = ichor_broker::identity::GroupsFrom::Userinfo;
    })
    .await;
    let session = world.log_in("alice").await;
    let mut revoked = world.provider.revocations();
    assert_eq!(log_out(&world, &session).await, 200);
    soon(revoked.changed()).await.unwrap();
}

#[tokio::test]
async fn a_provider_that_is_out_does_not_fail_a_logout() {
    let world = World::new().await;
    for outage in [Outage::Unavailable, Outage::Refusing] {
        let session = world.log_in("alice").await;
        world.provider.set_outage(outage);
        assert_eq!(log_out(&world, &session).await, 200, "{outage:?}");
        assert!(world.call(&session).await.is_err(), "{outage:?}: the session is over all the same");
        world.provider.set_outage(Outage::None);
    }
    assert_eq!(world.count(Kind::SessionEnd).await, 2);
}

#[tokio::test]
async fn a_token_that_came_while_its_session_ended_is_given_back() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    world.wait_minutes(6);
    let row = world.call(&session).await.unwrap();
    let mut refreshing = world.provider.hold(Endpoint::Token);
    let login = world.login.clone();
    let asked = tokio::spawn(async move { login.fresh_identity(&row).await });
    soon(refreshing.arrived(1)).await;
    let mut first = world.provider.hold(Endpoint::Revoke);
    assert_eq!(log_out(&world, &session).await, 200);
    // the logout's own revocation stays on its way, so that only the new token's can come
    soon(first.arrived(1)).await;
    refreshing.release();
    assert!(asked.await.unwrap().is_err());
    soon(first.arrived(2)).await;
}

#[tokio::test]
async fn a_provider_without_revocation_is_not_asked() {
    let world = World::new().await;
    world.provider.set_revocation(false);
    let session = world.log_in("alice").await;
    assert_eq!(log_out(&world, &session).await, 200);
    // the discovery document is fetched again after an hour; by then the first would long have been asked
    world.provider.set_revocation(true);
    world.wait_minutes(61);
    let client = Client::new();
    let code = world.code(&Browser::new(&[]).unwrap(), &client, "alice").await;
    let token = world.exchange(&client, &code).await.json["access_token"].as_str().unwrap().to_owned();
    let mut revoked = world.provider.revocations();
    assert_eq!(log_out(&world, &Session { token, client }).await, 200);
    soon(revoked.changed()).await.unwrap();
    assert_eq!(world.provider.count(Endpoint::Revoke), 1);
}
