//! Which Transit keys are used, and that what they sign is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::custody::{
    Custody, CustodyError, For, Home, IdentitySource, Keep, KnownCas, OpenedCa, Place, Places, Record, SettleError,
    Settled, Target, TransitKeyError, Vault,
};
use ichor_broker::domain::ClusterName;
use ichor_broker::openbao::Retry;
use ichor_standins::openbao::{Fault, Rule};
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

fn custody(world: &World) -> Custody {
    Custody::new(vault(world), BTreeMap::from([("main".to_owned(), world.client())]))
}

async fn open(world: &World, place: &Place) -> Result<OpenedCa, CustodyError> {
    custody(world).open_place(&cluster(), place, &KnownCas::default()).await
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

/// What `check` and a start say of a token, beside the key's own state.
const MORE: &str = "so whoever takes it over can let the key out or end it; give it the policy deploy/openbao/";

#[tokio::test]
async fn a_token_that_may_let_the_key_out_or_end_it_is_warned_of() {
    let world = World::new().await;
    let place = create(&world, "k").await.unwrap().place;
    let warnings = async || open(&world, &place).await.unwrap().warnings;
    // deploy/openbao/transit.hcl, and one rule more
    let only = |path: &str, may: &[&str]| {
        let more = (!path.is_empty()).then(|| Rule::new(path, may.iter().copied()));
        let own = [Rule::new("transit/sign/k", ["update"]), Rule::new("transit/keys/k", ["read"])];
        world.bao.allow_only(own.into_iter().chain(more));
    };
    only("", &[]);
    assert_eq!(warnings().await, Vec::<String>::new());
    let cases: [(&str, &[&str], &str); 11] = [
        ("transit/keys/k/config", &["update"], "transit/keys/k/config"),
        ("transit/keys/k", &["read", "delete"], "transit/keys/k"),
        ("transit/keys/k/*", &["update"], "transit/keys/k/config"),
        ("transit/keys/k/trim", &["create"], "transit/keys/k/trim"),
        ("transit/keys/k/rotate", &["update"], "transit/keys/k/rotate"),
        ("transit/restore/*", &["update"], "transit/restore/k"),
        ("transit/restore", &["update"], "transit/restore"),
        ("transit/export/signing-key/k", &["read"], "transit/export/signing-key/k"),
        ("transit/export/+/k/1", &["read"], "transit/export/signing-key/k/1"),
        ("transit/backup/k", &["read"], "transit/backup/k"),
        ("transit/byok-export/+/k", &["read"], "transit/byok-export/ichor/k"),
    ];
    for (path, may, named) in cases {
        only(path, may);
        let said = warnings().await;
        let expected = format!("our token may use `{named}` of the server, {MORE}transit.hcl and nothing else there");
        assert_eq!(said, [expected], "{path}");
    }
    // to read where it is kept, or of another key, lets nothing out
    for (path, may) in [("transit/keys/k/config", "read"), ("transit/export/signing-key/other", "read")] {
        only(path, &[may]);
        assert_eq!(warnings().await, Vec::<String>::new(), "{path}");
    }
    // one question for all of it
    let before = world.bao.count("sys/capabilities-self");
    warnings().await;
    assert_eq!(world.bao.count("sys/capabilities-self") - before, 1);
}

/// The server compiles all our policies for each path that it is asked about: not for every cluster, each half minute.
#[tokio::test]
async fn what_our_token_may_do_is_asked_again_when_it_may_be_another_and_not_at_each_look() {
    let world = World::new().await;
    let place = create(&world, "k").await.unwrap().place;
    let custody = custody(&world);
    let own = || [Rule::new("transit/sign/k", ["update"]), Rule::new("transit/keys/k", ["read"])];
    world.bao.allow_only(own());
    let asks = async || {
        let before = world.bao.count("sys/capabilities-self");
        let opened = custody.open_place(&cluster(), &place, &KnownCas::default()).await;
        (world.bao.count("sys/capabilities-self") - before, opened.map(|opened| opened.warnings))
    };
    assert_eq!(asks().await, (1, Ok(Vec::new())));
    assert_eq!(asks().await, (0, Ok(Vec::new())));
    // another token
    world.bao.revoke_tokens();
    assert_eq!((asks().await.0, asks().await.0), (1, 0));
    // a denial, of whatever it is
    let client = custody.server("main").unwrap();
    client.call(http::Method::GET, "transit/keys/other", None, Retry::Safe).await.unwrap_err();
    assert_eq!((asks().await.0, asks().await.0), (1, 0));
    // somebody asks for a reload
    custody.look_anew();
    assert_eq!((asks().await.0, asks().await.0), (1, 0));
    // time
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(601)).await;
    tokio::time::resume();
    // what is wrong is asked about each time, so that its end is seen
    let more = Rule::new("transit/keys/k/config", ["update"]);
    world.bao.allow_only(own().into_iter().chain([more]));
    for _ in 0..2 {
        let (asked, warnings) = asks().await;
        assert!(asked == 1 && warnings.unwrap().len() == 1);
    }
    world.bao.allow_only([Rule::new("transit/keys/k", ["read"])]);
    for _ in 0..2 {
        let (asked, opened) = asks().await;
        assert!(asked == 1 && matches!(opened, Err(CustodyError::Transit(TransitKeyError::MayNotSign(_)))));
    }
    world.bao.allow_only(own());
    assert_eq!(asks().await, (1, Ok(Vec::new())));
    assert_eq!(asks().await, (0, Ok(Vec::new())));
}

#[tokio::test]
async fn a_token_that_may_let_the_audit_key_out_is_warned_of() {
    let (world, key) = (World::new().await, "ichor.audit".to_owned());
    let to = Home::TransitKey { server: "main".into(), mount: "transit".into(), key, version: 1 };
    let custody = custody(&world);
    let (home, key) = custody.make_audit_key(to, None).await.unwrap();
    let said = key.warning().unwrap_or_default().to_owned();
    assert!(said.contains("`transit/keys/ichor.audit/config`") && said.contains(&format!("{MORE}audit.hcl")), "{said}");
    custody.use_audit_key(&home).unwrap();
    // deploy/openbao/audit.hcl
    let sign = Rule::new("transit/sign/ichor.audit", ["update"]);
    world.bao.allow_only([sign, Rule::new("transit/keys/ichor.audit", ["read"])]);
    assert_eq!(custody.audit_key().await.unwrap().warning(), None);
}

#[tokio::test]
async fn a_signature_by_another_key_makes_no_ca() {
    let world = World::new().await;
    world.operate("POST", "transit/keys/k", json!({"type": "ed25519"})).await;
    world.bao.set_wrong_key("k", true);
    let error = create(&world, "k").await.unwrap_err();
    assert!(error.to_string().contains("no signature by the key"), "{error}");
    assert_eq!(Record::read(vault(&world).sealer().dir(), &cluster()).unwrap(), None);
    world.bao.set_wrong_key("k", false);
    create(&world, "k").await.unwrap();
}
