//! `ichor break-glass`: what is typed reaches the broker, nothing is decided unseen, and a fresh login is offered where it helps.

use ichor_client::{Clock, Environment};
use ichor_wire::api::BreakGlassAsk;
use ichor_wire::problem::StepUp;
use serde_json::json;
use uuid::Uuid;

use crate::terminal;
use crate::world::World;

const ASKS: [&str; 7] = ["break-glass", "request", "prod", "--role", "admin", "--reason", "INC-42"];

fn id() -> String {
    Uuid::from_u128(5).to_string()
}

/// What was made of break-glass requests: asked for, and decided.
fn done(world: &World) -> (Vec<BreakGlassAsk>, Vec<(String, serde_json::Value)>) {
    world.fake.with(|state| (std::mem::take(&mut state.requests), std::mem::take(&mut state.decided)))
}

/// Someone at a terminal, who has logged in there unless they do so now.
fn at_a_terminal(world: &World, arguments: &[&str], lines: &[&str]) -> (String, u8) {
    let environment = Environment { broker: Some(world.fake.url.clone()), ..Environment::isolated(&world.path("")) };
    terminal::type_into(environment, Clock::system(), arguments, lines, || {})
}

fn logged_in_at_a_terminal() -> World {
    let world = World::new();
    let (said, code) = at_a_terminal(&world, &["login"], &[]);
    assert_eq!(code, 0, "{said}");
    world
}

#[test]
fn what_is_asked_for_reaches_the_broker() {
    let world = World::logged_in();
    let all = [
        &ASKS[..],
        &["--role", "reader", "--ttl", "20m", "--node", "node-a", "--node", "10.0.0.5"],
        &["--ticket", "https://tickets.example.com/1", "--self-service"],
    ];
    let ran = world.ichor(&all.concat()).ok();
    assert!(ran.out.contains("once a sink outside the broker has accepted"), "{}", ran.transcript());
    let asked = BreakGlassAsk {
        cluster: "prod".into(),
        roles: vec!["os:admin".into(), "os:reader".into()],
        ttl: Some(1200),
        reason: "INC-42".into(),
        nodes: vec!["node-a".into(), "10.0.0.5".into()],
        ticket: Some("https://tickets.example.com/1".into()),
        self_service: true,
    };
    assert_eq!(done(&world).0, [asked]);
    let plain = BreakGlassAsk {
        cluster: "prod".into(),
        roles: vec!["os:admin".into()],
        ttl: None,
        reason: "INC-42".into(),
        nodes: Vec::new(),
        ticket: None,
        self_service: false,
    };
    let ran = world.ichor(&ASKS).ok();
    assert!(ran.out.contains("ichor break-glass approve "), "{}", ran.transcript());
    assert!(!world.path(".talos/config").exists(), "without `--wait` nothing is written");
    assert_eq!(done(&world).0, [plain]);
    assert_eq!(world.ichor(&ASKS[..5]).code, 2, "no reason");
    assert_eq!(done(&world).0, []);
    world.fake.assert_kept();
}

#[test]
fn who_waits_waits_on_while_the_broker_is_out() {
    let world = World::logged_in();
    world.fake.with(|state| state.restarts = 1);
    world.ichor(&[&ASKS[..], &["--wait"]].concat()).ok();
    assert!(world.path(".talos/config").exists());
    world.fake.with(|state| assert_eq!(state.restarts, 0));
    world.fake.assert_kept();
}

#[test]
fn what_was_approved_is_written_where_it_was_said() {
    let world = World::logged_in();
    world.ichor(&[&ASKS[..], &["--wait"]].concat()).ok();
    let context = |file: &str, name: &str| {
        let config = ichor_wire::talosconfig::Talosconfig::parse(&world.text(file)).unwrap();
        (config.context(name).is_some(), config.current().map(str::to_owned))
    };
    assert!(context(".talos/config", "prod-break-glass").0);
    let into = ["--context", "oops", "--talosconfig", "team.yaml"];
    let id = id();
    for how in [&[&ASKS[..], &["--wait"]].concat()[..], &["break-glass", "use", &id]] {
        let _ = std::fs::remove_file(world.path("team.yaml"));
        world.write("team.yaml", "context: other\ncontexts:\n  other: {}\n  oops: {}\n");
        let ran = world.ichor(&[how, &into].concat());
        assert!(ran.code != 0 && ran.err.contains("--replace"), "someone else's: {}", ran.transcript());
        world.ichor(&[how, &into, &["--replace"]].concat()).ok();
        assert_eq!(context("team.yaml", "oops"), (true, Some("other".into())));
        world.ichor(&[how, &into, &["--set-current"]].concat()).ok();
        assert_eq!(context("team.yaml", "oops"), (true, Some("oops".into())));
    }
    let ran = world.ichor(&["break-glass", "use", &id, "--", "sh", "-c", "test -s \"$TALOSCONFIG\" && echo ran"]).ok();
    assert_eq!(ran.out, "ran\n");
    world.fake.assert_kept();
}

#[test]
fn no_use_is_spent_on_a_command_that_cannot_run() {
    let mut world = World::logged_in();
    let id = id();
    world.write("notes", "no program");
    let notes = world.path("notes").display().to_string();
    for command in ["no-such-program", &notes, "./no-such-program", "bin"] {
        let ran = world.ichor(&["break-glass", "use", &id, "--", command, "version"]);
        assert!(ran.code == 1 && ran.err.contains("there is no such program"), "{}", ran.transcript());
    }
    world.script("mine", "exit 0");
    // no folder can be made where a file is
    world.set("XDG_RUNTIME_DIR", &notes);
    let ran = world.ichor(&["break-glass", "use", &id, "--", "mine"]);
    assert!(ran.code == 1 && ran.err.contains("cannot make"), "{}", ran.transcript());
    assert_eq!(world.fake.with(|state| state.asked.len()), 0, "the broker was asked for no certificate");
    world.unset("XDG_RUNTIME_DIR");
    let mine = world.path("bin/mine").display().to_string();
    for command in ["mine", &mine] {
        world.ichor(&["break-glass", "use", &id, "--", command]).ok();
    }
    assert_eq!(world.fake.with(|state| state.asked.len()), 2);
    world.fake.assert_kept();
}

#[test]
fn a_list_is_of_what_was_asked_for() {
    let world = World::logged_in();
    let last = || world.fake.with(|state| state.seen.last().cloned().unwrap());
    let ran = world.ichor(&["break-glass", "list"]).ok();
    assert!(ran.out.contains(&id()), "{}", ran.transcript());
    assert_eq!(last(), "GET /v1/break-glass?limit=100");
    for (flags, query) in [
        (&["--limit", "7"][..], "limit=7"),
        (&["--cluster", "prod"], "limit=100&cluster=prod"),
        (&["--state", "denied,expired"], "limit=100&state=denied%2Cexpired"),
        (&["--mine"], "limit=100&mine=true"),
    ] {
        world.ichor(&[&["break-glass", "list"], flags].concat()).ok();
        assert_eq!(last(), format!("GET /v1/break-glass?{query}"));
    }
    assert_eq!(world.ichor(&["break-glass", "list", "--limit", "10001"]).code, 2);
    // what lies behind pages of others' is found all the same
    world.fake.with(|state| state.requests_behind = 3);
    let ran = world.ichor(&["break-glass", "list"]).ok();
    assert!(ran.out.contains(&id()) && !ran.out.contains("there are more"), "{}", ran.transcript());
    assert!(last().ends_with("&cursor=00000000-0000-0000-0000-000000000003"), "{}", last());
    world.fake.with(|state| state.requests_behind = 0);
    let ran = world.ichor(&["break-glass", "report", &id()]).ok();
    assert!(ran.out.contains("calls at `node-b`, which the request did not name"), "{}", ran.transcript());
    assert!(ran.out.contains("0 of 501 calls are shown"), "{}", ran.transcript());
    assert!(ran.out.contains("501    node-b  Reboot  weak"), "{}", ran.transcript());
    assert!(ran.out.contains("certificates of this cluster name no grant"), "{}", ran.transcript());
    world.fake.assert_kept();
}

#[test]
fn what_is_said_with_a_decision_goes_with_it() {
    let world = World::logged_in();
    let id = id();
    let sha256 = world.ichor(&["break-glass", "show", &id, "-o", "json"]).ok().json()["sha256"].clone();
    for how in ["approve", "deny", "cancel", "revoke"] {
        for comment in [None, Some("not during the freeze")] {
            let said: Vec<_> = comment.iter().flat_map(|comment| ["--comment", comment]).collect();
            let yes = if how == "approve" { &["--yes"][..] } else { &[] };
            world.ichor(&[&["break-glass", how, &id][..], yes, &said].concat()).ok();
            let mut expected = json!({});
            if ["approve", "deny"].contains(&how) {
                expected["sha256"] = sha256.clone();
            }
            if let Some(comment) = comment {
                expected["comment"] = json!(comment);
            }
            assert_eq!(done(&world).1, [(how.to_owned(), expected)]);
        }
    }
    world.ichor(&["break-glass", "review", &id, "--as", "misuse", "--note", "a test"]).ok();
    assert_eq!(done(&world).1, [("review".to_owned(), json!({ "label": "misuse", "note": "a test" }))]);
    for wrong in [&["--as", "fun", "--note", "x"][..], &["--as", "drill"], &["--note", "x"]] {
        assert_eq!(world.ichor(&[&["break-glass", "review", &id], wrong].concat()).code, 2, "{wrong:?}");
    }
    assert_eq!(done(&world).1, []);
    world.fake.assert_kept();
}

#[test]
fn nothing_is_approved_that_nobody_looked_at() {
    let world = logged_in_at_a_terminal();
    world.fake.with(|state| state.request_state = Some("pending"));
    let id = id();
    let approve = ["break-glass", "approve", &id];
    for (typed, is_approved) in [("yes", true), ("YES ", true), ("", false), ("y", false), ("no", false)] {
        let (said, code) = at_a_terminal(&world, &approve, &[typed]);
        let (shown, asked) = (said.find("INC-42"), said.find("approve exactly this? type yes:"));
        assert!(shown.is_some() && shown < asked, "{said}");
        assert_eq!((code == 0, done(&world).1.len()), (is_approved, usize::from(is_approved)), "`{typed}`: {said}");
    }
    // nobody is there to look
    world.log_in(&[]).ok();
    let ran = world.ichor(&approve);
    assert!(ran.code == 2 && ran.err.contains("add `--yes`"), "{}", ran.transcript());
    assert_eq!(done(&world).1, []);
    world.ichor(&[&approve[..], &["--yes"]].concat()).ok();
    assert_eq!(done(&world).1.len(), 1);
    world.fake.assert_kept();
}

/// One denial ends a request for everyone, so a hand that meant the other word is asked; a script is not: to deny lets nobody in.
#[test]
fn nothing_is_denied_by_a_slip_of_the_hand() {
    let world = logged_in_at_a_terminal();
    world.fake.with(|state| state.request_state = Some("pending"));
    let id = id();
    let deny = ["break-glass", "deny", &id];
    for (typed, is_denied) in [("yes", true), ("", false), ("no", false)] {
        let (said, code) = at_a_terminal(&world, &deny, &[typed]);
        let (shown, asked) = (said.find("INC-42"), said.find("deny this? nobody can approve it any more; type yes:"));
        assert!(shown.is_some() && shown < asked, "{said}");
        assert_eq!((code == 0, done(&world).1.len()), (is_denied, usize::from(is_denied)), "`{typed}`: {said}");
        assert_eq!(said.contains("it still waits"), !is_denied, "{said}");
    }
    let (said, _) = at_a_terminal(&world, &[&deny[..], &["--yes"]].concat(), &[]);
    assert!(!said.contains("deny this?"), "{said}");
    assert_eq!(done(&world).1.len(), 1);
    world.log_in(&[]).ok();
    world.ichor(&deny).ok();
    assert_eq!(done(&world).1.len(), 1);
    world.fake.assert_kept();
}

#[test]
fn a_fresh_login_is_offered_and_taken_by_enter() {
    let id = id();
    let approve = ["break-glass", "approve", &id, "--yes"];
    let deny = ["break-glass", "deny", &id, "--yes"];
    for command in [&ASKS[..], &approve, &deny] {
        for acr in [Some("mfa"), None] {
            let world = logged_in_at_a_terminal();
            world.fake.with(|state| {
                state.step_up = Some(StepUp { acr_values: acr.map(Into::into), max_age: 0 });
                state.authorizations.clear();
            });
            let offer = match acr {
                Some(acr) => format!("A fresh login with `{acr}` is what is missing. Press Enter or y to log in"),
                None => "A fresh login is what is missing. Press Enter or y to log in".to_owned(),
            };
            // whoever does not agree stays where they are
            for lines in [&["n"][..], &["what?"], &[]] {
                let (said, code) = at_a_terminal(&world, command, lines);
                assert!(code != 0 && said.contains("policy wants a second factor") && said.contains(&offer), "{said}");
                assert_eq!(world.fake.with(|state| state.authorizations.len()), 0, "{lines:?}");
                assert_eq!(done(&world), (Vec::new(), Vec::new()), "{lines:?}");
            }
            let (said, code) = at_a_terminal(&world, command, &[if acr.is_some() { "" } else { " Y " }]);
            assert!(code == 0 && said.contains(&offer), "{said}");
            let logins = world.fake.with(|state| std::mem::take(&mut state.authorizations));
            let [login] = &logins[..] else { panic!("one login: {logins:?}") };
            assert_eq!((login["max_age"].as_str(), login.get("acr_values").map(String::as_str)), ("0", acr));
            assert_eq!(login["provider"], "corp", "at the same provider");
            let (requests, decided) = done(&world);
            assert_eq!(requests.len() + decided.len(), 1, "it is done once: {requests:?} {decided:?}");
            world.fake.assert_kept();
        }
    }
}

#[test]
fn no_login_is_offered_where_nobody_sits_or_none_would_help() {
    let world = World::logged_in();
    let wanted = || StepUp { acr_values: Some("mfa".into()), max_age: 0 };
    world.fake.with(|state| {
        state.step_up = Some(wanted());
        state.authorizations.clear();
    });
    let ran = world.ichor(&ASKS);
    assert!(ran.code != 0 && ran.err.contains("policy wants a second factor"), "{}", ran.transcript());
    assert!(!ran.err.contains("Press Enter"), "{}", ran.transcript());
    assert_eq!((world.fake.with(|state| state.authorizations.len()), done(&world).0), (0, Vec::new()));

    // once is enough: a login that does not help is not followed by another
    let world = logged_in_at_a_terminal();
    world.fake.with(|state| {
        state.step_up = Some(wanted());
        state.no_login_helps = true;
        state.authorizations.clear();
    });
    let (said, code) = at_a_terminal(&world, &ASKS, &["", "", ""]);
    assert!(code != 0 && said.matches("Press Enter").count() == 1, "{said}");
    assert_eq!((world.fake.with(|state| state.authorizations.len()), done(&world).0), (1, Vec::new()));
}
