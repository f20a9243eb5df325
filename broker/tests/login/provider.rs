//! What a provider may do wrong, and what configuration may ask of it.

use std::collections::{BTreeMap, BTreeSet};

use ichor_broker::identity::{GroupsFrom, LocalGroups};
use ichor_broker::login::{ProviderError, Recheck, Settings};
use ichor_standins::browser::{Browser, Page};
use ichor_standins::provider::{Algorithm, Endpoint, Fault, GroupsIn, Outage};
use ichor_wire::log::Kind;
use jiff::SignedDuration;

use super::client::Client;
use super::world::{World, at_client, provider_settings};

async fn try_login(world: &World, who: &str) -> Page {
    let client = Client::new();
    world.sign_in(&Browser::new(&[]).unwrap(), &world.authorize_url(&client, &[]), who).await
}

fn fails(page: &Page) -> String {
    assert!(page.stopped, "the login must end at the client: {} {}", page.url, page.body);
    assert_eq!(page.query("code"), None);
    format!("{}: {}", page.query("error").unwrap(), page.query("error_description").unwrap())
}

#[tokio::test]
async fn case_12_every_fault_of_an_id_token_is_refused() {
    let faults = [
        Fault::WrongAudience,
        Fault::ExtraAudience,
        Fault::WrongIssuer,
        Fault::WrongNonce,
        Fault::NoNonce,
        Fault::NoExpiry,
        Fault::Expired,
        Fault::NotYetValid,
        Fault::IssuedInFuture,
        Fault::Unsigned,
        Fault::Hs256WithPublicKey,
        Fault::BadSignature,
        Fault::UnknownKey,
        Fault::ForeignKey,
        Fault::Missing,
    ];
    let world = World::new().await;
    for fault in faults {
        world.provider.set_fault(Some(fault));
        let text = fails(&try_login(&world, "alice").await);
        assert!(text.starts_with("access_denied"), "{fault:?}: {text}");
    }
    world.provider.set_fault(None);
    assert_eq!(try_login(&world, "alice").await.url.path(), "/oauth/confirm");
    assert_eq!(world.count(Kind::Login).await, 0);
}

#[tokio::test]
async fn asymmetric_algorithms_are_taken_and_keys_may_rotate() {
    let world = World::new().await;
    for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa] {
        world.provider.sign_with(algorithm).unwrap();
        world.clock.advance(SignedDuration::from_secs(11));
        assert_eq!(try_login(&world, "alice").await.url.path(), "/oauth/confirm", "{algorithm:?}");
    }
    let fetched = world.provider.count(Endpoint::Jwks);
    world.provider.rotate_keys().unwrap();
    world.clock.advance(SignedDuration::from_secs(11));
    assert_eq!(try_login(&world, "alice").await.url.path(), "/oauth/confirm");
    assert_eq!(world.provider.count(Endpoint::Jwks), fetched + 1);
}

#[tokio::test]
async fn unknown_keys_do_not_make_us_hammer_the_provider() {
    let world = World::new().await;
    try_login(&world, "alice").await;
    let fetched = world.provider.count(Endpoint::Jwks);
    world.provider.set_fault(Some(Fault::UnknownKey));
    world.clock.advance(SignedDuration::from_secs(11));
    for _ in 0..5 {
        fails(&try_login(&world, "alice").await);
    }
    assert_eq!(world.provider.count(Endpoint::Jwks), fetched + 1);
}

#[tokio::test]
async fn a_provider_that_is_out_is_said_to_be_and_comes_back() {
    for outage in [Outage::Unavailable, Outage::Refusing] {
        let world = World::new().await;
        world.provider.set_outage(outage);
        let text = fails(&try_login(&world, "alice").await);
        assert!(text.starts_with("temporarily_unavailable"), "{text}");
        assert!(matches!(world.login.probe().await[0].1, Err(ProviderError::Unavailable(_))));
        world.provider.set_outage(Outage::None);
        world.clock.advance(SignedDuration::from_secs(3));
        assert_eq!(try_login(&world, "alice").await.url.path(), "/oauth/confirm");
    }
}

#[tokio::test]
async fn a_provider_that_goes_out_between_redirect_and_callback_is_said_to_be() {
    let world = World::new().await;
    let browser = Browser::new(&[]).unwrap();
    let stop = |url: &url::Url| url.path() == "/oauth/callback/corp";
    let page = browser.open_until(&world.authorize_url(&Client::new(), &[]), stop).await.unwrap();
    let page = browser.submit_until(&page, |form| form.has("login"), &[("login", "alice")], stop).await.unwrap();
    world.provider.set_down(true);
    let page = browser.open_until(page.url.as_str(), at_client).await.unwrap();
    assert!(fails(&page).starts_with("temporarily_unavailable"));
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_given_up() {
    let world = World::new().await;
    let mut hold = world.provider.hold(Endpoint::Discovery);
    let login = world.login.clone();
    let probe = tokio::spawn(async move { login.probe().await });
    hold.arrived(1).await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    let result = probe.await.unwrap().remove(0).1;
    assert!(matches!(result, Err(ProviderError::Unavailable(_))), "{result:?}");
    assert_eq!(world.provider.count(Endpoint::Discovery), 1, "not asked again: that would take as long once more");
}

#[tokio::test]
async fn an_alias_stays_with_its_issuer() {
    let world = World::new().await;
    world.store.pin_provider(world.login.settings().providers[0].alias(), "https://old.example").await.unwrap();
    let text = fails(&try_login(&world, "alice").await);
    assert!(text.starts_with("server_error"), "{text}");
    let error = world.login.probe().await.remove(0).1.unwrap_err();
    assert!(error.to_string().contains("https://old.example"), "{error}");
}

#[tokio::test]
async fn the_issuer_must_be_named_to_the_letter() {
    let world = World::with(|settings| settings.providers[0].issuer.push('/')).await;
    let error = world.login.probe().await.remove(0).1.unwrap_err();
    assert!(matches!(error, ProviderError::Misconfigured(_)), "{error}");
}

#[tokio::test]
async fn entras_link_instead_of_groups_is_explained() {
    let world = World::new().await;
    world.provider.set_groups_in(GroupsIn::EntraOverage);
    let text = fails(&try_login(&world, "alice").await);
    assert!(text.contains("too many"), "{text}");
}

#[tokio::test]
async fn groups_come_from_a_nested_claim() {
    let world = World::with(|settings| settings.providers[0].mapping.groups_claim = "realm_access.roles".into()).await;
    world.provider.set_groups_in(GroupsIn::Nested(vec!["realm_access".into(), "roles".into()]));
    assert_eq!(groups(&world).await, ["sre"]);
}

#[tokio::test]
async fn groups_come_from_userinfo() {
    let world = World::with(|settings| settings.providers[0].mapping.groups_from = GroupsFrom::Userinfo).await;
    world.provider.set_groups_in(GroupsIn::UserinfoOnly);
    assert_eq!(groups(&world).await, ["sre"]);
}

#[tokio::test]
async fn groups_come_from_a_local_file_by_subject() {
    let local = LocalGroups::new(BTreeMap::from([
        ("sub-alice".into(), BTreeSet::from(["talos".into()])),
        ("alice".into(), BTreeSet::from(["by-name".into()])),
        ("alice@example.test".into(), BTreeSet::from(["by-address".into()])),
    ]));
    let world = World::with(|settings: &mut Settings| settings.providers[0].mapping.local_groups = local).await;
    world.provider.set_groups_in(GroupsIn::Nowhere);
    assert_eq!(groups(&world).await, ["talos"]);
}

async fn groups(world: &World) -> Vec<String> {
    let session = world.log_in("alice").await;
    world.call(&session).await.unwrap().groups.into_iter().map(|group| group.name).collect()
}

#[tokio::test]
async fn strength_and_freshness_are_asked_for_and_kept() {
    let world = World::with(|settings| {
        settings.providers[0].acr_values = vec!["mfa".into()];
        settings.providers[0].max_age = Some(SignedDuration::from_hours(1));
    })
    .await;
    world.provider.change_person("alice", |person| person.acr = Some("mfa".into()));
    let session = world.log_in("alice").await;
    let row = world.call(&session).await.unwrap();
    assert_eq!(row.acr.as_deref(), Some("mfa"));
    assert_eq!(row.auth_time.unwrap().as_second(), world.clock_seconds());
}

#[tokio::test]
async fn a_fresh_login_is_asked_for_by_the_client() {
    let world = World::new().await;
    let browser = Browser::new(&[]).unwrap();
    world.code(&browser, &Client::new(), "alice").await;
    world.wait_minutes(5);
    let client = Client::new();
    let page = browser.open(&world.authorize_url(&client, &[("max_age", "0")])).await.unwrap();
    assert!(page.forms().iter().any(|form| form.has("login")), "the provider must ask again: {}", page.url);
}

#[tokio::test]
async fn a_provider_without_refresh_tokens_needs_another_recheck() {
    let world = World::new().await;
    world.provider.set_refresh_tokens(false);
    assert!(fails(&try_login(&world, "alice").await).starts_with("server_error"));
    let world = World::with(|settings| settings.providers[0].recheck = Recheck::LoginOnly).await;
    world.provider.set_refresh_tokens(false);
    let session = world.log_in("alice").await;
    let row = world.call(&session).await.unwrap();
    assert_eq!(row.expires_at.duration_since(row.created_at), SignedDuration::from_hours(1), "then sessions are short");
}

#[tokio::test]
async fn settings_are_checked() {
    let world = World::new().await;
    let good = world.login.settings().clone();
    assert_eq!(good.check(), Ok(()));
    let bad = |change: fn(&mut Settings)| {
        let mut settings = good.clone();
        change(&mut settings);
        assert!(settings.check().is_err());
    };
    bad(|s| s.public_url = "http://ichor.example".parse().unwrap());
    bad(|s| s.public_url = "https://ichor.example/path".parse().unwrap());
    bad(|s| s.public_url = "https://user@ichor.example".parse().unwrap());
    bad(|s| s.session_life = SignedDuration::from_hours(13));
    bad(|s| s.session_life = SignedDuration::ZERO);
    bad(|s| s.providers.clear());
    bad(|s| s.providers.push(provider_settings("corp", "https://b.example")));
    bad(|s| s.providers[0].issuer = "http://login.example".into());
    bad(|s| s.providers[0].recheck = Recheck::Userinfo);
    bad(|s| s.providers[0].authorize_params = vec![("state".into(), "x".into())]);
}
