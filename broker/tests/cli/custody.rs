//! The vault sealed to others, backed up and restored.

use super::NOWHERE;
use super::world::World;

/// The public half of `key`, which [`vault`] puts into the working folder.
const RECIPIENT: &str = include_str!("../keys/ed25519.pub");

/// A broker's folder with one CA.
fn vault() -> World {
    let world = World::with_folder(NOWHERE);
    world.raw(&["cluster", "add", "prod", "--from", "operator", "--reason", "first cluster", "--dir", "broker"]);
    world.raw(&["ca", "create", "prod", "--reason", "dedicated client CA", "--dir", "broker"]);
    world.write("key", include_str!("../keys/ed25519"));
    world
}

#[test]
fn the_vault_is_sealed_to_others_and_back() {
    let world = vault();
    let run = |arguments: &[&str]| world.run(&[&["custody", "reseal"], arguments, &["--dir", "broker"]].concat());
    insta::assert_snapshot!("custody_reseal", run(&["--recipient", RECIPIENT.trim(), "--reason", "a backup key"]));
    assert!(world.read("broker/vault/recipients.txt").contains("\nssh-ed25519 "));
    let leaves = ["--remove", RECIPIENT.trim(), "--reason", "left the team"];
    insta::assert_snapshot!("custody_reseal_without_one", run(&leaves));
    insta::assert_snapshot!("custody_reseal_without_one_again", run(&leaves));
    let own = world.read("broker/vault/recipients.txt");
    let own = own.lines().find(|line| line.starts_with("age1")).unwrap().to_owned();
    let swap = ["--recipient", RECIPIENT.trim(), "--remove", &own, "--reason", "lose it"];
    insta::assert_snapshot!("custody_reseal_that_locks_out", run(&swap));
    let yubikey = ["--recipient", "age1double10qnf9hl4", "--reason", "a plugin"];
    insta::assert_snapshot!("custody_reseal_to_a_plugin", run(&yubikey));
    insta::assert_snapshot!("custody_reseal_to_nobody", run(&["--recipient", "age1nonsense", "--reason", "a typo"]));
    let check = world.run(&["check", "--dir", "broker"]);
    assert!(check.contains("vault, sealed to 1 X25519; no plugins allowed: "), "{check}");
}

#[test]
fn the_vault_is_backed_up_tried_out_and_restored() {
    let world = vault();
    let run = |arguments: &[&str]| world.run(&[&["custody"], arguments, &["--dir", "broker"]].concat());
    let backup = ["backup", "vault.age", "--recipient", RECIPIENT.trim(), "--reason", "monthly"];
    insta::assert_snapshot!("custody_backup", run(&backup));
    assert!(world.path("vault.age").exists());
    insta::assert_snapshot!("custody_backup_again", run(&backup));
    insta::assert_snapshot!("custody_backup_to_itself", run(&["backup", "own.age", "--reason", "monthly"]));

    let drill = ["restore", "vault.age", "--drill", "--identity", "key", "--reason", "monthly drill"];
    insta::assert_snapshot!("custody_drill", run(&drill));
    insta::assert_snapshot!(
        "custody_drill_without_its_key",
        run(&["restore", "vault.age", "--drill", "--reason", "x"])
    );
    let restore = ["restore", "vault.age", "--identity", "key", "--reason", "the disk died"];
    insta::assert_snapshot!("custody_restore_over_a_vault", run(&restore));
    let show = |world: &World| world.raw(&["ca", "show", "--dir", "broker"]);
    let before = show(&world);
    std::fs::rename(world.path("broker/vault"), world.path("lost")).unwrap();
    let unnamed = ["restore", "vault.age", "--reason", "the disk died"];
    insta::assert_snapshot!("custody_restore_without_an_identity", run(&unnamed));
    assert!(!world.path("broker/vault").exists());
    insta::assert_snapshot!("custody_restore", run(&restore));
    assert_eq!(show(&world), before);

    let elsewhere = ["restore", "vault.age", "--identity", "key", "--to", "other", "--reason", "a look"];
    let for_key = [&elsewhere[..], &["--recipient", RECIPIENT.trim()]].concat();
    insta::assert_snapshot!("custody_restore_elsewhere", run(&for_key));
    assert!(!world.path("other/identity.txt").exists() && world.path("other/ca/prod.age").exists());
    insta::assert_snapshot!("custody_audit", world.run(&["audit", "verify", "--dir", "broker"]));
}

#[test]
fn a_backup_that_was_damaged_is_told() {
    let world = vault();
    let run = |arguments: &[&str]| world.run(&[&["custody"], arguments, &["--dir", "broker"]].concat());
    run(&["backup", "vault.age", "--reason", "monthly"]);
    let mut bytes = std::fs::read(world.path("vault.age")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(world.path("vault.age"), bytes).unwrap();
    insta::assert_snapshot!(
        "custody_drill_of_a_damaged_one",
        run(&["restore", "vault.age", "--drill", "--reason", "x"])
    );
    insta::assert_snapshot!("custody_restore_of_none", run(&["restore", "none.age", "--to", "x", "--reason", "x"]));
}

#[test]
fn a_backup_without_a_key_that_a_record_names_is_not_called_good() {
    let world = vault();
    let run = |arguments: &[&str]| world.run(&[&["custody"], arguments, &["--dir", "broker"]].concat());
    std::fs::rename(world.path("broker/vault/ca/prod.age"), world.path("prod.age")).unwrap();
    let backup = ["backup", "vault.age", "--recipient", RECIPIENT.trim(), "--reason", "monthly"];
    insta::assert_snapshot!("custody_backup_lacking", run(&backup));
    let drill = ["restore", "vault.age", "--drill", "--identity", "key", "--reason", "monthly drill"];
    insta::assert_snapshot!("custody_drill_lacking", run(&drill));
    let restore = ["restore", "vault.age", "--identity", "key", "--to", "other", "--reason", "a look"];
    insta::assert_snapshot!("custody_restore_lacking", run(&restore));
    assert!(world.path("other/ca/prod.toml").exists() && !world.path("other/ca/prod.age").exists());

    // and a broker as a whole
    let all = ["backup", "all.age", "--recipient", RECIPIENT.trim(), "--reason", "monthly", "--dir", "broker"];
    let said = world.run(&all);
    let lacks = "record of ca prod: `ca/prod.age` belongs to it and is missing";
    assert!(said.contains(&format!("\nMISSING  {lacks}")) && said.contains("-- exit code 1"), "{said}");
    let said = world.run(&["restore", "all.age", "--drill", "--identity", "key"]);
    assert!(said.contains(&format!("\nFAIL  {lacks}")) && said.contains("-- exit code 1"), "{said}");
    assert!(!said.contains("all good"), "{said}");
    let said = world.run(&["restore", "all.age", "--to", "again", "--identity", "key", "--reason", "x"]);
    assert!(said.contains(&format!("\nwarning: {lacks}")) && !said.contains("-- exit code"), "{said}");
    assert!(world.path("again/vault/ca/prod.toml").exists());
}
