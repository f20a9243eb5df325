//! `notify`: from what happens to a sink's acceptance of the notification: asking for access, the first node touched and a kit in use as
//! a node's log tells of them, and the end of a lock.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use ichor_client::break_glass::{self, End, Vote};
use ichor_client::{Session, locks};
use ichor_standins::address::free_port;
use ichor_standins::browser::Browser;
use ichor_wire::api::{BreakGlassAsk, LockAsk, LockOn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Settings;
use crate::meter::{Times, millis};
use crate::report::{Goal, Report};
use crate::world::World;

const REQUESTS: usize = 100;
/// Lines of nodes' logs, each of another grant.
const LINES: usize = 20;
/// As many of another kit's, which this log does not have: more of those are told as one within a minute.
const KITS: usize = 4;
/// What a lock may last at least.
const LOCKED: u64 = 60;

/// Whoever may read may also ask others for os:admin.
const POLICIES: &str = "@id(\"break\") @approvals(\"1\") @max_ttl(\"30m\")\n\
    permit (principal, action in [Action::\"break-glass:request\", Action::\"hold:os:admin\"], resource);\n\
    @id(\"approve\") permit (principal, action == Action::\"break-glass:approve\", resource);\n\
    @id(\"lock\") permit (principal, action == Action::\"lock\", resource);\n";

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("notify");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let node = free_port()?;
    let prepare = async |dir: &Path| {
        let config = dir.join("config.toml");
        let text = std::fs::read_to_string(&config)?;
        let sink = format!(
            "\n[nodelog]\ntcp = \"127.0.0.1:{node}\"\nheartbeat = \"off\"\n\n\
             [[nodelog_source]]\ncluster = \"prod\"\nnodes = {{ \"127.0.0.1\" = \"cp-1\" }}\n\n[[notify]]\nname = \"bench\"\nkind = \"webhook\"\nurl = \"http://{at}/\"\nsecret_file = \"hook-secret\"\n"
        );
        std::fs::write(config, format!("{text}{sink}"))?;
        std::fs::write(dir.join("hook-secret"), SECRET)?;
        Ok(std::fs::write(dir.join("policies/break.cedar"), POLICIES)?)
    };
    let world = World::start_with(settings, prepare).await?;
    let (arrivals, mut arrived) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take(stream, arrivals.clone()));
        }
    });
    let session = world.log_in().await?;
    let (mut from_asking, mut from_answer) = (Times::default(), Times::default());
    for number in 0..REQUESTS {
        let began = Instant::now();
        let glass = break_glass::ask(&session, &wanted(number)).await?;
        let answered = Instant::now();
        let came = next(&mut arrived, "ichor.break-glass-request").await?;
        from_asking.push(came.duration_since(began));
        from_answer.push(came.saturating_duration_since(answered));
        break_glass::end(&session, glass.answer.id, End::Cancel, None).await?;
        next(&mut arrived, "ichor.break-glass-cancelled").await?;
    }
    let (touched, kit) = lines(&world, &session, node, &mut arrived).await?;
    let unlocked = lock(&session, &mut arrived).await?;
    report.note(format!("{REQUESTS} requests, one after the other; a webhook on loopback, SQLite, no other load"));
    report.add("from asking, p50", millis(from_asking.percentile(0.5)), "ms");
    report.hold("from asking, the longest", millis(from_asking.percentile(1.0)), "ms", Goal::AtMost(2000.0));
    report.add("from the answer, p50", millis(from_answer.percentile(0.5)), "ms");
    report.add("from the answer, the longest", millis(from_answer.percentile(1.0)), "ms");
    for (what, mut times) in
        [("a node's first line", touched), ("a line of a kit in use", kit), ("a lock's end", unlocked)]
    {
        report.add(format!("from {what}, p50"), millis(times.percentile(0.5)), "ms");
        // the wait of a line for what comes behind it counts
        report.hold(format!("from {what}, the longest"), millis(times.percentile(1.0)), "ms", Goal::AtMost(2000.0));
    }
    Ok(report)
}

/// From a node's line to the notification of the first node touched, and of a kit in use.
async fn lines(world: &World, session: &Session, node: u16, arrived: &mut Arrived) -> anyhow::Result<(Times, Times)> {
    let bob = ichor_tests::log_in(&world.client(), &Browser::new(&[&world.tls_ca])?, "bob", |_| {}).await?;
    let mut log = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, node)).await?;
    let (mut touched, mut kit) = (Times::default(), Times::default());
    for number in 0..LINES {
        let glass = break_glass::ask(session, &wanted(number)).await?;
        break_glass::vote(&bob, &glass, Vote::Approve, None).await?;
        let held = break_glass::certificate(session, &glass).await?.answer;
        until(arrived, "ichor.grant").await?;
        let began = Instant::now();
        log.write_all(line(&format!("grant:{},os:admin,user:{}", held.grant_id, held.user)).as_bytes()).await?;
        touched.push(until(arrived, "ichor.break-glass-touched").await?.duration_since(began));
        if number >= KITS {
            continue;
        }
        let began = Instant::now();
        let kit_grant = uuid::Uuid::from_u128(0x0193_533d_9c00_7000_8000_0000_0000_0000 + number as u128);
        log.write_all(line(&format!("grant:kit-{}-{kit_grant},os:admin,user:claimed:ada", number + 1)).as_bytes())
            .await?;
        kit.push(until(arrived, "ichor.kit-in-use").await?.duration_since(began));
    }
    Ok((touched, kit))
}

/// From a lock's end to the notification of it: its end is on a whole second of the broker's clock, which is ours.
async fn lock(session: &Session, arrived: &mut Arrived) -> anyhow::Result<Times> {
    let ask = LockAsk { on: LockOn::Cluster { name: "prod".into() }, seconds: Some(LOCKED), reason: "bench".into() };
    let set = locks::set(session, &ask).await?;
    let until_then = set.lock.until.context("a lock without an end")?;
    until(arrived, "ichor.lock").await?;
    let left = until_then.duration_since(ichor_client::Clock::system().now());
    let end = Instant::now() + left.unsigned_abs();
    let mut times = Times::default();
    times.push(until(arrived, "ichor.unlock").await?.saturating_duration_since(end));
    Ok(times)
}

/// A line as a node sends it, of a call just now.
fn line(roles: &str) -> String {
    let now = ichor_client::Clock::system().now();
    let (first, second) = (now.strftime("%Y/%m/%d %H:%M:%S"), now.strftime("%Y-%m-%dT%H:%M:%SZ"));
    let message =
        format!("machined {first} OK [/machine.MachineService/Version] 1ms unary Success (talos-role={roles})");
    format!("{{\"msg\":\"{message}\",\"talos-service\":\"machined\",\"talos-time\":\"{second}\"}}\n")
}

fn wanted(number: usize) -> BreakGlassAsk {
    BreakGlassAsk {
        cluster: "prod".into(),
        roles: vec!["os:admin".into()],
        ttl: None,
        reason: format!("INC-{number}"),
        nodes: Vec::new(),
        ticket: None,
        self_service: false,
    }
}

/// Notifications as they come, with the time.
type Arrived = mpsc::UnboundedReceiver<(Instant, String)>;

/// When the next notification of this type came; others before it are passed by.
async fn until(arrived: &mut Arrived, kind: &str) -> anyhow::Result<Instant> {
    loop {
        let came = tokio::time::timeout(Duration::from_secs(90), arrived.recv()).await?;
        let (at, body) = came.context("the sink has gone")?;
        if body.contains(&format!("\"{kind}\"")) {
            return Ok(at);
        }
    }
}

/// When the next notification came, which is of this type.
async fn next(arrived: &mut Arrived, kind: &str) -> anyhow::Result<Instant> {
    let came = tokio::time::timeout(Duration::from_secs(30), arrived.recv()).await?;
    let (at, body) = came.context("the sink has gone")?;
    anyhow::ensure!(body.contains(kind), "something else than {kind} came: {body}");
    Ok(at)
}

/// Accepts what comes over one connection.
async fn take(
    mut stream: tokio::net::TcpStream,
    arrivals: mpsc::UnboundedSender<(Instant, String)>,
) -> anyhow::Result<()> {
    let (mut came, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        came.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let text = String::from_utf8_lossy(&came).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().filter_map(|line| line.split_once(": "));
        let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map(|(_, value)| value).next().unwrap_or_default().parse()?;
        if body.len() >= length {
            arrivals.send((Instant::now(), body.to_owned()))?;
            stream.write_all(b"HTTP/1.1 204 x\r\n\r\n").await?;
            came.clear();
        }
    }
}
