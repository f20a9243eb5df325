//! Mail, to a server that keeps what it is given.

use std::sync::Arc;
use std::sync::Mutex;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpListener;

use super::super::courier::Step;
use super::*;

/// What a mail server does with the mail of one recipient.
#[derive(Clone, Copy, Debug)]
enum Post {
    Takes,
    /// Answers RCPT with this code.
    Refuses(u16),
    /// Answers the message with this code.
    Says(u16),
    Hangs,
    /// Says this much without an end of a line at RCPT.
    Babbles(usize),
}

/// For whoever has this in their address, one after another; then everything is taken.
type Plan = (&'static str, Post);

/// A mail server: every line that came, and every message that it took.
#[derive(Default)]
struct Server {
    plan: Mutex<Vec<Plan>>,
    /// What it answers to AUTH, one after another; then it lets everyone in.
    logins: Mutex<Vec<u16>>,
    /// Where it greets nobody before it may.
    greets: Option<tokio::sync::Semaphore>,
    lines: Mutex<Vec<String>>,
    mails: Mutex<Vec<String>>,
}

/// The TLS of a mail server: when it begins.
#[derive(Clone)]
enum Secured {
    No,
    AtOnce(tokio_rustls::TlsAcceptor),
    WhenAsked(tokio_rustls::TlsAcceptor),
}

impl Server {
    async fn new(plan: &[Plan], secured: Secured) -> (Arc<Self>, u16) {
        Self { plan: Mutex::new(plan.to_vec()), ..Self::default() }.open(secured).await
    }

    async fn open(self, secured: Secured) -> (Arc<Self>, u16) {
        ichor_standins::install_tls_provider();
        let server = Arc::new(self);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, secured) = (Arc::clone(&serving), secured.clone());
                tokio::spawn(async move {
                    match secured {
                        Secured::No => drop(server.talk(BufStream::new(stream), true, false).await),
                        Secured::AtOnce(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                let _ = server.talk(BufStream::new(stream), true, false).await;
                            }
                        }
                        Secured::WhenAsked(tls) => {
                            if let Ok(Some(stream)) = server.talk(BufStream::new(stream), true, true).await
                                && let Ok(stream) = tls.accept(stream.into_inner()).await
                            {
                                let _ = server.talk(BufStream::new(stream), false, false).await;
                            }
                        }
                    }
                });
            }
        });
        (server, port)
    }

    /// Speaks SMTP until the end, or until TLS is asked for: then the stream is given back.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: BufStream<S>,
        greets: bool,
        offers_tls: bool,
    ) -> std::io::Result<Option<BufStream<S>>> {
        if greets {
            if let Some(greets) = &self.greets {
                self.lines.lock().unwrap().push("CONNECTED".into());
                drop(greets.acquire().await);
            }
            say(&mut stream, "220 mx.example").await?;
        }
        let mut one = Post::Takes;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            self.lines.lock().unwrap().push(line.trim_end().to_owned());
            match line.split_whitespace().next().unwrap_or_default() {
                "EHLO" if offers_tls => say(&mut stream, "250-mx.example\r\n250 STARTTLS").await?,
                "EHLO" => say(&mut stream, "250-mx.example\r\n250 AUTH PLAIN").await?,
                "STARTTLS" => {
                    say(&mut stream, "220 go on").await?;
                    return Ok(Some(stream));
                }
                "AUTH" => {
                    let code = self.logins.lock().unwrap().pop().unwrap_or(235);
                    say(&mut stream, &format!("{code} so it is")).await?;
                }
                "RCPT" => {
                    one = self.planned(&line);
                    match one {
                        Post::Refuses(code) => say(&mut stream, &format!("{code} no")).await?,
                        Post::Babbles(bytes) => {
                            stream.write_all(&vec![b'2'; bytes]).await?;
                            self.lines.lock().unwrap().push("BABBLED".into());
                            stream.flush().await?;
                            std::future::pending().await
                        }
                        _ => say(&mut stream, "250 ok").await?,
                    }
                }
                "DATA" => {
                    say(&mut stream, "354 go on").await?;
                    let mut mail = String::new();
                    while !mail.ends_with("\r\n.\r\n") {
                        stream.read_line(&mut mail).await?;
                    }
                    match one {
                        Post::Says(code) => say(&mut stream, &format!("{code} no")).await?,
                        Post::Hangs => std::future::pending().await,
                        _ => {
                            self.mails.lock().unwrap().push(mail);
                            say(&mut stream, "250 ok").await?;
                        }
                    }
                }
                "QUIT" => {
                    say(&mut stream, "221 bye").await?;
                    return Ok(None);
                }
                _ => say(&mut stream, "250 ok").await?,
            }
        }
    }

    fn planned(&self, line: &str) -> Post {
        let mut plan = self.plan.lock().unwrap();
        let place = plan.iter().position(|(who, _)| line.contains(who));
        place.map_or(Post::Takes, |place| plan.remove(place).1)
    }

    fn has_heard(&self, verb: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.starts_with(verb))
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, line: &str) -> std::io::Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    stream.flush().await
}

/// A server's TLS, and the PEM of its certificate.
fn tls() -> (tokio_rustls::TlsAcceptor, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let chain = vec![CertificateDer::from(made.cert.der().to_vec())];
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    (tokio_rustls::TlsAcceptor::from(Arc::new(config)), made.cert.pem().into_bytes())
}

fn mail(port: u16, security: MailSecurity, ca: Option<Vec<u8>>) -> Settings {
    let to = MailSink {
        host: "127.0.0.1".into(),
        port,
        security,
        ca,
        login: Some(("ichor".into(), "a-password".into())),
        hello: "ichor.example.com".into(),
        from: "Ichor <ichor@example.com>".parse().unwrap(),
        to: vec!["ops@example.com".parse().unwrap(), "\"On Call\" <gone@example.com>".parse().unwrap()],
    };
    Settings {
        name: "pager".into(),
        events: Event::ALL.into_iter().collect(),
        classes: None,
        to: Destination::Mail(to),
    }
}

#[tokio::test]
async fn a_mail_says_what_happened_in_plain_text() {
    let glass = Glass::new().await;
    let (server, port) = Server::new(&[], Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    let id = glass.asked().await;
    assert_eq!(courier.step().await, Ok(Step::Sent));
    let mails = server.mails.lock().unwrap().clone();
    assert_eq!(mails.len(), 2, "one for each recipient");
    let entry = glass.entries().await.pop().unwrap();
    let (head, body) = mails[0].split_once("\r\n\r\n").unwrap();
    for header in [
        "From: Ichor <ichor@example.com>",
        "Subject: [ichor] Break-glass: someone asks for access (prod)",
        &format!("Message-ID: <{}@example.com>", entry.id),
        "Date: Sun, 22 Nov 2026 12:00:00 +0000",
        "Auto-Submitted: auto-generated",
    ] {
        assert!(head.lines().any(|line| line == header), "{header} in {head}");
    }
    assert!(body.contains("reason: INC-42\r\n"), "{body}");
    assert!(body.contains(&format!("next: ichor break-glass approve {}\r\n", id.0)), "{body}");
    assert!(server.has_heard("EHLO ichor.example.com") && server.has_heard("AUTH PLAIN"));
}

/// What is in the log was checked when it was typed; who sends it on does not rely on that.
#[tokio::test]
async fn nothing_that_was_typed_makes_a_header() {
    use ichor_wire::log::{Content, Kind};
    let glass = Glass::new().await;
    let (server, port) = Server::new(&[], Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    let content = Content {
        cluster: Some("prod\r\nBcc: c@evil.example\r\n\r\nx".into()),
        reason: Some("x\r\n.\r\nMAIL FROM:<evil@example.com>\r\n".into()),
        ..Content::of(Kind::BreakGlassRequest)
    };
    glass.room.sequencer.note(content, None).await.unwrap();
    assert_eq!(courier.step().await, Ok(Step::Sent));
    let mails = server.mails.lock().unwrap().clone();
    let (head, body) = mails[0].split_once("\r\n\r\n").unwrap();
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    assert!(body.contains("reason: x  .  MAIL FROM:<evil@example.com>"), "{body}");
    assert_eq!(server.lines.lock().unwrap().iter().filter(|line| line.starts_with("MAIL")).count(), 2);
}

#[tokio::test]
async fn a_recipient_that_is_gone_keeps_nobody_else_from_being_told() {
    let glass = Glass::new().await;
    let (server, port) = Server::new(&[("gone@", Post::Refuses(550))], Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    glass.asked().await;
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!(server.mails.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_mail_server_that_fails_gets_it_again_and_one_that_refuses_holds_up_nothing() {
    let glass = Glass::new().await;
    // once for each recipient; three times before it is left behind
    let each = |post: Post| [("ops@", post), ("gone@", post)];
    let [busy, full, no, gone] = [Post::Says(451), Post::Refuses(450), Post::Says(554), Post::Refuses(550)].map(each);
    let plan = [busy, full, no, gone, no].concat();
    let (server, port) = Server::new(&plan, Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    let from = cursor(&glass).await;
    glass.asked().await;
    glass.asked().await;
    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(courier.step().await.unwrap_err().why);
        assert_eq!(cursor(&glass).await, from);
    }
    let answers = |code: u16| format!("the mail server answers {code}");
    assert_eq!(said, [answers(451), answers(450), answers(554), answers(550)]);
    assert_eq!(courier.step().await, Ok(Step::Sent), "the one behind it");
    assert_eq!((cursor(&glass).await, server.mails.lock().unwrap().len()), (from + 2, 2));
}

/// How many mails came for whoever has this in their address.
fn came_for(server: &Server, who: &str) -> usize {
    server.lines.lock().unwrap().iter().filter(|line| line.starts_with("RCPT") && line.contains(who)).count()
}

#[tokio::test]
async fn a_full_mailbox_keeps_nobody_from_being_told_and_floods_nobody() {
    let glass = Glass::new().await;
    // five times for the first message, and once for the second
    let (server, port) = Server::new(&[("gone@", Post::Refuses(452)); 6], Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    let from = cursor(&glass).await;
    glass.asked().await;
    glass.asked().await;
    for _ in 0..4 {
        assert_eq!(courier.step().await.unwrap_err().why, "the mail server answers 452");
        assert_eq!((cursor(&glass).await, came_for(&server, "ops@")), (from, 1), "who has it gets it once");
    }
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!(courier.without(), Some("recipient 2 of 2: the mail server answers 452"));
    assert_eq!((came_for(&server, "ops@"), came_for(&server, "gone@")), (1, 5));
    assert_eq!(courier.step().await, Ok(Step::Sent), "nobody waits for it again");
    assert_eq!((cursor(&glass).await, server.mails.lock().unwrap().len()), (from + 2, 2));
    glass.asked().await;
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!((courier.without(), server.mails.lock().unwrap().len()), (None, 4), "it takes mail again");
}

#[tokio::test]
async fn a_mail_server_that_says_too_much_is_read_no_further() {
    let glass = Glass::new().await;
    let (server, port) = Server::new(&[("@", Post::Babbles(64 * 1024 * 1024)); 2], Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    glass.asked().await;
    let refused = courier.step().await.unwrap_err();
    assert!(refused.why.contains("it says more than 128 KiB"), "{refused}");
    assert!(!server.has_heard("BABBLED"), "it is not read to the end");
}

/// Goes on with what is being sent until that is so.
async fn until(step: &mut (impl Future<Output: std::fmt::Debug> + Unpin), mut is_so: impl FnMut() -> bool) {
    let going = async {
        while !is_so() {
            assert!(futures_util::poll!(&mut *step).is_pending());
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), going).await.expect("in time");
}

async fn let_pass(time: std::time::Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_mail_server_that_hangs_is_given_up_in_time_and_holds_up_nobody_else() {
    let glass = Glass::new().await;
    let (server, port) = Server::new(&[("ops@", Post::Hangs)], Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    let from = cursor(&glass).await;
    glass.asked().await;
    {
        let mut step = std::pin::pin!(courier.step());
        let is_first = || came_for(&server, "ops@") == 1 && server.mails.lock().unwrap().len() == 1;
        until(&mut step, is_first).await;
        let_pass(super::super::mail::DEADLINE).await;
        let refused = step.await.unwrap_err();
        assert!(refused.why.contains("in time"), "{refused}");
    }
    assert_eq!(cursor(&glass).await, from);
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!((came_for(&server, "ops@"), came_for(&server, "gone@")), (2, 1));
}

/// Postscreen lets a client wait for its greeting for six seconds.
#[tokio::test]
async fn a_mail_server_may_take_its_time_to_greet() {
    let glass = Glass::new().await;
    let greets = Some(tokio::sync::Semaphore::new(0));
    let (server, port) = Server { greets, ..Server::default() }.open(Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    glass.asked().await;
    let connected = || server.lines.lock().unwrap().iter().filter(|line| *line == "CONNECTED").count();
    let mut step = std::pin::pin!(courier.step());
    until(&mut step, || connected() == 2).await;
    let_pass(std::time::Duration::from_secs(8)).await;
    server.greets.as_ref().unwrap().close();
    assert_eq!(step.await, Ok(Step::Sent));
    assert_eq!(server.mails.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_mail_server_that_lets_nobody_in_for_a_while_loses_no_notification() {
    let glass = Glass::new().await;
    // both recipients six times, and then one of them once more
    let logins = Mutex::new(vec![535; 13]);
    let (server, port) = Server { logins, ..Server::default() }.open(Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    let from = cursor(&glass).await;
    glass.asked().await;
    for _ in 0..7 {
        assert_eq!(courier.step().await.unwrap_err().why, "the mail server answers 535");
        assert_eq!((cursor(&glass).await, courier.behind()), (from, None));
    }
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!((courier.without(), server.mails.lock().unwrap().len()), (None, 2));
}

/// Else a full disk would have everyone mailed every half minute.
#[tokio::test]
async fn whoever_was_told_is_not_told_again_when_that_cannot_be_recorded() {
    use crate::store::faulty::Fault;
    let glass = Glass::new().await;
    let (server, port) = Server::new(&[("gone@", Post::Refuses(550)); 2], Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    let from = cursor(&glass).await;
    glass.asked().await;
    glass.room.store.add([Fault::Before, Fault::Before]);
    for _ in 0..2 {
        assert!(courier.step().await.unwrap_err().why.contains("a test's fault"));
    }
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!(courier.without(), Some("recipient 2 of 2: the mail server answers 550"));
    assert_eq!((cursor(&glass).await, came_for(&server, "ops@"), came_for(&server, "gone@")), (from + 1, 1, 1));
}

/// While nobody has it, no try counts.
#[tokio::test]
async fn only_what_somebody_has_is_tried_so_often_and_no_more() {
    let glass = Glass::new().await;
    let busy = [("ops@", Post::Says(451)), ("gone@", Post::Says(451))];
    let plan = [busy.repeat(6), vec![("gone@", Post::Says(451))]].concat();
    let (server, port) = Server::new(&plan, Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::None, None)).await;
    glass.asked().await;
    for _ in 0..6 {
        assert!(courier.step().await.is_err());
    }
    assert!(courier.step().await.is_err(), "the first has it, and the second is tried again");
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!((courier.without(), server.mails.lock().unwrap().len()), (None, 2));
}

#[tokio::test]
async fn mail_goes_over_tls_to_whom_the_certificate_names() {
    let glass = Glass::new().await;
    let (acceptor, ca) = tls();
    for (secured, security) in [
        (Secured::AtOnce(acceptor.clone()), MailSecurity::Tls),
        (Secured::WhenAsked(acceptor.clone()), MailSecurity::StartTls),
    ] {
        let (server, port) = Server::new(&[], secured).await;
        let mut sound = courier(&glass, mail(port, security, Some(ca.clone()))).await;
        glass.asked().await;
        assert_eq!(sound.step().await, Ok(Step::Sent), "{security:?}");
        assert_eq!(server.mails.lock().unwrap().len(), 2);
        // another's certificate
        let mut wrong = courier(&glass, mail(port, security, Some(tls().1))).await;
        glass.asked().await;
        assert!(wrong.step().await.is_err(), "{security:?}");
        assert_eq!(server.mails.lock().unwrap().len(), 2);
        while sound.step().await == Ok(Step::Sent) {}
    }
}

#[tokio::test]
async fn without_starttls_nothing_is_sent() {
    let glass = Glass::new().await;
    let (server, port) = Server::new(&[], Secured::No).await;
    let mut courier = courier(&glass, mail(port, MailSecurity::StartTls, None)).await;
    glass.asked().await;
    assert!(courier.step().await.is_err());
    assert!(server.has_heard("EHLO") && !server.has_heard("AUTH") && !server.has_heard("MAIL"), "{:?}", server.lines);
}
