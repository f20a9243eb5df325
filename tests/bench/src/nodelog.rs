//! `nodelog`: access-log lines of nodes, from TCP to calls kept with their digest, and what a call takes on disk.
//!
//! Sender, intake and store share the process; the sender writes ready bytes. Every line is a call with a grant that is known.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use ichor_broker::audit::{Sequencer, Settings as SequencerSettings};
use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::domain::{AddressRange, ClusterName};
use ichor_broker::mint::Issuers;
use ichor_broker::nodelog::{Board, Intake, Parts, Source, Sources, listen_tcp};
use ichor_broker::store::sqlite::{Options, SqliteStore};
use ichor_broker::store::{CallClass, CallFilter, Store};
use ichor_wire::log::{Content, Kind, Person};
use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::Settings;
use crate::meter::{each, micros, own_cpu, rate};
use crate::report::{Goal, Report};

/// Lines a second and core that the intake must take.
const GOAL_RATE: f64 = 50_000.0;

/// Lines of one run.
const LINES: usize = 500_000;

/// Grants and methods that lines go round.
const GRANTS: u128 = 200;
const METHODS: [&str; 4] = ["Version", "Dmesg", "Logs", "ServiceList"];

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("nodelog");
    report.note("one connection, every line a call with a known grant; SQLite, synchronous=FULL; CPU is that of sender and broker together");
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let (took, cpu) = load(folder.path()).await?;
    report.add("lines, on this machine", rate(LINES, took), "1/s");
    let cpu = micros(each(cpu, LINES)?);
    report.add("CPU each", cpu, "µs");
    report.hold("lines a core", 1_000_000.0 / cpu, "1/s", Goal::AtLeast(GOAL_RATE));
    let bytes = std::fs::metadata(folder.path().join("ichor.db"))?.len();
    #[expect(clippy::cast_precision_loss, reason = "a file's size fits into 53 bits")]
    report.add("bytes a call on disk", bytes as f64 / LINES as f64, "B");
    Ok(report)
}

async fn load(folder: &Path) -> anyhow::Result<(Duration, Duration)> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.join("ichor.db"), Options::default())?);
    let clock: Arc<SystemClock> = Arc::new(SystemClock);
    let (sequencer, ended) = Sequencer::start(
        Arc::clone(&store),
        clock.clone(),
        SequencerSettings { broker: "bench".into(), ..SequencerSettings::default() },
    );
    let now = clock.now();
    for number in 0..GRANTS {
        sequencer.note(grant(number, now)?, None).await?;
    }
    let (_issuers, published) = watch::channel(Issuers::default());
    let parts = Parts {
        store: Arc::clone(&store),
        sequencer: sequencer.clone(),
        clock: clock.clone(),
        issuers: published,
        max_calls: u64::MAX,
        kept_for: None,
    };
    let (intake, sink) = Intake::new(parts, Arc::new(Board::default()));
    let (stop, stopped) = watch::channel(false);
    let told = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let source = Source {
        cluster: ClusterName::new("prod")?,
        from: AddressRange::parse("127.0.0.1").into_iter().collect(),
        nodes: [(std::net::Ipv4Addr::LOCALHOST.into(), "cp-1".to_owned())].into(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let listening = tokio::spawn(listen_tcp(listener, Arc::new(Sources(vec![source])), sink, 8, told(stopped.clone())));
    let intake = tokio::spawn(intake.run(told(stopped)));

    let bytes: Vec<u8> = (0..LINES).flat_map(|number| line(number, now)).collect();
    let (began, cpu) = (Instant::now(), own_cpu()?);
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    loop {
        let last = store.call_range(LINES as u64 - 1, 1).await?;
        if !last.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (took, cpu) = (began.elapsed(), own_cpu()?.saturating_sub(cpu));
    let other = CallFilter {
        classes: CallClass::ALL.into_iter().filter(|class| *class != CallClass::Explained).collect(),
        ..CallFilter::default()
    };
    ensure!(store.calls(&other, None, 1).await?.is_empty(), "every line is explained");
    stop.send(true)?;
    intake.await?;
    listening.await?;
    drop(sequencer);
    ended.await?;
    // closing the last connection writes the log of SQLite into the file
    drop(store);
    Ok((took, cpu))
}

fn grant(number: u128, now: Timestamp) -> anyhow::Result<Content> {
    Ok(Content {
        person: Some(Person {
            provider: "corp".into(),
            issuer: "https://login.example.com/realms/company".into(),
            subject: format!("248289761001-{}", number % 40),
            name: "Alice Example".into(),
            user: user(number),
        }),
        cluster: Some("prod".into()),
        grant: Some(id(number).into_bytes().to_vec()),
        roles: Some(vec!["os:reader".into()]),
        not_after: Some(now.checked_add(SignedDuration::from_hours(8))?.as_second()),
        ..Content::of(Kind::Grant)
    })
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0193_533d_9c00_7000_8000_0000_0000_0000 + number)
}

fn user(number: u128) -> String {
    format!("person{}@example.com", number % 40)
}

fn line(number: usize, now: Timestamp) -> Vec<u8> {
    let of = number as u128 % GRANTS;
    let method = METHODS.get(number % METHODS.len()).copied().unwrap_or_default();
    let stamp = now.strftime("%Y/%m/%d %H:%M:%S.%6f");
    let second = now.strftime("%Y/%m/%d %H:%M:%S");
    let message = format!(
        "{stamp} machined {second} OK [/machine.MachineService/{method}] 93.239µs unary Success (:authority=localhost;\
         content-type=application/grpc+proxy>proto;grpc-accept-encoding=gzip;talos-role=grant:{},os:reader,user:{};\
         user-agent=grpc-go/1.82.1)",
        id(of),
        user(of)
    );
    let line = format!(
        "{{\"cluster\":\"prod\",\"msg\":\"{message}\",\"talos-level\":\"info\",\"talos-service\":\"machined\",\"talos-time\":\"{now}\"}}\n"
    );
    line.into_bytes()
}
