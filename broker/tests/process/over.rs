//! Commands that make a CA, one on top of another and several at once: the file of no CA's key is written over.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ichor_broker::clock::{Clock, SystemClock};

use super::{CLUSTER, Host, run};

/// So many commands run at once.
const AT_ONCE: usize = 4;

/// A broker's folder and commands on it.
struct Ground {
    host: Host,
}

impl Ground {
    async fn new() -> anyhow::Result<Self> {
        Ok(Self { host: Host::new().await? })
    }

    fn dir(&self) -> String {
        self.host.dir.to_string_lossy().into_owned()
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(&[&["ca"], arguments, &["--dir", &self.dir()]].concat())
    }

    fn refused(&self, arguments: &[&str]) -> String {
        self.run(arguments).unwrap_err().to_string()
    }

    /// The files of keys below the vault's `ca/`.
    fn keys(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(self.host.dir.join("vault/ca"))? {
            let (path, name) = (entry.as_ref().unwrap().path(), entry?.file_name().to_string_lossy().into_owned());
            if name.contains(".age") {
                found.insert(name, std::fs::read(path)?);
            }
        }
        Ok(found)
    }

    fn record(&self) -> std::path::PathBuf {
        self.host.dir.join("vault/ca/prod.toml")
    }
}

/// A rotation that waits for a node which nobody reaches.
const ROTATE: &[&str] = &["rotate", CLUSTER, "--wait", "0s", "--node", "127.0.0.1:1", "--reason", "tests"];
const REPLACE: &[&str] = &["create", CLUSTER, "--replace", "--reason", "tests"];

fn has_new(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>, new: &str) {
    assert!(before.iter().all(|(name, key)| after.get(name) == Some(key)), "a key was written over or is gone");
    let more: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert_eq!(more, [new]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_is_not_made_over_that_of_a_rotation() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    assert!(ground.refused(ROTATE).contains("not every node accepts the new CA yet"));
    let (keys, record) = (ground.keys()?, std::fs::read(ground.record())?);
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["prod.2.age", "prod.age"]);
    let pem = ichor_standins::authority::Authority::new("talos")?;
    let file = ground.host.dir.with_file_name("ca.pem");
    std::fs::write(&file, format!("{}\n{}", pem.certificate(), pem.key()?))?;
    let file = file.to_string_lossy();
    for command in [REPLACE, &["import", CLUSTER, "--from", &file, "--replace", "--reason", "tests"]] {
        let said = ground.refused(command);
        assert!(
            said.contains("a rotation of cluster `prod` is under way") && said.contains("`--abandon` drops it"),
            "{said}"
        );
        assert_eq!((ground.keys()?, std::fs::read(ground.record())?), (keys.clone(), record.clone()));
    }
    // dropped, its key stays as well, and its number is not used again
    ground.run(&["rotate", CLUSTER, "--abandon", "--reason", "tests"])?;
    ground.run(REPLACE)?;
    has_new(&keys, &ground.keys()?, "prod.3.age");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_is_not_made_over_a_key_whose_record_is_lost_and_that_key_can_be_named() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    ground.run(REPLACE)?;
    let in_force = ground.run(&["export-public", CLUSTER])?;
    let keys = ground.keys()?;
    std::fs::remove_file(ground.record())?;
    ground.run(REPLACE)?;
    has_new(&keys, &ground.keys()?, "prod.3.age");

    // which of them is meant is said by whoever knows, and by nothing else
    std::fs::remove_file(ground.record())?;
    let record = ["record", CLUSTER, "--reason", "a lost record"];
    let said = ground.refused(&record);
    let listed = |file: &str| {
        let (_, behind) = said.split_once(&format!("age file {file} with the certificate sha256 ")).unwrap();
        behind.get(..64).unwrap().to_owned()
    };
    let second = listed("prod.2.age");
    assert!(listed("prod.age") != second && listed("prod.3.age") != second, "{said}");
    assert!(ground.refused(&[&record[..], &["--certificate", &"7".repeat(64)]].concat()).contains("`--certificate`"));
    assert!(!ground.record().exists());
    ground.run(&[&record[..], &["--certificate", &second]].concat())?;
    assert_eq!(ground.run(&["export-public", CLUSTER])?, in_force);
    let keys = ground.keys()?;
    ground.run(REPLACE)?;
    has_new(&keys, &ground.keys()?, "prod.4.age");
    Ok(())
}

/// Starts all of them before any has ended.
fn at_once(dir: &Path, arguments: &[&str]) -> Vec<Output> {
    let spawn = |_| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ichor-broker"));
        command.arg("ca").args(arguments).arg("--dir").arg(dir).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..AT_ONCE).map(spawn).collect();
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_commands_at_once_the_first_is_done_and_the_others_say_that_they_are_not() -> anyhow::Result<()> {
    let mut ground = Ground::new().await?;
    ground.host.start()?;
    for (round, command) in [REPLACE, REPLACE, ROTATE].into_iter().enumerate() {
        let is_rotation = command == ROTATE;
        let before = ground.keys()?;
        let mut done = Vec::new();
        for output in at_once(&ground.host.dir, command) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (out, error) = (text(&output.stdout), text(&output.stderr));
            let is_done = match is_rotation {
                // it has begun, and waits
                true => error.contains("not every node accepts the new CA yet"),
                false => output.status.success(),
            };
            match is_done {
                true => done.push(out),
                false => assert!(
                    ["was changed by another command", "another command seals", "is under way"]
                        .iter()
                        .any(|it| error.contains(it)),
                    "round {round}: {error}"
                ),
            }
        }
        // it opens, the log knows it, and whoever made it was told so
        let patch: &[&str] = if is_rotation { &["patch", CLUSTER, "--next"] } else { &["patch", CLUSTER] };
        ground.run(patch)?;
        let show = ground.run(&["show", CLUSTER])?;
        let line = if is_rotation { "a rotation is under way since" } else { "lives in " };
        let line = show.lines().find(|it| it.trim().starts_with(line)).unwrap();
        let file = line.split_once("age file ").unwrap().1;
        assert!(done.iter().any(|said| said.contains(&format!("age file {file}"))), "round {round}: {show}\n{done:?}");
        let after = ground.keys()?;
        assert!(before.iter().all(|(name, key)| after.get(name) == Some(key)), "round {round}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_to_come_is_not_taken_for_the_one_in_force_where_no_other_key_is_left() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    ground.refused(ROTATE);
    let next = ground.run(&["patch", CLUSTER, "--next"])?;
    std::fs::remove_file(ground.record())?;
    std::fs::remove_file(ground.host.dir.join("vault/ca/prod.age"))?;
    let shown = ground.run(&["show"])?;
    assert!(shown.contains("no record says that it is in force") && !shown.contains("no record needs it"), "{shown}");
    let record = ["record", CLUSTER, "--reason", "a lost record"];
    let said = ground.refused(&record);
    assert!(said.contains("others name other CAs") && !ground.record().exists(), "{said}");
    let (_, behind) = said.split_once("the certificate sha256 ").unwrap();
    ground.run(&[&record[..], &["--certificate", &behind[..64]]].concat())?;
    assert_eq!(ground.run(&["patch", CLUSTER])?, next);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_refused_the_key_of_another_gets_no_record() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let pem = ichor_standins::authority::Authority::new("talos")?;
    let file = ground.host.dir.with_file_name("ca.pem");
    std::fs::write(&file, format!("{}\n{}", pem.certificate(), pem.key()?))?;
    let import = |cluster| ["import", cluster, "--from", file.to_str().unwrap(), "--replace", "--reason", "tests"];
    ground.run(&import(CLUSTER))?;
    let clusters = ground.host.dir.join("clusters");
    std::fs::copy(clusters.join("prod.toml"), clusters.join("dev.toml"))?;
    let said = ground.refused(&import("dev"));
    assert!(said.contains("this CA has the key of the CA of cluster `prod`"), "{said}");
    assert!(!ground.host.dir.join("vault/ca/dev.toml").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_several_commands_drop_at_once_stays_dropped() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    ground.refused(ROTATE);
    let record = std::fs::read(ground.record())?;
    let done = at_once(&ground.host.dir, &["rotate", CLUSTER, "--abandon", "--reason", "tests"]);
    assert!(done.iter().any(|output| output.status.success()), "{done:?}");
    // also for whoever puts the record back
    std::fs::write(ground.record(), record)?;
    let said = ground.refused(&["patch", CLUSTER, "--next"]);
    assert!(said.contains("was retired by an entry of the audit log"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_ca_stays_until_its_last_certificate_has_ended_whatever_the_bound_is_today() -> anyhow::Result<()> {
    let mut ground = Ground::new().await?;
    ground.host.start()?;
    let session = ground.host.log_in().await?;
    super::ledger::attempt(&session, "the last of the former CA".into()).await.result?;
    ground.run(REPLACE)?;
    let path = ground.host.dir.join("config.toml");
    let config = std::fs::read_to_string(&path)?;
    let shorter =
        config.replace("default_ttl = \"1h\"", "default_ttl = \"1m\"").replace("max_ttl = \"24h\"", "max_ttl = \"1m\"");
    assert_ne!(shorter, config);
    std::fs::write(&path, shorter)?;
    let issued_until = |ago: i64| -> anyhow::Result<()> {
        let until = SystemClock.now() - jiff::SignedDuration::from_secs(ago);
        let line = |line: &str| match line.starts_with("until = ") {
            true => format!("until = \"{until}\"\n"),
            false => format!("{line}\n"),
        };
        let text = std::fs::read_to_string(ground.record())?;
        Ok(std::fs::write(ground.record(), text.lines().map(line).collect::<String>())?)
    };
    let retire = ["retire", CLUSTER, "--reason", "tests"];
    issued_until(90)?;
    assert!(ground.refused(&retire).contains("may be valid until"));
    assert!(ground.keys()?.contains_key("prod.age"));
    // what came long after is another CA's
    issued_until(3_600)?;
    ground.run(&retire)?;
    assert!(!ground.keys()?.contains_key("prod.age"));
    Ok(())
}
