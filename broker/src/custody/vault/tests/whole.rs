//! A vault, and a backup of it, that lacks what its records name, or holds what nobody could use.

use jiff::SignedDuration;

use super::backup::Site;
use super::*;
use crate::custody::record::{Former, Place, Record, Rotation};
use crate::custody::vault::backup::Kind;
use crate::custody::{KeyLoadError, LogPin};

/// A site whose record names a CA in force, one to come, and two former ones, of which one has to be gone.
fn rotating() -> Site {
    let site = Site::new();
    let age = |file: &str| Place::Age { file: file.to_owned() };
    Sealer::at(&site.dir).unwrap().seal_ca_file(&cluster("prod"), "prod.3.age", &made(), false).unwrap();
    let former = |file: &str, compromised| Former {
        certificate: None,
        until: Timestamp::UNIX_EPOCH,
        compromised,
        place: age(file),
    };
    let mut record = Record::first(age("prod.age"));
    let begun = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    record.rotation = Some(Rotation { begun, next: age("prod.2.age"), nodes: Vec::new() });
    record.former = vec![former("prod.3.age", false), former("prod.4.age", true)];
    record.write(&site.dir, &cluster("prod"), true).unwrap();
    site
}

/// What a backup of the vault lacks, and what a drill of that backup says is no good, by its first words.
fn lacks(site: &Site) -> Vec<String> {
    let path = site.path("lacking.age");
    let _ = fs::remove_file(&path);
    let backup = open(&site.dir).unwrap().backup(&[site.recipient()], Timestamp::UNIX_EPOCH).unwrap();
    backup.write(&path).unwrap();
    let drilled = site.open(&path).unwrap().drill();
    let bad = drilled.into_iter().filter_map(|it| it.found.err().map(|error| format!("{}: {error}", it.what)));
    assert_eq!(bad.collect::<Vec<_>>(), backup.lacks(), "the drill says it too");
    let begins = |line: &String| line.split(" and is missing").next().unwrap().to_owned();
    backup.lacks().iter().map(begins).collect()
}

#[test]
fn a_backup_without_a_key_that_a_record_names_is_told_from_a_whole_one() {
    let site = rotating();
    assert_eq!(lacks(&site), Vec::<String>::new());
    for file in ["prod.age", "prod.2.age", "prod.3.age"] {
        let file = format!("ca/{file}");
        fs::rename(site.dir.join(&file), site.path("away")).unwrap();
        assert_eq!(lacks(&site), [format!("record of ca prod: `{file}` belongs to it")]);
        // after a loss what is there is better than nothing
        let again = site.path("again");
        site.open(&site.path("lacking.age")).unwrap().restore(&again, &[], &Plugins::default()).unwrap();
        assert!(again.join("ca/prod.toml").exists() && !again.join(&file).exists());
        fs::remove_dir_all(&again).unwrap();
        fs::rename(site.path("away"), site.dir.join(&file)).unwrap();
    }
}

#[test]
fn a_backup_without_an_adopted_credential_is_told_from_a_whole_one() {
    let site = Site::new();
    Record::first(Place::TalosApi).write(&site.dir, &cluster("lab"), false).unwrap();
    assert_eq!(lacks(&site), ["record of ca lab: `secrets/talos-lab.age` belongs to it"]);
}

#[test]
fn a_backup_without_a_secret_of_the_brokers_own_is_told_from_a_whole_one() {
    let site = Site::new();
    let secret = |name: &str| site.dir.join(format!("secrets/{name}.age"));
    // a log that never began needs no key
    fs::remove_file(secret(AUDIT_KEY)).unwrap();
    assert_eq!(lacks(&site), Vec::<String>::new());
    fs::remove_file(secret(DATA_KEY)).unwrap();
    let pin = "origin = \"log.example\"\nkey = \"log.example+00000000+AAAA\"\n";
    fs::write(site.dir.join("secrets/audit-log.toml"), pin).unwrap();
    assert!(LogPin::read(&site.dir).unwrap().is_some());
    let both = ["data-key", "audit-key"].map(|name| format!("the vault: `secrets/{name}.age` belongs to it"));
    assert_eq!(lacks(&site), both);
    // where its record says that it lives
    fs::write(
        site.dir.join("secrets/data-key.toml"),
        "custody = \"kv\"\nserver = \"a\"\nmount = \"b\"\npath = \"c\"\n",
    )
    .unwrap();
    fs::write(site.dir.join("secrets/audit-key.toml"), "custody = \"age\"\nfile = \"audit-key-0a1b2c3d\"\n").unwrap();
    assert_eq!(lacks(&site), ["record of secret audit-key: `secrets/audit-key-0a1b2c3d.age` belongs to it"]);
    Sealer::at(&site.dir).unwrap().seal_secret("audit-key-0a1b2c3d", &[7; 32], false).unwrap();
    assert_eq!(lacks(&site), Vec::<String>::new());
    // and that one is the log's, whatever other lies there
    Sealer::at(&site.dir).unwrap().create_secret(AUDIT_KEY).unwrap();
    assert_eq!(lacks(&site), Vec::<String>::new());
    let named = site.open(&site.path("lacking.age")).unwrap().audit_key();
    assert_eq!(named, Some(crate::custody::AuditKey::from_seed(&[7; 32]).unwrap().public_key()));
}

#[test]
fn a_drill_reads_records_and_tries_each_secret_as_what_its_name_says() {
    let site = Site::new();
    let secret = |name: &str, value: &[u8]| {
        let value = data_encoding::BASE64.encode(value);
        serde_json::to_vec(&serde_json::json!({"version": 1, "secret": name, "value": value})).unwrap()
    };
    let copied = b"cluster = \"other\"\nversion = 1\ngeneration = 1\n[active]\ncustody = \"retired\"\n";
    let path = site.crafted(&[
        (Kind::Record, "prod", b"custody = 7"),
        (Kind::Record, "staging", copied),
        (Kind::Home, DATA_KEY, b"custody = \"nowhere\""),
        (Kind::Secret, AUDIT_KEY, &secret(AUDIT_KEY, b"short")),
        (Kind::Secret, "audit-key-0a1b2c3d", &secret("audit-key-0a1b2c3d", &[7; 33])),
        (Kind::Secret, "talos-prod", &secret("talos-prod", b"{}")),
        (Kind::Secret, "other", &secret("other", b"anything")),
    ]);
    let archived = site.open(&path).unwrap();
    let found: Vec<_> = archived.drill().into_iter().map(|drilled| drilled.found).collect();
    assert!(matches!(&found[0], Err(VaultError::Record(_))), "{found:?}");
    assert!(matches!(&found[1], Err(VaultError::OthersRecord { owner, .. }) if owner == "other"), "{found:?}");
    assert!(matches!(&found[2], Err(VaultError::Record(_))), "{found:?}");
    for bad in &found[3..5] {
        assert!(matches!(bad, Err(VaultError::Key(KeyLoadError::Unreadable))), "{found:?}");
    }
    assert!(matches!(&found[5], Err(VaultError::Standing(StandingError::Unreadable))), "{found:?}");
    assert!(found[6].is_ok() && found.len() == 7, "{found:?}");
}

#[test]
fn what_nobody_could_use_is_not_backed_up() {
    let site = Site::new();
    let back_up = || open(&site.dir).unwrap().backup(&[site.recipient()], Timestamp::UNIX_EPOCH).map(drop);
    for (name, bad) in [("talos-prod", &b"{}"[..]), (AUDIT_KEY, b"short"), (DATA_KEY, b"short")] {
        let path = site.dir.join(format!("secrets/{name}.age"));
        let before = fs::read(&path).ok();
        Sealer::at(&site.dir).unwrap().seal_secret(name, bad, true).unwrap();
        assert_eq!(back_up(), Err(VaultError::Damaged(path.clone())));
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    back_up().unwrap();
    let record = site.dir.join("ca/prod.toml");
    fs::write(&record, "custody = 7").unwrap();
    assert_eq!(back_up(), Err(VaultError::Record(record)));
}
