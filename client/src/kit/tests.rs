//! A kit of the committed vectors, opened: what it gives, what it refuses, and that nothing is made before its record is on disk.

use std::io::Write as _;
use std::path::PathBuf;

use ichor_wire::kit::{Facts, Gathered, KitFile, Secret, Share, SignedRecord, combine};
use ichor_wire::role::Role;
use jiff::Timestamp;

use super::*;
use crate::error::Error;

/// The public key of the vectors' CA: the seed 0x07 × 32.
fn ca_key() -> Vec<u8> {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap().public_key().as_ref().to_vec()
}

const KIT: &str = include_str!("../../../tests/vectors/kit/v1/kit.toml");
const SHARES: &str = include_str!("../../../tests/vectors/kit/v1/shares.txt");

fn now() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

fn gathered(file: &KitFile) -> Gathered {
    let mut gathered = Gathered::new(file.unverified_facts());
    for share in SHARES.lines().skip(1).take(3) {
        gathered.take(file.unverified_facts(), Share::parse(share).unwrap()).unwrap();
    }
    gathered
}

fn opened() -> Opened {
    let file = KitFile::parse(KIT).unwrap();
    Opened::open(&file, &gathered(&file), now()).unwrap()
}

fn asked() -> Asked {
    Asked { name: "ada.lovelace".into(), reason: "INC-42 etcd down".into(), roles: vec![Role::Admin], ttl: Some(1800) }
}

fn machine() -> Machine {
    Machine { os_user: "ada".into(), host: "laptop".into() }
}

#[test]
fn what_is_opened_is_recorded_then_minted_and_names_its_opener() {
    let folder = tempfile::tempdir().unwrap();
    let opened = opened();
    let grant = opened.grant(&asked(), now()).unwrap();
    let recorded = LocallyRecorded::record(&opened, grant, &machine(), &folder.path().join("records")).unwrap();
    let text = std::fs::read_to_string(recorded.path()).unwrap();
    let record = SignedRecord::parse(&text, &ca_key()).unwrap().record().clone();
    assert_eq!((record.name.as_str(), record.reason.as_str()), ("ada.lovelace", "INC-42 etcd down"));
    assert_eq!((record.shares.clone(), record.roles.clone()), (vec![2, 3, 4], vec![Role::Admin]));
    assert_eq!(record.not_after, "2026-11-28T12:30:00Z".parse().unwrap());
    assert_eq!(records(&folder.path().join("records")).unwrap(), [recorded.path().to_owned()]);

    let minted = opened.mint(recorded, now()).unwrap();
    let context = minted.talosconfig.context("prod-kit-7").unwrap();
    assert_eq!(minted.talosconfig.current(), Some("prod-kit-7"));
    assert_eq!(context.endpoints, ["192.0.2.1", "192.0.2.2:50000"]);
    let ours = context.ours().unwrap();
    assert_eq!(ours.grant, record.grant_name().to_string());
    assert_eq!(ours.user.as_deref(), Some("claimed:ada.lovelace"));
    assert_eq!((ours.roles, ours.not_after), (vec![Role::Admin], record.not_after));
    let again = opened.grant(&asked(), now()).unwrap();
    assert_ne!(again.name(), record.grant_name(), "each opening has a grant of its own");
}

#[test]
fn what_cannot_be_recorded_is_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let opened = opened();
    let grant = opened.grant(&asked(), now()).unwrap();
    assert!(LocallyRecorded::record(&opened, grant, &machine(), &file).is_err());
}

#[test]
fn no_more_is_given_than_the_kit_allows() {
    let opened = opened();
    let refused = |asked: Asked| opened.grant(&asked, now()).unwrap_err().to_string();
    assert!(refused(Asked { roles: vec![Role::Operator], ..asked() }).contains("does not give os:operator"));
    assert!(refused(Asked { ttl: Some(3601), ..asked() }).contains("at most 3600"));
    assert!(refused(Asked { roles: vec![], ..asked() }).contains("which role?"), "it gives two");
    for reason in ["", " ", "--", "a\nb", "INC \u{2764}\u{fe0f}", &"x".repeat(501)] {
        assert!(refused(Asked { reason: reason.into(), ..asked() }).contains("a reason "), "{reason:?}");
    }
    for name in ["", "ada lovelace", "a,os:admin", "a=b", "Ångström", "a\u{1b}", &"x".repeat(52)] {
        assert!(refused(Asked { name: name.into(), ..asked() }).contains("the name"), "{name:?}");
    }
    assert!(opened.grant(&Asked { name: "x".repeat(51), ttl: None, ..asked() }, now()).is_ok());
}

#[test]
fn a_kit_is_opened_in_its_time_alone_and_not_when_it_was_changed() {
    let file = KitFile::parse(KIT).unwrap();
    for at in ["2026-11-21T23:59:59Z", "2027-11-22T00:00:00Z"] {
        let error = Opened::open(&file, &gathered(&file), at.parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("the kit stays shut"), "{error}");
    }
    let changed = KitFile::parse(&KIT.replacen("192.0.2.1", "203.0.113.9", 1)).unwrap();
    let error = Opened::open(&changed, &gathered(&changed), now()).unwrap_err().to_string();
    assert!(error.contains("`endpoints` differs"), "{error}");
}

#[test]
fn nothing_is_granted_beyond_the_end_of_the_kits_ca() {
    let (file, late) = (KitFile::parse(KIT).unwrap(), "2027-11-21T23:50:00Z".parse().unwrap());
    let opened = Opened::open(&file, &gathered(&file), late).unwrap();
    assert_eq!(opened.grant(&asked(), late).unwrap().not_after(), "2027-11-22T00:00:00Z".parse().unwrap());
}

#[test]
fn a_kit_whose_key_is_not_its_cas_stays_shut() {
    let file = KitFile::parse(KIT).unwrap();
    let key = || {
        let shares: Vec<_> = SHARES.lines().take(3).map(|share| Share::parse(share).unwrap()).collect();
        combine(&shares).unwrap()
    };
    let sealed = |seed: u8| {
        let facts = file.unverified_facts().clone();
        let file = KitFile::seal(facts, &Secret::new(&pkcs8(seed)), &key(), [1; 12]).unwrap();
        Opened::open(&file, &gathered(&file), now()).map(drop)
    };
    assert!(sealed(7).is_ok());
    assert!(sealed(8).unwrap_err().to_string().contains("its key is not its CA's"));
}

/// The PKCS#8 of an Ed25519 key with this seed (RFC 8410 §7).
fn pkcs8(seed: u8) -> Vec<u8> {
    let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    [head.as_slice(), &[seed; 32]].concat()
}

const STATIC: &str = include_str!("../../../tests/vectors/kit/v2/kit.toml");
const STATIC_SHARES: &str = include_str!("../../../tests/vectors/kit/v2/shares.txt");

fn opened_static(text: &str, at: &str) -> Result<Opened, Error> {
    let file = KitFile::parse(text).unwrap();
    let mut gathered = Gathered::new(file.unverified_facts());
    for share in STATIC_SHARES.lines().take(3) {
        gathered.take(file.unverified_facts(), Share::parse(share).unwrap()).unwrap();
    }
    Opened::open(&file, &gathered, at.parse().unwrap())
}

/// Each kit's certificate stands on its own record.
#[test]
fn a_kit_makes_no_certificate_of_what_another_one_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let opened = opened();
    let grant = Grant { kit: uuid::Uuid::nil(), ..opened.grant(&asked(), now()).unwrap() };
    let recorded = LocallyRecorded::record(&opened, grant, &machine(), folder.path()).unwrap();
    let refused = opened.mint(recorded, now()).unwrap_err().to_string();
    assert!(refused.contains("another kit gives what was recorded"), "{refused}");
}

#[test]
fn a_static_kit_hands_out_its_one_certificate_once_its_opener_is_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let later = "2027-08-01T12:00:00Z";
    let opened = opened_static(STATIC, later).unwrap();
    let now = later.parse().unwrap();
    let grant = opened.grant(&Asked { roles: vec![], ..asked() }, now).unwrap();
    let recorded = LocallyRecorded::record(&opened, grant, &machine(), folder.path()).unwrap();
    let text = std::fs::read_to_string(recorded.path()).unwrap();
    let first = recorded.path().to_owned();
    // the CA's key is nowhere: the certificate's own signs
    assert!(SignedRecord::parse(&text, &ca_key()).is_err());
    let record = SignedRecord::parse(&text, &static_key()).unwrap().record().clone();
    assert_eq!((record.name.as_str(), record.roles.clone()), ("ada.lovelace", vec![Role::Admin, Role::Reader]));
    assert_eq!(record.not_after, "2027-08-01T12:30:00Z".parse().unwrap());
    let minted = opened.mint(recorded, now).unwrap();
    let context = minted.talosconfig.context("prod-kit-7").unwrap();
    let ours = context.ours().unwrap();
    assert_eq!((ours.grant, ours.user.as_deref()), (record.grant_name().to_string(), Some("kit-7")));
    assert_eq!((ours.roles, ours.not_after), (vec![Role::Admin, Role::Reader], opened.facts().until));
    let again = opened.grant(&Asked { name: "eve".into(), ..asked_all() }, now).unwrap();
    assert_eq!(again.name(), record.grant_name(), "whoever opens it, a node sees the same");
    let refused = LocallyRecorded::record(&opened, again, &machine(), folder.path()).unwrap_err().to_string();
    assert!(refused.contains("there is a record at"), "{refused}: at the same moment");
    assert_eq!(std::fs::read_to_string(&first).unwrap(), text, "no record is written over");
    let later = "2027-08-01T12:00:00.000001Z".parse().unwrap();
    let again = opened.grant(&Asked { name: "eve".into(), ..asked_all() }, later).unwrap();
    let second = LocallyRecorded::record(&opened, again, &machine(), folder.path()).unwrap();
    assert_eq!(records(folder.path()).unwrap(), [first, second.path().to_owned()], "and each has its record");
}

/// What a static kit can be asked for: all that it has.
fn asked_all() -> Asked {
    Asked { roles: vec![Role::Reader, Role::Admin], ..asked() }
}

/// The public key of the static vectors' certificate: the seed 0x08 × 32.
fn static_key() -> Vec<u8> {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap().public_key().as_ref().to_vec()
}

#[test]
fn a_static_kit_gives_no_less_and_no_longer_than_it_says() {
    let now = "2026-12-01T12:00:00Z";
    let opened = opened_static(STATIC, now).unwrap();
    let refused = |asked: Asked| opened.grant(&asked, now.parse().unwrap()).unwrap_err().to_string();
    assert!(refused(asked()).contains("static kit: its one certificate holds os:admin, os:reader"), "a part of it");
    assert!(refused(Asked { ttl: Some(3601), ..asked_all() }).contains("at most 3600"));
    assert!(refused(Asked { reason: "--".into(), ..asked_all() }).contains("a reason "));
    for at in ["2026-11-22T11:59:29Z", "2027-11-22T00:00:00Z"] {
        assert!(opened_static(STATIC, at).unwrap_err().to_string().contains("the kit stays shut"), "{at}");
    }
    // sealed so by whoever made it: the certificate is held against the facts all the same
    let resealed = |bend: &dyn Fn(&mut Facts), seed: u8| {
        let shares = || STATIC_SHARES.lines().take(3).map(|share| Share::parse(share).unwrap()).collect::<Vec<_>>();
        let mut facts = opened.facts().clone();
        bend(&mut facts);
        let file = KitFile::seal(facts, &Secret::new(&pkcs8(seed)), &combine(&shares()).unwrap(), [1; 12]).unwrap();
        opened_static(&file.to_text().unwrap(), now).map(drop)
    };
    assert!(resealed(&|_| {}, 8).is_ok());
    let refused = |bent: Result<(), Error>| {
        let error = bent.unwrap_err().to_string();
        assert!(error.contains("the kit's certificate is not what its facts say"), "{error}");
    };
    refused(resealed(&|facts| facts.roles = vec![Role::Admin], 8));
    refused(resealed(&|facts| facts.certificate = Some(facts.kit_ca.clone()), 8));
    refused(resealed(&|_| {}, 7));
}

struct Holder {
    folder: tempfile::TempDir,
    identity: age::x25519::Identity,
}

impl Holder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), identity: age::x25519::Identity::generate() }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn key(&self) -> PathBuf {
        use age::secrecy::ExposeSecret as _;
        self.file("key", format!("# a comment\n{}\n", self.identity.to_string().expose_secret()).as_bytes())
    }

    fn sealed(&self, text: &str) -> PathBuf {
        let recipient = self.identity.to_public();
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
        let mut sealed = Vec::new();
        let mut writer = encryptor.wrap_output(&mut sealed).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap();
        self.file("share.age", &sealed)
    }
}

#[test]
fn a_sealed_share_opens_with_its_holders_key_alone() {
    let (ada, bob) = (Holder::new(), Holder::new());
    let text = SHARES.lines().next().unwrap();
    let sealed = ada.sealed(text);
    let with = |keys: &[PathBuf]| read_share(&sealed, &Identities::read(keys).unwrap());
    assert_eq!(*with(&[bob.key(), ada.key()]).unwrap().to_text(), text);
    assert!(with(&[bob.key()]).unwrap_err().to_string().contains("none of the keys given opens"));
    assert!(with(&[]).is_err());
    assert_eq!(*read_share(&ada.file("plain", text.as_bytes()), &Identities::default()).unwrap().to_text(), text);
    let mut damaged = std::fs::read(&sealed).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = ada.file("damaged.age", &damaged);
    let error = read_share(&damaged, &Identities::read(&[ada.key()]).unwrap()).unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
}

#[test]
fn an_ssh_key_with_a_passphrase_is_left_to_age() {
    let ada = Holder::new();
    let sealed = ada.file("id_ed25519", include_bytes!("../../../broker/tests/keys/sealed"));
    let error = Identities::read(&[sealed]).unwrap_err();
    assert!(error.to_string().contains("sealed with a passphrase"), "{error}");
    assert!(error.next_steps()[0].contains("age -d"), "{error}");
    assert!(Identities::read(&[ada.file("id", include_bytes!("../../../broker/tests/keys/ed25519"))]).is_ok());
}

#[test]
fn case_22_a_plugins_identity_or_stanza_in_a_share_runs_no_program() {
    let ada = Holder::new();
    let plugin = ada.file("plugin", b"AGE-PLUGIN-SH-1QQQQ\n");
    let error = Identities::read(&[plugin]).unwrap_err();
    assert!(error.to_string().contains("runs no plugin") && error.next_steps()[0].contains("age -d"), "{error}");
    // a stanza that names a program in its type and arguments is a recipient that no key of ours is
    let hostile = b"age-encryption.org/v1\n-> ../../bin/sh -c id\nAAAA\n--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n0123456789abcdef";
    let hostile = ada.file("hostile.age", hostile);
    assert!(read_share(&hostile, &Identities::read(&[ada.key()]).unwrap()).is_err());
}
