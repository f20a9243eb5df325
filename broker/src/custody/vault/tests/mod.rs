use std::fs;
use std::os::unix::fs::PermissionsExt;

use age::secrecy::ExposeSecret;
use jiff::Timestamp;

use super::*;
use crate::custody::{StandingError, ca};
use crate::regular::ReadError;

mod backup;
mod reseal;
mod ssh;
mod whole;

fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).unwrap()
}

fn made() -> CaMaterial {
    ca::create(&cluster("prod"), Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(500_000), 1).unwrap()
}

/// A vault whose identity is the given source's.
fn demo() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("vault");
    Vault::create(&dir, Keep::DangerBeside, &[]).unwrap();
    (root, dir)
}

fn open(dir: &Path) -> Result<Vault, VaultError> {
    Vault::open(dir, IdentitySource::DangerBeside)
}

#[test]
fn what_was_sealed_opens() {
    let (_root, dir) = demo();
    let ca = made();
    // Sealing needs no identity.
    let sealer = Sealer::at(&dir).unwrap();
    sealer.seal_ca(&cluster("prod"), &ca, false).unwrap();
    sealer.seal_secret("other", b"value", false).unwrap();
    let vault = open(&dir).unwrap();
    let opened = vault.open_ca(&cluster("prod")).unwrap();
    assert_eq!(opened.certificate(), ca.certificate());
    assert_eq!(vault.open_secret("other").unwrap().as_slice(), b"value");
    assert_eq!(vault.open_secret(DATA_KEY).unwrap().as_slice().len(), 32);
    vault.data_key().unwrap();
    let listing =
        Listing { cas: vec!["prod".into()], secrets: vec!["audit-key".into(), "data-key".into(), "other".into()] };
    assert_eq!(vault.list().unwrap(), listing);
    assert!(matches!(vault.open_ca(&cluster("staging")), Err(VaultError::Missing(_))));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let (_root, dir) = demo();
    let sealer = Sealer::at(&dir).unwrap();
    sealer.seal_ca(&cluster("prod"), &made(), false).unwrap();
    let before = fs::read(dir.join("ca/prod.age")).unwrap();
    assert!(matches!(sealer.seal_ca(&cluster("prod"), &made(), false), Err(VaultError::Exists(_))));
    assert_eq!(fs::read(dir.join("ca/prod.age")).unwrap(), before);
    let new = made();
    sealer.seal_ca(&cluster("prod"), &new, true).unwrap();
    assert_eq!(open(&dir).unwrap().open_ca(&cluster("prod")).unwrap().certificate(), new.certificate());
    assert!(matches!(sealer.create_secret(DATA_KEY), Err(VaultError::Exists(_))));
    assert!(matches!(Vault::create(&dir, Keep::DangerBeside, &[]), Err(VaultError::Exists(_))));
    // the CA and its record: no temporary file is left behind
    assert_eq!(fs::read_dir(dir.join("ca")).unwrap().count(), 2);
}

#[test]
fn only_the_owner_may_read() {
    let (_root, dir) = demo();
    Sealer::at(&dir).unwrap().seal_ca(&cluster("prod"), &made(), false).unwrap();
    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
    for folder in ["", "ca", "secrets"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    for file in ["identity.txt", "recipients.txt", "ca/prod.age", "secrets/data-key.age"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn promise_2_no_key_lies_in_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("vault");
    let created = Vault::create(&dir, Keep::Elsewhere, &[]).unwrap();
    let ca = made();
    let sealer = Sealer::at(&dir).unwrap();
    sealer.seal_ca(&cluster("prod"), &ca, false).unwrap();
    let key = ca.signer().to_pkcs8().unwrap();
    let base64 = data_encoding::BASE64.encode(key.as_slice());
    let seed = &key.as_slice()[16..48];
    for path in ["ca/prod.age", "recipients.txt", "secrets/data-key.age"] {
        let bytes = fs::read(dir.join(path)).unwrap();
        assert!(!bytes.windows(32).any(|w| w == seed), "{path}");
        assert!(!String::from_utf8_lossy(&bytes).contains(&base64), "{path}");
        assert!(!String::from_utf8_lossy(&bytes).contains("AGE-SECRET-KEY"), "{path}");
    }
    assert!(!dir.join("identity.txt").exists() && !dir.join("identity.age").exists());
    let identity = created.identity.unwrap();
    assert!(identity.expose_secret().contains(&created.recipient));
    let vault = Vault::open(&dir, IdentitySource::Text(identity)).unwrap();
    assert!(vault.open_ca(&cluster("prod")).is_ok());
    assert!(vault.warnings().is_empty(), "{:?}", vault.warnings());
    let shown = format!("{vault:?} {:?}", vault.open_ca(&cluster("prod")));
    assert!(!shown.contains("AGE-SECRET") && !shown.contains(&base64), "{shown}");
}

#[test]
fn a_passphrase_opens_and_a_wrong_one_does_not() {
    let (_root, dir) = demo();
    let text = SecretString::from(fs::read_to_string(dir.join("identity.txt")).unwrap());
    let passphrase = |p: &str| SecretString::from(p.to_owned());
    // Little work, so that the test is quick.
    let sealed = identity::seal(&text, &passphrase("correct horse battery"), 4).unwrap();
    file::write(&dir.join("identity.age"), &sealed, false).unwrap();
    let with = |p: &str| Vault::open(&dir, IdentitySource::Passphrase(passphrase(p))).map(|_| ());
    assert_eq!(with("correct horse battery"), Ok(()));
    assert_eq!(with("wrong horse battery"), Err(VaultError::WrongPassphrase));
    assert_eq!(identity::seal(&text, &passphrase("short"), 4), Err(VaultError::ShortPassphrase));
    // Asks for hours of work and a terabyte of memory.
    let at = sealed.windows(3).position(|w| w == b" 4\n").unwrap();
    let greedy = [&sealed[..at], b" 30\n", &sealed[at + 3..]].concat();
    file::write(&dir.join("identity.age"), &greedy, true).unwrap();
    assert!(matches!(with("correct horse battery"), Err(VaultError::Work(_))));
    fs::remove_file(dir.join("identity.age")).unwrap();
    assert!(matches!(with("correct horse battery"), Err(VaultError::NoIdentity(_))));
}

#[test]
fn another_identity_is_told_from_a_damaged_file() {
    let (_root, dir) = demo();
    let (_other_root, other) = demo();
    let sealer = Sealer::at(&dir).unwrap();
    sealer.seal_ca(&cluster("prod"), &made(), false).unwrap();

    // Another vault's identity is refused at once.
    let foreign = SecretString::from(fs::read_to_string(other.join("identity.txt")).unwrap());
    assert!(matches!(Vault::open(&dir, IdentitySource::Text(foreign)), Err(VaultError::NotARecipient(_))));

    // A file sealed to others.
    Sealer::at(&other).unwrap().seal_ca(&cluster("theirs"), &made(), false).unwrap();
    fs::copy(other.join("ca/theirs.age"), dir.join("ca/theirs.age")).unwrap();
    let vault = open(&dir).unwrap();
    assert!(matches!(vault.open_ca(&cluster("theirs")), Err(VaultError::NoMatch(_))));

    // A changed byte, a cut, garbage, nothing.
    let path = dir.join("ca/prod.age");
    let good = fs::read(&path).unwrap();
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    for bytes in [&changed[..], &good[..good.len() - 1], &good[..40], b"garbage", b""] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(vault.open_ca(&cluster("prod")), Err(VaultError::Damaged(_))), "{} bytes", bytes.len());
    }
}

#[test]
fn a_moved_file_does_not_open_as_something_else() {
    let (_root, dir) = demo();
    let sealer = Sealer::at(&dir).unwrap();
    sealer.seal_ca(&cluster("staging"), &made(), false).unwrap();
    sealer.seal_secret("other", b"value", false).unwrap();
    fs::rename(dir.join("ca/staging.age"), dir.join("ca/prod.age")).unwrap();
    fs::copy(dir.join("secrets/other.age"), dir.join("secrets/data-key.age")).unwrap();
    let vault = open(&dir).unwrap();
    let found = |error| match error {
        VaultError::Mislabelled { found, .. } => found,
        other => panic!("{other}"),
    };
    assert_eq!(found(vault.open_ca(&cluster("prod")).unwrap_err()), "staging");
    assert_eq!(found(vault.open_secret(DATA_KEY).unwrap_err()), "other");
    // Nor a secret as a CA.
    fs::copy(dir.join("secrets/other.age"), dir.join("ca/prod.age")).unwrap();
    assert!(matches!(vault.open_ca(&cluster("prod")), Err(VaultError::Damaged(_))));
}

#[test]
fn a_standing_credential_opens_for_its_cluster_alone() {
    let (_root, dir) = demo();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "os:admin");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let credential = StandingCredential::from_pem(&certificate, &key.serialize_pem()).unwrap();
    // the longest name that a cluster can have
    let (long, prod) = (cluster(&"c".repeat(63)), cluster("prod"));
    let sealer = Sealer::at(&dir).unwrap();
    sealer.seal_talos_credential(&long, &credential, false).unwrap();
    assert!(matches!(sealer.seal_talos_credential(&long, &credential, false), Err(VaultError::Exists(_))));
    let vault = open(&dir).unwrap();
    assert_eq!(vault.open_talos_credential(&long).unwrap().fingerprint(), credential.fingerprint());
    assert!(matches!(vault.open_talos_credential(&prod), Err(VaultError::Missing(_))));
    fs::rename(dir.join(format!("secrets/talos-{long}.age")), dir.join("secrets/talos-prod.age")).unwrap();
    assert!(matches!(vault.open_talos_credential(&prod), Err(VaultError::Mislabelled { .. })));
    sealer.seal_secret("talos-prod", b"{}", true).unwrap();
    assert!(matches!(vault.open_talos_credential(&prod), Err(VaultError::Standing(StandingError::Unreadable))));
}

#[test]
fn several_recipients_can_open() {
    let root = tempfile::tempdir().unwrap();
    let backup = x25519::Identity::generate();
    Vault::create(root.path(), Keep::DangerBeside, &[backup.to_public().to_string()]).unwrap();
    let text = SecretString::from(format!("# backup\n\n{}\n", backup.to_string().expose_secret()));
    let vault = Vault::open(root.path(), IdentitySource::Text(text)).unwrap();
    vault.data_key().unwrap();
}

#[test]
fn names_and_recipients_are_checked() {
    let (_root, dir) = demo();
    let sealer = Sealer::at(&dir).unwrap();
    for name in ["", "../data-key", "a/b", "A", "-a", "a.b"] {
        assert!(matches!(sealer.seal_secret(name, b"x", false), Err(VaultError::Name(_))), "{name}");
    }
    let root = tempfile::tempdir().unwrap();
    let pasted = x25519::Identity::generate().to_string().expose_secret().to_owned();
    let error = Vault::create(&root.path().join("v"), Keep::DangerBeside, std::slice::from_ref(&pasted)).unwrap_err();
    assert_eq!(error, VaultError::Recipient("(an identity)".into()));
    assert!(!root.path().join("v").exists(), "a refused vault leaves nothing behind");
    assert!(matches!(Sealer::at(root.path()), Err(VaultError::NotAVault(_))));
}

#[test]
fn an_identity_beside_is_warned_of() {
    let (_root, dir) = demo();
    assert_eq!(open(&dir).unwrap().warnings().len(), 1);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(open(&dir).unwrap().warnings().len(), 2);
}

#[test]
fn secret_files_that_others_may_read_are_warned_of() {
    let site = tempfile::tempdir().unwrap();
    let dir = site.path().join("vault");
    Vault::create(&dir, Keep::DangerBeside, &[]).unwrap();
    let vault = open(&dir).unwrap();
    let before = vault.warnings();
    for file in ["secrets/data-key.age", "recipients.txt"] {
        fs::set_permissions(dir.join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let warnings = vault.warnings();
    assert_eq!(warnings.len(), before.len() + 1, "{warnings:?}");
    assert!(warnings.iter().any(|said| said.contains("data-key.age` has mode 644, as one of 1")), "{warnings:?}");
}

#[test]
fn what_decides_and_others_may_change_is_warned_of() {
    let site = tempfile::tempdir().unwrap();
    let dir = site.path().join("vault");
    Vault::create(&dir, Keep::DangerBeside, &[]).unwrap();
    let vault = open(&dir).unwrap();
    let set = |name: &str, mode| fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    for file in ["ca/prod.toml", "secrets/data-key.toml"] {
        fs::write(dir.join(file), "").unwrap();
        set(file, 0o644);
    }
    // they are no secrets
    set("recipients.txt", 0o644);
    let before = vault.warnings();
    for (name, mode) in [
        ("recipients.txt", 0o664),
        ("ca/prod.toml", 0o646),
        ("secrets/data-key.toml", 0o666),
        ("ca", 0o777),
        ("secrets", 0o770),
    ] {
        let good = fs::metadata(dir.join(name)).unwrap().permissions();
        set(name, mode);
        let warnings = vault.warnings();
        assert_eq!(warnings.len(), before.len() + 1, "{name}: {warnings:?}");
        let said = format!("{name}` has mode {mode:o}, as one of 1 in the vault by which others may change");
        assert!(warnings.iter().any(|warning| warning.contains(&said)), "{name}: {warnings:?}");
        fs::set_permissions(dir.join(name), good).unwrap();
    }
    assert_eq!(vault.warnings(), before);
}

#[test]
fn a_link_in_the_vaults_folder_is_followed_nowhere() {
    let site = tempfile::tempdir().unwrap();
    let (dir, other) = (site.path().join("vault"), site.path().join("other"));
    for dir in [&dir, &other] {
        Vault::create(dir, Keep::DangerBeside, &[]).unwrap();
    }
    Sealer::at(&dir).unwrap().seal_ca(&cluster("prod"), &made(), false).unwrap();
    let vault = open(&dir).unwrap();
    vault.open_ca(&cluster("prod")).unwrap();
    // the same file, by a link
    let (file, moved) = (dir.join("ca/prod.age"), site.path().join("moved.age"));
    std::fs::rename(&file, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &file).unwrap();
    let linked = |path: &Path| VaultError::Unread { path: path.to_owned(), why: ReadError::Link };
    assert_eq!(vault.open_ca(&cluster("prod")).unwrap_err(), linked(&file));
    // the folder of the secrets
    std::fs::rename(dir.join("secrets"), site.path().join("secrets")).unwrap();
    std::os::unix::fs::symlink(site.path().join("secrets"), dir.join("secrets")).unwrap();
    assert_eq!(vault.data_key().map(drop).unwrap_err(), linked(&dir.join("secrets")));
    assert_eq!(vault.list().unwrap_err(), linked(&dir.join("secrets")));
}
