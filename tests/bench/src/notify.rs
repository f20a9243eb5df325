//! `notify`: from asking for access to a sink's acceptance of the notification.

use std::path::Path;
use std::time::Duration;

use ichor_client::break_glass::{self, End};
use ichor_wire::api::BreakGlassAsk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Settings;
use crate::meter::{Times, millis};
use crate::report::{Goal, Report};
use crate::world::World;

const REQUESTS: usize = 100;

/// Whoever may read may also ask others for os:admin.
const POLICIES: &str = "@id(\"break\") @approvals(\"1\") @max_ttl(\"30m\")\n\
    permit (principal, action in [Action::\"break-glass:request\", Action::\"hold:os:admin\"], resource);\n";

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("notify");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let prepare = async |dir: &Path| {
        let config = dir.join("config.toml");
        let text = std::fs::read_to_string(&config)?;
        let sink = format!(
            "\n[[notify]]\nname = \"bench\"\nkind = \"webhook\"\nurl = \"http://{at}/\"\nsecret_file = \"hook-secret\"\n"
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
        let ask = BreakGlassAsk {
            cluster: "prod".into(),
            roles: vec!["os:admin".into()],
            ttl: None,
            reason: format!("INC-{number}"),
            nodes: Vec::new(),
            ticket: None,
            self_service: false,
        };
        let began = Instant::now();
        let glass = break_glass::ask(&session, &ask).await?;
        let answered = Instant::now();
        let came = next(&mut arrived, "ichor.break-glass-request").await?;
        from_asking.push(came.duration_since(began));
        from_answer.push(came.saturating_duration_since(answered));
        break_glass::end(&session, glass.answer.id, End::Cancel, None).await?;
        next(&mut arrived, "ichor.break-glass-cancelled").await?;
    }
    report.note(format!("{REQUESTS} requests, one after the other; a webhook on loopback, SQLite, no other load"));
    report.add("from asking, p50", millis(from_asking.percentile(0.5)), "ms");
    report.hold("from asking, the longest", millis(from_asking.percentile(1.0)), "ms", Goal::AtMost(2000.0));
    report.add("from the answer, p50", millis(from_answer.percentile(0.5)), "ms");
    report.add("from the answer, the longest", millis(from_answer.percentile(1.0)), "ms");
    Ok(report)
}

/// When the next notification came, which is of this type.
async fn next(arrived: &mut mpsc::UnboundedReceiver<(Instant, String)>, kind: &str) -> anyhow::Result<Instant> {
    let came = tokio::time::timeout(Duration::from_secs(30), arrived.recv()).await?;
    let (at, body) = came.ok_or_else(|| anyhow::anyhow!("the sink has gone"))?;
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
