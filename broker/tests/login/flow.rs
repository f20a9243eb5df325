//! From `ichor login` to a session, and every way that must not lead there.

use ichor_broker::login::SessionError;
use ichor_standins::browser::Browser;
use ichor_standins::provider::{Endpoint, RedirectIssuer};
use ichor_wire::dpop::login_number;
use ichor_wire::log::Kind;
use ichor_wire::problem::Code;
use jiff::SignedDuration;

use super::client::Client;
use super::world::{Session, World, at_client, code_form, provider_settings};

pub(super) fn browser() -> Browser {
    Browser::new(&[]).unwrap()
}

#[tokio::test]
async fn a_person_logs_in() {
    let world = World::new().await;
    let (browser, client) = (browser(), Client::new());
    let page = world.sign_in(&browser, &world.authorize_url(&client, &[]), "alice").await;
    assert_eq!(page.url.path(), "/oauth/confirm");
    let number = login_number(&client.thumbprint());
    for part in ["Alice Example", "corp", "wks-7.example", "127.0.0.1", &number, "alice@example.test"] {
        assert!(page.body.contains(part), "`{part}` is missing: {}", page.body);
    }
    let page = world.decide(&browser, &page, "continue").await;
    assert!(page.stopped);
    assert_eq!(page.query("state").as_ref(), Some(&client.state));
    assert_eq!(page.query("iss").as_ref(), Some(&world.base));
    let answer = world.exchange(&client, &page.query("code").unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert_eq!((&answer.json["token_type"], &answer.json["expires_in"]), (&"DPoP".into(), &43200.into()));
    let session = Session { token: answer.json["access_token"].as_str().unwrap().into(), client };
    let row = world.call(&session).await.unwrap();
    assert_eq!(row.person.subject, "sub-alice");
    assert_eq!((row.user.as_str(), row.groups[0].name.as_str()), ("alice@example.test", "sre"));

    let entries = world.entries().await;
    let content = &entries[0].content;
    assert_eq!((entries.len(), content.kind), (1, Kind::Login));
    assert_eq!(content.host.as_deref(), Some("wks-7.example"));
    let dump = format!("{entries:?}{row:?}");
    assert!(!dump.contains(&session.token), "the token must be kept nowhere");
}

#[tokio::test]
async fn the_database_holds_no_token_in_clear() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    let row = world.call(&session).await.unwrap();
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(world.folder.path()).unwrap() {
        bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    assert!(!bytes.windows(session.token.len()).any(|window| window == session.token.as_bytes()));
    assert!(row.refresh_sealed.is_some());
}

#[tokio::test]
async fn case_13_a_sent_link_and_a_silent_sign_in_release_nothing() {
    let world = World::new().await;
    let victim = browser();
    // the victim is signed in at the provider already
    world.code(&victim, &Client::new(), "alice").await;
    let attacker = Client::new();
    let page = victim.open_until(&world.authorize_url(&attacker, &[]), at_client).await.unwrap();
    assert!(!page.stopped, "a code was released without anyone confirming: {}", page.url);
    assert_eq!(page.url.path(), "/oauth/confirm");
    assert!(
        page.body.contains(&login_number(&attacker.thumbprint())),
        "the page must show the number of that terminal"
    );
    assert!(page.body.contains("Cancel"));
    let page = world.decide(&victim, &page, "cancel").await;
    assert_eq!((page.query("error").as_deref(), page.query("code")), (Some("access_denied"), None));
    assert_eq!(world.count(Kind::Login).await, 0);
}

#[tokio::test]
async fn the_confirmation_cannot_be_framed_forged_or_taken_over() {
    let world = World::new().await;
    let (one, client) = (browser(), Client::new());
    let page = world.sign_in(&one, &world.authorize_url(&client, &[]), "alice").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    for part in
        ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self' http://127.0.0.1:45123"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
    assert_eq!(page.headers["x-frame-options"], "DENY");
    assert!(!page.body.contains("<script") && !page.body.contains(" style="));

    let confirm = format!("{}/oauth/confirm", world.base);
    // no cookie
    let answer = world.http.post(&confirm).form(&[("decision", "continue")]).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    // the cookie without, and with a wrong, CSRF token
    let cookie = one.cookie(&page.url, "ichor-login").unwrap();
    for form in [vec![("decision", "continue")], vec![("decision", "continue"), ("csrf", "x")]] {
        let request = world.http.post(&confirm).header("cookie", format!("ichor-login={cookie}")).form(&form);
        assert_eq!(request.send().await.unwrap().status(), 400);
    }
    // another browser
    let other = browser().open(&confirm).await.unwrap();
    assert_eq!(other.status, 400);
    // still good where it belongs, once
    let done = world.decide(&one, &page, "continue").await;
    assert!(done.query("code").is_some());
    let again = one.submit_until(&page, |form| form.has("csrf"), &[("decision", "continue")], at_client).await.unwrap();
    assert_eq!(again.status, 400, "a second decision must find nothing");
}

#[tokio::test]
async fn strangers_text_on_the_page_is_text() {
    let world = World::new().await;
    world.provider.change_person("alice", |person| person.name = "<script>alert(1)</script>\u{202e}".into());
    let page = world.sign_in(&browser(), &world.authorize_url(&Client::new(), &[]), "alice").await;
    assert!(page.body.contains("alert(1)") && !page.body.contains("<script"), "{}", page.body);
    assert!(!page.body.contains('\u{202e}'));
    let markup = world.authorize_url(&Client::new(), &[("client_host", "<b>host</b>")]);
    let page = browser().open_until(&markup, at_client).await.unwrap();
    assert_eq!(page.query("error").as_deref(), Some("invalid_request"));
}

#[tokio::test]
async fn case_14_one_code_by_fifty_makes_one_session() {
    let world = std::sync::Arc::new(World::new().await);
    let client = std::sync::Arc::new(Client::new());
    let code = world.code(&browser(), &client, "alice").await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (world, client, code) = (world.clone(), client.clone(), code.clone());
        tasks.spawn(async move { world.exchange(&client, &code).await });
    }
    let answers = tasks.join_all().await;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(won, 1);
    assert!(answers.iter().filter(|answer| answer.status != 200).all(|answer| answer.json["error"] == "invalid_grant"));
    assert_eq!(world.count(Kind::Login).await, 1);
}

#[tokio::test]
async fn a_code_lives_a_minute() {
    let world = World::new().await;
    let client = Client::new();
    let code = world.code(&browser(), &client, "alice").await;
    world.clock.advance(SignedDuration::from_secs(61));
    assert_eq!(world.exchange(&client, &code).await.json["error"], "invalid_grant");
    assert_eq!(world.count(Kind::Login).await, 0);
}

#[tokio::test]
async fn a_code_needs_its_verifier_redirect_uri_client_and_key() {
    let world = World::new().await;
    let client = Client::new();
    let code = world.code(&browser(), &client, "alice").await;
    let other = Client::new();
    let wrong: [(&str, &str, &str); 3] = [
        ("code_verifier", &other.verifier, "invalid_grant"),
        ("redirect_uri", "http://127.0.0.1:45124/callback", "invalid_grant"),
        ("client_id", "other", "invalid_client"),
    ];
    for (name, value, error) in wrong {
        let form = code_form(&client, &code).map(|(key, known)| (key, if key == name { value } else { known }));
        let proof = client.sign(&world.proof(&client, "POST", "/oauth/token"));
        let answer = world.post("/oauth/token", &form, &[proof]).await;
        assert_eq!((answer.status, &answer.json["error"]), (400, &error.into()), "{name}");
    }
    let stolen = other.sign(&world.proof(&other, "POST", "/oauth/token"));
    let answer = world.post("/oauth/token", &code_form(&client, &code), &[stolen]).await;
    assert_eq!(answer.json["error"], "invalid_dpop_proof", "the code is bound to the key of the beginning");
    assert_eq!(world.exchange(&client, &code).await.status, 200, "none of these may have used the code up");
}

#[tokio::test]
async fn what_is_asked_is_checked_before_anyone_is_sent_anywhere() {
    let world = World::new().await;
    let pages: [(&str, &str); 9] = [
        ("client_id", "other"),
        ("redirect_uri", ""),
        ("redirect_uri", "http://evil.example/callback"),
        ("redirect_uri", "http://localhost:45123/callback"),
        ("redirect_uri", "https://127.0.0.1:45123/callback"),
        ("redirect_uri", "http://127.0.0.1:45123/other"),
        ("redirect_uri", "http://127.0.0.1:45123/callback?x=1"),
        ("redirect_uri", "http://user@127.0.0.1:45123/callback"),
        ("redirect_uri", "http://127.1:45123/callback"),
    ];
    for (name, value) in pages {
        let answer = world.http.get(world.authorize_url(&Client::new(), &[(name, value)])).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{name}={value}");
        assert!(!answer.headers().contains_key("location"), "{name}={value}");
    }
    let backs: [(&str, &str); 9] = [
        ("response_type", "token"),
        ("code_challenge_method", "plain"),
        ("code_challenge", ""),
        ("code_challenge", "short"),
        ("dpop_jkt", ""),
        ("dpop_jkt", "!"),
        ("state", ""),
        ("client_host", ""),
        ("provider", "unknown"),
    ];
    for (name, value) in backs {
        let url = world.authorize_url(&Client::new(), &[(name, value)]);
        let page = browser().open_until(&url, at_client).await.unwrap();
        assert_eq!(page.query("error").as_deref(), Some("invalid_request"), "{name}={value}: {}", page.url);
        assert_eq!(page.query("iss").as_ref(), Some(&world.base));
    }
    let twice = format!("{}&client_id=ichor", world.authorize_url(&Client::new(), &[]));
    assert_eq!(world.http.get(twice).send().await.unwrap().status(), 400);
    assert_eq!(world.provider.count(Endpoint::Authorize), 0);
}

#[tokio::test]
async fn the_callback_belongs_to_one_browser_one_state_one_provider() {
    let world = World::with(|settings| {
        let issuer = settings.providers[0].issuer.clone();
        settings.providers.push(provider_settings("other", &issuer));
    })
    .await;
    let browser = browser();
    let url = world.authorize_url(&Client::new(), &[("provider", "corp")]);
    let stop = |url: &url::Url| url.path().starts_with("/oauth/callback/");
    let page = browser.open_until(&url, stop).await.unwrap();
    let page = browser.submit_until(&page, |form| form.has("login"), &[("login", "alice")], stop).await.unwrap();
    assert!(page.stopped);
    let cookie = format!("ichor-login={}", browser.cookie(&page.url, "ichor-login").unwrap());
    let good = page.url.to_string();
    let get = |url: String, cookie: String| world.http.get(url).header("cookie", cookie).send();
    // no cookie, another's cookie, another state, another provider's path
    assert_eq!(world.http.get(&good).send().await.unwrap().status(), 400);
    assert_eq!(get(good.clone(), "ichor-login=x".into()).await.unwrap().status(), 400);
    let state = page.query("state").unwrap();
    assert_eq!(get(good.replace(&state, "x"), cookie.clone()).await.unwrap().status(), 400);
    assert_eq!(get(good.replace("/callback/corp", "/callback/other"), cookie.clone()).await.unwrap().status(), 400);
    assert_eq!(world.provider.count(Endpoint::Token), 0, "none of these may have used the provider's code");
    // the right one, once
    let answer = get(good.clone(), cookie.clone()).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (303, &"/oauth/confirm".parse().unwrap()));
    assert_eq!(get(good, cookie).await.unwrap().status(), 400);
    assert_eq!(world.provider.count(Endpoint::Token), 1, "a reloaded callback must not use the code again");
}

#[tokio::test]
async fn two_parallel_callbacks_use_the_providers_code_once() {
    let world = World::new().await;
    let browser = browser();
    let stop = |url: &url::Url| url.path() == "/oauth/callback/corp";
    let page = browser.open_until(&world.authorize_url(&Client::new(), &[]), stop).await.unwrap();
    let page = browser.submit_until(&page, |form| form.has("login"), &[("login", "alice")], stop).await.unwrap();
    let cookie = format!("ichor-login={}", browser.cookie(&page.url, "ichor-login").unwrap());
    let get = || world.http.get(page.url.clone()).header("cookie", cookie.clone()).send();
    let mut hold = world.provider.hold(Endpoint::Token);
    let first = tokio::spawn(get());
    hold.arrived(1).await;
    tokio::select! {
        second = get() => assert_eq!(second.unwrap().status(), 400),
        () = hold.arrived(2) => panic!("a code that is used twice ends the grant at the provider"),
    }
    hold.release();
    assert_eq!(first.await.unwrap().unwrap().status(), 303);
}

#[tokio::test]
async fn the_providers_issuer_in_the_redirect_is_checked() {
    for (told, fits) in [
        (RedirectIssuer::Right, true),
        (RedirectIssuer::Missing, false),
        (RedirectIssuer::Wrong, false),
        (RedirectIssuer::Unsupported, true),
    ] {
        let world = World::new().await;
        world.provider.set_redirect_issuer(told);
        let page = world.sign_in(&browser(), &world.authorize_url(&Client::new(), &[]), "alice").await;
        assert_eq!(page.url.path() == "/oauth/confirm", fits, "{told:?}: {}", page.url);
        assert_eq!(world.provider.count(Endpoint::Token) == 1, fits, "{told:?}");
    }
}

#[tokio::test]
async fn several_providers_are_a_choice() {
    let world = World::with(|settings| {
        let issuer = settings.providers[0].issuer.clone();
        settings.providers.push(provider_settings("other", &issuer));
    })
    .await;
    let page = browser().open(&world.authorize_url(&Client::new(), &[])).await.unwrap();
    assert!(page.body.contains("provider=corp") && page.body.contains("provider=other"), "{}", page.body);
}

#[tokio::test]
async fn sessions_end_by_time_by_idleness_and_by_logging_out() {
    let world = World::with(|settings| settings.idle = Some(SignedDuration::from_mins(30))).await;
    let ended = |result: Result<_, SessionError>| matches!(result, Err(error) if error.code() == Code::SessionEnded);
    let session = world.log_in("alice").await;
    for _ in 0..3 {
        world.wait_minutes(29);
        world.call(&session).await.unwrap();
    }
    world.wait_minutes(31);
    assert!(ended(world.call(&session).await));
    assert!(ended(world.call(&session).await));
    assert_eq!(world.count(Kind::SessionEnd).await, 1, "the end is recorded once");

    let session = world.log_in("alice").await;
    for _ in 0..25 {
        world.wait_minutes(29);
        let _ = world.call(&session).await;
    }
    assert!(ended(world.call(&session).await), "twelve hours are over");

    let session = world.log_in("alice").await;
    let form = [("token", session.token.as_str()), ("client_id", "ichor")];
    let body = "token=".to_owned() + &session.token + "&client_id=ichor";
    let stranger = Client::new();
    let proof =
        stranger.sign(&world.proof(&stranger, "POST", "/oauth/revoke").token(&session.token).body(body.as_bytes()));
    assert_eq!(world.post("/oauth/revoke", &form, &[proof]).await.json["error"], "invalid_dpop_proof");
    world.call(&session).await.unwrap();
    let proof = world.proof(&session.client, "POST", "/oauth/revoke").token(&session.token).body(body.as_bytes());
    assert_eq!(world.post("/oauth/revoke", &form, &[session.client.sign(&proof)]).await.status, 200);
    assert!(ended(world.call(&session).await));
    let proof = world.proof(&session.client, "POST", "/oauth/revoke").token("nobody's");
    let form = [("token", "nobody's"), ("client_id", "ichor")];
    assert_eq!(world.post("/oauth/revoke", &form, &[session.client.sign(&proof)]).await.status, 200, "RFC 7009 §2.2");
}

#[tokio::test]
async fn metadata_names_what_is_served_and_nothing_else() {
    let world = World::new().await;
    let url = format!("{}/.well-known/oauth-authorization-server", world.base);
    let request = world.http.get(&url).header("host", "evil.example").send();
    let json: serde_json::Value = request.await.unwrap().json().await.unwrap();
    assert_eq!(json["issuer"], world.base, "never what Host says");
    assert_eq!(json["token_endpoint"], format!("{}/oauth/token", world.base));
    assert_eq!(json["ichor_providers"], serde_json::json!(["corp"]));
    assert!(json.get("device_authorization_endpoint").is_none() && json.get("ichor_paste_redirect_uri").is_none());
}
