//! `ichor kit` on a machine that has the files and nothing else: no broker, no configuration.

use crate::world::World;

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
    insta::assert_snapshot!("kit_show_of_none", world.ichor(&["kit", "show", "share-1"]).transcript());
    let opening = |more: &[&str]| {
        let usual = ["kit", "open", "kit-7.toml", "--name", "ada", "--reason", "INC-42", "--role", "admin"];
        world.ichor(&[&usual, more].concat())
    };
    insta::assert_snapshot!(
        "kit_open_with_too_few",
        opening(&["--share", "share-1", "--share", "share-2"]).transcript()
    );
    world.write("changed.toml", &world.text("kit-7.toml").replacen("192.0.2.1", "203.0.113.9", 1));
    let shares = ["--share", "share-1", "--share", "share-4", "--share", "share-2"];
    let changed = ["kit", "open", "changed.toml", "--name", "ada", "--reason", "INC-42", "--role", "admin"];
    insta::assert_snapshot!("kit_open_changed", world.ichor(&[&changed, &shares[..]].concat()).transcript());
    assert!(!world.path(".local/state/ichor/kit-records").exists(), "nothing was opened, nothing is recorded");
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
