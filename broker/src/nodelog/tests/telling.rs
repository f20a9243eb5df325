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
