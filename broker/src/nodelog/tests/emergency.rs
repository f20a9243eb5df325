//! Calls under break-glass and of kits: told the first time, explained by what was reported alone.

use super::*;

#[tokio::test]
async fn a_kit_that_nobody_reported_alarms_at_once_and_is_explained_once_it_is() {
    let id = Uuid::from_u128(0x0193_533d_9c00_7000_8000_0000_0000_0002);
    let roles = format!("talos-role=grant:kit-7-{id},os:admin,user:claimed:ada");
    let bench = Bench::new([], 9, 100).await;
    bench.send(&call_line("Version", &roles)).await;
    bench.send(&call_line("Reboot", &roles)).await;
    let calls = bench.calls(2).await;
    for call in &calls {
        assert_eq!(call.class, CallClass::Unexplained);
        assert!(call.why.as_ref().unwrap().contains("a kit is in use: the certificate is kit 7's"), "{call:?}");
        assert_eq!(call.grant.map(|grant| grant.0), Some(id));
    }
    let told = bench.kits_in_use(1).await;
    assert_eq!(told.len(), 1, "once a grant and node: {told:?}");
    assert_eq!(told[0].kit.as_ref().map(|kit| kit.number), Some(7));
    assert_eq!(told[0].grant.as_deref(), Some(id.as_bytes().as_slice()));

    let reported = |number, user: &str| Content {
        cluster: Some("prod".into()),
        kit: Some(ichor_wire::log::Kit { number, ..Default::default() }),
        grant: Some(id.into_bytes().to_vec()),
        roles: Some(vec!["os:admin".into()]),
        claimed: Some(user.into()),
        opened: Some(after(-10).as_second()),
        not_after: Some(after(600).as_second()),
        ..Content::of(Kind::KitOpened)
    };
    bench.room.sequencer.note(reported(8, "ada"), None).await.unwrap();
    bench.send(&call_line("Version", &roles)).await;
    assert_eq!(bench.calls(3).await[2].class, CallClass::Unexplained, "another kit's record");
    bench.room.sequencer.note(reported(7, "bob"), None).await.unwrap();
    bench.send(&call_line("Version", &roles)).await;
    assert_eq!(bench.calls(4).await[3].class, CallClass::Unexplained, "another opener's record");
    let beyond = Content { kit_label: Some(crate::kit::BEYOND.into()), ..reported(7, "ada") };
    bench.room.sequencer.note(beyond, None).await.unwrap();
    bench.send(&call_line("Version", &roles)).await;
    assert_eq!(bench.calls(5).await[4].class, CallClass::Unexplained, "one that claims more than the kit gives");
    bench.room.sequencer.note(reported(7, "ada"), None).await.unwrap();
    bench.send(&call_line("Version", &roles)).await;
    let explained = bench.calls(6).await.remove(5);
    assert_eq!((explained.class, explained.user.as_deref()), (CallClass::Explained, Some("claimed:ada")));
    assert_eq!(explained.owner, None, "a claimed name is nobody's");
    bench.send(&call_line("Read", &roles)).await;
    assert_eq!(bench.calls(7).await[6].class, CallClass::Escape, "flagged even when explained");
}

#[tokio::test]
async fn the_first_call_under_break_glass_is_told_once() {
    let used = Used::of_ada().await;
    let (id, grant_id, metadata) = (used.request, used.grant, used.metadata());
    let bench = Bench::on(used.room, [], 9, 100).await;
    bench.send(&call_line("Version", &roles(GRANT))).await;
    bench.calls(1).await;
    bench.send(&[call_line("Version", &metadata), call_line("Reboot", &metadata)].concat()).await;
    bench.calls(3).await;
    bench.send(&call_line("Shutdown", &metadata)).await;
    bench.calls(4).await;
    let room = bench.stopped().await;
    let touched = first_touches(&room).await;
    assert_eq!(touched.len(), 1);
    let Content { grant, node, method, break_glass, requester, .. } = &touched[0];
    assert_eq!(grant.as_deref(), Some(grant_id.as_bytes().as_slice()));
    assert_eq!(break_glass.as_deref(), Some(id.0.as_bytes().as_slice()));
    assert_eq!((node.as_deref(), requester.as_deref()), (Some("cp-1"), Some("ada")));
    assert_eq!(method.as_deref(), Some("/machine.MachineService/Version"));
    // another broker, which remembers nothing, tells it no more
    let bench = Bench::on(room, [], 9, 100).await;
    bench.send(&call_line("Version", &metadata)).await;
    bench.calls(5).await;
    assert_eq!(first_touches(&bench.stopped().await).await.len(), 1);
}

/// Nothing better than a weak match comes where certificates name no grant: it is told, once, as what it is.
#[tokio::test]
async fn where_certificates_name_no_grant_the_first_node_touched_is_told_as_weak() {
    let used = Used::of_ada().await;
    let (id, grant_id, place) = (used.request, used.grant, used.place);
    let bench = Bench::on(used.room, [], 9, 100).await;
    let prod = ClusterName::new("prod").unwrap();
    let nameless: Arc<dyn Issuer> = Arc::new(Nameless(prod.clone()));
    bench.issuers.send_replace(Arc::new([(prod, nameless)].into()));
    let lines = [
        // of the plain grant, which is of no request
        call_line("Version", "talos-role=os:reader,user:ada@example.com"),
        call_line("Reboot", "talos-role=os:admin,user:ada"),
        call_line("Shutdown", "talos-role=os:admin,user:ada"),
        call_line("Reboot", "talos-role=os:admin,user:eve"),
    ];
    bench.send(&lines.concat()).await;
    let calls = bench.calls(lines.len()).await;
    let under: Vec<_> = calls.iter().map(|call| call.entry == Some(place)).collect();
    assert_eq!(under, [false, true, true, false], "{calls:#?}");
    let room = bench.stopped().await;
    let touched = first_touches(&room).await;
    assert_eq!(touched.len(), 1, "once, and of hers alone");
    let Content { grant, node, method, break_glass, code, message, .. } = &touched[0];
    assert_eq!(grant.as_deref(), Some(grant_id.as_bytes().as_slice()));
    assert_eq!(break_glass.as_deref(), Some(id.0.as_bytes().as_slice()));
    assert_eq!((node.as_deref(), code.as_deref()), (Some("cp-1"), Some("weak")));
    assert_eq!(method.as_deref(), Some("/machine.MachineService/Reboot"));
    assert!(message.as_deref().unwrap().contains("names no grant"));
}

#[tokio::test]
async fn a_static_kits_calls_are_explained_within_the_time_of_a_report_alone() {
    let id = Uuid::from_u128(0x0193_533d_9c00_7000_8000_0000_0000_0003);
    let roles = format!("talos-role=grant:kit-7-{id},os:admin,user:kit-7");
    let bench = Bench::new([], 9, 100).await;
    let reported = |from: i64, until: i64| Content {
        cluster: Some("prod".into()),
        kit: Some(ichor_wire::log::Kit { number: 7, user: Some("kit-7".into()), ..Default::default() }),
        grant: Some(id.into_bytes().to_vec()),
        roles: Some(vec!["os:admin".into()]),
        claimed: Some("ada".into()),
        opened: Some(after(from).as_second()),
        not_after: Some(after(until).as_second()),
        ..Content::of(Kind::KitOpened)
    };
    let class = async |number: usize| {
        bench.send(&call_line("Version", &roles)).await;
        bench.calls(number).await.remove(number - 1).class
    };
    assert_eq!(class(1).await, CallClass::Unexplained);
    // an opening whose time was over before the call, and one that had not begun: each is another's
    bench.room.sequencer.note(reported(-7200, -3600), None).await.unwrap();
    assert_eq!(class(2).await, CallClass::Unexplained);
    bench.room.sequencer.note(reported(3600, 7200), None).await.unwrap();
    assert_eq!(class(3).await, CallClass::Unexplained);
    let told = bench.room.log().await.into_iter().map(|entry| entry.content);
    let told: Vec<_> = told.filter(|content| content.kind == Kind::KitInUse).collect();
    assert!(!told.is_empty() && told.iter().all(|content| content.opened.is_some()), "with its time: {told:?}");
    bench.room.sequencer.note(reported(-10, 600), None).await.unwrap();
    assert_eq!(class(4).await, CallClass::Explained);
    // a later report of another time takes nothing away
    bench.room.sequencer.note(reported(-9000, -7200), None).await.unwrap();
    assert_eq!(class(5).await, CallClass::Explained);
}
