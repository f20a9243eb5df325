//! `doctor`, at simulated nodes.

use std::sync::Arc;

use data_encoding::BASE64;
use ichor_standins::authority::{Authority, Usage};
use ichor_standins::node::{Node, NodeOptions};
use jiff::{SignedDuration, Timestamp};

use crate::fake::{Fake, State};
use crate::world::{Ran, World};

/// Runs `doctor prod` in a world whose one endpoint is a node made by `options` and changed by `change`.
async fn doctor(change: impl FnOnce(&mut NodeOptions), after: impl FnOnce(&Node)) -> Ran {
    doctor_with(change, after, |_| (), &["doctor", "prod"]).await
}

/// As [`doctor`], with the fake broker changed by `broker`.
async fn doctor_with(
    change: impl FnOnce(&mut NodeOptions),
    after: impl FnOnce(&Node),
    broker: impl FnOnce(&mut State),
    arguments: &'static [&'static str],
) -> Ran {
    let ca = Authority::with_usage("ichor prod", &[Usage::Client]).unwrap();
    let mut options = NodeOptions::new("node-a").unwrap();
    options.accepted_cas = ca.certificate();
    options.authority = Arc::new(Authority::new("talos").unwrap());
    change(&mut options);
    let node = Node::start(options).await.unwrap();
    after(&node);
    let fake = Fake::start_with(ca);
    fake.with(|state| {
        state.endpoints = vec![node.endpoint()];
        state.node_ca = node.ca_pem();
        state.nodes = vec!["127.0.0.1".into()];
        broker(state);
    });
    let endpoint = node.endpoint();
    let ran = tokio::task::spawn_blocking(move || {
        let world = World::with(fake);
        world.log_in(&[]).ok();
        world.ichor(arguments)
    });
    let mut ran = ran.await.unwrap();
    ran.out = ran.out.replace(&endpoint, "<endpoint>");
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_the_certificate() {
    let ran = doctor(|_| (), |_| ()).await;
    assert!(ran.out.contains("✓ endpoint <endpoint>: accepted, Talos v"), "{}", ran.transcript());
    assert!(ran.out.contains("✓ clock: 0 s") || !ran.out.contains("clock"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_know_the_ca() {
    let ran = doctor(|options| options.accepted_cas.clear(), |_| ()).await;
    assert!(
        ran.out.contains("✗ endpoint <endpoint>: the certificate's CA is not in acceptedCAs"),
        "{}",
        ran.transcript()
    );
    assert!(ran.out.contains("✗ node 127.0.0.1: not called: no endpoint took the certificate"), "{}", ran.out);
    let (_, patch) = ran.out.split_once("accepted-ca.yaml (it is public):\n\n").unwrap();
    let crt = patch.strip_prefix("machine:\n  acceptedCAs:\n    - crt: ").unwrap().trim_end();
    let pem = String::from_utf8(BASE64.decode(crt.as_bytes()).unwrap()).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
    assert_eq!(ran.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_patch_in_json_is_what_the_node_lacks() {
    let untrusting = |options: &mut NodeOptions| options.accepted_cas.clear();
    let ran = doctor_with(untrusting, |_| (), |_| (), &["doctor", "prod", "-o", "json"]).await;
    let report = ran.json();
    assert_eq!(report["ok"], false);
    assert!(report["patch"].as_str().unwrap().starts_with("machine:\n  acceptedCAs:\n"), "{report}");
    let ran = doctor_with(|_| (), |_| (), |_| (), &["doctor", "prod", "-o", "json"]).await.ok();
    assert_eq!(ran.json().get("patch"), None, "where nothing lacks it, no patch is shown");
}

/// Nodes are told to trust only a CA that signed the certificate in hand.
#[tokio::test(flavor = "multi_thread")]
async fn no_patch_is_made_of_a_ca_that_has_no_part_in_it() {
    let stranger = Authority::with_usage("ichor prod", &[Usage::Client]).unwrap().certificate();
    for named in [None, Some(stranger), Some("no CA".to_owned())] {
        let untrusting = |options: &mut NodeOptions| options.accepted_cas.clear();
        let ran = doctor_with(untrusting, |_| (), |state| state.issuing_ca = Some(named), &["doctor", "prod"]).await;
        assert!(ran.out.contains("→ apply the patch that `ichor-broker ca patch prod` prints"), "{}", ran.transcript());
        assert!(!ran.out.contains("acceptedCAs:"), "{}", ran.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_is_off() {
    let off = |now: SignedDuration| {
        move |options: &mut NodeOptions| {
            let system = ichor_client::Clock::system();
            options.now = Arc::new(move || -> Timestamp { system.now() + now });
        }
    };
    for skew in [SignedDuration::from_hours(-1), SignedDuration::from_hours(2)] {
        let ran = doctor(off(skew), |_| ()).await;
        assert!(ran.out.contains("clock off by 3"), "{}", ran.transcript());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_rbac() {
    let ran = doctor(|_| (), |node| node.set_rbac(false)).await;
    assert!(ran.out.contains("RBAC is off"), "{}", ran.transcript());
    assert_eq!(ran.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_the_clusters() {
    let other = Authority::new("talos").unwrap().certificate();
    let ca = Authority::new("ichor").unwrap();
    let node = Node::start(NodeOptions::new("node-a").unwrap()).await.unwrap();
    let fake = Fake::start_with(ca);
    fake.with(|state| {
        state.endpoints = vec![node.endpoint(), "127.0.0.1:1".into()];
        state.node_ca = other;
    });
    let ran = tokio::task::spawn_blocking(move || {
        let world = World::with(fake);
        world.log_in(&[]).ok();
        world.ichor(&["doctor", "prod"])
    });
    let ran = ran.await.unwrap();
    assert!(ran.out.contains("not a node of prod"), "{}", ran.transcript());
    assert!(ran.out.contains("endpoint 127.0.0.1:1: unreachable"), "{}", ran.transcript());
}

#[test]
fn without_a_session_it_says_so() {
    let world = World::new();
    insta::assert_snapshot!("doctor_logged_out", world.ichor(&["doctor"]).transcript());
}

#[test]
fn a_broker_out_of_reach_has_the_exit_code_of_that() {
    let mut world = World::new();
    world.set("ICHOR_BROKER", "http://127.0.0.1:1");
    let ran = world.ichor(&["doctor"]);
    assert!(ran.code == 5 && ran.out.contains("✗ broker: "), "{}", ran.transcript());
}

#[test]
fn one_context_is_one() {
    let world = World::new();
    for (text, says) in
        [("contexts: {a: {}}\n", "config has 1 context\n"), ("contexts: {a: {}, b: {}}\n", "2 contexts\n")]
    {
        world.write(".talos/config", text);
        let out = world.ichor(&["doctor"]).out;
        assert!(out.contains(says), "{out}");
    }
}
