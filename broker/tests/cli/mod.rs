//! `ichor-broker` as its operator types it: transcripts.

mod custody;
mod help;
mod store;
mod world;

use ichor_standins::provider::{Client, Provider, ProviderOptions};

use world::World;

/// A provider that is not there.
const NOWHERE: &str = "http://127.0.0.1:1";

#[test]
fn init_makes_a_folder_and_says_what_comes_next() {
    let world = World::new();
    insta::assert_snapshot!("init", world.run(&["init", "broker", "--insecure-identity-beside"]));
    insta::assert_snapshot!("init_again", world.run(&["init", "broker", "--insecure-identity-beside"]));
    insta::assert_snapshot!("init_without_a_passphrase", world.run(&["init", "other"]));
    assert!(!std::fs::exists(world.path("other")).unwrap(), "a failure leaves nothing half-made");
}

#[test]
fn init_tells_root_how_to_give_the_folder_away() {
    let output = World::new().output(&["init", "broker", "--insecure-identity-beside"]);
    let told = String::from_utf8(output.stdout).unwrap().contains("chown -R USER:");
    assert_eq!(told, nix::unistd::geteuid().is_root());
}

#[test]
fn a_folder_that_is_not_there_says_what_to_do() {
    let world = World::new();
    insta::assert_snapshot!("no_folder", world.run(&["check", "--dir", "broker"]));
    insta::assert_snapshot!("no_folder_to_serve", world.run(&["serve", "--dir", "broker"]));
}

#[test]
fn a_cluster_is_declared_shown_and_listed() {
    let world = World::with_folder(NOWHERE);
    let at = ["--dir", "broker"];
    let run = |arguments: &[&str]| world.run(&[arguments, &at].concat());
    let add = ["cluster", "add", "prod", "--from", "operator", "--label", "env=prod", "--reason", "first cluster"];
    insta::assert_snapshot!("cluster_list_of_none", run(&["cluster", "list"]));
    insta::assert_snapshot!("cluster_add_print", run(&[&add[..], &["--print"]].concat()));
    assert!(run(&["cluster", "list"]).contains("no clusters yet"), "printed is not written");
    insta::assert_snapshot!("cluster_add", run(&add));
    insta::assert_snapshot!("cluster_add_again", run(&add));
    insta::assert_snapshot!("cluster_list", run(&["cluster", "list"]));
    insta::assert_snapshot!("cluster_show", run(&["cluster", "show", "prod"]));
    insta::assert_snapshot!("cluster_show_unknown", run(&["cluster", "show", "prdo"]));
    let lost = ["cluster", "add", "prod", "--from", "nowhere", "--reason", "x"];
    insta::assert_snapshot!("cluster_add_without_a_file", run(&lost));
    let unlabelled = ["cluster", "add", "lab", "--from", "operator", "--label", "region=eu", "--reason", "a lab"];
    insta::assert_snapshot!("cluster_add_without_a_label", run(&unlabelled));
    let labels: String =
        check(&world).lines().filter(|line| line.contains("labels ")).map(|l| format!("{l}\n")).collect();
    insta::assert_snapshot!("check_labels", labels);
}

#[test]
fn a_ca_is_made_shown_and_patched_in_and_out() {
    let world = World::with_folder(NOWHERE);
    let at = ["--dir", "broker"];
    let run = |arguments: &[&str]| world.run(&[arguments, &at].concat());
    let create = ["ca", "create", "prod", "--reason", "dedicated client CA"];
    insta::assert_snapshot!("ca_create_of_no_cluster", run(&create));
    run(&["cluster", "add", "prod", "--from", "operator", "--reason", "first cluster"]);
    insta::assert_snapshot!("ca_show_of_none", run(&["ca", "show"]));
    insta::assert_snapshot!("ca_create_without_a_reason", run(&["ca", "create", "prod", "--reason", " "]));
    insta::assert_snapshot!("ca_create", run(&create));
    insta::assert_snapshot!("ca_create_again", run(&create));
    insta::assert_snapshot!("ca_show", run(&["ca", "show", "prod"]));
    insta::assert_snapshot!("ca_patch", run(&["ca", "patch", "prod"]));

    let crt = world.raw(&["ca", "patch", "prod", "--dir", "broker"]).replace("machine:\n", "");
    world.write("node.yaml", &format!("version: v1alpha1\nmachine:\n  type: worker\n{crt}"));
    let patch = ["ca", "patch", "prod", "--machine-config", "node.yaml"];
    insta::assert_snapshot!("ca_patch_that_is_there", run(&patch));
    // what is no machine config says nothing of what the node accepts, so nothing is printed that could list the CA twice
    world.write("node.yaml", "node: 10.0.0.1\nmetadata:\n  type: MachineConfigs\nspec: |\n  version: v1alpha1\n");
    insta::assert_snapshot!("ca_patch_of_no_machine_config", run(&patch));
    world.write("node.yaml", &format!("version: v1alpha1\nmachine:\n  type: worker\n{crt}"));
    let removal = ["ca", "removal-patch", "prod", "--machine-config", "node.yaml"];
    insta::assert_snapshot!("ca_removal_patch", run(&removal));
    insta::assert_snapshot!("audit_verify", run(&["audit", "verify"]));
}

#[test]
fn the_printed_line_patches_a_node_once_and_only_when_its_config_was_read() {
    let world = World::with_folder(NOWHERE);
    world.run(&["cluster", "add", "prod", "--from", "operator", "--reason", "first cluster", "--dir", "broker"]);
    let told = world.raw(&["ca", "create", "prod", "--reason", "dedicated client CA", "--dir", "broker"]);
    let script: String =
        told.lines().skip_while(|line| !line.contains("crt=")).take(6).map(|l| format!("{l}\n")).collect();
    assert!(script.trim_end().ends_with("esac"), "{script}");
    let patch = world.raw(&["ca", "patch", "prod", "--dir", "broker"]);
    world.write("accepted-ca.yaml", &patch);
    // a talosctl that reads node.yaml, if it is there, and notes what it patches
    let stand_in = "talosctl() { case $3 in get) cat node.yaml ;; patch) echo patched ;; esac; }\n";
    let run = || {
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", &format!("{stand_in}{script}")]).current_dir(world.path("."));
        String::from_utf8(shell.output().unwrap().stdout).unwrap()
    };
    assert_eq!(run(), "", "the config could not be read");
    world.write("node.yaml", "");
    assert_eq!(run(), "", "there was no config");
    world.write("node.yaml", "version: v1alpha1\nmachine:\n  type: worker\n");
    assert_eq!(run(), "patched\n");
    world.write("node.yaml", &format!("version: v1alpha1\n{patch}"));
    assert_eq!(run(), "NODE accepts it already\n");
    world.write("accepted-ca.yaml", "");
    assert_eq!(run(), "", "there is no patch");
}

#[test]
fn every_act_needs_a_reason_that_can_be_read() {
    let world = World::with_folder(NOWHERE);
    for reason in ["", " ", "\u{200b}", "\u{2800}", "--", "a\nb"] {
        for act in [
            vec!["cluster", "add", "prod", "--from", "operator"],
            vec!["ca", "create", "prod"],
            vec!["ca", "import", "prod", "--from", "operator"],
            vec!["custody", "reseal"],
            vec!["custody", "backup", "vault.age"],
            vec!["custody", "restore", "vault.age"],
            vec!["custody", "restore", "vault.age", "--drill"],
        ] {
            let reason = format!("--reason={reason}");
            let said = world.run(&[&act[..], &[&reason, "--dir", "broker"]].concat());
            assert!(said.contains("invalid value") && said.contains("it goes into the audit"), "{said}");
        }
    }
    assert!(world.run(&["cluster", "list", "--dir", "broker"]).contains("no clusters yet"));
}

#[test]
fn check_names_how_groups_are_asked_again() {
    let world = World::with_folder(NOWHERE);
    let config = world.read("broker/config.toml");
    for (lines, said) in [
        ("", "recheck by refresh token"),
        ("recheck = \"userinfo\"\ngroups_from = \"userinfo\"\n", "recheck at userinfo"),
        ("recheck = \"login-only\"\n", "recheck never"),
    ] {
        world.write("broker/config.toml", &format!("{config}{lines}"));
        let checked = check(&world);
        assert!(checked.contains(&format!("provider corp, {said}")), "{checked}");
    }
}

#[test]
fn the_policies_are_tested_and_explained() {
    let world = World::with_folder(NOWHERE);
    let at = ["--dir", "broker"];
    let run = |arguments: &[&str]| world.run(&[arguments, &at].concat());
    run(&["cluster", "add", "prod", "--from", "operator", "--label", "env=prod", "--reason", "first cluster"]);
    insta::assert_snapshot!("policy_test", run(&["policy", "test"]));
    let explain = |more: &[&str]| run(&[&["policy", "explain", "prod"], more].concat());
    insta::assert_snapshot!("policy_explain_permitted", explain(&["--group", "corp/talos-users"]));
    insta::assert_snapshot!("policy_explain_refused", explain(&["--group", "corp/talos-users", "--role", "os:admin"]));
    insta::assert_snapshot!("policy_explain_nobody", explain(&[]));
    let short = explain(&["--group", "corp/talos-users", "--role", "admin"]);
    assert!(short.contains("refused: no policy permits os:admin"), "{short}");
    insta::assert_snapshot!("policy_explain_unknown_role", explain(&["--role", "os:impersonator"]));
    world.write("broker/policies/broken.cedar", "permit (principal, action, resource) when { context.nope };\n");
    insta::assert_snapshot!("policy_test_broken", run(&["policy", "test"]));
}

#[test]
fn check_names_what_a_provider_is_not_asked_for() {
    let world = World::with_folder(NOWHERE);
    let config = world.read("broker/config.toml");
    world.write("broker/config.toml", &format!("{config}acr_values = [\"mfa\"]\n"));
    let checked = check(&world);
    assert!(checked.contains("logins corp: no `max_age`") && !checked.contains("`acr_values`"), "{checked}");
    world.write("broker/config.toml", &format!("{config}acr_values = [\"mfa\"]\nmax_age = \"12h\"\n"));
    assert!(!check(&world).contains("logins corp"), "nothing is missing");
}

#[test]
fn check_says_how_a_credential_is_given() {
    let world = World::with_folder(NOWHERE);
    let config = world.read("broker/config.toml");
    assert!(config.contains("identity = \"insecure-beside\""));
    world.write("broker/config.toml", &config.replace("identity = \"insecure-beside\"", "identity = \"credential\""));
    insta::assert_snapshot!("check_without_the_credential", check(&world));
}

#[test]
fn check_has_a_line_for_each_thing() {
    let world = World::with_folder(NOWHERE);
    insta::assert_snapshot!("check_provider_gone", check(&world));
    world.write("broker/config.toml", &world.read("broker/config.toml").replace("\"corp\"", "\"okta\""));
    let said = check(&world);
    assert!(said.contains("warn  policies: ") && said.contains("no provider has the alias `corp`"), "{said}");
    world.write("broker/config.toml", &world.read("broker/config.toml").replace("[server]", "[sever]"));
    insta::assert_snapshot!("check_unknown_key", check(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_of_a_folder_that_can_serve() {
    ichor_standins::install_tls_provider();
    let client = Client::public("ichor", ["http://127.0.0.1:8443/oauth/callback/corp"]);
    let provider =
        Provider::start(ProviderOptions { clients: vec![client], ..ProviderOptions::default() }).await.unwrap();
    let issuer = provider.issuer().to_owned();
    let said = tokio::task::spawn_blocking(move || {
        let world = World::with_folder(&issuer);
        world.run(&["cluster", "add", "prod", "--from", "operator", "--reason", "first cluster", "--dir", "broker"]);
        world.run(&["ca", "create", "prod", "--reason", "dedicated client CA", "--dir", "broker"]);
        check(&world)
    });
    insta::assert_snapshot!("check", said.await.unwrap());
}

#[test]
fn without_a_running_broker_there_is_nothing_to_reload() {
    let world = World::with_folder(NOWHERE);
    insta::assert_snapshot!("reload_without_a_broker", world.run(&["reload", "--dir", "broker"]));
}

#[test]
fn a_wrong_command_line_is_told_from_a_failure() {
    let world = World::new();
    insta::assert_snapshot!("usage", world.run(&["ca", "create", "prod"]));
}

/// Without the line on memory, which tells of this host's limits and swap.
fn check(world: &World) -> String {
    let said = world.run(&["check", "--dir", "broker"]);
    said.split_inclusive('\n').filter(|line| !line.contains("memory: ")).collect()
}
