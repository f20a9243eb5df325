//! Which calls are made again, how often, and until when.

use std::time::Duration;

use http::Method;
use ichor_broker::openbao::{Client, KeyKind, Kind, Kv, Retry, Settings, TransitEngine};
use ichor_standins::openbao::Fault;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{SELF, World, ask};

#[tokio::test]
async fn what_passes_is_tried_again_within_the_deadline() {
    let world = World::new().await;
    let client = world.client();
    ask(&client).await.unwrap();
    let statuses = [412, 500, 502, 503].map(|status| Fault::Status(status, "for the moment".into()));
    for fault in statuses.into_iter().chain([Fault::Quota, Fault::Disconnect]) {
        let before = world.bao.count(SELF);
        world.bao.spoil_next(SELF, fault.clone(), 2);
        ask(&client).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(world.bao.count(SELF) - before, 3, "{fault:?}");
    }
    assert_eq!(world.bao.logins(), 1);
}

#[tokio::test]
async fn what_stays_is_not_tried_again() {
    let world = World::new().await;
    let client = world.client();
    ask(&client).await.unwrap();
    for status in [400, 404, 405] {
        let before = world.bao.count(SELF);
        world.bao.set_fault(SELF, Some(Fault::Status(status, "no".into())));
        ask(&client).await.unwrap_err();
        assert_eq!(world.bao.count(SELF) - before, 1, "{status}");
    }
    world.bao.set_fault(SELF, None);
    world.bao.deny("secret/data/x");
    let kv = Kv::new(client.clone(), "secret").unwrap();
    let error = kv.read("x").await.unwrap_err();
    assert_eq!(*error.kind(), Kind::Denied("secret/data/x".into()));
    assert_eq!((world.bao.count("secret/data/x"), world.bao.logins()), (1, 1), "neither the call nor the login");
}

#[tokio::test]
async fn a_call_with_an_effect_is_sent_once() {
    let world = World::new().await;
    let client = world.client();
    ask(&client).await.unwrap();
    let kv = Kv::new(client.clone(), "secret").unwrap();
    for (n, fault) in [Fault::Status(503, "later".into()), Fault::Lost, Fault::Disconnect].into_iter().enumerate() {
        let path = format!("s{n}");
        world.bao.set_fault(&format!("secret/data/{path}"), Some(fault.clone()));
        kv.write(&path, &json!({"a": 1}), 0).await.unwrap_err();
        assert_eq!(world.bao.count(&format!("secret/data/{path}")), 1, "{fault:?}");
    }
    // but what a server turned away did nothing
    let turned_away =
        [Fault::Quota, Fault::Status(412, "not yet".into()), Fault::Status(503, "Vault is sealed".into())];
    for (n, fault) in turned_away.into_iter().enumerate() {
        let path = format!("t{n}");
        world.bao.spoil_next(&format!("secret/data/{path}"), fault.clone(), 2);
        assert_eq!(kv.write(&path, &json!({"a": 1}), 0).await.unwrap(), 1, "{fault:?}");
        assert_eq!(world.bao.count(&format!("secret/data/{path}")), 3, "{fault:?}");
    }
    // and a refused token did nothing
    world.bao.revoke_tokens();
    assert_eq!(kv.write("t", &json!({"a": 1}), 0).await.unwrap(), 1);
    assert_eq!((world.bao.count("secret/data/t"), world.bao.logins()), (2, 2));
}

#[tokio::test]
async fn a_token_that_is_refused_anew_is_not_replaced_for_ever() {
    let world = World::new().await;
    let client = world.client();
    ask(&client).await.unwrap();
    world.bao.set_fault("secret/*", Some(Fault::Status(403, "permission denied".into())));
    let kv = Kv::new(client, "secret").unwrap();
    for _ in 0..20 {
        assert_eq!(*kv.read("x").await.unwrap_err().kind(), Kind::Token);
    }
    assert!(world.bao.logins() <= 3, "{}", world.bao.logins());
}

#[tokio::test]
async fn the_deadline_holds() {
    let world = World::new().await;
    let client = world.hasty(Duration::from_secs(1));
    ask(&client).await.unwrap();
    for (fault, label) in
        [(Fault::Stall, "late"), (Fault::Status(500, "no".into()), "failed"), (Fault::Quota, "limited")]
    {
        let (before, begun) = (world.bao.count(SELF), Instant::now());
        world.bao.set_fault(SELF, Some(fault));
        let error = ask(&client).await.unwrap_err();
        assert_eq!(error.kind().label(), label);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let tries = world.bao.count(SELF) - before;
        assert!((1..=12).contains(&tries) && (label == "late" || tries > 1), "{label}: {tries}");
    }
    // a login that stalls as well
    let client = world.hasty(Duration::from_millis(200));
    world.bao.set_fault("auth/approle/login", Some(Fault::Stall));
    assert_eq!(*ask(&client).await.unwrap_err().kind(), Kind::Late);
}

#[tokio::test]
async fn an_answer_that_is_none_is_said_to_be_none() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new().await;
    let client = world.client();
    let transit = TransitEngine::new(client.clone(), "transit").unwrap();
    transit.create("k", KeyKind::Ed25519).await.unwrap();
    let kv = Kv::new(client.clone(), "secret").unwrap();
    world.bao.write_secret("s", json!({"a": 1}));
    let faults = [
        Fault::Garbage,
        Fault::Truncated,
        Fault::Huge(10 << 20),
        Fault::Instead(json!({"data": {"keys": [], "type": 1, "metadata": "x", "signature": [], "batch_results": {}}})),
        Fault::Instead(json!({"data": null})),
        Fault::Instead(json!([])),
    ];
    for fault in faults {
        for path in ["transit/keys/k", "transit/sign/k", "secret/data/s", "transit/wrapping_key"] {
            world.bao.set_fault(path, Some(fault.clone()));
        }
        let errors = [
            transit.key("k").await.unwrap_err(),
            transit.sign("k", 1, KeyKind::Ed25519, &[b"x"]).await.unwrap_err(),
            transit.wrapping_key().await.unwrap_err(),
            kv.read("s").await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error.kind(), Kind::Garbled(_)), "{fault:?}: {error}");
            let is_large = error.to_string().contains("larger than 1 MiB");
            assert_eq!(is_large, matches!(fault, Fault::Huge(_)), "{error}");
        }
    }
    assert!(client.state().borrow().ok, "it answers, if not well");
    // nor is it counted as one: six faults at four paths, and what made the key
    let page = recorder.handle().render();
    for (outcome, count) in [("garbled", 24), ("ok", 1)] {
        let line = format!("ichor_openbao_calls_total{{server=\"main\",outcome=\"{outcome}\"}} {count}\n");
        assert!(page.contains(&line), "{line}: {page}");
    }
    // a login that is none is no login
    world.bao.set_fault("auth/approle/login", Some(Fault::Garbage));
    let other = world.client();
    let error = ask(&other).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Login(why) if why.contains("holds no token")), "{error}");
    assert!(!other.state().borrow().ok);
}

#[tokio::test]
async fn a_signature_is_of_the_version_that_was_asked_for() {
    let world = World::new().await;
    let transit = TransitEngine::new(world.client(), "transit").unwrap();
    transit.create("k", KeyKind::Ed25519).await.unwrap();
    world.operate("POST", "transit/keys/k/rotate", json!({})).await;
    let signed = transit.sign("k", 1, KeyKind::Ed25519, &[b"x", b"y"]).await.unwrap();
    assert!(signed.iter().all(|one| one.as_ref().is_ok_and(|signature| signature.len() == 64)));
    for other in ["vault:v2:AAAA", "vault:v11:AAAA", "AAAA", "vault:v1:?"] {
        let both = json!({"data": {"signature": other, "batch_results": [{"signature": other}, {"signature": other}]}});
        world.bao.set_fault("transit/sign/k", Some(Fault::Instead(both)));
        for inputs in [&[&b"x"[..]][..], &[b"x", b"y"]] {
            let signed = transit.sign("k", 1, KeyKind::Ed25519, inputs).await.unwrap();
            assert_eq!(signed.len(), inputs.len());
            assert!(matches!(signed[0].as_ref().unwrap_err().kind(), Kind::Garbled(_)), "{other}: {signed:?}");
        }
    }
    // nor is there one more or less of them
    let body = json!({"data": {"batch_results": [{"signature": "vault:v1:AAAA"}, {"signature": "vault:v1:AAAA"}]}});
    world.bao.set_fault("transit/sign/k", Some(Fault::Instead(body)));
    let error = transit.sign("k", 1, KeyKind::Ed25519, &[b"x", b"y", b"z"]).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Garbled(_)), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::new().await;
    let client = world.client();
    ask(&client).await.unwrap();
    for status in [301, 302, 303] {
        let before = world.bao.requests().len();
        world.bao.set_fault(SELF, Some(Fault::Status(status, "go there".into())));
        let error = ask(&client).await.unwrap_err();
        assert!(error.to_string().contains(&format!("sends elsewhere with status {status}")), "{error}");
        assert_eq!(world.bao.requests().len() - before, 1);
    }
}

#[tokio::test]
async fn a_server_that_was_not_there_is_found_when_it_is() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let at = format!("http://{address}").parse().unwrap();
    let client = Client::new(Settings { address: at, ..world.settings() }).unwrap();
    let mut state = client.state();
    let asked = tokio::spawn(async move { client.call(Method::GET, SELF, None, Retry::Safe).await.map(|_| client) });
    // it was tried and refused at least once, unless this comes first: both are fine
    tokio::task::yield_now().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let target = world.bao.url().trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = TcpStream::connect(&target).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    asked.await.unwrap().unwrap();
    assert!(state.borrow_and_update().ok);
}
