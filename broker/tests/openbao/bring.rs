//! What others do meanwhile, at the place where a CA is brought to.

use std::collections::BTreeMap;

use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::custody::ca::{self, CaFacts, CaMaterial};
use ichor_broker::custody::{
    For, IdentitySource, Keep, KnownCas, Place, Places, Record, SettleError, Settled, Target, TransitKeyError, Vault,
    kv_place,
};
use ichor_broker::domain::ClusterName;
use ichor_broker::openbao::{Client, Settings};
use ichor_standins::openbao::Fault;
use serde_json::{Value, json};

use super::World;

struct Desk {
    world: World,
    vault: Vault,
    servers: BTreeMap<String, Client>,
    cluster: ClusterName,
    material: CaMaterial,
    known: KnownCas,
}

impl Desk {
    async fn new() -> Self {
        let world = World::new().await;
        let dir = world.path("vault");
        Vault::create(&dir, Keep::DangerBeside, &[]).unwrap();
        let vault = Vault::open(&dir, IdentitySource::DangerBeside).unwrap();
        let servers = BTreeMap::from([("main".to_owned(), world.client())]);
        let cluster = ClusterName::new("prod").unwrap();
        let material = ca::create(&cluster, SystemClock.now(), 5).unwrap();
        Self { world, vault, servers, cluster, material, known: KnownCas::default() }
    }

    fn places(&self) -> Places<'_> {
        Places { sealer: self.vault.sealer(), servers: &self.servers, known: &self.known }
    }

    fn of(&self, replace: bool) -> For<'_> {
        For { cluster: &self.cluster, generation: 1, replace, awaited: None }
    }

    async fn bring(&self, target: &Target) -> Result<Settled, SettleError> {
        self.places().bring(self.of(false), target, &self.material).await
    }

    async fn create(&self, target: &Target) -> Result<Settled, SettleError> {
        self.places().create(self.of(false), target, SystemClock.now(), 5).await
    }
}

fn transit(key: Option<&str>) -> Target {
    Target::Transit { server: "main".into(), mount: "transit".into(), key: key.map(str::to_owned) }
}

fn kv(path: Option<&str>) -> Target {
    Target::Kv { server: "main".into(), mount: "secret".into(), path: path.map(str::to_owned) }
}

#[tokio::test]
async fn a_wrapping_key_that_changes_meanwhile_is_said_and_nothing_is_made() {
    let desk = Desk::new().await;
    let mut hold = desk.world.bao.hold("transit/keys/+/import");
    let change = async {
        hold.arrived(1).await;
        desk.world.bao.change_wrapping_key();
        hold.release();
    };
    let target = transit(None);
    let (brought, ()) = tokio::join!(desk.bring(&target), change);
    let said = brought.unwrap_err().to_string();
    assert!(said.contains("the wrapping key of `transit/` was changed while the CA's key crossed"), "{said}");
    assert_eq!(desk.world.operate("GET", "transit/keys/ichor-prod", Value::Null).await, Value::Null);
    desk.bring(&target).await.unwrap();
}

#[tokio::test]
async fn a_key_that_came_back_as_another_is_not_used() {
    let desk = Desk::new().await;
    let mut hold = desk.world.bao.hold("transit/keys/+/import");
    let swap = async {
        hold.arrived(1).await;
        let public = data_encoding::BASE64.encode(&[7; 32]);
        let key = json!({"type": "ed25519", "latest_version": 1, "keys": {"1": {"public_key": public}},
            "exportable": false, "allow_plaintext_backup": false});
        desk.world.bao.set_fault("transit/keys/ichor-prod", Some(Fault::Instead(json!({ "data": key }))));
        hold.release();
    };
    let target = transit(None);
    let (brought, ()) = tokio::join!(desk.bring(&target), swap);
    assert!(matches!(brought, Err(SettleError::Swapped(at)) if at == "transit/ichor-prod"));
    // nor is it when it is there from the start
    assert!(matches!(desk.bring(&target).await, Err(SettleError::Other(_))));
}

#[tokio::test]
async fn another_writer_of_the_secret_wins_and_is_named() {
    let desk = Desk::new().await;
    let mut hold = desk.world.bao.hold("secret/data/ichor/prod");
    let other = json!({"certificate": "x", "key": "y"});
    let write = async {
        hold.arrived(1).await;
        desk.world.bao.write_secret("ichor/prod", other.clone());
        hold.release();
    };
    let target = kv(None);
    let (brought, ()) = tokio::join!(desk.bring(&target), write);
    let said = brought.unwrap_err().to_string();
    assert!(said.contains("another version of the secret at `secret/ichor/prod` was written meanwhile"), "{said}");
    assert_eq!(desk.world.bao.secret("ichor/prod"), Some(other.clone()), "it is not written over");
    // and what is there is not written over unasked
    for refused in [desk.bring(&target).await, desk.create(&target).await] {
        refused.unwrap_err();
    }
    assert_eq!(desk.world.bao.secret("ichor/prod"), Some(other));
    desk.places().bring(desk.of(true), &target, &desk.material).await.unwrap();
}

#[tokio::test]
async fn an_outage_is_not_taken_for_another_secret() {
    let desk = Desk::new().await;
    desk.bring(&kv(None)).await.unwrap();
    desk.world.bao.deny("secret/data/*");
    let error = desk.places().bring(desk.of(true), &kv(None), &desk.material).await.unwrap_err();
    assert!(error.to_string().contains("does not allow `secret/data/ichor/prod`"), "{error}");
}

#[tokio::test]
async fn two_clusters_share_no_key_and_no_secret() {
    let desk = Desk::new().await;
    let other = ClusterName::new("other").unwrap();
    let certificate = desk.material.certificate().pem();
    let place = Place::Transit {
        server: "main".into(),
        mount: "transit".into(),
        key: "shared".into(),
        key_version: 1,
        certificate: certificate.clone(),
    };
    let secret = Place::Kv { server: "main".into(), mount: "secret".into(), path: "shared".into() };
    // also one that issued before
    let record = Record::first(secret).succeeded_by(place, SystemClock.now(), Some(certificate));
    record.write(desk.vault.sealer().dir(), &other, false).unwrap();
    for target in [transit(Some("shared")), kv(Some("shared"))] {
        for refused in [desk.bring(&target).await, desk.create(&target).await] {
            let error = refused.unwrap_err();
            assert!(matches!(&error, SettleError::Taken { cluster, .. } if cluster == "other"), "{error}");
        }
    }
    assert_eq!(desk.world.bao.requests(), [], "it was seen before anything was asked, or made");
}

#[tokio::test]
async fn two_names_of_one_server_are_one_server() {
    let mut desk = Desk::new().await;
    let other = ClusterName::new("other").unwrap();
    let pki = |server: &str| Target::Pki {
        server: server.into(),
        mount: "pki".into(),
        role_per_person: false,
        roles: Vec::new(),
    };
    let place = Place::Pki {
        server: "second".into(),
        mount: "pki".into(),
        certificate: desk.material.certificate().pem(),
        role_per_person: false,
        roles: Vec::new(),
    };
    Record::first(place).write(desk.vault.sealer().dir(), &other, false).unwrap();
    let take = async |desk: &Desk| desk.places().take_up(desk.of(false), &pki("main")).await.unwrap_err();
    let another = Settings { name: "second".into(), ..desk.world.settings() };
    desk.servers.insert("second".into(), Client::new(another.clone()).unwrap());
    let error = take(&desk).await;
    assert!(matches!(&error, SettleError::Taken { cluster, .. } if cluster == "other"), "{error}");
    // another namespace has mounts of its own, and so has another address
    let mut address = another.address.clone();
    address.set_port(Some(9)).unwrap();
    for apart in [Settings { namespace: Some("team".into()), ..another.clone() }, Settings { address, ..another }] {
        desk.servers.insert("second".into(), Client::new(apart).unwrap());
        let error = take(&desk).await;
        assert!(!matches!(error, SettleError::Taken { .. }), "{error}");
    }
}

#[tokio::test]
async fn no_ca_has_the_key_of_another_clusters() {
    let mut desk = Desk::new().await;
    let facts = desk.material.facts();
    let named = [("certificate", facts.fingerprint), ("public key", facts.key_fingerprint)];
    desk.known.learn("other", &named.map(|(name, digest)| (name.to_owned(), digest)).into());
    let transit = Target::Transit { server: "main".into(), mount: "transit".into(), key: None };
    // one that went has no record here
    for target in [Target::Age, kv(None), transit.clone()] {
        desk.bring(&target).await.unwrap();
    }
    let (dir, other) = (desk.vault.sealer().dir(), ClusterName::new("other").unwrap());
    Record::first(Place::Age { file: "other.age".into() }).write(dir, &other, false).unwrap();
    for target in [Target::Age, kv(None), transit] {
        let error = desk.bring(&target).await.unwrap_err();
        assert!(matches!(&error, SettleError::OthersKey { other, .. } if other.as_str() == "other"), "{error}");
    }
}

#[tokio::test]
async fn the_secret_of_a_ca_that_the_cluster_has_or_had_is_not_written_over() {
    const PATHS: [&str; 4] = ["ichor/prod", "ichor/prod.2", "ichor/prod.3", "ichor/lost"];
    let mut desk = Desk::new().await;
    let now = SystemClock.now();
    for path in PATHS {
        let there = ca::create(&desk.cluster, now, 5).unwrap();
        desk.places().bring(desk.of(false), &kv(Some(path)), &there).await.unwrap();
    }
    let at = |path: &str| Place::Kv { server: "main".into(), mount: "secret".into(), path: path.into() };
    let record = Record::first(at("ichor/prod")).succeeded_by(at("ichor/prod.2"), now, None);
    let record = record.rotating(at("ichor/prod.3"), Vec::new(), now);
    record.write(desk.vault.sealer().dir(), &desk.cluster, false).unwrap();
    // one that only the log tells
    let named = [("certificate", "7".repeat(64)), ("secret of KV", kv_place("main", "secret", "ichor/lost"))];
    desk.known.learn("prod", &named.map(|(name, digest)| (name.to_owned(), digest)).into());
    for path in PATHS {
        let held = desk.world.bao.secret(path);
        let error = desk.places().bring(desk.of(true), &kv(Some(path)), &desk.material).await.unwrap_err();
        let is_said = matches!(error, SettleError::Kept(_) | SettleError::InForce(_));
        assert!(is_said && error.to_string().contains("name another path with `--key`"), "{path}: {error}");
        assert_eq!(desk.world.bao.secret(path), held, "{path}");
    }
}

#[tokio::test]
async fn the_secret_of_the_ca_in_force_is_not_written_over() {
    let desk = Desk::new().await;
    let settled = desk.bring(&kv(None)).await.unwrap();
    Record::first(settled.place).write(desk.vault.sealer().dir(), &desk.cluster, false).unwrap();
    let next = For { cluster: &desk.cluster, generation: 2, replace: true, awaited: None };
    let target = kv(Some("ichor/prod"));
    let error = desk.places().create(next, &target, SystemClock.now(), 5).await.unwrap_err();
    assert!(matches!(error, SettleError::InForce(_)), "{error}");
    assert!(error.to_string().contains("name another path with `--key`"), "{error}");
    desk.places().create(next, &kv(None), SystemClock.now(), 5).await.unwrap();
    assert!(desk.world.bao.secret("ichor/prod.2").is_some());
}

#[tokio::test]
async fn a_ca_that_a_command_at_the_same_moment_made_is_not_written_over() {
    let mut desk = Desk::new().await;
    let next = For { cluster: &desk.cluster, generation: 2, replace: true, awaited: None };
    let (now, target) = (SystemClock.now(), kv(None));
    let first = desk.places().create(next, &target, now, 5).await.unwrap();
    let held = desk.world.bao.secret("ichor/prod.2");
    // the other has neither its entry nor its record yet
    let error = desk.places().bring(next, &target, &desk.material).await.unwrap_err();
    assert!(matches!(error, SettleError::Unnamed(_)), "{error}");
    let second = desk.places().create(next, &target, now, 5).await.unwrap();
    assert_eq!(second.certificate.fingerprint(), first.certificate.fingerprint(), "both tell nodes of one CA");
    // ended between the entry and the record, it is gone on with
    let facts = CaFacts::of(&first.certificate);
    let place = kv_place("main", "secret", "ichor/prod.2");
    let named = [("certificate", facts.fingerprint), ("public key", facts.key_fingerprint), ("secret of KV", place)];
    desk.known.learn("prod", &named.map(|(name, digest)| (name.to_owned(), digest)).into());
    let next = For { cluster: &desk.cluster, ..next };
    let again = desk.places().create(next, &target, now, 5).await.unwrap();
    assert_eq!(again.certificate.fingerprint(), first.certificate.fingerprint());
    assert_eq!(desk.world.bao.secret("ichor/prod.2"), held);
}

#[tokio::test]
async fn a_version_of_transit_that_signs_no_more_is_not_taken_for_a_ca() {
    let desk = Desk::new().await;
    let target = transit(None);
    desk.bring(&target).await.unwrap();
    let held = desk.world.operate("GET", "transit/keys/ichor-prod", Value::Null).await;
    let mut raised = held.clone();
    raised["min_encryption_version"] = json!(2);
    desk.world.bao.set_fault("transit/keys/ichor-prod", Some(Fault::Instead(json!({ "data": raised }))));
    let error = desk.bring(&target).await.unwrap_err();
    assert!(matches!(error, SettleError::Transit(TransitKeyError::TooOld { version: 1, oldest: 2, .. })), "{error}");
}

#[tokio::test]
async fn a_ca_that_no_record_names_is_written_over_where_its_path_is_named() {
    let desk = Desk::new().await;
    let named = kv(Some("ichor/prod"));
    desk.bring(&named).await.unwrap();
    let held = desk.world.bao.secret("ichor/prod");
    let settled = desk.places().create(desk.of(true), &named, SystemClock.now(), 5).await.unwrap();
    assert_ne!(settled.certificate.fingerprint(), desk.material.certificate().fingerprint());
    assert_ne!(desk.world.bao.secret("ichor/prod"), held);
}

#[tokio::test]
async fn a_ca_is_made_where_its_secret_was_deleted() {
    let desk = Desk::new().await;
    for _ in 0..2 {
        desk.create(&kv(None)).await.unwrap();
        desk.world.operate("DELETE", "secret/data/ichor/prod", Value::Null).await;
        desk.bring(&kv(None)).await.unwrap();
        desk.world.operate("DELETE", "secret/data/ichor/prod", Value::Null).await;
    }
}
