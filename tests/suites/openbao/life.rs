//! The CA's life: rotated, retired, moved, without an outage and without anything half-made.

use ichor_broker::app;
use ichor_broker::clock::Clock;
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_broker::domain::ClusterName;
use ichor_standins::authority::Authority;
use ichor_standins::node::{Node, NodeOptions};
use ichor_standins::openbao::{OpenBao, Rule};
use ichor_tests::{CLUSTER, Faults, Lives, Options, Person, World, run_command};
use ichor_wire::log::Kind;
use ichor_wire::profile::CaCertificate;

use super::{asks, bao, line, own_ca, world};

/// What a `ca` command says.
pub(super) async fn ca(world: &World, command: &[&str]) -> anyhow::Result<String> {
    let dir = world.dir.display().to_string();
    run_command(&[&["ca"], command, &["--dir", dir.as_str()]].concat()).await
}

pub(super) async fn recorded(world: &World, command: &[&str]) -> anyhow::Result<String> {
    ca(world, &[command, &["--reason", "tests"]].concat()).await
}

/// The node that the world has.
pub(super) fn node(world: &World) -> String {
    world.node.address().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_issues_once_every_node_accepts_it_and_not_before() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let old = asks(&alice).await?.answer.issuing_ca;

    // the node was not patched yet: the new CA is there and does not issue
    let refused = recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
    assert!(refused.to_string().contains("not every node accepts the new CA yet"), "{refused}");
    assert_eq!(asks(&alice).await?.answer.issuing_ca, old);
    assert!(ca(&world, &["show", CLUSTER]).await?.contains("a rotation is under way since"));
    let again = recorded(&world, &["rotate", CLUSTER, "--wait", "0s"]).await.unwrap_err().to_string();
    assert!(again.contains("`--continue` goes on with it"), "{again}");

    // patched, it is taken up where it ended
    let patch = ca(&world, &["patch", CLUSTER, "--next"]).await?;
    assert!(patch.contains("acceptedCAs"), "{patch}");
    let printed = refused.to_string();
    assert!(printed.contains(patch.trim_end()), "what `ca rotate` printed is the patch itself: {printed}");
    let both = format!("{}{}", ca(&world, &["export-public", CLUSTER]).await?, next(&world).await?);
    world.node.set_accepted_cas(&both)?;
    let said = recorded(&world, &["rotate", CLUSTER, "--continue", "--wait", "0s"]).await?;
    assert!(said.contains("accepts it") && said.contains("The new CA issues from now on"), "{said}");
    let held = asks(&alice).await?;
    assert_ne!(held.answer.issuing_ca, old);
    Person::connect(&world, &held).await?.version(&[]).await?;

    // probes are grants to the system, recorded like any
    let entries = world.entries().await?;
    let probes: Vec<_> = entries.iter().filter(|entry| entry.user.as_deref() == Some("~system")).collect();
    assert_eq!(probes.iter().filter(|entry| entry.kind == "grant").count(), 2);
    assert_eq!(probes.iter().filter(|entry| entry.kind == "issued").count(), 2);
    // and name whose command asked
    let act = entries.iter().find(|entry| entry.kind == "ca").unwrap();
    let user = act.detail.get("os_user").filter(|user| !user.is_empty()).unwrap();
    assert!(probes.iter().all(|entry| entry.detail.get("os_user") == Some(user)), "{probes:?}");

    // the old one goes when its last certificate has ended, and not before
    let early = recorded(&world, &["retire", CLUSTER]).await.unwrap_err().to_string();
    assert!(early.contains("may be valid until"), "{early}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_that_was_named_must_accept_the_new_ca() -> anyhow::Result<()> {
    let world = world(Lives::Age).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let old = asks(&alice).await?.answer.issuing_ca;
    let clock = std::sync::Arc::clone(&world.clock);
    let now = std::sync::Arc::new(move || clock.now());
    let authority = std::sync::Arc::clone(world.node.authority());
    let other = Node::start(NodeOptions { now, authority, ..NodeOptions::new("node-b")? }).await?;
    // one of the two is not in the cluster's file: it was named when the rotation began
    let named = ["--node", &node(&world), "--node", &other.address().to_string()];
    recorded(&world, &[&["rotate", CLUSTER, "--wait", "0s"], &named[..]].concat()).await.unwrap_err();
    let both = format!("{}{}", ca(&world, &["export-public", CLUSTER]).await?, next(&world).await?);
    let go_on = async || recorded(&world, &["rotate", CLUSTER, "--continue", "--wait", "0s"]).await;
    for first in [&world.node, &other] {
        for node in [&world.node, &other] {
            node.set_accepted_cas(if std::ptr::eq(node, first) { &both } else { "" })?;
        }
        let said = go_on().await.unwrap_err().to_string();
        assert!(said.contains("accepts it") && said.contains("not every node accepts the new CA yet"), "{said}");
        assert_eq!(asks(&alice).await?.answer.issuing_ca, old);
    }
    world.node.set_accepted_cas(&both)?;
    go_on().await?;
    assert_ne!(asks(&alice).await?.answer.issuing_ca, old);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_cannot_be_recorded_does_not_happen() -> anyhow::Result<()> {
    let faults = Faults::none();
    let wrapped = World::with(Options { wrap_store: Some(faults.wrap()), ..Options::default() });
    let world = wrapped.await?;
    let alice = Person::log_in(&world, "alice").await?;
    let old = asks(&alice).await?.answer.issuing_ca;
    recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
    let both = format!("{}{}", ca(&world, &["export-public", CLUSTER]).await?, next(&world).await?);
    world.node.set_accepted_cas(&both)?;
    let record = std::fs::read(world.dir.join("vault/ca/prod.toml"))?;
    faults.set_no_entry(Some(Kind::Ca));
    recorded(&world, &["rotate", CLUSTER, "--continue", "--wait", "0s"]).await.unwrap_err();
    assert_eq!(std::fs::read(world.dir.join("vault/ca/prod.toml"))?, record);
    assert_eq!(asks(&alice).await?.answer.issuing_ca, old);
    faults.set_no_entry(None);
    recorded(&world, &["rotate", CLUSTER, "--continue", "--wait", "0s"]).await?;
    assert_ne!(asks(&alice).await?.answer.issuing_ca, old);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_no_entry_names_is_recorded_before_a_probe_is_signed_by_it() -> anyhow::Result<()> {
    // one that has not seen it yet
    let look = Some(std::time::Duration::from_secs(3_600));
    let world = World::with(Options { custody: Lives::Kv, look, ..Options::default() }).await?;
    assert!(line(&world, "ca prod").await.ok);
    let other = Authority::new("published there")?;
    let key = data_encoding::BASE64.encode(other.key()?.as_bytes());
    bao(&world).write_secret("ichor/prod", serde_json::json!({ "certificate": other.certificate(), "key": key }));
    let before = world.entries().await?.len();
    // the node does not accept it: what counts is what was recorded on the way there
    ca(&world, &["probe", CLUSTER, "--node", &node(&world)]).await.unwrap_err();
    let mut entries = world.entries().await?;
    entries.reverse();
    let new = entries.split_off(before);
    let named = new.iter().position(|e| e.detail.get("message").is_some_and(|m| m.contains("which no entry named")));
    let granted = new.iter().position(|entry| entry.kind == "grant");
    assert!(named.is_some() && named < granted, "{new:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_goes_nowhere_that_the_broker_itself_cannot_use_it() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let old = asks(&alice).await?.answer.issuing_ca;
    let token = world.dir.join("operator-token").display().to_string();
    std::fs::write(&token, OpenBao::ROOT_TOKEN)?;
    let record = || std::fs::read(world.dir.join("vault/ca/prod.toml")).unwrap();
    let (before, node) = (record(), node(&world));
    let moves = ["move", CLUSTER, "--to", "transit", "--token-file", &token];
    let rotates = ["rotate", CLUSTER, "--custody", "transit", "--token-file", &token, "--wait", "0s", "--node", &node];
    let reads = || Rule::new("secret/data/ichor/prod", ["read"]);
    bao(&world).allow_only([reads()]);
    for command in [&moves[..], &rotates] {
        let said = recorded(&world, command).await.unwrap_err().to_string();
        assert!(said.contains("the broker itself cannot use it there") && said.contains("transit/keys/"), "{said}");
        assert_eq!(record(), before);
        assert_eq!(asks(&alice).await?.answer.issuing_ca, old);
    }
    // what failed takes back what it said itself
    let entries = world.entries().await?;
    let acts = |name: &str| -> Vec<_> {
        let has = entries.iter().filter(|entry| entry.detail.contains_key(&format!("digest of {name}")));
        has.map(|entry| entry.detail.get("digest of act").cloned()).collect()
    };
    let (said, withdrawn) = (acts("certificate that it is about"), acts("certificate that was not brought"));
    assert_eq!((said.len(), &said), (1, &withdrawn), "{entries:?}");
    assert!(said[0].is_some());
    // with what deploy/openbao has, the same commands go on with what is there
    let may = |key: &str| {
        [(format!("transit/keys/{key}"), "read"), (format!("transit/sign/{key}"), "update")]
            .map(|(path, may)| Rule::new(&path, [may]))
    };
    bao(&world).allow_only(["ichor-prod", "ichor-prod.2"].map(may).concat().into_iter().chain([reads()]));
    recorded(&world, &moves).await?;
    assert_eq!(asks(&alice).await?.answer.issuing_ca, old);
    let said = recorded(&world, &["rotate", CLUSTER, "--token-file", &token, "--wait", "0s", "--node", &node]).await;
    assert!(said.unwrap_err().to_string().contains("not every node accepts the new CA yet"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_token_makes_what_the_brokers_own_may_not() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let runs = |name: &str| {
        [(format!("transit/keys/{name}"), "read"), (format!("transit/sign/{name}"), "update")]
            .map(|(path, may)| Rule::new(&path, [may]))
    };
    bao(&world).allow_only([runs("ichor-prod"), runs("ichor-prod.2")].concat());
    let rotate = ["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)];
    let said = recorded(&world, &rotate).await.unwrap_err().to_string();
    assert!(said.contains("does not allow `transit/keys/ichor-prod.2`"), "{said}");

    // a second server in the file changes nothing: a rotation stays where the CA is
    let config = world.dir.join("config.toml");
    let with = std::fs::read_to_string(&config)?
        + "\n[[openbao]]\nname = \"other\"\naddress = \"http://127.0.0.1:9\"\nauth = \"token\"\nsecret_file = \"none\"\n";
    std::fs::write(&config, with)?;
    let token = world.dir.join("operator-token").display().to_string();
    // one that is not taken is named: the broker's own secret is no matter of it
    std::fs::write(&token, "ended")?;
    let create = ["create", CLUSTER, "--replace", "--custody", "transit", "--server", "main"];
    for command in [&rotate[..], &create[..]] {
        let said = recorded(&world, &[command, &["--token-file", &token]].concat()).await.unwrap_err().to_string();
        let named = format!("the token in `{token}` is not taken; make a new one and write it there");
        assert!(said.contains(&named) && !said.contains("secret_file"), "{said}");
    }
    std::fs::write(&token, OpenBao::ROOT_TOKEN)?;
    let said = recorded(&world, &[&rotate[..], &["--token-file", &token]].concat()).await.unwrap_err().to_string();
    assert!(said.contains("not every node accepts the new CA yet"), "{said}");
    assert!(next(&world).await?.contains("CERTIFICATE"));
    asks(&alice).await?;
    let said =
        recorded(&world, &["create", CLUSTER, "--replace", "--token-file", &token]).await.unwrap_err().to_string();
    assert!(said.contains("the vault's files have their own names"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_can_be_dropped_and_its_key_is_not_used_again() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
    let said = recorded(&world, &["rotate", CLUSTER, "--abandon"]).await?;
    assert!(said.contains("the CA in force is still Transit key transit/ichor-prod version 1"), "{said}");
    recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
    assert!(ca(&world, &["show", CLUSTER]).await?.contains("transit/ichor-prod.3 version 1"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_the_running_broker_does_not_take_up_says_so_and_takes_out_no_old_ca() -> anyhow::Result<()> {
    let faults = Faults::none();
    let world =
        World::with(Options { custody: Lives::Age, wrap_store: Some(faults.wrap()), ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let old = asks(&alice).await?.answer.issuing_ca;
    recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
    let both = format!("{}{}", ca(&world, &["export-public", CLUSTER]).await?, next(&world).await?);
    world.node.set_accepted_cas(&both)?;
    // a broker that cannot record that it took up the new one goes on with the old one
    faults.set_no_entry(Some(Kind::Reload));
    let said = recorded(&world, &["rotate", CLUSTER, "--continue", "--wait", "0s"]).await.unwrap_err().to_string();
    assert!(said.contains("by the record the new CA is in force"), "{said}");
    assert!(said.contains("the running broker goes on with the old CA") && said.contains("of no node until"), "{said}");
    assert_eq!(asks(&alice).await?.answer.issuing_ca, old);
    // the same of a delegation, which is so by the record
    let said = recorded(&world, &["delegate", CLUSTER, "--offline"]).await?;
    assert!(said.contains("The running broker has not taken it up"), "{said}");
    faults.set_no_entry(None);
    recorded(&world, &["delegate", CLUSTER, "--end"]).await?;
    assert_ne!(asks(&alice).await?.answer.issuing_ca, old);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_ca_issues_no_more_at_once() -> anyhow::Result<()> {
    let world = world(Lives::Age).await?;
    let alice = Person::log_in(&world, "alice").await?;
    asks(&alice).await?;
    let old = ca(&world, &["export-public", CLUSTER]).await?;
    let said = recorded(&world, &["retire", CLUSTER, "--compromised"]).await?;
    assert!(said.contains("issues no more") && said.contains("removal-patch prod --former"), "{said}");
    assert!(asks(&alice).await.is_err());
    assert!(line(&world, "ca prod").await.detail.unwrap().contains("was retired"));
    let none = ca(&world, &["export-public", CLUSTER]).await.unwrap_err().to_string();
    assert!(none.contains("was retired"), "{none}");
    assert_eq!(ca(&world, &["export-public", CLUSTER, "--former"]).await?, old, "what the nodes are rid of can be had");
    recorded(&world, &["create", CLUSTER, "--replace"]).await?;
    asks(&alice).await?;
    // the compromised one is what is taken out of the nodes, not what came after it
    let config = world.scratch().join("node.yaml");
    std::fs::write(&config, "version: v1alpha1\nmachine:\n  type: worker\n")?;
    let config = config.display().to_string();
    let removal = ca(&world, &["removal-patch", CLUSTER, "--former", "--machine-config", &config]).await;
    assert!(
        removal.unwrap_err().to_string().contains("nothing to remove"),
        "the certificate of the former one was found"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_moves_from_age_to_kv_to_transit_and_no_further() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let first = asks(&alice).await?.answer.issuing_ca;
    recorded(&world, &["move", CLUSTER, "--to", "age"]).await?;
    assert_eq!(asks(&alice).await?.answer.issuing_ca, first);
    let signed = bao(&world).signatures();
    let said = recorded(&world, &["move", CLUSTER, "--to", "transit", "--remove-old"]).await?;
    assert!(said.contains("removed age file prod.age"), "{said}");
    // the log can tell where it went
    let entries = world.entries().await?;
    let told = |to: &str| entries.iter().any(|e| e.kind == "ca" && e.detail["message"].ends_with(to));
    assert!(told("CA moved from KV secret secret/ichor/prod at main to age file prod.age"), "{entries:?}");
    assert!(told("CA moved from age file prod.age to Transit key transit/ichor-prod version 1 at main"), "{entries:?}");
    assert_eq!(asks(&alice).await?.answer.issuing_ca, first);
    assert_eq!(bao(&world).signatures() - signed, 1);
    assert!(!world.dir.join("vault/ca/prod.age").exists());
    let stays = recorded(&world, &["move", CLUSTER, "--to", "age"]).await.unwrap_err().to_string();
    assert!(stays.contains("cannot be taken from Transit key"), "{stays}");
    Ok(())
}

/// Each act on a CA, in the order of one's life, and what its entries must have a digest of.
#[tokio::test(flavor = "multi_thread")]
async fn every_act_says_who_where_why_and_of_which_ca() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let ((_, from), node) = (own_ca(&world)?, node(&world));
    let (named, retired) = ("digest of certificate", "digest of retired certificate 1");
    // what brings no CA into custody brings none back that was retired meanwhile
    let about = "digest of certificate that it is about";
    let rotate: &[&str] = &["rotate", CLUSTER, "--wait", "0s", "--node", &node];
    let acts: [(&[&str], &str); 10] = [
        (&["create", CLUSTER, "--custody", "age", "--replace"], named),
        (&["import", CLUSTER, "--from", &from, "--custody", "age", "--replace"], named),
        (&["move", CLUSTER, "--to", "transit"], about),
        (rotate, about),
        (&["rotate", CLUSTER, "--abandon"], retired),
        (rotate, about),
        (&["rotate", CLUSTER, "--continue", "--wait", "0s"], about),
        (&["delegate", CLUSTER, "--offline"], about),
        (&["delegate", CLUSTER, "--end"], about),
        (&["retire", CLUSTER, "--compromised"], retired),
    ];
    let deeds = async || {
        let mut entries = world.entries().await?;
        entries.retain(|entry| entry.kind == "ca");
        entries.reverse();
        anyhow::Ok(entries)
    };
    let mut dropped = None;
    for (act, digest) in acts {
        let before = deeds().await?.len();
        if act.contains(&"--continue") {
            world.node.set_accepted_cas(&next(&world).await?)?;
        }
        if act.contains(&"--abandon") {
            dropped = Some(CaCertificate::parse(&next(&world).await?)?);
        }
        // a rotation whose node was not patched yet has begun, and says that it waits
        let said = recorded(&world, act).await;
        assert_eq!(said.is_ok(), act != rotate, "{act:?}: {said:?}");
        let new = deeds().await?.split_off(before);
        assert!(!new.is_empty(), "{act:?}");
        for entry in &new {
            for (name, value) in [("os_user", None), ("host", None), ("reason", Some("tests"))] {
                let found = entry.detail.get(name).filter(|found| !found.is_empty());
                assert!(
                    found.is_some_and(|found| value.is_none_or(|value| value == found)),
                    "{act:?}: {name}: {entry:?}"
                );
            }
            assert_eq!(entry.cluster.as_deref(), Some(CLUSTER), "{act:?}");
            let names = [named, about].iter().any(|name| entry.detail.contains_key(*name));
            assert_eq!(entry.detail.contains_key("digest of act"), names, "{act:?}: {entry:?}");
        }
        let digests: Vec<_> = new.iter().filter_map(|entry| entry.detail.get(digest)).collect();
        assert!(digests.iter().any(|digest| digest.len() == 64), "{act:?}: {new:?}");
        assert_eq!(new.iter().any(|entry| entry.detail.contains_key(named)), digest == named, "{act:?}: {new:?}");
    }
    // what was dropped is none of the cluster's CAs any more
    let dropped = dropped.unwrap();
    let known = app::known_cas(&Folder::new(&world.dir).load()?.settings).await?;
    let said = known.check(&ClusterName::new(CLUSTER)?, &dropped).unwrap_err().to_string();
    assert!(said.contains("was retired by an entry"), "{said}");
    Ok(())
}

/// The certificate of the CA that is to be.
pub(super) async fn next(world: &World) -> anyhow::Result<String> {
    let loaded = Folder::new(&world.dir).load()?;
    let custody = app::custody(&loaded, Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?)?;
    let cluster = ClusterName::new(CLUSTER)?;
    let record = custody.record(&cluster)?;
    let known = app::known_cas(&loaded.settings).await?;
    Ok(custody.certificate_at(&cluster, &record.rotation.unwrap().next, &known).await?.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_near_its_end_is_recorded_once_and_shown() -> anyhow::Result<()> {
    let world = world(Lives::Age).await?;
    let told = |entries: Vec<ichor_wire::api::AuditEntry>, what: &str| {
        entries.iter().filter(|e| e.detail.get("message").is_some_and(|text| text.contains(what))).count()
    };
    world.clock.advance(jiff::SignedDuration::from_hours(24 * (365 * 5 - 30)));
    for _ in 0..2 {
        let said = line(&world, "ca prod").await;
        assert!(said.ok && said.detail.as_deref().unwrap().contains("it expires at"), "{said:?}");
        assert_eq!(told(world.entries().await?, "it expires at"), 1);
    }
    // past its end nothing is issued: that is another thing, and recorded too
    world.clock.advance(jiff::SignedDuration::from_hours(24 * 31));
    for _ in 0..2 {
        let said = line(&world, "ca prod").await;
        assert!(!said.ok && said.detail.as_deref().unwrap().contains("it expired at"), "{said:?}");
        let entries = world.entries().await?;
        assert_eq!((told(entries.clone(), "it expires at"), told(entries, "it expired at")), (1, 1));
    }
    Ok(())
}
