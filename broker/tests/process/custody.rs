//! The vault's own life: plugins that the configuration allows, and what is recorded.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{CLUSTER, Host, run};

/// Recipient and identity of the plugin `double`, which stands in `tests/plugins`.
const DOUBLE: (&str, &str) = ("age1double10qnf9hl4", "AGE-PLUGIN-DOUBLE-10QH4Y7PM");

/// Runs a command where the plugin is found in `programs`, with these systemd credentials; what it said, or the error.
fn with(programs: &Path, credentials: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ichor-broker"));
    let path = format!("{}:/usr/bin:/bin", programs.display());
    command.args(arguments).stdin(Stdio::null()).env("PATH", path).env("CREDENTIALS_DIRECTORY", credentials);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugins_that_are_configured_run_and_no_others() -> anyhow::Result<()> {
    let host = Host::new().await?;
    let dir = host.dir.to_string_lossy().into_owned();
    let (programs, credentials) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let double = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/age-plugin-double");
    std::os::unix::fs::symlink(double, programs.path().join("age-plugin-double"))?;
    let run =
        |arguments: &[&str]| with(programs.path(), credentials.path(), &[arguments, &["--dir", dir.as_str()]].concat());
    let reseal = ["custody", "reseal", "--recipient", DOUBLE.0, "--reason", "a key in hardware"];

    let error = run(&reseal).unwrap_err();
    assert!(error.contains("add `plugins = [\"double\"]` under [custody]"), "{error}");
    let path = host.dir.join("config.toml");
    let config = std::fs::read_to_string(&path)?;
    let set = |line: &str| std::fs::write(&path, config.replace("[custody]", &format!("[custody]\nplugins = {line}")));
    set("[\"yubikey\"]")?;
    assert!(run(&reseal).unwrap_err().contains("`age-plugin-double` is not allowed"));
    set("[\"../double\"]")?;
    let error = run(&reseal).unwrap_err();
    assert!(error.contains("`custody.plugins` in") && error.contains("not a plugin's name"), "{error}");
    assert!(!programs.path().join("ran-double").exists(), "nothing ran until now");

    set("[\"double\"]")?;
    run(&reseal).unwrap();
    assert!(programs.path().join("ran-double").exists());
    // `check` fails for the provider's sake; what it says of the vault is what is looked at
    let mut check = Command::new(env!("CARGO_BIN_EXE_ichor-broker"));
    let said = check.args(["check", "--dir", &dir]).env("PATH", "/nowhere").output()?.stdout;
    let said = String::from_utf8(said)?;
    assert!(said.contains("vault, sealed to 1 X25519, 1 double; plugins double allowed: "), "{said}");
    assert!(said.contains("no program `age-plugin-double` on the PATH"), "{said}");

    // and it opens
    let config = std::fs::read_to_string(&path)?;
    std::fs::write(&path, config.replace("identity = \"insecure-beside\"", "identity = \"credential\""))?;
    std::fs::write(credentials.path().join("ichor-identity"), DOUBLE.1)?;
    std::fs::remove_file(host.dir.join("vault/identity.txt"))?;
    assert!(run(&["ca", "show"]).unwrap().contains(CLUSTER));
    set("[]")?;
    assert!(run(&["ca", "show"]).unwrap_err().contains("not allowed"));
    Ok(())
}

/// The passphrase comes as a credential, as it would to a service.
#[test]
fn a_copy_of_the_sealed_identity_opens_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::create_dir(at("credentials")).unwrap();
    std::fs::write(at("credentials/ichor-passphrase"), "correct horse battery\n").unwrap();
    let run = |arguments: &[&str]| with(folder.path(), Path::new(&at("credentials")), arguments);
    let (dir, backup, copy) = (at("broker"), at("vault.age"), at("identity.age"));
    run(&["init", &dir]).unwrap();
    let said = run(&["custody", "backup", &backup, "--reason", "tests", "--dir", &dir]).unwrap();
    assert!(said.contains("warning: only the identity in the vault's own folder opens this backup"), "{said}");
    std::fs::rename(format!("{dir}/vault/identity.age"), &copy).unwrap();
    std::fs::remove_dir_all(format!("{dir}/vault")).unwrap();
    let restore = ["custody", "restore", &backup, "--reason", "tests", "--dir", &dir];
    assert!(run(&restore).unwrap_err().contains("name the one that opens the backup with `--identity`"));
    run(&[&restore[..], &["--identity", &copy]].concat()).unwrap();
    assert_eq!(std::fs::read(format!("{dir}/vault/identity.age")).unwrap(), std::fs::read(&copy).unwrap());
    run(&["custody", "reseal", "--reason", "it opens", "--dir", &dir]).unwrap();
}

#[test]
fn the_identity_can_come_on_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (dir, backup) = (at("broker"), at("vault.age"));
    run(&["init", &dir, "--insecure-identity-beside"]).unwrap();
    let recipient = include_str!("../keys/ed25519.pub").trim();
    run(&["custody", "backup", &backup, "--recipient", recipient, "--reason", "tests", "--dir", &dir]).unwrap();
    let drill = |identity: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ichor-broker"));
        command.args(["custody", "restore", &backup, "--drill", "--identity", "-", "--reason", "tests", "--dir", &dir]);
        let input = at("input");
        std::fs::write(&input, identity).unwrap();
        command.stdin(std::fs::File::open(input).unwrap()).output().unwrap()
    };
    assert!(drill(include_str!("../keys/ed25519")).status.success());
    for other in [include_str!("../keys/rsa"), "", "nonsense", "age-encryption.org/v1\n"] {
        assert!(!drill(other).status.success(), "{other}");
    }
}

/// A name alone stands in the current folder, and that is somebody's.
#[test]
fn root_restores_into_no_current_folder_of_somebody_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (dir, backup, theirs) = (at("broker"), at("vault.age"), at("theirs"));
    run(&["init", &dir, "--insecure-identity-beside"]).unwrap();
    run(&["custody", "backup", &backup, "--reason", "tests", "--dir", &dir]).unwrap();
    std::fs::create_dir(&theirs).unwrap();
    // nobody else can give a folder away: what is left to see is that one's own is no obstacle
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&theirs, Some(65_534), None).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_ichor-broker"));
    command.args(["custody", "restore", &backup, "--to", "vault.new", "--reason", "tests", "--dir", &dir]);
    let output = command.current_dir(&theirs).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.success(), said.contains("sudo -u")), (!is_root, is_root), "{said}");
    assert_eq!(Path::new(&theirs).join("vault.new").exists(), !is_root);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_the_vault_is_recorded_by_the_running_broker_or_without_one() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let dir = host.dir.to_string_lossy().into_owned();
    let at = |name: &str| host.dir.with_file_name(name).to_string_lossy().into_owned();
    let (backup, none, copy) = (at("vault.age"), at("none.age"), at("copy"));
    let custody = |arguments: &[&str]| run(&[&["custody"], arguments, &["--dir", dir.as_str()]].concat());
    host.start()?;
    custody(&["reseal", "--reason", "one"])?;
    custody(&["backup", &backup, "--reason", "two"])?;
    host.kill();
    custody(&["restore", &backup, "--drill", "--reason", "three"])?;
    custody(&["restore", &backup, "--to", &copy, "--reason", "four"])?;
    custody(&["restore", &none, "--drill", "--reason", "five"]).unwrap_err();

    let log = host.log().await?;
    let mut acts = Vec::new();
    for entry in &log {
        let field = |name: &str| entry.detail.get(name).cloned().unwrap_or_default();
        if ["one", "two", "three", "four", "five"].contains(&field("reason").as_str()) {
            assert!(!field("os_user").is_empty() && !field("host").is_empty(), "{entry:?}");
            let digests = entry.detail.keys().filter_map(|key| key.strip_prefix("digest of ")).map(String::from);
            acts.push((field("reason"), field("message"), digests.collect::<Vec<_>>().join(",")));
        }
    }
    let said = |reason: &str, message: String, digests: &str| (reason.to_owned(), message, digests.to_owned());
    let expected = [
        said("one", "vault sealed again: 3 files, 1 recipient".into(), "recipients.txt"),
        said("two", format!("vault backed up to `{backup}`: 5 files"), "backup"),
        said("three", format!("backup `{backup}` tried out: 5 of 5 files good"), "backup"),
        said("four", format!("vault restored to `{copy}` from `{backup}`: 5 files"), "backup"),
    ];
    assert_eq!(acts[..4], expected);
    assert!(acts[4].1.contains("does not open"), "{acts:?}");
    Ok(())
}
