//! A kit of the committed vectors, opened: what it gives, what it refuses, and that nothing is made before its record is on disk.

use std::io::Write as _;
use std::path::PathBuf;

use ichor_wire::kit::{Gathered, KitFile, Share, SignedRecord};
use ichor_wire::role::Role;
use jiff::Timestamp;

use super::*;

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
