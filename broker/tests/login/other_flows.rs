//! The flows beside the usual one: without a browser on the same machine, off unless configured; and without IPv4.

use ichor_broker::login::Settings;
use ichor_standins::browser::{Browser, Page};
use ichor_wire::dpop::login_number;
use ichor_wire::log::Kind;
use jiff::SignedDuration;

use super::client::Client;
use super::world::{Answer, World, code_form};

pub(super) async fn with_both() -> World {
    World::with(|settings: &mut Settings| (settings.paste, settings.device) = (true, true)).await
}

fn browser() -> Browser {
    Browser::new(&[]).unwrap()
}

pub(super) async fn begin_device(world: &World, client: &Client) -> Answer {
    let form = [("client_id", "ichor"), ("dpop_jkt", &client.thumbprint()), ("client_host", "wks-7.example")];
    world.post("/oauth/device", &form.map(|(name, value)| (name, value)), &[]).await
}

async fn poll(world: &World, client: &Client, device_code: &str) -> Answer {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", "ichor"),
        ("device_code", device_code),
    ];
    let proof = client.sign(&world.proof(client, "POST", "/oauth/token"));
    world.post("/oauth/token", &form, &[proof]).await
}

/// Types the code, signs in, and comes to the confirmation page.
pub(super) async fn enter(world: &World, browser: &Browser, user_code: &str, who: &str) -> Page {
    let page = browser.open(&format!("{}/device", world.base)).await.unwrap();
    let page = browser.submit(&page, |form| form.has("user_code"), &[("user_code", user_code)]).await.unwrap();
    if !page.forms().iter().any(|form| form.has("login")) {
        return page;
    }
    browser.submit(&page, |form| form.has("login"), &[("login", who)]).await.unwrap()
}

#[tokio::test]
async fn both_are_off_unless_configured() {
    let world = World::new().await;
    let client = Client::new();
    assert_eq!(begin_device(&world, &client).await.json["error"], "unauthorized_client");
    assert_eq!(poll(&world, &client, "x").await.json["error"], "unsupported_grant_type");
    assert_eq!(browser().open(&format!("{}/device", world.base)).await.unwrap().status, 403);
    let paste = format!("{}/oauth/paste", world.base);
    let page = browser().open(&world.authorize_url(&client, &[("redirect_uri", &paste)])).await.unwrap();
    assert_eq!(page.status, 403, "{}", page.body);
}

#[tokio::test]
async fn a_code_is_shown_to_be_pasted() {
    let world = with_both().await;
    let (browser, client) = (browser(), Client::new());
    let paste = format!("{}/oauth/paste", world.base);
    let page = world.sign_in(&browser, &world.authorize_url(&client, &[("redirect_uri", &paste)]), "alice").await;
    assert!(page.body.contains(&login_number(&client.thumbprint())));
    assert!(page.body.contains("Never give the code"));
    let page = world.decide(&browser, &page, "continue").await;
    let code = page.body.split("<code>").nth(1).unwrap().split('<').next().unwrap();
    assert!(!page.url.as_str().contains(code), "the code must not stand in an address");
    let form = code_form(&client, code)
        .map(|(name, value)| (name, if name == "redirect_uri" { paste.as_str() } else { value }));
    let proof = client.sign(&world.proof(&client, "POST", "/oauth/token"));
    assert_eq!(world.post("/oauth/token", &form, &[proof]).await.status, 200);
}

/// RFC 8252 §7.3: a client takes the loopback address that its machine has.
#[tokio::test]
async fn a_client_without_ipv4_listens_on_ipv6() {
    let world = World::new().await;
    let (browser, client) = (browser(), Client::new());
    let here = "http://[::1]:45123/callback";
    let page = world.sign_in(&browser, &world.authorize_url(&client, &[("redirect_uri", here)]), "alice").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("form-action 'self' http:;"), "a policy cannot name an IPv6 address: {policy}");
    let page = world.decide(&browser, &page, "continue").await;
    assert!(page.stopped && page.url.as_str().starts_with(here), "{}", page.url);
    let code = page.query("code").unwrap();
    let form = code_form(&client, &code).map(|(name, value)| (name, if name == "redirect_uri" { here } else { value }));
    let proof = client.sign(&world.proof(&client, "POST", "/oauth/token"));
    assert_eq!(world.post("/oauth/token", &form, &[proof]).await.status, 200);
    for elsewhere in
        ["http://[::2]:45123/callback", "http://[::ffff:127.0.0.1]:45123/callback", "http://[::1]/callback"]
    {
        let page = browser.open(&world.authorize_url(&client, &[("redirect_uri", elsewhere)])).await.unwrap();
        assert_eq!(page.status, 400, "{elsewhere}");
    }
}

#[tokio::test]
async fn a_device_logs_in() {
    let world = with_both().await;
    let (browser, client) = (browser(), Client::new());
    let start = begin_device(&world, &client).await.json;
    assert_eq!(start["verification_uri"], format!("{}/device", world.base));
    assert!(start.get("verification_uri_complete").is_none(), "a link with the code in it invites to send it");
    let (device, user) = (start["device_code"].as_str().unwrap(), start["user_code"].as_str().unwrap());
    assert_eq!(poll(&world, &client, device).await.json["error"], "authorization_pending");
    assert_eq!(poll(&world, &client, device).await.json["error"], "slow_down");

    let page = enter(&world, &browser, &user.to_lowercase().replace('-', " "), "alice").await;
    assert!(page.body.contains(&login_number(&client.thumbprint())), "{}", page.body);
    world.clock.advance(SignedDuration::from_secs(6));
    assert_eq!(
        poll(&world, &client, device).await.json["error"],
        "authorization_pending",
        "not before it is confirmed"
    );
    let page = world.decide(&browser, &page, "continue").await;
    assert_eq!((page.status.as_u16(), page.stopped), (200, false));

    world.clock.advance(SignedDuration::from_secs(6));
    let thief = Client::new();
    assert_eq!(
        poll(&world, &thief, device).await.json["error"],
        "invalid_dpop_proof",
        "bound to the key of the beginning"
    );
    assert_eq!(poll(&world, &client, device).await.status, 200);
    world.clock.advance(SignedDuration::from_secs(6));
    assert_eq!(poll(&world, &client, device).await.json["error"], "expired_token");
    assert_eq!(world.count(Kind::Login).await, 1);
    // the user code is used, too
    assert_eq!(enter(&world, &browser, user, "alice").await.status, 400);
}

#[tokio::test]
async fn a_device_login_can_be_cancelled() {
    let world = with_both().await;
    let (browser, client) = (browser(), Client::new());
    let start = begin_device(&world, &client).await.json;
    let page = enter(&world, &browser, start["user_code"].as_str().unwrap(), "alice").await;
    assert_eq!(world.decide(&browser, &page, "cancel").await.status, 200);
    assert_eq!(poll(&world, &client, start["device_code"].as_str().unwrap()).await.json["error"], "access_denied");
}

#[tokio::test]
async fn user_codes_cannot_be_tried_out() {
    let world = with_both().await;
    let browser = browser();
    let start = begin_device(&world, &Client::new()).await.json;
    for _ in 0..10 {
        assert_eq!(enter(&world, &browser, "BCDFG-HJKLM", "alice").await.status, 400);
    }
    assert_eq!(enter(&world, &browser, start["user_code"].as_str().unwrap(), "alice").await.status, 429);
    world.wait_minutes(1);
    let page = enter(&world, &browser, start["user_code"].as_str().unwrap(), "alice").await;
    assert_eq!(page.url.path(), "/oauth/confirm");
}

#[tokio::test]
async fn device_logins_of_one_address_are_bounded() {
    let world = World::with(|settings| (settings.device, settings.max_pending_of_one) = (true, 1)).await;
    assert_eq!(begin_device(&world, &Client::new()).await.status, 200);
    assert_eq!(begin_device(&world, &Client::new()).await.json["error"], "temporarily_unavailable");
    world.wait_minutes(10);
    assert_eq!(begin_device(&world, &Client::new()).await.status, 200);
}

#[tokio::test]
async fn a_device_code_lives_ten_minutes() {
    let world = with_both().await;
    let client = Client::new();
    let start = begin_device(&world, &client).await.json;
    world.wait_minutes(10);
    assert_eq!(poll(&world, &client, start["device_code"].as_str().unwrap()).await.json["error"], "expired_token");
    let page = enter(&world, &browser(), start["user_code"].as_str().unwrap(), "alice").await;
    assert_eq!(page.status, 400);
}
