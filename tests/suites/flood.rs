//! Floods over HTTP/2, frame by frame: the connection ends after a bounded amount, and everyone else is served.
//! CVE-2023-44487 (rapid reset), CVE-2025-8671 (MadeYouReset), RUSTSEC-2024-0332 (CONTINUATION without an end), DATA without bytes
//! or an end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ichor_tests::World;
use reqwest::StatusCode;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Frame types, flags (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// How long a flood may go on: far more than it needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

/// `GET /v1/session` in HPACK: indexed method and scheme, path and authority as literals (RFC 7541 §6).
fn request() -> Vec<u8> {
    let literal = |name: u8, value: &str| [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    [vec![0x82, 0x87], literal(0x04, "/v1/session"), literal(0x01, "localhost")].concat()
}

/// Sends the frames until the broker has had enough; answers how many bytes it took. Fails where it never has.
async fn flood(world: &World, frames: impl Fn(u32) -> Vec<u8> + Send + 'static, most: u32) -> anyhow::Result<usize> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.tls_ca.as_bytes())?)?;
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(world.url.host_str().context("no host")?.to_owned())?;
    let stream = TcpStream::connect(world.running.address().context("no address")?).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (mut answers, mut requests) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        let mut sent = 0;
        if requests.write_all(&opening).await.is_err() {
            return (sent, requests);
        }
        for number in 0..most {
            let frames = frames(number);
            if requests.write_all(&frames).await.is_err() {
                break;
            }
            sent += frames.len();
        }
        // not closed from this side: the broker ends it, or nobody does
        (sent, requests)
    });
    let mut heard = [0; 16 * 1024];
    let reading = async { while answers.read(&mut heard).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(PATIENCE, reading).await.context("the broker never ended the connection")?;
    Ok(writing.await?.0)
}

async fn others_are_served(world: &World) -> anyhow::Result<()> {
    let answer = world.http()?.get(world.at("/v1/session")).timeout(Duration::from_secs(10)).send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

/// Streams by the hundred thousand, each a request with this frame of its stream behind it.
async fn streams(behind: impl Fn(u32) -> Vec<u8> + Send + 'static) -> anyhow::Result<()> {
    const BATCH: u32 = 500;
    let world = World::start().await?;
    let request = request();
    let batch = move |number: u32| {
        let one = |at: u32| {
            let stream = 1 + 2 * (number * BATCH + at);
            [frame(HEADERS, END_STREAM | END_HEADERS, stream, &request), behind(stream)].concat()
        };
        (0..BATCH).flat_map(one).collect()
    };
    let sent = flood(&world, batch, 400).await?;
    assert!(sent < 10 << 20, "{sent} bytes were taken");
    others_are_served(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn case_03_streams_that_are_reset_at_once_end_the_connection() -> anyhow::Result<()> {
    // CANCEL
    streams(|stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn case_03_streams_that_the_broker_is_made_to_reset_end_the_connection() -> anyhow::Result<()> {
    // an increment of 0 is a stream error (RFC 9113 §6.9)
    streams(|stream| frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn case_03_data_without_bytes_or_an_end_ends_the_connection() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (first, more) = (request(), frame(DATA, 0, 1, &[]).repeat(10_000));
    let frames = move |number: u32| match number {
        0 => frame(HEADERS, END_HEADERS, 1, &first),
        _ => more.clone(),
    };
    let sent = flood(&world, frames, 2000).await?;
    assert!(sent < 100 << 20, "{sent} bytes were taken");
    others_are_served(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn case_03_headers_without_an_end_end_the_connection() -> anyhow::Result<()> {
    let world = World::start().await?;
    // a header of one letter and a hundred more, again and again, within the largest frame that is taken unasked
    let header = [&[0x00, 1, b'a', 100][..], &[b'x'; 100]].concat();
    let (first, more) = (request(), header.repeat(150));
    let frames = move |number: u32| match number {
        0 => frame(HEADERS, END_STREAM, 1, &first),
        _ => frame(CONTINUATION, 0, 1, &more),
    };
    let sent = flood(&world, frames, 2000).await?;
    assert!(sent < 10 << 20, "{sent} bytes were taken");
    others_are_served(&world).await
}
