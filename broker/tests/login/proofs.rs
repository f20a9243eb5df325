//! Proofs of possession: every fault is refused, by name.

use ichor_broker::login::{ProofError, SessionError};
use ichor_standins::browser::Browser;
use jiff::SignedDuration;
use serde_json::json;

use super::client::{Client, Proof, digest};
use super::world::{Session, World, code_form};

const BODY: &[u8] = b"{}";

async fn post(world: &World, session: &Session, proof: &Proof) -> Result<(), SessionError> {
    let signed = session.client.sign(proof);
    world.present(&session.token, &[&signed], "POST", BODY).await.map(drop)
}

fn good(world: &World, session: &Session) -> Proof {
    world.proof(&session.client, "POST", "/v1/session").token(&session.token).body(BODY)
}

#[tokio::test]
async fn every_claim_is_checked() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    let now = world.clock_seconds();
    let url = |path: &str| format!("{}{path}", world.base);
    let good = || good(&world, &session);
    assert_eq!(post(&world, &session, &good()).await, Ok(()));
    let wrong: Vec<(&str, Proof, ProofError)> = vec![
        ("htm", good().with("htm", "GET"), ProofError::Method),
        ("htm in lower case", good().with("htm", "post"), ProofError::Method),
        ("htu", good().with("htu", url("/v1/clusters")), ProofError::Url),
        ("htu of another host", good().with("htu", "https://evil.example/v1/session"), ProofError::Url),
        ("htu with query", good().with("htu", url("/v1/session?x=1")), ProofError::Url),
        ("htu that is none", good().with("htu", ""), ProofError::Url),
        ("iat in the past", good().with("iat", now - 61), ProofError::Time),
        ("iat in the future", good().with("iat", now + 61), ProofError::Time),
        ("iat at the end of time", good().with("iat", i64::MAX), ProofError::Time),
        ("iat at its beginning", good().with("iat", i64::MIN), ProofError::Time),
        ("ath", good().token("another token"), ProofError::Token),
        ("no ath", good().without("ath"), ProofError::Token),
        ("body", good().body(b"{\"roles\":[\"os:admin\"]}"), ProofError::Body),
        ("no body", good().without("body_sha256"), ProofError::Body),
        ("nonce", good().with("nonce", "made-up"), ProofError::UseNonce),
        ("no nonce", good().without("nonce"), ProofError::UseNonce),
        ("empty jti", good().with("jti", ""), ProofError::Malformed),
        ("no jti", good().without("jti"), ProofError::Malformed),
        ("long jti", good().with("jti", "x".repeat(257)), ProofError::Malformed),
    ];
    for (what, proof, error) in wrong {
        assert_eq!(post(&world, &session, &proof).await, Err(error.into()), "{what}");
    }
    for edge in [-60, 60] {
        assert_eq!(post(&world, &session, &good().with("iat", now + edge)).await, Ok(()));
    }
}

#[tokio::test]
async fn case_10_header_key_and_signature_are_checked() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    let header = |name: &str, value: serde_json::Value| {
        let mut proof = good(&world, &session);
        proof.header.insert(name.into(), value);
        proof
    };
    let mut private = session.client.jwk();
    private["d"] = json!("AAAA");
    let mut off_curve = session.client.jwk();
    off_curve["y"] = off_curve["x"].clone();
    let mut p384 = session.client.jwk();
    p384["crv"] = json!("P-384");
    let other = Client::new();
    let wrong = [
        ("typ", header("typ", json!("JWT")), ProofError::Type),
        ("alg none", header("alg", json!("none")), ProofError::Algorithm),
        ("alg RS256", header("alg", json!("RS256")), ProofError::Algorithm),
        ("alg HS256", header("alg", json!("HS256")), ProofError::Algorithm),
        ("a private key", header("jwk", private), ProofError::Malformed),
        ("a point off the curve", header("jwk", off_curve), ProofError::Signature),
        ("another curve", header("jwk", p384), ProofError::Key),
        ("a key that did not sign", header("jwk", other.jwk()), ProofError::Signature),
        ("an unknown header", header("crit", json!(["x"])), ProofError::Malformed),
    ];
    for (what, proof, error) in wrong {
        assert_eq!(post(&world, &session, &proof).await, Err(error.into()), "{what}");
    }
    // someone else's whole proof for the stolen token
    let stolen = world.proof(&other, "POST", "/v1/session").token(&session.token).body(BODY);
    let refused = world.present(&session.token, &[&other.sign(&stolen)], "POST", BODY).await.unwrap_err();
    assert_eq!(refused, ProofError::OtherKey.into());
    // changed after signing
    let signed = session.client.sign(&good(&world, &session));
    let (head, tail) = signed.rsplit_once('.').unwrap();
    let (header_part, _) = head.split_once('.').unwrap();
    let claims = session.client.sign(&good(&world, &session).with("jti", "changed"));
    let spliced = format!("{header_part}.{}.{tail}", claims.split('.').nth(1).unwrap());
    let refused = world.present(&session.token, &[&spliced], "POST", BODY).await.unwrap_err();
    assert_eq!(refused, ProofError::Signature.into());
    for garbage in ["", ".", "..", "a.b.c", "....", &"x".repeat(5000)] {
        let refused = world.present(&session.token, &[garbage], "POST", BODY).await.unwrap_err();
        assert_eq!(refused, ProofError::Malformed.into(), "{garbage:.20}");
    }
}

#[tokio::test]
async fn a_proof_is_good_once_and_alone() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    let proof = session.client.sign(&good(&world, &session));
    let present = |proofs: Vec<String>| {
        let (world, session) = (&world, &session);
        async move {
            let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
            world.present(&session.token, &proofs, "POST", BODY).await.map(drop)
        }
    };
    assert_eq!(present(vec![]).await, Err(ProofError::Missing.into()));
    assert_eq!(present(vec![proof.clone(), proof.clone()]).await, Err(ProofError::Missing.into()));
    assert_eq!(present(vec![proof.clone()]).await, Ok(()));
    assert_eq!(present(vec![proof.clone()]).await, Err(ProofError::Replayed.into()));
    // the same jti in a new proof
    let again = good(&world, &session).with("jti", "one");
    assert_eq!(post(&world, &session, &again).await, Ok(()));
    world.clock.advance(SignedDuration::from_secs(30));
    let again = good(&world, &session).with("jti", "one");
    assert_eq!(post(&world, &session, &again).await, Err(ProofError::Replayed.into()));
    // as long as it could be accepted
    world.clock.advance(SignedDuration::from_secs(30));
    assert_eq!(present(vec![proof]).await, Err(ProofError::Replayed.into()));
}

#[tokio::test]
async fn a_bearer_is_nobody() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    let proof = session.client.sign(&good(&world, &session));
    for authorization in [
        None,
        Some(format!("Bearer {}", session.token)),
        Some(session.token.clone()),
        Some("DPoP ".into()),
        Some("DPoP not-a-token".into()),
        Some(format!("DPoP {}", "x".repeat(10_000))),
    ] {
        let presented = ichor_broker::login::Presented {
            authorization: authorization.as_deref(),
            proofs: &[&proof],
            method: "POST",
            path: "/v1/session",
            address: super::world::HERE,
        };
        let refused = world.login.prove(&presented).await.unwrap_err();
        assert_eq!(refused, SessionError::NotLoggedIn, "{authorization:?}");
    }
}

#[tokio::test]
async fn nonces_are_taken_for_a_while_by_every_broker_with_the_key() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    let old = world.login.dpop_nonce();
    let other = World::new().await;
    assert_eq!(other.login.dpop_nonce(), old, "two brokers with one key and one time agree");
    world.clock.advance(SignedDuration::from_secs(120));
    assert_ne!(world.login.dpop_nonce(), old);
    assert_eq!(post(&world, &session, &good(&world, &session).with("nonce", old.clone())).await, Ok(()));
    world.clock.advance(SignedDuration::from_secs(120));
    let late = good(&world, &session).with("nonce", old);
    assert_eq!(post(&world, &session, &late).await, Err(ProofError::UseNonce.into()));
}

#[tokio::test]
async fn the_token_endpoint_asks_for_a_nonce_and_checks_the_proof() {
    let world = World::new().await;
    let client = Client::new();
    let code = world.code(&Browser::new(&[]).unwrap(), &client, "alice").await;
    let exchange = |proof: Option<Proof>| {
        let proofs: Vec<String> = proof.iter().map(|proof| client.sign(proof)).collect();
        let form = code_form(&client, &code);
        let world = &world;
        async move { world.post("/oauth/token", &form, &proofs).await }
    };
    let good = || world.proof(&client, "POST", "/oauth/token");
    for (what, proof, error) in [
        ("none", None, "invalid_dpop_proof"),
        ("no nonce", Some(good().without("nonce")), "use_dpop_nonce"),
        ("htu", Some(world.proof(&client, "POST", "/oauth/revoke")), "invalid_dpop_proof"),
        ("htm", Some(good().with("htm", "GET")), "invalid_dpop_proof"),
        ("body", Some(good().with("body_sha256", digest(b"x"))), "invalid_dpop_proof"),
        ("ath", Some(good().token("x")), "invalid_dpop_proof"),
    ] {
        let answer = exchange(proof).await;
        assert_eq!((answer.status, &answer.json["error"]), (400, &error.into()), "{what}");
    }
    assert_eq!(exchange(Some(good())).await.status, 200);
}
