//! `docs/emergencies.md`, run: every line of its blocks, against a broker in which that part is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ichor_broker::app::{Parts, Running};
use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_client::audit::kept;
use ichor_client::audit::receipts::{Open, Receipts, Standing, take};
use ichor_client::environment::Environment;
use ichor_client::tls::Trust;
use ichor_client::{Broker, Session, Wish};
use ichor_standins::browser::Browser;
use ichor_standins::provider::Outage;
use ichor_tests::{CLUSTER, Options, Surroundings, World, log_in, run_command};
use jiff::SignedDuration;
use syn::visit::Visit;

use crate::named;

/// The page's blocks below this heading, a line each.
fn lines(heading: &str) -> Vec<String> {
    let page = std::fs::read_to_string(named::root().join("docs/emergencies.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("\n```"));
    let lines: Vec<String> = blocks.flat_map(|(block, _)| block.lines().map(str::to_owned)).collect();
    assert!(!lines.is_empty(), "`{heading}` has no block to run");
    lines
}

/// A broker on a folder of the test's own, that the page's lines start and stop.
struct Host {
    world: Surroundings,
    running: Option<Running>,
    usb: PathBuf,
    recipient: String,
    /// What each line printed.
    said: String,
}

impl Host {
    async fn new() -> anyhow::Result<Self> {
        let world = World::with(Options {
            config: "[limits]\nper_address = 1000\n[audit]\nanchor_file = \"../log-anchor\"\n".into(),
            ..Options::default()
        })
        .await?;
        let (running, world) = world.apart();
        let usb = world.scratch().join("usb");
        std::fs::create_dir(&usb)?;
        // a key pair of the test suite's own, as `age-keygen` or `ssh-keygen` makes one elsewhere
        let keys = named::root().join("broker/tests/keys");
        std::fs::copy(keys.join("ed25519"), usb.join("key.txt"))?;
        let recipient = std::fs::read_to_string(keys.join("ed25519.pub"))?.trim().to_owned();
        let mut host = Self { world, running: Some(running), usb, recipient, said: String::new() };
        host.run("Beforehand").await?;
        Ok(host)
    }

    /// Runs what stands below this heading.
    async fn run(&mut self, heading: &str) -> anyhow::Result<()> {
        for line in lines(heading) {
            self.line(&line).await.with_context(|| format!("`{line}`, below `{heading}`"))?;
        }
        Ok(())
    }

    async fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let dir = self.world.dir.to_str().context("a path")?.to_owned();
        let line = line
            .replace("/etc/ichor", &dir)
            .replace("/srv/ichor", self.world.scratch().join("srv").to_str().context("a path")?)
            .replace("/media/usb", self.usb.to_str().context("a path")?);
        match line.as_str() {
            "systemctl stop ichor-broker" => self.stop().await,
            "systemctl start ichor-broker" => return self.start().await,
            line if line.starts_with("mv ") || line.starts_with("cp ") => {
                ensure!(Command::new("sh").args(["-ec", line]).status()?.success(), "it failed");
            }
            line => {
                let Some(words) = line.strip_prefix("ichor-broker ") else { bail!("the test does not run this") };
                let (words, may_fail) = match words.strip_suffix(" || true") {
                    Some(words) => (words, true),
                    None => (words, false),
                };
                let mut words = split(words);
                words.iter_mut().filter(|word| *word == "age1…").for_each(|word| word.clone_from(&self.recipient));
                // `restore` works on no folder, and some lines name theirs
                if words.first().is_none_or(|first| first != "restore") && !words.iter().any(|word| word == "--dir") {
                    words.extend(["--dir".into(), dir]);
                }
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                match run_command(&words).await {
                    Ok(said) => self.said.push_str(&said),
                    Err(error) if may_fail => self.said.push_str(&format!("{error:#}")),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    /// Starts the broker that the folder is of; the time goes on.
    async fn start(&mut self) -> anyhow::Result<()> {
        let dir = self.world.dir.clone();
        self.start_in(&dir).await
    }

    async fn start_in(&mut self, dir: &Path) -> anyhow::Result<()> {
        let ahead = SystemClock.now().duration_since(self.world.clock.now()).max(SignedDuration::ZERO);
        // and not ahead of it: commands record by the host's time
        self.world.clock.advance(ahead);
        let loaded = Folder::new(dir).load()?;
        let parts = Parts {
            clock: Arc::clone(&self.world.clock) as Arc<dyn Clock>,
            vault: Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?,
            listener: None,
            wrap_store: None,
            accept_clock: true,
            look: Duration::from_secs(24 * 3600),
        };
        self.running = Some(Running::start(&loaded, parts).await?);
        Ok(())
    }

    async fn alice(&self) -> anyhow::Result<Session> {
        let browser = Browser::new(&[&self.world.tls_ca])?;
        log_in(&self.world.broker, &browser, "alice", |_| {}).await
    }
}

/// What the client thinks of a new certificate's receipt.
async fn receipt(home: &Environment, session: &Session) -> anyhow::Result<Standing> {
    let wish = Wish { cluster: CLUSTER.into(), ..Wish::default() };
    let held = ichor_client::certificate(session, &wish).await?;
    Ok(take(home, session, &held.answer).await.standing)
}

/// Whether this session gets a certificate.
async fn is_served(session: &Session) -> Result<(), ichor_client::Error> {
    let wish = Wish { cluster: CLUSTER.into(), ..Wish::default() };
    ichor_client::certificate(session, &wish).await.map(drop)
}

/// Words as a shell takes them, with double quotes.
fn split(line: &str) -> Vec<String> {
    let parts = line.split('"').enumerate();
    parts
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_is_down() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let alice = host.alice().await?;
    host.world.provider.set_outage(Outage::Refusing);
    host.world.clock.advance(SignedDuration::from_mins(6));
    assert!(is_served(&alice).await.is_err());
    host.run("The provider is down").await?;
    assert!(host.said.contains("FAIL  provider corp"), "{}", host.said);
    assert!(host.said.contains("everything is locked"), "{}", host.said);
    host.world.provider.set_outage(Outage::None);
    host.world.clock.advance(SignedDuration::from_secs(3));
    let locked = is_served(&alice).await.unwrap_err();
    assert!(locked.to_string().contains("a lock stops this"), "the session goes on, and the lock holds: {locked}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vault_is_lost() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let alice = host.alice().await?;
    for file in ["ca/prod.age", "secrets/data-key.age"] {
        std::fs::remove_file(host.world.dir.join("vault").join(file))?;
    }
    host.run("The vault is lost").await?;
    is_served(&alice).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_lost() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let alice = host.alice().await?;
    is_served(&alice).await?;
    host.run("The database is lost").await?;
    assert!(host.said.contains("the log goes on as"), "{}", host.said);
    assert!(is_served(&alice).await.is_err(), "her session was younger than the backup");
    is_served(&host.alice().await?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_key_is_lost() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let alice = host.alice().await?;
    std::fs::remove_file(host.world.dir.join("vault/secrets/audit-key.age"))?;
    host.stop().await;
    assert!(host.start().await.is_err(), "a log that nobody can sign is not gone on with");
    host.run("The audit key is lost").await?;
    is_served(&alice).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_was_ahead() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let (day, right) = (SignedDuration::from_hours(24), host.world.clock.now());
    host.world.clock.advance(SystemClock.now().duration_since(right).max(SignedDuration::ZERO) + day);
    is_served(&host.alice().await?).await?;
    host.stop().await;
    host.world.clock.advance(-day);
    let refused = host.start().await.unwrap_err().to_string();
    assert!(refused.contains("ahead of this host's clock, and nothing is recorded until then"), "{refused}");
    host.run("The clock was ahead").await?;
    assert!(host.said.contains("FAIL  clock"), "{}", host.said);
    is_served(&host.alice().await?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_host_is_lost() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.stop().await;
    std::fs::rename(&host.world.dir, host.world.scratch().join("burned"))?;
    host.run("The broker's host is lost").await?;
    let srv = host.world.scratch().join("srv");
    host.start_in(&srv).await?;
    is_served(&host.alice().await?).await?;
    Ok(())
}

/// Who held the log's key before a restore hears that the log was opened again, not that the broker lies; and once they pin the
/// key that they were given, nothing is left of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_told_of_a_log_that_was_opened_again_and_clears_its_receipts_once_the_key_is_pinned()
-> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let folder = tempfile::tempdir()?;
    let home = Environment::isolated(folder.path());
    let alice = host.alice().await?;
    assert!(matches!(receipt(&home, &alice).await?, Standing::Holds));
    // the same once more, so that a name between is passed over
    for (number, open) in [(2, 1), (3, 2)] {
        match number {
            2 => host.run("The database is lost").await?,
            _ => lose_again(&mut host).await?,
        }
        let alice = host.alice().await?;
        let Standing::OpenedAgain(error) = receipt(&home, &alice).await? else { panic!("a log of another name") };
        let says = format!("its audit log `localhost` was opened again as `localhost#{number}`");
        assert!(error.to_string().contains(&says), "{error}");
        let key = run_command(&["audit", "key", "--dir", &host.world.dir.display().to_string()]).await?;
        assert!(error.next_steps()[0].contains(&format!("audit_key = \"{}\"", key.trim())), "{error:?}");
        let refused = kept::verify(&home, &alice).await.unwrap_err();
        assert!(refused.to_string().contains("was opened again as"), "{refused}");
        let kept = Receipts::of(&home, alice.broker())?.open()?;
        assert_eq!(kept, Open { pending: 0, unbelieved: open, not_held: 0 });
    }
    let key = run_command(&["audit", "key", "--dir", &host.world.dir.display().to_string()]).await?.trim().parse()?;
    let (url, trust) = (host.world.broker.url().parse()?, Trust::CaPem(host.world.tls_ca.clone()));
    let pinned = Broker::with_audit_key(url, trust, host.world.broker.clock().clone(), Some(key));
    let browser = Browser::new(&[&host.world.tls_ca])?;
    let alice = log_in(&pinned, &browser, "alice", |_| {}).await?;
    let report = kept::verify(&home, &alice).await?;
    assert_eq!((report.verified, report.other_log, &report.faults), (1, 2, &Vec::new()), "{report:?}");
    assert_eq!(Receipts::of(&home, &pinned)?.open()?, Open::default());
    assert!(matches!(receipt(&home, &alice).await?, Standing::Holds));
    Ok(())
}

/// The database of the backup once more.
async fn lose_again(host: &mut Host) -> anyhow::Result<()> {
    for line in [
        "systemctl stop ichor-broker",
        "mv /etc/ichor/data /etc/ichor/data.lost.again",
        "ichor-broker restore /media/usb/broker.age --to /etc/ichor/again --identity /media/usb/key.txt --reason \"again\"",
        "mv /etc/ichor/again/data /etc/ichor/data",
        "ichor-broker audit reopen --reason \"restored again\"",
        "systemctl start ichor-broker",
    ] {
        host.line(line).await.with_context(|| line.to_owned())?;
    }
    Ok(())
}

/// No section of the page is left out here.
#[test]
fn every_section_has_its_test() {
    let page = std::fs::read_to_string(named::root().join("docs/emergencies.md")).unwrap();
    let source = std::fs::read_to_string(named::root().join("tests/suites/emergencies.rs")).unwrap();
    let mut runs = Runs::default();
    runs.visit_file(&syn::parse_file(&source).unwrap());
    for heading in page.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(runs.0.contains(heading), "`{heading}` is not run");
    }
}

/// The sections that are run by what is neither commented out nor ignored.
#[derive(Default)]
struct Runs(BTreeSet<String>);

impl<'a> Visit<'a> for Runs {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if !item.attrs.iter().any(|attribute| attribute.path().is_ident("ignore")) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        if call.method == "run"
            && let Some(syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(heading), .. })) = call.args.first()
        {
            self.0.insert(heading.value());
        }
        syn::visit::visit_expr_method_call(self, call);
    }
}
