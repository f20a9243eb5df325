//! Logins that begin and do not end: how many may wait, and whom they stop.

use ichor_standins::browser::Browser;
use ichor_wire::log::Kind;

use super::client::Client;
use super::flow::browser;
use super::world::{HERE, World, at_client, code_form};

#[tokio::test]
async fn pending_logins_of_one_address_are_bounded_and_make_room_when_they_end() {
    let world = World::with(|settings| settings.max_pending_of_one = 2).await;
    let client = Client::new();
    let begins = async || {
        let page = Browser::new(&[]).unwrap().open_until(&world.authorize_url(&client, &[]), at_client).await.unwrap();
        page.query("error")
    };
    assert_eq!(begins().await, None);
    let browser = Browser::new(&[]).unwrap();
    let code = world.code(&browser, &client, "alice").await;
    assert_eq!(begins().await.as_deref(), Some("temporarily_unavailable"));
    assert_eq!(world.exchange(&client, &code).await.status, 200);
    assert_eq!(begins().await, None, "one that became a session is under way no more");
    let page = world.sign_in(&browser, &world.authorize_url(&client, &[]), "alice").await;
    assert_eq!(page.query("error").as_deref(), Some("temporarily_unavailable"));
    world.wait_minutes(10);
    assert_eq!(begins().await, None, "and neither is one whose time is over");
}

#[tokio::test]
async fn strangers_who_used_up_an_address_do_not_stop_a_login_that_began() {
    let world = World::new().await;
    let (browser, client) = (Browser::new(&[]).unwrap(), Client::new());
    let page = world.sign_in(&browser, &world.authorize_url(&client, &[]), "alice").await;
    let use_up = async || while world.limits.stranger(HERE).await.is_ok() {};
    use_up().await;

    let page = world.decide(&browser, &page, "continue").await;
    let code = page.query("code").unwrap();
    let mut fresh = world.proof(&client, "POST", "/oauth/token");
    fresh.claims.remove("nonce");
    let fresh = client.sign(&fresh);
    let answer = world.post("/oauth/token", &code_form(&client, &code), &[fresh]).await;
    assert_eq!((answer.status, answer.json["error"].as_str()), (400, Some("use_dpop_nonce")));
    assert_eq!(world.exchange(&client, &code).await.status, 200);

    use_up().await;
    assert_eq!(world.http.get(world.authorize_url(&client, &[])).send().await.unwrap().status(), 429);
    use_up().await;
    let refused = world.http.post(format!("{}/oauth/token", world.base)).body("x").send().await.unwrap();
    assert_eq!(refused.status(), 429, "what fails is counted");
    assert!(refused.headers().contains_key("retry-after"));
    for path in ["/oauth/device", "/device"] {
        use_up().await;
        let refused = world.http.post(format!("{}{path}", world.base)).body("x").send().await.unwrap();
        assert_eq!(refused.status(), 429, "{path}");
    }
    use_up().await;
    assert_eq!(world.http.get(format!("{}/oauth/confirm", world.base)).send().await.unwrap().status(), 429);
}

#[tokio::test]
async fn pending_logins_are_bounded() {
    let world = World::with(|settings| settings.max_pending = 3).await;
    for _ in 0..3 {
        let answer = world.http.get(world.authorize_url(&Client::new(), &[])).send().await.unwrap();
        assert!(answer.headers()["location"].to_str().unwrap().starts_with(world.provider.issuer()));
    }
    let page = browser().open_until(&world.authorize_url(&Client::new(), &[]), at_client).await.unwrap();
    assert_eq!(page.query("error").as_deref(), Some("temporarily_unavailable"));
    world.wait_minutes(11);
    let page = browser().open_until(&world.authorize_url(&Client::new(), &[]), at_client).await.unwrap();
    assert!(!page.stopped, "expired ones make room");
}

#[tokio::test]
async fn refused_logins_are_counted() {
    let world = World::new().await;
    for _ in 0..5 {
        world.http.get(world.authorize_url(&Client::new(), &[("client_id", "x")])).send().await.unwrap();
    }
    world.login.flush_tally(false).await;
    assert_eq!(world.count(Kind::LoginRefused).await, 0, "the minute is not over");
    world.login.flush_tally(true).await;
    let entries = world.entries().await;
    assert_eq!((entries.len(), entries[0].content.kind, entries[0].content.count), (1, Kind::LoginRefused, Some(5)));
}
