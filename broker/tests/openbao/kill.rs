//! `ca create` and `ca import` ended at every step, and run again.

use std::collections::BTreeMap;
use std::time::Duration;

use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::custody::ca::{self, CaMaterial};
use ichor_broker::custody::{Custody, For, IdentitySource, Keep, KnownCas, Places, Record, Target, Vault};
use ichor_broker::domain::ClusterName;
use ichor_standins::openbao::Fault;
use serde_json::{Value, json};

use super::World;

fn targets() -> [Target; 2] {
    [
        Target::Transit { server: "main".into(), mount: "transit".into(), key: None },
        Target::Kv { server: "main".into(), mount: "secret".into(), path: None },
    ]
}

/// What a command does: one process, so a client of its own. Whether it came to its end.
async fn run(world: &World, vault: &Vault, target: &Target, material: Option<&CaMaterial>, deadline: u64) -> bool {
    let cluster = ClusterName::new("prod").unwrap();
    let servers = BTreeMap::from([("main".to_owned(), world.hasty(Duration::from_millis(deadline)))]);
    let places = Places { sealer: vault.sealer(), servers: &servers, known: &KnownCas::default() };
    let of = For { cluster: &cluster, generation: 1, replace: false, awaited: None };
    let settled = match material {
        Some(material) => places.bring(of, target, material).await,
        None => places.create(of, target, SystemClock.now(), 5).await,
    };
    let Ok(settled) = settled else { return false };
    Record::first(settled.place).write(vault.sealer().dir(), &cluster, false).unwrap();
    true
}

/// How many keys or secrets there are.
async fn there(world: &World, target: &Target) -> usize {
    let path = match target {
        Target::Transit { .. } => "transit/keys",
        _ => "secret/metadata/ichor",
    };
    let listed = world.operate("LIST", path, Value::Null).await;
    // the wrapping key lies in a folder beside the keys
    let is_one = |name: &&Value| name.as_str().is_some_and(|name| !name.ends_with('/'));
    listed["keys"].as_array().map_or(0, |keys| keys.iter().filter(is_one).count())
}

async fn ended_at_every_step(import: bool) {
    let cluster = ClusterName::new("prod").unwrap();
    let material = import.then(|| ca::create(&cluster, SystemClock.now(), 5).unwrap());
    for target in targets() {
        for fault in [Fault::Lost, Fault::Disconnect] {
            let mut after = 0;
            loop {
                let world = World::new().await;
                let dir = world.path("vault");
                Vault::create(&dir, Keep::DangerBeside, &[]).unwrap();
                let vault = Vault::open(&dir, IdentitySource::DangerBeside).unwrap();
                let at = format!("{fault:?} after {after} requests to {target:?}, import: {import}");
                world.bao.spoil_after("*", fault.clone(), after);
                let is_done = run(&world, &vault, &target, material.as_ref(), 120).await;
                world.bao.set_fault("*", None);
                assert_eq!(Record::read(&dir, &cluster).unwrap().is_some(), is_done, "{at}");
                if !is_done {
                    assert!(there(&world, &target).await <= 1, "{at}");
                    assert!(run(&world, &vault, &target, material.as_ref(), 10_000).await, "not gone on with: {at}");
                }
                assert_eq!(there(&world, &target).await, 1, "{at}");
                if let Target::Kv { .. } = target {
                    let told = world.operate("GET", "secret/metadata/ichor/prod", Value::Null).await;
                    assert_eq!(told["current_version"], json!(1), "{at}");
                }
                let servers = BTreeMap::from([("main".to_owned(), world.client())]);
                let opened = Custody::new(vault, servers)
                    .open(&cluster, &KnownCas::default())
                    .await
                    .unwrap_or_else(|e| panic!("{at}: {e}"));
                if let Some(material) = &material {
                    assert_eq!(opened.certificate.fingerprint(), material.certificate().fingerprint(), "{at}");
                }
                if is_done {
                    break;
                }
                after += 1;
            }
            assert!(after >= 4, "there were only {after} steps at {target:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_made() {
    ended_at_every_step(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_brought() {
    ended_at_every_step(true).await;
}
