//! The edge of the API: who gets in, what is refused and how, and that nothing is open by accident.

use std::time::Duration;

use ichor_broker::http::route::Needs;
use ichor_broker::http::{api, oauth, pages, tlog};
use ichor_tests::{CLUSTER, Person, World};
use ichor_wire::problem::{Code, Problem};
use reqwest::{Method, StatusCode};

use crate::named;

/// Every route of the tables that the routers are built of.
fn served() -> Vec<(&'static str, &'static str, Needs)> {
    let api = api::ROUTES.iter().map(|route| (route.method, route.path, route.needs));
    let oauth = oauth::ROUTES.iter().map(|route| (route.method, route.path, route.needs));
    let pages = pages::ROUTES.iter().map(|route| (route.method, route.path, route.needs));
    api.chain(oauth)
        .chain(pages)
        .chain(tlog::ROUTES.iter().map(|route| (route.method, route.path, route.needs)))
        .collect()
}

fn url(world: &World, path: &str) -> String {
    world.at(&path
        .replace("{cluster}", CLUSTER)
        .replace("{alias}", "corp")
        .replace("{*path}", "0/000")
        .replace("{index}", "0")
        .replace("{id}", &uuid::Uuid::nil().to_string()))
}

/// Walks the tables of routes and asks of each what a stranger may not have. A route whose kind of authorization has no test
/// here does not compile.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_whoever_may_not_use_it() -> anyhow::Result<()> {
    let world = World::with(ichor_tests::Options {
        config: "[limits]\nper_address = 10000\n[audit]\ntile_token_file = \"tile-token\"\n".into(),
        prepare: Some(Box::new(|dir| Ok(std::fs::write(dir.join("tile-token"), TILE_TOKEN)?))),
        ..Default::default()
    })
    .await?;
    for (method, path, needs) in served() {
        let at = url(&world, path);
        match needs {
            Needs::Session => without_a_session(&world, method.parse()?, &at, Code::NotLoggedIn).await?,
            Needs::Token => without_the_token(&world, method.parse()?, &at).await?,
            Needs::Proof => without_a_proof(&world, &at).await?,
            Needs::Cookie => without_a_cookie(&world, method.parse()?, &at).await?,
            Needs::Page => without_a_browser_session(&world, method.parse()?, &at).await?,
            Needs::Nothing => nothing_is_given_away(&world, method.parse()?, &at).await?,
        }
    }
    Ok(())
}

/// The token of the log's tiles.
const TILE_TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Without the token of the log's tiles, and with others.
async fn without_the_token(world: &World, method: Method, url: &str) -> anyhow::Result<()> {
    for authorization in [None, Some("Bearer nobody"), Some("DPoP x"), Some("Bearer ")] {
        let mut request = world.http()?.request(method.clone(), url);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let answer = request.send().await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {url} with {authorization:?}");
        let problem: Problem = answer.json().await?;
        assert_eq!(problem.code, Code::NotLoggedIn, "{method} {url}");
    }
    Ok(())
}

/// Without a session, with a token that nobody has, and with a token but no proof.
async fn without_a_session(world: &World, method: Method, url: &str, code: Code) -> anyhow::Result<()> {
    for (authorization, proof) in [(None, None), (Some("DPoP nobody"), None), (Some("Bearer x"), Some("x.y.z"))] {
        let mut request = world.http()?.request(method.clone(), url).body("{}");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        if let Some(value) = proof {
            request = request.header("dpop", value);
        }
        let answer = request.send().await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {url} with {authorization:?}");
        assert!(answer.headers()["www-authenticate"].to_str()?.starts_with("DPoP "));
        let problem: Problem = answer.json().await?;
        assert_eq!(problem.code, code, "{method} {url}: {problem:?}");
        assert!(!problem.help.is_empty() && problem.request_id.is_some());
    }
    Ok(())
}

/// Without a proof, and with one that is none, a code opens nothing; a token that opens nothing is no error at revocation
/// (RFC 7009 §2.2), so there only the answer's emptiness can be told from here.
async fn without_a_proof(world: &World, url: &str) -> anyhow::Result<()> {
    let form = "client_id=ichor&grant_type=authorization_code&code=x&code_verifier=y&redirect_uri=z&token=nobody";
    for proof in [None, Some("x.y.z")] {
        let mut request =
            world.http()?.post(url).header("content-type", "application/x-www-form-urlencoded").body(form);
        if let Some(value) = proof {
            request = request.header("dpop", value);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        assert!(!text.contains("access_token"), "{url}: {text}");
        assert!(status.is_client_error() || (url.ends_with("/revoke") && text.is_empty()), "{url}: {status} {text}");
    }
    Ok(())
}

/// Without the cookie of a login, and with one that nobody has.
async fn without_a_cookie(world: &World, method: Method, url: &str) -> anyhow::Result<()> {
    for cookie in [None, Some("__Host-ichor-login=nobody; ichor-login=nobody")] {
        let mut request = world.http()?.request(method.clone(), format!("{url}?code=x&state=y"));
        if method == Method::POST {
            request =
                request.header("content-type", "application/x-www-form-urlencoded").body("csrf=x&decision=continue");
        }
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        let answer = request.send().await?;
        assert!(answer.status().is_client_error(), "{method} {url}: {}", answer.status());
        assert!(!answer.headers().contains_key("location"), "{method} {url}");
    }
    Ok(())
}

/// Without the cookie of a browser that is signed in, and with one that nobody has: how to sign in, and nothing else.
async fn without_a_browser_session(world: &World, method: Method, url: &str) -> anyhow::Result<()> {
    for cookie in [None, Some("__Host-ichor-page=nobody"), Some("ichor-page=nobody")] {
        let mut request = world.http()?.request(method.clone(), url);
        if method == Method::POST {
            request =
                request.header("content-type", "application/x-www-form-urlencoded").body("csrf=00&decision=approve");
        }
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        let answer = request.send().await?;
        let expected = if method == Method::GET { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(answer.status(), expected, "{method} {url}");
        assert!(!answer.headers().contains_key("location") && !answer.headers().contains_key("set-cookie"), "{url}");
        let text = answer.text().await?;
        assert!(text.contains("Sign in through corp") || text.contains("You are signed out"), "{method} {url}: {text}");
        assert!(!text.contains("csrf"), "{method} {url}: {text}");
    }
    Ok(())
}

/// What everyone may call sets no cookie and gives no token for nothing.
async fn nothing_is_given_away(world: &World, method: Method, url: &str) -> anyhow::Result<()> {
    let answer = world.http()?.request(method.clone(), url).send().await?;
    assert!(
        !answer.status().is_server_error() && !answer.status().is_redirection(),
        "{method} {url}: {}",
        answer.status()
    );
    assert!(!answer.headers().contains_key("set-cookie"), "{method} {url}");
    let text = answer.text().await?;
    assert!(!text.contains("access_token") && !text.contains("PRIVATE KEY"), "{method} {url}: {text}");
    Ok(())
}

/// A method that no table has for a path is refused there, and no router gets a route past the tables.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_served_that_is_in_no_table() -> anyhow::Result<()> {
    let world = World::start().await?;
    let http = world.http()?;
    let served = served();
    for (_, path, _) in &served {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let listed = served.iter().any(|(known, at, _)| known == &method && at == path);
            let answer = http.request(method.parse()?, url(&world, path)).send().await?;
            assert_eq!(
                answer.status() != StatusCode::METHOD_NOT_ALLOWED,
                listed,
                "{method} {path}: {}",
                answer.status()
            );
        }
    }
    let described = ichor_broker::http::openapi::document();
    for route in api::ROUTES {
        assert!(described.contains(&route.path.replace("{*", "{")), "{} is not described", route.path);
    }
    // health and the admin socket have listeners of their own
    let folder = named::root().join("broker/src/http");
    for place in ["router.rs", "api/mod.rs", "oauth/mod.rs", "pages/mod.rs", "tlog.rs"] {
        let text = std::fs::read_to_string(folder.join(place))?;
        // its own tests may make routes for themselves
        let text = text.split_once("\n#[cfg(test)]\nmod tests").map_or(text.as_str(), |(before, _)| before);
        assert!(!text.contains(".route(") && !text.contains(".nest("), "{place} serves what is in no table");
    }
    Ok(())
}

/// CVE-2026-45726, CVE-2025-61688: there is no field that key material of the broker's could stand in, and nothing that is
/// answered has any. One field has the caller's own key, where the cluster made it; that it is empty otherwise, and what it
/// takes to read it, `talos_api` and the issuer's tests say.
#[test]
fn case_18_no_answer_has_a_place_for_a_key() {
    let described: serde_json::Value = serde_json::from_str(&ichor_broker::http::openapi::document()).unwrap();
    let schemas = described["components"]["schemas"].as_object().unwrap();
    let mut fields = Vec::new();
    for (name, schema) in schemas {
        let properties = schema["properties"].as_object().into_iter().flatten();
        fields.extend(properties.map(|(field, _)| format!("{name}.{field}")));
    }
    assert!(fields.len() > 40, "{fields:?}");
    let speaks_of_keys = |field: &&String| {
        let field = field.rsplit('.').next().unwrap_or_default();
        ["key", "private", "secret", "seal", "vault", "passphrase"].iter().any(|word| field.contains(word))
    };
    let found: Vec<_> = fields.iter().filter(speaks_of_keys).collect();
    let others: Vec<_> = found.into_iter().filter(|field| !field.ends_with(".public_key")).collect();
    // two have the public key that verifies the log
    assert_eq!(others, ["AuditKeyAnswer.key", "CertificateAnswer.private_key", "ProofFile.key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_08_what_is_not_there_is_a_problem_too() -> anyhow::Result<()> {
    let world = World::start().await?;
    let http = world.http()?;
    for (method, path, code) in [
        (Method::GET, "/v1/nothing", Code::NotFound),
        (Method::GET, "/v1/clusters/prod/certificates", Code::MethodNotAllowed),
        (Method::DELETE, "/v1/session", Code::MethodNotAllowed),
        (Method::GET, "/healthz", Code::NotFound),
        (Method::GET, "/metrics", Code::NotFound),
    ] {
        let answer = http.request(method.clone(), world.at(path)).send().await?;
        let problem: Problem = answer.json().await?;
        assert_eq!(problem.code, code, "{method} {path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn case_19_a_huge_body_is_refused_before_anyone_looks_into_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    let url = world.at("/v1/clusters/prod/certificates");
    let answer = world.http()?.post(url).body(vec![b'['; 1 << 20]).send().await?;
    let problem: Problem = answer.json().await?;
    assert_eq!(problem.code, Code::NotLoggedIn, "a stranger's body is not read at all");
    let form = [("token", "x".repeat(1 << 20))];
    let answer = world.http()?.post(world.at("/oauth/revoke")).form(&form).send().await?;
    let problem: Problem = answer.json().await?;
    assert_eq!(problem.code, Code::TooLarge);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_too_old_is_told_which_version_to_get() -> anyhow::Result<()> {
    let world = World::with(ichor_tests::Options {
        edits: vec![("[session]\n", "[session]\nminimum_client = \"0.2.0\"\n")],
        ..Default::default()
    })
    .await?;
    let request = world.http()?.get(world.at("/v1/session")).header("ichor-client-version", "0.1.9");
    let problem: Problem = request.send().await?.json().await?;
    assert_eq!(problem.code, Code::ClientTooOld);
    assert!(problem.detail.contains("0.2.0"), "{problem:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_limited_by_address_and_people_are_not_for_it() -> anyhow::Result<()> {
    let world = World::with(ichor_tests::Options {
        config: "[limits]\nper_address = 3\nper_person = 1000\n".into(),
        ..Default::default()
    })
    .await?;
    let alice = Person::log_in(&world, "alice").await?;
    let http = world.http()?;
    let mut codes = Vec::new();
    for _ in 0..5 {
        let problem: Problem = http.get(world.at("/v1/session")).send().await?.json().await?;
        codes.push(problem.code);
    }
    assert_eq!(codes.last(), Some(&Code::TooManyRequests), "{codes:?}");
    alice.session.describe().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_limited_too() -> anyhow::Result<()> {
    let world =
        World::with(ichor_tests::Options { config: "[limits]\nper_person = 2\n".into(), ..Default::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    alice.session.describe().await?;
    alice.session.describe().await?;
    let error = alice.session.describe().await.unwrap_err().to_string();
    assert!(error.contains("too many requests"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_have_their_own_listener() -> anyhow::Result<()> {
    let world = World::with(ichor_tests::Options { config: "[server.health]\n".into(), ..Default::default() }).await;
    assert!(world.is_err(), "an unknown key must be refused");
    let world = World::with_health().await?;
    let http = world.http()?;
    let at = |path: &str| format!("http://{}{path}", world.running.health_address().unwrap());
    assert_eq!(http.get(at("/healthz")).send().await?.text().await?, "ok\n");
    let ready: serde_json::Value = http.get(at("/readyz")).send().await?.json().await?;
    assert_eq!(ready["ready"], true, "{ready}");
    let checks = ready["checks"].as_array().unwrap();
    let anchor = checks.iter().find(|check| check["name"] == "audit anchor").unwrap_or_else(|| panic!("{ready}"));
    assert_eq!(anchor["detail"], "rollback not detected here: no anchor outside the database", "{ready}");
    assert!(http.get(at("/metrics")).send().await?.status().is_success());
    Ok(())
}

/// RUSTSEC-2024-0376, RUSTSEC-2024-0399: what is no TLS, and connections that end at once, must not end the listener.
#[tokio::test(flavor = "multi_thread")]
async fn case_04_garbage_and_broken_connections_do_not_end_the_listener() -> anyhow::Result<()> {
    use tokio::io::AsyncWriteExt;
    let world = World::start().await?;
    let address = world.running.address().unwrap();
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 1], &[0; 4096], b""] {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        // the broker may have hung up already; that is its right
        let _ = stream.write_all(junk).await;
    }
    let answer = world.http()?.get(world.at("/v1/session")).timeout(Duration::from_secs(10)).send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}
