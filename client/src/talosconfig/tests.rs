use std::os::unix::fs::MetadataExt;

use ichor_wire::api::{CertificateAnswer, Receipt};
use ichor_wire::role::Role;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::environment::Environment;

const BROKER: &str = "https://broker.example";

struct World {
    root: tempfile::TempDir,
    environment: Environment,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let environment = Environment::isolated(root.path());
        Self { root, environment }
    }

    fn target(&self, context: &str) -> Target {
        Target { path: self.root.path().join("config"), context: context.into(), set_current: false, replace: false }
    }

    fn write(&self, target: &Target, held: &Held) -> Result<Outcome, Error> {
        Written::update(&self.environment, |records| write(target, &wish(), BROKER, held, records, at(0)))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.root.path().join("config")).unwrap()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn wish() -> Wish {
    Wish { cluster: "prod".into(), ..Wish::default() }
}

/// A certificate for os:reader would need two Organization values, which rcgen cannot write; without roles it is ours too.
fn held(endpoints: &[&str]) -> Held {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "grant:1");
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let answer = CertificateAnswer {
        cluster: "prod".into(),
        grant_id: Uuid::nil(),
        certificate,
        issuing_ca: None,
        private_key: None,
        ca: "CA".into(),
        endpoints: endpoints.iter().map(ToString::to_string).collect(),
        nodes: vec!["10.0.0.5".into()],
        roles: vec![Role::Reader],
        not_before: at(0),
        not_after: at(3600),
        user: "alice".into(),
        receipt: Receipt::pending(0, &[0; 32]),
    };
    Held { answer, key: Zeroizing::new("KEY".into()), key_made_by_cluster: false }
}

#[test]
fn the_first_write_makes_a_private_file_with_a_current_context() {
    let world = World::new();
    assert_eq!(world.write(&world.target("prod"), &held(&["a"])).unwrap(), Outcome::Added);
    let file = read(&world.root.path().join("config")).unwrap();
    assert_eq!(file.current(), Some("prod"));
    assert_eq!(file.context("prod").unwrap().nodes, ["10.0.0.5"]);
    assert_eq!(std::fs::metadata(world.root.path().join("config")).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn the_current_context_stays_unless_asked() {
    let world = World::new();
    std::fs::write(world.root.path().join("config"), "context: mine\ncontexts:\n  mine: {}\n").unwrap();
    world.write(&world.target("prod"), &held(&["a"])).unwrap();
    assert!(world.text().starts_with("context: mine\n"));
    world.write(&Target { set_current: true, ..world.target("prod") }, &held(&["a"])).unwrap();
    assert!(world.text().starts_with("context: prod\n"));
}

#[test]
fn promise_7_a_context_of_someone_else_is_not_replaced_unasked() {
    let world = World::new();
    let theirs = "contexts:\n  prod:\n    crt: bm9uZQ==\n    endpoints: [x]\n";
    std::fs::write(world.root.path().join("config"), theirs).unwrap();
    let error = world.write(&world.target("prod"), &held(&["a"])).unwrap_err();
    assert!(error.next_steps()[0].contains("--context prod-ichor"), "{:?}", error.next_steps());
    assert_eq!(world.text(), theirs);
    let replaced = world.write(&Target { replace: true, ..world.target("prod") }, &held(&["a"])).unwrap();
    assert_eq!(replaced, Outcome::Replaced);
    assert_eq!(read(&world.root.path().join("config")).unwrap().context("prod").unwrap().endpoints, ["a"]);
}

#[test]
fn a_context_of_another_cluster_is_not_replaced_unasked() {
    let world = World::new();
    world.write(&world.target("prod"), &held(&["a"])).unwrap();
    let other = Wish { cluster: "staging".into(), ..Wish::default() };
    let records = Written::load(&world.environment).unwrap();
    let error = plan(&world.target("prod"), &other, BROKER, &records, at(0)).unwrap_err();
    assert!(error.to_string().contains("`prod`"), "{error}");
    plan(&world.target("prod"), &wish(), "https://other.example", &records, at(0)).unwrap_err();
}

#[test]
fn another_brokers_context_is_known_however_its_file_is_named_and_one_of_which_nothing_is_known_is_kept() {
    let world = World::new();
    world.write(&world.target("prod"), &held(&["a"])).unwrap();
    let root = world.root.path();
    std::fs::create_dir(root.join("folder")).unwrap();
    std::os::unix::fs::symlink("config", root.join("link")).unwrap();
    std::os::unix::fs::symlink(".", root.join("here")).unwrap();
    for name in ["link", "here/config", "folder/../config"] {
        let target = Target { path: root.join(name), ..world.target("prod") };
        let records = Written::load(&world.environment).unwrap();
        let error = plan(&target, &wish(), "https://other.example", &records, at(0)).unwrap_err();
        assert!(error.to_string().contains(BROKER), "{name}: {error}");
        assert_eq!(world.write(&target, &held(&["a"])).unwrap(), Outcome::Renewed, "{name}");
        assert_eq!(Written::load(&world.environment).unwrap().all().len(), 1, "{name}");
    }
    std::fs::copy(root.join("config"), root.join("copied")).unwrap();
    let copied = Target { path: root.join("copied"), ..world.target("prod") };
    let error = world.write(&copied, &held(&["a"])).unwrap_err();
    assert!(error.to_string().contains("was not written down here"), "{error}");
    assert_eq!(world.write(&Target { replace: true, ..copied }, &held(&["a"])).unwrap(), Outcome::Replaced);
}

#[test]
fn endpoints_follow_the_broker_until_a_person_edits_them() {
    let world = World::new();
    let endpoints = || read(&world.root.path().join("config")).unwrap().context("prod").unwrap().endpoints;
    world.write(&world.target("prod"), &held(&["a"])).unwrap();
    assert_eq!(world.write(&world.target("prod"), &held(&["b"])).unwrap(), Outcome::Renewed);
    assert_eq!(endpoints(), ["b"]);
    std::fs::write(world.root.path().join("config"), world.text().replace("- b", "- mine")).unwrap();
    world.write(&world.target("prod"), &held(&["c"])).unwrap();
    assert_eq!(endpoints(), ["mine"]);
    world.write(&world.target("prod"), &held(&["d"])).unwrap();
    assert_eq!(endpoints(), ["mine"], "and stays the person's");
}

#[test]
fn a_malformed_file_is_left_as_it_is() {
    let world = World::new();
    std::fs::write(world.root.path().join("config"), "contexts:\n  a: {}\n  a: {}\n").unwrap();
    let error = world.write(&world.target("prod"), &held(&["a"])).unwrap_err();
    assert!(error.to_string().contains("line 3, column 3"), "{error}");
    assert_eq!(world.text(), "contexts:\n  a: {}\n  a: {}\n");
}

#[test]
fn a_symbolic_link_stays_one() {
    let world = World::new();
    std::fs::create_dir(world.root.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real/talosconfig", world.root.path().join("config")).unwrap();
    world.write(&world.target("prod"), &held(&["a"])).unwrap();
    assert!(std::fs::symlink_metadata(world.root.path().join("config")).unwrap().is_symlink());
    assert!(world.root.path().join("real/talosconfig").is_file());
}

#[test]
fn twenty_writers_leave_twenty_contexts() {
    let world = World::new();
    std::thread::scope(|scope| {
        for number in 0..20 {
            let world = &world;
            scope.spawn(move || world.write(&world.target(&format!("c{number}")), &held(&["a"])).unwrap());
        }
    });
    assert_eq!(read(&world.root.path().join("config")).unwrap().names().count(), 20);
    assert_eq!(Written::load(&world.environment).unwrap().all().len(), 20);
}

/// Two people, or one with two homes, and one file: what the records' own lock cannot order, the file's lock does.
#[test]
fn writers_with_nothing_else_in_common_lose_nothing_of_each_other() {
    const ROUNDS: usize = 20;
    let homes = [World::new(), World::new()];
    let path = homes[0].root.path().join("config");
    let both_ready = std::sync::Barrier::new(homes.len());
    let name = |writer: usize, round: usize| format!("writer-{writer}-{round}");
    std::thread::scope(|threads| {
        for (writer, home) in homes.iter().enumerate() {
            let (path, both_ready) = (&path, &both_ready);
            threads.spawn(move || {
                let held = held(&["a"]);
                for round in 0..ROUNDS {
                    both_ready.wait();
                    let target = Target { path: path.clone(), ..home.target(&name(writer, round)) };
                    // Kept for later: a writer that gave up here would leave the other waiting.
                    let _ = home.write(&target, &held);
                }
            });
        }
    });
    let file = read(&path).unwrap();
    for round in 0..ROUNDS {
        for writer in 0..homes.len() {
            assert!(file.contains(&name(writer, round)), "writer {writer} lost what it wrote in round {round}");
        }
    }
}
