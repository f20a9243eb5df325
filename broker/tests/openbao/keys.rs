//! Which Transit keys are used, and that what they sign is looked at.

use std::collections::BTreeMap;

use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::custody::{
    Custody, CustodyError, For, IdentitySource, Keep, KnownCas, Place, Places, Record, SettleError, Settled, Target,
    TransitKeyError, Vault,
};
use ichor_broker::domain::ClusterName;
use ichor_standins::openbao::Fault;
use serde_json::json;

use super::World;

fn cluster() -> ClusterName {
    ClusterName::new("prod").unwrap()
}

fn vault(world: &World) -> Vault {
    let dir = world.path("vault");
    if !dir.exists() {
        Vault::create(&dir, Keep::DangerBeside, &[]).unwrap();
    }
    Vault::open(&dir, IdentitySource::DangerBeside).unwrap()
}

async fn create(world: &World, key: &str) -> Result<Settled, SettleError> {
    let (vault, servers) = (vault(world), BTreeMap::from([("main".to_owned(), world.client())]));
    let places = Places { sealer: vault.sealer(), servers: &servers, known: &KnownCas::default() };
    let target = Target::Transit { server: "main".into(), mount: "transit".into(), key: Some(key.into()) };
    let cluster = cluster();
    let of = For { cluster: &cluster, generation: 1, replace: false, awaited: None };
    places.create(of, &target, SystemClock.now(), 5).await
}

async fn open(world: &World, place: &Place) -> Result<(), CustodyError> {
    let custody = Custody::new(vault(world), BTreeMap::from([("main".to_owned(), world.client())]));
    custody.open_place(&cluster(), place, &KnownCas::default()).await.map(drop)
}

#[tokio::test]
async fn keys_of_every_kind_sign_for_a_ca() {
    let world = World::new().await;
    for kind in ["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-2048"] {
        world.operate("POST", &format!("transit/keys/{kind}"), json!({ "type": kind })).await;
        let settled = create(&world, kind).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        // an own judge of the signature
        let (_, parsed) = x509_parser::parse_x509_certificate(settled.certificate.der()).unwrap();
        assert_eq!(parsed.subject(), parsed.issuer(), "{kind}");
        open(&world, &settled.place).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_can_leave_is_refused_when_made_and_when_opened() {
    for (flag, key) in [("exportable", "leaky"), ("allow_plaintext_backup", "copied")] {
        let world = World::new().await;
        world.operate("POST", &format!("transit/keys/{key}"), json!({"type": "ed25519", flag: true})).await;
        let error = create(&world, key).await.unwrap_err();
        assert!(
            matches!(&error, SettleError::Transit(TransitKeyError::Leaks { flag: f, .. }) if *f == flag),
            "{error}"
        );
        // one that was let out later
        let settled = create(&world, "good").await.unwrap();
        open(&world, &settled.place).await.unwrap();
        world.operate("POST", "transit/keys/good/config", json!({ flag: true })).await;
        let error = open(&world, &settled.place).await.unwrap_err();
        assert!(
            matches!(&error, CustodyError::Transit(TransitKeyError::Leaks { flag: f, .. }) if *f == flag),
            "{error}"
        );
        assert!(error.to_string().contains("cannot be unset"), "{error}");
    }
}

#[tokio::test]
async fn a_key_that_is_none_of_ours_is_not_opened() {
    let world = World::new().await;
    let settled = create(&world, "k").await.unwrap();
    let Place::Transit { server, mount, key, key_version, certificate } = settled.place.clone() else { panic!() };
    let at = |key: &str, key_version| Place::Transit {
        server: server.clone(),
        mount: mount.clone(),
        key: key.into(),
        key_version,
        certificate: certificate.clone(),
    };
    world.operate("POST", "transit/keys/other", json!({"type": "ed25519"})).await;
    world.operate("POST", "transit/keys/sealing", json!({"type": "aes256-gcm96"})).await;
    world.operate("POST", "transit/keys/k/rotate", json!({})).await;
    let cases = [
        (at("nowhere", 1), "there is no Transit key `transit/nowhere`"),
        (at("other", 1), "version 1 of the Transit key `other` is not the key of the CA's certificate"),
        (at("k", 2), "version 2 of the Transit key `k` is not the key"),
        (at("k", 3), "has no version 3"),
        (at("sealing", 1), "sealing"),
    ];
    for (place, said) in cases {
        let error = open(&world, &place).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(!error.is_passing(), "{error}");
    }
    // the version is pinned: a rotated key goes on with the one of the certificate
    open(&world, &at(&key, key_version)).await.unwrap();
    // unless it is not to sign any more, of which the server says nothing until it is asked to
    let oldest = async |version: u32| {
        world.operate("POST", "transit/keys/k/config", json!({ "min_encryption_version": version })).await;
    };
    oldest(2).await;
    let error = open(&world, &settled.place).await.unwrap_err();
    assert!(error.to_string().contains("set its `min_encryption_version` to 1"), "{error}");
    oldest(1).await;
    open(&world, &settled.place).await.unwrap();
    let mut told = world.operate("GET", "transit/keys/k", json!({})).await;
    told["soft_deleted"] = json!(true);
    world.bao.set_fault("transit/keys/k", Some(Fault::Instead(json!({ "data": told }))));
    let error = open(&world, &settled.place).await.unwrap_err();
    assert!(error.to_string().contains("is soft-deleted"), "{error}");
    world.bao.set_fault("transit/keys/k", None);
    world.bao.deny("transit/sign/k");
    let error = open(&world, &settled.place).await.unwrap_err();
    assert!(matches!(&error, CustodyError::Transit(TransitKeyError::MayNotSign(_))), "{error}");
}

#[tokio::test]
async fn a_signature_by_another_key_makes_no_ca() {
    let world = World::new().await;
    world.operate("POST", "transit/keys/k", json!({"type": "ed25519"})).await;
    world.bao.set_wrong_key("k", true);
    let error = create(&world, "k").await.unwrap_err();
    assert!(error.to_string().contains("no signature by the CA's key"), "{error}");
    assert_eq!(Record::read(vault(&world).sealer().dir(), &cluster()).unwrap(), None);
    world.bao.set_wrong_key("k", false);
    create(&world, "k").await.unwrap();
}
