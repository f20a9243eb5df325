//! What is refused before anything is issued, and what a stolen token gets out of the engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ichor_standins::authority::{Authority, Usage};
use ichor_standins::openbao::{ISSUER_ID, OpenBao, OpenBaoOptions, Rule};
use jiff::SignedDuration;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::*;
use crate::openbao::{Answer, Auth, Client, Retry, Settings};
use crate::store::conformance::noon;

/// Made by one operator, with a role for readers.
struct World {
    bao: OpenBao,
    folder: tempfile::TempDir,
}

fn prod() -> ClusterName {
    ClusterName::new("prod").unwrap()
}

fn readers() -> RoleSet {
    "reader".parse().unwrap()
}

fn client(bao: &OpenBao, folder: &Path, token: &str) -> Client {
    let file = folder.join(token);
    std::fs::write(&file, token).unwrap();
    let (address, auth, deadline) = (bao.url().parse().unwrap(), Auth::Token { file }, Duration::from_secs(5));
    Client::new(Settings { name: "main".into(), address, ca: None, namespace: None, deadline, pace: deadline, auth })
        .unwrap()
}

/// What `deploy/openbao/pki.hcl` allows.
fn usual() -> Vec<Rule> {
    vec![Rule::new("pki/sign/ichor-prod-*", ["update"]), Rule::new("pki/roles/ichor-prod-*", ["read"])]
}

impl World {
    async fn start(authority: Authority) -> Self {
        let authority = Some(Arc::new(authority));
        let options = OpenBaoOptions { now: Arc::new(noon), tls: false, authority, ..OpenBaoOptions::default() };
        let bao = OpenBao::start(options).await.unwrap();
        let world = Self { bao, folder: tempfile::tempdir().unwrap() };
        let root = world.pki(OpenBao::ROOT_TOKEN);
        for role in plan(&root, &prod(), &[readers()]).await.unwrap().roles {
            assert_eq!(role.differences, None);
            role.write(&root, &prod()).await.unwrap();
        }
        world.bao.allow_only(usual());
        world
    }

    async fn usual() -> Self {
        Self::start(Authority::new("talos").unwrap()).await
    }

    fn pki(&self, token: &str) -> Pki {
        Pki::new(client(&self.bao, self.folder.path(), token), "pki").unwrap()
    }

    fn ours(&self) -> Pki {
        self.pki(&self.bao.token().unwrap())
    }

    async fn open(&self, role_per_person: bool) -> Result<PkiCustody, PkiError> {
        let certificate = CaCertificate::parse(&self.bao.pki_ca()).unwrap();
        let role_sets = if role_per_person { Vec::new() } else { vec![readers()] };
        let pinned = Pinned { cluster: &prod(), certificate: &certificate, role_sets: &role_sets, role_per_person };
        PkiCustody::open(self.ours(), pinned).await
    }

    async fn said(&self, role_per_person: bool) -> String {
        self.open(role_per_person).await.unwrap_err().to_string()
    }

    /// What somebody with our token asks of the engine.
    async fn steal(&self, path: &str, body: Value) -> Result<Answer, BaoError> {
        let body = Some(Zeroizing::new(serde_json::to_vec(&body).unwrap()));
        self.ours().client().call(Method::POST, path, body, Retry::Never).await
    }
}

fn csr() -> String {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut wishes = rcgen::CertificateParams::new(vec!["node.example".to_owned()]).unwrap();
    wishes.distinguished_name.push(rcgen::DnType::OrganizationName, "os:admin");
    wishes.distinguished_name.push(rcgen::DnType::CommonName, "node.example");
    wishes.serialize_request(&key).unwrap().pem().unwrap()
}

#[tokio::test]
async fn an_engine_as_it_has_to_be_is_opened() {
    let world = World::usual().await;
    assert!(!world.open(false).await.unwrap().names_person());
    world.bao.allow_only([
        Rule::new("pki/sign/ichor-prod-p-*", ["update"]),
        Rule::new("pki/roles/ichor-prod-p-*", ["create", "read", "update"]),
    ]);
    assert!(world.open(true).await.unwrap().names_person());
}

/// Each way around the roles, in the words of OpenBao's PKI API and not of the list that is put to the test.
const AROUND: &[&str] = &[
    "sign-verbatim",
    "sign-verbatim/ichor-prod-reader",
    "issue/ichor-prod-reader",
    "cel/roles/ichor-prod-reader",
    "cel/sign/ichor-prod-reader",
    "cel/issue/ichor-prod-reader",
    "root",
    "root/generate/internal",
    "root/generate/exported",
    "root/generate/existing",
    "root/rotate/internal",
    "root/rotate/exported",
    "root/rotate/existing",
    "root/replace",
    "root/sign-intermediate",
    "root/sign-self-issued",
    "intermediate/generate/internal",
    "intermediate/generate/exported",
    "intermediate/generate/existing",
    "intermediate/cross-sign",
    "intermediate/set-signed",
    "issuers/generate/root/internal",
    "issuers/generate/root/exported",
    "issuers/generate/root/existing",
    "issuers/generate/intermediate/internal",
    "issuers/generate/intermediate/exported",
    "issuers/generate/intermediate/existing",
    "config/ca",
    "config/issuers",
    "config/keys",
    "config/acme",
    "config/est",
    "issuers/import/bundle",
    "keys/import",
    "keys/generate/internal",
    "keys/generate/exported",
];

/// The same behind `issuer/NAME`, and that path itself.
const AROUND_BY: &[&str] = &[
    "",
    "/sign-verbatim",
    "/sign-verbatim/ichor-prod-reader",
    "/issue/ichor-prod-reader",
    "/sign-intermediate",
    "/sign-self-issued",
    "/sign/ichor-prod-reader",
];

#[tokio::test]
async fn a_token_that_goes_around_the_roles_is_refused() {
    let world = World::usual().await;
    world.bao.name_issuer("first");
    let by = ["default", ISSUER_ID, "first"];
    let by = AROUND_BY.iter().flat_map(|path| by.map(|issuer| format!("issuer/{issuer}{path}")));
    for path in AROUND.iter().map(ToString::to_string).chain(by) {
        let path = format!("pki/{path}");
        for act in ["create", "update"] {
            world.bao.allow_only(usual().into_iter().chain([Rule::new(&path, [act])]));
            let said = world.said(false).await;
            assert!(said.starts_with(&format!("our token may use `{path}`")), "{said}");
            assert!(said.contains("deploy/openbao/pki.hcl"), "{said}");
        }
    }
    // patterns that take in what they should not
    for (pattern, path) in [("pki/sign-verbatim*", "sign-verbatim"), ("pki/issue/*", "issue/ichor"), ("pki/*", "")] {
        world.bao.allow_only(usual().into_iter().chain([Rule::new(pattern, ["update"])]));
        let said = world.said(false).await;
        assert!(said.starts_with(&format!("our token may use `pki/{path}")), "{pattern}: {said}");
    }
    world.bao.allow_all();
    assert!(world.said(false).await.starts_with("our token may use"));
}

/// Names that nobody would think of asking about: they stand in the token's own policies.
#[tokio::test]
async fn a_way_around_by_a_name_that_only_a_policy_has_is_refused() {
    let world = World::usual().await;
    for (pattern, path) in [
        ("pki/sign-verbatim/other", "sign-verbatim/other"),
        ("pki/sign-verbatim/oth*", "sign-verbatim/oth"),
        ("pki/issue/web", "issue/web"),
        ("pki/issuer/old-root/sign-verbatim", "issuer/old-root/sign-verbatim"),
        ("pki/issuer/old-root/sign-verbatim/x*", "issuer/old-root/sign-verbatim/x"),
        ("pki/issuer/old-root/issue/web", "issuer/old-root/issue/web"),
        ("pki/issuer/old*", "issuer/old/sign-verbatim"),
        ("pki/issuer/+/sign-verbatim", "issuer/default/sign-verbatim"),
        ("pki/sign-verbatim/+", "sign-verbatim/ichor-prod-reader"),
        // by another issuer, or past the policy of `sign/`, also by a role of ours
        ("pki/issuer/default/sign/web", "issuer/default/sign/web"),
        ("pki/issuer/default/sign/ichor-prod-*", "issuer/default/sign/ichor-prod-reader"),
        ("pki/issuer/old-root/sign/web", "issuer/old-root/sign/web"),
        ("pki/issuer/old-root/sign/ichor-prod-*", "issuer/old-root/sign/ichor-prod-"),
        ("pki/issuer/old-root/sign/*", "issuer/old-root/sign/ichor"),
        ("pki/issuer/+/sign/+", "issuer/default/sign/ichor-prod-reader"),
        // by a program of the engine's own, which decides the whole certificate
        ("pki/cel/roles/web", "cel/roles/web"),
        ("pki/cel/sign/web", "cel/sign/web"),
        ("pki/cel/issue/we*", "cel/issue/we"),
        ("pki/cel/sign/ichor-prod-*", "cel/sign/ichor-prod-reader"),
        ("pki/cel/*", "cel/roles/ichor-prod-reader"),
        ("pki/cel/+/+", "cel/roles/ichor-prod-reader"),
    ] {
        world.bao.allow_only(usual().into_iter().chain([Rule::new(pattern, ["update"])]));
        let said = world.said(false).await;
        assert!(said.starts_with(&format!("our token may use `pki/{path}`")), "{pattern}: {said}");
    }
    // roles that nobody compared, of this mount and not of this cluster
    for (pattern, path) in [
        ("pki/sign/web", "sign/web"),
        ("pki/sign/*", "sign/ichor"),
        ("pki/sign/+", "sign/ichor"),
        ("pki/sign/ichor-*", "sign/ichor-"),
        ("pki/sign/ichor-dev-*", "sign/ichor-dev-"),
    ] {
        world.bao.allow_only(usual().into_iter().chain([Rule::new(pattern, ["update"])]));
        let said = world.said(false).await;
        assert!(said.starts_with(&format!("our token may use `pki/{path}`")), "{pattern}: {said}");
    }
    // what only reads, is another mount's, or is named to be denied, goes around nothing
    for more in [
        vec![Rule::new("pki/issuer/old-root", ["read"])],
        vec![Rule::new("other-pki/sign-verbatim/other", ["update"])],
        vec![Rule::new("pki/sign-verbatim/other", [])],
    ] {
        world.bao.allow_only(usual().into_iter().chain(more));
        world.open(false).await.unwrap();
    }
    world.bao.allow_only(usual());
    world.bao.deny("sys/internal/ui/resultant-acl");
    let said = world.said(false).await;
    assert!(said.contains("does not allow `sys/internal/ui/resultant-acl` to our token"), "{said}");
}

#[tokio::test]
async fn who_may_write_roles_is_asked_for_and_told() {
    let world = World::usual().await;
    for act in ["create", "update", "delete"] {
        world.bao.allow_only([
            Rule::new("pki/sign/ichor-prod-*", ["update"]),
            Rule::new("pki/roles/ichor-prod-*", ["read", act]),
        ]);
        let said = world.said(false).await;
        assert!(
            said.starts_with("our token may write `pki/roles/ichor-prod-reader`, so the roles bound nothing"),
            "{said}"
        );
    }
    // of roles that its record asks nothing of: those of persons, left from a trial, one that it does not name, and any
    for (pattern, path) in [
        ("pki/roles/ichor-prod-p-*", "ichor-prod-p-"),
        ("pki/roles/ichor-prod-admin", "ichor-prod-admin"),
        ("pki/roles/ichor-prod-ad*", "ichor-prod-ad"),
        ("pki/roles/ichor-dev-*", "ichor-dev-"),
        ("pki/roles/+", "ichor"),
        ("+/roles/ichor", "ichor"),
    ] {
        let more = [Rule::new("pki/sign/ichor-prod-p-*", ["update"]), Rule::new(pattern, ["read", "update"])];
        // the longest rule decides here, the most exact one at the real server
        let reads = Rule::new("pki/roles/ichor-prod-reader", ["read"]);
        world.bao.allow_only(usual().into_iter().chain(more).chain([reads]));
        let said = world.said(false).await;
        assert!(said.starts_with(&format!("our token may write `pki/roles/{path}`, so")), "{pattern}: {said}");
    }
    world.bao.allow_only(usual());
    let said = world.said(true).await;
    assert!(said.contains("give its policy create, read, update there"), "{said}");
    world.bao.allow_only([Rule::new("pki/roles/ichor-prod-*", ["read"])]);
    let said = world.said(false).await;
    assert!(said.starts_with("our token may not use `pki/sign/ichor-prod-reader`"), "{said}");
    world.bao.allow_only([]);
    let said = world.said(false).await;
    assert!(said.contains("does not allow `pki/roles/ichor-prod-reader` to our token"), "{said}");
}

#[tokio::test]
async fn another_ca_a_missing_role_and_a_wider_one_are_told_apart() {
    let world = World::usual().await;
    let root = world.pki(OpenBao::ROOT_TOKEN);
    let other = CaCertificate::parse(&Authority::new("talos").unwrap().certificate()).unwrap();
    let role_sets = [readers()];
    let pinned = Pinned { cluster: &prod(), certificate: &other, role_sets: &role_sets, role_per_person: false };
    let said = PkiCustody::open(world.ours(), pinned).await.unwrap_err().to_string();
    assert!(said.starts_with("the PKI engine at `pki` answers with another CA (O=talos)"), "{said}");

    let name = readers().role_name(&prod());
    let mut wider = root.role(&name).await.unwrap().unwrap();
    wider.insert("server_flag".into(), json!(true));
    wider.insert("no_store".into(), json!(true));
    root.write_role(&name, &wider).await.unwrap();
    let said = world.said(false).await;
    let begins =
        "in the PKI role `pki/ichor-prod-reader` `server_flag` is true, and has to be false (and so on: no_store)";
    assert!(said.starts_with(begins), "{said}");
    let planned = plan(&root, &prod(), &[]).await.unwrap();
    let fields: Vec<_> = planned.roles[0].differences.as_ref().unwrap().iter().map(|d| d.field).collect();
    assert_eq!(fields, ["server_flag", "no_store"], "one that is there is looked at unasked");
    planned.roles[0].write(&root, &prod()).await.unwrap();
    assert!(plan(&root, &prod(), &[]).await.unwrap().roles[0].is_right());
    world.open(false).await.unwrap();

    root.delete_role(&name).await.unwrap();
    let said = world.said(false).await;
    assert!(said.contains("`ichor-broker custody plan prod --roles reader` says what it has to be"), "{said}");
    // our own token may not even list, and plans nevertheless
    let planned = plan(&world.ours(), &prod(), &[readers()]).await.unwrap();
    assert_eq!((planned.persons, planned.roles.len()), (None, 1));
}

#[tokio::test]
async fn a_role_that_policies_grant_and_the_engine_lacks_is_told_before_someone_asks() {
    let world = World::usual().await;
    let granted = [Role::Reader, Role::Operator];
    let said = |lacking: Vec<PkiError>| lacking.iter().map(ToString::to_string).collect::<Vec<_>>();
    let lacking = said(world.open(false).await.unwrap().lacking(&granted).await);
    assert!(lacking.len() == 1 && lacking[0].contains("no PKI role `ichor-prod-operator`"), "{lacking:?}");
    let root = world.pki(OpenBao::ROOT_TOKEN);
    for role in plan(&root, &prod(), &["operator".parse().unwrap()]).await.unwrap().roles {
        role.write(&root, &prod()).await.unwrap();
    }
    assert_eq!(said(world.open(false).await.unwrap().lacking(&granted).await), Vec::<String>::new());
}

#[tokio::test]
async fn a_ca_that_makes_no_clients_is_refused() {
    let world = World::start(Authority::with_usage("talos", &[Usage::Server]).unwrap()).await;
    let said = ca(&world.ours()).await.unwrap_err().to_string();
    let right = "the CA of the PKI engine at `pki` cannot be used: the CA's extended key usage does not allow client certificates";
    assert!(said.starts_with(right), "{said}");
}

/// The traps of the engine, each tried with our own token by somebody who stole it: the role and the policy hold.
#[tokio::test]
async fn a_stolen_token_gets_no_more_than_the_roles_give() {
    let world = World::usual().await;
    let sign = "pki/sign/ichor-prod-reader";
    let refused = async |path: &str, more: Value| {
        let mut body = json!({ "csr": csr(), "ttl": "600s" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.steal(path, body).await.unwrap_err().to_string()
    };
    let said = refused(sign, json!({ "not_after": "2099-01-01T00:00:00Z" })).await;
    assert!(said.contains("not_after_bound"), "{said}");
    for (field, value) in [
        ("alt_names", "node.example"),
        ("ip_sans", "10.0.0.2"),
        ("uri_sans", "spiffe://x/y"),
        ("common_name", "localhost"),
    ] {
        let said = refused(sign, json!({ field: value })).await;
        assert!(
            said.contains("not allowed by this role") || said.contains("not allowed in this role"),
            "{field}: {said}"
        );
    }
    for path in ["pki/sign-verbatim", "pki/sign-verbatim/ichor-prod-reader", "pki/issue/ichor-prod-reader"] {
        let said = refused(path, json!({})).await;
        assert!(said.contains("does not allow"), "{path}: {said}");
    }
    let said = world.steal("pki/roles/ichor-prod-reader", json!({ "organization": ["os:admin"] })).await.unwrap_err();
    assert!(said.to_string().contains("does not allow"), "{said}");

    // a life of years is clamped to a day, and begins half a minute ago at most
    let answer = world.steal(sign, json!({ "csr": csr(), "ttl": "87600h" })).await.unwrap();
    let der = der(&answer.data().unwrap()).unwrap();
    let (_, made) = X509Certificate::from_der(&der).unwrap();
    let (from, to) = (made.validity().not_before.timestamp(), made.validity().not_after.timestamp());
    let day = SignedDuration::from_hours(24).as_secs();
    assert_eq!((noon().as_second() - from, to - noon().as_second()), (30, day));
    // and neither subject nor names of the request are in it
    assert_eq!(made.subject().to_string(), "O=os:reader");
    assert!(made.subject_alternative_name().unwrap().is_none());
}
