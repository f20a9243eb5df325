//! The log's key changed and a log opened in place of another, as an operator does it: with the broker stopped.

use std::path::Path;
use std::sync::Arc;

use ichor_broker::audit::{self, Sequencer};
use ichor_broker::clock::{Clock, FrozenClock, SystemClock};
use ichor_broker::custody::LogPin;
use ichor_broker::store::sqlite::{Options, SqliteStore};
use ichor_broker::store::{Grown, Store};
use ichor_wire::api::{EntryProof, ProofFile, Receipt};
use ichor_wire::log::proof::follow;
use ichor_wire::log::{Checkpoint, Content, Entry, Kind, LogKey};
use jiff::{SignedDuration, Timestamp};

use super::ledger::attempt;
use super::{Host, run};

/// A host whose log is anchored on another disk.
async fn anchored() -> anyhow::Result<Host> {
    let host = Host::new().await?;
    let path = host.dir.join("config.toml");
    let config = std::fs::read_to_string(&path)?;
    std::fs::write(&path, format!("{config}\n[audit]\nanchor_file = \"../checkpoint\"\n"))?;
    Ok(host)
}

/// A command of `audit` on the host's folder.
fn act(host: &Host, arguments: &[&str]) -> anyhow::Result<String> {
    let dir = host.dir.to_string_lossy();
    run(&[&["audit"], arguments, &["--dir", dir.as_ref()]].concat())
}

fn key(host: &Host) -> anyhow::Result<LogKey> {
    Ok(act(host, &["key"])?.trim().parse()?)
}

/// What is pinned of the log.
fn pin(host: &Host) -> anyhow::Result<LogPin> {
    LogPin::read(&host.dir.join("vault"))?.ok_or_else(|| anyhow::anyhow!("no pin"))
}

/// The contents of the log, oldest first, as they lie in the database.
async fn contents(host: &Host) -> anyhow::Result<Vec<Content>> {
    let stored = SqliteStore::open_to_read(&host.database, Options::default())?.entry_range(0..10_000).await?;
    let decoded = stored.iter().map(|entry| anyhow::Ok(Entry::decode(entry.body.as_deref().unwrap())?.content));
    decoded.collect()
}

/// The whole database as it lies there, with what it has beside it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for ending in ["", "-wal", "-shm"] {
        let with = |path: &Path| Path::new(&format!("{}{ending}", path.display())).to_owned();
        let _ = std::fs::remove_file(with(to));
        if with(from).exists() {
            std::fs::copy(with(from), with(to))?;
        }
    }
    Ok(())
}

/// Why the broker does not start.
fn refused(host: &mut Host) -> String {
    let _ = std::fs::remove_file(host.dir.join("stderr"));
    host.start().unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_a_new_key_follows_the_one_before_and_who_has_the_old_one_sees_it() -> anyhow::Result<()> {
    let mut host = anchored().await?;
    host.start()?;
    let session = host.log_in().await?;
    let under_first: Receipt = attempt(&session, "before".into()).await.result?.answer.receipt;
    host.kill();
    let first = key(&host)?;
    let mut keys = vec![first.clone()];
    for reason in ["a drill", "another"] {
        let said = act(&host, &["rotate-key", "--reason", reason])?;
        keys.push(key(&host)?);
        assert!(said.contains(&format!("signed from now on by {}\n", keys[keys.len() - 1])), "{said}");
    }
    assert!(keys.iter().enumerate().all(|(at, key)| !keys[..at].contains(key)), "{keys:?}");

    // each is named by an entry, under a checkpoint that the key before signed
    let rotations = pin(&host)?.rotations;
    assert_eq!(rotations.len(), 2);
    let contents = contents(&host).await?;
    let store = SqliteStore::open_to_read(&host.database, Options::default())?;
    let mut proofs = Vec::new();
    for (at, rotation) in rotations.iter().enumerate() {
        let content = &contents[usize::try_from(rotation.index)?];
        let change = content.log_key.as_ref().unwrap();
        assert_eq!((content.kind, content.reason.as_deref()), (Kind::AuditKey, Some(["a drill", "another"][at])));
        assert_eq!((&change.new, change.old.as_ref()), (&keys[at + 1].to_string(), Some(&keys[at].to_string())));
        let signed = Checkpoint::parse_and_verify(&rotation.checkpoint, &keys[at])?;
        assert!(signed.size() > rotation.index);
        let tree = Grown { edge: store.edge(signed.size()).await?, tiles: Vec::new() };
        let path = audit::inclusion(&store, &tree, rotation.index).await?;
        let stored = store.entry_range(rotation.index..rotation.index + 1).await?.remove(0);
        proofs.push(EntryProof::of_entry(rotation.index, &stored.body.unwrap(), &path, rotation.checkpoint.clone()));
    }
    drop(store);
    assert_eq!(follow(&first, &proofs)?, keys);

    // the log is the same, for the broker, for `audit verify`, and for whoever kept the first key
    let said = act(&host, &["verify"])?;
    assert!(said.contains(&format!("signed by {}", keys[2])) && said.contains("checkpoint` agrees"), "{said}");
    host.start()?;
    under_first.verify(&first)?;
    let held = attempt(&session, "after".into()).await.result?;
    held.answer.receipt.verify(&keys[2])?;
    assert!(held.answer.receipt.verify(&first).is_err());
    let path = held.answer.grant_id.to_string();
    let proof: ProofFile = session.broker().get(&session, &["audit", "proofs", &path], &[]).await?;
    assert_eq!(proof.rotations, proofs);
    assert_eq!(proof.verify(&first)?.entry.unwrap().content.kind, Kind::Issued);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn case_21_an_older_database_is_refused_until_it_is_opened_again_by_hand() -> anyhow::Result<()> {
    let mut host = anchored().await?;
    let old = host.dir.with_file_name("old.db");
    host.start()?;
    host.kill();
    copy(&host.database, &old)?;
    host.start()?;
    let session = host.log_in().await?;
    attempt(&session, "lost".into()).await.result?;
    host.kill();
    let note = std::fs::read_to_string(host.dir.with_file_name("checkpoint"))?;
    let lost = Checkpoint::parse_and_verify(&note, &key(&host)?)?;
    let reopen = ["reopen", "--reason", "the disk died"];

    copy(&old, &host.database)?;
    let error = refused(&mut host);
    assert!(error.contains("where the anchor file `") && error.contains(&format!("says {}: ", lost.size())), "{error}");
    assert!(error.contains("cut or rolled back") && error.contains("audit reopen --reason"), "{error}");
    let error = act(&host, &["verify"]).unwrap_err().to_string();
    assert!(error.contains("cut or rolled back"), "{error}");
    let error = act(&host, &["rotate-key", "--reason", "to get round it"]).unwrap_err().to_string();
    assert!(error.contains("cut or rolled back"), "{error}");

    let printed = act(&host, &reopen)?;
    let pin = pin(&host)?;
    assert_eq!(pin.origin, format!("{}#2", lost.origin()));
    assert!(printed.contains(&format!("the log goes on as `{}`", pin.origin)), "{printed}");
    assert!(printed.contains(&format!("{} entries of `{}`", lost.size(), lost.origin())), "{printed}");
    let last = contents(&host).await?.pop().unwrap();
    assert_eq!((last.kind, last.reason.as_deref()), (Kind::LogOpened, Some("the disk died")));
    let head = last.old_head.unwrap();
    assert_eq!((head.origin.as_str(), head.size), (lost.origin(), lost.size()));
    assert_eq!(head.root, lost.root().to_vec());

    // from then on it is a log like another, and nothing is to be opened again
    host.start()?;
    host.kill();
    act(&host, &["verify"])?;
    assert!(act(&host, &reopen).unwrap_err().to_string().contains("nothing to open again"));
    assert_eq!(self::pin(&host)?.origin, pin.origin);
    Ok(())
}

/// Without an anchor, and with one that lies in the folder: the backup is no older than either says.
#[tokio::test(flavor = "multi_thread")]
async fn case_21_a_restored_log_is_never_gone_on_with_under_its_own_name() -> anyhow::Result<()> {
    for anchor in [None, Some("anchor/head")] {
        let mut host = Host::new().await?;
        if let Some(anchor) = anchor {
            let path = host.dir.join("config.toml");
            let config = std::fs::read_to_string(&path)?;
            std::fs::write(&path, format!("{config}\n[audit]\nanchor_file = \"{anchor}\"\n"))?;
            std::fs::create_dir(host.dir.join("anchor"))?;
        }
        let backup = |host: &Host, file: &str| {
            let (file, dir) = (host.dir.with_file_name(file), host.dir.clone());
            run(&["backup", &file.to_string_lossy(), "--reason", "monthly", "--dir", &dir.to_string_lossy()])
        };
        backup(&host, "unsigned.age")?;
        host.start()?;
        backup(&host, "signed.age")?;
        let session = host.log_in().await?;
        attempt(&session, "lost".into()).await.result?;
        host.kill();
        let name = pin(&host)?.origin;
        let reopen = ["reopen", "--reason", "the disk died"];
        assert!(act(&host, &reopen).unwrap_err().to_string().contains("nothing to open again"));
        let identity = host.dir.with_file_name("identity.txt");
        std::fs::copy(host.dir.join("vault/identity.txt"), &identity)?;

        for file in ["unsigned.age", "signed.age"] {
            std::fs::remove_dir_all(&host.dir)?;
            let (file, dir) = (host.dir.with_file_name(file), host.dir.to_string_lossy().into_owned());
            let from = [&*file.to_string_lossy(), "--identity", &identity.to_string_lossy()].map(str::to_owned);
            let from = from.iter().map(String::as_str);
            let how = ["--to", &dir, "--reason", "the disk died"];
            run(&["restore"].into_iter().chain(from).chain(how).collect::<Vec<_>>())?;
            assert!(!host.dir.join("anchor/head").exists(), "an old anchor would vouch for an old log");
            let error = refused(&mut host);
            assert!(error.contains("tells of a restore") && error.contains("audit reopen --reason"), "{error}");
            let error = run(&["check", "--dir", &dir]).unwrap_err().to_string();
            assert!(error.contains("tells of a restore"), "{error}");
            assert!(act(&host, &["verify"])?.contains("tells of a restore"));

            let printed = act(&host, &reopen)?;
            assert!(printed.contains(&format!("the log goes on as `{name}#2`")), "{file:?}: {printed}");
            host.start()?;
            host.kill();
            assert!(act(&host, &["verify"])?.contains("no damage"));
            assert!(act(&host, &reopen).unwrap_err().to_string().contains("nothing to open again"));
        }
    }
    Ok(())
}

/// Everything is restored from a backup that knows of no opening again, and the anchor does.
#[tokio::test(flavor = "multi_thread")]
async fn case_21_no_name_of_the_log_is_used_a_second_time() -> anyhow::Result<()> {
    let mut host = anchored().await?;
    let (old, checkpoint) = (host.dir.with_file_name("old.db"), host.dir.with_file_name("checkpoint"));
    let (known, old_known) = (host.dir.join("vault/secrets/audit-log.toml"), host.dir.with_file_name("old.toml"));
    host.start()?;
    host.kill();
    copy(&host.database, &old)?;
    std::fs::copy(&known, &old_known)?;
    let name = pin(&host)?.origin;
    for number in [2, 3] {
        // the log goes on, and is lost
        host.start()?;
        host.kill();
        copy(&old, &host.database)?;
        let printed = act(&host, &["reopen", "--reason", "the disk died"])?;
        assert!(printed.contains(&format!("the log goes on as `{name}#{number}`")), "{printed}");
    }
    host.start()?;
    host.kill();
    let live = std::fs::read_to_string(&checkpoint)?;
    let head = Checkpoint::parse_and_verify(&live, &key(&host)?)?;
    assert_eq!(head.origin(), format!("{name}#3"));

    copy(&old, &host.database)?;
    std::fs::copy(&old_known, &known)?;
    let before = contents(&host).await?;
    for after in [None, Some(format!("{name}#2")), Some("another".into())] {
        let mut reopen = vec!["reopen", "--reason", "the host burned down"];
        reopen.extend(after.iter().flat_map(|after| ["--after", after.as_str()]));
        let error = act(&host, &reopen).unwrap_err().to_string();
        let says =
            format!("holds {} entries of the log `{name}#3`, and this vault knows its log as `{name}`", head.size());
        assert!(error.contains(&says) && error.contains(&format!("--after '{name}#3'")), "{error}");
    }
    assert_eq!((std::fs::read_to_string(&checkpoint)?, contents(&host).await?), (live, before), "nothing was written");

    let printed = act(&host, &["reopen", "--after", &format!("{name}#3"), "--reason", "the host burned down"])?;
    assert!(printed.contains(&format!("the log goes on as `{name}#4`")), "{printed}");
    let lost = contents(&host).await?.pop().unwrap().old_head.unwrap();
    assert_eq!((lost.origin.as_str(), lost.size, lost.root), (head.origin(), head.size(), head.root().to_vec()));
    host.start()?;
    host.kill();
    act(&host, &["verify"])?;
    Ok(())
}

/// One entry of a wrong time to come would keep everything from being recorded until then.
#[tokio::test(flavor = "multi_thread")]
async fn case_25_a_clock_far_ahead_of_the_log_wants_a_word_and_one_behind_it_records_nothing() -> anyhow::Result<()> {
    let days = |days: i64| SystemClock.now() + SignedDuration::from_hours(24 * days);
    let entry_of = async |host: &Host, at: Timestamp| {
        for ending in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{ending}", host.database.display()));
        }
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&host.database, Options::default())?);
        let (sequencer, ended) = Sequencer::start(store, FrozenClock::at(at), audit::Settings::named("before"));
        sequencer.note(Content::of(Kind::Reload), None).await?;
        drop(sequencer);
        anyhow::Ok(ended.await?)
    };
    let mut host = Host::new().await?;
    entry_of(&host, days(-181)).await?;
    let error = refused(&mut host);
    assert!(error.contains("`ichor-broker serve --accept-clock`"), "{error}");
    let locked = run(&["lock", "everything", "--reason", "x", "--dir", &host.dir.to_string_lossy()]);
    assert!(locked.unwrap_err().to_string().contains("`ichor-broker serve --accept-clock`"));
    assert_eq!(contents(&host).await?.len(), 1, "nothing was recorded");
    host.accept_clock = true;
    host.start()?;
    host.kill();
    host.accept_clock = false;
    host.start()?;
    host.kill();

    let mut host = Host::new().await?;
    entry_of(&host, days(1)).await?;
    let check = || run(&["check", "--dir", &host.dir.to_string_lossy()]).unwrap_err().to_string();
    let lock = || run(&["lock", "everything", "--reason", "x", "--dir", &host.dir.to_string_lossy()]);
    for error in [
        check(),
        lock().unwrap_err().to_string(),
        act(&host, &["rotate-key", "--reason", "x"]).unwrap_err().to_string(),
    ] {
        assert!(error.contains("ahead of this host's clock, and nothing is recorded until then"), "{error}");
    }
    let error = refused(&mut host);
    assert!(error.contains("ahead of this host's clock, and nothing is recorded until then"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn case_21_a_log_that_was_signed_once_is_not_taken_for_a_new_one() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.start()?;
    host.kill();
    let whole = host.dir.with_file_name("whole.db");
    copy(&host.database, &whole)?;
    rusqlite::Connection::open(&host.database)?.execute_batch("DELETE FROM checkpoint")?;
    let error = refused(&mut host);
    assert!(error.contains("its checkpoint is missing, though it has been signed before"), "{error}");
    assert!(act(&host, &["verify"]).unwrap_err().to_string().contains("checkpoint is missing"));

    // nor is an empty database in its place
    copy(Path::new("/nowhere"), &host.database)?;
    std::fs::write(&host.database, "")?;
    let error = refused(&mut host);
    assert!(error.contains("its checkpoint is missing, though it has been signed before"), "{error}");

    // nor none at all, with its folder or without: `check` says it, before a start is tried
    for gone in [host.database.clone(), host.database.parent().unwrap().to_path_buf()] {
        let aside = host.dir.with_file_name("aside");
        std::fs::rename(&gone, &aside)?;
        for says in [refused(&mut host), run(&["check", "--dir", &host.dir.to_string_lossy()]).unwrap_err().to_string()]
        {
            assert!(says.contains("is gone, though the log of this vault was signed before"), "{says}");
            assert!(says.contains("ichor-broker audit reopen --reason"), "{says}");
        }
        assert!(!gone.exists(), "nothing is made in its place");
        std::fs::rename(&aside, &gone)?;
    }

    copy(&whole, &host.database)?;
    host.start()?;
    host.kill();

    // whole in itself and signed, but by whom? A vault that never saw it cannot tell
    std::fs::remove_file(host.dir.join("vault/secrets/audit-log.toml"))?;
    let error = act(&host, &["verify"]).unwrap_err().to_string();
    assert!(error.contains("this vault has seen no log yet"), "{error}");
    Ok(())
}
