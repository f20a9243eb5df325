//! What is too many or takes too long, by the keys of `[limits]`.

use ichor_client::break_glass::{self, End};
use ichor_client::{Error, Wish};
use ichor_standins::provider::Endpoint;
use ichor_tests::{CLUSTER, Options, Person, World};
use ichor_wire::api::{BreakGlassAsk, BreakGlassLabel};
use ichor_wire::problem::{Code, Problem};
use jiff::SignedDuration;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::plain::{CALLBACK, Plain, ask, http, soon};

/// Longer than groups are believed.
const OLD: SignedDuration = SignedDuration::from_mins(6);

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed() -> anyhow::Result<()> {
    let health = [("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")];
    for limit in ["connections", "connections_per_address"] {
        let broker = Plain::start(&health, &format!("\n[limits]\n{limit} = 2\n")).await?;
        let connect = || TcpStream::connect(broker.running.address().unwrap());
        let mut all = [connect().await?, connect().await?, connect().await?];
        // one is closed without an answer, on some systems by a reset; which one it is depends on who is taken in first
        let [first, second, third] = &mut all;
        let closed = async {
            tokio::select! {
                read = first.read_u8() => Ok((0, read)),
                read = second.read_u8() => Ok((1, read)),
                read = third.read_u8() => Ok((2, read)),
            }
        };
        let (which, closed) = soon(closed).await?;
        assert!(closed.is_err(), "{limit}");
        for (index, stream) in all.iter().enumerate() {
            let silent = stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(index == which || silent, "{limit}: the others are kept");
        }
        let url = format!("http://{}/healthz", broker.running.health_address().unwrap());
        assert!(http()?.get(url).send().await?.status().is_success(), "{limit}: health has places of its own");
        // idle ones hold theirs, until they end
        drop(all);
        while ask(connect().await?, "/v1/nothing", "b").await.map_or(true, |answer| answer.is_empty()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Nobody who has no session makes the broker wait for a body.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_body_is_not_waited_for() -> anyhow::Result<()> {
    let broker = Plain::start(&[], "").await?;
    let mut answer = String::new();
    soon(broker.stalled("/v1/clusters/prod/certificates").await?.read_to_string(&mut answer)).await?;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    Ok(())
}

/// Forms come from strangers: those on their way take none of the places of requests under way, and an address has few.
#[tokio::test(flavor = "multi_thread")]
async fn forms_that_do_not_come_hold_nobody_up() -> anyhow::Result<()> {
    let broker = Plain::start(&[], "\n[limits]\nconcurrent = 1\n").await?;
    let _stalled = broker.stalled_form().await?;
    assert_eq!(broker.problem().await?, Code::NotFound);

    let broker = Plain::start(&[], "").await?;
    let mut stalled = Vec::new();
    for _ in 0..16 {
        stalled.push(broker.stalled_form().await?);
    }
    let mut answer = String::new();
    soon(broker.stalled("/device").await?.read_to_string(&mut answer)).await?;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_too_many_is_turned_away() -> anyhow::Result<()> {
    let world = limited("concurrent = 1").await?;
    let alice = Person::log_in(&world, "alice").await?;
    world.clock.advance(OLD);
    let mut hold = world.provider.hold(Endpoint::Token);
    let waiting = tokio::spawn(async move { alice.certificate(&wish()).await });
    hold.arrived(1).await;
    let problem: Problem = world.http()?.get(world.at("/v1/nothing")).send().await?.json().await?;
    assert_eq!(problem.code, Code::Unavailable);
    hold.release();
    waiting.await??;
    let problem: Problem = world.http()?.get(world.at("/v1/nothing")).send().await?.json().await?;
    assert_eq!(problem.code, Code::NotFound);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_ended() -> anyhow::Result<()> {
    // shorter than a provider may take, longer than anything else here does
    let world = limited("request_time = \"3s\"").await?;
    let alice = Person::log_in(&world, "alice").await?;
    world.clock.advance(OLD);
    let _hold = world.provider.hold(Endpoint::Token);
    match alice.certificate(&wish()).await {
        Err(Error::Problem(problem)) => assert_eq!(problem.code, Code::Timeout),
        other => panic!("{other:?}"),
    }
    Ok(())
}

async fn limited(limit: &str) -> anyhow::Result<World> {
    World::with(Options { config: format!("[limits]\n{limit}\n"), ..Options::default() }).await
}

fn wish() -> Wish {
    Wish { cluster: CLUSTER.into(), ..Wish::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_too_many_is_turned_away() -> anyhow::Result<()> {
    let broker = Plain::start(&[], "\n[limits]\npending_logins = 1\n").await?;
    let first = broker.authorize(CALLBACK).await?.unwrap();
    assert!(!first.as_str().starts_with(CALLBACK), "{first}");
    let second = broker.authorize(CALLBACK).await?.unwrap();
    assert!(second.as_str().starts_with(CALLBACK) && second.as_str().contains("error="), "{second}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_too_many_of_an_address_is_turned_away() -> anyhow::Result<()> {
    let trusting = [("[server]\n", "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n")];
    let broker = Plain::start(&trusting, "\n[limits]\npending_per_address = 1\n").await?;
    let mut back = Vec::new();
    for address in ["192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        back.push(broker.authorize_from(Some(address), CALLBACK).await?.unwrap().as_str().starts_with(CALLBACK));
    }
    assert_eq!(back, [false, true, false]);
    Ok(())
}

/// Who may ask, who approves, and who lets themselves in.
const GLASS: &str = r#"
@id("ask") @approvals("1") @max_ttl("30m")
permit (principal, action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
@id("alone") @self_service("true") @max_ttl("10m")
permit (principal, action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
@id("approve") permit (principal, action == Action::"break-glass:approve", resource);
"#;

fn asks(self_service: bool) -> BreakGlassAsk {
    BreakGlassAsk {
        cluster: CLUSTER.into(),
        roles: vec!["os:admin".into()],
        ttl: None,
        reason: "INC-42".into(),
        nodes: Vec::new(),
        ticket: None,
        self_service,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_more_often_than_configured() -> anyhow::Result<()> {
    let config = "[limits]\nrequests_per_hour = 2\n".to_owned();
    let world = World::with(Options { config, policies: Some(GLASS), ..Options::default() }).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    for _ in 0..2 {
        let glass = break_glass::ask(&oscar.session, &asks(false)).await?;
        break_glass::end(&oscar.session, glass.answer.id, End::Cancel, None).await?;
    }
    let Err(Error::Problem(problem)) = break_glass::ask(&oscar.session, &asks(false)).await else {
        anyhow::bail!("no problem")
    };
    assert_eq!(problem.code, Code::TooManyRequests);
    assert!(problem.detail.contains("within the hour") && problem.help[0].contains("approver"), "{problem:?}");
    world.clock.advance(SignedDuration::from_hours(1));
    break_glass::ask(&oscar.session, &asks(false)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_lets_themselves_in_again_before_a_review_where_that_is_configured() -> anyhow::Result<()> {
    ichor_standins::install_tls_provider();
    let sink = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", sink.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = sink.accept().await {
            tokio::spawn(async move {
                let mut chunk = [0; 64 * 1024];
                // whatever comes is taken
                while stream.read(&mut chunk).await.is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        }
    });
    let config = "[limits]\nunreviewed_self_service = 1\n\n\
         [[notify]]\nname = \"pager\"\nkind = \"slack\"\nurl_file = \"sink-url\"\nevents = [\"break-glass\"]\n"
        .to_owned();
    let prepare = move |dir: &std::path::Path| Ok(std::fs::write(dir.join("sink-url"), url)?);
    let options = Options { config, policies: Some(GLASS), prepare: Some(Box::new(prepare)), ..Options::default() };
    let world = World::with(options).await?;
    let (oscar, alice) = (Person::log_in(&world, "oscar").await?, Person::log_in(&world, "alice").await?);
    let glass = break_glass::ask(&oscar.session, &asks(true)).await?;
    let open = break_glass::decided(&oscar.session, &glass).await?;
    break_glass::certificate(&oscar.session, &open).await?;
    let Err(Error::Problem(problem)) = break_glass::ask(&oscar.session, &asks(true)).await else {
        anyhow::bail!("no problem")
    };
    assert_eq!(problem.code, Code::TooManyRequests);
    assert!(problem.detail.contains("wait for a review") && problem.help[0].contains("review"), "{problem:?}");
    break_glass::ask(&oscar.session, &asks(false)).await?;
    let label = BreakGlassLabel { label: "drill".into(), note: "a drill".into() };
    break_glass::review(&alice.session, glass.answer.id, &label).await?;
    break_glass::ask(&oscar.session, &asks(true)).await?;
    Ok(())
}

/// One address that begins logins without end takes neither the places nor the time of the others.
#[tokio::test(flavor = "multi_thread")]
async fn logins_are_limited_by_address() -> anyhow::Result<()> {
    let trusting = [("[server]\n", "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n")];
    let broker = Plain::start(&trusting, "\n[limits]\nper_address = 2\n").await?;
    let mut answers = Vec::new();
    for address in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        answers.push(broker.authorize_from(Some(address), CALLBACK).await?.err());
    }
    assert_eq!(answers, [None, None, Some(StatusCode::TOO_MANY_REQUESTS), None]);
    Ok(())
}
