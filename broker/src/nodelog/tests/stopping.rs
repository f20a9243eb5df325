//! A stop: what was read is kept where the store takes it, and counted where it does not. And what no store ever takes.

use super::*;
use crate::nodelog::reader::Reader;
use crate::nodelog::split::Piece;

/// An intake with so many lines in its queue, each of another load, and every sink gone.
async fn queued(room: &Room, lines: usize) -> Intake {
    let (store, issuers): (Arc<dyn Store>, _) = (room.store.clone(), watch::channel(Issuers::default()).1);
    let parts = Parts {
        store,
        sequencer: room.sequencer.clone(),
        clock: room.clock.clone(),
        issuers,
        max_calls: 1_000,
        kept_for: None,
    };
    let (intake, sink) = Intake::new(parts, Arc::new(Board::default()));
    let origin = Origin { cluster: "prod".into(), node: "cp-1".into() };
    let mut reader = Reader::new(sink, false);
    for _ in 0..lines {
        reader.take(&origin, Piece::Line(call_line("Version", &roles(GRANT)).trim_ascii_end()));
        reader.send().await;
    }
    intake
}

#[tokio::test]
async fn what_waits_in_the_queue_is_kept_at_a_stop() {
    let room = Room::new([]);
    let intake = queued(&room, 100).await;
    intake.run(std::future::ready(())).await;
    assert_eq!(room.store.call_range(0, 1_000).await.unwrap().len(), 100);
}

#[tokio::test]
async fn what_the_store_does_not_take_in_time_is_counted_and_the_intake_ends() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let never = Arc::new(Semaphore::new(0));
    let room = Room::new(std::iter::repeat_n(Fault::Hold(never), 1_000));
    let intake = queued(&room, 100).await;
    tokio::time::pause();
    intake.run(std::future::ready(())).await;
    let page = recorder.handle().render();
    assert!(page.contains("ichor_node_lines_total{outcome=\"lost\"} 100"), "{page}");
}

#[tokio::test]
async fn a_stop_is_heard_while_the_store_does_not_answer() {
    let never = Arc::new(Semaphore::new(0));
    let room = Room::new(std::iter::repeat_n(Fault::Hold(never), 1_000));
    let intake = queued(&room, 100).await;
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(intake.run(async move { stopped.await.unwrap() }));
    room.store.held(1).await;
    tokio::time::pause();
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn lines_that_were_read_and_not_handed_on_are_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let room = Room::new([]);
    let (sink, intake) = crate::nodelog::reader::Sink::new(Arc::new(Board::default()), room.clock.clone());
    let origin = Origin { cluster: "prod".into(), node: "cp-1".into() };
    let line = call_line("Version", &roles(GRANT));
    let mut reader = Reader::new(sink, false);
    for _ in 0..3 {
        reader.take(&origin, Piece::Line(line.trim_ascii_end()));
    }
    // the end of its task while it waits for room, and of one that has not come to that
    drop(intake);
    reader.send().await;
    reader.take(&origin, Piece::Line(line.trim_ascii_end()));
    drop(reader);
    let page = recorder.handle().render();
    assert!(page.contains("ichor_node_lines_total{outcome=\"lost\"} 4"), "{page}");
}

#[tokio::test]
async fn what_no_store_ever_takes_holds_up_nothing_behind_it() {
    let bench = Bench::new([Fault::Refuse], 9, 100).await;
    bench.send(&call_line("Version", &roles(GRANT))).await;
    while !bench.room.store.is_well() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.send(&call_line("Reboot", &roles(GRANT))).await;
    let call = bench.calls(1).await.remove(0);
    assert_eq!(call.method, "/machine.MachineService/Reboot");
}

#[tokio::test]
async fn what_a_clock_that_went_back_refuses_is_kept_once_it_has_caught_up() {
    let bench = Bench::new([], 9, 100).await;
    let tried = bench.room.store.batches.lock().unwrap().len();
    bench.room.clock.advance(jiff::SignedDuration::from_secs(-5));
    bench.send(&call_line("Version", &roles(GRANT))).await;
    while bench.room.store.batches.lock().unwrap().len() == tried {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.room.store.call_range(0, 9).await.unwrap().len(), 0);
    bench.room.clock.advance(jiff::SignedDuration::from_secs(10));
    assert_eq!(bench.calls(1).await.len(), 1);
}

/// PostgreSQL has no text with a NUL in it: a caller's bytes are to reach no store so.
#[tokio::test]
async fn a_nul_among_the_roles_is_a_sign_and_is_kept_nowhere() {
    let bench = Bench::new([], 9, 100).await;
    bench.send(&call_line("Version", "x-bin=a;talos-role=os:\0admin,os:reader")).await;
    bench.send(&call_line("Version", "talos-role=os:\0admin,os:reader")).await;
    for call in bench.calls(2).await {
        assert_eq!((call.class, call.roles.as_str()), (CallClass::Suspect, "os:reader"), "{call:?}");
    }
}
