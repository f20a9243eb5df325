//! `doctor`, at simulated nodes.

use std::sync::Arc;

use ichor_standins::authority::{Authority, Usage};
use ichor_standins::node::{Node, NodeOptions};
use jiff::{SignedDuration, Timestamp};

use crate::fake::Fake;
use crate::world::{Ran, World};

/// Runs `doctor prod` in a world whose one endpoint is a node made by `options` and changed by `change`.
async fn doctor(change: impl FnOnce(&mut NodeOptions), after: impl FnOnce(&Node)) -> Ran {
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
    });
    let endpoint = node.endpoint();
    let ran = tokio::task::spawn_blocking(move || {
        let world = World::with(fake);
        world.log_in(&[]).ok();
        world.ichor(&["doctor", "prod"])
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
    assert!(ran.out.contains("ichor-broker ca patch prod"), "{}", ran.out);
    assert_eq!(ran.code, 1);
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
