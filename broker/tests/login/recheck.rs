//! Groups asked again during a session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ichor_broker::identity::{GroupsFrom, Identity, LocalGroups, vouch};
use ichor_broker::login::{FreshError, Recheck};
use ichor_broker::store::{Change, SessionRow};
use ichor_standins::provider::{Endpoint, Fault, GroupsIn};
use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::Code;
use jiff::SignedDuration;

use super::world::{Session, World, data_key};

async fn fresh(world: &World, session: &Session) -> Result<Identity, FreshError> {
    let row = world.call(session).await.map_err(|error| FreshError::Ended(error.to_string()))?;
    world.login.fresh_identity(&row).await
}

fn names(identity: &Identity) -> Vec<&str> {
    identity.groups().iter().map(|group| group.name.as_str()).collect()
}

async fn row(world: &World, session: &Session) -> SessionRow {
    world.call(session).await.unwrap()
}

fn ended(result: &Result<Identity, FreshError>) -> bool {
    result.as_ref().is_err_and(|error| error.code() == Code::SessionEnded)
}

#[tokio::test]
async fn groups_are_asked_again_after_five_minutes_and_not_before() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    world.provider.set_groups("alice", ["dev", "oncall"]);
    world.wait_minutes(5);
    assert_eq!(names(&fresh(&world, &session).await.unwrap()), ["sre"]);
    assert_eq!(world.provider.refreshes(), 0);
    world.clock.advance(SignedDuration::from_secs(1));
    let identity = fresh(&world, &session).await.unwrap();
    assert_eq!(names(&identity), ["dev", "oncall"]);
    assert_eq!(identity.groups_at().as_second(), world.clock_seconds());
    assert_eq!(names(&fresh(&world, &session).await.unwrap()), ["dev", "oncall"]);
    assert_eq!(world.provider.refreshes(), 1);
    assert_eq!(world.count(Kind::SessionRefresh).await, 1);
    // the rotated token is in use: the provider ends the grant of one that is used twice
    for _ in 0..3 {
        world.wait_minutes(6);
        fresh(&world, &session).await.unwrap();
    }
    assert_eq!(world.provider.refreshes(), 4);
}

#[tokio::test]
async fn fifty_parallel_requests_make_one_refresh() {
    let world = Arc::new(World::new().await);
    let session = world.log_in("alice").await;
    world.wait_minutes(6);
    let row = row(&world, &session).await;
    let mut hold = world.provider.hold(Endpoint::Token);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (world, row) = (world.clone(), row.clone());
        tasks.spawn(async move { world.login.fresh_identity(&row).await.map(|identity| identity.groups_at()) });
    }
    tokio::select! {
        () = hold.arrived(1) => hold.release(),
        _ = tasks.join_next() => panic!("nobody is answered before the provider answers"),
    }
    for result in tasks.join_all().await {
        assert_eq!(result.unwrap().as_second(), world.clock_seconds());
    }
    assert_eq!(world.provider.refreshes(), 1);
    assert_eq!(world.count(Kind::SessionRefresh).await, 1);
}

#[tokio::test]
async fn a_broker_waits_for_another_ones_refresh() {
    let world = Arc::new(World::new().await);
    let session = world.log_in("alice").await;
    world.wait_minutes(6);
    let row = row(&world, &session).await;
    let now = row.groups_at.saturating_add(SignedDuration::from_mins(6)).unwrap();
    // another broker holds the lease ...
    assert!(world.store.lease_refresh(row.id, now, now + SignedDuration::from_secs(30)).await.unwrap());
    let waiting = {
        let (world, row) = (world.clone(), row.clone());
        tokio::spawn(async move { world.login.fresh_identity(&row).await })
    };
    // ... and ends its refresh
    let mut next = SessionRow { groups_at: now, ..row.clone() };
    vouch(&mut next, &data_key());
    let change = Change::SessionRefresh {
        session: row.id,
        version: row.version,
        groups: row.groups.clone(),
        groups_at: now,
        refresh_sealed: None,
        tag: next.tag,
        now,
    };
    world.sequencer.note(Content::of(Kind::SessionRefresh), Some(change)).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().groups_at(), now);
    assert_eq!(world.provider.refreshes(), 0);
}

#[tokio::test]
async fn a_refresh_goes_on_when_its_caller_hangs_up() {
    let world = Arc::new(World::new().await);
    let session = world.log_in("alice").await;
    world.wait_minutes(6);
    let stale = row(&world, &session).await;
    let mut hold = world.provider.hold(Endpoint::Token);
    let mut caller = {
        let (world, stale) = (world.clone(), stale.clone());
        tokio::spawn(async move { world.login.fresh_identity(&stale).await.map(drop) })
    };
    tokio::select! {
        () = hold.arrived(1) => caller.abort(),
        _ = &mut caller => panic!("it was answered before the provider was asked"),
    }
    hold.release();
    fresh(&world, &session).await.unwrap();
    assert_eq!(world.provider.refreshes(), 1, "the first refresh was finished and its token kept");
}

#[tokio::test]
async fn a_provider_out_of_reach_is_never_a_stale_yes() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    world.wait_minutes(6);
    world.provider.set_down(true);
    for _ in 0..2 {
        let error = fresh(&world, &session).await.unwrap_err();
        assert_eq!(error.code(), Code::ProviderUnavailable, "{error}");
    }
    assert_eq!(world.count(Kind::SessionEnd).await, 0);
    world.provider.set_down(false);
    assert_eq!(names(&fresh(&world, &session).await.unwrap()), ["sre"]);
}

#[tokio::test]
async fn case_16_a_session_does_not_outlive_its_person() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    world.provider.disable("alice");
    world.wait_minutes(6);
    assert!(ended(&fresh(&world, &session).await));
    assert!(ended(&fresh(&world, &session).await));
    assert!(world.call(&session).await.is_err());
    assert_eq!(world.count(Kind::SessionEnd).await, 1);
}

#[tokio::test]
async fn an_answer_without_groups_or_for_another_person_ends_the_session() {
    type Change = fn(&World);
    let changes: [(&str, Change); 6] = [
        ("no groups", |world| world.provider.set_groups_in(GroupsIn::Nowhere)),
        ("overage", |world| world.provider.set_groups_in(GroupsIn::EntraOverage)),
        ("another subject", |world| world.provider.set_fault(Some(Fault::WrongSubject))),
        ("another issuer", |world| world.provider.set_fault(Some(Fault::WrongIssuer))),
        ("another audience", |world| world.provider.set_fault(Some(Fault::WrongAudience))),
        ("no ID token", |world| world.provider.set_id_token_on_refresh(false)),
    ];
    let world = World::new().await;
    for (what, change) in changes {
        let session = world.log_in("alice").await;
        world.wait_minutes(6);
        change(&world);
        let result = fresh(&world, &session).await;
        assert!(ended(&result), "{what}: {result:?}");
        world.provider.set_groups_in(GroupsIn::IdToken);
        world.provider.set_fault(None);
        world.provider.set_id_token_on_refresh(true);
        assert!(ended(&fresh(&world, &session).await), "{what}: it must stay ended");
    }
    assert_eq!(world.count(Kind::SessionEnd).await, 6);
}

#[tokio::test]
async fn who_had_no_groups_loses_none() {
    let local = LocalGroups::new(BTreeMap::from([("sub-carol".into(), BTreeSet::from(["talos".into()]))]));
    let world = World::with(|settings| settings.providers[0].mapping.local_groups = local).await;
    world.provider.set_groups_in(GroupsIn::Nowhere);
    let session = world.log_in("carol").await;
    assert!(fresh(&world, &session).await.unwrap().has_groups_file());
    world.wait_minutes(6);
    let identity = fresh(&world, &session).await.unwrap();
    assert_eq!((names(&identity), identity.has_groups_file()), (vec!["talos"], true));
}

#[tokio::test]
async fn an_unknown_key_keeps_session_and_rotated_token() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    world.wait_minutes(6);
    world.provider.set_fault(Some(Fault::UnknownKey));
    let error = fresh(&world, &session).await.unwrap_err();
    assert_eq!(error.code(), Code::ProviderUnavailable, "{error}");
    world.provider.set_fault(None);
    assert_eq!(names(&fresh(&world, &session).await.unwrap()), ["sre"]);
}

#[tokio::test]
async fn a_refresh_renews_neither_acr_nor_auth_time() {
    let world = World::with(|settings| {
        settings.providers[0].acr_values = vec!["mfa".into()];
        settings.providers[0].max_age = Some(SignedDuration::from_hours(1));
    })
    .await;
    world.provider.change_person("alice", |person| person.acr = Some("mfa".into()));
    let session = world.log_in("alice").await;
    let before = row(&world, &session).await;
    world.provider.change_person("alice", |person| person.acr = Some("stronger".into()));
    world.wait_minutes(6);
    let identity = fresh(&world, &session).await.unwrap();
    assert_eq!((identity.acr(), identity.auth_time()), (Some("mfa"), before.auth_time));
}

#[tokio::test]
async fn userinfo_is_asked_where_configured() {
    let world = World::with(|settings| {
        settings.providers[0].recheck = Recheck::Userinfo;
        settings.providers[0].mapping.groups_from = GroupsFrom::Userinfo;
    })
    .await;
    world.provider.set_groups_in(GroupsIn::UserinfoOnly);
    let session = world.log_in("alice").await;
    world.provider.set_groups("alice", ["dev"]);
    world.wait_minutes(6);
    // the stand-in's access tokens live for five minutes or so: either new groups or the end, never the old ones
    match fresh(&world, &session).await {
        Ok(identity) => assert_eq!(names(&identity), ["dev"]),
        Err(error) => assert_eq!(error.code(), Code::SessionEnded),
    }
    assert_eq!(world.provider.refreshes(), 0);
    assert_eq!(world.provider.count(Endpoint::Userinfo), 2);
}

#[tokio::test]
async fn login_only_sessions_ask_nobody() {
    let world = World::with(|settings| settings.providers[0].recheck = Recheck::LoginOnly).await;
    let session = world.log_in("alice").await;
    world.wait_minutes(30);
    assert_eq!(names(&fresh(&world, &session).await.unwrap()), ["sre"]);
    assert_eq!(world.provider.refreshes(), 0);
    world.wait_minutes(31);
    assert!(world.call(&session).await.is_err());
}
