//! Against the stand-in engine: what it makes as granted is taken, and every lie of its is found.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ichor_standins::authority::{Authority, Leaf, Usage};
use ichor_standins::openbao::{Fault, OpenBao, OpenBaoOptions, Rule};
use ichor_wire::log::{Entry, Kind};
use ichor_wire::profile::pem;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::*;
use crate::custody::{PinnedPki, RoleSet, plan_pki};
use crate::domain::ClusterName;
use crate::issuer::local_ca::tests::Room;
use crate::openbao::{Auth, Client, Pki, Role, Settings};
use crate::store::Store;
use crate::store::conformance::noon;

/// An engine with the role that the room's grants need.
struct Engine {
    bao: OpenBao,
    authority: Arc<Authority>,
    folder: tempfile::TempDir,
}

/// What an engine answers in place of the truth, for the request's key.
type Lie = Box<dyn Fn(&KeyPair) -> String>;

fn prod() -> ClusterName {
    ClusterName::new("prod").unwrap()
}

fn set() -> RoleSet {
    "reader,etcd-backup".parse().unwrap()
}

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()
}

/// A client that logs in with this token.
fn client(bao: &OpenBao, folder: &Path, token: &str) -> Client {
    let file = folder.join(token);
    std::fs::write(&file, token).unwrap();
    let (address, auth, deadline) = (bao.url().parse().unwrap(), Auth::Token { file }, Duration::from_secs(5));
    Client::new(Settings { name: "main".into(), address, ca: None, namespace: None, deadline, pace: deadline, auth })
        .unwrap()
}

impl Engine {
    async fn start() -> Self {
        let authority = Arc::new(Authority::new("talos").unwrap());
        let options = OpenBaoOptions {
            now: Arc::new(noon),
            tls: false,
            authority: Some(Arc::clone(&authority)),
            ..OpenBaoOptions::default()
        };
        let bao = OpenBao::start(options).await.unwrap();
        let engine = Self { bao, authority, folder: tempfile::tempdir().unwrap() };
        let root = engine.root();
        for role in plan_pki(&root, &prod(), &[set()]).await.unwrap().roles {
            role.write(&root, &prod()).await.unwrap();
        }
        let rules = [("pki/sign/ichor-prod-*", "update"), ("pki/roles/ichor-prod-*", "read")];
        engine.bao.allow_only(rules.map(|(path, act)| Rule::new(path, [act])));
        engine
    }

    /// The engine as its operator has it.
    fn root(&self) -> Pki {
        Pki::new(client(&self.bao, self.folder.path(), OpenBao::ROOT_TOKEN), "pki").unwrap()
    }

    async fn custody(&self, role_per_person: bool) -> PkiCustody {
        let token = self.bao.token().unwrap();
        let pki = Pki::new(client(&self.bao, self.folder.path(), &token), "pki").unwrap();
        let (cluster, certificate) = (&prod(), &self.ca());
        let role_sets = if role_per_person { Vec::new() } else { vec![set()] };
        PkiCustody::open(pki, PinnedPki { cluster, certificate, role_sets: &role_sets, role_per_person }).await.unwrap()
    }

    fn ca(&self) -> CaCertificate {
        CaCertificate::parse(&self.bao.pki_ca()).unwrap()
    }

    async fn issuer(&self) -> PkiCa {
        PkiCa::new(prod(), self.custody(false).await, self.ca())
    }

    /// Changes the role behind everybody's back, once it was found right.
    async fn bend(&self, field: &str, value: Value) {
        let (root, name) = (self.root(), set().role_name(&prod()));
        let mut role: Role = root.role(&name).await.unwrap().unwrap();
        role.insert(field.into(), value);
        root.write_role(&name, &role).await.unwrap();
    }

    async fn straighten(&self) {
        let root = self.root();
        for role in plan_pki(&root, &prod(), &[]).await.unwrap().roles {
            role.write(&root, &prod()).await.unwrap();
        }
    }

    /// The certificate of a leaf, for the request's key.
    fn makes(&self, leaf: Leaf) -> Lie {
        let authority = Arc::clone(&self.authority);
        Box::new(move |key| authority.issue_for(&leaf, key.public_key_raw()).unwrap())
    }
}

/// What the engine should have made.
fn leaf() -> Leaf {
    Leaf {
        common_name: None,
        not_after: noon() + SignedDuration::from_mins(90),
        ..Leaf::client(["os:reader", "os:etcd:backup"], noon())
    }
}

async fn refused(issuer: &PkiCa, room: &Room, key: &KeyPair) -> String {
    match issuer.issue(room.grant_for(key).await, noon()).await.unwrap_err() {
        IssueError::Mismatch(why) => why,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_engine_certifies_the_key_and_nothing_else_of_the_request() {
    let (room, engine) = (Room::new().await, Engine::start().await);
    let issuer = engine.issuer().await;
    let issued = issuer.issue(room.grant().await, noon()).await.unwrap();
    let issued = room.sequencer.record(issued).await.unwrap();
    // two hours, less what the engine's clock may be ahead
    let end = noon() + SignedDuration::from_hours(2) - CLOCK_SLACK;
    assert_eq!(issued.value().not_after(), end);
    assert_eq!(CaCertificate::parse(issued.value().ca_pem()).unwrap(), engine.ca());

    let sent = engine.bao.requests().into_iter().find(|request| request.path.starts_with("pki/sign/")).unwrap();
    assert_eq!(sent.path, "pki/sign/ichor-prod-reader.etcd-backup");
    let body: BTreeMap<String, Value> = serde_json::from_value(sent.body).unwrap();
    assert_eq!(body.keys().collect::<Vec<_>>(), ["csr", "ttl"], "nothing that a role does not bound");
    assert_eq!(body["ttl"], "7190s");

    let stored = room.store.entry_range(2..3).await.unwrap().remove(0);
    let entry = Entry::decode(&stored.body.unwrap()).unwrap().content;
    assert_eq!(entry.kind, Kind::Issued);
    assert!(entry.message.unwrap().contains("does not name its grant"));
    assert!(entry.grant.is_some() && entry.fingerprint.is_some());
}

#[tokio::test]
async fn promise_3_every_lie_of_an_engine_is_found() {
    let (room, engine) = (Room::new().await, Engine::start().await);
    let issuer = engine.issuer().await;
    let organization = |values: &[&str]| {
        let organization = values.iter().map(|value| (*value).to_owned()).collect();
        engine.makes(Leaf { organization, ..leaf() })
    };
    let (other, own) = (Authority::new("talos").unwrap(), Arc::clone(&engine.authority));
    let twice = engine.makes(leaf());
    let late = noon() + SignedDuration::from_mins(121);
    let early = noon() - SignedDuration::from_mins(11);
    let lies: Vec<(&str, &str, Lie)> = vec![
        ("a role more", "organizations", organization(&["os:reader", "os:etcd:backup", "os:admin"])),
        ("a role less", "organizations", organization(&["os:reader"])),
        ("a user that no role has", "organizations", organization(&["os:reader", "os:etcd:backup", "user:ada"])),
        (
            "serverAuth too",
            "extended key usage",
            engine.makes(Leaf { usage: vec![Usage::Client, Usage::Server], ..leaf() }),
        ),
        ("no purpose", "extended key usage", engine.makes(Leaf { usage: Vec::new(), ..leaf() })),
        ("a longer life", "validity", engine.makes(Leaf { not_after: late, ..leaf() })),
        ("begun long ago", "validity", engine.makes(Leaf { not_before: early, ..leaf() })),
        ("a CA", "basic constraints", engine.makes(Leaf { ca: true, ..leaf() })),
        ("a name", "the common name", engine.makes(Leaf { common_name: Some("ada".into()), ..leaf() })),
        ("an alternative name", "extension", engine.makes(Leaf { names: vec!["node.example".into()], ..leaf() })),
        (
            "another CA of this name",
            "did not sign",
            Box::new(move |key| other.issue_for(&leaf(), key.public_key_raw()).unwrap()),
        ),
        ("another key", "public key", Box::new(move |_| own.issue_for(&leaf(), key().public_key_raw()).unwrap())),
        ("two certificates", "no certificate", Box::new(move |key| twice(key).repeat(2))),
        ("no PEM", "no certificate", Box::new(|_| "certificate".into())),
    ];
    let truth: Lie = engine.makes(leaf());
    for (what, said, lie) in lies.into_iter().chain([("the truth", "", truth)]) {
        let key = key();
        let answer = json!({ "data": { "certificate": lie(&key), "issuing_ca": engine.bao.pki_ca() } });
        engine.bao.spoil_next("pki/sign/*", Fault::Instead(answer), 1);
        if said.is_empty() {
            issuer.issue(room.grant_for(&key).await, noon()).await.unwrap();
        } else {
            let why = refused(&issuer, &room, &key).await;
            assert!(why.contains(said), "{what}: {why}");
        }
    }
    for (fault, said) in [
        (Fault::Garbage, "another shape"),
        (Fault::Truncated, "OpenBao `main`"),
        (Fault::Huge(10 * 1024 * 1024), "OpenBao `main`"),
        (Fault::Status(400, "no".into()), "refuses: no"),
    ] {
        engine.bao.spoil_next("pki/sign/*", fault.clone(), 1);
        let error = issuer.issue(room.grant().await, noon()).await.unwrap_err();
        assert!(matches!(&error, IssueError::Custody(why) if why.contains(said)), "{fault:?}: {error}");
    }
}

/// Every trap of the engine, sprung by a role that was changed after it was looked at.
#[tokio::test]
async fn a_role_that_grew_later_makes_nothing_that_leaves() {
    let (room, engine) = (Room::new().await, Engine::start().await);
    let issuer = engine.issuer().await;
    for (changes, said) in [
        (vec![("organization", json!(["os:admin"]))], "organizations"),
        (vec![("organization", json!(["os:reader", "os:etcd:backup", "os:admin"]))], "organizations"),
        (vec![("server_flag", json!(true))], "extended key usage"),
        (vec![("ext_key_usage", json!(["Any"]))], "extended key usage"),
        (vec![("key_usage", json!(["DigitalSignature", "CertSign"]))], "key usage"),
        (vec![("not_before_duration", json!(3_600))], "validity"),
        // the name of the request becomes the subject's, and a name of a server beside it
        (vec![("use_csr_common_name", json!(true)), ("allow_any_name", json!(true))], "the common name"),
        (vec![("use_csr_sans", json!(true)), ("allow_any_name", json!(true))], "extension"),
    ] {
        for (field, value) in &changes {
            engine.bend(field, value.clone()).await;
        }
        let why = refused(&issuer, &room, &key()).await;
        assert!(why.contains(said), "{changes:?}: {why}");
        engine.straighten().await;
    }
    issuer.issue(room.grant().await, noon()).await.unwrap();
    engine.bend("max_ttl", json!(60)).await;
    let issued = issuer.issue(room.grant().await, noon()).await.unwrap();
    assert_eq!(issued.not_after(), noon() + SignedDuration::from_mins(1), "a shorter life is no lie");
}

#[tokio::test]
async fn a_person_has_a_role_of_their_own_where_that_was_asked_for() {
    let (room, engine) = (Room::new().await, Engine::start().await);
    engine.bao.allow_only([
        Rule::new("pki/sign/ichor-prod-p-*", ["update"]),
        Rule::new("pki/roles/ichor-prod-p-*", ["create", "read", "update"]),
    ]);
    let issuer = PkiCa::new(prod(), engine.custody(true).await, engine.ca());
    let name = set().person_role_name(&prod(), "ada");
    let root = engine.root();
    let writes = || {
        let all = engine.bao.requests().into_iter();
        all.filter(|request| request.method == "POST" && request.path == format!("pki/roles/{name}")).count()
    };
    for _ in 0..2 {
        let issued = issuer.issue(room.grant().await, noon()).await.unwrap();
        let issued = room.sequencer.record(issued).await.unwrap();
        let der = pem::blocks(&issued.certificate_pem()).unwrap().remove(0).der;
        let text = String::from_utf8_lossy(&der).into_owned();
        assert!(text.contains("user:ada") && !text.contains("grant:"), "{text}");
    }
    assert_eq!(writes(), 1, "it is made once");
    let role = root.role(&name).await.unwrap().unwrap();
    assert_eq!(role["organization"], json!(["os:reader", "os:etcd:backup", "user:ada"]));
    assert_eq!((&role["max_ttl"], &role["not_after_bound"]), (&json!(86_400), &json!("forbid")));

    // cleaned away by an operator: made again
    root.delete_role(&name).await.unwrap();
    issuer.issue(room.grant().await, noon()).await.unwrap();
    assert_eq!(writes(), 2);

    // one that was there and says something else is not used as it is
    let issuer = PkiCa::new(prod(), engine.custody(true).await, engine.ca());
    let mut bent = role.clone();
    bent.insert("organization".into(), json!(["os:admin", "user:ada"]));
    root.write_role(&name, &bent).await.unwrap();
    issuer.issue(room.grant().await, noon()).await.unwrap();
    assert_eq!(root.role(&name).await.unwrap().unwrap(), role);
}

#[tokio::test]
async fn a_set_without_a_role_and_a_grant_without_time_are_refused_in_words() {
    let (room, engine) = (Room::new().await, Engine::start().await);
    let issuer = engine.issuer().await;
    let late = noon() + SignedDuration::from_hours(2) - SignedDuration::from_secs(5);
    let error = issuer.issue(room.grant().await, late).await.unwrap_err();
    assert!(matches!(error, IssueError::Validity(_)), "{error}");

    engine.root().delete_role(&set().role_name(&prod())).await.unwrap();
    let error = issuer.issue(room.grant().await, noon()).await.unwrap_err().to_string();
    assert!(error.contains("`ichor-broker custody plan prod --roles reader,etcd-backup`"), "{error}");
}
