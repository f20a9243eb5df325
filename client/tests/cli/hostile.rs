//! A broker, or a provider behind it, that says what a terminal would obey.

use ichor_wire::problem::{Code, Problem};
use serde_json::json;

use crate::world::{Ran, World};

/// Clears the screen twice over, moves back over the line, begins one of its own, turns text around, and hides some.
const HOSTILE: &str = "\u{1b}[2J\u{9b}2J\r\n✓ forged\n\u{7f}\u{202e}\u{2066}\u{200b}\u{ad}\u{e0041}\u{85}";

fn harmless(ran: &Ran) {
    let hidden = |letter: char| letter.is_control() || "\u{202e}\u{2066}\u{200b}\u{ad}\u{e0041}".contains(letter);
    for text in [&ran.out, &ran.err] {
        assert!(text.chars().all(|letter| letter == '\n' || !hidden(letter)), "{:?}", ran.transcript());
        assert!(!text.lines().any(|line| line.starts_with("✓ forged")), "{}", ran.transcript());
    }
}

#[test]
fn what_a_broker_says_is_shown_and_not_obeyed() {
    let world = World::new();
    world.fake.with(|state| state.hostile = HOSTILE.into());
    let ran = world.log_in(&[]).ok();
    assert!(ran.out.contains("Alice Example\\u{1b}[2J"), "shown, not left out: {}", ran.transcript());
    harmless(&ran);
    for command in [
        &["status"][..],
        &["doctor"],
        &["doctor", "prod"],
        &["clusters"],
        &["talosconfig", "--all"],
        &["audit", "log"],
        &["locks"],
        &["lock", "user", "alice@example.com"],
    ] {
        let ran = world.ichor(command);
        assert!(ran.out.contains("\\u{"), "{}", ran.transcript());
        harmless(&ran);
        let ran = world.ichor(&[command, &["-o", "json"]].concat());
        let value = ran.json();
        assert!(value.is_object(), "{}", ran.transcript());
        harmless(&ran);
    }
    let told = world.ichor(&["status", "-o", "json"]).json();
    assert_eq!(told["session"]["name"], format!("Alice Example{HOSTILE}"), "JSON keeps the value");
}

#[test]
fn nor_are_its_refusals_its_codes_and_its_providers() {
    let world = World::logged_in();
    let refusal = Problem { help: vec![HOSTILE.into()], ..Problem::new(Code::Refused, HOSTILE) };
    world.fake.with(|state| state.refuse = Some(refusal));
    for command in [&["talosconfig", "prod"][..], &["talosconfig", "prod", "staging"], &["doctor", "prod"]] {
        let ran = world.ichor(command);
        assert!(format!("{}{}", ran.out, ran.err).contains("\\u{9b}2J"), "{}", ran.transcript());
        harmless(&ran);
        harmless(&world.ichor(&[command, &["-o", "json"]].concat()));
    }
    world.fake.with(|state| {
        state.hostile = HOSTILE.into();
        state.metadata.insert("device_authorization_endpoint".into(), "/device".into());
    });
    harmless(&world.ichor(&["login", "--device"]));
    for (name, value) in [
        ("ichor_providers", json!([HOSTILE, "corp"])),
        ("ichor_minimum_client_version", json!(format!("99.0.0-{HOSTILE}"))),
        ("issuer", json!(HOSTILE)),
    ] {
        world.fake.with(|state| state.metadata.insert(name.into(), value));
        let ran = world.ichor(&["login"]);
        assert_ne!(ran.code, 0);
        harmless(&ran);
    }
}

/// What it names as the cluster's is written into a talosconfig only if it is a host or an address.
#[test]
fn nor_is_what_is_no_address_written_into_a_talosconfig() {
    let world = World::logged_in();
    for (endpoint, node) in [(HOSTILE, "10.0.0.5"), ("10.0.0.2\n    ca: x", "10.0.0.5"), ("10.0.0.2", HOSTILE)] {
        world.fake.with(|state| {
            state.endpoints = vec!["10.0.0.2".into(), endpoint.into()];
            state.nodes = vec![node.into()];
        });
        let ran = world.ichor(&["talosconfig", "prod"]);
        assert_ne!(ran.code, 0, "{}", ran.transcript());
        assert!(ran.err.contains("is no host or address"), "{}", ran.transcript());
        harmless(&ran);
        assert!(!world.path(".talos/config").exists(), "{}", ran.transcript());
    }
}
