use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded as _};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::*;
use crate::authority::pem;
use crate::{der, lock, random};

struct Caller {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Caller {
    fn new(bao: &OpenBao) -> Self {
        Self::with(bao, None)
    }

    fn with(bao: &OpenBao, identity: Option<&Certified>) -> Self {
        let ca = reqwest::Certificate::from_pem(bao.ca_pem().as_bytes()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test speaks as a client")]
        let mut builder = reqwest::Client::builder().tls_certs_only([ca]);
        if let Some(identity) = identity {
            let pem = format!("{}{}", identity.certificate, identity.key);
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        Self { http: builder.build().unwrap(), url: bao.url().into(), token: OpenBao::ROOT_TOKEN.into() }
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        self.http.request(method, format!("{}/v1/{path}", self.url)).header("x-vault-token", &self.token).json(body)
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let answer = self.request(method, path, &body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!(status == 200 || status == 204, "{method} {path}: {status} {answer}");
        answer
    }

    async fn log_in(&mut self, bao: &OpenBao) -> Value {
        bao.add_approle("r", "s");
        let body = self.ok("POST", "auth/approle/login", json!({ "role_id": "r", "secret_id": "s" })).await;
        self.token = body.pointer("/auth/client_token").unwrap().as_str().unwrap().to_owned();
        body
    }
}

async fn start() -> (OpenBao, Caller) {
    let bao = OpenBao::start(OpenBaoOptions::default()).await.unwrap();
    let caller = Caller::new(&bao);
    (bao, caller)
}

fn text<'a>(body: &'a Value, pointer: &str) -> &'a str {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {body}"))
}

fn reason(body: &Value) -> &str {
    text(body, "/errors/0")
}

fn b64(octets: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(octets)
}

/// The 64 octets behind `vault:v1:`.
fn signature(told: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(told.rsplit(':').next().unwrap()).unwrap()
}

#[tokio::test]
async fn a_sealed_server_says_so_and_knows_its_tokens_afterwards() {
    let (bao, mut caller) = start().await;
    caller.log_in(&bao).await;
    bao.seal();
    let (status, body) = caller.call("GET", "auth/token/lookup-self", json!(null)).await;
    assert_eq!((status, reason(&body)), (503, "Vault is sealed"));
    let (status, body) = caller.call("GET", "sys/health", json!(null)).await;
    assert_eq!((status, body["sealed"].as_bool()), (503, Some(true)));
    bao.unseal();
    caller.ok("GET", "auth/token/lookup-self", json!(null)).await;
    bao.set_standby(true);
    assert_eq!(caller.call("GET", "sys/health", json!(null)).await.0, 429);
    #[expect(clippy::disallowed_methods, reason = "a test speaks as a client")]
    let follows_nothing = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(bao.ca_pem().as_bytes()).unwrap()])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let answer = follows_nothing.get(format!("{}/v1/transit/keys/k", bao.url())).send().await.unwrap();
    assert_eq!(answer.status(), 307);
    assert!(answer.headers().contains_key("location"));
}

#[tokio::test]
async fn tokens_live_are_renewed_up_to_their_end_and_revoked() {
    let now = Arc::new(Mutex::new(Timestamp::from_second(1_800_000_000).unwrap()));
    let clock = Arc::clone(&now);
    let options = OpenBaoOptions {
        now: Arc::new(move || *lock(&clock)),
        token_ttl: SignedDuration::from_secs(60),
        token_max_ttl: SignedDuration::from_secs(90),
        ..OpenBaoOptions::default()
    };
    let bao = OpenBao::start(options).await.unwrap();
    let mut caller = Caller::new(&bao);
    let login = caller.log_in(&bao).await;
    assert_eq!(login.pointer("/auth/lease_duration").unwrap(), 60);
    let forward = |seconds| {
        let mut now = lock(&now);
        *now = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    };
    forward(40);
    let renewed = caller.ok("POST", "auth/token/renew-self", json!({})).await;
    assert_eq!(renewed.pointer("/auth/lease_duration").unwrap(), 50);
    let warning = "TTL of \"1m\" exceeded the effective max_ttl of \"50s\"; TTL value is capped accordingly";
    assert_eq!(text(&renewed, "/warnings/0"), warning);
    forward(51);
    let (status, body) = caller.call("POST", "auth/token/renew-self", json!({})).await;
    assert_eq!((status, reason(&body)), (403, "permission denied"));
    caller.log_in(&bao).await;
    bao.set_renewable(false);
    assert_eq!(caller.call("POST", "auth/token/renew-self", json!({})).await.0, 400);
    bao.revoke_tokens();
    assert_eq!(caller.call("GET", "auth/token/lookup-self", json!(null)).await.0, 403);
    assert_eq!(bao.logins(), 2);
}

#[tokio::test]
async fn every_way_to_log_in_takes_the_right_credential_only() {
    let authority = Authority::new("people").unwrap();
    let options = OpenBaoOptions { client_ca: Some(authority.certificate()), ..OpenBaoOptions::default() };
    let bao = OpenBao::start(options).await.unwrap();
    bao.add_approle("r", "s");
    bao.add_login("jwt", Login::Jwt { role: "ichor".into(), jwt: "a.b.c".into() });
    bao.add_login("kubernetes", Login::Kubernetes { role: "ichor".into(), jwt: "d.e.f".into() });
    bao.add_login("cert", Login::Certificate);
    let caller = Caller::new(&bao);
    let login = async |mount: &str, body: Value| caller.call("POST", &format!("auth/{mount}/login"), body).await.0;
    assert_eq!(login("approle", json!({ "role_id": "r", "secret_id": "s" })).await, 200);
    assert_eq!(login("approle", json!({ "role_id": "r", "secret_id": "t" })).await, 400);
    assert_eq!(login("jwt", json!({ "role": "ichor", "jwt": "a.b.c" })).await, 200);
    assert_eq!(login("jwt", json!({ "role": "ichor", "jwt": "a.b.x" })).await, 400);
    assert_eq!(login("jwt", json!({ "role": "other", "jwt": "a.b.c" })).await, 400);
    assert_eq!(login("kubernetes", json!({ "role": "ichor", "jwt": "d.e.f" })).await, 200);
    assert_eq!(login("kubernetes", json!({ "role": "ichor", "jwt": "d" })).await, 403);
    assert_eq!(login("cert", json!({})).await, 400);
    assert_eq!(login("nowhere", json!({})).await, 404);
    let certified = Caller::with(&bao, Some(&bao.client_certificate(&authority).unwrap()));
    assert_eq!(certified.call("POST", "auth/cert/login", json!({})).await.0, 200);
    bao.refuse_logins(Some("error validating token: token not yet valid"));
    assert_eq!(login("jwt", json!({ "role": "ichor", "jwt": "a.b.c" })).await, 400);
}

#[tokio::test]
async fn policy_denies_in_other_words_than_a_bad_token() {
    let (bao, mut caller) = start().await;
    caller.ok("POST", "transit/keys/ichor-prod", json!({ "type": "ed25519" })).await;
    caller.log_in(&bao).await;
    bao.allow_only([
        Rule::new("transit/sign/ichor-prod", ["update"]),
        Rule::new("secret/data/ichor/*", ["read", "list"]),
    ]);
    caller.ok("POST", "transit/sign/ichor-prod", json!({ "input": b64("x") })).await;
    let (status, body) = caller.call("GET", "transit/keys/ichor-prod", json!(null)).await;
    assert_eq!((status, reason(&body)), (403, "1 error occurred:\n\t* permission denied\n\n"));
    let paths = json!({ "paths": ["transit/sign/ichor-prod", "secret/data/ichor/prod", "pki/sign-verbatim"] });
    let body = caller.ok("POST", "sys/capabilities-self", paths).await;
    assert_eq!(body["data"]["transit/sign/ichor-prod"], json!(["update"]));
    assert_eq!(body["secret/data/ichor/prod"], json!(["list", "read"]));
    assert_eq!(body["data"]["pki/sign-verbatim"], json!(["deny"]));
    bao.allow_only([Rule::new("secret/data/+", ["update"]), Rule::new("transit/keys/+", ["create"])]);
    assert_eq!(
        caller.call("POST", "secret/data/new", json!({ "data": {} })).await.0,
        403,
        "the first version is `create`"
    );
    assert_eq!(caller.call("POST", "transit/keys/new", json!({})).await.0, 403, "a key is made with `update`");
    bao.allow_all();
    bao.deny("transit/sign/+");
    assert_eq!(caller.call("POST", "transit/sign/ichor-prod", json!({ "input": b64("x") })).await.0, 403);
    caller.token = "unknown".into();
    let (status, body) = caller.call("POST", "transit/sign/ichor-prod", json!({})).await;
    assert_eq!((status, reason(&body)), (403, "permission denied"));
}

#[tokio::test]
async fn transit_signs_alone_and_in_batches_with_the_key_it_tells() {
    let (bao, caller) = start().await;
    let made = caller.ok("POST", "transit/keys/k", json!({ "type": "ed25519" })).await;
    let public = BASE64_STANDARD.decode(text(&made, "/data/keys/1/public_key")).unwrap();
    let verifies =
        |told: &str| UnparsedPublicKey::new(&ED25519, &public).verify(b"to be signed", &signature(told)).is_ok();
    let input = b64("to be signed");
    let signed = caller.ok("POST", "transit/sign/k", json!({ "input": input })).await;
    assert!(verifies(text(&signed, "/data/signature")));
    let batch = json!({ "batch_input": [{ "input": input }, { "input": "!!" }, { "input": input, "key_version": 9 }] });
    let signed = caller.ok("POST", "transit/sign/k", batch).await;
    assert!(verifies(text(&signed, "/data/batch_results/0/signature")));
    assert!(text(&signed, "/data/batch_results/1/error").starts_with("unable to decode"), "{signed}");
    assert!(verifies(text(&signed, "/data/batch_results/2/signature")), "a version in an item counts for nothing");
    assert_eq!((bao.batches(), bao.signatures()), (vec![1, 3], 3));

    bao.set_wrong_key("k", true);
    let signed = caller.ok("POST", "transit/sign/k", json!({ "input": input })).await;
    assert!(!verifies(text(&signed, "/data/signature")));
    bao.set_wrong_key("k", false);
    bao.destroy_key_version("k", 1).unwrap();
    let (status, body) = caller.call("POST", "transit/sign/k", json!({ "input": input, "key_version": 1 })).await;
    assert_eq!(status, 500, "{body}");
    let read = caller.ok("GET", "transit/keys/k", json!(null)).await;
    assert_eq!((&read["data"]["latest_version"], &read["data"]["min_available_version"]), (&json!(2), &json!(2)));
    assert!(read.pointer("/data/keys/1").is_none());
}

#[tokio::test]
async fn other_key_types_sign_as_asked() {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
    let (_bao, caller) = start().await;
    for (kind, algorithm) in [
        ("ecdsa-p256", &ECDSA_P256_SHA256_ASN1 as &'static dyn aws_lc_rs::signature::VerificationAlgorithm),
        ("rsa-2048", &RSA_PKCS1_2048_8192_SHA256),
    ] {
        let made = caller.ok("POST", &format!("transit/keys/{kind}"), json!({ "type": kind })).await;
        let public = text(&made, "/data/keys/1/public_key");
        let public = SubjectPublicKeyInfoDer::from_pem_slice(public.as_bytes()).unwrap();
        let body = json!({
            "input": b64("x"), "hash_algorithm": "sha2-256", "signature_algorithm": "pkcs1v15", "marshaling_algorithm": "asn1"
        });
        let signed = caller.ok("POST", &format!("transit/sign/{kind}"), body).await;
        let key = ParsedPublicKey::new(algorithm, &*public).unwrap();
        key.verify_sig(b"x", &signature(text(&signed, "/data/signature"))).unwrap();
    }
}

#[tokio::test]
async fn a_wrapped_key_is_imported_once_and_signs() {
    let (bao, caller) = start().await;
    let pair = Ed25519KeyPair::generate().unwrap();
    let pkcs8 = pair.to_pkcs8v1().unwrap();
    let wrapping = caller.ok("GET", "transit/wrapping_key", json!(null)).await;
    let wrapped = wrap(text(&wrapping, "/data/public_key"), pkcs8.as_ref());
    let body = json!({ "type": "ed25519", "ciphertext": wrapped, "hash_function": "SHA256" });
    assert_eq!(caller.call("POST", "transit/keys/k/import", body.clone()).await.0, 204);
    let (status, again) = caller.call("POST", "transit/keys/k/import", body.clone()).await;
    assert_eq!(status, 500);
    assert!(reason(&again).contains("cannot be used with an existing key"), "{again}");
    let read = caller.ok("GET", "transit/keys/k", json!(null)).await;
    assert_eq!(text(&read, "/data/keys/1/public_key"), b64(pair.public_key().as_ref()));
    assert_eq!(read["data"]["imported_key"], true);
    assert_eq!(caller.call("POST", "transit/keys/k/rotate", json!({})).await.0, 500);
    bao.change_wrapping_key();
    assert_eq!(caller.call("POST", "transit/keys/other/import", body).await.0, 500, "wrapped for another key");
}

fn wrap(public: &str, pkcs8: &[u8]) -> String {
    let public = SubjectPublicKeyInfoDer::from_pem_slice(public.as_bytes()).unwrap();
    let public = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&public).unwrap()).unwrap();
    let kek = random::bytes::<32>().unwrap();
    let mut sealed = vec![0; public.ciphertext_size()];
    let sealed = public.encrypt(&OAEP_SHA256_MGF1SHA256, &kek, &mut sealed, None).unwrap();
    let mut wrapped = vec![0; pkcs8.len() + 16];
    let wrapped = AesKek::new(&AES_256, &kek).unwrap().wrap_with_padding(pkcs8, &mut wrapped).unwrap();
    b64([&*sealed, &*wrapped].concat())
}

#[tokio::test]
async fn transit_seals_with_associated_data() {
    let (_bao, caller) = start().await;
    caller.ok("POST", "transit/keys/seal", json!({ "type": "aes256-gcm96" })).await;
    let body = json!({ "plaintext": b64("secret"), "associated_data": b64("here") });
    let sealed = caller.ok("POST", "transit/encrypt/seal", body).await;
    let ciphertext = text(&sealed, "/data/ciphertext");
    let open = |associated: &str| json!({ "ciphertext": ciphertext, "associated_data": b64(associated) });
    let opened = caller.ok("POST", "transit/decrypt/seal", open("here")).await;
    assert_eq!(text(&opened, "/data/plaintext"), b64("secret"));
    assert_eq!(caller.call("POST", "transit/decrypt/seal", open("there")).await.0, 400);
}

#[tokio::test]
async fn a_secret_has_versions_and_one_writer_wins() {
    let (bao, caller) = start().await;
    let write = |value: &str, cas: u32| json!({ "data": { "a": value }, "options": { "cas": cas } });
    assert_eq!(caller.call("GET", "secret/data/ichor/prod", json!(null)).await, (404, json!({ "errors": [] })));
    caller.ok("POST", "secret/data/ichor/prod", write("1", 0)).await;
    let (status, body) = caller.call("POST", "secret/data/ichor/prod", write("2", 0)).await;
    assert_eq!((status, reason(&body)), (400, "check-and-set parameter did not match the current version"));
    caller.ok("POST", "secret/data/ichor/prod", write("2", 1)).await;
    let first = caller.ok("GET", "secret/data/ichor/prod?version=1", json!(null)).await;
    assert_eq!(text(&first, "/data/data/a"), "1");
    let metadata = caller.ok("GET", "secret/metadata/ichor/prod", json!(null)).await;
    assert_eq!(metadata["data"]["current_version"], 2);
    assert_eq!(bao.secret("ichor/prod"), Some(json!({ "a": "2" })));
    caller.ok("DELETE", "secret/data/ichor/prod", json!(null)).await;
    let (status, body) = caller.call("GET", "secret/data/ichor/prod", json!(null)).await;
    assert_eq!((status, &body["data"]["data"], &body["data"]["metadata"]["version"]), (404, &json!(null), &json!(2)));
}

#[tokio::test]
async fn a_pki_role_shapes_the_certificate_and_leaves_the_traps_open() {
    let (bao, caller) = start().await;
    let role = json!({
        "organization": ["os:reader"], "server_flag": false, "client_flag": true, "require_cn": false,
        "use_csr_common_name": false, "use_csr_sans": false, "allow_any_name": true, "key_type": "any",
        "key_usage": ["DigitalSignature"], "basic_constraints_valid_for_non_ca": true, "not_before_duration": "30s",
        "max_ttl": "1h", "ttl": "10m", "exclude_cn_from_sans": true,
    });
    let written = caller.ok("POST", "pki/roles/reader", role).await;
    assert!(text(&written, "/warnings/0").contains("exclude_cn_from_sans"), "{written}");
    let read = caller.ok("GET", "pki/roles/reader", json!(null)).await;
    assert_eq!((&read["data"]["max_ttl"], &read["data"]["allow_ip_sans"]), (&json!(3600), &json!(true)));
    let csr = csr();
    let sign = async |more: Value| {
        let mut body = json!({ "csr": csr });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        caller.ok("POST", "pki/sign/reader", body).await
    };
    let plain = shape(&sign(json!({})).await);
    assert_eq!(
        (plain.subject.as_str(), plain.client, plain.server, plain.names.len()),
        ("O=os:reader", true, false, 0)
    );
    assert_eq!(plain.life, 630);
    assert_eq!(shape(&sign(json!({ "common_name": "alice" })).await).names, ["alice"]);
    assert_eq!(shape(&sign(json!({ "alt_names": "x.example" })).await).names, ["x.example"]);
    let long = sign(json!({ "ttl": "5h" })).await;
    assert_eq!(shape(&long).life, 3630);
    assert_eq!(
        text(&long, "/warnings/0"),
        "TTL \"5h0m0s\" is longer than permitted maxTTL \"1h0m0s\", so maxTTL is being used"
    );
    assert!(shape(&sign(json!({ "not_after": "2099-01-01T00:00:00Z" })).await).life > 1_000_000);
    let verbatim = shape(&caller.ok("POST", "pki/sign-verbatim", json!({ "csr": csr })).await);
    assert_eq!((verbatim.subject.as_str(), verbatim.client), ("O=os:admin", false));
    assert_eq!(caller.call("POST", "pki/sign/none", json!({ "csr": csr })).await.0, 400);
    assert!(bao.pki_ca().starts_with("-----BEGIN CERTIFICATE"));
}

struct Shape {
    subject: String,
    client: bool,
    server: bool,
    names: Vec<String>,
    life: i64,
}

fn shape(answer: &Value) -> Shape {
    let der = CertificateDer::from_pem_slice(text(answer, "/data/certificate").as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let usage = certificate.extended_key_usage().unwrap();
    let names = certificate.subject_alternative_name().unwrap().map(|names| names.value.general_names.clone());
    let validity = certificate.validity();
    Shape {
        subject: certificate.subject().to_string(),
        client: usage.as_ref().is_some_and(|usage| usage.value.client_auth),
        server: usage.as_ref().is_some_and(|usage| usage.value.server_auth),
        names: names
            .unwrap_or_default()
            .iter()
            .map(|name| match name {
                GeneralName::DNSName(name) => (*name).to_owned(),
                other => other.to_string(),
            })
            .collect(),
        life: validity.not_after.timestamp() - validity.not_before.timestamp(),
    }
}

/// A request for `O=os:admin`, as somebody may make who wants more.
fn csr() -> String {
    let pair = Ed25519KeyPair::generate().unwrap();
    let algorithm = der::sequence(&[der::oid(&[0x2b, 0x65, 0x70])]);
    let subject =
        der::sequence(&[der::set(vec![der::sequence(&[der::oid(&[0x55, 0x04, 0x0a]), der::utf8("os:admin")])])]);
    let info = der::sequence(&[
        der::element(0x02, &[0]),
        subject,
        der::sequence(&[algorithm.clone(), der::bit_string(pair.public_key().as_ref())]),
        der::element(0xa0, &[]),
    ]);
    let signature = der::bit_string(pair.sign(&info).as_ref());
    pem("CERTIFICATE REQUEST", &der::sequence(&[info, algorithm, signature]))
}

#[tokio::test]
async fn faults_spoil_answers_where_and_as_often_as_told() {
    let (bao, caller) = start().await;
    let read = async || caller.request("GET", "auth/token/lookup-self", &json!(null)).send().await;
    bao.spoil_next("auth/token/*", Fault::Quota, 1);
    assert_eq!(read().await.unwrap().status(), 429);
    assert_eq!(read().await.unwrap().status(), 200);
    bao.set_fault("auth/token/*", Some(Fault::Disconnect));
    assert!(read().await.is_err());
    bao.set_fault("auth/token/*", Some(Fault::Huge(10_000_000)));
    assert_eq!(read().await.unwrap().bytes().await.unwrap().len(), 10_000_000);
    for fault in [Fault::Garbage, Fault::Truncated] {
        bao.set_fault("auth/token/*", Some(fault));
        let body = read().await.unwrap().text().await.unwrap();
        assert!(serde_json::from_str::<Value>(&body).is_err());
    }
    bao.set_fault("auth/token/*", None);
    bao.set_fault("secret/data/x", Some(Fault::Lost));
    let body = json!({ "data": { "a": "1" } });
    assert!(caller.request("POST", "secret/data/x", &body).send().await.is_err());
    assert_eq!(bao.secret("x"), Some(json!({ "a": "1" })), "it was done nevertheless");
}

#[tokio::test]
async fn requests_are_held_before_or_after_they_act() {
    let (bao, caller) = start().await;
    let caller = Arc::new(caller);
    let write = || {
        let caller = Arc::clone(&caller);
        tokio::spawn(async move { caller.call("POST", "secret/data/x", json!({ "data": { "a": "1" } })).await.0 })
    };
    let mut before = bao.hold("secret/data/*");
    let first = write();
    before.arrived(1).await;
    assert_eq!(bao.secret("x"), None);
    before.release();
    assert_eq!(first.await.unwrap(), 200);
    let mut after = bao.hold_answers("secret/data/*");
    let second = write();
    after.arrived(1).await;
    assert_eq!((bao.secret("x"), bao.count("secret/data/x")), (Some(json!({ "a": "1" })), 2));
    after.release();
    assert_eq!(second.await.unwrap(), 200);
}

#[tokio::test]
async fn a_namespace_is_named_by_header_or_path() {
    let options = OpenBaoOptions { namespace: Some("team/a/".into()), ..OpenBaoOptions::default() };
    let bao = OpenBao::start(options).await.unwrap();
    let caller = Caller::new(&bao);
    let read = async |path: &str, namespace: &str| {
        let request = caller.request("GET", path, &json!(null)).header("x-vault-namespace", namespace);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(read("auth/token/lookup-self", "team/a").await, 200);
    assert_eq!(read("team/a/auth/token/lookup-self", "").await, 200);
    assert_eq!(read("auth/token/lookup-self", "team/b").await, 404);
    assert_eq!(read("transit/keys/k", "").await, 404);
}

#[test]
fn patterns_match_as_in_policies() {
    for (pattern, path, expected) in [
        ("a/b", "a/b", true),
        ("a/b", "a/b/c", false),
        ("a/*", "a/b/c", true),
        ("a/b*", "a/bcd", true),
        ("a/+/c", "a/b/c", true),
        ("a/+", "a/b/c", false),
        ("a/b", "a", false),
        ("*", "a/b", true),
    ] {
        assert_eq!(policy::matches(pattern, path), expected, "{pattern} {path}");
    }
}
