//! The broker sees by itself whether nodes accept the CAs: it asks them with a certificate of its own, says in readiness,
//! metrics and log what changed, and takes back what it said when that is over.

use std::time::Duration;

use anyhow::Context;
use ichor_standins::address::Refusing;
use ichor_standins::authority::Authority;
use ichor_standins::node::{Node, NodeOptions};
use ichor_tests::{CLUSTER, Options, Prepare, World, run_command};
use serde_json::Value;

/// A world whose broker asks many times a second.
async fn world() -> anyhow::Result<World> {
    World::with(Options {
        edits: vec![
            ("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n"),
            ("[custody]\n", "[custody]\nprobe_every = \"200ms\"\n"),
        ],
        ..Options::default()
    })
    .await
}

async fn scrape(world: &World, path: &str) -> anyhow::Result<String> {
    let url = format!("http://{}/{path}", world.running.health_address().context("a health listener")?);
    Ok(world.http()?.get(url).send().await?.text().await?)
}

/// The line of readiness about the nodes, once there is one that fits.
async fn nodes(world: &World, fits: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let wait = async {
        loop {
            let said: Value = serde_json::from_str(&scrape(world, "readyz").await?)?;
            assert_eq!(said["ready"], true, "nobody else is out for it: {said}");
            let checks = said["checks"].as_array().context("checks")?;
            let name = format!("nodes {CLUSTER}");
            if let Some(check) = checks.iter().find(|check| check["name"] == name && fits(check)) {
                return anyhow::Ok(check.clone());
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.context("the broker did not see it")?
}

/// The sentences of the log on the CA, oldest first.
async fn told(world: &World) -> anyhow::Result<Vec<String>> {
    let begins = format!("CA of cluster `{CLUSTER}`: ");
    let entries = world.entries().await?;
    let told = entries.iter().rev().filter(|entry| entry.kind == "ca");
    let told = told.filter_map(|entry| Some(entry.detail.get("message")?.strip_prefix(&begins)?.to_owned()));
    Ok(told.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_ca_that_the_cluster_replaced_is_noticed_said_and_taken_back() -> anyhow::Result<()> {
    let world = world().await?;
    let (file, dir) = (world.scratch().join("ca.pem"), world.dir.display().to_string());
    let authority = world.node.authority();
    std::fs::write(&file, format!("{}\n{}", authority.certificate(), authority.key()?))?;
    let from = file.display().to_string();
    let import = ["ca", "import", CLUSTER, "--from", &from, "--replace", "--reason", "tests", "--dir", &dir];
    run_command(&import).await?;
    nodes(&world, |check| check["ok"] == true && check["detail"].is_null()).await?;
    let metrics = scrape(&world, "metrics").await?;
    assert!(
        metrics.contains(&format!("ichor_probes_total{{cluster=\"{CLUSTER}\",outcome=\"accepted\"}}")),
        "{metrics}"
    );
    assert!(told(&world).await?.is_empty(), "nothing is to be said");

    // as `talosctl rotate-ca` ends
    world.node.set_own_ca_trusted(false);
    let refused = nodes(&world, |check| check["ok"] == false).await?.to_string();
    assert!(
        refused.contains("talosctl rotate-ca") && refused.contains("ca import prod --from FILE --replace"),
        "{refused}"
    );
    let metrics = scrape(&world, "metrics").await?;
    assert!(metrics.contains(&format!("ichor_probes_total{{cluster=\"{CLUSTER}\",outcome=\"refused\"}}")), "{metrics}");
    // asked again, it is not recorded again
    let asked = async || anyhow::Ok(world.entries().await?.iter().filter(|entry| entry.kind == "issued").count());
    let before = asked().await?;
    while asked().await? < before + 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(told(&world).await?.len(), 1);

    world.node.set_own_ca_trusted(true);
    nodes(&world, |check| check["ok"] == true).await?;
    // readiness is told first
    while told(&world).await?.len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let said = told(&world).await?;
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("nodes do not accept it") && said[1].contains("accepts it again"), "{said:?}");

    // each certificate was granted to the broker, to read, and recorded as any
    let entries = world.entries().await?;
    let own: Vec<_> = entries.iter().filter(|entry| entry.user.as_deref() == Some("~system")).collect();
    assert!(own.iter().all(|entry| entry.detail["roles"] == "os:reader"), "{own:?}");
    let count = |kind: &str| own.iter().filter(|entry| entry.kind == kind).count();
    // the last may be under way
    assert!(count("grant") - count("issued") <= 1 && count("issued") >= 5);
    world.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dedicated_ca_that_was_taken_out_is_noticed_and_an_outage_is_no_refusal() -> anyhow::Result<()> {
    let world = world().await?;
    nodes(&world, |check| check["ok"] == true && check["detail"].is_null()).await?;
    world.node.set_accepted_cas("")?;
    let refused = nodes(&world, |check| check["ok"] == false).await?.to_string();
    assert!(refused.contains("they did before") && refused.contains("ca patch prod"), "{refused}");

    // where no node can be asked, nobody knows, and nothing is out for it
    let path = world.dir.join(format!("clusters/{CLUSTER}.toml"));
    let file = std::fs::read_to_string(&path)?;
    let refusing = Refusing::take()?;
    let nowhere = refusing.address();
    std::fs::write(&path, file.replace(&world.node.endpoint(), &nowhere))?;
    world.running.reload().await;
    let unasked = nodes(&world, |check| check["ok"] == true).await?;
    assert!(unasked["detail"].as_str().is_some_and(|said| said.contains("no node could be asked: ")), "{unasked}");
    world.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_asked_as_often_as_configured_and_never_where_that_is_off() -> anyhow::Result<()> {
    let usual = World::with_health().await?;
    let off = World::with(Options {
        edits: vec![
            ("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n"),
            ("[custody]\n", "[custody]\nprobe_every = \"0\"\n"),
        ],
        ..Options::default()
    })
    .await?;
    let often = world().await?;
    let asked = async |world: &World| {
        let entries = world.entries().await?;
        anyhow::Ok(entries.iter().filter(|entry| entry.user.as_deref() == Some("~system")).count())
    };
    while asked(&often).await? < 6 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!((asked(&usual).await?, asked(&off).await?), (0, 0), "every six hours, and never");
    Ok(())
}

/// A cluster's file names the endpoint of another cluster, or its CA was replaced.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_of_another_cluster_is_said_at_check_and_at_start_and_one_that_is_out_is_not() -> anyhow::Result<()>
{
    let world = World::with_health().await?;
    let stranger = Node::start(NodeOptions::new("stranger")?).await?;
    let refusing = Refusing::take()?;
    let nowhere = refusing.address();
    let (path, dir) = (world.dir.join(format!("clusters/{CLUSTER}.toml")), world.dir.display().to_string());
    let file = std::fs::read_to_string(&path)?;
    let name = format!("endpoints {CLUSTER}");
    let check = async || match run_command(&["check", "--dir", &dir]).await {
        Ok(said) => said,
        Err(error) => error.to_string(),
    };
    let readiness = async |world: &World| {
        let said: Value = serde_json::from_str(&scrape(world, "readyz").await?)?;
        assert_eq!(said["ready"], true, "nobody is out for it: {said}");
        anyhow::Ok(said["checks"].as_array().context("checks")?.iter().find(|check| check["name"] == name).cloned())
    };
    std::fs::write(&path, file.replace(&world.node.endpoint(), &nowhere))?;
    assert!(!check().await.contains(&name));
    std::fs::write(&path, file.replace(&world.node.endpoint(), &stranger.endpoint()))?;
    let said = check().await;
    let expected = format!("`{}`: it shows a certificate of another cluster's CA; correct", stranger.endpoint());
    assert!(said.contains(&name) && said.contains(&expected), "{said}");

    // as at a start, with a certificate made by nobody
    let before = world.entries().await?.iter().filter(|entry| entry.kind == "grant").count();
    world.running.reload().await;
    let looking = async {
        loop {
            match readiness(&world).await? {
                Some(found) => return anyhow::Ok(found),
                None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), looking).await.context("the broker did not say it")??;
    assert!(found["ok"] == false && found["detail"].as_str().is_some_and(|said| said.contains(&expected)), "{found}");
    let after = world.entries().await?.iter().filter(|entry| entry.kind == "grant").count();
    assert_eq!(before, after);
    // corrected, it is taken back
    std::fs::write(&path, file)?;
    world.running.reload().await;
    let taken_back = async {
        while readiness(&world).await?.is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), taken_back).await.context("the broker did not take it back")?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_starts_says_so_of_an_endpoint_of_another_cluster() -> anyhow::Result<()> {
    let stranger = Node::start(NodeOptions::new("stranger")?).await?;
    let endpoint = stranger.endpoint();
    let text = format!("endpoints = [\"{endpoint}\"]\nca = \"\"\"\n{}\"\"\"\n", Authority::new("talos")?.certificate());
    let prepare: Prepare = Box::new(move |dir| Ok(std::fs::write(dir.join("clusters/misnamed.toml"), text)?));
    let edits = vec![("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")];
    let world = World::with(Options { edits, prepare: Some(prepare), ..Options::default() }).await?;
    let said = async || scrape(&world, "readyz").await;
    let wait = async {
        while !said().await?.contains("another cluster's CA") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.context("the broker did not say it")??;
    assert!(said().await?.contains("endpoints misnamed"));
    Ok(())
}
