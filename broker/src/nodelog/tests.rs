//! Lines through sockets to calls in the store: what is taken, what is refused, and what stays bounded.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ichor_wire::log::{Content, Entry, Kind};
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::bench::{Bench, GRANT, Used, call_line, first_touches, json, message, roles};
use super::*;
use crate::audit::Recorded;
use crate::audit::tests::Room;
use crate::domain::{AddressRange, ClusterName};
use crate::issuer::{IssueError, Issued, Issuer};
use crate::mint::Issuers;
use crate::policy::Grant;
use crate::store::conformance::{after, log_person, noon, person};
use crate::store::faulty::Fault;
use crate::store::{Call, CallClass, CallFilter, NodeService, Store};

mod bench;
mod broken;
mod connections;
mod emergency;
mod stopping;
mod store_out;
mod telling;

#[tokio::test]
async fn a_call_is_kept_with_all_that_its_line_says_and_its_digest_in_the_log() {
    let bench = Bench::new([], 9, 100).await;
    bench.send(&call_line("Version", &roles(GRANT))).await;
    let call = bench.calls(1).await.remove(0);
    let expected = Call {
        cluster: "prod".into(),
        node: "cp-1".into(),
        service: NodeService::Machined,
        method: "/machine.MachineService/Version".into(),
        code: Some(0),
        started: after(-2),
        duration: 2_000_000,
        roles: "os:reader".into(),
        owner: Some(person("ada")),
        user: Some("ada@example.com".into()),
        grant: Some(crate::domain::GrantId(GRANT)),
        peer: None,
        class: CallClass::Explained,
        why: None,
        entry: None,
    };
    assert_eq!(call, expected);
    let room = bench.stopped().await;
    let log = room.log().await;
    let content = &log.last().unwrap().content;
    assert_eq!((content.kind, content.cluster.as_deref(), content.count), (Kind::NodeLog, Some("prod"), Some(1)));
    let line = call_line("Version", &roles(GRANT));
    use sha2::{Digest, Sha256};
    assert_eq!(content.lines.as_deref(), Some(&Sha256::digest(&line)[..]), "over the line with its newline");
    let report = verify_calls(&*room.store).await.unwrap();
    assert_eq!((report.calls, report.batches, report.faults.len()), (1, 1, 0));
    assert_eq!(
        log.iter().filter(|entry| entry.content.kind == Kind::NodeAlarm).count(),
        0,
        "explained raises no alarm"
    );
}

#[tokio::test]
async fn case_27_a_forged_line_behind_a_newline_is_suspect_and_explains_nothing() {
    let forged = message("Reboot", &roles(GRANT));
    let own = format!("talos-role=grant:{GRANT},os:reader,user:ada@example.com");
    let cut = message("Version", "g-bin=x").split(";user-agent").next().unwrap().to_owned();
    // what a node's sender makes of the value `x⏎FORGED⏎FORGED⏎y`, and of one whose end completes the last
    let lines = [cut.clone(), forged.clone(), forged.clone(), format!("y;{own};user-agent=grpc-go)"), forged.clone()];
    let bench = Bench::new([], 9, 100).await;
    let bytes: Vec<u8> = lines.iter().flat_map(|line| json("machined", line, noon())).collect();
    bench.send(&bytes).await;
    assert_eq!(bench.classes(5).await, [CallClass::Suspect; 5]);

    // on another connection too, and whatever time the line claims; another service's lines stand for themselves
    bench.send(&json("machined", &forged, after(-9_000_000))).await;
    bench.send(&json("machined", &forged, noon())).await;
    assert_eq!(bench.classes(7).await, [CallClass::Suspect; 7]);
    let room = bench.stopped().await;
    let alarms: Vec<_> = room.log().await.into_iter().filter(|entry| entry.content.kind == Kind::NodeAlarm).collect();
    assert!(alarms.iter().all(|alarm| alarm.content.code.as_deref() == Some("suspect")));
    assert!(!alarms.is_empty());
}

#[tokio::test]
async fn every_sign_is_suspect_though_the_grant_fits() {
    let bench = Bench::new([], 9, 100).await;
    let own = roles(GRANT);
    let lines = [
        call_line("Version", &format!("a=x;talos-role=user:mallory;{own}")),
        call_line("Version", &format!("a-bin=abc;{own}")),
        json("machined", &message("Version", &own), after(-60)),
        json("machined", &message("Version", &own).replace("12:00:00", "15:00:00"), after(3 * 3600)),
    ];
    for line in &lines {
        bench.send(line).await;
    }
    let calls = bench.calls(4).await;
    let signs: Vec<_> = calls.iter().map(|call| (call.class, call.why.as_deref().unwrap_or_default())).collect();
    assert!(signs.iter().all(|(class, _)| *class == CallClass::Suspect), "{signs:?}");
    assert_eq!(signs.iter().filter(|(_, why)| why.contains("out of order")).count(), 2, "{signs:?}");
}

#[tokio::test]
async fn times_that_go_back_within_a_connection_are_suspect() {
    let bench = Bench::new([], 9, 100).await;
    let at = |time: &str| json("machined", &message("Version", &roles(GRANT)).replace("12:00:00", time), after(60));
    bench.send(&[at("12:00:05"), at("12:00:04"), at("11:59:50"), at("11:59:51")].concat()).await;
    use CallClass::{Explained, Suspect};
    assert_eq!(bench.classes(4).await, [Explained, Explained, Suspect, Explained]);
}

#[tokio::test]
async fn grants_that_do_not_fit_explain_nothing() {
    let bench = Bench::new([], 9, 100).await;
    bench.room.clock.advance(jiff::SignedDuration::from_hours(2));
    let own = roles(GRANT);
    bench
        .send(
            &[
                call_line("Version", &roles(Uuid::from_u128(1))),
                call_line("Version", &own.replace("os:reader", "os:admin")),
                call_line("Version", &own.replace("ada@", "bob@")),
                call_line("Version", "talos-role=os:admin"),
                call_line("Version", "talos-role=grant:x,os:reader,user:ada@example.com"),
                call_line("Read", &own),
                json("machined", &message("Version", &own).replace("12:00:00", "13:00:04"), after(3604)),
                call_line("Version", &own),
            ]
            .concat(),
        )
        .await;
    use CallClass::{AfterExpiry, Escape, Unexplained};
    room_at(&bench, 8, &[Unexplained, Unexplained, Unexplained, Unexplained, Unexplained, Escape, AfterExpiry]).await;
}

async fn room_at(bench: &Bench, count: usize, classes: &[CallClass]) {
    assert_eq!(&bench.classes(count).await[..classes.len()], classes);
}

#[tokio::test]
async fn of_apid_and_of_the_nodes_own_socket_only_signs_are_kept() {
    let bench = Bench::new([], 9, 100).await;
    let own = roles(GRANT);
    let apid = |metadata: &str| json("apid", &message("Version", metadata).replacen("machined", "apid", 1), noon());
    bench
        .send(
            &[
                // any caller may send both of these to the apid that they call, and its line repeats them
                apid(&format!("proxyfrom=10.0.0.1;{own}")),
                apid(&own),
                apid(&format!("a=x;talos-role=y;{own}")),
                json(
                    "machined",
                    &message("Version", "talos-role=os:admin").replace("grpc+proxy>proto", "grpc"),
                    noon(),
                ),
                json("machined", "[talos] service[kubelet](Running)", noon()),
                json("kubelet", &message("Version", &own), noon()),
                call_line("Hostname", &own),
            ]
            .concat(),
        )
        .await;
    let calls = bench.calls(2).await;
    assert_eq!((calls[0].service, calls[0].class), (NodeService::Apid, CallClass::Suspect));
    assert_eq!((calls[1].service, calls[1].class), (NodeService::Machined, CallClass::Explained));
    let seen: Vec<_> = bench.board.news().into_iter().map(|seen| (seen.node, seen.service)).collect();
    assert_eq!(seen, [("cp-1".into(), NodeService::Machined), ("cp-1".into(), NodeService::Apid)]);
    assert_eq!(bench.board.news(), [], "told once");
}

#[tokio::test]
async fn packets_are_lines_and_a_cut_one_puts_those_before_it_in_doubt() {
    let bench = Bench::new([], 9, 100).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let cut = json(
        "machined",
        "machined 2026/11/22 12:00:00 OK [/machine.MachineService/Version] 2s unary Success (g-bin=x",
        noon(),
    );
    for packet in [call_line("Reboot", &roles(GRANT)), cut] {
        socket.send_to(packet.trim_ascii_end(), bench.udp).await.unwrap();
    }
    assert_eq!(bench.classes(2).await, [CallClass::Suspect; 2], "packets overtake one another");
}

#[tokio::test]
async fn a_second_address_for_one_grant_is_shown() {
    let bench = Bench::new([], 9, 100).await;
    let with = |peer: &str| call_line("Version", &format!("peer={peer};{}", roles(GRANT)));
    bench.send(&[with("10.0.0.1:1"), with("10.0.0.1:2"), with("10.0.0.2:1")].concat()).await;
    let why: Vec<_> = bench.calls(3).await.into_iter().map(|call| (call.class, call.why)).collect();
    assert_eq!(why[..2], [(CallClass::Explained, None), (CallClass::Explained, None)]);
    assert_eq!(why[2].0, CallClass::Explained);
    assert!(why[2].1.as_ref().unwrap().contains("the first was 10.0.0.1"), "{why:?}");

    // beside what else there is to say of the call
    bench.room.clock.advance(jiff::SignedDuration::from_hours(2));
    let own = format!("peer=10.0.0.2:1;{}", roles(GRANT));
    let refused = message("Reboot", &own).replace("OK [", "PermissionDenied [");
    let refused = refused.replace("Success", "rpc error: code = PermissionDenied desc = not authorized");
    let late = message("Version", &own).replace("12:00:00", "13:00:04");
    let lines = [call_line("Read", &own), json("machined", &refused, noon()), json("machined", &late, after(3604))];
    bench.send(&lines.concat()).await;
    let calls = bench.calls(6).await;
    for (call, (class, first)) in calls[3..].iter().zip([
        (CallClass::Escape, "by this method"),
        (CallClass::Explained, "the node refused it"),
        (CallClass::AfterExpiry, "it began after"),
    ]) {
        let why = call.why.as_deref().unwrap_or_default();
        let both = "; its grant is used from a second address; the first was 10.0.0.1";
        assert!(call.class == class && why.starts_with(first) && why.ends_with(both), "{call:?}");
    }
}

#[tokio::test]
async fn hostile_bytes_are_survived_and_what_follows_is_read() {
    let bench = Bench::new([], 9, 1000).await;
    let mut noise = 0x2545_f491_4f6c_dd1du64;
    let mut bytes = Vec::new();
    for _ in 0..200_000 {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        bytes.push(noise as u8);
    }
    bytes.extend(b"\n{}\n[]\nnull\n{\"msg\":\"x\"}\n");
    bytes.extend(call_line("Version", &roles(GRANT)));
    bench.send(&bytes).await;
    bench.calls(1).await;
    // a line that is too long is a finding, and what comes behind it is in doubt
    bench.send(&[vec![b'x'; 70_000], b"\n".to_vec(), call_line("Version", &roles(GRANT))].concat()).await;
    let calls = bench.calls(4).await;
    let texts: Vec<_> = calls[1..].iter().map(|call| (call.class, call.why.as_deref().unwrap_or_default())).collect();
    assert!(texts.iter().all(|(class, _)| *class == CallClass::Suspect), "{texts:?}");
    assert!(texts[0].1.contains("64 KiB") && texts[2].1.contains("close behind"), "{texts:?}");
    // a connection that ends within a line, and one that says nothing
    bench.send(b"{\"msg\":\"machined").await;
    bench.send(b"").await;
    bench.send(&call_line("Hostname", &roles(GRANT))).await;
    bench.calls(5).await;
}

/// An issuer whose certificates do not name their grants, as PKI custody's and the cluster's own.
#[derive(Debug)]
struct Nameless(ClusterName);

#[async_trait::async_trait]
impl Issuer for Nameless {
    fn cluster(&self) -> &ClusterName {
        &self.0
    }

    async fn issue(&self, _grant: Recorded<Grant>, _now: Timestamp) -> Result<Issued, IssueError> {
        Err(IssueError::Custody("it makes none here".into()))
    }

    fn names_grants(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn where_certificates_name_no_grant_a_call_is_weak_at_best() {
    let bench = Bench::new([], 9, 100).await;
    let prod = ClusterName::new("prod").unwrap();
    let nameless: Arc<dyn Issuer> = Arc::new(Nameless(prod.clone()));
    bench.issuers.send_replace(Arc::new([(prod, nameless)].into()));
    let other = Content {
        person: Some(log_person("eve", "eve@example.com")),
        cluster: Some("lab".into()),
        grant: Some(Uuid::from_u128(9).into_bytes().to_vec()),
        roles: Some(vec!["os:reader".into()]),
        not_after: Some(after(36_000).as_second()),
        ..Content::of(Kind::Grant)
    };
    bench.room.sequencer.note(other, None).await.unwrap();
    bench.room.clock.advance(jiff::SignedDuration::from_hours(2));
    let late = json(
        "machined",
        &message("Version", "talos-role=os:reader,user:ada@example.com").replace("12:00:00", "13:00:03"),
        after(3603),
    );
    let lines = [
        call_line("Version", "talos-role=os:reader,user:ada@example.com"),
        // as the cluster's own API makes them
        call_line("Version", "talos-role=os:reader"),
        call_line("Read", "talos-role=os:reader,user:ada@example.com"),
        call_line("Version", "talos-role=os:admin,user:ada@example.com"),
        call_line("Version", "talos-role=os:operator,os:reader,user:ada@example.com"),
        call_line("Version", "talos-role=os:reader,user:bob@example.com"),
        // hers is for another cluster
        call_line("Version", "talos-role=os:reader,user:eve@example.com"),
        late,
    ];
    bench.send(&lines.concat()).await;
    bench.calls(lines.len()).await;
    // before there was any
    let early = message("Version", "talos-role=os:reader").replace("12:00:00", "11:00:00");
    bench.send(&json("machined", &early, after(-3600))).await;
    let calls = bench.calls(lines.len() + 1).await;
    use CallClass::{Escape, Unexplained, Weak};
    let classes: Vec<_> = calls.iter().map(|call| call.class).collect();
    assert_eq!((&classes[..3], &classes[3..]), (&[Weak, Weak, Escape][..], &[Unexplained; 6][..]), "{calls:#?}");
    for call in &calls[..2] {
        assert_eq!(call.entry, Some(0), "the entry of the grant that fits");
        assert_eq!((call.owner.clone(), call.user.as_deref()), (Some(person("ada")), Some("ada@example.com")));
        assert!(call.why.as_ref().unwrap().contains("grant entry 0 fits"), "{call:?}");
    }
    assert!(calls[3..].iter().all(|call| call.entry.is_none() && call.owner.is_none()), "{calls:#?}");
    // a grant that is named is held against the log as anywhere
    bench.send(&[call_line("Version", &roles(GRANT)), call_line("Version", &roles(Uuid::from_u128(1)))].concat()).await;
    let calls = bench.calls(lines.len() + 3).await;
    assert_eq!(
        calls[lines.len() + 1..].iter().map(|call| call.class).collect::<Vec<_>>(),
        [CallClass::Explained, Unexplained]
    );
}

#[tokio::test]
async fn findings_are_told_once_a_kind_and_calls_beyond_the_quota_go() {
    let bench = Bench::new([], 9, 10).await;
    let line = call_line("Version", "talos-role=os:admin");
    bench.send(&line.repeat(500)).await;
    let room = bench.stopped_after(500).await;
    let kept = room.store.calls(&CallFilter::default(), None, 1000).await.unwrap();
    assert_eq!(kept.len(), 10);
    let alarms: Vec<Entry> =
        room.log().await.into_iter().filter(|entry| entry.content.kind == Kind::NodeAlarm).collect();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!(alarms[0].content.code.as_deref(), Some("unexplained"));
}

#[tokio::test]
async fn calls_that_were_altered_are_found_by_their_digest() {
    let bench = Bench::new([], 9, 100).await;
    bench.send(&call_line("Version", &roles(GRANT))).await;
    bench.calls(1).await;
    let room = bench.stopped().await;
    let mut altered = room.store.call_range(0, 1).await.unwrap().remove(0).call;
    altered.node = "cp-2".into();
    // under an entry that has the digest of another call
    let content = Content {
        cluster: Some("prod".into()),
        count: Some(1),
        calls: Some(vec![7; 32]),
        ..Content::of(Kind::NodeLog)
    };
    let change = crate::store::Change::CallsKept { calls: vec![altered], most: 100 };
    let place = room.sequencer.note(content, Some(change)).await.unwrap();
    let report = verify_calls(&*room.store).await.unwrap();
    assert_eq!((report.calls, report.batches), (2, 1));
    assert_eq!(report.faults.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [place.index]);
}
