use std::borrow::Cow;

use data_encoding::BASE64;

use super::*;
use crate::custody::record::{Place, Record};
use crate::custody::vault::backup::{Archive, Entry, Kind};
use crate::regular::ReadError;

/// A vault with a CA and a record, a key for backups, and a folder for them.
pub(super) struct Site {
    root: tempfile::TempDir,
    pub(super) dir: PathBuf,
    key: x25519::Identity,
}

impl Site {
    pub(super) fn new() -> Self {
        let (root, dir) = demo();
        Sealer::at(&dir).unwrap().seal_ca(&cluster("prod"), &made(), false).unwrap();
        Sealer::at(&dir).unwrap().seal_ca_file(&cluster("prod"), "prod.2.age", &made(), false).unwrap();
        let (server, mount, path) = ("main".to_owned(), "secret".to_owned(), "ichor/staging".to_owned());
        Record::first(Place::Kv { server, mount, path }).write(&dir, &cluster("staging"), false).unwrap();
        Self { root, dir, key: x25519::Identity::generate() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(super) fn recipient(&self) -> String {
        self.key.to_public().to_string()
    }

    fn identity(&self) -> IdentitySource {
        IdentitySource::Text(self.key.to_string().expose_secret().to_owned().into())
    }

    /// A backup for the key alone.
    pub(super) fn back_up(&self) -> PathBuf {
        let path = self.path("backup.age");
        let recipient = self.key.to_public().to_string();
        let backup = open(&self.dir).unwrap().backup(&[recipient], Timestamp::UNIX_EPOCH).unwrap();
        backup.write(&path).unwrap();
        path
    }

    pub(super) fn open(&self, path: &Path) -> Result<Archived, VaultError> {
        Archived::open(path, self.identity(), &self.dir, &Plugins::default())
    }

    /// A backup of these files, however crooked, for the key alone.
    pub(super) fn crafted(&self, files: &[(Kind, &str, &[u8])]) -> PathBuf {
        let contents: Vec<_> = files.iter().map(|(_, _, content)| BASE64.encode(content)).collect();
        let files = files.iter().zip(&contents);
        let files = files.map(|((kind, name, _), content)| Entry { kind: *kind, name: Cow::Borrowed(*name), content });
        let recipient = self.key.to_public().to_string();
        let archive = Archive {
            version: 1,
            made: Timestamp::UNIX_EPOCH,
            recipients: vec![recipient.clone()],
            log: None,
            files: files.collect(),
        };
        let to = Recipients::parse(&recipient, &Plugins::default()).unwrap().unwrap();
        let path = self.path("crafted.age");
        let sealed = to.seal(|writer| serde_json::to_writer(writer, &archive).map_err(Into::into)).unwrap();
        fs::write(&path, sealed).unwrap();
        path
    }

    fn left_over(&self) -> usize {
        fs::read_dir(self.root.path()).unwrap().count()
    }
}

#[test]
fn a_backup_becomes_the_same_vault_again() {
    let site = Site::new();
    let vault = open(&site.dir).unwrap();
    let ca = vault.open_ca(&cluster("prod")).unwrap();
    let data_key = vault.open_secret(DATA_KEY).unwrap();
    let backup = vault.backup(&[site.key.to_public().to_string()], Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(
        backup.holds(),
        [
            "ca prod",
            "ca prod.2",
            "secret audit-key",
            "secret data-key",
            "record of ca prod",
            "record of ca staging",
            "identity.txt"
        ]
    );
    assert_eq!(backup.recipients(), "1 X25519");
    let path = site.path("backup.age");
    backup.write(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(backup.write(&path), Err(VaultError::Exists(_))));

    let archived = site.open(&path).unwrap();
    assert_eq!((archived.digest(), archived.made()), (backup.digest().as_str(), Timestamp::UNIX_EPOCH));
    let dir = site.path("again");
    archived.restore(&dir, &[], &Plugins::default()).unwrap();
    let again = open(&dir).unwrap();
    assert_eq!(again.list().unwrap(), vault.list().unwrap());
    assert_eq!(again.open_ca(&cluster("prod")).unwrap().certificate(), ca.certificate());
    again.open_ca_file(&cluster("prod"), "prod.2.age").unwrap();
    assert_eq!(again.open_secret(DATA_KEY).unwrap().as_slice(), data_key.as_slice());
    for file in ["ca/staging.toml", "ca/prod.toml", "recipients.txt"] {
        assert_eq!(fs::read(dir.join(file)).unwrap(), fs::read(site.dir.join(file)).unwrap(), "{file}");
    }
    for (file, mode) in [("", 0o700), ("ca", 0o700), ("ca/prod.age", 0o600), ("identity.txt", 0o600)] {
        assert_eq!(fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
}

#[test]
fn promise_2_a_backup_shows_no_key() {
    let site = Site::new();
    let path = site.back_up();
    let key = open(&site.dir).unwrap().open_ca(&cluster("prod")).unwrap().signer().to_pkcs8().unwrap();
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(32).any(|window| window == &key.as_slice()[16..48]));
    let shown = format!("{:?} {:?}", site.open(&path).unwrap(), open(&site.dir).unwrap());
    assert!(!shown.contains(&BASE64.encode(key.as_slice())) && !shown.contains("AGE-SECRET"), "{shown}");
}

#[test]
fn a_backup_opens_for_those_it_was_sealed_to_and_nobody_else() {
    let site = Site::new();
    let path = site.back_up();
    let broker = Archived::open(&path, IdentitySource::DangerBeside, &site.dir, &Plugins::default());
    assert!(matches!(broker, Err(VaultError::NoMatch(_))));
    // unless told otherwise it is for the vault's own
    let own = site.path("own.age");
    let vault = open(&site.dir).unwrap();
    vault.backup(&[], Timestamp::UNIX_EPOCH).unwrap().write(&own).unwrap();
    assert!(vault.opens_only_by_itself());
    Archived::open(&own, IdentitySource::DangerBeside, &site.dir, &Plugins::default()).unwrap();
    assert!(matches!(site.open(&own), Err(VaultError::NoMatch(_))));
    // an identity that is sealed with a passphrase and lies elsewhere
    let text = SecretString::from(fs::read_to_string(site.dir.join("identity.txt")).unwrap());
    let passphrase = || SecretString::from("correct horse battery".to_owned());
    fs::write(site.path("identity.age"), identity::seal(&text, &passphrase(), 4).unwrap()).unwrap();
    let source = IdentitySource::File(site.path("identity.age"), passphrase());
    Archived::open(&own, source, &site.path("nowhere"), &Plugins::default()).unwrap();
}

#[test]
fn restored_for_others_the_old_identity_stays_out() {
    let site = Site::new();
    let archived = site.open(&site.back_up()).unwrap();
    let dir = site.path("again");
    fs::create_dir(&dir).unwrap();
    archived.restore(&dir, &[site.key.to_public().to_string()], &Plugins::default()).unwrap();
    assert!(!dir.join("identity.txt").exists());
    let vault = Vault::open(&dir, site.identity()).unwrap();
    vault.open_ca(&cluster("prod")).unwrap();
    assert!(
        Vault::open(&dir, IdentitySource::Text(fs::read_to_string(site.dir.join("identity.txt")).unwrap().into()))
            .is_err()
    );
}

#[test]
fn nothing_is_restored_over_anything() {
    let site = Site::new();
    let archived = site.open(&site.back_up()).unwrap();
    let before = fs::read(site.dir.join("ca/prod.age")).unwrap();
    let plugins = Plugins::default();
    assert_eq!(archived.restore(&site.dir, &[], &plugins), Err(VaultError::NotEmpty(site.dir.clone())));
    assert_eq!(fs::read(site.dir.join("ca/prod.age")).unwrap(), before);
    let count = site.left_over();
    fs::write(site.path("file"), "").unwrap();
    assert!(matches!(archived.restore(&site.path("file"), &[], &plugins), Err(VaultError::File { .. })));
    assert!(matches!(archived.restore(&site.path("no/folder"), &[], &plugins), Err(VaultError::File { .. })));
    assert!(matches!(archived.restore(&site.path("new"), &["x".into()], &plugins), Err(VaultError::Recipient(_))));
    assert_eq!(site.left_over(), count + 1, "a failed restore leaves nothing");
}

#[test]
fn a_drill_finds_a_pair_that_is_none_and_nothing_is_made_of_it() {
    let site = Site::new();
    let document = |cluster: &str, certificate: &CaMaterial, key: &CaMaterial| {
        let key = key.signer().to_pkcs8().unwrap();
        let certificate = certificate.certificate().pem();
        let key = BASE64.encode(key.as_slice());
        let document = serde_json::json!({"version": 1, "ca": cluster, "certificate": certificate, "key": key});
        serde_json::to_vec(&document).unwrap()
    };
    let (one, other) = (made(), made());
    let path = site.crafted(&[
        (Kind::Ca, "good", &document("good", &one, &one)),
        (Kind::Ca, "mixed", &document("mixed", &one, &other)),
        (Kind::Ca, "moved", &document("other", &one, &one)),
        (Kind::Ca, "garbage", b"garbage"),
        (Kind::Secret, "data-key", br#"{"version":1,"secret":"data-key","value":"AAAA"}"#),
    ]);
    let archived = site.open(&path).unwrap();
    let found: Vec<_> = archived.drill().into_iter().map(|drilled| (drilled.what, drilled.found)).collect();
    assert!(
        matches!(&found[0], (what, Ok(said)) if what == "ca good" && said.starts_with("key and certificate belong"))
    );
    assert!(matches!(found[1].1, Err(VaultError::Mismatch(_))));
    assert!(matches!(found[2].1, Err(VaultError::Mislabelled { .. })));
    assert!(matches!(found[3].1, Err(VaultError::Damaged(_))));
    assert!(matches!(found[4].1, Err(VaultError::Data(_))));
    let count = site.left_over();
    assert!(archived.restore(&site.path("again"), &[], &Plugins::default()).is_err());
    assert_eq!(site.left_over(), count);
}

#[test]
fn a_backup_names_no_place_outside_of_the_vault() {
    let site = Site::new();
    for (kind, name) in [
        (Kind::Record, "../../evil"),
        (Kind::Record, "/etc/evil"),
        (Kind::Record, ".."),
        (Kind::Ca, "../evil"),
        (Kind::Ca, "prod.."),
        (Kind::Ca, "prod.2/../../evil"),
        (Kind::Secret, "../ca/evil"),
        (Kind::Identity, "../identity.txt"),
        (Kind::Identity, "recipients.txt"),
        (Kind::Record, ""),
        (Kind::Record, "a\0b"),
    ] {
        let path = site.crafted(&[(kind, name, b"x")]);
        assert!(matches!(site.open(&path), Err(VaultError::Damaged(_))), "{kind:?} {name:?}");
    }
    let twice = site.crafted(&[(Kind::Record, "a", b"x"), (Kind::Record, "a", b"y")]);
    assert!(matches!(site.open(&twice), Err(VaultError::Damaged(_))));
}

#[test]
fn a_damaged_or_foreign_file_is_no_backup() {
    let site = Site::new();
    let good = fs::read(site.back_up()).unwrap();
    let path = site.path("bad.age");
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    for bytes in [&changed[..], &good[..good.len() - 1], &good[..50], b"garbage", b""] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(site.open(&path), Err(VaultError::Damaged(_))), "{} bytes", bytes.len());
    }
    fs::File::create(&path).unwrap().set_len((16 << 20) + 1).unwrap();
    assert_eq!(
        site.open(&path).unwrap_err(),
        VaultError::Unread { path: path.clone(), why: ReadError::TooLarge(16 << 20) }
    );
    // sealed to the key, and something else
    let to = Recipients::parse(&site.key.to_public().to_string(), &Plugins::default()).unwrap().unwrap();
    for text in ["{}", "[]", r#"{"version":2,"made":"1970-01-01T00:00:00Z","recipients":[],"files":[]}"#] {
        fs::write(&path, to.seal(|writer| writer.write_all(text.as_bytes())).unwrap()).unwrap();
        assert!(matches!(site.open(&path), Err(VaultError::Damaged(_))), "{text}");
    }
    assert!(matches!(site.open(&site.path("none.age")), Err(VaultError::File { .. })));
}

#[test]
fn what_does_not_open_is_not_backed_up() {
    let site = Site::new();
    fs::copy(site.dir.join("ca/prod.age"), site.dir.join("ca/lab.age")).unwrap();
    let error = open(&site.dir).unwrap().backup(&[], Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(matches!(error, VaultError::Mislabelled { .. }), "{error}");
}
