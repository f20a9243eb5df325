//! A broker in plain HTTP, spoken to byte by byte or by a client that follows no redirect.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ichor_broker::app::{Parts, Running};
use ichor_broker::clock::SystemClock;
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_standins::provider::{Provider, ProviderOptions};
use ichor_tests::run_command;
use ichor_wire::problem::{Code, Problem};
use reqwest::StatusCode;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use url::Url;

pub(super) const CALLBACK: &str = "http://127.0.0.1:45123/callback";

/// A broker in a folder of its own, on plain HTTP.
pub(crate) struct Plain {
    pub(super) running: Running,
    pub(super) base: String,
    /// Asked for discovery only.
    _provider: Provider,
    _folder: tempfile::TempDir,
}

impl Plain {
    /// A broker with these edits of `config.toml` as `init` wrote it, and these lines for its provider; `ISSUER` in them
    /// stands for a stand-in's.
    pub(crate) async fn start(edits: &[(&str, &str)], config: &str) -> anyhow::Result<Self> {
        Self::start_as("http://127.0.0.1:9", "127.0.0.1:0", edits, config).await
    }

    async fn start_as(url: &str, listen: &str, edits: &[(&str, &str)], config: &str) -> anyhow::Result<Self> {
        ichor_standins::install_tls_provider();
        let folder = tempfile::tempdir()?;
        let provider = Provider::start(ProviderOptions::default()).await?;
        let dir = folder.path().join("broker");
        run_command(&["init", &dir.to_string_lossy(), "--insecure-identity-beside", "--public-url", url]).await?;
        let path = dir.join("config.toml");
        let mut file = std::fs::read_to_string(&path)?;
        let listen = format!("listen = \"{}\"", listen.replace("FOLDER", &folder.path().to_string_lossy()));
        let tls = [("tls_certificate = \"tls/server.crt\"\n", ""), ("tls_key = \"tls/server.key\"\n", "")];
        let tls = if url.starts_with("https:") { tls.as_slice() } else { &[] };
        for (old, new) in [("listen = \"127.0.0.1:8443\"", listen.as_str())].iter().chain(edits).chain(tls) {
            anyhow::ensure!(file.contains(old), "`{old}` is not in config.toml");
            file = file.replace(old, new);
        }
        let folder_name = folder.path().to_string_lossy();
        file.push_str(&config.replace("ISSUER", provider.issuer()).replace("FOLDER", &folder_name));
        if !config.contains("[[provider]]") {
            let issuer = provider.issuer();
            file.push_str(&format!("\n[[provider]]\nalias = \"corp\"\nissuer = \"{issuer}\"\nclient_id = \"ichor\"\n"));
        }
        std::fs::write(&path, file)?;
        let loaded = Folder::new(&dir).load()?;
        let vault = Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?;
        let parts = Parts {
            clock: Arc::new(SystemClock),
            vault,
            listener: None,
            wrap_store: None,
            accept_clock: true,
            look: ichor_broker::app::LOOK,
        };
        let running = Running::start(&loaded, parts).await?;
        let base = running.address().map(|address| format!("http://{address}")).unwrap_or_default();
        Ok(Self { running, base, _provider: provider, _folder: folder })
    }

    /// Where an authorization request is sent on to.
    pub(super) async fn authorize(&self, redirect_uri: &str) -> anyhow::Result<Result<Url, StatusCode>> {
        self.authorize_from(None, redirect_uri).await
    }

    pub(super) async fn authorize_from(
        &self,
        address: Option<&str>,
        redirect_uri: &str,
    ) -> anyhow::Result<Result<Url, StatusCode>> {
        let digest = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let query = [
            ("response_type", "code"),
            ("client_id", "ichor"),
            ("redirect_uri", redirect_uri),
            ("code_challenge", digest),
            ("code_challenge_method", "S256"),
            ("state", "s"),
            ("dpop_jkt", digest),
            ("client_host", "laptop"),
        ];
        let url = Url::parse_with_params(&format!("{}/oauth/authorize", self.base), query)?;
        let mut request = http()?.get(url);
        if let Some(address) = address {
            request = request.header("x-forwarded-for", address);
        }
        let answer = request.send().await?;
        match answer.headers().get("location") {
            Some(to) => Ok(Ok(Url::parse(to.to_str()?)?)),
            None => Ok(Err(answer.status())),
        }
    }

    /// A request whose body does not come.
    pub(super) async fn stalled(&self, path: &str) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.running.address().unwrap()).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: b\r\nContent-Length: 10\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        Ok(stream)
    }

    /// The same for a form; returns once it is waited for.
    pub(super) async fn stalled_form(&self) -> anyhow::Result<TcpStream> {
        let mut stream = self.stalled("/oauth/token").await?;
        // sent when the body is asked for
        let mut answer = [0; 25];
        soon(stream.read_exact(&mut answer)).await?;
        anyhow::ensure!(answer.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&answer));
        Ok(stream)
    }

    pub(super) async fn problem(&self) -> anyhow::Result<Code> {
        Ok(http()?.get(format!("{}/v1/nothing", self.base)).send().await?.json::<Problem>().await?.code)
    }
}

#[expect(clippy::disallowed_methods, reason = "a client that follows no redirect")]
pub(super) fn http() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().tls_certs_only([]).build()?)
}

/// A deadline for what must come by itself: far beyond what it takes, and only there to end a failing test.
pub(super) async fn soon<T>(what: impl Future<Output = std::io::Result<T>>) -> anyhow::Result<T> {
    Ok(tokio::time::timeout(Duration::from_secs(10), what).await??)
}

pub(super) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    host: &str,
) -> anyhow::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_reached_as_and_where_it_is_configured() -> anyhow::Result<()> {
    let broker = Plain::start_as("https://ichor.example", "unix:FOLDER/broker.sock", &[], "").await?;
    let socket = broker._folder.path().join("broker.sock");
    // whoever connects is believed about addresses
    assert_eq!(std::fs::metadata(&socket)?.permissions().mode() & 0o777, 0o660);
    let metadata = ask(UnixStream::connect(socket).await?, "/.well-known/oauth-authorization-server", "evil.example");
    let metadata = metadata.await?;
    assert!(metadata.contains("\"issuer\":\"https://ichor.example\""), "{metadata}");
    assert!(metadata.contains("\"https://ichor.example/oauth/token\"") && !metadata.contains("evil"), "{metadata}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_believed() -> anyhow::Result<()> {
    let once = "\n[limits]\nper_address = 1\n";
    let trusting = [("[server]\n", "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n")];
    for (edits, second) in [(trusting.as_slice(), Code::NotLoggedIn), (&[], Code::TooManyRequests)] {
        let broker = Plain::start(edits, once).await?;
        let mut codes = Vec::new();
        for address in ["192.0.2.1", "192.0.2.2"] {
            let request = http()?.get(format!("{}/v1/session", broker.base)).header("x-forwarded-for", address);
            codes.push(request.send().await?.json::<Problem>().await?.code);
        }
        assert_eq!(codes, [Code::NotLoggedIn, second]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn paste_and_device_are_switched_on() -> anyhow::Result<()> {
    let device = [
        ("client_id", "ichor"),
        ("dpop_jkt", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("client_host", "laptop"),
    ];
    for (key, paste_on, device_on) in [("paste = false", true, false), ("device = false", false, true)] {
        let on = key.replace("false", "true");
        let broker = Plain::start(&[(key, &on)], "").await?;
        let paste = broker.authorize("http://127.0.0.1:9/oauth/paste").await?;
        assert_eq!(paste.is_ok(), paste_on, "{key}: {paste:?}");
        let began = http()?.post(format!("{}/oauth/device", broker.base)).form(&device).send().await?.status();
        assert_eq!(began.is_success(), device_on, "{key}: {began}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_is_sent_as_configured() -> anyhow::Result<()> {
    let provider = "\n[[provider]]\nalias = \"work\"\nissuer = \"ISSUER\"\nclient_id = \"talos-broker\"\n\
                    scopes = [\"openid\", \"roles\"]\nacr_values = [\"phr\", \"mfa\"]\nmax_age = \"3h\"\n\
                    authorize_params = { prompt = \"consent\" }\n";
    let broker = Plain::start(&[], provider).await?;
    let to = broker.authorize(CALLBACK).await?.unwrap();
    assert!(to.as_str().starts_with(&format!("{}/authorize?", broker._provider.issuer())), "{to}");
    let query: BTreeMap<_, _> = to.query_pairs().into_owned().collect();
    for (name, value) in [
        ("client_id", "talos-broker"),
        ("redirect_uri", "http://127.0.0.1:9/oauth/callback/work"),
        ("scope", "openid roles"),
        ("acr_values", "phr mfa"),
        ("max_age", "10800"),
        ("prompt", "consent"),
    ] {
        assert_eq!(query.get(name).map(String::as_str), Some(value), "{to}");
    }
    Ok(())
}

/// A provider that has nothing but its discovery document, over TLS under a CA of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_with_a_ca_of_its_own_is_believed() -> anyhow::Result<()> {
    ichor_standins::install_tls_provider();
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate.der().to_vec())], private)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let issuer = format!("https://localhost:{}", listener.local_addr()?.port());
    let serving = tokio::spawn(discovery(listener, tokio_rustls::TlsAcceptor::from(Arc::new(config)), issuer.clone()));

    let folder = tempfile::tempdir()?;
    let pem: PathBuf = folder.path().join("ca.pem");
    std::fs::write(&pem, certificate.pem())?;
    let provider = format!("\n[[provider]]\nalias = \"corp\"\nissuer = \"{issuer}\"\nclient_id = \"ichor\"\n");
    let believing = Plain::start(&[], &format!("{provider}ca_file = \"{}\"\n", pem.display())).await?;
    let to = believing.authorize(CALLBACK).await?.unwrap();
    assert!(to.as_str().starts_with(&issuer), "{to}");
    let doubting = Plain::start(&[], &provider).await?;
    let to = doubting.authorize(CALLBACK).await?.unwrap();
    assert!(to.as_str().starts_with(CALLBACK) && to.as_str().contains("error="), "{to}");
    serving.abort();
    Ok(())
}

async fn discovery(listener: TcpListener, tls: tokio_rustls::TlsAcceptor, issuer: String) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        // whoever does not believe the certificate hangs up
        let Ok(mut stream) = tls.accept(stream).await else { continue };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).await? == 0 {
                break;
            }
            head.extend_from_slice(&byte);
        }
        let document = serde_json::json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "keys": [],
        })
        .to_string();
        let length = document.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{document}");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
    }
}
