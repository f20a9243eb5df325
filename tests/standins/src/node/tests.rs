use jiff::{SignedDuration, Timestamp};

use super::client::NodeClient;
use super::grpc::{Code, Status};
use super::*;
use crate::authority::Usage;

const REBOOT: &str = "/machine.MachineService/Reboot";

fn noon() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

async fn node(hostname: &str) -> Node {
    let options = NodeOptions { now: clock::frozen(noon()), ..NodeOptions::new(hostname).unwrap() };
    Node::start(options).await.unwrap()
}

async fn connect(node: &Node, certified: &Certified) -> anyhow::Result<NodeClient> {
    NodeClient::connect(node.address(), &node.ca_pem(), Some((&certified.certificate, &certified.key))).await
}

/// A call of `Version` on a new connection, as far as it comes.
async fn version(node: &Node, certified: &Certified) -> anyhow::Result<Vec<messages::Version>> {
    connect(node, certified).await?.version(&[]).await
}

async fn shown(node: &Node, change: impl FnOnce(&mut Leaf)) -> anyhow::Result<Vec<messages::Version>> {
    let mut leaf = Leaf::client(["os:reader", "user:alice"], noon());
    change(&mut leaf);
    version(node, &node.authority().issue(&leaf)?).await
}

#[tokio::test]
async fn a_reader_reads_and_does_not_reboot() {
    let node = node("node-a").await;
    let leaf = Leaf::client(["os:reader", "user:alice@example.com", "grant:01JD"], noon());
    let mut client = connect(&node, &node.authority().issue(&leaf).unwrap()).await.unwrap();
    let answers = client.version(&[]).await.unwrap();
    assert!(answers[0].features.as_ref().unwrap().rbac && answers[0].metadata.is_none());
    assert_eq!(client.dmesg(&[]).await.unwrap().lines().count(), 3);
    let refused = client.call(REBOOT, &[], &[]).await.unwrap().status;
    assert_eq!(refused.to_string(), "rpc error: code = PermissionDenied desc = not authorized");
    assert_eq!(node.reboots(), 0);
    let lines = node.log_lines();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("machined 2026/11/22 12:00:00 OK [/machine.MachineService/Version] "), "{}", lines[0]);
    assert!(lines[0].contains(" unary Success (:authority=localhost;"), "{}", lines[0]);
    assert!(lines[0].contains(";talos-role=grant:01JD,os:reader,user:alice@example.com;user-agent="), "{}", lines[0]);
    assert!(lines[1].contains(" OK [/machine.MachineService/Dmesg] ") && lines[1].contains(" stream Success ("));
    assert!(lines[2].contains(" PermissionDenied [/machine.MachineService/Reboot] "), "{}", lines[2]);
    assert!(lines[2].contains(" unary rpc error: code = PermissionDenied desc = not authorized ("), "{}", lines[2]);

    let mut operator =
        connect(&node, &node.authority().issue(&Leaf::client([" os:operator "], noon())).unwrap()).await.unwrap();
    operator.reboot(&[]).await.unwrap();
    assert_eq!(node.reboots(), 1);
    let other = operator.call("/machine.MachineService/Kubeconfig", &[], &[]).await.unwrap();
    assert_eq!(other.status.code, Code::PermissionDenied);
    let shutdown = operator.call("/machine.MachineService/Shutdown", &[], &[]).await.unwrap();
    assert_eq!(shutdown.status.code, Code::Unimplemented);
}

#[tokio::test]
async fn only_exact_client_certificates_get_in() {
    let node = node("node-a").await;
    shown(&node, |_| {}).await.unwrap();
    shown(&node, |leaf| leaf.usage = vec![Usage::Client, Usage::Private]).await.unwrap();
    for usage in [
        vec![],
        vec![Usage::Any],
        vec![Usage::Server],
        vec![Usage::Client, Usage::Server],
        vec![Usage::Client, Usage::Any],
    ] {
        assert!(shown(&node, |leaf| leaf.usage = usage.clone()).await.is_err(), "{usage:?}");
    }
    assert!(shown(&node, |leaf| leaf.ca = true).await.is_err());
    let second = SignedDuration::from_secs(1);
    shown(&node, |leaf| leaf.not_before = noon()).await.unwrap();
    assert!(shown(&node, |leaf| leaf.not_before = noon() + second).await.is_err(), "a tolerance");
    shown(&node, |leaf| leaf.not_after = noon()).await.unwrap();
    assert!(shown(&node, |leaf| leaf.not_after = noon() - second).await.is_err(), "a tolerance");
    assert!(NodeClient::connect(node.address(), &node.ca_pem(), None).await.unwrap().version(&[]).await.is_err());
    assert!(node.refusals().iter().any(|why| why.contains("exactly clientAuth")), "{:?}", node.refusals());
}

#[tokio::test]
async fn accepted_cas_change_for_new_connections_only() {
    let node = node("node-a").await;
    let (dedicated, foreign) =
        (Authority::with_usage("ichor", &[Usage::Client]).unwrap(), Authority::new("other").unwrap());
    let leaf = Leaf::client(["os:reader"], noon());
    let (ours, theirs) = (dedicated.issue(&leaf).unwrap(), foreign.issue(&leaf).unwrap());
    assert!(version(&node, &ours).await.is_err());
    node.set_accepted_cas(&(dedicated.certificate() + &foreign.certificate())).unwrap();
    let mut open = connect(&node, &ours).await.unwrap();
    open.version(&[]).await.unwrap();
    let mut following = open.follow_dmesg(&[]).await.unwrap();
    version(&node, &theirs).await.unwrap();
    assert!(node.set_accepted_cas("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    node.set_accepted_cas(&foreign.certificate()).unwrap();
    assert!(version(&node, &ours).await.is_err());
    version(&node, &theirs).await.unwrap();
    open.version(&[]).await.unwrap();
    assert!(following.next().await.unwrap().unwrap().contains("Linux version"));
    let server_only = Authority::with_usage("server-only", &[Usage::Server]).unwrap();
    node.set_accepted_cas(&server_only.certificate()).unwrap();
    assert!(version(&node, &server_only.issue(&leaf).unwrap()).await.is_err());
    // Same name, other key.
    let impostor = Authority::new("talos").unwrap();
    assert!(version(&node, &impostor.issue(&leaf).unwrap()).await.is_err());
    node.set_accepted_cas("").unwrap();
    node.set_own_ca_trusted(false);
    assert!(shown(&node, |_| {}).await.is_err());
}

#[tokio::test]
async fn a_role_value_beyond_ascii_locks_out() {
    let node = node("node-a").await;
    let error = shown(&node, |leaf| leaf.organization.push("user:jörg".into())).await.unwrap_err();
    let status = error.downcast_ref::<Status>().unwrap();
    assert!(status.message.contains("header key \"talos-role\" contains value with non-printable ASCII"));
    assert!(node.log_lines().is_empty());
}

#[tokio::test]
async fn rbac_off_makes_everyone_admin() {
    let node = node("node-a").await;
    node.set_rbac(false);
    let mut client = connect(&node, &node.authority().issue(&Leaf::client(["x"], noon())).unwrap()).await.unwrap();
    assert!(!client.version(&[]).await.unwrap()[0].features.as_ref().unwrap().rbac);
    client.reboot(&[]).await.unwrap();
    node.set_rbac(true);
    assert!(client.version(&[]).await.is_err());
}

#[tokio::test]
async fn calls_are_routed_and_the_node_that_is_touched_logs_the_true_roles() {
    let authority = Arc::new(Authority::new("talos").unwrap());
    let start = async |hostname: &str, address: [u8; 4]| {
        let now = clock::frozen(noon());
        let address = (address, 0).into();
        Node::start(NodeOptions {
            authority: Arc::clone(&authority),
            now,
            address,
            ..NodeOptions::new(hostname).unwrap()
        })
        .await
    };
    // Further loopback addresses exist on Linux only; host names do for the rest.
    let (a, b) = (start("node-a", [127, 0, 0, 1]).await.unwrap(), start("node-b", [127, 0, 0, 1]).await.unwrap());
    Node::join(&[&a, &b]);
    let mut client = connect(&a, &authority.issue(&Leaf::client(["os:reader"], noon())).unwrap()).await.unwrap();
    let answers = client.version(&[("nodes", "node-a"), ("nodes", &b.endpoint()), ("nodes", "gone")]).await.unwrap();
    let told: Vec<_> = answers.iter().map(|answer| answer.metadata.clone().unwrap()).collect();
    assert_eq!(
        told.iter().map(|told| told.hostname.clone()).collect::<Vec<_>>(),
        ["node-a".to_owned(), b.endpoint(), "gone".into()]
    );
    assert!(told[0].error.is_empty() && told[2].error.contains("code = Unavailable"), "{told:?}");
    client.version(&[("node", "node-b"), ("talos-role", "os:admin"), ("x-note-bin", "YQpi")]).await.unwrap();
    assert_eq!((a.log_lines().len(), b.log_lines().len()), (1, 2));
    let line = &b.log_lines()[1];
    assert!(line.contains(";proxyfrom=node;talos-role=os:reader;") && line.contains("x-note-bin=a\nb"), "{line}");
    let refused = client.reboot(&[("nodes", "node-b")]).await.unwrap().remove(0).metadata.unwrap();
    assert_eq!(refused.error, "rpc error: code = PermissionDenied desc = not authorized");
    assert_eq!(refused.status.unwrap().code, 7);
    let two = client.call(REBOOT, &[("node", "node-a"), ("node", "node-b")], &[]).await.unwrap();
    assert_eq!(two.status.code, Code::InvalidArgument);
    assert_eq!(client.dmesg(&[("nodes", "node-a"), ("nodes", "node-b")]).await.unwrap().lines().count(), 6);
}
