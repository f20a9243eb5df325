//! The second act: access that somebody else approves on her phone, and a kit that opens when the broker is gone.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use ichor_client::kit::{Asked, LocallyRecorded, Machine, Opened};
use ichor_standins::browser::{Browser, Page};
use ichor_standins::node::Node;
use ichor_wire::kit::{Gathered, KitFile, Share};
use jiff::Timestamp;

use crate::broker::{Broker, command};
use crate::call::{Caller, Verb};
use crate::cast::{ADA, OTTO};
use crate::person::Person;
use crate::transcript::Transcript;
use crate::world::{CLUSTER, World};

/// Why Otto breaks the glass, at night.
const NIGHT: &str = "INC-43 etcd has no leader";

/// Why the kit is opened, when the broker is gone as well.
const DARK: &str = "INC-44 the site is dark";

/// A break-glass kit, made while all was well, and its sheets.
pub(crate) struct Kit {
    file: PathBuf,
    sheets: tempfile::TempDir,
}

/// Someone asks for more than they may hold, somebody else approves it, it is used and reviewed.
///
/// # Errors
/// At the first thing that goes otherwise than told.
pub(crate) async fn break_the_glass(
    world: &World,
    broker: &Broker,
    caller: &Caller,
    transcript: &mut Transcript,
) -> anyhow::Result<()> {
    transcript.part("At night: Otto needs os:admin, which he may not hold");
    let otto = Person::log_in(OTTO, broker, world.folder()).await?;
    transcript.types(OTTO.login, &format!("ichor break-glass request {CLUSTER} --role os:admin --reason \"{NIGHT}\""));
    let (glass, page) = otto.ask_for_admin(NIGHT).await?;
    transcript.prints(&format!("waits for {} other to approve: {page}", glass.contents.approvals));
    ensure!(otto.take(&glass).await.is_err(), "it was given before anybody approved");

    transcript.says("Ada opens the address on her phone, signs in, reads, signs in again to decide, and approves");
    let phone = Browser::new(&[&world.node_ca()])?;
    let seen = phone.open(&page).await?;
    ensure!(!seen.body.contains(NIGHT), "a stranger saw the request");
    let seen = phone.open(&link(&seen, "Sign in through")?).await?;
    let seen = phone.press(&seen, ADA.name).await.context("the provider's page")?;
    ensure!(seen.body.contains(NIGHT), "the page ({}) does not say why:\n{}", seen.status, seen.body);
    let seen = phone.open(&link(&seen, "Sign in again to decide")?).await?;
    let seen = phone.press(&seen, ADA.name).await.context("the provider, which asks anew")?;
    let seen = phone.press(&seen, "Approve exactly this").await.context("the page with the form")?;
    ensure!(seen.body.contains("<strong>approved</strong>"), "it is not approved ({}):\n{}", seen.status, seen.body);
    transcript.good("approved, over the hash of exactly what the page said");

    transcript.types(OTTO.login, &format!("ichor break-glass use {}", glass.answer.id));
    let wrote = otto.take(&glass).await?;
    transcript
        .good(&format!("context `{}` written: os:admin for {} min, grant {}", wrote.0, wrote.1.minutes, wrote.1.grant));
    let [target, _] = &world.targets;
    transcript.types(OTTO.login, &format!("talosctl --context {} -n {target} {}", wrote.0, Verb::Reboot.name()));
    let outcome = caller.call(&otto.talosconfig, &wrote.0, target, Verb::Reboot).await?;
    ensure!(outcome.ok, "the node refused: {}", outcome.text);
    transcript.prints(&outcome.text);
    ensure!(otto.take(&glass).await.is_err(), "one request gave two certificates");

    let ada = Person::log_in(ADA, broker, world.folder()).await?;
    transcript.types(ADA.login, &format!("ichor break-glass review {} --as emergency --note …", glass.answer.id));
    let reviewed = ada.review(&glass, "emergency", "etcd has a leader again").await?;
    ensure!(reviewed.answer.state == "reviewed", "it is {}", reviewed.answer.state);
    let by_page = ada.audit().await?.into_iter().any(|entry| {
        entry.kind == "break-glass-approval" && entry.detail.get("channel").is_some_and(|channel| channel == "page")
    });
    ensure!(by_page, "the audit does not say that it was approved on the page");
    transcript.good("used once, reviewed; the audit has who asked, who approved on the page, and what it was");
    Ok(())
}

/// Makes a kit while all is well; `None` where this system has no folder in memory for its sheets.
///
/// # Errors
/// When it cannot be made.
pub(crate) async fn make_kit(
    world: &World,
    broker: &Broker,
    transcript: &mut Transcript,
) -> anyhow::Result<Option<Kit>> {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        transcript
            .says("a kit's sheets are written to memory only, and this system has no /dev/shm: no kit in this demo");
        return Ok(None);
    }
    transcript.part("For the night when the broker is gone too: a kit, 2 of 3 shares on paper");
    let sheets = tempfile::Builder::new().prefix("ichor-demo-sheets-").tempdir_in(memory)?;
    let output = world.folder().join("kits");
    std::fs::create_dir(&output)?;
    let (folder, output_text) = (world.folder().join("broker"), output.to_string_lossy().into_owned());
    let (folder, sheets_text) = (folder.to_string_lossy(), sheets.path().to_string_lossy().into_owned());
    let endpoints = world.endpoints();
    let mut arguments = vec!["kit", "create", "--cluster", CLUSTER, "--shares", "2-of-3"];
    for holder in ["ada", "otto", "uma"] {
        arguments.extend(["--paper", holder]);
    }
    for endpoint in &endpoints {
        arguments.extend(["--endpoint", endpoint]);
    }
    arguments.extend(["--role", "os:admin", "--ttl-cap", "30m", "--witness", "Ada", "--witness", "Otto"]);
    arguments.extend(["--reason", "the demo", "--output", &output_text, "--paper-dir", &sheets_text, "--dir", &folder]);
    transcript.types("root", &format!("ichor-broker kit create --cluster {CLUSTER} --shares 2-of-3 --paper ada …"));
    command(&arguments).await?;
    let kit = Kit { file: output.join("kit-1.toml"), sheets };
    let ca = kit.read()?.unverified_facts().kit_ca.clone();
    world.accept(&format!("{}\n{ca}", broker.client_ca))?;
    transcript.good("made; the nodes accept its CA beside the broker's (machine.acceptedCAs)");
    Ok(Some(kit))
}

/// Opens the kit with two of its sheets; the broker has stopped.
///
/// # Errors
/// At the first thing that goes otherwise than told.
pub(crate) async fn open_kit(
    world: &World,
    kit: &Kit,
    caller: &Caller,
    transcript: &mut Transcript,
) -> anyhow::Result<()> {
    transcript.part("The broker is stopped. Uma and Ada bring their sheets");
    transcript.types("uma", &format!("ichor kit open kit-1.toml --name uma --reason \"{DARK}\""));
    let file = kit.read()?;
    let mut gathered = Gathered::new(file.unverified_facts());
    for (index, holder) in [(3, "uma"), (1, "ada")] {
        gathered.take(file.unverified_facts(), kit.share(index, holder)?)?;
    }
    let now = now();
    let opened = Opened::open(&file, &gathered, now)?;
    let asked = Asked { name: "uma".into(), reason: DARK.into(), ..Asked::default() };
    let grant = opened.grant(&asked, now)?;
    let recorded = LocallyRecorded::record(&opened, grant, &Machine::default(), &world.folder().join("records"))?;
    let name = recorded.value().name().to_string();
    transcript.good(&format!("recorded on this machine before there was a certificate; grant {name}"));
    let minted = opened.mint(recorded, now)?;
    let talosconfig = world.folder().join("kit-1.talosconfig");
    ichor_client::private_file::create_new(&talosconfig, minted.talosconfig.text().as_bytes())?;
    let [target, _] = &world.targets;
    transcript.types("uma", &format!("talosctl --talosconfig kit-1.talosconfig -n {target} {}", Verb::Version.name()));
    let outcome = caller.call(&talosconfig, &minted.context, target, Verb::Version).await?;
    ensure!(outcome.ok, "the node refused: {}", outcome.text);
    transcript.prints(&outcome.text);
    let named = world
        .nodes
        .iter()
        .flat_map(Node::log_lines)
        .any(|line| line.contains(&format!("grant:{name}")) && line.contains("user:claimed:uma"));
    ensure!(named, "no node's log names the kit's opener");
    transcript.good("the node did it, and its log names who opened the kit; `ichor kit report` brings the record back");
    Ok(())
}

// === impl Kit ===

impl Kit {
    fn read(&self) -> anyhow::Result<KitFile> {
        Ok(KitFile::parse(&std::fs::read_to_string(&self.file)?)?)
    }

    /// The share as it is typed from its sheet.
    fn share(&self, index: u8, holder: &str) -> anyhow::Result<Share> {
        let sheet = self.sheets.path().join(format!("kit-1-share-{index}-{holder}.txt"));
        let sheet = std::fs::read_to_string(&sheet)?;
        let rows = sheet.lines().skip_while(|line| *line != "ICHOR-KIT1").skip(1).take(6);
        let groups: Vec<&str> = rows.flat_map(str::split_whitespace).filter(|word| word.len() == 5).collect();
        Ok(Share::parse(&format!("ICHOR-KIT1-{}", groups.join("-")))?)
    }
}

/// The address of the link on which `text` can be read.
fn link(page: &Page, text: &str) -> anyhow::Result<String> {
    let (before, _) = page.body.split_once(text).with_context(|| format!("no link `{text}`:\n{}", page.body))?;
    let (_, address) = before.rsplit_once("href=\"").context("no address")?;
    let (address, _) = address.split_once('"').context("no end of the address")?;
    Ok(page.url.join(&address.replace("&#38;", "&"))?.to_string())
}

fn now() -> Timestamp {
    ichor_client::Clock::system().now()
}
