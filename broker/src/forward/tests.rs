//! Files that are moved, pipes that nobody reads, and a collector that fails, is slow, and lies.

use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use ichor_wire::log::{Content, Kind};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::audit::Sequencer;
use crate::clock::SystemClock;
use crate::identity::fixture::key;
use crate::store::sqlite::{Options, SqliteStore};

/// A log with its sequencer.
struct Log {
    store: Arc<dyn Store>,
    sequencer: Sequencer,
    folder: TempDir,
}

impl Log {
    async fn of(entries: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap());
        let (sequencer, _) =
            Sequencer::start(Arc::clone(&store), Arc::new(SystemClock), audit::Settings::named("test"));
        let log = Self { store, sequencer, folder };
        log.grow(entries).await;
        log
    }

    async fn grow(&self, entries: usize) {
        for _ in 0..entries {
            self.sequencer.note(Content::of(Kind::Reload), None).await.unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A forwarding of one name, which has begun.
    async fn to(&self, to: Destination) -> Forwarder {
        let mut forwarder = self.restarted(to);
        forwarder.begin(false).await.unwrap();
        forwarder
    }

    /// One that the broker made, and did not begin yet.
    fn restarted(&self, to: Destination) -> Forwarder {
        let settings = Settings { name: "out".into(), to };
        Forwarder::new(settings, LOG, Arc::clone(&self.store), Arc::new(SystemClock), Arc::new(key())).unwrap()
    }

    async fn to_file(&self) -> Forwarder {
        self.to(self.file()).await
    }

    fn file(&self) -> Destination {
        Destination::Lines(self.path("out.jsonl"))
    }

    async fn cursor(&self) -> u64 {
        self.store.forward_cursor("out").await.unwrap().unwrap().next
    }

    /// Does to the database what nobody but the broker should.
    fn tamper(&self, sql: &str) {
        let db = rusqlite::Connection::open(self.path("ichor.db")).unwrap();
        db.execute("ATTACH ?1 AS aside", [self.path("aside.db").to_str()]).unwrap();
        db.execute_batch(sql).unwrap();
    }
}

/// The log's name.
const LOG: &str = "ichor.example.com/audit#2";

/// The indexes of the lines; `None` for one that is no entry of the log.
fn indexes(path: &Path) -> Vec<Option<u64>> {
    let text = std::fs::read_to_string(path).unwrap();
    let index = |line: Value| line["index"].as_u64().filter(|_| line["log"] == LOG);
    text.lines().map(|line| serde_json::from_str::<Value>(line).ok().and_then(index)).collect()
}

fn all(range: std::ops::Range<u64>) -> Vec<Option<u64>> {
    range.map(Some).collect()
}

#[tokio::test]
async fn a_file_has_every_entry_in_order_also_after_a_restart() {
    let log = Log::of(450).await;
    let mut forwarder = log.to_file().await;
    assert_eq!(forwarder.step().await, Ok(Some(250)));
    assert_eq!(log.cursor().await, 200);
    drop(forwarder);
    let mut forwarder = log.to_file().await;
    while forwarder.step().await.unwrap() > Some(0) {}
    assert_eq!(forwarder.step().await, Ok(Some(0)));
    assert_eq!(indexes(&log.path("out.jsonl")), all(0..450));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(log.path("out.jsonl")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_entry_whose_body_was_taken_away_is_waited_for() {
    let log = Log::of(3).await;
    let mut forwarder = log.to_file().await;
    log.tamper("CREATE TABLE aside.side AS SELECT * FROM body WHERE idx = 1; DELETE FROM body WHERE idx = 1");
    let refused = forwarder.step().await.unwrap_err();
    assert!(refused.0.contains("entry 1 has lost its body"), "{refused}");
    assert_eq!(log.cursor().await, 0);
    log.tamper("INSERT INTO body (idx, body) SELECT idx, body FROM side");
    assert_eq!(forwarder.step().await, Ok(Some(0)));
    assert_eq!(indexes(&log.path("out.jsonl")), all(0..3));
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_made_anew() {
    let log = Log::of(2).await;
    let mut forwarder = log.to_file().await;
    forwarder.step().await.unwrap();
    std::fs::rename(log.path("out.jsonl"), log.path("old.jsonl")).unwrap();
    log.grow(1).await;
    forwarder.step().await.unwrap();
    assert_eq!(indexes(&log.path("old.jsonl")), all(0..2));
    assert_eq!(indexes(&log.path("out.jsonl")), all(2..3));
}

#[tokio::test]
async fn half_a_line_of_a_broker_that_was_killed_spoils_no_other() {
    let log = Log::of(3).await;
    std::fs::write(log.path("out.jsonl"), format!("{{\"log\":\"{LOG}\",\"index\":0}}\n{{\"ind")).unwrap();
    log.to_file().await.step().await.unwrap();
    assert_eq!(indexes(&log.path("out.jsonl")), [Some(0), None, Some(0), Some(1), Some(2)]);
}

#[tokio::test]
async fn where_nothing_can_be_written_the_cursor_stays() {
    let log = Log::of(3).await;
    let mut forwarder = log.to(Destination::Lines(log.path("none/out.jsonl"))).await;
    assert!(forwarder.step().await.is_err());
    assert_eq!(log.cursor().await, 0);
    std::fs::create_dir(log.path("none")).unwrap();
    assert_eq!(forwarder.step().await, Ok(Some(0)));
    assert_eq!(indexes(&log.path("none/out.jsonl")), all(0..3));
}

/// Has whatever is done on the forwarding's disk wait until the sender is dropped.
async fn hang(forwarder: &Forwarder) -> std::sync::mpsc::Sender<()> {
    let super::Sink::Lines(lines) = &forwarder.sink else { panic!("no disk") };
    let (disk, (answers, hung)) = (lines.disk.clone(), std::sync::mpsc::channel::<()>());
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let work = move |_: &crate::disk::Waiter| {
            let _ = begun.send(());
            let _ = hung.recv();
            Ok(())
        };
        disk.bounded(Duration::from_secs(3_600), work).await
    });
    has_begun.await.unwrap();
    answers
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_told_of_and_nothing_late_is_written() {
    let log = Log::of(3).await;
    let mut forwarder = log.to_file().await;
    forwarder.step().await.unwrap();
    log.grow(2).await;
    let answers = hang(&forwarder).await;
    let said = "its disk does not answer";
    {
        let super::Sink::Lines(lines) = &mut forwarder.sink else { panic!("no disk") };
        tokio::time::pause();
        let mut sent = std::pin::pin!(lines.send(LOG, &[]));
        assert!(futures_util::poll!(&mut sent).is_pending());
        tokio::time::advance(Duration::from_secs(11)).await;
        let refused = sent.await.unwrap_err();
        tokio::time::resume();
        assert!(refused.0.ends_with(said) && refused.0.contains("out.jsonl"), "{refused}");
    }
    // from now on at once, and it says how far behind it is
    let (readiness, store) = (Arc::new(Readiness::new(Arc::clone(&log.store))), Arc::clone(&log.store));
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(forwarder.run(Arc::clone(&readiness), stopped));
    let detail = async || {
        let check = readiness.checks().await.into_iter().find(|check| check.name == "forward out");
        check.map(|check| (check.ok, check.detail.unwrap_or_default()))
    };
    while detail().await.is_none() {
        tokio::task::yield_now().await;
    }
    let (is_ok, told) = detail().await.unwrap();
    assert!(!is_ok && told.ends_with(&format!("{said}; 2 entries wait")), "{told}");
    assert_eq!(store.forward_cursor("out").await.unwrap().unwrap().next, 3);
    assert_eq!(indexes(&log.path("out.jsonl")), all(0..3));
    drop(answers);
    while log.cursor().await != 5 {
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    running.await.unwrap();
    assert_eq!(indexes(&log.path("out.jsonl")), all(0..5));
}

#[tokio::test]
async fn what_was_given_up_before_it_was_written_is_not_written_later() {
    let log = Log::of(0).await;
    let (path, disk) = (log.path("out.jsonl"), crate::disk::Disk::default());
    std::fs::write(&path, "half a li").unwrap();
    let (waiters, waiter) = std::sync::mpsc::channel::<()>();
    let (tells, told) = tokio::sync::oneshot::channel();
    let late = path.clone();
    let work = move |waits: &crate::disk::Waiter| {
        let mut file = super::file::File::open(&late, waits)?;
        let _ = waiter.recv();
        let _ = tells.send((file.append(b"late\n", waits).is_err(), super::file::File::open(&late, waits).is_err()));
        Ok(())
    };
    {
        let mut waits = std::pin::pin!(disk.bounded(Duration::from_secs(3_600), work));
        while std::fs::metadata(&path).unwrap().len() != 10 {
            assert!(futures_util::poll!(&mut waits).is_pending());
            tokio::task::yield_now().await;
        }
    }
    // whoever waited is gone
    std::fs::write(&path, "half a li").unwrap();
    drop(waiters);
    assert_eq!(told.await, Ok((true, true)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "half a li");
}

#[tokio::test]
async fn a_pipe_waits_for_its_reader() {
    let log = Log::of(3).await;
    let path = log.path("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut forwarder = log.to(Destination::Lines(path.clone())).await;
    let refused = forwarder.step().await.unwrap_err();
    assert!(refused.0.ends_with("nobody reads the pipe"), "{refused}");
    assert_eq!(log.cursor().await, 0);
    let reader = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::fs::File::open(&path).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    while forwarder.step().await.is_err() {
        tokio::task::yield_now().await;
    }
    drop(forwarder);
    let text = reader.await.unwrap();
    assert_eq!(text.lines().count(), 3);
    assert_eq!(log.cursor().await, 3);
}

#[tokio::test]
async fn a_pipe_whose_reader_stalls_gets_whole_lines() {
    use std::io::{BufRead, BufReader};
    let log = Log::of(40).await;
    // longer than a pipe takes at once, and more than it holds
    let long = Content { message: Some("x".repeat(9_000)), ..Content::of(Kind::Reload) };
    for _ in 0..40 {
        log.sequencer.note(long.clone(), None).await.unwrap();
    }
    let path = log.path("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // one that is open and does not read
    let reader = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut forwarder = log.to(Destination::Lines(path)).await;
    for _ in 0..2 {
        tokio::time::pause();
        let refused = forwarder.step().await.unwrap_err();
        tokio::time::resume();
        assert!(refused.0.ends_with("nobody reads the pipe"), "{refused}");
        assert_eq!(log.cursor().await, 0);
    }
    let read = tokio::task::spawn_blocking(move || {
        let mut indexes = Vec::new();
        for line in BufReader::new(reader).lines() {
            let entry: Value = serde_json::from_str(&line.unwrap()).expect("a whole line");
            indexes.push(entry["index"].as_u64().unwrap());
            if indexes.last() == Some(&79) {
                break;
            }
        }
        indexes
    });
    while forwarder.step().await.is_err() && !read.is_finished() {}
    let indexes = read.await.unwrap();
    let again = indexes.iter().rposition(|index| *index == 0).unwrap();
    assert!(again > 40, "a part of the batch came first: {indexes:?}");
    assert_eq!(indexes[again..], (0..80).collect::<Vec<_>>(), "and then the whole once more");
}

/// What a collector does at one request.
#[derive(Clone, Copy, Debug)]
enum Answers {
    Takes,
    Fails,
    Never,
    RejectsOne,
    IsALoginPage,
    LeadsElsewhere,
}

#[derive(Default)]
struct Sink {
    plan: Mutex<Vec<Answers>>,
    /// The indexes of each request that came, whatever was answered.
    came: Mutex<Vec<Vec<u64>>>,
    authorized: AtomicUsize,
}

async fn collect(
    State(sink): State<Arc<Sink>>,
    headers: HeaderMap,
    axum::Json(body): axum::Json<Value>,
) -> (StatusCode, HeaderMap, String) {
    assert_eq!(body["resourceLogs"][0]["resource"]["attributes"][1]["value"]["stringValue"], LOG);
    let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone();
    let index = |record: &Value| record["attributes"][0]["value"]["intValue"].as_str().unwrap().parse().unwrap();
    sink.came.lock().unwrap().push(records.iter().map(index).collect());
    if headers.get("authorization").is_some_and(|value| value == "Bearer a-token") {
        sink.authorized.fetch_add(1, Ordering::SeqCst);
    }
    let answers = sink.plan.lock().unwrap().pop().unwrap_or(Answers::Takes);
    let plain = |status, text: &str| (status, HeaderMap::new(), text.to_owned());
    match answers {
        Answers::Takes => plain(StatusCode::OK, "{\"partialSuccess\":{}}"),
        Answers::Fails => plain(StatusCode::SERVICE_UNAVAILABLE, "{}"),
        Answers::Never => std::future::pending().await,
        Answers::RejectsOne => plain(
            StatusCode::OK,
            "{\"partialSuccess\":{\"rejectedLogRecords\":\"1\",\"errorMessage\":\"too\\u001b long\"}}",
        ),
        Answers::IsALoginPage => plain(StatusCode::OK, "<html>sign in</html>"),
        Answers::LeadsElsewhere => {
            let headers = HeaderMap::from_iter([(axum::http::header::LOCATION, "/v1/logs".parse().unwrap())]);
            (StatusCode::TEMPORARY_REDIRECT, headers, String::new())
        }
    }
}

async fn sink(plan: &[Answers]) -> (Arc<Sink>, Collector) {
    ichor_standins::install_tls_provider();
    let sink = Arc::new(Sink { plan: Mutex::new(plan.iter().rev().copied().collect()), ..Sink::default() });
    let routes = Router::new().route("/v1/logs", post(collect)).with_state(Arc::clone(&sink));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (sink, Collector { url, ca: None, token: Some("a-token".into()) })
}

#[tokio::test]
async fn a_collector_that_fails_or_lies_gets_everything_again_in_order() {
    use Answers::{Fails, IsALoginPage, LeadsElsewhere, RejectsOne};
    let log = Log::of(250).await;
    let plan = [Fails, RejectsOne, IsALoginPage, LeadsElsewhere];
    let (sink, collector) = sink(&plan).await;
    let mut forwarder = log.to(Destination::Otlp(collector)).await;
    let mut said = Vec::new();
    for _ in plan {
        said.push(forwarder.step().await.unwrap_err().0);
        assert_eq!(log.cursor().await, 0, "{said:?}");
    }
    assert_eq!(
        said,
        [
            "the collector answers 503",
            "the collector rejects 1 of 200 entries: too long",
            "what answers 200 is no collector of OpenTelemetry logs",
            "the collector answers 307",
        ]
    );
    assert_eq!(forwarder.step().await, Ok(Some(50)));
    assert_eq!(forwarder.step().await, Ok(Some(0)));
    let came = sink.came.lock().unwrap().clone();
    assert_eq!(came.len(), 6);
    assert!(came[..5].iter().all(|batch| *batch == (0..200).collect::<Vec<_>>()), "the same again, until it was taken");
    assert_eq!(came[5], (200..250).collect::<Vec<_>>());
    assert_eq!(sink.authorized.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_up_nobody() {
    let log = Log::of(3).await;
    let (sink, collector) = sink(&[Answers::Never]).await;
    let mut forwarder = log.to(Destination::Otlp(collector)).await;
    {
        let mut step = std::pin::pin!(forwarder.step());
        while sink.came.lock().unwrap().is_empty() {
            assert!(futures_util::poll!(&mut step).is_pending());
            tokio::task::yield_now().await;
        }
        // it waits, and the record goes on
        log.grow(2).await;
        assert!(futures_util::poll!(&mut step).is_pending());
    }
    assert_eq!(log.cursor().await, 0);
    assert_eq!(forwarder.step().await, Ok(Some(0)));
    assert_eq!(log.cursor().await, 5);
}

#[tokio::test]
async fn readiness_and_metrics_tell_what_waits() {
    let log = Log::of(3).await;
    let readiness = Arc::new(Readiness::new(Arc::clone(&log.store)));
    let forwarder = log.to_file().await;
    forwarder.report(&readiness, 3, Some(ForwardError("it is gone".into())));
    let found = async || readiness.checks().await.into_iter().find(|check| check.name == "forward out").unwrap();
    let check = found().await;
    assert_eq!((check.ok, check.required, check.detail.as_deref()), (false, false, Some("it is gone; 3 entries wait")));
    forwarder.report(&readiness, FINE_LAG, None);
    assert!(found().await.ok);
    forwarder.report(&readiness, FINE_LAG + 1, None);
    assert!(!found().await.ok);
}

#[tokio::test]
async fn it_runs_until_told_to_stop() {
    let log = Log::of(450).await;
    let readiness = Arc::new(Readiness::new(Arc::clone(&log.store)));
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(log.to_file().await.run(readiness, stopped));
    while log.cursor().await != 450 {
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    running.await.unwrap();
    assert_eq!(indexes(&log.path("out.jsonl")), all(0..450));
}

/// What someone who writes the database does to a forwarding that has sent 200 of 450 entries.
const TAMPERED: [&str; 5] = [
    "UPDATE forward SET next = 449",
    "UPDATE forward SET next = 450, tag = NULL",
    "UPDATE forward SET next = 1000000",
    "UPDATE forward SET next = 450, tag = (SELECT tag FROM forward WHERE name = 'other') WHERE name = 'out'",
    "DELETE FROM forward WHERE name = 'out'",
];

#[tokio::test]
async fn whoever_moves_the_cursor_keeps_no_entry_from_the_destination() {
    for (sql, is_known) in TAMPERED.into_iter().flat_map(|sql| [(sql, None), (sql, Some(true))]) {
        let log = Log::of(450).await;
        let mut other = Settings { name: "other".into(), to: Destination::Lines(log.path("other.jsonl")) };
        for name in ["other", "notify/out"] {
            other.name = name.into();
            let store = Arc::clone(&log.store);
            let mut other = Forwarder::new(other.clone(), LOG, store, Arc::new(SystemClock), Arc::new(key())).unwrap();
            other.begin(false).await.unwrap();
            while other.step().await.unwrap() > Some(0) {}
        }
        let mut forwarder = log.to_file().await;
        assert_eq!(forwarder.step().await, Ok(Some(250)));
        log.tamper(sql);
        if let Some(is_known) = is_known {
            // as a start does, whose log names the place
            forwarder = log.restarted(log.file());
            forwarder.begin(is_known).await.unwrap();
        }
        while forwarder.step().await.unwrap() > Some(0) {}
        assert_eq!(indexes(&log.path("out.jsonl")), [all(0..200), all(0..450)].concat(), "{sql}: {is_known:?}");
        let readiness = Readiness::new(Arc::clone(&log.store));
        forwarder.report(&readiness, 0, None);
        let check = readiness.checks().await.pop().unwrap();
        let said = check.detail.unwrap();
        assert!(!check.ok && said.contains("changed by someone else") && said.contains("sent again"), "{sql}: {said}");
    }
}

#[tokio::test]
async fn a_cursor_of_before_there_were_marks_is_believed_at_the_first_start_alone() {
    let log = Log::of(450).await;
    log.to_file().await;
    let unmarked = "UPDATE forward SET next = 200, tag = NULL";
    log.tamper(unmarked);
    let mut forwarder = log.to_file().await;
    assert_eq!(log.store.forward_cursor("out").await.unwrap().unwrap().tag.map(|tag| tag.len()), Some(32));
    assert_eq!(forwarder.step().await, Ok(Some(50)));
    assert_eq!(indexes(&log.path("out.jsonl")), all(200..400));
    log.tamper(unmarked);
    let mut forwarder = log.restarted(log.file());
    forwarder.begin(true).await.unwrap();
    assert_eq!(log.cursor().await, 0);
}

#[tokio::test]
async fn a_cursor_whose_move_was_not_answered_leaves_no_entry_out() {
    use crate::store::faulty::{Fault, FaultyStore};
    let log = Log::of(450).await;
    let faulty = FaultyStore::new(Arc::clone(&log.store), []);
    let settings = Settings { name: "out".into(), to: log.file() };
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    let mut forwarder = Forwarder::new(settings, LOG, store, Arc::new(SystemClock), Arc::new(key())).unwrap();
    forwarder.begin(false).await.unwrap();
    // holding it is the step's first write, moving it on the second, unless it is held already
    assert_eq!(forwarder.step().await, Ok(Some(250)));
    faulty.add([Fault::Before]);
    assert!(forwarder.step().await.is_err());
    assert_eq!(log.cursor().await, 200);
    faulty.add([Fault::After]);
    assert!(forwarder.step().await.is_err());
    assert_eq!(log.cursor().await, 400, "it was moved, and nobody said so");
    assert_eq!(forwarder.step().await, Ok(Some(0)));
    assert_eq!(indexes(&log.path("out.jsonl")), [all(0..400), all(200..450)].concat());
}

#[tokio::test]
async fn a_place_of_a_longer_log_is_none_in_this_one() {
    let (long, short) = (Log::of(300).await, Log::of(5).await);
    let mut forwarder = long.to_file().await;
    while forwarder.step().await.unwrap() > Some(0) {}
    let kept = long.store.forward_cursor("out").await.unwrap().unwrap();
    assert!(short.store.move_forward("out", None, &kept).await.unwrap());
    assert_eq!(short.to_file().await.step().await, Ok(Some(0)));
    assert_eq!(indexes(&short.path("out.jsonl")), all(0..5));
}
