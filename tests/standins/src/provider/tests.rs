use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::browser::{Browser, Page};

const VERIFIER: &str = "a-verifier-of-more-than-forty-three-characters-in-all";
const CALLBACK: &str = "http://127.0.0.1:1/cb";

async fn provider(options: ProviderOptions) -> Provider {
    let provider = Provider::start(options).await.unwrap();
    provider.add_client(Client::public("cli", ["http://127.0.0.1/cb"]));
    provider.add_client(Client::confidential("web", "s3cret:/+", ["https://b.example/cb"]));
    provider
}

fn authorize(provider: &Provider, more: &str) -> String {
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    format!(
        "{}/authorize?client_id=cli&redirect_uri={CALLBACK}&response_type=code&scope=openid+profile+email+offline_access\
         &state=st&nonce=no&code_challenge={challenge}&code_challenge_method=S256{more}",
        provider.issuer()
    )
}

fn at_callback(url: &url::Url) -> bool {
    url.path() == "/cb"
}

async fn sign_in(provider: &Provider, browser: &Browser, login: &str, more: &str) -> Page {
    let page = browser.open_until(&authorize(provider, more), at_callback).await.unwrap();
    assert!(!page.stopped, "the login page was to come: {}", page.url);
    browser.submit_until(&page, |form| form.has("login"), &[("login", login)], at_callback).await.unwrap()
}

async fn post(provider: &Provider, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
    #[expect(clippy::disallowed_methods, reason = "a test speaks as a relying party")]
    let http = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let answer = http.post(format!("{}{path}", provider.issuer())).form(form).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

async fn userinfo(provider: &Provider, access: &str) -> (u16, Value) {
    #[expect(clippy::disallowed_methods, reason = "a test speaks as a relying party")]
    let http = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let answer = http.get(format!("{}/userinfo", provider.issuer())).bearer_auth(access).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

async fn redeem(provider: &Provider, landed: &Page) -> (u16, Value) {
    let code = landed.query("code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("client_id", "cli"),
    ];
    post(provider, "/token", &form).await
}

async fn refresh(provider: &Provider, token: &str) -> (u16, Value) {
    let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "cli")];
    post(provider, "/token", &form).await
}

async fn tokens(provider: &Provider, login: &str) -> Value {
    let landed = sign_in(provider, &Browser::new(&[]).unwrap(), login, "").await;
    let (status, body) = redeem(provider, &landed).await;
    assert_eq!(status, 200, "{body}");
    body
}

fn text(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_default().to_owned()
}

/// The claims without any check, for looking at wrong tokens.
fn claims(body: &Value) -> Value {
    let token = text(body, "id_token");
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The claims after another implementation checked signature, issuer, audience and times against the published keys.
async fn verified(provider: &Provider, body: &Value) -> anyhow::Result<Value> {
    let browser = Browser::new(&[])?;
    let discovery: Value = serde_json::from_str(
        &browser.open(&format!("{}/.well-known/openid-configuration", provider.issuer())).await?.body,
    )?;
    assert_eq!(discovery["issuer"], provider.issuer());
    let keys: JwkSet = serde_json::from_str(&browser.open(discovery["jwks_uri"].as_str().unwrap()).await?.body)?;
    let token = text(body, "id_token");
    let header = jsonwebtoken::decode_header(&token)?;
    let key = keys.find(header.kid.as_deref().unwrap()).ok_or_else(|| anyhow::anyhow!("unknown key"))?;
    let algorithm = serde_json::from_value(discovery["id_token_signing_alg_values_supported"][0].clone())?;
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&["cli"]);
    validation.set_issuer(&[provider.issuer()]);
    validation.validate_nbf = true;
    Ok(jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(key)?, &validation)?.claims)
}

#[tokio::test]
async fn a_login_gives_tokens_that_another_implementation_verifies() {
    let provider = provider(ProviderOptions::default()).await;
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        provider.sign_with(algorithm).unwrap();
        let landed = sign_in(&provider, &Browser::new(&[]).unwrap(), "alice", "").await;
        assert_eq!(landed.query("state").unwrap(), "st");
        assert_eq!(landed.query("iss").unwrap(), provider.issuer());
        let (_, body) = redeem(&provider, &landed).await;
        let claims = verified(&provider, &body).await.unwrap();
        assert_eq!(claims["sub"], "sub-alice");
        assert_eq!(claims["nonce"], "no");
        assert_eq!(claims["groups"], json!(["sre"]));
        assert_eq!(claims["email"], "alice@example.test");
        assert!(claims.get("auth_time").is_none() && claims.get("acr").is_none(), "told without being asked");
    }
    let old = tokens(&provider, "alice").await;
    provider.rotate_keys().unwrap();
    assert!(verified(&provider, &old).await.is_err(), "the old key is still published");
}

#[tokio::test]
async fn auth_time_and_acr_come_when_asked_for_and_a_refresh_renews_neither() {
    let start = jiff::Timestamp::from_second(1_900_000_000).unwrap();
    let now = Arc::new(Mutex::new(start));
    let clock = Arc::clone(&now);
    let options = ProviderOptions { now: Arc::new(move || *clock.lock().unwrap()), ..ProviderOptions::default() };
    let provider = provider(options).await;
    provider.change_person("alice", |alice| alice.acr = Some("mfa".into()));
    let browser = Browser::new(&[]).unwrap();
    let landed = sign_in(&provider, &browser, "alice", "&max_age=3600&acr_values=mfa").await;
    let (_, body) = redeem(&provider, &landed).await;
    assert_eq!((&claims(&body)["auth_time"], &claims(&body)["acr"]), (&json!(start.as_second()), &json!("mfa")));
    *now.lock().unwrap() = start + SignedDuration::from_secs(600);
    let (_, body) = refresh(&provider, &text(&body, "refresh_token")).await;
    assert_eq!(claims(&body)["auth_time"], json!(start.as_second()));
    assert_eq!(claims(&body)["iat"], json!(start.as_second() + 600));
    assert!(claims(&body).get("nonce").is_none());
    // A browser that signed in ten minutes ago passes silently under max_age=3600 and not under max_age=60.
    let silent = browser.open_until(&authorize(&provider, "&max_age=3600"), at_callback).await.unwrap();
    assert!(silent.stopped && silent.query("code").is_some());
    assert!(!browser.open_until(&authorize(&provider, "&max_age=60"), at_callback).await.unwrap().stopped);
    assert!(!browser.open_until(&authorize(&provider, "&prompt=login"), at_callback).await.unwrap().stopped);
    let none = Browser::new(&[]).unwrap().open_until(&authorize(&provider, "&prompt=none"), at_callback).await.unwrap();
    assert_eq!(none.query("error").unwrap(), "login_required");
}

#[tokio::test]
async fn a_code_or_refresh_token_used_twice_ends_the_grant() {
    let provider = provider(ProviderOptions::default()).await;
    let landed = sign_in(&provider, &Browser::new(&[]).unwrap(), "alice", "").await;
    let (_, first) = redeem(&provider, &landed).await;
    assert_eq!(redeem(&provider, &landed).await, (400, json!({ "error": "invalid_grant" })));
    assert_eq!(
        refresh(&provider, &text(&first, "refresh_token")).await.0,
        400,
        "the code's replay left the grant alive"
    );
    assert_eq!(userinfo(&provider, &text(&first, "access_token")).await.0, 401);

    let first = tokens(&provider, "alice").await;
    let (status, second) = refresh(&provider, &text(&first, "refresh_token")).await;
    assert_eq!(status, 200);
    assert_eq!(refresh(&provider, &text(&first, "refresh_token")).await.0, 400);
    assert_eq!(refresh(&provider, &text(&second, "refresh_token")).await.0, 400, "the reuse left the grant alive");
    assert_eq!(provider.refreshes(), 4);
}

#[tokio::test]
async fn a_wrong_verifier_redirect_client_or_secret_gets_nothing() {
    let provider = provider(ProviderOptions::default()).await;
    for (name, value) in [
        ("code_verifier", "another-verifier-of-more-than-forty-three-characters"),
        ("redirect_uri", "http://127.0.0.1:2/cb"),
        ("client_id", "web"),
    ] {
        let landed = sign_in(&provider, &Browser::new(&[]).unwrap(), "alice", "").await;
        let code = landed.query("code").unwrap();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
            ("client_id", "cli"),
        ];
        form.iter_mut().find(|(key, _)| *key == name).unwrap().1 = value;
        let (status, body) = post(&provider, "/token", &form).await;
        assert!(status >= 400, "{name}: {body}");
    }
    let (status, body) = post(&provider, "/token", &[("grant_type", "refresh_token"), ("client_id", "web")]).await;
    assert_eq!((status, body), (401, json!({ "error": "invalid_client" })));
    let known = [("grant_type", "refresh_token"), ("client_id", "web"), ("client_secret", "s3cret:/+")];
    assert_eq!(post(&provider, "/token", &known).await.1, json!({ "error": "invalid_grant" }));
    let browser = Browser::new(&[]).unwrap();
    for (from, to) in [("client_id=cli", "client_id=nobody"), ("127.0.0.1:1/cb", "127.0.0.1:1/other")] {
        let page = browser.open(&authorize(&provider, "").replace(from, to)).await.unwrap();
        assert_eq!(page.status, 400, "{to}");
    }
    for (from, to) in [("S256", "plain"), ("scope=openid", "scope=x"), ("response_type=code", "response_type=token")] {
        let page = browser.open_until(&authorize(&provider, "").replace(from, to), at_callback).await.unwrap();
        assert!(page.query("error").is_some(), "{to}");
    }
}

#[tokio::test]
async fn whoever_left_gets_nothing_new() {
    let provider = provider(ProviderOptions::default()).await;
    let body = tokens(&provider, "bob").await;
    assert_eq!(userinfo(&provider, &text(&body, "access_token")).await.0, 200);
    assert!(provider.disable("bob") && !provider.disable("nobody"));
    assert_eq!(userinfo(&provider, &text(&body, "access_token")).await.0, 401);
    assert_eq!(refresh(&provider, &text(&body, "refresh_token")).await, (400, json!({ "error": "invalid_grant" })));
    let page = Browser::new(&[]).unwrap().open(&authorize(&provider, "")).await.unwrap();
    assert!(!page.body.contains("Bob Example"));

    let body = tokens(&provider, "alice").await;
    let revoked = [("token", text(&body, "refresh_token")), ("client_id", "cli".into())];
    let revoked: Vec<(&str, &str)> = revoked.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(post(&provider, "/revoke", &revoked).await.0, 200);
    assert_eq!(refresh(&provider, &text(&body, "refresh_token")).await.0, 400);
}

#[tokio::test]
async fn groups_are_told_where_the_knob_says() {
    let provider = provider(ProviderOptions::default()).await;
    provider.set_groups("alice", ["sre", "on-call"]);
    let path = vec!["realm_access".to_owned(), "roles".to_owned()];
    for (groups_in, in_token, in_userinfo) in [
        (GroupsIn::IdToken, "/groups", "/groups"),
        (GroupsIn::UserinfoOnly, "", "/groups"),
        (GroupsIn::Nested(path), "/realm_access/roles", "/realm_access/roles"),
        (GroupsIn::Nowhere, "", ""),
    ] {
        provider.set_groups_in(groups_in.clone());
        let body = tokens(&provider, "alice").await;
        let (_, info) = userinfo(&provider, &text(&body, "access_token")).await;
        for (told, place) in [(&claims(&body), in_token), (&info, in_userinfo)] {
            if place.is_empty() {
                assert!(!told.to_string().contains("on-call"), "{groups_in:?}");
            } else {
                assert_eq!(told.pointer(place), Some(&json!(["sre", "on-call"])), "{groups_in:?}");
            }
        }
    }
    provider.set_groups_in(GroupsIn::EntraOverage);
    let told = claims(&tokens(&provider, "alice").await);
    assert_eq!(told["_claim_names"]["groups"], "src1");
    assert!(told.get("groups").is_none() && told["_claim_sources"]["src1"]["endpoint"].is_string());
}

#[tokio::test]
async fn each_fault_spoils_what_it_names_and_no_more() {
    let provider = provider(ProviderOptions::default()).await;
    // What the other implementation looks at must make it refuse; the rest is looked at here.
    for fault in [
        Fault::WrongAudience,
        Fault::WrongIssuer,
        Fault::NoExpiry,
        Fault::Expired,
        Fault::NotYetValid,
        Fault::Unsigned,
        Fault::Hs256WithPublicKey,
        Fault::BadSignature,
        Fault::UnknownKey,
        Fault::ForeignKey,
    ] {
        provider.set_fault(Some(fault));
        let body = tokens(&provider, "alice").await;
        assert!(verified(&provider, &body).await.is_err(), "{fault:?}");
    }
    for (fault, claim, value) in [
        (Fault::WrongNonce, "nonce", json!("another-nonce")),
        (Fault::NoNonce, "nonce", Value::Null),
        (Fault::WrongSubject, "sub", json!("sub-someone-else")),
        (Fault::ExtraAudience, "aud", json!(["cli", "another-client"])),
    ] {
        provider.set_fault(Some(fault));
        let body = tokens(&provider, "alice").await;
        assert_eq!(claims(&body)[claim], value, "{fault:?}");
        verified(&provider, &body).await.unwrap();
    }
    provider.set_fault(Some(Fault::IssuedInFuture));
    let told = claims(&tokens(&provider, "alice").await);
    assert!(told["iat"].as_i64().unwrap() > clock::system()().as_second() + 3000);
    provider.set_fault(Some(Fault::Missing));
    assert_eq!(tokens(&provider, "alice").await.get("id_token"), None);
    provider.set_fault(None);
    verified(&provider, &tokens(&provider, "alice").await).await.unwrap();
}

#[tokio::test]
async fn an_outage_is_one_and_a_hold_holds() {
    let provider = Arc::new(provider(ProviderOptions::default()).await);
    let url = format!("{}/jwks", provider.issuer());
    let browser = Browser::new(&[]).unwrap();
    assert_eq!(browser.open(&url).await.unwrap().status, 200);
    provider.set_down(true);
    assert_eq!(browser.open(&url).await.unwrap().status, 503);
    provider.set_outage(Outage::Refusing);
    assert!(browser.open(&url).await.is_err());
    assert!(Browser::new(&[]).unwrap().open(&url).await.is_err());
    provider.set_down(false);
    let before = provider.count(Endpoint::Jwks);
    let mut hold = provider.hold(Endpoint::Jwks);
    let waiting = tokio::spawn(async move { Browser::new(&[]).unwrap().open(&url).await.unwrap().status });
    hold.arrived(1).await;
    assert!(!waiting.is_finished());
    hold.release();
    assert_eq!(waiting.await.unwrap(), 200);
    assert_eq!(provider.count(Endpoint::Jwks), before + 1);
}
