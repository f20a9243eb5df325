//! The edge of the API: who gets in, what is refused and how, and that nothing is open by accident.

use std::time::Duration;

use ichor_broker::http::api::ROUTES;
use ichor_tests::{CLUSTER, Person, World};
use ichor_wire::problem::{Code, Problem};
use reqwest::{Method, StatusCode};

/// Fails for a route without an authorization test: every route of the API is called without a session, with a token that
/// nobody has, and with a token but no proof; and the list is compared with what the router really serves.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_whoever_has_no_session() -> anyhow::Result<()> {
    let world = World::start().await?;
    let http = world.http()?;
    for (method, path) in ROUTES {
        let url = world.at(&path.replace("{cluster}", CLUSTER));
        let method: Method = method.parse()?;
        for (authorization, proof) in [(None, None), (Some("DPoP nobody"), None), (Some("Bearer x"), Some("x.y.z"))] {
            let mut request = http.request(method.clone(), &url).body("{}");
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            if let Some(value) = proof {
                request = request.header("dpop", value);
            }
            let answer = request.send().await?;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path} with {authorization:?}");
            assert!(answer.headers()["www-authenticate"].to_str()?.starts_with("DPoP "));
            let problem: Problem = answer.json().await?;
            assert_eq!(problem.code, Code::NotLoggedIn, "{method} {path}: {problem:?}");
            assert!(!problem.help.is_empty() && problem.request_id.is_some());
        }
    }
    Ok(())
}

/// The router serves nothing under `/v1` that is not in the list above.
#[test]
fn the_list_of_routes_is_the_router() {
    let source =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../broker/src/http/api/mod.rs")).unwrap();
    let routed: Vec<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix(".route(\""))
        .filter_map(|rest| {
            let (path, handler) = rest.split_once("\", ")?;
            Some((handler.split('(').next()?.to_uppercase(), path.to_owned()))
        })
        .collect();
    let listed: Vec<_> = ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(routed, listed);
    let described = ichor_broker::http::openapi::document();
    for (_, path) in ROUTES {
        assert!(described.contains(path), "{path} is not described");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_a_problem_too() -> anyhow::Result<()> {
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
