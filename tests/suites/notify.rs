//! People are told: as configured, over TLS, signed; and who lets themselves in waits until someone outside was.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use ichor_broker::app::{Parts, Running};
use ichor_broker::clock::Clock;
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_client::break_glass::{self, Glass, Vote};
use ichor_client::{Error, Wish};
use ichor_standins::authority::{Authority, Leaf};
use ichor_tests::{CLUSTER, Options, Person, World};
use ichor_wire::api::BreakGlassAsk;
use ichor_wire::problem::Code;
use ichor_wire::role::Role;
use jiff::SignedDuration;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Operators let themselves in where nobody can be reached, or are approved by another.
const ALONE: &str = r#"
@id("read") @max_ttl("8h") permit (principal, action == Action::"hold:os:reader", resource);
@id("operators-in-an-emergency") @self_service("true") @max_ttl("10m")
permit (principal in Group::"corp/talos-operators",
  action in [Action::"break-glass:request", Action::"hold:os:admin"], resource)
when { context has reason };
@id("everyone-approves") permit (principal, action == Action::"break-glass:approve", resource);
"#;

/// A sink with TLS of its own CA: what it answers at first, and all that came.
#[derive(Default)]
pub(crate) struct Sink {
    answers: Mutex<VecDeque<u16>>,
    came: Mutex<Vec<(String, String)>>,
}

impl Sink {
    async fn new(ca: &Authority, answers: &[u16]) -> anyhow::Result<(Arc<Self>, u16)> {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let made = ca.issue(&Leaf::server(vec!["127.0.0.1".parse()?], Vec::new()))?;
        let chain = vec![CertificateDer::from_pem_slice(made.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes())?;
        let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let sink = Arc::new(Self { answers: Mutex::new(answers.iter().copied().collect()), ..Self::default() });
        let serving = Arc::clone(&sink);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let _ = serving.one(&mut stream).await;
            }
        });
        Ok((sink, port))
    }

    async fn one(&self, stream: &mut tokio_rustls::server::TlsStream<tokio::net::TcpStream>) -> anyhow::Result<()> {
        let (mut came, mut chunk) = (Vec::new(), [0; 16384]);
        let (head, body) = loop {
            let count = stream.read(&mut chunk).await?;
            anyhow::ensure!(count > 0, "it hung up");
            came.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&came).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = header(head, "content-length").parse::<usize>()?;
            if body.len() >= length {
                break (head.to_owned(), body.to_owned());
            }
        };
        self.came.lock().unwrap().push((head, body));
        let status = self.answers.lock().unwrap().pop_front().unwrap_or(204);
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        Ok(())
    }

    /// What came, once there is as much.
    pub(crate) async fn came(&self, count: usize) -> Vec<(String, Value)> {
        while self.came.lock().unwrap().len() < count {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let came = self.came.lock().unwrap();
        came.iter().map(|(head, body)| (head.clone(), serde_json::from_str(body).unwrap())).collect()
    }
}

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let found =
        head.lines().filter_map(|line| line.split_once(": ")).find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map_or("", |(_, value)| value)
}

fn ask(self_service: bool) -> BreakGlassAsk {
    BreakGlassAsk {
        cluster: CLUSTER.into(),
        roles: vec!["os:admin".into()],
        ttl: Some(8 * 3600),
        reason: "INC-42 etcd down".into(),
        nodes: Vec::new(),
        ticket: None,
        self_service,
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> Code {
    match answer {
        Err(Error::Problem(problem)) => problem.code,
        other => panic!("{other:?}"),
    }
}

/// A world that tells a webhook of break-glass alone.
async fn telling(answers: &[u16]) -> anyhow::Result<(World, Arc<Sink>)> {
    telling_of(answers, ALONE, &["break-glass"], "").await
}

/// The same under these policies, of these events, and with this in its configuration besides.
pub(crate) async fn telling_of(
    answers: &[u16],
    policies: &'static str,
    events: &[&str],
    config: &str,
) -> anyhow::Result<(World, Arc<Sink>)> {
    ichor_standins::install_tls_provider();
    let ca = Authority::new("sinks")?;
    let (sink, port) = Sink::new(&ca, answers).await?;
    let config = format!(
        "{config}[[notify]]\nname = \"pager\"\nkind = \"webhook\"\nurl_file = \"pager-url\"\nsecret_file = \"pager-secret\"\n\
         ca_file = \"pager-ca.pem\"\nevents = {events:?}\n"
    );
    let pem = ca.certificate();
    let prepare = move |dir: &Path| {
        std::fs::write(dir.join("pager-ca.pem"), pem)?;
        std::fs::write(dir.join("pager-url"), format!("https://127.0.0.1:{port}/hook\n"))?;
        std::fs::write(dir.join("pager-secret"), format!("{SECRET}\n"))?;
        Ok(())
    };
    let options = Options { config, policies: Some(policies), prepare: Some(Box::new(prepare)), ..Options::default() };
    Ok((World::with(options).await?, sink))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lets_themselves_in_waits_until_a_sink_has_accepted_the_notification() -> anyhow::Result<()> {
    let (world, sink) = telling(&[500]).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let alice = Person::log_in(&world, "alice").await?;
    let alone = Wish { cluster: CLUSTER.into(), roles: vec![Role::Admin], reason: Some("x".into()), ..Wish::default() };
    let Err(Error::Problem(refusal)) = oscar.certificate(&alone).await else { anyhow::bail!("no problem") };
    assert!(refusal.help[0].contains("--self-service"), "{refusal:?}");
    assert_eq!(
        code(break_glass::ask(&oscar.session, &ask(false)).await),
        Code::Refused,
        "nobody approves such a thing"
    );
    assert_eq!(code(break_glass::ask(&alice.session, &ask(true)).await), Code::Refused, "policy says who");

    let glass = break_glass::ask(&oscar.session, &ask(true)).await?;
    assert_eq!((glass.contents.approvals, glass.contents.self_service, glass.contents.ttl), (0, true, 600));
    sink.came(1).await;
    // it answered 500
    assert_eq!(code(break_glass::certificate(&oscar.session, &glass).await), Code::WrongState);
    let vote = break_glass::vote(&alice.session, &glass, Vote::Approve, None).await;
    assert_eq!(code(vote), Code::WrongState, "an approval does not stand for it");
    let open: Glass = break_glass::decided(&oscar.session, &glass).await?;
    assert_eq!((open.answer.state.as_str(), open.answer.told.as_deref()), ("approved", Some("pager")));
    let held = break_glass::certificate(&oscar.session, &open).await?;
    assert_eq!(held.answer.roles, [Role::Admin]);
    let life = held.answer.not_after.duration_since(world.clock.now());
    assert!(life <= SignedDuration::from_mins(10), "{life:?}");

    let came = sink.came(4).await;
    let kinds: Vec<_> = came.iter().map(|(_, body)| body["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["break-glass-request", "break-glass-request", "break-glass-told", "grant"].map(|kind| format!("ichor.{kind}"))
    );
    assert_eq!(came[0].1, came[1].1, "the same again");
    for (head, body) in &came {
        assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
        let key = BASE64.decode(SECRET.trim_start_matches("whsec_").as_bytes())?;
        let signed =
            format!("{}.{}.{}", header(head, "webhook-id"), header(head, "webhook-timestamp"), raw(&sink, body));
        let mac = BASE64.decode(header(head, "webhook-signature").trim_start_matches("v1,").as_bytes())?;
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes(), &mac)
            .map_err(|_| anyhow::anyhow!("{head}: the signature does not fit"))?;
    }
    Ok(())
}

/// The text that was read as this.
fn raw(sink: &Sink, body: &Value) -> String {
    let came = sink.came.lock().unwrap();
    came.iter().find(|(_, text)| serde_json::from_str::<Value>(text).unwrap() == *body).unwrap().1.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sink_nobody_lets_themselves_in() -> anyhow::Result<()> {
    let world = World::with(Options { policies: Some(ALONE), ..Options::default() }).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let Err(Error::Problem(refusal)) = break_glass::ask(&oscar.session, &ask(true)).await else {
        anyhow::bail!("no problem")
    };
    assert!(refusal.detail.contains("no notification sink"), "{refusal:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sinks_take_effect_while_the_broker_runs_and_bad_ones_do_not() -> anyhow::Result<()> {
    let world = World::with(Options { policies: Some(ALONE), ..Options::default() }).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    assert_eq!(code(break_glass::ask(&oscar.session, &ask(true)).await), Code::Refused, "there is no sink");

    let ca = Authority::new("sinks")?;
    let (sink, port) = Sink::new(&ca, &[]).await?;
    let path = world.dir.join("config.toml");
    let before = std::fs::read_to_string(&path)?;
    std::fs::write(world.dir.join("pager-ca.pem"), ca.certificate())?;
    std::fs::write(world.dir.join("pager-secret"), SECRET)?;
    let section = format!(
        "\n[[notify]]\nname = \"pager\"\nkind = \"webhook\"\nurl = \"https://127.0.0.1:{port}/\"\nca_file = \"pager-ca.pem\"\n\
         secret_file = \"pager-secret\"\n"
    );
    let check = async || {
        let checks = world.running.reload().await;
        checks.into_iter().find(|check| check.name == "notify").unwrap()
    };
    std::fs::write(&path, format!("{before}{section}"))?;
    assert!(check().await.ok);
    let glass = break_glass::ask(&oscar.session, &ask(true)).await?;
    let open = break_glass::decided(&oscar.session, &glass).await?;
    assert_eq!(open.answer.told.as_deref(), Some("pager"));
    let told = sink.came(2).await.len();

    std::fs::write(world.dir.join("pager-secret"), "short")?;
    let refused = check().await;
    assert!(!refused.ok && refused.detail.as_ref().is_some_and(|why| why.contains("whsec_")), "{refused:?}");
    break_glass::end(&oscar.session, glass.answer.id, break_glass::End::Revoke, None).await?;
    sink.came(told + 1).await;
    std::fs::write(world.dir.join("pager-secret"), SECRET)?;
    assert!(check().await.ok);

    std::fs::write(&path, before)?;
    assert!(check().await.ok);
    assert_eq!(code(break_glass::ask(&oscar.session, &ask(true)).await), Code::Refused, "it is gone again");
    Ok(())
}

/// A mail server on loopback: the first conversation, line by line.
async fn mail_server() -> anyhow::Result<(u16, tokio::task::JoinHandle<anyhow::Result<Vec<String>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let came = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 x\r\n").await?;
        let (mut came, mut is_data) = (Vec::new(), false);
        while let Some(line) = lines.next_line().await? {
            let answer = match line.split_whitespace().next().unwrap_or_default() {
                _ if is_data && line != "." => None,
                "." => Some("250 ok\r\n"),
                "EHLO" => Some("250-x\r\n250 AUTH PLAIN\r\n"),
                "AUTH" => Some("235 ok\r\n"),
                "DATA" => Some("354 go on\r\n"),
                _ => Some("250 ok\r\n"),
            };
            is_data = line == "DATA" || (is_data && line != ".");
            came.push(line.clone());
            if let Some(answer) = answer {
                write.write_all(answer.as_bytes()).await?;
            }
            if line == "." {
                break;
            }
        }
        Ok(came)
    });
    Ok((port, came))
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_sent_as_configured() -> anyhow::Result<()> {
    let (port, came) = mail_server().await?;
    let config = format!(
        "[[notify]]\nname = \"mail\"\nkind = \"smtp\"\nurl = \"smtp://127.0.0.1:{port}\"\nfrom = \"Ichor <ichor@example.com>\"\n\
         to = [\"ops@example.com\"]\nuser = \"ichor\"\npassword_file = \"mail-password\"\n"
    );
    let prepare = |dir: &Path| Ok(std::fs::write(dir.join("mail-password"), "a password\n")?);
    let options = Options { config, policies: Some(ALONE), prepare: Some(Box::new(prepare)), ..Options::default() };
    let world = World::with(options).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    break_glass::ask(&oscar.session, &ask(true)).await?;
    let came = came.await??;
    let has = |line: &str| came.iter().any(|known| known == line);
    assert!(has(&format!("AUTH PLAIN {}", BASE64.encode(b"\0ichor\0a password"))), "{came:?}");
    assert!(has("MAIL FROM:<ichor@example.com>") && has("RCPT TO:<ops@example.com>"), "{came:?}");
    assert!(has("reason: INC-42 etcd down"), "{came:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_overdue_when_it_is_configured_to_be() -> anyhow::Result<()> {
    ichor_standins::install_tls_provider();
    let config = "[break_glass]\nreview_within = \"2h\"\n";
    let policies = r#"
@id("anyone") @approvals("1") @max_ttl("10m")
permit (principal, action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
@id("approves") permit (principal, action == Action::"break-glass:approve", resource);
"#;
    let edits = vec![("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")];
    let options = Options { config: config.into(), policies: Some(policies), edits, ..Options::default() };
    let world = World::with(options).await?;
    let (oscar, alice) = (Person::log_in(&world, "oscar").await?, Person::log_in(&world, "alice").await?);
    let glass = break_glass::ask(&oscar.session, &ask(false)).await?;
    let glass = break_glass::vote(&alice.session, &glass, Vote::Approve, None).await?;
    break_glass::certificate(&oscar.session, &glass).await?;
    world.running.stop().await;

    let http = reqwest_client()?;
    let overdue = async |hours| {
        world.clock.advance(SignedDuration::from_hours(hours));
        let loaded = Folder::new(&world.dir).load()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let parts = Parts {
            clock: Arc::clone(&world.clock) as Arc<dyn Clock>,
            vault: Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?,
            listener: Some(listener),
            wrap_store: None,
            accept_clock: true,
            look: std::time::Duration::from_secs(24 * 3600),
        };
        let running = Running::start(&loaded, parts).await?;
        let url = format!("http://{}/readyz", running.health_address().unwrap());
        let check = loop {
            let ready: Value = http.get(&url).send().await?.json().await?;
            let found = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "break-glass reviews");
            if let Some(found) = found {
                break found.clone();
            }
        };
        let entries = ichor_broker::audit::entries(&*running.store(), &Default::default(), None, 500).await?.entries;
        running.stop().await;
        anyhow::Ok((
            check["ok"].as_bool().unwrap(),
            entries.iter().filter(|it| it.kind == "break-glass-overdue").count(),
        ))
    };
    assert_eq!(overdue(1).await?, (true, 0));
    assert_eq!(overdue(1).await?, (false, 1));
    assert_eq!(overdue(1).await?, (false, 1), "once a day");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a plain client for the health listener")]
fn reqwest_client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().tls_certs_only([]).no_proxy().build()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_cannot_be_is_refused_at_the_start() -> anyhow::Result<()> {
    for (section, why) in [
        ("name = \"A\"\nkind = \"slack\"\nurl = \"https://x.example/\"", "notify.name"),
        ("name = \"a\"\nkind = \"slack\"\nurl = \"http://x.example/\"", "notify.url"),
        ("name = \"a\"\nkind = \"webhook\"\nurl = \"https://x.example/\"", "notify.secret_file"),
        (
            "name = \"a\"\nkind = \"slack\"\nurl = \"https://x/\"\n[[notify]]\nname = \"a\"\nkind = \"slack\"\nurl = \"https://x/\"",
            "notify.name",
        ),
    ] {
        let config = format!("[[notify]]\n{section}\n");
        let Err(error) = World::with(Options { config, ..Options::default() }).await else { panic!("{section}") };
        assert!(format!("{error:#}").contains(why), "{section}: {error:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_line_that_no_grant_explains_is_told() -> anyhow::Result<()> {
    let nodelog = format!(
        "[nodelog]\ntcp = \"127.0.0.1:0\"\nheartbeat = \"off\"\n\n\
         [[nodelog_source]]\ncluster = \"{CLUSTER}\"\nnodes = {{ \"127.0.0.1\" = \"cp-1\" }}\n\n"
    );
    let (world, sink) = telling_of(&[], ALONE, &["node-alarm"], &nodelog).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let held = oscar.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?.answer;
    let now = world.clock.now();
    let line = |method: &str, roles: &str| {
        let (first, second) = (now.strftime("%Y/%m/%d %H:%M:%S"), now.strftime("%Y-%m-%dT%H:%M:%SZ"));
        let message =
            format!("machined {first} OK [/machine.MachineService/{method}] 1ms unary Success (talos-role={roles})");
        format!("{{\"msg\":\"{message}\",\"talos-service\":\"machined\",\"talos-time\":\"{second}\"}}\n")
    };
    let explained = line("Version", &format!("grant:{},os:reader,user:{}", held.grant_id, held.user));
    let address = world.running.node_addresses().0.unwrap();
    let mut node = tokio::net::TcpStream::connect(address).await?;
    node.write_all((explained + &line("Reboot", "os:admin")).as_bytes()).await?;
    let (_, told) = tokio::time::timeout(std::time::Duration::from_secs(30), sink.came(1)).await?.remove(0);
    let event = &told["data"]["entry"];
    assert_eq!(
        (told["type"].as_str(), event["cluster"].as_str()),
        (Some("ichor.node-alarm"), Some(CLUSTER)),
        "{told:#}"
    );
    let detail = &event["detail"];
    assert_eq!((detail["code"].as_str(), detail["node"].as_str()), (Some("unexplained"), Some("cp-1")), "{told:#}");
    assert_eq!(detail["method"].as_str(), Some("/machine.MachineService/Reboot"), "{told:#}");
    let alarms = world.entries().await?.into_iter().filter(|entry| entry.kind == "node-alarm").count();
    assert_eq!(alarms, 1, "the call that a grant explains is told to nobody");
    world.running.stop().await;
    Ok(())
}
