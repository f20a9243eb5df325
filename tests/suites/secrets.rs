//! What is secret stays so over a whole run: nobody reads it in the broker's log, in the audit, or in what people are told.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use ichor_client::break_glass::{self, Vote};
use ichor_client::{Environment, SessionStore, Wish, locks};
use ichor_tests::{CLUSTER, Person, World, run_command};
use ichor_wire::api::{BreakGlassAsk, BreakGlassLabel, LockAsk, LockOn};
use tracing_subscriber::fmt::MakeWriter;

use crate::notify::{SECRET, telling_of};

const POLICIES: &str = r#"
@id("read") @max_ttl("8h") permit (principal, action == Action::"hold:os:reader", resource);
@id("break") @approvals("1") @max_ttl("30m")
permit (principal, action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
@id("approve") permit (principal, action == Action::"break-glass:approve", resource);
@id("lock") permit (principal, action in [Action::"lock", Action::"unlock"], resource);
"#;

/// Everything that is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The token of someone's session, as their laptop keeps it.
fn token(person: &Person, world: &World) -> anyhow::Result<String> {
    let home = world.scratch().join(format!("home-{:?}", person.session.session_id()));
    std::fs::create_dir(&home)?;
    SessionStore::new(&Environment::isolated(&home))?.save(&person.session)?;
    let kept = texts(&home)?.into_iter().filter_map(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let mut tokens = kept.filter_map(|kept| kept["token"].as_str().map(str::to_owned));
    tokens.next_back().context("no session is kept")
}

/// Every text file below the folder.
fn texts(folder: &Path) -> anyhow::Result<Vec<String>> {
    let (mut folders, mut texts) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                // no socket
                texts.extend(String::from_utf8(std::fs::read(path)?).ok());
            }
        }
    }
    Ok(texts)
}

/// What must not be read anywhere, by what it is.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, what: &str, text: &str) {
        assert!(text.len() >= 16, "{what}: too short to be looked for");
        self.0.push((what.to_owned(), text.to_owned()));
    }

    fn assert_none_in(&self, place: &str, text: &str) {
        // shares are written in groups
        let squeezed: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        let is_there = |secret: &String| text.contains(secret) || squeezed.contains(secret);
        let found: BTreeSet<_> = self.0.iter().filter(|(_, secret)| is_there(secret)).map(|(what, _)| what).collect();
        assert!(found.is_empty(), "{place} has {found:?}");
    }
}

/// CVE-2024-8365.
#[test]
fn case_19_no_secret_is_in_the_log_the_audit_or_a_notification() -> anyhow::Result<()> {
    let log = Log::default();
    // while there is but one, whatever another test's thread comes upon first is asked of that thread, which has none, for good
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let dispatch = tracing::Dispatch::new(subscriber.with_writer(log.clone()).finish());
    let of_threads = dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // for as long as the thread lives
        .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&of_threads)))
        .build()?;
    let _guard = tracing::dispatcher::set_default(&dispatch);
    let (secrets, entries, told) = runtime.block_on(whole_run())?;
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();

    // what is looked through is really there
    assert!(log.contains("TRACE") && log.contains("ichor_broker"), "{} bytes", log.len());
    for kind in ["login", "break-glass-request", "grant", "issued", "lock", "kit-made", "kit-drill"] {
        assert!(entries.contains(&format!("\"kind\":\"{kind}\"")), "{kind}");
    }
    for kind in ["break-glass-request", "break-glass-approval", "grant", "lock", "kit-made", "break-glass-review"] {
        assert!(told.contains(&format!("ichor.{kind}")), "{kind}");
    }
    assert!(secrets.0.len() >= 12, "{}", secrets.0.len());
    secrets.assert_none_in("the broker's log", &log);
    secrets.assert_none_in("the audit", &entries);
    secrets.assert_none_in("a notification", &told);
    for (place, text) in [("the log", &log), ("the audit", &entries), ("a notification", &told)] {
        assert!(!text.contains("PRIVATE KEY") && !text.contains("whsec_"), "{place}");
    }
    Ok(())
}

/// Break-glass from the request to its review, a lock, a kit and its drill: what is secret of it, the audit, and what was sent.
async fn whole_run() -> anyhow::Result<(Secrets, String, String)> {
    let (world, sink) = telling_of(&[], POLICIES, &["break-glass", "lock", "kit", "ca", "node-alarm"], "").await?;
    let mut secrets = Secrets::default();
    secrets.add("the sink's secret", SECRET.trim_start_matches("whsec_"));
    let (oscar, alice) = (Person::log_in(&world, "oscar").await?, Person::log_in(&world, "alice").await?);
    for person in [&oscar, &alice] {
        secrets.add("a session's token", &token(person, &world)?);
    }
    let ask = BreakGlassAsk {
        cluster: CLUSTER.into(),
        roles: vec!["os:admin".into()],
        ttl: None,
        reason: "INC-42 etcd down".into(),
        nodes: Vec::new(),
        ticket: None,
        self_service: false,
    };
    let glass = break_glass::ask(&oscar.session, &ask).await?;
    let glass = break_glass::vote(&alice.session, &glass, Vote::Approve, Some("go".into())).await?;
    let held = break_glass::certificate(&oscar.session, &glass).await?;
    let plain = alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;
    for key in [&held.key, &plain.key] {
        let body: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
        secrets.add("a certificate's key", &body);
    }
    let label = BreakGlassLabel { label: "drill".into(), note: "a whole run".into() };
    break_glass::review(&alice.session, glass.answer.id, &label).await?;
    let on = LockOn::Cluster { name: CLUSTER.into() };
    locks::set(&alice.session, &LockAsk { on, seconds: Some(60), reason: "INC-42".into() }).await?;

    let sheets = tempfile::tempdir_in("/dev/shm")?;
    let output = world.scratch().join("kits");
    std::fs::create_dir(&output)?;
    let (dir, endpoint) = (world.dir.display().to_string(), world.node.endpoint());
    let (output, paper) = (output.display().to_string(), sheets.path().display().to_string());
    let made = [
        &["kit", "create", "--cluster", CLUSTER, "--shares", "2-of-3", "--paper", "ada", "--paper", "bob"][..],
        &[
            "--paper",
            "eve",
            "--role",
            "os:admin",
            "--ttl-cap",
            "30m",
            "--reason",
            "the first kit",
            "--endpoint",
            &endpoint,
        ],
        &["--output", &output, "--paper-dir", &paper, "--witness", "Ada", "--witness", "Grace", "--dir", &dir],
    ];
    let said = run_command(&made.concat()).await?;
    for sheet in std::fs::read_dir(sheets.path())? {
        let text = String::from_utf8_lossy(&std::fs::read(sheet?.path())?).into_owned();
        let rows = text.lines().skip_while(|line| *line != "ICHOR-KIT1").skip(1).take(6);
        let groups: Vec<&str> = rows.flat_map(str::split_whitespace).filter(|word| word.len() == 5).collect();
        // what stands before is the kit's public name
        if let Some(groups) = groups.get(9..) {
            secrets.add("a share", &groups.concat());
            secrets.add("half a share", &groups[..5].concat());
        }
    }
    secrets.assert_none_in("what the ceremony prints", &said);
    run_command(&["kit", "drill", "1", "--dir", &dir]).await?;

    for line in
        texts(&world.dir)?.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("AGE-SECRET-KEY-"))
    {
        secrets.add("the vault's identity", line);
    }
    let came = loop {
        let came = sink.came(1).await;
        if came.iter().any(|(_, body)| body["type"] == "ichor.kit-drill") {
            break came;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let told = came.iter().map(|(_, body)| body.to_string()).collect();
    Ok((secrets, serde_json::to_string(&world.entries().await?)?, told))
}
