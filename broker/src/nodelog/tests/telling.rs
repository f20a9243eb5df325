//! What is told of calls, whatever made-up lines there are beside them, and though the store fails.

use super::broken::of_kit;
use super::*;
use crate::kit::ledger::tests::made;

/// The grant of the kit's real opening.
const REAL: u128 = 0x0193_533d_9c00_7000_8000_0000_0000_0007;

/// So many lines, each with another made-up grant of a kit; the kit's number by the line's.
fn made_up(count: u128, number: impl Fn(u128) -> u16) -> Vec<u8> {
    (0..count).flat_map(|id| call_line("Version", &of_kit(number(id), 0x1000 + id))).collect()
}

/// The entries that a kit is in use, once the log has told of so many calls.
async fn in_use(bench: Bench, calls: u64) -> Vec<Content> {
    let log = bench.stopped_after(calls).await.log().await;
    log.into_iter().map(|entry| entry.content).filter(|content| content.kind == Kind::KitInUse).collect()
}

#[tokio::test]
async fn thousands_of_made_up_kits_hide_no_kit_of_ours_and_make_no_metric() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let bench = Bench::new([], 9, 100_000).await;
    bench.room.sequencer.note(made(), None).await.unwrap();
    bench.send(&made_up(4_500, |id| 8 + (id % 60_000) as u16)).await;
    bench.send(&call_line("Version", &of_kit(7, REAL))).await;
    let told = in_use(bench, 4_501).await;
    let real = Uuid::from_u128(REAL).into_bytes().to_vec();
    let ours: Vec<_> = told.iter().filter(|told| told.grant.as_ref() == Some(&real)).collect();
    assert_eq!(ours.len(), 1, "{told:#?}");
    assert!(ours[0].message.as_ref().unwrap().contains("a kit is in use: the certificate is kit 7's"), "{ours:?}");
    assert!(told.len() < 10, "of the others a few are told apart: {}", told.len());
    let page = recorder.handle().render();
    let series: Vec<_> = page.lines().filter(|line| line.starts_with("ichor_kit_in_use_total{")).collect();
    let of = |kit: &str, count: u64| format!("ichor_kit_in_use_total{{cluster=\"prod\",kit=\"{kit}\"}} {count}");
    assert_eq!(series.len(), 2, "{series:?}");
    assert!(series.contains(&of("7", 1).as_str()) && series.contains(&of("unknown", 4_500).as_str()), "{series:?}");
}

#[tokio::test]
async fn a_name_of_another_kit_with_the_same_grant_hides_nothing() {
    let bench = Bench::new([], 9, 100).await;
    bench.room.sequencer.note(made(), None).await.unwrap();
    let lines = [call_line("Version", &of_kit(7, REAL)), call_line("Version", &of_kit(9, REAL))];
    bench.send(&lines.concat()).await;
    let mut numbers: Vec<_> = in_use(bench, 2).await.into_iter().map(|told| told.kit.unwrap().number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [7, 9]);
}

#[tokio::test]
async fn a_finding_is_recorded_before_its_calls_though_it_fails_at_first() {
    for line in [call_line("Reboot", "talos-role=os:admin"), call_line("Version", &of_kit(7, REAL))] {
        let bench = Bench::new([Fault::Before], 9, 100).await;
        bench.send(&line).await;
        let log = bench.stopped_after(1).await.log().await;
        let kinds: Vec<_> = log.iter().map(|entry| entry.content.kind).collect();
        assert!(matches!(kinds[..], [Kind::Grant, Kind::NodeAlarm | Kind::KitInUse, Kind::NodeLog]), "{kinds:?}");
    }
}

/// A kit that gives os:reader and os:admin, made months ago.
fn made_long_ago() -> Content {
    let ca = crate::custody::ca::create(&ClusterName::new("prod").unwrap(), after(-10_000_000), 1).unwrap();
    let (der, until) = (ca.certificate().der().to_vec(), ca.certificate().not_after().as_second());
    let kit = ichor_wire::log::Kit { ca: Some(der), until: Some(until), ..made().kit.unwrap() };
    Content { roles: Some(vec!["os:admin".into(), "os:reader".into()]), kit: Some(kit), ..made() }
}

/// A report of the opening with this grant, as os:reader.
fn reported(from: i64, until: i64) -> Content {
    Content {
        cluster: Some("prod".into()),
        kit: Some(ichor_wire::log::Kit { ca: None, ..made().kit.unwrap() }),
        grant: Some(Uuid::from_u128(REAL).into_bytes().to_vec()),
        roles: Some(vec!["os:reader".into()]),
        claimed: Some("ada".into()),
        opened: Some(after(from).as_second()),
        not_after: Some(after(until).as_second()),
        kit_label: Some("drill".into()),
        ..Content::of(Kind::KitOpened)
    }
}

/// Whoever kept a kit's key can sign whatever they like under the grant of an opening that somebody reported.
#[tokio::test]
async fn a_kits_certificate_beyond_what_was_reported_of_its_grant_is_a_kit_in_use() {
    let reader = format!("talos-role=grant:kit-7-{},os:reader,user:claimed:ada", Uuid::from_u128(REAL));
    let admin = of_kit(7, REAL);
    let revoked = Content { kit: made().kit, ..Content::of(Kind::KitRevoked) };
    for (what, report, is_revoked, metadata) in [
        ("other roles within its time", reported(-60, 1740), false, &admin),
        ("other roles, months later", reported(-9_000_000, -8_998_200), false, &admin),
        ("the same roles, months later", reported(-9_000_000, -8_998_200), false, &reader),
        ("after the kit was revoked", reported(-60, 1740), true, &admin),
    ] {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let bench = Bench::new([], 9, 1000).await;
        for content in [made_long_ago(), report] {
            bench.room.sequencer.note(content, None).await.unwrap();
        }
        if is_revoked {
            bench.room.sequencer.note(revoked.clone(), None).await.unwrap();
        }
        // more kinds of other findings than are told apart in a minute
        let others: Vec<u8> =
            (0..40).flat_map(|number| call_line(&format!("M{number}"), "talos-role=os:admin")).collect();
        bench.send(&others).await;
        bench.calls(40).await;
        bench.send(&call_line("Version", metadata)).await;
        let room = bench.stopped_after(41).await;
        let told: Vec<_> = room.log().await.into_iter().map(|entry| entry.content).collect();
        let told: Vec<_> = told.into_iter().filter(|content| content.kind == Kind::KitInUse).collect();
        assert_eq!(told.len(), 1, "{what}: {told:#?}");
        assert_eq!(told[0].code.as_deref(), Some("not-as-reported"), "{what}");
        assert!(told[0].message.as_ref().unwrap().contains("not what was reported of its opening"), "{what}: {told:?}");
        let kit = crate::kit::read(&*room.store).await.unwrap().remove(0);
        assert_eq!(kit.state(noon()), crate::kit::State::Unreported, "{what}");
        let complaint = kit.complaint(noon()).unwrap();
        assert!(complaint.contains("kit revoke 7"), "{what}: {complaint}");
        let page = recorder.handle().render();
        assert!(page.contains("ichor_kit_in_use_total{cluster=\"prod\",kit=\"7\"} 1"), "{what}: {page}");
    }
}

#[tokio::test]
async fn what_a_report_tells_of_raises_nothing_also_by_a_method_that_is_flagged() {
    let reader = format!("talos-role=grant:kit-7-{},os:reader,user:claimed:ada", Uuid::from_u128(REAL));
    let bench = Bench::new([], 9, 100).await;
    for content in [made_long_ago(), reported(-60, 1740)] {
        bench.room.sequencer.note(content, None).await.unwrap();
    }
    bench.send(&[call_line("Version", &reader), call_line("Read", &reader)].concat()).await;
    assert_eq!(in_use(bench, 2).await, []);
}
