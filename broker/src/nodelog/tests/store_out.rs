//! A store that is slow, fails or is out: lines wait, and each is kept once.

use super::*;

#[tokio::test]
async fn a_store_that_is_slow_stops_the_reading_and_loses_nothing() {
    let gate = Arc::new(Semaphore::new(0));
    let bench = Bench::new([Fault::Hold(Arc::clone(&gate))], 9, 1_000_000).await;
    let line = call_line("Version", &format!("pad={};{}", "x".repeat(30_000), roles(GRANT)));
    bench.send(&line).await;
    bench.room.store.held(1).await;
    // more than the intake's room, the channel and the kernel's buffers hold together
    let count = 3_000;
    let all: Vec<u8> = line.repeat(count);
    let tcp = bench.tcp;
    let (done, mut is_done) = oneshot::channel();
    let sender = tokio::spawn(async move {
        let mut stream = TcpStream::connect(tcp).await.unwrap();
        stream.write_all(&all).await.unwrap();
        stream.shutdown().await.unwrap();
        done.send(()).unwrap();
    });
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut is_done).await;
    assert!(waited.is_err(), "90 MB do not fit anywhere: the sender waits");
    gate.add_permits(1);
    sender.await.unwrap();
    let classes = bench.classes(count + 1).await;
    assert!(classes.iter().all(|class| *class == CallClass::Explained));
}

#[tokio::test]
async fn a_store_that_fails_is_tried_again_and_nothing_is_kept_twice() {
    let bench = Bench::new([Fault::Before, Fault::Before], 9, 100).await;
    bench.send(&call_line("Version", &roles(GRANT))).await;
    bench.calls(1).await;
    let room = bench.stopped().await;
    let kept = room.log().await.iter().filter(|entry| entry.content.kind == Kind::NodeLog).count();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_kept_once_and_told_of() {
    // the alarm comes first, and is recorded at the second try
    let gate = Arc::new(Semaphore::new(1));
    let bench = Bench::new([Fault::Before, Fault::Hold(gate), Fault::Before, Fault::After], 9, 100).await;
    bench.send(&[call_line("Version", &roles(GRANT)), call_line("Reboot", "talos-role=os:admin")].concat()).await;
    bench.calls(2).await;
    // the same lines once more are other calls
    bench.send(&[call_line("Version", &roles(GRANT)), call_line("Reboot", "talos-role=os:admin")].concat()).await;
    bench.calls(4).await;
    let room = bench.stopped().await;
    let count = async |kind: Kind| room.log().await.iter().filter(|entry| entry.content.kind == kind).count();
    assert_eq!((count(Kind::NodeLog).await, count(Kind::NodeAlarm).await), (2, 1));
    let report = verify_calls(&*room.store).await.unwrap();
    assert_eq!((report.calls, report.batches, report.faults.len()), (4, 2, 0));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_store_that_is_out() {
    let bench = Bench::new(std::iter::repeat_n(Fault::Before, 100_000), 9, 100).await;
    let before = bench.room.store.batches.lock().unwrap().len();
    bench.send(&call_line("Version", &roles(GRANT))).await;
    while bench.room.store.batches.lock().unwrap().len() == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let room = tokio::time::timeout(Duration::from_secs(20), bench.stopped()).await.expect("the intake ends");
    assert_eq!(room.store.call_range(0, 9).await.unwrap(), []);

    // what the store takes at the last try is kept
    let bench = Bench::new([Fault::Before], 9, 100).await;
    let before = bench.room.store.batches.lock().unwrap().len();
    bench.send(&call_line("Version", &roles(GRANT))).await;
    while bench.room.store.batches.lock().unwrap().len() == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let room = bench.stopped().await;
    assert_eq!(room.store.call_range(0, 9).await.unwrap().len(), 1);
}
