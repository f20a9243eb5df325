//! `audit`, `clusters`.

use ichor_wire::problem::{Code, Problem};

use crate::world::World;

#[test]
fn the_log_is_read_page_by_page() {
    let world = World::logged_in();
    insta::assert_snapshot!("audit_log", world.ichor(&["audit", "log", "--limit", "3"]).transcript());
    let pages = || world.fake.with(|state| state.seen.iter().filter(|seen| seen.contains("/v1/audit")).count());
    world.fake.with(|state| state.seen.clear());
    let ran = world.ichor(&["audit", "log", "--all", "-o", "json"]).ok();
    assert_eq!(ran.json()["entries"].as_array().unwrap().len(), 5);
    assert!(pages() >= 3);
    world.fake.assert_kept();
}

#[test]
fn filters_reach_the_broker() {
    let world = World::logged_in();
    let grant = "00000000-0000-0000-0000-000000000007";
    world
        .ichor(&[
            "audit",
            "log",
            "--person",
            "alice",
            "--cluster",
            "prod",
            "--kind",
            "grant",
            "--grant",
            grant,
            "--since",
            "2026-01-01T00:00:00Z",
            "--until",
            "1h",
            "--limit",
            "1",
        ])
        .ok();
    let seen = world.fake.with(|state| state.seen.last().cloned().unwrap());
    for part in [
        "person=alice",
        "cluster=prod",
        "kind=grant",
        &format!("grant={grant}"),
        "since=2026-01-01T00%3A00%3A00Z",
        "until=20",
        "limit=1",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert_eq!(world.ichor(&["audit", "log", "--since", "yesterday"]).code, 2);
    assert_eq!(world.ichor(&["audit", "log", "--limit", "0"]).code, 2);
}

#[test]
fn a_story_is_told_as_a_tree() {
    let world = World::logged_in();
    insta::assert_snapshot!("audit_show", world.ichor(&["audit", "show", "7", "--utc"]).transcript());
    assert_eq!(
        world.ichor(&["audit", "show", "7", "-o", "json"]).ok().json()["story"]["grants"][0]["outcome"][0]["index"],
        6
    );
    assert_eq!(world.ichor(&["audit", "show", "8"]).code, 1);
    insta::assert_snapshot!("audit_show_emergency", world.ichor(&["audit", "show", "17", "--utc"]).transcript());
    let json = world.ichor(&["audit", "show", "17", "-o", "json"]).ok().json();
    let grant = &json["story"]["grants"][0];
    assert_eq!(
        (grant["request"].as_array().unwrap().len(), &grant["afterwards"][0]["kind"]),
        (2, &"break-glass-review".into())
    );
    world.fake.assert_kept();
}

#[test]
fn who_touched_a_node_is_told_by_its_log_and_else_who_could_have() {
    let world = World::logged_in();
    let who = ["audit", "who", "--node", "10.0.0.2", "--since", "30d", "--utc"];
    insta::assert_snapshot!("audit_who_could_have", world.ichor(&who).transcript());
    world.fake.with(|state| state.node_logs = true);
    insta::assert_snapshot!(
        "audit_who",
        world.ichor(&[&who[..], &["--cluster", "prod", "--method", "Reboot"]].concat()).transcript()
    );
    let seen = world.fake.with(|state| state.seen.last().cloned().unwrap());
    for part in ["node=10.0.0.2", "cluster=prod", "method=Reboot", "since=20"] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    let json = world.ichor(&[&who[..], &["-o", "json"]].concat()).ok().json();
    assert_eq!((json["calls"].as_array().unwrap().len(), json["could_have"].as_array().unwrap().len()), (2, 0));
    insta::assert_snapshot!("audit_show_calls", world.ichor(&["audit", "show", "7", "--utc"]).transcript());
    let none = world.ichor(&["audit", "who", "--node", "10.9.9.9"]).ok().out;
    assert!(none.contains("2027") || none.contains("no cluster declares"), "{none}");
}

#[test]
fn all_of_a_person_is_told_in_its_order() {
    let world = World::logged_in();
    let told =
        world.ichor(&["audit", "what", "--user", "alice", "--since", "2026-11-01T00:00:00Z", "--limit", "3", "--utc"]);
    insta::assert_snapshot!("audit_what", told.transcript());
    let seen = world.fake.with(|state| state.seen.clone());
    for parts in [["/v1/audit/entries?", "person=alice", "since=20"], ["/v1/audit/calls?", "user=alice", "since=20"]] {
        assert!(seen.iter().any(|seen| parts.iter().all(|part| seen.contains(part))), "{parts:?} in {seen:?}");
    }
    world.ichor(&["audit", "what", "--user", "alice", "--until", "1h"]).ok();
    assert!(world.fake.with(|state| state.seen.last().cloned().unwrap()).contains("until=20"));
}

#[test]
fn filters_of_calls_reach_the_broker() {
    let world = World::logged_in();
    let filters =
        ["--cluster", "prod", "--node", "10.0.0.2", "--user", "alice", "--method", "Reboot", "--class", "escape"];
    let times = ["--since", "2026-01-01T00:00:00Z", "--until", "1h", "--limit", "7"];
    world.ichor(&[&["audit", "unexplained"][..], &filters, &times].concat()).ok();
    let is_calls = |seen: &&String| seen.contains("/v1/audit/calls?");
    let seen = world.fake.with(|state| state.seen.iter().rfind(is_calls).cloned().unwrap());
    for part in [
        "cluster=prod",
        "node=10.0.0.2",
        "user=alice",
        "method=Reboot",
        "class=escape",
        "since=2026-01-01T00%3A00%3A00Z",
        "until=20",
        "limit=7",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    world.ichor(&["audit", "who", "--node", "10.0.0.2", "--cluster", "prod", "--until", "1h", "--limit", "7"]).ok();
    let seen = world.fake.with(|state| state.seen.clone());
    let asked =
        |part: &&String| part.contains("/v1/audit/calls?") && part.contains("limit=7") && part.contains("until=20");
    assert!(seen.iter().filter(asked).count() > 1, "{seen:?}");
}

#[test]
fn an_empty_answer_about_a_cluster_that_is_not_declared_says_so() {
    let world = World::logged_in();
    let who =
        ["audit", "who", "--node", "10.0.0.2", "--since", "2028-01-01T00:00:00Z", "--until", "2028-01-02T00:00:00Z"];
    for command in [&who[..], &["audit", "unexplained"]] {
        for (cluster, is_told) in [("prd", true), ("prod", false)] {
            let ran = world.ichor(&[command, &["--cluster", cluster]].concat()).ok();
            let said = ran.err.contains("no cluster `prd` is declared; see `ichor clusters`");
            assert_eq!(said, is_told, "{}", ran.transcript());
        }
        assert_eq!(world.ichor(command).ok().err, "", "no cluster was named");
    }
    world.fake.with(|state| state.node_logs = true);
    let told = world.ichor(&["audit", "unexplained", "--cluster", "prd"]).ok();
    assert_eq!(told.err, "", "there is an answer: {}", told.transcript());
}

#[test]
fn times_are_shown_in_the_zone_of_this_machine() {
    let mut world = World::logged_in();
    world.set("TZ", "XYZ-5:30");
    let shown = world.ichor(&["audit", "log", "--limit", "1"]).ok().out;
    assert!(shown.contains("2027-01-15 13:30:04+05:30"), "{shown}");
    let shown = world.ichor(&["audit", "log", "--limit", "1", "--utc"]).ok().out;
    assert!(shown.contains("2027-01-15 08:00:04+00:00"), "{shown}");
    assert!(shown.contains("there may be more"), "{shown}");
    world.fake.with(|state| state.node_logs = true);
    let shown = world.ichor(&["audit", "unexplained", "--limit", "1"]).ok().out;
    assert!(shown.contains("2027-01-15 13:37:00+05:30") && shown.contains("there may be more"), "{shown}");
    let shown = world.ichor(&["audit", "unexplained", "--utc"]).ok().out;
    assert!(shown.contains("2027-01-15 08:07:00+00:00") && !shown.contains("there may be more"), "{shown}");
}

#[test]
fn what_is_not_told_is_said() {
    let world = World::logged_in();
    let who = ["audit", "who", "--node", "10.0.0.2", "--since", "30d", "--utc"];
    let cut = world.ichor(&[&who[..], &["--method", "Reboot", "--limit", "2"]].concat()).ok().out;
    assert!(cut.contains("no node log tells of a call of Reboot at 10.0.0.2"), "{cut}");
    assert!(cut.contains(": 1 at least\n") && cut.contains("there may be more"), "{cut}");
    world.fake.with(|state| state.taken = true);
    let taken = world.ichor(&who).ok().out;
    assert!(taken.contains("quota took calls that came up to 2027-01-15 08:00:00+00:00"), "{taken}");
    // a story of one's own, by who may not read what others did
    world.fake.with(|state| (state.taken, state.node_logs, state.own_calls_alone) = (false, true, true));
    let own = world.ichor(&["audit", "show", "7", "--utc"]).ok().out;
    assert!(own.contains("call  2027-01-15 08:06:00"), "{own}");
    assert!(world.fake.with(|state| state.seen.last().cloned().unwrap()).contains("user=me"));
}

#[test]
fn what_is_not_told_is_said_in_json_too() {
    let world = World::logged_in();
    let json = |command: &[&str]| world.ichor(&[&["audit"], command, &["-o", "json"]].concat()).ok().json();
    let more = |command: &[&str]| json(command)["more"].as_bool();
    let what = ["what", "--user", "alice", "--since", "2026-11-01T00:00:00Z"];
    assert_eq!((more(&["log", "--limit", "3"]), more(&["log", "--limit", "5"])), (Some(true), Some(false)));
    assert_eq!((more(&[&what[..], &["--limit", "3"]].concat()), more(&what)), (Some(true), Some(false)));
    assert_eq!(json(&what)["taken_until"], serde_json::Value::Null);
    world.fake.with(|state| state.node_logs = true);
    // two calls: by these there is more, whatever there is of entries
    assert_eq!((more(&["unexplained", "--limit", "1"]), more(&["unexplained"])), (Some(true), Some(false)));
    assert_eq!(json(&["unexplained"])["taken_until"], serde_json::Value::Null);

    world.fake.with(|state| state.taken = true);
    let late = ["what", "--user", "alice", "--since", "2027-02-01T00:00:00Z"];
    for (command, is_told) in [
        (&what[..], true),
        (&late, false),
        (&["unexplained"], true),
        (&["unexplained", "--since", "2027-01-15T08:00:00Z"], true),
        (&["unexplained", "--since", "2027-01-15T08:00:01Z"], false),
    ] {
        let told = json(command)["taken_until"].as_str().map(str::to_owned);
        assert_eq!(told.as_deref(), is_told.then_some("2027-01-15T08:00:00Z"), "{command:?}");
        let out = world.ichor(&[&["audit"], command, &["--utc"]].concat()).ok().out;
        let said = "quota took calls that came up to 2027-01-15 08:00:00+00:00: of that time calls may be missing";
        assert_eq!(out.contains(said), is_told, "{command:?}: {out}");
    }
}

#[test]
fn entries_are_exported_as_lines() {
    let world = World::logged_in();
    insta::assert_snapshot!("audit_export_csv", world.ichor(&["audit", "export", "--format", "csv"]).transcript());
    let lines = world.ichor(&["audit", "export", "--since", "24h"]).ok().out;
    let indexes: Vec<_> =
        lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["index"].clone()).collect();
    assert_eq!(indexes, [3, 5, 8]);
    assert!(world.fake.with(|state| state.seen.last().cloned().unwrap()).contains("since=20"));
    let grant = "00000000-0000-0000-0000-000000000007";
    let filters = ["--person", "alice", "--cluster", "prod", "--kind", "grant", "--grant", grant, "--until", "1h"];
    world.ichor(&[&["audit", "export"][..], &filters].concat()).ok();
    let seen = world.fake.with(|state| state.seen.last().cloned().unwrap());
    for part in ["person=alice", "cluster=prod", "kind=grant", &format!("grant={grant}"), "until=20"] {
        assert!(seen.contains(part), "{part} in {seen}");
    }

    let out = world.path("out.csv").display().to_string();
    let to = ["audit", "export", "--format", "csv", "--to", &out];
    world.ichor(&to).ok();
    assert_eq!(crate::world::mode(&world.path("out.csv")), 0o600);
    assert_eq!(world.text("out.csv").lines().count(), 4);
    let again = world.ichor(&to);
    assert_eq!(again.code, 1, "what is there is not written over");
    assert!(again.err.contains("exists, and is not written over"), "{}", again.err);
}

#[test]
fn an_export_that_fails_leaves_no_file() {
    let world = World::logged_in();
    world.fake.with(|state| state.refuse = Some(Problem::new(Code::Refused, "no")));
    let out = world.path("out.csv").display().to_string();
    let to = ["audit", "export", "--format", "csv", "--to", &out];
    assert_eq!(world.ichor(&to).code, 4);
    assert!(!world.path("out.csv").exists());
    let left = std::fs::read_dir(world.path("out.csv").parent().unwrap()).unwrap();
    let left: Vec<_> =
        left.map(|file| file.unwrap().file_name()).filter(|name| name.to_string_lossy().contains("export")).collect();
    assert!(left.is_empty(), "{left:?}");
    world.fake.with(|state| state.refuse = None);
    world.ichor(&to).ok();
    assert_eq!(world.text("out.csv").lines().count(), 4);
}

#[test]
fn the_log_is_followed_over_a_broken_connection_until_ctrl_c() {
    let world = World::logged_in();
    let mut child = world.command(&["audit", "log", "-f", "-o", "json"]).spawn().unwrap();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut indexes = Vec::new();
    while indexes.len() < 3 {
        let mut line = String::new();
        assert_ne!(std::io::BufRead::read_line(&mut reader, &mut line).unwrap(), 0, "it ended: {indexes:?}");
        indexes.push(serde_json::from_str::<serde_json::Value>(&line).unwrap()["index"].as_u64().unwrap());
    }
    assert_eq!(indexes, [3, 5, 8], "each once");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let seen = world.fake.with(|state| state.seen.clone());
    assert!(seen.iter().any(|seen| seen.contains("follow=true") && seen.contains("after=3")), "{seen:?}");
}

#[test]
fn whoever_follows_waits_where_the_broker_is_busy_or_ends_its_answers_at_once() {
    let world = World::logged_in();
    world.fake.with(|state| state.crowded = 1);
    let mut child = world.command(&["audit", "log", "-f", "-o", "json"]).spawn().unwrap();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut came = Vec::new();
    while came.len() < 4 {
        let mut line = String::new();
        assert_ne!(std::io::BufRead::read_line(&mut reader, &mut line).unwrap(), 0, "it ended: {came:?}");
        let index = serde_json::from_str::<serde_json::Value>(&line).unwrap()["index"].as_u64().unwrap();
        came.push((index, tokio::time::Instant::now()));
    }
    assert_eq!(came.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 5, 8, 9], "each once");
    let between = came[3].1.duration_since(came[2].1);
    assert!(between.as_millis() > 900, "asked again after {between:?}: what ends at once is not asked for at once");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn bodies_are_dropped_by_two() {
    let world = World::logged_in();
    let ask = world.ichor(&["audit", "drop", "--person", "bob", "--reason", "a request by law", "--utc"]);
    insta::assert_snapshot!("audit_drop_ask", ask.transcript());
    let id = "00000000-0000-0000-0000-00000000000b";
    assert_eq!(world.ichor(&["audit", "drop", "--approve", id]).code, 2, "nobody is here to ask");
    assert_eq!(world.fake.with(|state| state.approvals), 0);
    insta::assert_snapshot!(
        "audit_drop_approve",
        world.ichor(&["audit", "drop", "--approve", id, "--yes", "--utc"]).transcript()
    );
    assert_eq!(world.fake.with(|state| state.approvals), 2, "until there is no more");
    world.ichor(&["audit", "drop", "--before", "2026-01-01T00:00:00Z", "--reason", "a year is over"]).ok();
    world.fake.with(|state| state.seen.clear());
    world.ichor(&["audit", "drop", "--show", id]).ok();
    let seen = world.fake.with(|state| state.seen.clone());
    assert!(seen.iter().all(|seen| *seen == format!("GET /v1/audit/drops/{id}")), "it is only shown: {seen:?}");
    let asks = world.fake.with(|state| state.drops.clone());
    assert_eq!(asks.len(), 2);
    assert_eq!(asks[1].before, Some("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!((asks[0].person.as_deref(), asks[1].reason.as_str()), (Some("bob"), "a year is over"));
    for wrong in [&["--person", "bob"][..], &["--reason", "x"], &[], &["--approve", id, "--reason", "x"], &["--yes"]] {
        assert_eq!(world.ichor(&[&["audit", "drop"], wrong].concat()).code, 2, "{wrong:?}");
    }
    world.fake.assert_kept();
}

#[test]
fn clusters_say_what_and_why_not() {
    let world = World::logged_in();
    insta::assert_snapshot!("clusters", world.ichor(&["clusters"]).transcript());
    let ran = world.ichor(&["clusters", "--label", "env=staging", "-o", "json"]).ok();
    assert_eq!(ran.json()["clusters"].as_array().unwrap().len(), 1);
    let ran = world.ichor(&["clusters", "staging"]).ok();
    assert!(!ran.out.contains("prod"), "{}", ran.out);
    assert!(world.ichor(&["clusters", "--label", "env=none"]).ok().out.contains("no cluster is visible"));
}
