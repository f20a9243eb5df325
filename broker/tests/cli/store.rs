//! The database copied, and a whole broker backed up and restored.

use super::NOWHERE;
use super::world::World;

/// The public half of `key`.
const RECIPIENT: &str = include_str!("../keys/ed25519.pub");

/// A broker's folder with one CA and a key that opens backups.
fn broker() -> World {
    let world = World::with_folder(NOWHERE);
    world.raw(&["cluster", "add", "prod", "--from", "operator", "--reason", "first cluster", "--dir", "broker"]);
    world.raw(&["ca", "create", "prod", "--reason", "dedicated client CA", "--dir", "broker"]);
    world.write("key", include_str!("../keys/ed25519"));
    world
}

#[test]
fn a_log_is_copied_and_read_back() {
    let world = broker();
    let copy = |to: &str| {
        world.run(&["store", "copy", "--from", "sqlite:broker/data/ichor.db", "--to", to, "--reason", "another disk"])
    };
    insta::assert_snapshot!("store_copy", copy("sqlite:copied.db"));
    insta::assert_snapshot!("store_copy_again", copy("sqlite:copied.db"));
    insta::assert_snapshot!("store_copy_to_nowhere", copy("mysql://host/database"));
    let at = ["sqlite:none.db", "sqlite:other.db"];
    insta::assert_snapshot!(
        "store_copy_of_none",
        world.run(&["store", "copy", "--from", at[0], "--to", at[1], "--reason", "x"])
    );
    assert!(!world.path("other.db").exists() && !world.path("none.db").exists(), "a refused copy made a file");
    let before = world.raw(&["audit", "verify", "--dir", "broker"]);
    std::fs::rename(world.path("copied.db"), world.path("broker/data/ichor.db")).unwrap();
    let after = world.raw(&["audit", "verify", "--dir", "broker"]);
    assert!(before.starts_with("no damage: 2 entries") && after.starts_with("no damage: 3 entries"), "{before}{after}");
}

#[test]
fn a_broker_is_backed_up_tried_out_and_restored() {
    let world = broker();
    let run = |arguments: &[&str]| world.run(arguments);
    let backup = |file| ["backup", file, "--recipient", RECIPIENT.trim(), "--reason", "monthly", "--dir", "broker"];
    // what `custody restore` has people leave behind
    std::fs::create_dir_all(world.path("broker/vault.old/ca")).unwrap();
    world.write("broker/vault.old/recipients.txt", "");
    world.write("broker/vault.old/ca/prod.age", "a key");
    let wrote = run(&backup("all.age"));
    assert!(wrote.contains("\nsha256 <sha256>\n") && wrote.contains("\n  ca prod\n"), "{wrote}");
    assert!(run(&backup("all.age")).contains("overwrites nothing"));
    let sealed = std::fs::read(world.path("all.age")).unwrap();
    assert!(!sealed.windows(7).any(|word| word == b"[server" || word == b"BEGIN C"), "it is sealed");

    let drill = run(&["restore", "all.age", "--drill", "--identity", "key"]);
    assert!(drill.contains("all good: ") && drill.contains("a log of 2 entries"), "{drill}");
    assert!(drill.contains("\nca of `prod`, certificate sha256 <sha256>\n"), "{drill}");
    assert!(drill.contains("\nits newest entry, of 2, is of <time>\n"), "{drill}");
    world.write("other", "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX");
    assert!(run(&["restore", "all.age", "--drill", "--identity", "other"]).contains("-- exit code 1"));

    let show = |folder: &str| world.raw(&["ca", "show", "--dir", folder]);
    let (ca, config) = (show("broker"), world.read("broker/config.toml"));
    let cluster = world.read("broker/clusters/prod.toml");
    std::fs::remove_dir_all(world.path("broker")).unwrap();
    let restore = |to| run(&["restore", "all.age", "--to", to, "--identity", "key", "--reason", "the disk died"]);
    let restored = restore("broker");
    assert!(restored.contains("restored to `broker`"), "{restored}");
    assert!(!world.path("broker/vault.old").exists(), "an old vault is no part of a backup");
    assert!(restore("broker").contains("is not empty"));
    assert_eq!((show("broker"), world.read("broker/config.toml")), (ca, config));
    assert_eq!(world.read("broker/clusters/prod.toml"), cluster);
    // its two entries, and one that tells of the restore
    assert!(world.raw(&["audit", "verify", "--dir", "broker"]).starts_with("no damage: 3 entries"));
    world.raw(&["cluster", "add", "lab", "--from", "operator", "--reason", "it goes on", "--dir", "broker"]);

    let mut damaged = sealed;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(world.path("damaged.age"), damaged).unwrap();
    let refused = run(&["restore", "damaged.age", "--to", "elsewhere", "--identity", "key", "--reason", "x"]);
    assert!(refused.contains("-- exit code 1") && refused.contains("damaged"), "{refused}");
    assert!(!world.path("elsewhere").exists());
    let left =
        std::fs::read_dir(world.path(".")).unwrap().flatten().map(|file| file.file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with('.')).count(), 0, "nothing unsealed is left behind");
}

/// A broker two folders down, so that `../..` leads from its folder, and from that of a drill, to the same place; with this in its
/// configuration. What is moved there is moved from the folder.
fn broker_with(section: &str, key: &str, value: &str, moved: Option<(&str, &str)>) -> World {
    let world = broker();
    std::fs::create_dir_all(world.path("deep")).unwrap();
    std::fs::create_dir_all(world.path("outside")).unwrap();
    std::fs::rename(world.path("broker"), world.path("deep/broker")).unwrap();
    if let Some((from, to)) = moved {
        std::fs::rename(world.path("deep/broker").join(from), world.path(to)).unwrap();
    }
    let value = value.replace("WORLD", &world.path("").display().to_string());
    let (config, table) = (world.read("deep/broker/config.toml"), format!("[{section}]\n"));
    let line = format!("{table}{key} = \"{}\"\n", value.replace("//", "/"));
    let config = if config.contains(&format!("\n{table}")) {
        config.replacen(&table, &line, 1)
    } else {
        format!("{config}\n{line}")
    };
    world.write("deep/broker/config.toml", &config);
    let backup = ["backup", "all.age", "--recipient", RECIPIENT.trim(), "--reason", "x", "--dir", "deep/broker"];
    let wrote = world.run(&backup);
    assert!(world.path("all.age").exists(), "{wrote}");
    world
}

fn outside(world: &World) -> Vec<String> {
    let files = std::fs::read_dir(world.path("outside")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_restore_and_its_drill_make_nothing_where_a_configuration_climbs_to() {
    let places = [
        ("store", "path", "../../outside/ichor.db", Some(("data/ichor.db", "outside/ichor.db"))),
        ("store", "path", "data/../../../outside/ichor.db", Some(("data/ichor.db", "outside/ichor.db"))),
        ("custody", "vault", "../../outside/vault", Some(("vault", "outside/vault"))),
        ("policies", "folder", "../../outside/policies", Some(("policies", "outside/policies"))),
        ("clusters", "folder", "../../outside/clusters", Some(("clusters", "outside/clusters"))),
        ("server", "admin_socket", "../../outside/run/admin.sock", None),
    ];
    for (section, key, value, moved) in places {
        let world = broker_with(section, key, value, moved);
        std::fs::remove_dir_all(world.path("outside")).unwrap();
        std::fs::create_dir(world.path("outside")).unwrap();
        for how in [&["--drill"][..], &["--to", "new", "--reason", "x"]] {
            let refused = world.run(&[&["restore", "all.age", "--identity", "key"], how].concat());
            let told = format!("has `..` in `{section}.{key}`");
            assert!(refused.contains("-- exit code 1") && refused.contains(&told), "{value}: {refused}");
            assert_eq!(outside(&world), Vec::<String>::new(), "{value}");
            assert!(!world.path("new").exists());
        }
    }
}

#[test]
fn a_restore_and_its_drill_touch_no_place_that_a_configuration_names_elsewhere() {
    let drill = ["restore", "all.age", "--drill", "--identity", "key"];
    let to_new = ["restore", "all.age", "--to", "new", "--identity", "key", "--reason", "x"];
    for (section, key, value, moved) in [
        ("policies", "folder", "WORLD/outside/policies", Some(("policies", "outside/policies"))),
        ("clusters", "folder", "WORLD/outside/clusters", Some(("clusters", "outside/clusters"))),
        ("server", "admin_socket", "WORLD/outside/run/admin.sock", None),
    ] {
        let world = broker_with(section, key, value, moved);
        std::fs::remove_dir_all(world.path("outside")).unwrap();
        std::fs::create_dir(world.path("outside")).unwrap();
        let good = world.run(&drill);
        assert!(good.contains("all good: "), "{value}: {good}");
        assert_eq!(outside(&world), Vec::<String>::new(), "{value}");
    }

    let moved = Some(("vault", "outside/vault"));
    let world = broker_with("custody", "vault", "WORLD/outside/vault", moved);
    std::fs::remove_dir_all(world.path("outside/vault")).unwrap();
    assert!(world.run(&drill).contains("outside of the folder; restore that with `custody restore`"));
    assert_eq!(outside(&world), Vec::<String>::new());

    let moved = Some(("data/ichor.db", "outside/ichor.db"));
    let world = broker_with("store", "path", "WORLD/outside/ichor.db", moved);
    std::fs::remove_dir_all(world.path("outside")).unwrap();
    std::fs::create_dir(world.path("outside")).unwrap();
    world.write("outside/ichor.db", "precious");
    for how in [&drill[..], &to_new] {
        let good = world.run(how);
        assert!(good.contains("nothing was put there, and the database is `data/ichor.db` in the folder"), "{good}");
        assert_eq!(world.read("outside/ichor.db"), "precious");
    }
    assert!(world.path("new/data/ichor.db").exists());
}

#[test]
fn a_restore_puts_its_database_in_no_other_files_place() {
    let world = broker();
    std::fs::create_dir(world.path("outside")).unwrap();
    std::fs::rename(world.path("broker/data/ichor.db"), world.path("outside/ichor.db")).unwrap();
    let named = format!("\n[store]\npath = \"{}\"\n", world.path("outside/ichor.db").display());
    // neither database nor socket lie in `data`, so it is of the configuration
    let socket = "[server]\nadmin_socket = \"run/admin.sock\"\n";
    let config = world.read("broker/config.toml").replacen("[server]\n", socket, 1);
    world.write("broker/config.toml", &(config + &named));
    world.write("broker/data/ichor.db", "precious");
    let backup = ["backup", "all.age", "--recipient", RECIPIENT.trim(), "--reason", "x", "--dir", "broker"];
    assert!(world.run(&backup).contains("wrote `all.age`"));
    let refused = world.run(&["restore", "all.age", "--drill", "--identity", "key"]);
    assert!(refused.contains("-- exit code 1") && refused.contains("a restore overwrites nothing"), "{refused}");
}
