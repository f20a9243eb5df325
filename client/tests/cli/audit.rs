//! `audit log`, `clusters`.

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
fn clusters_say_what_and_why_not() {
    let world = World::logged_in();
    insta::assert_snapshot!("clusters", world.ichor(&["clusters"]).transcript());
    let ran = world.ichor(&["clusters", "--label", "env=staging", "-o", "json"]).ok();
    assert_eq!(ran.json()["clusters"].as_array().unwrap().len(), 1);
    let ran = world.ichor(&["clusters", "staging"]).ok();
    assert!(!ran.out.contains("prod"), "{}", ran.out);
    assert!(world.ichor(&["clusters", "--label", "env=none"]).ok().out.contains("no cluster is visible"));
}
