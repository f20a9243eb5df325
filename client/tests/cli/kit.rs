//! `ichor kit` on a machine that has the files and nothing else: no broker, no configuration.

use ichor_client::{Clock, Environment};
use ichor_wire::api::KitLabel;
use nix::sys::prctl::get_dumpable;
use nix::sys::resource::{Resource, getrlimit};

use crate::terminal;
use crate::world::{Ran, World};

/// A home with the committed kit, its shares as files, and no broker.
fn world() -> World {
    let mut world = World::new();
    world.unset("ICHOR_BROKER");
    world.write("kit-7.toml", include_str!("../../../tests/vectors/kit/v1/kit.toml"));
    for (share, index) in include_str!("../../../tests/vectors/kit/v1/shares.txt").lines().zip(1..) {
        world.write(&format!("share-{index}"), share);
    }
    world
}

/// A time at which the committed kit is good.
const NOW: &str = "2026-11-28T12:00:00.123456Z";

/// What an opener says besides.
const ADMIN: [&str; 6] = ["--name", "ada", "--reason", "INC-42", "--role", "admin"];

fn showing(now: &'static str) -> Clock {
    Clock::showing(move || now.parse().unwrap())
}

/// `ichor kit open` at this time, where nobody sits at a terminal; the talosconfig beside the kit.
fn opening(world: &World, kit: &str, shares: &[&str], now: &'static str, more: &[&str]) -> Ran {
    let path = |name: &str| world.path(name).display().to_string();
    let mut arguments = vec!["kit".to_owned(), "open".to_owned(), path(kit)];
    for share in shares {
        arguments.extend(["--share".to_owned(), path(share)]);
    }
    arguments.extend(more.iter().map(|text| (*text).to_owned()));
    if !more.contains(&"--talosconfig") {
        arguments.extend(["--talosconfig".to_owned(), path("kit-7.talosconfig")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = terminal::without_one(Environment::isolated(&world.path("")), showing(now), &arguments);
    world.ran(&arguments, output)
}

const CHALLENGE: &str = "0101010101010101010101010101010101010101010101010101010101010101";

#[test]
fn the_help_of_every_command() {
    let world = world();
    insta::assert_snapshot!("help_kit", world.ichor(&["kit", "--help"]).transcript());
    for command in ["show", "open", "prove", "report"] {
        insta::assert_snapshot!(format!("help_kit_{command}"), world.ichor(&["kit", command, "--help"]).transcript());
    }
}

#[test]
fn a_kit_says_what_it_is_and_what_is_wrong() {
    let world = world();
    insta::assert_snapshot!(
        "kit_show",
        world.ichor(&["kit", "show", "kit-7.toml"]).transcript().replace(" (over)", "")
    );
    world.write("kit-7-static.toml", include_str!("../../../tests/vectors/kit/v2/kit.toml"));
    insta::assert_snapshot!(
        "kit_show_static",
        world.ichor(&["kit", "show", "kit-7-static.toml"]).transcript().replace(" (over)", "")
    );
    insta::assert_snapshot!("kit_show_of_none", world.ichor(&["kit", "show", "share-1"]).transcript());
    world.write("changed.toml", &world.text("kit-7.toml").replacen("192.0.2.1", "203.0.113.9", 1));
    let too_few = opening(&world, "kit-7.toml", &["share-1", "share-2"], NOW, &ADMIN);
    insta::assert_snapshot!("kit_open_with_too_few", too_few.transcript());
    let changed = opening(&world, "changed.toml", &["share-1", "share-4", "share-2"], NOW, &ADMIN);
    insta::assert_snapshot!("kit_open_changed", changed.transcript());
    assert!(!world.path("state/ichor/kit-records").exists(), "nothing was opened, nothing is recorded");
    assert!(!world.path("kit-7.talosconfig").exists());
}

#[test]
fn a_holder_proves_their_share() {
    let world = world();
    let prove = ["kit", "prove", "kit-7.toml", "--share", "share-2", "--challenge", CHALLENGE];
    let proof = world.ichor(&prove).ok().out;
    assert_eq!(proof, include_str!("../../../tests/vectors/kit/v1/proof.txt"));
    insta::assert_snapshot!("kit_report_of_none", world.ichor(&["kit", "report"]).transcript());
}

/// What `ichor` prints where someone sits at a terminal and types these lines; the exit code is last.
fn at_a_terminal(world: &World, arguments: &[&str], lines: &[&str]) -> (String, u8) {
    // a share may be what is typed: from here on nothing of this process is dumped
    let asked = || {
        let (core, _) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        assert!(core == 0 && !get_dumpable().unwrap(), "asked by a process that may dump its core");
    };
    terminal::type_into(Environment::isolated(&world.path("")), showing(NOW), arguments, lines, asked)
}

#[test]
fn what_cannot_be_is_said_before_anyone_is_asked_for_anything() {
    let world = world();
    let path = |name: &str| world.path(name).display().to_string();
    let (file, out, folder) = (path("kit-7.toml"), path("kit.talosconfig"), path("share-1"));
    let shares = ["share-1", "share-5", "share-2"];
    // at a terminal every question would be answered, and the shares are there
    let typed = ["admin", "ada", "INC-42"];
    let typed: Vec<String> = typed.into_iter().map(str::to_owned).chain(shares.map(path)).collect();
    let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
    let before = "2026-11-21T12:00:00Z";
    let (beside, below) = (format!("{folder}/to.talosconfig"), format!("{folder}/records/here"));
    for (now, more, said, next) in [
        ("2027-11-22T00:00:00Z", vec![], "the kit stays shut: the CA certificate expired", "this machine's clock"),
        (before, vec![], "the kit stays shut: the CA certificate is not valid", "this machine's clock"),
        (NOW, vec!["--talosconfig", &beside], "nothing can be written in", "`--talosconfig FILE`"),
        (NOW, vec!["--records", &below], "nothing can be written in", "`--records DIR`"),
    ] {
        let mut arguments = vec!["kit", "open", &file];
        arguments.extend(&more);
        if !more.contains(&"--talosconfig") {
            arguments.extend(["--talosconfig", &out]);
        }
        let clock = showing(now);
        let nobody = || panic!("somebody was asked");
        let environment = Environment::isolated(&world.path(""));
        let (printed, code) = terminal::type_into(environment, clock, &arguments, &typed, nobody);
        assert!(code != 0 && printed.contains(said) && printed.contains(next), "{more:?}: {printed}");
        assert!(!printed.contains("more needed"), "{printed}");
        // nor is a share read where nobody can be asked
        let ran = opening(&world, "kit-7.toml", &["share-9"], now, &[&ADMIN[..], &more].concat());
        assert!(ran.code == 1 && ran.err.contains(said) && !ran.err.contains("share-9"), "{}", ran.transcript());
    }
    // what was tried leaves nothing behind
    assert!(!world.path("state").exists());
    assert!(!world.path("kit.talosconfig").exists());
    let (said, code) = at_a_terminal(&world, &["kit", "open", &file, "--talosconfig", &out], &typed);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn what_does_not_fit_is_asked_for_again_before_anyone_brings_a_share() {
    let world = world();
    let path = |name: &str| world.path(name).display().to_string();
    let (file, out) = (path("kit-7.toml"), path("kit.talosconfig"));
    let shares = ["share-1", "share-5", "share-2"].map(path);
    // too long, no role, no name of a certificate, no reason; then what fits, and two of the shares wrong at first
    let typed = ["2h", "30m", "root", "operator", "admin", "ada lovelace", "ada", "--", "INC-42 etcd down", "nowhere"];
    let lines: Vec<&str> = typed.into_iter().chain(shares.iter().map(String::as_str)).collect();
    let (said, code) = at_a_terminal(&world, &["kit", "open", &file, "--ttl", "90m", "--talosconfig", &out], &lines);
    assert_eq!(code, 0, "{said}");
    let order = [
        "this kit gives at most 3600 seconds",
        "which role?",
        "this kit does not give os:operator",
        "Your name, as nodes are to log it:",
        "the name cannot stand in a certificate",
        "Why is it opened?",
        "3 more needed",
        "1 more needed",
        "✓ os:admin until 2026-11-28T12:30:00Z",
    ];
    let found = order.map(|text| said.find(text).unwrap_or_else(|| panic!("no `{text}` in:\n{said}")));
    assert!(found.is_sorted(), "{said}");
    assert_eq!(said.matches("Why is it opened?").count(), 2, "{said}");
    let (listed, _) = at_a_terminal(&world, &["kit", "report"], &[]);
    assert!(listed.contains("  2026-11-28T12:00:00Z  prod  ada  INC-42 etcd down"), "{listed}");

    // where nobody can be asked, the same ends the command, and no share was looked at
    for (more, said) in [
        (&["--name", "ada", "--role", "admin", "--ttl", "2h"][..], "at most 3600 seconds"),
        (&["--name", "ada", "--role", "operator"], "does not give os:operator"),
        (&["--name", "ada lovelace", "--role", "admin"], "the name cannot stand"),
        (&["--role", "admin"], "`--name` is missing"),
    ] {
        let ran = opening(&world, "kit-7.toml", &["share-9"], NOW, &[&["--reason", "INC-42"][..], more].concat());
        assert!(ran.code == 2 && ran.err.contains(said) && !ran.err.contains("share-9"), "{}", ran.err);
    }
}

#[test]
fn what_is_wrong_with_a_share_is_said_once() {
    let world = world();
    world.write("worn", &world.text("share-2").replacen("-0", "-1", 1));
    let ran = opening(&world, "kit-7.toml", &["share-1", "share-1", "worn"], NOW, &ADMIN);
    assert_eq!((ran.code, ran.err.matches("worn`").count(), ran.err.matches("is here already").count()), (1, 1, 1));

    // a sealed share, and no key
    let recipient = age::x25519::Identity::generate().to_public();
    let sealed = age::encrypt(&recipient, world.text("share-2").as_bytes()).unwrap();
    std::fs::write(world.path("share.age"), sealed).unwrap();
    let prove = ["kit", "prove", "kit-7.toml", "--share", "share.age", "--challenge", CHALLENGE];
    let ran = world.ichor(&prove);
    assert!(
        ran.code == 1 && ran.err.contains("no key was named") && ran.err.contains("--identity FILE"),
        "{}",
        ran.err
    );
}

#[test]
fn a_record_is_named_by_its_file_too() {
    let world = world();
    let record = include_str!("../../../tests/vectors/kit/v1/record.txt");
    world.write("opening.record", record);
    let file = world.path("opening.record").display().to_string();
    assert_eq!(at_a_terminal(&world, &["kit", "report", &file], &[]), (record.to_owned(), 0));
    let other = world.ichor(&["kit", "report", "share-1"]);
    assert!(other.code == 1 && other.err.contains("is not the record of an opened kit"), "{}", other.err);
}

#[test]
fn openings_of_one_grant_are_told_apart_by_their_files() {
    let world = world();
    let record = include_str!("../../../tests/vectors/kit/v1/record.txt");
    std::fs::create_dir(world.path("records")).unwrap();
    world.write("records/a.record", record);
    let report = |more: &[&str]| world.ichor(&[&["kit", "report", "--records", "records"], more].concat());
    let listed = report(&[]).ok().out;
    let grant = listed.split_whitespace().next().unwrap().to_owned();
    assert_eq!(report(&[&grant]).ok().out.lines().nth(1), record.lines().nth(1));
    // as JSON has it
    let bare = report(&["-o", "json"]).ok().json()["records"][0]["grant"].as_str().unwrap().to_owned();
    assert_ne!(bare, grant);
    assert_eq!(report(&[&bare]).ok().out, report(&[&grant]).ok().out);
    world.write("records/b.record", record);
    let listed = report(&[]).ok().out;
    assert!(listed.contains("records/a.record") && listed.contains("records/b.record"), "{listed}");
    let ran = report(&[&grant]);
    assert!(ran.code == 1 && ran.err.contains("several openings have the grant"), "{}", ran.transcript());
}

#[test]
fn a_talosconfig_in_the_way_is_told_before_anyone_brings_a_share() {
    let world = world();
    world.write("kit-7.talosconfig", "somebody's own");
    let ran = world.ichor(&["kit", "open", "kit-7.toml", "--name", "ada", "--reason", "INC-42", "--role", "admin"]);
    assert!(ran.code == 1 && ran.err.contains("exists already and is not overwritten"), "{}", ran.transcript());
    assert_eq!(world.text("kit-7.talosconfig"), "somebody's own");
}

#[test]
fn a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named() {
    let world = world();
    let path = |name: &str| world.path(name).display().to_string();
    let holder = age::x25519::Identity::generate();
    world.write("holder.key", age::secrecy::ExposeSecret::expose_secret(&holder.to_string()));
    let sealed = age::encrypt(&holder.to_public(), world.text("share-2").trim().as_bytes()).unwrap();
    std::fs::write(world.path("share.age"), sealed).unwrap();
    let (kit, key, share) = (path("kit-7.toml"), path("holder.key"), path("share.age"));
    let prove = ["kit", "prove", &kit, "--share", &share, "--identity", &key, "--challenge", CHALLENGE];
    assert_eq!(world.ichor(&prove).ok().out, include_str!("../../../tests/vectors/kit/v1/proof.txt"));
    let other: String = CHALLENGE.replace("01", "02");
    let another = ["kit", "prove", &kit, "--share", &share, "--identity", &key, "--challenge", &other];
    assert_ne!(world.ichor(&another).ok().out, include_str!("../../../tests/vectors/kit/v1/proof.txt"));

    let (records, to, first, fifth) = (path("records"), path("to.talosconfig"), path("share-1"), path("share-5"));
    let opening = [
        &["kit", "open", &kit, "--share", &first, "--share", &share, "--share", &fifth, "--identity", &key][..],
        &["--name", "ada", "--reason", "INC-42", "--role", "admin", "--ttl", "20m", "--records", &records],
        &["--talosconfig", &to],
    ]
    .concat();
    let (said, code) = at_a_terminal(&world, &opening, &[]);
    assert!(code == 0 && said.contains("✓ os:admin until 2026-11-28T12:20:00Z"), "{said}");
    assert!(world.path("to.talosconfig").is_file());
    assert_eq!(std::fs::read_dir(&records).unwrap().count(), 1, "the record is where it was named");
    let listed = world.ichor(&["kit", "report", "--records", &records]).ok().out;
    assert!(listed.contains("ada  INC-42"), "{listed}");
    assert!(world.ichor(&["kit", "report"]).ok().out.contains("no kit was opened here"), "and nowhere else");
}

#[test]
fn a_record_is_brought_to_the_broker_as_what_it_was() {
    let world = World::logged_in();
    let record = include_str!("../../../tests/vectors/kit/v1/record.txt");
    world.write("opening.record", record);
    let ran = world.ichor(&["kit", "report", "opening.record", "--label", "drill", "--note", "an exercise"]).ok();
    assert!(ran.out.contains("by ada (claimed), drill"), "{}", ran.transcript());
    let [ask] = &world.fake.with(|state| std::mem::take(&mut state.reports))[..] else { panic!("one is brought") };
    assert_eq!((ask.record.as_str(), ask.label, ask.note.as_deref()), (record, KitLabel::Drill, Some("an exercise")));
    assert!(!ran.out.contains("claims more"), "{}", ran.transcript());
    // as this broker answers
    let ran = world.ichor(&["kit", "report", "opening.record", "--label", "misuse"]).ok();
    assert!(ran.out.contains("more than the kit gives (the kit does not give os:admin)"), "{}", ran.transcript());
    world.fake.with(|state| state.reports.clear());
    world.ichor(&["kit", "report", "opening.record"]).ok();
    assert!(world.fake.with(|state| state.reports.is_empty()), "without a label it is printed alone");
    world.fake.assert_kept();
}
