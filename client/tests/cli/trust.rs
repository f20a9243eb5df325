//! Whom the binary believes: a TLS server under a CA of its own.

use std::sync::Arc;

use ichor_client::tls::Pin;
use ichor_standins::authority::{Authority, Leaf};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::world::{Ran, World};

/// A TLS server that answers everything with "not a broker"; being told so means that it was believed.
async fn server(ca: &Authority) -> String {
    let leaf = ca.issue(&Leaf::server(vec!["127.0.0.1".parse().unwrap()], vec!["localhost".into()])).unwrap();
    let chain = [leaf.certificate, ca.certificate()]
        .iter()
        .map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .collect();
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

fn believed(ran: &Ran) -> bool {
    assert_eq!(ran.code, 5, "{}", ran.transcript());
    let believed = ran.err.contains("answers 404");
    let named = ["name the broker's CA with `--ca FILE`", "is not the one that `ca_pin` in `"];
    assert!(believed || named.iter().any(|says| ran.err.contains(says)), "{}", ran.transcript());
    believed
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_ca_is_believed() {
    let (ours, other) = (Authority::new("corp").unwrap(), Authority::new("corp").unwrap());
    let url = server(&ours).await;
    let checks = move || {
        let world = World::new();
        world.write("ours.pem", &ours.certificate());
        world.write("other.pem", &other.certificate());
        let login = |ca: &[&str]| believed(&world.ichor(&[&["--broker", &url, "login"], ca].concat()));
        assert!(!login(&[]), "the system's CAs");
        assert!(login(&["--ca", "ours.pem"]));
        assert!(!login(&["--ca", "other.pem"]));
        let pin =
            |ca: &Authority| Pin::of(&CertificateDer::from_pem_slice(ca.certificate().as_bytes()).unwrap()).unwrap();
        for (settings, expected) in [
            ("ca_file = \"../../ours.pem\"".to_owned(), true),
            ("ca_file = \"../../other.pem\"".to_owned(), false),
            (format!("ca_pin = \"{}\"", pin(&ours)), true),
            (format!("ca_pin = \"{}\"", pin(&other)), false),
        ] {
            world.write(".config/ichor/config.toml", &format!("broker = \"{url}\"\n{settings}\n"));
            assert_eq!(login(&[]), expected, "{settings}");
        }
        // The file of the last one has the other CA's pin: to set a pin is no advice.
        let ran = world.ichor(&["--broker", &url, "login"]);
        assert!(
            ran.err.contains("its CA is not the one that `ca_pin` in `~/.config/ichor/config.toml` names"),
            "{}",
            ran.err
        );
        assert!(!ran.err.contains("name the broker's CA"), "{}", ran.err);
        std::fs::remove_file(world.path(".config/ichor/config.toml")).unwrap();
        let mut world = world;
        let bundle = world.path("ours.pem").display().to_string();
        world.set("SSL_CERT_FILE", &bundle);
        assert!(believed(&world.ichor(&["--broker", &url, "login"])));
        // The right CA, but the certificate is for another name: 127.0.0.2 is not in it.
        let elsewhere = url.replace("127.0.0.1", "127.0.0.2");
        assert_eq!(world.ichor(&["--broker", &elsewhere, "login"]).code, 5);
    };
    tokio::task::spawn_blocking(checks).await.unwrap();
}

/// Reading the system's CA certificates takes longer than most commands: a bundle that is not there would be noticed.
#[test]
fn a_broker_on_plain_loopback_needs_no_cas() {
    let mut world = World::new();
    world.set("SSL_CERT_FILE", "/nonexistent/bundle.pem");
    world.log_in(&[]).ok();
    world.ichor(&["clusters"]).ok();
    let ran = world.ichor(&["--broker", "https://127.0.0.1:1", "login"]);
    assert!(ran.err.contains("/nonexistent/bundle.pem"), "where TLS is spoken they are read: {}", ran.transcript());
}
