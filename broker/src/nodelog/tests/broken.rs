//! One message that a caller broke into several lines: whatever they look like, none of them is explained as another's call.

use super::*;
use crate::nodelog::reader::Reader;
use crate::nodelog::split::Piece;

/// The caller's own grant, which explains their own calls.
const OWN: Uuid = Uuid::from_u128(0x0193_533d_9c00_7000_8000_0000_0000_0009);

fn own() -> String {
    format!("talos-role=grant:{OWN},os:reader,user:bob@example.com")
}

/// The metadata of a call with these roles, in the order of a node's line.
fn metadata(roles: &str) -> String {
    format!(":authority=localhost;content-type=application/grpc+proxy>proto;{roles};user-agent=grpc-go/1.82.1")
}

/// What machined says of a call that failed with this text.
fn failed(code: &str, text: &str, roles: &str) -> String {
    format!("machined 2026/11/22 12:00:00 {code} [/cosi.resource.State/Get] 1ms unary {text} ({})", metadata(roles))
}

/// The lines of one message, as a node's sender cuts them.
fn sent(service: &str, message: &str) -> Vec<u8> {
    message.split('\n').flat_map(|line| json(service, line, noon())).collect()
}

impl Bench {
    /// With a grant of bob's beside the one of ada's.
    async fn of_two() -> Self {
        let bench = Self::new([], 9, 1000).await;
        bench.records_own().await;
        bench
    }

    async fn records_own(&self) {
        let grant = Content {
            person: Some(log_person("bob", "bob@example.com")),
            cluster: Some("prod".into()),
            grant: Some(OWN.into_bytes().to_vec()),
            roles: Some(vec!["os:reader".into()]),
            not_after: Some(after(3600).as_second()),
            ..Content::of(Kind::Grant)
        };
        self.room.sequencer.note(grant, None).await.unwrap();
    }

    /// Sends this, and returns the class of each call once there are so many.
    async fn told(&self, bytes: &[u8], count: usize) -> Vec<CallClass> {
        self.send(bytes).await;
        self.classes(count).await
    }
}

#[tokio::test]
async fn a_binary_value_whose_first_half_ends_like_a_line_explains_nothing() {
    let forged = message("Reboot", &roles(GRANT));
    // the value `x)⏎FORGED` of the last key, whose end is the line's own; and with two roles, which is a sign of its own
    let last = |more: &str| {
        let whole = message("Version", &format!("{more}{}", own()));
        format!("{};zz-bin=x)\n{forged}", whole.trim_end_matches(')'))
    };
    for more in ["", "a=;talos-role=x;"] {
        let bench = Bench::of_two().await;
        assert_eq!(bench.told(&sent("machined", &last(more)), 2).await, [CallClass::Suspect; 2], "{more}");
    }

    // of the first key, with a line of the caller's behind
    let first = format!("a-bin=x)\n{forged}\n{}", message("Version", &own()));
    let bench = Bench::of_two().await;
    assert_eq!(bench.told(&sent("machined", &message("Version", &first)), 3).await, [CallClass::Suspect; 3]);
}

#[tokio::test]
async fn an_error_that_repeats_whole_lines_of_the_callers_explains_nothing() {
    let forged = message("Reboot", &roles(GRANT));
    let id = format!(
        "x ({})\n{forged}\nmachined 2026/11/22 12:00:00 NotFound [/cosi.resource.State/Get] 1ms unary x",
        metadata(&own())
    );
    let text = format!(
        "rpc error: code = NotFound desc = resource Members.cluster.talos.dev(cluster/{id}@undefined) doesn't exist"
    );
    let bench = Bench::of_two().await;
    assert_eq!(bench.told(&sent("machined", &failed("NotFound", &text, &own())), 3).await, [CallClass::Suspect; 3]);

    // a success that says more than that it is one is none
    let id = format!("x ({})\n{forged}\nmachined 2026/11/22 12:00:00 OK [/a.B/C] 1ms unary Success", metadata(&own()));
    let bench = Bench::of_two().await;
    assert_eq!(bench.told(&sent("machined", &failed("OK", &id, &own())), 3).await, [CallClass::Suspect; 3]);
}

#[tokio::test]
async fn the_roles_behind_an_errors_text_may_be_part_of_it() {
    // the first line's roles are the victim's, and are the caller's text
    let id = format!("x ({})\nmachined 2026/11/22 12:00:00 OK [/a.B/C] 1ms unary Success", metadata(&roles(GRANT)));
    let bench = Bench::of_two().await;
    assert_eq!(bench.told(&sent("machined", &failed("NotFound", &id, &own())), 2).await, [CallClass::Suspect; 2]);
}

#[tokio::test]
async fn an_error_without_a_word_of_the_callers_casts_no_doubt_and_one_alone_is_explained() {
    let denied = |code: &str, text: &str| json("machined", &failed(code, text, &own()), noon());
    let lines = [
        call_line("Hostname", &roles(GRANT)),
        denied("PermissionDenied", "rpc error: code = PermissionDenied desc = not authorized"),
        denied("Canceled", "rpc error: code = Canceled desc = context canceled"),
        denied("Unknown", "context canceled"),
        call_line("Version", &roles(GRANT)),
        // nothing is behind it that could be the rest of it
        denied("NotFound", "rpc error: code = NotFound desc = resource x doesn't exist"),
    ];
    let bench = Bench::of_two().await;
    assert_eq!(bench.told(&lines.concat(), 6).await, [CallClass::Explained; 6]);
    // what comes close behind may be
    assert_eq!(bench.told(&call_line("Version", &roles(GRANT)), 7).await[6], CallClass::Suspect);
}

#[tokio::test]
async fn apids_log_gives_away_what_machineds_does_not() {
    // a sender took the rest of the caller's line for fields, so nothing is wrong with these two but that apid's log has them too
    let forged = message("Reboot", &roles(GRANT));
    let machined = format!("{}\n{forged}", message("Version", &own()));
    let bench = Bench::of_two().await;
    let bytes = [sent("machined", &machined), sent("apid", &forged)].concat();
    assert_eq!(bench.told(&bytes, 3).await, [CallClass::Suspect; 3]);
    // and what comes close behind
    assert_eq!(bench.told(&call_line("Version", &roles(GRANT)), 4).await[3], CallClass::Suspect);
}

/// The last lines with which a caller can end a message, each as machined's log has it. What is a piece there is no call.
const ENDS: [&str; 7] = [
    ")",
    "x)",
    ";user-agent=grpc-go)",
    "machined 2026/11/22 12:00:00 listening)",
    "2026/11/22 12:00:00.123456 machined 2026/11/22 12:00:00 listening)",
    "2026/11/22 12:00:00.123456 log.go:98: OK [/a.B/C] 1ms unary Success (a=b)",
    // of JSON and no more, which the sender took for fields
    "",
];

#[tokio::test]
async fn a_line_that_a_sender_bent_without_a_trace_is_given_away_by_the_end_that_is_left() {
    // nothing is wrong with it: its caller's own roles were taken for fields, with all behind the brace
    let bent = message("Reboot", &roles(GRANT));
    let tried = ENDS.map(|end| {
        let bytes = [call_line("Hostname", &own()), sent("machined", &format!("{bent}\n{end}"))].concat();
        async move {
            let bench = Bench::of_two().await;
            assert_eq!(bench.told(&bytes, 2).await, [CallClass::Suspect; 2], "{end}");
            // an end has nothing behind it
            assert_eq!(bench.told(&call_line("Version", &roles(GRANT)), 3).await[2], CallClass::Explained, "{end}");
        }
    });
    futures_util::future::join_all(tried).await;
}

#[tokio::test]
async fn an_end_that_looks_like_machineds_own_message_is_none_of_apids() {
    let end = "2026/11/22 12:00:00.123456 [talos] phase drain (2/24): 1 tasks(s)";
    let bent = message("Reboot", &roles(GRANT));
    let bench = Bench::of_two().await;
    // as a node says it by itself, where apid says nothing of the kind
    let bytes = sent("machined", &format!("{bent}\n{end}"));
    assert_eq!(bench.told(&bytes, 1).await, [CallClass::Explained]);
    let bench = Bench::of_two().await;
    let bytes = [bytes, sent("apid", &format!("{}\n{end}", bent.replacen("machined", "apid", 1)))].concat();
    bench.send(&bytes).await;
    let found: Vec<_> = bench.calls(2).await.into_iter().map(|call| (call.service, call.class)).collect();
    // and apid's piece is a finding of its own: it may come after machined's line was judged
    assert_eq!(found, [(NodeService::Machined, CallClass::Suspect), (NodeService::Apid, CallClass::Suspect)]);
}

#[tokio::test]
async fn an_end_that_overtakes_its_message_gives_it_away_too() {
    let bench = Bench::of_two().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for packet in [json("machined", ")", noon()), call_line("Reboot", &roles(GRANT))] {
        socket.send_to(packet.trim_ascii_end(), bench.udp).await.unwrap();
    }
    assert_eq!(bench.classes(1).await, [CallClass::Suspect]);
}

#[tokio::test(start_paused = true)]
async fn a_line_waits_for_what_comes_close_behind_it() {
    let room = Room::new([]);
    let (_issuers, published) = watch::channel(Issuers::default());
    let store: Arc<dyn Store> = room.store.clone();
    let (sequencer, clock) = (room.sequencer.clone(), room.clock.clone());
    let parts = Parts { store, sequencer, clock, issuers: published, max_calls: 100, kept_for: None };
    let (intake, sink) = Intake::new(parts, Arc::new(Board::default()));
    let (stop, stopped) = oneshot::channel::<()>();
    let intake = tokio::spawn(intake.run(async move { _ = stopped.await }));
    let origin = Origin { cluster: "prod".into(), node: "cp-1".into() };
    let mut reader = Reader::new(sink, false);
    let forged = message("Reboot", &roles(GRANT));
    // so that the first line is of a round that ended before the second comes
    let settle = async || {
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    };
    settle().await;
    for (service, wait) in [("machined", 1_100), ("apid", 0)] {
        reader.take(&origin, Piece::Line(json(service, &forged, noon()).trim_ascii_end()));
        reader.send().await;
        settle().await;
        tokio::time::advance(Duration::from_millis(wait)).await;
        settle().await;
    }
    let calls = loop {
        let calls = room.store.call_range(0, 9).await.unwrap();
        if calls.len() > 1 {
            break calls;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    stop.send(()).unwrap();
    intake.await.unwrap();
    let found: Vec<_> = calls.into_iter().map(|stored| (stored.call.service, stored.call.why.unwrap())).collect();
    assert_eq!(
        found.iter().map(|(service, _)| *service).collect::<Vec<_>>(),
        [NodeService::Machined, NodeService::Apid]
    );
    assert!(found[0].1.contains("close behind or before"), "{found:?}");
}

#[tokio::test]
async fn what_whoever_writes_the_database_puts_in_a_grants_place_explains_nothing() {
    let bench = Bench::of_two().await;
    let log = bench.room.log().await;
    let mut entry = log[0].clone();
    entry.content.roles = Some(vec!["os:admin".into()]);
    let hex: String = entry.encode().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let body = |sql: &str| bench.room.edit(&format!("UPDATE body SET body = {sql} WHERE idx = 0"));
    bench.room.edit("CREATE TABLE aside.kept AS SELECT body FROM body WHERE idx = 0");
    body(&format!("X'{hex}'"));
    let admin = roles(GRANT).replace("os:reader", "os:admin");
    assert_eq!(bench.told(&call_line("Version", &admin), 1).await, [CallClass::Unexplained]);
    body("(SELECT body FROM kept)");
    // bob's entry said to be of ada's grant, which nobody has remembered yet
    let other = Uuid::from_u128(77);
    let hex = |id: Uuid| id.simple().to_string();
    bench.room.edit(&format!("UPDATE leaf SET grant_id = X'{}' WHERE grant_id = X'{}'", hex(other), hex(OWN)));
    let stolen = own().replace(&OWN.to_string(), &other.to_string());
    assert_eq!(bench.told(&call_line("Version", &stolen), 2).await[1], CallClass::Unexplained);
}

/// The roles of a certificate of a kit.
pub(super) fn of_kit(number: u16, id: u128) -> String {
    format!("talos-role=grant:kit-{number}-{},os:admin,user:claimed:ada", Uuid::from_u128(id))
}

#[tokio::test]
async fn a_kit_is_in_use_however_its_users_line_is_bent() {
    let cut = message("Version", &format!("g-bin=x\ny;{}", of_kit(7, 3)));
    let lines = [
        call_line("Version", &format!("a-bin=x;{}", of_kit(7, 1))),
        call_line("Version", &format!("a=;talos-role=x;{}", of_kit(7, 2))),
        sent("machined", &cut),
        call_line("Version", &format!("a=\u{7};{}", of_kit(7, 4))),
        // the line of another's that was broken so that it names a kit, for what that is worth
        json("apid", &format!("y;{};user-agent=x)", of_kit(7, 5)), noon()),
    ];
    let bench = Bench::new([], 9, 100).await;
    bench.room.sequencer.note(crate::kit::ledger::tests::made(), None).await.unwrap();
    assert_eq!(bench.told(&lines.concat(), 6).await, [CallClass::Suspect; 6]);
    let told = bench.kits_in_use(5).await;
    let mut grants: Vec<_> = told.iter().filter_map(|told| told.grant.clone()).collect();
    grants.sort();
    let expected: Vec<_> = (1u128..=5).map(|id| Uuid::from_u128(id).into_bytes().to_vec()).collect();
    assert_eq!(grants, expected, "{told:#?}");
    assert!(told.iter().all(|told| told.kit.as_ref().map(|kit| kit.number) == Some(7) && told.message.is_some()));
}

#[tokio::test]
async fn a_bent_line_of_a_kit_that_was_reported_is_told_and_takes_nothing_from_the_report() {
    let id = Uuid::from_u128(1);
    let bench = Bench::new([], 9, 100).await;
    let reported = Content {
        cluster: Some("prod".into()),
        kit: Some(ichor_wire::log::Kit { number: 7, ..Default::default() }),
        grant: Some(id.into_bytes().to_vec()),
        roles: Some(vec!["os:admin".into()]),
        claimed: Some("ada".into()),
        opened: Some(after(-10).as_second()),
        not_after: Some(after(600).as_second()),
        ..Content::of(Kind::KitOpened)
    };
    for content in [crate::kit::ledger::tests::made(), reported] {
        bench.room.sequencer.note(content, None).await.unwrap();
    }
    let bent = |number| call_line("Version", &format!("a-bin=x;{}", of_kit(number, 1)));
    assert_eq!(bench.told(&bent(7), 1).await, [CallClass::Suspect]);
    // another kit's number is another kit's use
    assert_eq!(bench.told(&bent(8), 2).await, [CallClass::Suspect; 2]);
    let told = bench.kits_in_use(2).await;
    let said: Vec<_> = told.iter().map(|told| (told.kit.as_ref().unwrap().number, told.code.as_deref())).collect();
    assert_eq!(said, [(7, Some("suspect")), (8, Some("kit-in-use"))], "a header hides no use of a certificate");
    let kit = crate::kit::read(&*bench.room.store).await.unwrap().remove(0);
    assert_eq!(kit.state(noon()), crate::kit::State::Used, "nor does a line that anyone can bend undo a report");
}

#[tokio::test]
async fn a_kit_in_use_is_not_hidden_behind_other_findings() {
    let bench = Bench::of_two().await;
    let noise: Vec<u8> =
        (0..40).flat_map(|number| call_line(&format!("M{number}"), &format!("a-bin=x;{}", own()))).collect();
    bench.send(&noise).await;
    bench.calls(40).await;
    bench.send(&call_line("Version", &of_kit(2, 1))).await;
    bench.calls(41).await;
    assert_eq!(bench.kits_in_use(1).await.len(), 1);
}

#[tokio::test]
async fn a_bent_line_under_break_glass_is_told_and_does_not_use_up_the_first_touch() {
    let used = Used::of_ada().await;
    let (grant_id, metadata) = (used.grant, used.metadata());
    let bench = Bench::on(used.room, [], 9, 100).await;
    let bent = call_line("Reboot", &format!("a=\u{7};{metadata}"));
    bench.send(&[bent.clone(), bent].concat()).await;
    assert_eq!(bench.classes(2).await, [CallClass::Suspect; 2]);
    let told = first_touches(&bench.room).await;
    assert_eq!(told.len(), 1, "once: {told:#?}");
    assert_eq!((told[0].code.as_deref(), told[0].grant.as_deref()), (Some("suspect"), Some(&grant_id.as_bytes()[..])));
    assert!(told[0].message.as_ref().unwrap().contains("control character"), "{told:?}");
    bench.send(&call_line("Version", &metadata)).await;
    bench.calls(3).await;
    let told = first_touches(&bench.stopped().await).await;
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!((told[1].code.as_deref(), told[1].method.as_deref()), (None, Some("/machine.MachineService/Version")));
}
