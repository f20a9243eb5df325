//! `talosconfig`.

use ichor_wire::problem::{Code, Problem};
use ichor_wire::role::Role;

use crate::fake::MakesKey;
use crate::world::{World, mode};

#[test]
fn a_context_is_written_renewed_and_left_alone() {
    let world = World::logged_in();
    insta::assert_snapshot!("talosconfig_written", world.ichor(&["talosconfig", "prod"]).transcript());
    let file = world.talosconfig();
    assert_eq!(file.current(), Some("prod"));
    let context = file.context("prod").unwrap();
    let ours = context.ours().unwrap();
    assert_eq!((ours.roles, ours.user.as_deref()), (vec![Role::Reader], Some("alice@example.com")));
    assert_eq!((context.endpoints, context.nodes), (vec!["10.0.0.2".to_owned()], vec!["10.0.0.5".to_owned()]));
    assert_eq!(mode(&world.path(".talos/config")), 0o600);
    let before = world.text(".talos/config");
    insta::assert_snapshot!("talosconfig_up_to_date", world.ichor(&["talosconfig", "prod"]).transcript());
    assert_eq!(world.text(".talos/config"), before);
    assert_eq!(world.fake.with(|state| state.asked.len()), 1, "one certificate serves");
    world.ichor(&["talosconfig", "prod", "--role", "operator"]).ok();
    assert_eq!(world.talosconfig().context("prod").unwrap().ours().unwrap().roles, [Role::Operator]);
    world.fake.assert_kept();
}

#[test]
fn a_certificate_near_its_end_is_renewed() {
    let world = World::logged_in();
    // It was 30 s old when it was made: with five seconds left, less than a fifth is.
    world.fake.with(|state| state.life = 5);
    world.ichor(&["talosconfig", "prod"]).ok();
    world.fake.with(|state| state.life = 3600);
    let ran = world.ichor(&["talosconfig", "prod"]).ok();
    assert!(ran.out.contains("renewed"), "{}", ran.out);
    assert_eq!(world.fake.with(|state| state.asked.len()), 2);
}

#[test]
fn a_key_that_the_cluster_made_is_used_and_said() {
    let world = World::logged_in();
    world.fake.with(|state| state.makes_key = Some(MakesKey::Right));
    world.ichor(&["talosconfig", "prod"]).ok();
    let context = world.talosconfig().context("prod").unwrap();
    assert_eq!(context.ours(), None, "the certificate cannot name its grant");
    let said = "prod: its key was made by the cluster, not on this machine";
    assert!(world.ichor(&["status"]).ok().out.contains(said));
    let status = world.ichor(&["status", "-o", "json"]).ok().json();
    assert_eq!(status["contexts"][0]["key_made_by"], "cluster");
    assert_eq!(status["contexts"][0]["grant"], "00000000-0000-0000-0000-000000000001");

    // it is known again as ours all the same: one serves, it is renewed without asking to replace, and logout tells of it
    let again = world.ichor(&["talosconfig", "prod"]).ok();
    assert!(!again.out.contains("PRIVATE"), "{}", again.out);
    assert_eq!(world.fake.with(|state| state.asked.len()), 1, "one certificate serves");
    let renewed = world.ichor(&["talosconfig", "prod", "--ttl", "15m"]).ok();
    assert!(renewed.out.contains("renewed"), "{}", renewed.out);
    // a certificate that somebody else put there is not
    let text = world.text(".talos/config");
    let foreign = world.fake.with(|state| std::mem::take(&mut state.makes_key));
    world.ichor(&["talosconfig", "prod", "--ttl", "16m"]).ok();
    let own = world.ichor(&["status"]).ok().out;
    assert!(!own.contains(said), "{own}");
    world.write(".talos/config", &text);
    let refused = world.ichor(&["talosconfig", "prod"]);
    assert!(refused.err.contains("was not written by ichor"), "{}", refused.transcript());
    assert_eq!(foreign, Some(MakesKey::Right));
    world.fake.assert_kept();
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused() {
    for makes in [MakesKey::Another, MakesKey::Broken] {
        let world = World::logged_in();
        world.fake.with(|state| state.makes_key = Some(makes));
        let refused = world.ichor(&["talosconfig", "prod"]);
        assert!(refused.err.contains("is not the one asked for"), "{makes:?}: {}", refused.transcript());
        assert!(!world.path(".talos/config").exists(), "nothing is written");
    }
}

#[test]
fn what_is_asked_reaches_the_broker() {
    let world = World::logged_in();
    world.ichor(&["talosconfig", "prod", "--role", "os:operator,reader", "--ttl", "15m", "--reason", "INC-42"]).ok();
    let asked = world.fake.with(|state| state.asked.remove(0));
    assert_eq!(asked.roles, ["os:operator", "os:reader"]);
    assert_eq!((asked.ttl, asked.reason.as_deref()), (Some(900), Some("INC-42")));
    assert!(asked.csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    assert!(!asked.csr.contains("PRIVATE"));
}

#[test]
fn a_name_a_file_and_the_current_context_can_be_chosen() {
    let world = World::logged_in();
    world.write("team.yaml", "# ours\ncontext: old\ncontexts:\n  old: {}\n");
    let file = world.path("team.yaml").display().to_string();
    world.ichor(&["talosconfig", "prod", "--context", "p", "--talosconfig", &file]).ok();
    assert!(
        world.text("team.yaml").starts_with("# ours\ncontext: old\ncontexts:\n  old: {}\n  p:\n"),
        "{}",
        world.text("team.yaml")
    );
    world.ichor(&["talosconfig", "prod", "--context", "p", "--talosconfig", &file, "--set-current"]).ok();
    assert!(world.text("team.yaml").starts_with("# ours\ncontext: p\n"));
    assert!(!world.path(".talos/config").exists());
}

#[test]
fn a_time_that_policy_shortened_is_said() {
    let world = World::logged_in();
    world.fake.with(|state| state.max_life = Some(8 * 3600));
    insta::assert_snapshot!(
        "talosconfig_shortened",
        world.ichor(&["talosconfig", "prod", "--ttl", "48h"]).transcript()
    );
    let json = world.ichor(&["talosconfig", "prod", "--ttl", "48h", "-o", "json"]).ok().json();
    assert_eq!(json["contexts"][0]["shortened"]["asked"], 172_800);
    for granted in ["8h", "15m"] {
        let ran = world.ichor(&["talosconfig", "prod", "--ttl", granted]).ok();
        assert!(!ran.out.contains("shortened"), "{}", ran.out);
    }
    let ran = world.ichor(&["exec", "prod", "--ttl", "48h", "--", "true"]).ok();
    assert!(ran.err.contains("policy shortened 48h to 8h"), "{}", ran.err);
}

#[test]
fn a_reused_certificate_is_said_and_never_outlives_the_time_asked_for() {
    let world = World::logged_in();
    world.ichor(&["exec", "prod", "--", "true"]).ok();
    // The one that `exec` keeps serves here too.
    insta::assert_snapshot!("talosconfig_reused", world.ichor(&["talosconfig", "prod"]).transcript());
    let shown = |arguments: &[&str]| {
        let json = world.ichor(&[&["talosconfig", "prod", "-o", "json"], arguments].concat()).ok().json();
        let end = world.talosconfig().context("prod").unwrap().ours().unwrap().not_after;
        (json["contexts"][0]["reused"].as_bool().unwrap(), end)
    };
    let (reused, long) = shown(&[]);
    assert!(reused);
    let (reused, short) = shown(&["--ttl", "15m"]);
    assert!(!reused && short < long, "{short} {long}");
    assert_eq!(shown(&[]), (true, short), "what serves from now on is the new one");
    assert_eq!(world.fake.with(|state| state.asked.len()), 2);
}

#[test]
fn whose_context_is_current_is_said_with_what_to_type() {
    let world = World::logged_in();
    world.write(".talos/config", "context: realprod\ncontexts:\n  realprod: {crt: bm9uZQ==}\n");
    insta::assert_snapshot!("talosconfig_elsewhere", world.ichor(&["talosconfig", "prod"]).transcript());
    let several = world.ichor(&["talosconfig", "prod", "staging"]).ok().out;
    let says = "the current context is `realprod`: use `talosctl --context NAME …`, or `talosctl config context NAME`";
    assert!(several.contains(says), "{several}");
    let line = world.ichor(&["talosconfig", "prod", "-o", "json"]).ok().json();
    assert_eq!(line["current_context"], "realprod");
    assert_eq!(line["contexts"][0]["roles"][0], "os:reader");
    let moved = world.ichor(&["talosconfig", "prod", "--set-current"]).ok().out;
    assert!(!moved.contains("the current context"), "{moved}");
    assert_eq!(world.ichor(&["talosconfig", "prod", "-o", "json"]).ok().json()["current_context"], "prod");
    assert!(!world.ichor(&["talosconfig", "prod"]).ok().out.contains("the current context"));
}

#[test]
fn talosctls_own_variables_are_heeded() {
    let mut world = World::logged_in();
    let home = world.path("th").display().to_string();
    world.set("TALOS_HOME", &home);
    world.ichor(&["talosconfig", "prod"]).ok();
    assert!(world.path("th/config").is_file());
    let file = world.path("tc").display().to_string();
    world.set("TALOSCONFIG", &file);
    world.ichor(&["talosconfig", "prod"]).ok();
    assert!(world.path("tc").is_file());
}

#[test]
fn somebody_elses_context_is_kept_unless_replaced() {
    let world = World::logged_in();
    let theirs = "context: prod\ncontexts:\n  prod:\n    endpoints: [1.2.3.4]\n    crt: bm9uZQ==\n";
    world.write(".talos/config", theirs);
    insta::assert_snapshot!("talosconfig_foreign", world.ichor(&["talosconfig", "prod"]).transcript());
    assert_eq!(world.text(".talos/config"), theirs);
    assert_eq!(world.fake.with(|state| state.asked.len()), 0, "nothing was granted for nothing");
    insta::assert_snapshot!("talosconfig_replaced", world.ichor(&["talosconfig", "prod", "--replace"]).transcript());
    assert_eq!(world.talosconfig().context("prod").unwrap().endpoints, ["10.0.0.2"]);
}

#[test]
fn a_malformed_file_is_refused_before_anyone_is_asked() {
    let world = World::logged_in();
    world.write(".talos/config", "contexts:\n  a: {}\n  a: {}\n");
    insta::assert_snapshot!("talosconfig_malformed", world.ichor(&["talosconfig", "prod"]).transcript());
    assert_eq!(world.text(".talos/config"), "contexts:\n  a: {}\n  a: {}\n");
    assert_eq!(world.fake.with(|state| state.asked.len()), 0);
}

#[test]
fn a_dry_run_asks_for_nothing_and_writes_nothing() {
    let world = World::logged_in();
    insta::assert_snapshot!(
        "talosconfig_dry_run",
        world.ichor(&["talosconfig", "prod", "staging", "--dry-run"]).transcript()
    );
    assert!(!world.path(".talos/config").exists());
    assert_eq!(world.fake.with(|state| state.asked.len()), 0);
    let asked = |which: &str| {
        let json = world.ichor(&["talosconfig", which, "--dry-run", "-o", "json"]).ok().json();
        assert_eq!(json["contexts"][0]["outcome"], "added");
        json["contexts"][0]["asked"].clone()
    };
    assert_eq!(asked("prod"), false);
    assert_eq!(asked("--all"), true, "these are what the broker says one may hold");
    let listed = world.ichor(&["talosconfig", "--all", "--dry-run"]).ok().out;
    assert!(listed.contains("would write context prod in ") && !listed.contains("not asked"), "{listed}");
    // What is there and good needs nobody's answer, and what was done is no plan.
    let done = world.ichor(&["talosconfig", "prod", "-o", "json"]).ok().json();
    assert!(done["contexts"][0].get("asked").is_none(), "{done}");
    let there = world.ichor(&["talosconfig", "prod", "--dry-run"]).ok().out;
    assert!(there.contains("✓ context prod is up to date"), "{there}");
}

#[test]
fn many_clusters_at_once() {
    let world = World::logged_in();
    world.ichor(&["talosconfig", "--all"]).ok();
    assert_eq!(world.talosconfig().names().collect::<Vec<_>>(), ["prod", "staging"]);
    let ran = world.ichor(&["talosconfig", "--label", "env=staging", "--role", "operator", "-o", "json"]).ok();
    assert_eq!(ran.json()["contexts"][0]["cluster"], "staging");
    // Only where the role may be held.
    let ran = world.ichor(&["talosconfig", "--all", "--role", "operator", "-o", "json"]).ok();
    assert_eq!(ran.json()["contexts"].as_array().unwrap().len(), 1);
    let ran = world.ichor(&["talosconfig", "--label", "env=nowhere"]).ok();
    assert!(ran.out.contains("no cluster is there for you"), "{}", ran.out);
}

#[test]
fn one_of_several_that_fails_does_not_stop_the_others() {
    let world = World::logged_in();
    world.write(".talos/config", "contexts:\n  prod: {crt: bm9uZQ==}\n");
    let ran = world.ichor(&["talosconfig", "prod", "staging"]);
    insta::assert_snapshot!("talosconfig_partly", ran.transcript());
    assert!(world.talosconfig().contains("staging"));
}

#[test]
fn a_refusal_says_who_decided_and_what_helps() {
    let world = World::logged_in();
    let mut refusal = Problem::new(Code::Refused, "os:admin on prod needs a fresh login");
    refusal.help = vec!["sign in again with your second factor: `ichor login --fresh --acr mfa`".into()];
    refusal.policies = vec!["admin-prod".into()];
    world.fake.with(|state| state.refuse = Some(refusal));
    insta::assert_snapshot!(
        "talosconfig_refused",
        world.ichor(&["talosconfig", "prod", "--role", "admin"]).transcript()
    );
    insta::assert_snapshot!(
        "talosconfig_refused_json",
        world.ichor(&["-o", "json", "talosconfig", "prod", "--role", "admin"]).transcript()
    );
}

#[test]
fn a_certificate_that_was_not_asked_for_is_not_written() {
    let world = World::logged_in();
    // The answer's end is not the certificate's: no honest broker says that.
    world.fake.with(|state| state.lie = true);
    let ran = world.ichor(&["talosconfig", "prod"]);
    assert!(ran.err.contains("not the one asked for"), "{}", ran.err);
    assert!(!world.path(".talos/config").exists());
}
