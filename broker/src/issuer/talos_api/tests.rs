//! Against the stand-in node: what it makes is taken, and every lie of its is found.

use ichor_standins::address::Refusing;
use ichor_standins::authority::Leaf;
use ichor_standins::node::{Making, Node, NodeOptions};
use ichor_wire::log::{Entry, Kind};

use super::*;
use crate::clock::FrozenClock;
use crate::domain::ClusterName;
use crate::issuer::local_ca::tests::Room;
use crate::store::Store;
use crate::store::conformance::noon;

async fn node(clock: &Arc<FrozenClock>) -> Node {
    let clock = Arc::clone(clock);
    let now = Arc::new(move || crate::clock::Clock::now(&*clock));
    Node::start(NodeOptions { now, ..NodeOptions::new("node-a").unwrap() }).await.unwrap()
}

fn cluster(node: &Node, endpoints: Vec<String>) -> Arc<Cluster> {
    let name = ClusterName::new("prod").unwrap();
    Arc::new(Cluster { name, labels: [].into(), endpoints, nodes: Vec::new(), ca: node.ca_pem() })
}

/// A credential of the node's CA, good until an hour from noon.
fn credential(node: &Node, roles: &[&str]) -> StandingCredential {
    let made = node.authority().issue(&Leaf::client(roles.iter().copied(), noon())).unwrap();
    StandingCredential::from_pem(&made.certificate, &made.key).unwrap()
}

fn issuer(node: &Node, endpoints: Vec<String>, clock: &Arc<FrozenClock>) -> TalosApi {
    let credential = Credential::Standing(credential(node, &["os:admin"]));
    TalosApi::new(cluster(node, endpoints), credential, Arc::clone(clock) as SharedClock).unwrap()
}

async fn failure(issuer: &TalosApi, room: &Room) -> IssueError {
    issuer.issue(room.grant().await, noon()).await.unwrap_err()
}

#[tokio::test]
async fn promise_3_the_one_key_made_elsewhere_is_readable_once_recorded_and_marked() {
    let (room, clock) = (Room::new().await, FrozenClock::at(noon()));
    let node = node(&clock).await;
    let issued = issuer(&node, vec![node.endpoint()], &clock).issue(room.grant().await, noon()).await.unwrap();
    let shown = format!("{issued:?}");
    assert!(!shown.contains("PRIVATE") && shown.contains("LockedBytes(..)"), "{shown}");
    let issued = room.sequencer.record(issued).await.unwrap();
    let key = issued.private_key_pem().unwrap();
    assert_eq!(format!("{key:?}"), "SecretPem(..)");
    assert!(key.as_str().starts_with("-----BEGIN ED25519 PRIVATE KEY-----\n"));
    // the key is the certificate's, and not the request's
    let own = ForeignKey::read(&pem::blocks(key.as_str()).unwrap()[0].der).unwrap();
    let credential = StandingCredential::from_pem(&issued.certificate_pem(), key.as_str());
    assert!(matches!(credential, Err(StandingError::NotAdmin(_))), "the two belong together: {credential:?}");
    assert_ne!(own.public_key, issued.value().grant().public_key());
    assert_eq!(issued.value().ca_pem(), node.ca_pem());
    assert!(issued.value().not_after() <= issued.value().grant().not_after());

    let stored = room.store.entry_range(2..3).await.unwrap().remove(0);
    let entry = Entry::decode(&stored.body.unwrap()).unwrap().content;
    assert_eq!((entry.kind, entry.key_made_by.as_deref()), (Kind::Issued, Some("cluster")));
    let digest: [u8; 32] =
        sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), &own.public_key)).into();
    assert_eq!(entry.public_key.as_deref(), Some(digest.as_slice()));
}

#[tokio::test]
async fn every_lie_of_a_node_is_found() {
    let (room, clock) = (Room::new().await, FrozenClock::at(noon()));
    let node = node(&clock).await;
    let issuer = issuer(&node, vec![node.endpoint()], &clock);
    for (making, said) in [
        (Making::AnotherCa, "the CA did not sign it"),
        (Making::MoreRoles, "the organizations are not what was granted"),
        (Making::FewerRoles, "the organizations are not what was granted"),
        (Making::Longer, "the validity is outside of what was granted"),
        (Making::ServerToo, "the extended key usage is not exactly clientAuth"),
        (Making::Named, "the common name is another"),
        (Making::AnotherKey, "the public key is another"),
        (Making::BrokenKey, "has a key that cannot be read"),
        (Making::Garbage, "cannot be read"),
    ] {
        node.set_making(making);
        let error = failure(&issuer, &room).await;
        assert!(matches!(&error, IssueError::Mismatch(why) if why.contains(said)), "{making:?}: {error}");
    }
    for (making, said) in [
        (Making::Huge, "it answers with more than 32 KiB"),
        (Making::Worker, "it makes no certificates (generate client configuration is only available on control plane"),
        (Making::Error, "the node says: no secrets here"),
    ] {
        node.set_making(making);
        let error = failure(&issuer, &room).await;
        assert!(matches!(&error, IssueError::Custody(why) if why.contains(said)), "{making:?}: {error}");
    }
    node.set_making(Making::AsAsked);
    issuer.issue(room.grant().await, noon()).await.unwrap();
}

#[tokio::test]
async fn endpoints_are_tried_in_turn_each_with_its_reason() {
    let (room, clock) = (Room::new().await, FrozenClock::at(noon()));
    let (good, foreign, hung) = (node(&clock).await, node(&clock).await, node(&clock).await);
    let refusing = Refusing::take().unwrap();
    let closed = refusing.address();
    let all = vec![closed.clone(), foreign.endpoint(), good.endpoint()];
    issuer(&good, all, &clock).issue(room.grant().await, noon()).await.unwrap();

    let error = failure(&issuer(&good, vec![closed.clone(), foreign.endpoint()], &clock), &room).await.to_string();
    assert!(error.contains(&format!("`{closed}`: it cannot be reached: ")), "{error}");
    let other = format!("`{}`: it shows a certificate of another cluster's CA", foreign.endpoint());
    assert!(error.contains(&other), "{error}");

    hung.set_making(Making::Hung);
    let mut waiting = issuer(&hung, vec![hung.endpoint()], &clock);
    waiting.deadline = Duration::from_millis(300);
    let error = failure(&waiting, &room).await.to_string();
    assert!(error.contains("did not answer within"), "{error}");

    // the cluster's CA was rotated: the credential is of one that nodes do not trust any more
    good.set_own_ca_trusted(false);
    let error = failure(&issuer(&good, vec![good.endpoint()], &clock), &room).await.to_string();
    assert!(error.contains("it does not trust the credential") || error.contains("cannot be reached"), "{error}");
}

#[tokio::test]
async fn only_an_unexpired_credential_of_an_admin_serves_and_a_probe_makes_nothing() {
    let (room, clock) = (Room::new().await, FrozenClock::at(noon()));
    let node = node(&clock).await;
    let usual = issuer(&node, vec![node.endpoint()], &clock);
    let answers = usual.probe().await;
    assert!(matches!(&answers[0].1, Ok(version) if version.rbac && version.tag == "v1.13.9"), "{answers:?}");
    node.set_making(Making::Worker);
    assert!(matches!(usual.probe().await[0].1, Err(EndpointError::NotControlPlane(_))));
    node.set_making(Making::AsAsked);

    let clock_later = FrozenClock::at(noon() + SignedDuration::from_hours(2));
    let expired = issuer(&node, vec![node.endpoint()], &clock_later);
    let error = failure(&expired, &room).await.to_string();
    assert!(error.contains("the credential expired at"), "{error}");
    assert!(
        node.log_lines().iter().all(|line| !line.contains(" OK [/machine.MachineService/Generate")),
        "nothing was made"
    );

    let mut other = (*cluster(&node, vec![node.endpoint()])).clone();
    assert!(usual.serves(&other));
    other.endpoints.push("10.0.0.3".into());
    assert!(!usual.serves(&other));
    other.ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into();
    let kept = Credential::Standing(credential(&node, &["os:admin"]));
    assert!(matches!(TalosApi::new(Arc::new(other), kept, clock as SharedClock), Err(TalosApiError::NoAuthority)));
}

#[tokio::test]
async fn nothing_is_asked_for_beyond_the_grants_end() {
    let (room, clock) = (Room::new().await, FrozenClock::at(noon()));
    let node = node(&clock).await;
    let issuer = issuer(&node, vec![node.endpoint()], &clock);
    let end = noon() + SignedDuration::from_hours(2);
    let error = issuer.issue(room.grant().await, end - CLOCK_SLACK).await.unwrap_err();
    assert!(matches!(error, IssueError::Validity(_)), "{error}");
    assert!(node.log_lines().is_empty());
}
