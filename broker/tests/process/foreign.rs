//! Whoever can write the vault's folder and holds none of its secrets: sealing needs the recipients alone, which lie there in plain text.

use std::process::Command;
use std::time::Duration;

use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::custody::ca::CaFacts;
use ichor_broker::custody::{Place, Record, Sealer, ca};
use ichor_broker::domain::ClusterName;

use super::{CLUSTER, Host, run};

/// Nothing takes the broker so long: it stands still.
const STUCK: Duration = Duration::from_secs(60);

/// An intruder at a broker's vault.
struct Intruder<'a> {
    host: &'a Host,
    sealer: Sealer,
}

impl<'a> Intruder<'a> {
    fn at(host: &'a Host) -> Self {
        Self { host, sealer: Sealer::at(&host.dir.join("vault")).unwrap() }
    }

    /// Seals a CA of their own as the cluster's, into this file; its fingerprint.
    fn seal(&self, cluster: &str, file: &str) -> String {
        let cluster = ClusterName::new(cluster).unwrap();
        let material = ca::create(&cluster, SystemClock.now(), 5).unwrap();
        self.sealer.seal_ca_file(&cluster, file, &material, true).unwrap();
        CaFacts::of(material.certificate()).fingerprint
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(&[arguments, &["--dir", &self.host.dir.to_string_lossy()]].concat())
    }

    fn refused(&self, arguments: &[&str]) -> String {
        self.run(arguments).unwrap_err().to_string()
    }

    /// The fingerprint of the cluster's CA in force, as `ca show` has it.
    fn shown(&self) -> String {
        let said = self.run(&["ca", "show", CLUSTER]).unwrap();
        said.lines().find_map(|line| line.trim().strip_prefix("certificate sha256 ")).unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_the_log_does_not_know_is_refused_wherever_it_comes_to_be_used() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.start()?;
    let intruder = Intruder::at(&host);
    let own = intruder.shown();
    let foreign = intruder.seal(CLUSTER, "prod.age");
    let names = |said: &str| said.contains(&own) && said.contains(&foreign) && said.contains("ca record prod");
    // the running broker keeps what it has, and says why
    let said = intruder.refused(&["reload"]);
    assert!(names(&said) && said.contains("the CA opened before stays in force"), "{said}");
    for command in [
        &["check"][..],
        &["ca", "patch", CLUSTER],
        &["ca", "export-public", CLUSTER],
        &["ca", "delegate", CLUSTER, "--offline", "--reason", "tests"],
        &["ca", "probe", CLUSTER, "--node", "127.0.0.1:1"],
    ] {
        let said = intruder.refused(command);
        assert!(names(&said), "{command:?}: {said}");
    }
    // nor is a new CA that a rotation is said to bring
    let (dir, cluster) = (host.dir.join("vault"), ClusterName::new(CLUSTER)?);
    let next = intruder.seal(CLUSTER, "prod.2.age");
    let record = Record::read(&dir, &cluster)?.unwrap();
    let rotating = record.rotating(Place::Age { file: "prod.2.age".into() }, Vec::new(), SystemClock.now());
    rotating.replace(&dir, &cluster, &record)?;
    let said = intruder.refused(&["ca", "patch", CLUSTER, "--next"]);
    assert!(said.contains(&own) && said.contains(&next), "{said}");
    let said = intruder.refused(&["ca", "rotate", CLUSTER, "--continue", "--reason", "tests"]);
    assert!(said.contains(&own) && said.contains(&next), "{said}");
    record.replace(&dir, &cluster, &rotating)?;

    // a start is no way around it: the broker serves, and this cluster has no CA
    host.kill();
    host.start()?;
    let intruder = Intruder::at(&host);
    let said = intruder.refused(&["reload"]);
    assert!(names(&said) && !said.contains("stays in force"), "{said}");
    // it is taken where someone says that it is meant, and names it
    let record = ["ca", "record", CLUSTER, "--reason", "a restore"];
    let said = intruder.refused(&record);
    assert!(said.contains(&own) && said.contains(&foreign), "{said}");
    assert!(intruder.refused(&[&record[..], &["--certificate", &own]].concat()).contains("and you another"));
    intruder.run(&[&record[..], &["--certificate", &foreign]].concat())?;
    intruder.run(&["reload"])?;
    assert_eq!(intruder.shown(), foreign);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_no_entry_names_is_named_once_at_the_start_and_none_takes_its_place() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let facts = host.dir.with_file_name("talosconfig").to_string_lossy().into_owned();
    let intruder = Intruder::at(&host);
    intruder.run(&["cluster", "add", "dev", "--from", &facts, "--reason", "tests"])?;
    let (dir, cluster) = (host.dir.join("vault"), ClusterName::new("dev")?);
    let first = intruder.seal("dev", "dev.age");
    Record::first(Place::Age { file: "dev.age".into() }).write(&dir, &cluster, false)?;
    let named = async |host: &Host| -> anyhow::Result<Vec<String>> {
        let log = host.log().await?;
        let of_dev = log.iter().filter(|entry| entry.kind == "ca" && entry.cluster.as_deref() == Some("dev"));
        Ok(of_dev.map(|entry| format!("{:?}", entry.detail)).collect())
    };
    assert_eq!(named(&host).await?.len(), 0);
    for _ in 0..2 {
        host.start()?;
        let named = named(&host).await?;
        assert!(named.len() == 1 && named[0].contains(&first), "{named:?}");
        host.kill();
    }
    let second = Intruder::at(&host).seal("dev", "dev.age");
    let said = Intruder::at(&host).refused(&["check"]);
    assert!(said.contains(&first) && said.contains(&second), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_lost_its_record_does_not_issue_until_someone_says_so() -> anyhow::Result<()> {
    let host = Host::new().await?;
    let intruder = Intruder::at(&host);
    let own = intruder.shown();
    let record = ["ca", "record", CLUSTER, "--reason", "an earlier version made it"];
    assert!(intruder.refused(&record).contains("there is nothing to do"));
    std::fs::remove_file(host.dir.join("vault/ca/prod.toml"))?;
    for command in [&["check"][..], &["ca", "patch", CLUSTER], &["ca", "create", CLUSTER, "--reason", "tests"]] {
        let said = intruder.refused(command);
        assert!(said.contains("no record says that it is in force"), "{command:?}: {said}");
    }
    assert!(intruder.run(&["ca", "show"])?.contains("no record says"));
    intruder.run(&record)?;
    assert_eq!(intruder.shown(), own);
    // not the CA that the log's newest entry names
    std::fs::remove_file(host.dir.join("vault/ca/prod.toml"))?;
    let foreign = intruder.seal(CLUSTER, "prod.age");
    let said = intruder.refused(&record);
    assert!(said.contains(&own) && said.contains(&foreign), "{said}");
    // and a new CA writes over no key
    intruder.run(&["ca", "create", CLUSTER, "--replace", "--reason", "tests"])?;
    assert!(host.dir.join("vault/ca/prod.2.age").exists() && host.dir.join("vault/ca/prod.age").exists());
    let said = intruder.run(&["check"])?;
    assert!(said.contains("`vault/ca/prod.age` still holds the key of a CA"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_whose_key_never_came_to_its_record_is_made_by_the_same_command() -> anyhow::Result<()> {
    let host = Host::new().await?;
    let intruder = Intruder::at(&host);
    let (own, ca) = (intruder.shown(), host.dir.join("vault/ca"));
    // as where the command was ended between the two
    std::fs::remove_file(ca.join("prod.age"))?;
    intruder.run(&["ca", "create", CLUSTER, "--reason", "tests"])?;
    assert_ne!(intruder.shown(), own);
    let mut files: Vec<_> = std::fs::read_dir(&ca)?.map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["prod.age", "prod.toml"]);
    assert!(intruder.refused(&["ca", "create", CLUSTER, "--reason", "tests"]).contains("has a CA in custody"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_ca_that_is_put_back_is_refused() -> anyhow::Result<()> {
    let host = Host::new().await?;
    let intruder = Intruder::at(&host);
    let (ca, own) = (host.dir.join("vault/ca"), intruder.shown());
    let record = std::fs::read(ca.join("prod.toml"))?;
    intruder.run(&["ca", "retire", CLUSTER, "--compromised", "--reason", "a lost laptop"])?;
    assert!(!ca.join("prod.age").exists());
    let left = "`vault/ca/prod.age.retired` still holds the key of a CA";
    assert!(intruder.run(&["ca", "show"])?.contains(left));
    assert!(intruder.refused(&["check"]).contains(left));
    std::fs::rename(ca.join("prod.age.retired"), ca.join("prod.age"))?;
    std::fs::write(ca.join("prod.toml"), record)?;
    let said = intruder.refused(&["check"]);
    assert!(said.contains(&own) && said.contains("which was retired by an entry of the audit log"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_audit_key_ends_the_start() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.start()?;
    host.kill();
    let vault = host.dir.join("vault");
    Sealer::at(&vault)?.seal_secret("audit-key", &[7; 32], true)?;
    let said = host.start().unwrap_err().to_string();
    assert!(
        said.contains("the audit key of this vault is not the one that its `secrets/audit-log.toml` knows"),
        "{said}"
    );
    host.kill();
    // nor where what is known of the log outside its database is gone
    std::fs::remove_file(vault.join("secrets/audit-log.toml"))?;
    let said = host.start().unwrap_err().to_string();
    assert!(said.contains("its checkpoint is not one that our key signed"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_a_watched_folder_holds_up_neither_a_reload_nor_the_end() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.start()?;
    for pipe in ["clusters/pipe.toml", "policies/pipe.cedar", "vault/ca/pipe.toml", "vault/ca/pipe.age"] {
        nix::unistd::mkfifo(&host.dir.join(pipe), nix::sys::stat::Mode::S_IRWXU)?;
    }
    let said = Intruder::at(&host).refused(&["reload"]);
    assert!(said.contains("clusters/pipe.toml`: it is no regular file but a pipe"), "{said}");
    assert!(said.contains("policies/pipe.cedar`: it is no regular file but a pipe"), "{said}");
    assert!(Command::new("kill").args(["-TERM", &host.pid().to_string()]).status()?.success());
    let mut child = host.child.take().unwrap();
    let ended = tokio::time::timeout(STUCK, tokio::task::spawn_blocking(move || child.wait())).await???;
    assert!(ended.success(), "{ended}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_tells_whose_backup_it_is_and_what_differs_from_what_is_here() -> anyhow::Result<()> {
    let (mut host, mut other) = (Host::new().await?, Host::new().await?);
    let backup = host.dir.with_file_name("vault.age").to_string_lossy().into_owned();
    for host in [&mut host, &mut other] {
        host.start()?;
        host.kill();
    }
    let (own, others) = (Intruder::at(&host), Intruder::at(&other));
    let recipient = include_str!("../keys/ed25519.pub").trim();
    let key = host.dir.with_file_name("key").to_string_lossy().into_owned();
    std::fs::write(&key, include_str!("../keys/ed25519"))?;
    let drill = ["custody", "restore", &backup, "--drill", "--identity", &key, "--reason", "monthly"];
    let make = ["custody", "backup", &backup, "--recipient", recipient, "--reason", "monthly"];
    own.run(&make)?;
    let said = own.run(&drill)?;
    let is = |text: &str| said.contains(text);
    let ca = format!("ca of `prod`, certificate sha256 {}: as here", own.shown());
    assert!(is("log `127.0.0.1`: as here") && is("audit key, Ed25519 ") && is(&ca) && !is("DIFFERS"), "{said}");
    // a CA that was dropped: needed by an older backup, and by none that was made since
    std::fs::remove_file(&backup)?;
    own.refused(&["ca", "rotate", "prod", "--wait", "0s", "--node", "127.0.0.1", "--reason", "tests"]);
    own.run(&make)?;
    own.run(&["ca", "rotate", "prod", "--abandon", "--reason", "tests"])?;
    let said = own.run(&drill)?;
    assert_eq!(said.matches("DIFFERS, here the log says that it was retired").count(), 1, "{said}");
    std::fs::remove_file(&backup)?;
    own.run(&make)?;
    let said = own.run(&drill)?;
    assert!(said.contains("a key that nothing needs, of a ca of `prod`") && !said.contains("DIFFERS"), "{said}");
    // one that someone else sealed to the same key
    std::fs::remove_file(&backup)?;
    others.run(&make)?;
    let said = own.run(&drill)?;
    let line = |start: &str| said.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert!(line("audit key, ").contains(": DIFFERS, here it is "), "{said}");
    // nor whom it is sealed to
    assert!(line("opened by age1").contains(": DIFFERS, here age1"), "{said}");
    assert!(said.contains("all good: a vault can be restored from it; whose it is, what DIFFERS above"), "{said}");
    let ca = line("ca of `prod`, ");
    assert!(ca.contains(&others.shown()) && ca.contains("DIFFERS") && ca.contains(&own.shown()), "{said}");
    assert!(said.contains("be sure whose backup it is before you use it"), "{said}");
    Ok(())
}
