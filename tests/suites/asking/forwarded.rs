//! The log forwarded: as lines into a file, to a collector over TLS, and what is refused at the start.

use std::sync::Arc;

use ichor_standins::authority::{Authority, Leaf};
use ichor_tests::{Options, World};
use ichor_wire::api::AuditEntry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_forwarded_as_lines() -> anyhow::Result<()> {
    let world = world("[[forward]]\nname = \"siem\"\nkind = \"jsonl\"\npath = \"data/audit.jsonl\"\n").await?;
    let size = world.running.store().head().await?.size;
    while world.running.store().forward_cursor("siem").await?.map_or(0, |row| row.next) < size {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let text = std::fs::read_to_string(world.dir.join("data/audit.jsonl"))?;
    let entries: Vec<AuditEntry> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert!(entries.len() >= usize::try_from(size)?);
    assert!(entries.iter().map(|entry| entry.index).eq(0..u64::try_from(entries.len())?));
    Ok(())
}

/// A collector with TLS of its own CA that answers one request and hands over what came.
async fn collector(ca: &Authority) -> anyhow::Result<(u16, tokio::task::JoinHandle<anyhow::Result<String>>)> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let made = ca.issue(&Leaf::server(vec!["127.0.0.1".parse()?], Vec::new()))?;
    let chain = vec![CertificateDer::from_pem_slice(made.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes())?;
    let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let came = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = acceptor.accept(stream).await?;
        let (mut came, mut chunk) = (Vec::new(), [0; 16384]);
        loop {
            let count = stream.read(&mut chunk).await?;
            came.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&came).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.to_lowercase();
            let length = length.split_once("content-length: ").unwrap().1.lines().next().unwrap().parse::<usize>()?;
            if body.len() >= length {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await?;
                stream.shutdown().await?;
                return Ok(text);
            }
        }
    });
    Ok((port, came))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_forwarded_to_a_collector_as_configured() -> anyhow::Result<()> {
    ichor_standins::install_tls_provider();
    let ca = Authority::new("collectors")?;
    let (port, came) = collector(&ca).await?;
    let pem = ca.certificate();
    let config = format!(
        "[[forward]]\nname = \"otel\"\nkind = \"otlp\"\nurl = \"https://127.0.0.1:{port}\"\nca_file = \"otel-ca.pem\"\n\
         token_file = \"otel-token\"\n"
    );
    let prepare = move |dir: &std::path::Path| {
        std::fs::write(dir.join("otel-ca.pem"), pem)?;
        std::fs::write(dir.join("otel-token"), "a-token\n")?;
        Ok(())
    };
    let options = Options { config, prepare: Some(Box::new(prepare)), ..Options::default() };
    let _world = World::with(options).await?;
    let came = came.await??;
    assert!(came.starts_with("POST /v1/logs HTTP/1.1\r\n"), "{came}");
    assert!(came.to_lowercase().contains("authorization: bearer a-token\r\n"), "{came}");
    assert!(came.contains("ichor.audit.start"), "{came}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarding_that_cannot_be_is_refused_at_the_start() -> anyhow::Result<()> {
    for (section, why) in [
        ("name = \"A\"\nkind = \"jsonl\"\npath = \"x\"", "forward.name"),
        ("name = \"a\"\nkind = \"jsonl\"", "forward.path"),
        ("name = \"a\"\nkind = \"otlp\"", "forward.url"),
        ("name = \"a\"\nkind = \"otlp\"\nurl = \"http://otel.example.com\"", "forward.url"),
        (
            "name = \"a\"\nkind = \"jsonl\"\npath = \"x\"\n[[forward]]\nname = \"a\"\nkind = \"jsonl\"\npath = \"y\"",
            "forward.name",
        ),
    ] {
        let Err(error) = world(&format!("[[forward]]\n{section}\n")).await else { panic!("{section}") };
        assert!(format!("{error:#}").contains(why), "{section}: {error:#}");
    }
    Ok(())
}
