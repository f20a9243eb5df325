use super::*;

/// A vault with a CA and an old backup key among its recipients, and a key that is to replace that.
struct Change {
    _root: tempfile::TempDir,
    dir: PathBuf,
    old: x25519::Identity,
    new: x25519::Identity,
}

fn text(identity: &x25519::Identity) -> SecretString {
    identity.to_string().expose_secret().to_owned().into()
}

impl Change {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("vault");
        let (old, new) = (x25519::Identity::generate(), x25519::Identity::generate());
        Vault::create(&dir, Keep::DangerBeside, &[old.to_public().to_string()]).unwrap();
        Sealer::at(&dir).unwrap().seal_ca(&cluster("prod"), &made(), false).unwrap();
        Self { _root: root, dir, old, new }
    }

    fn plan<'a>(&self, vault: &'a Vault) -> Result<Reseal<'a>, VaultError> {
        vault.plan_reseal(&[self.new.to_public().to_string()], &[self.old.to_public().to_string()])
    }

    /// Which of the files open for this identity, by what is in them and not by the list.
    fn opens(&self, identity: &x25519::Identity) -> Vec<bool> {
        let openers = Openers::parse(text(identity).expose_secret(), &Plugins::default()).unwrap();
        let files = ["ca/prod.age", "secrets/data-key.age"];
        files.map(|file| sealed::open(&self.dir.join(file), &openers).is_ok()).into()
    }

    fn all_open_for_the_broker(&self) {
        let vault = open(&self.dir).unwrap();
        vault.open_ca(&cluster("prod")).unwrap();
        vault.data_key().unwrap();
    }
}

#[test]
fn a_key_that_was_set_aside_is_not_left_to_who_is_removed() {
    let change = Change::new();
    let sealer = Sealer::at(&change.dir).unwrap();
    sealer.set_aside("prod.age", crate::custody::Aside::Retired).unwrap().unwrap();
    sealer.seal_ca_file(&cluster("prod"), "prod.2.age", &made(), false).unwrap();
    sealer.set_aside("prod.2.age", crate::custody::Aside::Moved).unwrap().unwrap();
    let vault = open(&change.dir).unwrap();
    change.plan(&vault).unwrap().apply().unwrap();
    for (identity, opens) in [(&change.old, false), (&change.new, true)] {
        let openers = Openers::parse(text(identity).expose_secret(), &Plugins::default()).unwrap();
        for file in ["ca/prod.age.retired", "ca/prod.2.age.moved"] {
            assert_eq!(sealed::open(&change.dir.join(file), &openers).is_ok(), opens, "{file}");
        }
    }
}

#[test]
fn a_reseal_changes_who_can_open_everything() {
    let change = Change::new();
    let before = fs::read(change.dir.join("ca/prod.age")).unwrap();
    let vault = open(&change.dir).unwrap();
    let plan = change.plan(&vault).unwrap();
    assert_eq!(plan.removed(), [change.old.to_public().to_string()]);
    assert_eq!((plan.files(), plan.recipients().len()), (3, 2));
    assert_eq!(fs::read(change.dir.join("ca/prod.age")).unwrap(), before, "a plan changes nothing");
    let digest = plan.digest();
    plan.apply().unwrap();
    let list = fs::read(change.dir.join("recipients.txt")).unwrap();
    assert_eq!(digest, data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(&list)));
    assert_eq!(change.opens(&change.old), [false, false]);
    assert_eq!(change.opens(&change.new), [true, true]);
    change.all_open_for_the_broker();
    assert!(!change.dir.join("recipients.new").exists());
    Vault::open(&change.dir, IdentitySource::Text(text(&change.new))).unwrap();
    // the same again, with nothing to edit
    Sealer::at(&change.dir).unwrap().seal_ca_file(&cluster("prod"), "prod.2.age", &made(), false).unwrap();
    open(&change.dir).unwrap().plan_reseal(&[], &[]).unwrap().apply().unwrap();
    change.all_open_for_the_broker();
}

#[test]
fn cut_short_anywhere_all_opens_and_the_next_reseal_finishes() {
    for at in 0..6 {
        let change = Change::new();
        let vault = open(&change.dir).unwrap();
        let mut stop = |step| if step == at { Err(VaultError::Busy("test".into())) } else { Ok(()) };
        change.plan(&vault).unwrap().apply_with(&mut stop).unwrap_err();
        drop(vault);

        change.all_open_for_the_broker();
        let (old, new) = (change.opens(&change.old), change.opens(&change.new));
        assert!(old.iter().zip(&new).all(|(old, new)| old != new), "step {at}: {old:?} {new:?}");
        let warned = open(&change.dir).unwrap().warnings().iter().any(|warning| warning.contains("cut short"));
        assert_eq!(warned, at > 0, "step {at}");

        let vault = open(&change.dir).unwrap();
        match at {
            // nothing was written, not even what was meant
            0 => change.plan(&vault).unwrap(),
            _ => vault.plan_reseal(&[], &[]).unwrap(),
        }
        .apply()
        .unwrap();
        assert_eq!(
            (change.opens(&change.old), change.opens(&change.new)),
            (vec![false; 2], vec![true; 2]),
            "step {at}"
        );
        change.all_open_for_the_broker();
        assert!(!change.dir.join("recipients.new").exists());
    }
    // that was all of the steps
    let change = Change::new();
    let vault = open(&change.dir).unwrap();
    let mut steps = 0;
    let mut count = |_| {
        steps += 1;
        Ok(())
    };
    change.plan(&vault).unwrap().apply_with(&mut count).unwrap();
    assert_eq!(steps, 6);
}

#[test]
fn a_reseal_that_would_lock_the_broker_out_is_refused() {
    let change = Change::new();
    let vault = open(&change.dir).unwrap();
    let files = || {
        ["recipients.txt", "ca/prod.age", "secrets/data-key.age"].map(|file| fs::read(change.dir.join(file)).unwrap())
    };
    let before = files();
    let own = vault.sealer().recipients().lines().first().unwrap().clone();
    assert_eq!(vault.plan_reseal(&[], std::slice::from_ref(&own)).unwrap_err(), VaultError::LocksOut);
    let unknown = change.new.to_public().to_string();
    assert_eq!(vault.plan_reseal(&[], std::slice::from_ref(&unknown)).unwrap_err(), VaultError::NotListed(unknown));
    assert!(matches!(vault.plan_reseal(&["age1nonsense".into()], &[]), Err(VaultError::Recipient(_))));
    // nobody at all
    let all = vault.sealer().recipients().lines();
    assert!(vault.plan_reseal(&[], &all).is_err());
    // nothing is changed either when one file is no good, whichever it is
    fs::copy(change.dir.join("ca/prod.age"), change.dir.join("ca/staging.age")).unwrap();
    assert!(matches!(change.plan(&vault).unwrap_err(), VaultError::Mislabelled { .. }));
    fs::copy(change.dir.join("secrets/data-key.age"), change.dir.join("ca/staging.age")).unwrap();
    assert!(matches!(change.plan(&vault).unwrap_err(), VaultError::Mislabelled { .. }));
    fs::write(change.dir.join("ca/staging.age"), "no age file").unwrap();
    assert!(matches!(change.plan(&vault).unwrap_err(), VaultError::Damaged(_)));
    assert_eq!(files(), before);
    assert!(!change.dir.join("recipients.new").exists());
}

#[test]
fn nobody_seals_beside_a_reseal() {
    let change = Change::new();
    let vault = open(&change.dir).unwrap();
    let plan = change.plan(&vault).unwrap();
    let sealer = Sealer::at(&change.dir).unwrap();
    assert!(matches!(sealer.seal_ca(&cluster("prod"), &made(), true), Err(VaultError::Busy(_))));
    assert!(matches!(sealer.create_secret("other"), Err(VaultError::Busy(_))));
    assert!(matches!(change.plan(&vault).unwrap_err(), VaultError::Busy(_)));
    assert!(matches!(vault.backup(&[], Timestamp::UNIX_EPOCH).unwrap_err(), VaultError::Busy(_)));
    plan.apply().unwrap();
    Sealer::at(&change.dir).unwrap().create_secret("other").unwrap();
}

#[test]
fn nothing_is_sealed_to_who_was_removed_since_a_command_began() {
    let change = Change::new();
    let vault = open(&change.dir).unwrap();
    let began = Sealer::at(&change.dir).unwrap();
    // what a command that was killed left, sealed to who is removed
    let left = change.dir.join("ca/.new-abcdef");
    std::fs::copy(change.dir.join("ca/prod.age"), &left).unwrap();
    change.plan(&vault).unwrap().apply().unwrap();
    assert!(!left.exists());
    let changed = |error| matches!(error, VaultError::RecipientsChanged(_));
    assert!(changed(began.create_secret("other").unwrap_err()));
    assert!(changed(began.seal_ca(&cluster("staging"), &made(), false).unwrap_err()));
    assert!(changed(began.seal_next_ca(&cluster("prod"), &made(), 2).unwrap_err()));
    assert!(changed(vault.backup(&[], Timestamp::UNIX_EPOCH).unwrap_err()));
    for file in ["ca/staging.age", "ca/prod.2.age", "secrets/other.age"] {
        assert!(!change.dir.join(file).exists(), "{file}");
    }
    // begun anew, it seals to those who are there now
    Sealer::at(&change.dir).unwrap().seal_ca_file(&cluster("prod"), "prod.age", &made(), true).unwrap();
    assert_eq!((change.opens(&change.old), change.opens(&change.new)), (vec![false; 2], vec![true; 2]));
    open(&change.dir).unwrap().backup(&[], Timestamp::UNIX_EPOCH).unwrap();
}
