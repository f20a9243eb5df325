use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::custody::vault::identity::Openers;
use crate::custody::vault::recipients::Recipients;
use crate::custody::vault::{VaultError, sealed};

/// A plugin's recipient and identity, made for its name with no data but one byte.
const PAIRS: &[(&str, &str, &str)] = &[
    ("double", "age1double10qnf9hl4", "AGE-PLUGIN-DOUBLE-10QH4Y7PM"),
    ("hangs", "age1hangs10qrcrm6v", "AGE-PLUGIN-HANGS-10Q203H0X"),
    ("asks", "age1asks10q0dg6n8", "AGE-PLUGIN-ASKS-10Q59Y2JK"),
    ("confirms", "age1confirms10qj0xa74", "AGE-PLUGIN-CONFIRMS-10QEH7GHZ"),
    ("babbles", "age1babbles10qt25ex4", "AGE-PLUGIN-BABBLES-10QJUJX45"),
    ("dies", "age1dies10qmcf6uq", "AGE-PLUGIN-DIES-10QM0WM0L"),
    ("says", "age1says10q7lp3nr", "AGE-PLUGIN-SAYS-10QWMN87H"),
    ("floods", "age1floods10qwetzkc", "AGE-PLUGIN-FLOODS-10Q7JTS4A"),
    ("absent", "age1absent10qyjreut", "AGE-PLUGIN-ABSENT-10QCT44TD"),
];

/// The folder on whose path the double stands under this name. A link, since a program just written cannot always be run.
fn installed(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let double = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/age-plugin-double");
    std::os::unix::fs::symlink(double, folder.path().join(format!("age-plugin-{name}"))).unwrap();
    folder
}

/// The folder first, then where the shell's own tools are.
fn path(folder: &Path) -> OsString {
    std::env::join_paths([folder, Path::new("/usr/bin"), Path::new("/bin")]).unwrap()
}

fn allowed(name: &str, folder: &Path) -> Plugins {
    Plugins::allow(&[name.to_owned()], path(folder), None).unwrap()
}

fn pair(name: &str) -> (&'static str, &'static str) {
    PAIRS.iter().find(|pair| pair.0 == name).map(|pair| (pair.1, pair.2)).unwrap()
}

fn seal(recipient: &str, plugins: &Plugins) -> Result<Vec<u8>, VaultError> {
    Recipients::parse(recipient, plugins)?.unwrap().seal(|writer| writer.write_all(b"value"))
}

fn open(sealed: &[u8], identity: &str, plugins: &Plugins) -> Result<Vec<u8>, VaultError> {
    let openers = Openers::parse(identity, plugins)?;
    Ok(sealed::open_bytes(Path::new("file"), sealed, &openers)?.as_slice().to_vec())
}

/// What sealing to a plugin of this name comes to.
fn fault(name: &str, deadline: Duration) -> PluginError {
    let folder = installed(name);
    let plugins = allowed(name, folder.path()).within(deadline);
    match seal(pair(name).0, &plugins) {
        Err(VaultError::Plugin(error)) => error,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn what_a_plugin_seals_it_opens() {
    let folder = installed("double");
    let plugins = allowed("double", folder.path());
    let (recipient, identity) = pair("double");
    let own = age::x25519::Identity::generate();
    let both = format!("{recipient}\n{}\n", own.to_public());
    let sealed = seal(&both, &plugins).unwrap();
    assert_eq!(open(&sealed, identity, &plugins).unwrap(), b"value");
    // an identity of our own is tried before, and then nothing runs
    fs::remove_file(folder.path().join("ran-double")).unwrap();
    let own = age_core::secrecy::ExposeSecret::expose_secret(&own.to_string()).to_owned();
    assert_eq!(open(&sealed, &format!("{identity}\n{own}"), &plugins).unwrap(), b"value");
    assert!(!folder.path().join("ran-double").exists());
    // a plugin that finds nothing of its own leaves it to the others
    let folder = installed("absent");
    let plugins = allowed("absent", folder.path());
    assert!(matches!(open(&sealed, pair("absent").1, &plugins), Err(VaultError::NoMatch(_))));
}

#[test]
fn a_plugin_gets_path_and_home_and_nothing_else_of_the_environment() {
    let folder = installed("double");
    let plugins = Plugins::allow(&["double".to_owned()], path(folder.path()), Some("/home/ichor".into())).unwrap();
    seal(pair("double").0, &plugins).unwrap();
    let seen = fs::read_to_string(folder.path().join("ran-double")).unwrap();
    // the shell adds these of its own
    let own = ["PWD", "OLDPWD", "SHLVL", "_"];
    let names = seen.lines().filter_map(|line| line.split('=').next()).filter(|name| !own.contains(name));
    assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(["HOME", "PATH"]));
    assert!(seen.contains("HOME=/home/ichor"), "{seen}");
}

/// The names come from files that others may have written. Whatever opens further such files goes through the same door.
#[test]
fn case_22_a_plugin_runs_only_if_the_configuration_names_it() {
    let folder = installed("double");
    let ran = || folder.path().join("ran-double").exists();
    let (recipient, identity) = pair("double");
    let none = Plugins { path: path(folder.path()), ..Plugins::default() };
    let other = allowed("yubikey", folder.path());
    for plugins in [&none, &other] {
        let refused = VaultError::Plugin(PluginError::NotAllowed("double".into()));
        assert_eq!(seal(recipient, plugins).unwrap_err(), refused);
        assert_eq!(open(b"", identity, plugins).unwrap_err(), refused);
        assert_eq!(plugins.program("double").unwrap_err(), PluginError::NotAllowed("double".into()));
    }
    assert!(!ran());
    // text that was valid Bech32 and leads out of the folder, or nowhere
    let crooked = [
        ("age1../x10qhh6u7k", "AGE-PLUGIN-../X-10Q8KWZ7V"),
        ("age1a/b10qwcv5sv", "AGE-PLUGIN-A/B-10QCSQHT3"),
        ("age1/bin/sh10q0ax0cx", "AGE-PLUGIN-/BIN/SH-10QT4VPNG"),
        ("age1a.b10ql56wmp", "AGE-PLUGIN-A.B-10QU3X3WS"),
        ("age1-a10q7e4g6x", "AGE-PLUGIN--A-10QZYM9YS"),
    ];
    for (recipient, identity) in crooked {
        for text in [recipient, identity] {
            let parsed = match text == recipient {
                true => PluginRecipient::parse(text, &other).unwrap().map(|_| ()),
                false => PluginIdentities::parse(text, &other).unwrap().map(|_| ()),
            };
            assert!(matches!(parsed, Err(PluginError::Name(_))), "{text}: {parsed:?}");
        }
    }
    // nor does the configuration lead out
    for name in ["", "../x", "a/b", "/bin/sh", "a.b", "A", "-a", "a-", "a b", "é", &"x".repeat(33)] {
        let made = Plugins::allow(&[name.to_owned()], path(folder.path()), None);
        assert!(matches!(made, Err(PluginError::Name(_))), "{name}");
    }
    seal(recipient, &allowed("double", folder.path())).unwrap();
    assert!(ran(), "this test sees what runs");
}

#[test]
fn a_program_is_looked_for_in_absolute_folders_and_not_run_if_everybody_can_change_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("age-plugin-double");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    let plugins = allowed("double", folder.path());
    assert_eq!(plugins.program("double"), Err(PluginError::NotFound("double".into())), "nobody may run it");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(plugins.program("double"), Ok(program.clone()));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o757)).unwrap();
    assert_eq!(plugins.program("double"), Err(PluginError::Writable(program)));
    // relative to the folder that tests run in, there is one
    let relative = Plugins::allow(&["double".into()], "tests/plugins".into(), None).unwrap();
    assert!(Path::new("tests/plugins/age-plugin-double").exists());
    assert_eq!(relative.program("double"), Err(PluginError::NotFound("double".into())));
}

#[test]
fn a_plugin_that_misbehaves_is_told_from_another() {
    let late = PluginError::Late { name: "hangs".into(), seconds: 0 };
    assert_eq!(fault("hangs", Duration::from_millis(200)), late);
    let fault = |name| fault(name, DEADLINE);
    assert_eq!(fault("asks"), PluginError::Asks { name: "asks".into(), what: "a PIN or passphrase" });
    assert_eq!(fault("confirms"), PluginError::Asks { name: "confirms".into(), what: "a decision" });
    // its words hold an escape, which is not passed on
    assert_eq!(fault("says"), PluginError::Said { name: "says".into(), message: "nokey".into() });
    for name in ["babbles", "dies", "floods", "absent"] {
        let error = fault(name);
        assert!(matches!(error, PluginError::Protocol { .. }), "{name}: {error}");
    }
    let none = Plugins::allow(&["double".into()], "/nowhere".into(), None).unwrap();
    assert_eq!(seal(pair("double").0, &none), Err(VaultError::Plugin(PluginError::NotFound("double".into()))));
}

#[test]
fn what_a_plugin_leaves_behind_is_ended_with_it() {
    let folder = installed("leaves");
    let plugins = allowed("leaves", folder.path());
    let say = vec![stanza::command("wrap-file-key", &[], &[7; 16])];
    let said = talk::with(&plugins, "leaves", "recipient-v1", say).unwrap();
    assert_eq!(said.stanzas.len(), 1);
    // it returned, although something held the output open; that is gone too, or dead and not yet fetched
    let left = fs::read_to_string(folder.path().join("left")).unwrap();
    let lives = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", left.trim())).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['R', 'S', 'D']))
    };
    let tries = (0..1_000_000).take_while(|_| lives()).inspect(|_| std::thread::yield_now()).count();
    assert!(tries < 1_000_000, "it lives");
}

#[test]
fn openers_of_one_plugin_share_a_talk() {
    let folder = installed("double");
    let plugins = allowed("double", folder.path());
    let (recipient, identity) = pair("double");
    let sealed = seal(recipient, &plugins).unwrap();
    let twice = Openers::parse(&format!("{identity}\n{identity}\n"), &plugins).unwrap();
    assert_eq!(twice.as_age().count(), 1);
    assert!(sealed::open_bytes(Path::new("file"), &sealed, &twice).is_ok());
}
