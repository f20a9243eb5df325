//! Custody "Talos API": nobody has the CA's key, the cluster makes certificate and key itself, with a credential that was
//! adopted. The rest is as with every custody: decided, recorded, judged, recorded, answered.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use ichor_broker::app;
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, StandingCredential, Vault};
use ichor_broker::domain::ClusterName;
use ichor_client::{Held, Wish};
use ichor_standins::authority::Leaf;
use ichor_standins::node::client::NodeClient;
use ichor_standins::node::{Making, Node, NodeOptions};
use ichor_tests::{Lives, Options, Person, World, run_command, tell_elsewhere};
use ichor_wire::role::Role;
use jiff::SignedDuration;
use serde_json::Value;

use crate::metrics;

const CLUSTER: &str = "adopted";

/// How often the cluster made another certificate than was granted.
const MISMATCHES: &str = "ichor_certificate_mismatches_total{cluster=\"adopted\"}";

/// Nothing takes the broker so long: it stands still.
const STUCK: Duration = Duration::from_secs(60);

const POLICIES: &str = r#"@id("read") permit (principal, action == Action::"hold:os:reader", resource);
@id("backup") permit (principal, action == Action::"hold:os:etcd:backup", resource);"#;

/// A world with a second cluster, whose CA nobody brought along.
struct Adopting {
    world: World,
    node: Node,
}

impl Adopting {
    async fn start() -> anyhow::Result<Self> {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> anyhow::Result<Self> {
        let options = Options {
            edits: vec![("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")],
            policies: Some(POLICIES),
            ..options
        };
        let world = World::with(options).await?;
        let clock = std::sync::Arc::clone(&world.clock);
        let now = std::sync::Arc::new(move || ichor_broker::clock::Clock::now(&*clock));
        let node = Node::start(NodeOptions { now, ..NodeOptions::new("adopted-a")? }).await?;
        Ok(Self { world, node })
    }

    /// A talosconfig of these roles that lasts so long, pointing at these endpoints.
    fn talosconfig(&self, roles: &[&str], life: SignedDuration, endpoints: &[String]) -> anyhow::Result<PathBuf> {
        let now = ichor_broker::clock::Clock::now(&*self.world.clock);
        let leaf = Leaf { not_after: now + life, ..Leaf::client(roles.iter().copied(), now) };
        let made = self.node.authority().issue(&leaf)?;
        let key = made.key.replace("PRIVATE KEY", "ED25519 PRIVATE KEY");
        let base64 = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
        let text = format!(
            "context: admin\ncontexts:\n  admin:\n    endpoints: [{}]\n    ca: {}\n    crt: {}\n    key: {}\n",
            endpoints.join(", "),
            base64(&self.node.ca_pem()),
            base64(&made.certificate),
            base64(&key)
        );
        let path = self.world.scratch().join("admin-talosconfig");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    async fn adopt(&self, file: &std::path::Path, more: &[&str]) -> anyhow::Result<String> {
        let (file, dir) = (file.to_string_lossy(), self.world.dir.to_string_lossy());
        let usual = ["cluster", "add", CLUSTER, "--adopt", &file, "--reason", "tests", "--dir", &dir];
        run_command(&[&usual, more].concat()).await
    }

    async fn adopt_usual(&self) -> anyhow::Result<String> {
        let file = self.talosconfig(&["os:admin"], SignedDuration::from_hours(24 * 365), &[self.node.endpoint()])?;
        self.adopt(&file, &["--label", "env=prod"]).await
    }

    async fn held(&self, person: &Person, roles: &[Role]) -> Result<Held, ichor_client::Error> {
        person.certificate(&Wish { cluster: CLUSTER.into(), roles: roles.to_vec(), ..Wish::default() }).await
    }

    /// The kinds of the entries since `before`, oldest first.
    async fn since(&self, before: usize) -> anyhow::Result<Vec<String>> {
        let mut kinds: Vec<String> = self.world.entries().await?.into_iter().map(|entry| entry.kind).collect();
        kinds.reverse();
        Ok(kinds.split_off(before))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_makes_the_certificate_and_the_key_itself() -> anyhow::Result<()> {
    let adopting = Adopting::start().await?;
    let said = adopting.adopt_usual().await?;
    assert!(said.contains("v1.13.9") && said.contains("rotate-ca") && said.contains("`machine.acceptedCAs`"), "{said}");
    assert!(!said.contains("PRIVATE"), "{said}");
    let alice = Person::log_in(&adopting.world, "alice").await?;
    let before = adopting.world.entries().await?.len();
    let held = adopting.held(&alice, &[Role::Reader, Role::EtcdBackup]).await?;
    assert!(held.key_made_by_cluster && held.answer.private_key.is_none(), "the key is kept once");
    assert_eq!(held.answer.issuing_ca.as_deref(), Some(adopting.node.ca_pem().as_str()));
    assert!(!format!("{held:?}").contains("PRIVATE"));

    let identity = Some((held.answer.certificate.as_str(), held.key.as_str()));
    let mut node = NodeClient::connect(adopting.node.address(), &held.answer.ca, identity).await?;
    node.version(&[]).await?;
    assert!(node.reboot(&[]).await.unwrap_err().to_string().contains("not authorized"));
    let lines = adopting.node.log_lines();
    let line = lines.last().context("a line")?;
    assert!(line.contains(";talos-role=os:etcd:backup,os:reader;"), "nothing but the roles: {line}");

    assert_eq!(adopting.since(before).await?, ["grant", "issued"]);
    let entry = adopting.world.entries().await?.remove(0);
    assert_eq!(entry.detail["key_made_by"], "cluster");
    assert_eq!(entry.grant_id, Some(held.answer.grant_id));
    let text = format!("{:?}", adopting.world.entries().await?);
    assert!(!text.contains("PRIVATE"), "no key in any entry");
    // the other cluster's certificates are as ever
    let usual = alice.certificate(&Wish { cluster: ichor_tests::CLUSTER.into(), ..Wish::default() }).await?;
    assert!(!usual.key_made_by_cluster);
    adopting.world.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_was_compromised_is_followed_by_another() -> anyhow::Result<()> {
    let adopting = Adopting::start().await?;
    adopting.adopt_usual().await?;
    let alice = Person::log_in(&adopting.world, "alice").await?;
    adopting.held(&alice, &[]).await?;
    let dir = adopting.world.dir.display().to_string();
    let retire = ["ca", "retire", CLUSTER, "--compromised", "--reason", "tests", "--dir", &dir];
    let said = run_command(&retire).await?;
    assert!(said.contains("talosctl rotate-ca") && said.contains("--adopt ichor.talosconfig --replace"), "{said}");
    assert!(!said.contains("removal-patch"), "{said}");
    adopting.held(&alice, &[]).await.unwrap_err();

    // not the same again, and another one where that is meant
    let compromised = adopting.world.scratch().join("admin-talosconfig");
    let said = adopting.adopt(&compromised, &["--replace"]).await.unwrap_err().to_string();
    assert!(said.contains("was retired by an entry of the audit log"), "{said}");
    let year = SignedDuration::from_hours(24 * 365);
    let another = adopting.talosconfig(&["os:admin"], year, &[adopting.node.endpoint()])?;
    let said = adopting.adopt(&another, &[]).await.unwrap_err().to_string();
    assert!(said.contains("`--replace` adopts a new credential"), "{said}");
    adopting.adopt(&another, &["--replace"]).await?;
    adopting.held(&alice, &[]).await?;
    adopting.world.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_made_wrongly_is_recorded_as_failed_and_never_leaves() -> anyhow::Result<()> {
    let adopting = Adopting::start().await?;
    adopting.adopt_usual().await?;
    let alice = Person::log_in(&adopting.world, "alice").await?;
    for making in [
        Making::MoreRoles,
        Making::AnotherCa,
        Making::AnotherKey,
        Making::Longer,
        Making::Garbage,
        Making::Huge,
        Making::Worker,
    ] {
        adopting.node.set_making(making);
        let before = adopting.world.entries().await?.len();
        let mismatches = async || anyhow::Ok(metrics::value(&metrics::scrape(&adopting.world).await?, MISMATCHES));
        let counted = mismatches().await?;
        let refused = adopting.held(&alice, &[]).await.unwrap_err().to_string();
        assert!(!refused.contains("PRIVATE") && !refused.contains("CERTIFICATE"), "{making:?}: {refused}");
        assert_eq!(adopting.since(before).await?, ["grant", "issue-failed"], "{making:?}");
        // what came back otherwise than it was granted is no outage: it alarms
        let differs = !matches!(making, Making::Huge | Making::Worker);
        let code = adopting.world.entries().await?.remove(0).detail["code"].clone();
        assert_eq!(code == "certificate-mismatch", differs, "{making:?}: {code}");
        assert_eq!(mismatches().await? > counted, differs, "{making:?}");
    }
    adopting.node.set_making(Making::AsAsked);
    adopting.held(&alice, &[]).await?;
    adopting.world.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_serve_is_not_adopted_and_nothing_is_left_behind() -> anyhow::Result<()> {
    let adopting = Adopting::start().await?;
    let year = SignedDuration::from_hours(24 * 365);
    let own = [adopting.node.endpoint()];
    let refused = async |file: &std::path::Path| adopting.adopt(file, &[]).await.unwrap_err().to_string();

    let reader = refused(&adopting.talosconfig(&["os:reader"], year, &own)?).await;
    assert!(reader.contains("`os:reader`, not `os:admin`"), "{reader}");
    let expired = refused(&adopting.talosconfig(&["os:admin"], -SignedDuration::from_secs(5), &own)?).await;
    assert!(expired.contains("the credential expired at"), "{expired}");
    let other = [adopting.world.node.endpoint()];
    let foreign = refused(&adopting.talosconfig(&["os:admin"], year, &other)?).await;
    assert!(foreign.contains("another cluster's CA") && foreign.contains("nothing was adopted"), "{foreign}");
    adopting.node.set_making(Making::Worker);
    let worker = refused(&adopting.talosconfig(&["os:admin"], year, &own)?).await;
    assert!(worker.contains("name control plane nodes only"), "{worker}");
    adopting.node.set_making(Making::AsAsked);
    let bare = adopting.talosconfig(&["os:admin"], year, &own)?;
    let text = std::fs::read_to_string(&bare)?;
    std::fs::write(&bare, text.lines().filter(|line| !line.contains("key:")).collect::<Vec<_>>().join("\n"))?;
    let keyless = refused(&bare).await;
    assert!(keyless.contains("no certificate and key of its own"), "{keyless}");

    assert!(!adopting.world.dir.join(format!("clusters/{CLUSTER}.toml")).exists());
    assert!(!adopting.world.dir.join(format!("vault/secrets/talos-{CLUSTER}.age")).exists());

    // where the cluster is declared and has a CA in custody there is nothing to adopt for
    let file = adopting.talosconfig(&["os:admin"], year, &own)?;
    let (file, dir) = (file.to_string_lossy(), adopting.world.dir.to_string_lossy());
    let has_ca = ["cluster", "add", ichor_tests::CLUSTER, "--adopt", &file, "--reason", "x", "--dir", &dir];
    let has_ca = run_command(&has_ca).await.unwrap_err().to_string();
    assert!(has_ca.contains("has a CA in custody"), "{has_ca}");

    // ended after the cluster's file, or after the credential: the same command goes on
    let file = adopting.talosconfig(&["os:admin"], year, &own)?;
    let usual = ["--label", "env=prod"];
    adopting.adopt(&file, &usual).await?;
    let (record, credential) = (format!("vault/ca/{CLUSTER}.toml"), format!("vault/secrets/talos-{CLUSTER}.age"));
    for gone in [&[record.as_str(), credential.as_str()][..], &[record.as_str()]] {
        gone.iter().try_for_each(|file| std::fs::remove_file(adopting.world.dir.join(file)))?;
        adopting.adopt(&file, &usual).await?;
        assert!(adopting.world.dir.join(&record).exists() && adopting.world.dir.join(&credential).exists());
    }
    let other = adopting.adopt(&file, &["--label", "env=dev"]).await.unwrap_err().to_string();
    assert!(other.contains("is declared already"), "{other}");
    let again = adopting.talosconfig(&["os:admin"], year, &own)?;
    let twice = adopting.adopt(&again, &[]).await.unwrap_err().to_string();
    assert!(twice.contains("`--replace` replaces it"), "{twice}");
    adopting.adopt(&again, &["--replace"]).await?;
    // what it says of other things is other tests'
    let check = async || match run_command(&["check", "--dir", &dir]).await {
        Ok(said) => said,
        Err(error) => format!("{error:#}"),
    };
    assert!(check().await.contains("ok    ca adopted\n"), "{}", check().await);
    adopting.node.set_making(Making::Worker);
    assert!(check().await.contains("FAIL  ca adopted: no endpoint makes certificates: "), "{}", check().await);
    // an endpoint that answers with another cluster's CA
    let path = adopting.world.dir.join(format!("clusters/{CLUSTER}.toml"));
    let own = std::fs::read_to_string(&path)?;
    std::fs::write(&path, own.replace(&adopting.node.endpoint(), &adopting.world.node.endpoint()))?;
    let said = check().await;
    assert!(
        said.contains("FAIL  ca adopted: ") && said.contains("shows a certificate of another cluster's CA"),
        "{said}"
    );
    std::fs::write(&path, own)?;
    let shown = run_command(&["ca", "show", "--dir", &dir]).await?;
    assert!(shown.contains("adopted: the cluster itself") && shown.contains("prod: "), "{shown}");
    assert!(!shown.contains("PRIVATE"), "{shown}");
    adopting.world.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_near_its_end_is_warned_of_and_one_past_it_issues_nothing() -> anyhow::Result<()> {
    let adopting = Adopting::start().await?;
    let week = SignedDuration::from_hours(24 * 7);
    let file = adopting.talosconfig(&["os:admin"], week, &[adopting.node.endpoint()])?;
    adopting.adopt(&file, &["--label", "env=prod", "--offline"]).await?;
    let world = &adopting.world;
    let url = format!("http://{}/readyz", world.running.health_address().context("a health listener")?);
    let said: Value = world.http()?.get(url).send().await?.json().await?;
    let checks = said["checks"].as_array().context("checks")?;
    let check = checks.iter().find(|check| check["name"] == format!("ca {CLUSTER}")).context("a check")?;
    assert!(check["ok"] == true && check["detail"].to_string().contains("standing credential expires at"), "{check}");

    world.clock.advance(week + SignedDuration::from_secs(1));
    let alice = Person::log_in(world, "alice").await?;
    let before = world.entries().await?.len();
    adopting.held(&alice, &[]).await.unwrap_err();
    assert_eq!(adopting.since(before).await?, ["grant", "issue-failed"]);
    let message = world.entries().await?.remove(0).detail["message"].clone();
    assert!(message.contains("the credential expired at") && message.contains("--adopt"), "{message}");
    adopting.world.running.stop().await;
    Ok(())
}

/// Roles of the broker's own grants for the world's cluster, oldest first.
async fn own(world: &World, kind: &str) -> anyhow::Result<Vec<String>> {
    let entries = world.entries().await?;
    let own = entries.iter().rev().filter(|entry| entry.kind == kind && entry.user.as_deref() == Some("~system"));
    Ok(own.map(|entry| entry.detail["roles"].clone()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_asked_with_short_certificates_that_another_custody_mints() -> anyhow::Result<()> {
    let world =
        World::with(Options { policies: Some(POLICIES), custody: Lives::Transit, ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let wish = || Wish { cluster: ichor_tests::CLUSTER.into(), ..Wish::default() };
    let signed = alice.certificate(&wish()).await?;
    assert!(!signed.key_made_by_cluster);
    let dir = world.dir.display().to_string();
    let delegate = async |more: &[&str]| {
        let usual = ["ca", "delegate", ichor_tests::CLUSTER, "--reason", "tests", "--dir", &dir];
        run_command(&[&usual[..], more].concat()).await
    };
    // a CA that no node accepts opens none
    let patch = run_command(&["ca", "export-public", ichor_tests::CLUSTER, "--dir", &dir]).await?;
    world.node.set_accepted_cas("")?;
    let refused = delegate(&[]).await.unwrap_err().to_string();
    assert!(refused.contains("no endpoint accepts the CA, so nothing was changed"), "{refused}");
    assert!(!alice.certificate(&wish()).await?.key_made_by_cluster);
    world.node.set_accepted_cas(&patch)?;
    let said = delegate(&[]).await?;
    assert!(said.contains("the cluster makes the certificates from now on") && said.contains("~system"), "{said}");
    let shown = run_command(&["ca", "show", "--dir", &dir]).await?;
    assert!(shown.contains("the cluster makes the certificates, asked with short ones of this CA"), "{shown}");

    // the people's certificates are the cluster's own CA's; ours is minted once for all of them
    let admins = async || {
        let grants = own(&world, "grant").await?;
        anyhow::Ok(grants.iter().filter(|roles| *roles == "os:admin").count())
    };
    for _ in 0..3 {
        let held = alice.certificate(&wish()).await?;
        assert!(held.key_made_by_cluster);
        assert_eq!(held.answer.issuing_ca.as_deref(), Some(world.node.ca_pem().as_str()));
        Person::connect(&world, &held).await?.version(&[]).await?;
        assert_eq!(admins().await?, 1);
    }
    let entries = world.entries().await?;
    let minted = entries.iter().find(|e| e.kind == "issued" && e.user.as_deref() == Some("~system")).context("one")?;
    assert!(minted.detail["roles"] == "os:admin" && minted.detail.contains_key("serial"), "{minted:?}");
    let granted = entries.iter().find(|e| e.grant_id == minted.grant_id && e.kind == "grant").context("its grant")?;
    assert_eq!(granted.detail["reason"], "to have the cluster make certificates");

    // used until a fifth of its fifteen minutes is left, and not beyond
    world.clock.advance(SignedDuration::from_mins(11));
    alice.certificate(&wish()).await?;
    assert_eq!(admins().await?, 1);
    world.clock.advance(SignedDuration::from_mins(2));
    alice.certificate(&wish()).await?;
    assert_eq!(admins().await?, 2);

    // one patch ends it: nothing that could make certificates is left anywhere
    world.node.set_accepted_cas("")?;
    let before = world.entries().await?.len();
    alice.certificate(&wish()).await.unwrap_err();
    let newest = world.entries().await?.remove(0);
    assert!(newest.detail["message"].contains("must be in `machine.acceptedCAs`"), "{newest:?}");
    assert_eq!(world.entries().await?.len() - before, 2, "the grant and that it led to nothing");
    world.node.set_accepted_cas(&patch)?;
    assert!(delegate(&["--end"]).await?.contains("the CA signs the certificates again"));
    assert!(!alice.certificate(&wish()).await?.key_made_by_cluster);
    world.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_minted_certificate_nothing_is_made_and_both_are_recorded() -> anyhow::Result<()> {
    let world =
        World::with(Options { policies: Some(POLICIES), custody: Lives::Transit, ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let dir = world.dir.display().to_string();
    run_command(&["ca", "delegate", ichor_tests::CLUSTER, "--reason", "tests", "--dir", &dir]).await?;
    world.bao.as_ref().context("a server")?.seal();
    let before = world.entries().await?.len();
    let wish = Wish { cluster: ichor_tests::CLUSTER.into(), ..Wish::default() };
    alice.certificate(&wish).await.unwrap_err();
    let entries = world.entries().await?;
    let mut kinds: Vec<_> = entries.iter().take(entries.len() - before).map(|entry| entry.kind.as_str()).collect();
    kinds.reverse();
    assert_eq!(kinds, ["grant", "grant", "issue-failed", "issue-failed"], "hers, ours, and what came of each");
    assert!(entries[0].detail["message"].contains("no certificate came about to ask the cluster with"), "{entries:?}");
    assert!(world.node.log_lines().iter().all(|line| !line.contains("/machine.MachineService/Generate")));
    world.bao.as_ref().context("a server")?.unseal();
    alice.certificate(&wish).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_no_entry_names_is_not_used_though_the_cluster_would_take_it() -> anyhow::Result<()> {
    let adopting = Adopting::start().await?;
    adopting.adopt_usual().await?;
    let world = &adopting.world;
    let alice = Person::log_in(world, "alice").await?;
    adopting.held(&alice, &[]).await?;
    // whoever writes the folder seals one of their own: sealing needs no secret
    let now = ichor_broker::clock::Clock::now(&*world.clock);
    let made = adopting.node.authority().issue(&Leaf::client(["os:admin"], now))?;
    let other = StandingCredential::from_pem(&made.certificate, &made.key)?;
    let cluster = ClusterName::new(CLUSTER)?;
    let vault = Vault::open(&world.dir.join("vault"), IdentitySource::DangerBeside)?;
    vault.sealer().seal_talos_credential(&cluster, &other, true)?;

    let line = async || {
        let checks = world.running.reload().await;
        checks.into_iter().find(|check| check.name == format!("ca {CLUSTER}")).context("a line")
    };
    let said = line().await?;
    let detail = said.detail.context("a reason")?;
    assert!(!said.ok && detail.contains("which no entry of the audit log names"), "{detail}");
    // what was opened before serves on; a broker that starts now opens nothing
    adopting.held(&alice, &[]).await?;
    let loaded = Folder::new(&world.dir).load()?;
    let clusters = ichor_broker::config::load_clusters(&loaded.settings.clusters)?;
    let custody = app::custody(&loaded, vault)?;
    let open = async || {
        let known = app::known_cas(&loaded.settings).await?;
        let clock = std::sync::Arc::clone(&world.clock) as std::sync::Arc<dyn ichor_broker::clock::Clock>;
        let found = app::adopted(&custody, &clusters[&cluster], &known, &clock).await;
        anyhow::Ok(found.map(|_| ()).map_err(|error| error.to_string()))
    };
    let refused = open().await?.unwrap_err();
    assert!(refused.contains(&other.fingerprint()), "{refused}");
    let dir = world.dir.display().to_string();
    let check = run_command(&["check", "--dir", &dir]).await.unwrap_err().to_string();
    assert!(
        check.contains("FAIL  ca adopted: the standing credential") && check.contains(&other.fingerprint()),
        "{check}"
    );

    // nor is it passed over in a backup
    let drill = async |name: &str| -> anyhow::Result<String> {
        let backup = world.scratch().join(name).display().to_string();
        run_command(&["custody", "backup", &backup, "--reason", "tests", "--dir", &dir]).await?;
        run_command(&["custody", "restore", &backup, "--drill", "--reason", "tests", "--dir", &dir]).await
    };
    let told = format!("adopted credential of `adopted`, certificate sha256 {}: ", other.fingerprint());
    let said = drill("one.age").await?;
    assert!(said.contains(&format!("{told}DIFFERS, here the log names ")), "{said}");

    // where it is meant after all, an operator says so by its fingerprint
    let record = ["ca", "record", CLUSTER, "--reason", "tests", "--dir", &dir];
    let said = run_command(&record).await.unwrap_err().to_string();
    assert!(said.contains("is the standing credential with the certificate sha256"), "{said}");
    let print = other.fingerprint();
    let said = run_command(&[&record[..], &["--certificate", &print]].concat()).await?;
    assert!(said.contains("recorded: a credential of os:admin"), "{said}");
    open().await?.unwrap();
    assert!(line().await?.ok);
    let said = drill("two.age").await?;
    assert!(said.contains(&format!("{told}as here")), "{said}");
    adopting.held(&alice, &[]).await?;
    adopting.world.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_was_retired_at_another_broker_makes_no_more_whatever_cannot_be_read_here()
-> anyhow::Result<()> {
    for is_server_hanging in [false, true] {
        let look = is_server_hanging.then_some(Duration::from_millis(20));
        let adopting = Adopting::with(Options { custody: Lives::Kv, look, ..Options::default() }).await?;
        adopting.adopt_usual().await?;
        let world = &adopting.world;
        let alice = Person::log_in(world, "alice").await?;
        adopting.held(&alice, &[]).await?;
        let file = world.dir.join("vault/secrets/talos-adopted.age");
        let vault = Vault::open(&world.dir.join("vault"), IdentitySource::DangerBeside)?;
        let retired = vault.open_talos_credential(&ClusterName::new(CLUSTER)?)?.fingerprint();
        let retired = ("retired certificate 1", retired.as_str());
        let line = async || {
            let checks = world.running.reload().await;
            checks.into_iter().find(|check| check.name == format!("ca {CLUSTER}")).context("a line")
        };
        if is_server_hanging {
            let bao = world.bao.as_ref().context("a server")?;
            let mut hold = bao.hold_answers("secret/data/*");
            tokio::time::timeout(STUCK, hold.arrived(1)).await?;
            adopting.held(&alice, &[]).await?;
            tell_elsewhere(world, CLUSTER, retired).await?;
            let ended = async { while adopting.held(&alice, &[]).await.is_ok() {} };
            tokio::time::timeout(STUCK, ended).await?;
            hold.release();
        } else {
            std::fs::write(file, "junk")?;
            assert!(line().await?.detail.context("a reason")?.contains("stays in force"));
            adopting.held(&alice, &[]).await?;
            tell_elsewhere(world, CLUSTER, retired).await?;
        }
        assert!(line().await?.detail.context("a reason")?.contains("was retired by an entry of the audit log"));
        adopting.held(&alice, &[]).await.unwrap_err();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_takes_the_place_of_an_adopted_credential_which_then_goes() -> anyhow::Result<()> {
    let adopting = Adopting::start().await?;
    adopting.adopt_usual().await?;
    let (world, dir) = (&adopting.world, adopting.world.dir.display().to_string());
    let ca = async |command: &[&str]| {
        let usual = ["--reason", "tests", "--dir", &dir];
        run_command(&[&["ca"], command, &usual].concat()).await.map_err(|error| error.to_string())
    };
    let check = async || run_command(&["check", "--dir", &dir]).await.unwrap_or_else(|error| error.to_string());
    let record = world.dir.join("vault/ca/adopted.toml");
    let credential = world.dir.join("vault/secrets/talos-adopted.age");
    let (before, sealed) = (std::fs::read(&record)?, std::fs::read(&credential)?);
    let idle = "`vault/secrets/talos-adopted.age` still holds the adopted credential";
    assert!(!check().await.contains(idle));

    let node = adopting.node.address().to_string();
    ca(&["rotate", CLUSTER, "--custody", "age", "--wait", "0s", "--node", &node]).await.unwrap_err();
    // nodes may accept the new CA: a credential does not end it
    let rotating = std::fs::read(&record)?;
    let file = world.scratch().join("admin-talosconfig");
    let said = adopting.adopt(&file, &["--replace"]).await.unwrap_err().to_string();
    assert!(said.contains("a rotation of cluster `adopted` is under way") && said.contains("--abandon"), "{said}");
    assert_eq!(std::fs::read(&record)?, rotating);
    let patch = run_command(&["ca", "patch", CLUSTER, "--next", "--dir", &dir]).await?;
    let crt = patch.lines().find_map(|line| line.trim().strip_prefix("- crt: ")).context("a certificate")?;
    adopting.node.set_accepted_cas(&String::from_utf8(data_encoding::BASE64.decode(crt.as_bytes())?)?)?;
    ca(&["rotate", CLUSTER, "--continue", "--wait", "0s"]).await.unwrap();
    let alice = Person::log_in(world, "alice").await?;
    assert!(!adopting.held(&alice, &[]).await?.key_made_by_cluster);
    assert!(check().await.contains(idle), "{}", check().await);
    let shown = run_command(&["ca", "show", "--dir", &dir]).await?;
    assert!(shown.contains(idle), "{shown}");

    // a CA that was taken out with its record is used no more, though the idle credential cannot be read either
    let keys: Vec<_> = std::fs::read_dir(world.dir.join("vault/ca"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    let own = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("adopted"));
    let taken: Vec<_> =
        keys.iter().filter(own).map(|path| Ok((path, std::fs::read(path)?))).collect::<Result<_, std::io::Error>>()?;
    assert_eq!(taken.len(), 2, "{taken:?}");
    taken.iter().try_for_each(|(path, _)| std::fs::remove_file(path))?;
    std::fs::write(&credential, "junk")?;
    world.running.reload().await;
    adopting.held(&alice, &[]).await.unwrap_err();
    taken.iter().try_for_each(|(path, content)| std::fs::write(path, content))?;
    std::fs::write(&credential, &sealed)?;
    world.running.reload().await;
    adopting.held(&alice, &[]).await?;

    let text = std::fs::read_to_string(&record)?;
    let past =
        |line: &str| if line.starts_with("until = ") { "until = \"2020-01-01T00:00:00Z\"" } else { line }.to_owned();
    std::fs::write(&record, text.lines().map(past).collect::<Vec<_>>().join("\n"))?;
    let said = ca(&["retire", CLUSTER]).await.unwrap();
    assert!(
        said.contains("removed the adopted credential from the vault") && !said.contains("removal-patch"),
        "{said}"
    );
    assert!(!credential.exists() && !check().await.contains(idle));
    // put back, it is used no more
    std::fs::write(&record, before)?;
    std::fs::write(&credential, sealed)?;
    let checks = world.running.reload().await;
    let line = checks.into_iter().find(|check| check.name == format!("ca {CLUSTER}")).context("a line")?;
    assert!(!line.ok && line.detail.as_deref().unwrap_or_default().contains("was retired by an entry"), "{line:?}");
    adopting.held(&alice, &[]).await.unwrap_err();
    Ok(())
}
