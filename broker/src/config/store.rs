//! `[store]`, and the Postgres part of it checked. The comments of the section are the reference, as in [`super::file`].

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::settings::parse_duration;
use super::{ConfigError, File, Folder};
use crate::regular::{self, Links};
use crate::store::postgres::{Address, AddressError, Options, TlsFiles};

/// Where state and the log live.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The SQLite database, on a local disk. Of no use with `url_file`.
    #[serde(default = "default_database")]
    pub path: PathBuf,
    /// A file with the `postgres://user:password@host/database` URL of a PostgreSQL database (15 or newer), for one broker or
    /// several. The server's certificate is verified (`sslmode=verify-full`); only on a Unix socket (`?host=/run/postgresql`) or
    /// loopback may TLS be left out (`sslmode=disable`). Absent: SQLite.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// For Postgres: the CA that signed the server's certificate, PEM; no other is then believed. Absent: the system's roots.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// For Postgres: the broker's client certificate and its chain, PEM, where the server asks for one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// For Postgres: the key of the client certificate, PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// For Postgres: connections of this broker at once.
    #[serde(default = "default_store_connections")]
    pub connections: usize,
    /// For Postgres: the longest that one call may take, with waiting for a connection and for other brokers. At most half of
    /// `limits.request_time`.
    #[serde(default = "default_store_deadline")]
    pub deadline: String,
}

/// Where the Postgres database is and how it is used. The URL is in a file, read when it is needed: it holds a password.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// The file with the URL.
    pub url_file: PathBuf,
    /// What TLS goes by.
    pub tls: TlsFiles,
    /// How the database is used.
    pub options: Options,
}

// === impl Store ===

impl Default for Store {
    fn default() -> Self {
        Self {
            path: default_database(),
            url_file: None,
            ca_file: None,
            certificate: None,
            key: None,
            connections: default_store_connections(),
            deadline: default_store_deadline(),
        }
    }
}

fn default_database() -> PathBuf {
    "data/ichor.db".into()
}

fn default_store_connections() -> usize {
    8
}

fn default_store_deadline() -> String {
    "10s".into()
}

// === impl Postgres ===

impl Postgres {
    /// The settings of a file in its folder; `None` for SQLite.
    ///
    /// # Errors
    /// On the first value that does not fit.
    pub(super) fn check(folder: &Folder, file: &File, request_time: Duration) -> Result<Option<Self>, ConfigError> {
        let section = &file.store;
        let value = |key: &str, why: &str| ConfigError::Value {
            path: folder.config(),
            key: format!("store.{key}"),
            why: why.into(),
        };
        let Some(url_file) = &section.url_file else {
            let unused = [("ca_file", &section.ca_file), ("certificate", &section.certificate), ("key", &section.key)];
            return match unused.into_iter().find(|(_, given)| given.is_some()) {
                Some((key, _)) => Err(value(key, "it is for Postgres; name the database with `url_file`")),
                None => Ok(None),
            };
        };
        let client = match (&section.certificate, &section.key) {
            (Some(certificate), Some(key)) => Some((folder.at(certificate), folder.at(key))),
            (None, None) => None,
            _ => return Err(value("certificate", "name both `certificate` and `key`, or neither")),
        };
        if section.connections < 2 {
            return Err(value("connections", "it must be at least 2: one appends while others read"));
        }
        let deadline = parse_duration(&section.deadline)
            .ok_or_else(|| value("deadline", "write a duration above zero, as `5s`"))?
            .unsigned_abs();
        if deadline > request_time / 2 {
            return Err(value("deadline", "at most half of `limits.request_time`, so that people get its answer"));
        }
        Ok(Some(Self {
            url_file: folder.at(url_file),
            tls: TlsFiles { ca: section.ca_file.as_ref().map(|path| folder.at(path)), client },
            options: Options { connections: section.connections, deadline, ..Options::default() },
        }))
    }

    /// Reads where the database is.
    ///
    /// # Errors
    /// When the file cannot be read or holds no URL of a database.
    pub fn address(&self) -> Result<Address, AddressError> {
        let text = regular::read_text(&self.url_file, regular::LINE, Links::Followed)
            .map_err(|error| AddressError::Unreadable { path: self.url_file.clone(), why: error.to_string() })?;
        Address::parse(&text.into(), self.tls.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::store::StoreError;
    use crate::store::postgres::PostgresStore;

    /// The settings of a folder whose `[store]` says this; `files` lie in it.
    fn settings(store: &str, files: &[(&str, &str)]) -> Result<(tempfile::TempDir, Postgres), ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let server = "[server]\npublic_url = \"http://127.0.0.1:8080\"\nlisten = \"127.0.0.1:8080\"\n";
        std::fs::write(folder.path().join("config.toml"), format!("{server}[store]\n{store}")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let loaded = Folder::new(folder.path()).load()?;
        Ok((folder, loaded.settings.postgres.unwrap()))
    }

    async fn open(postgres: &Postgres) -> Result<PostgresStore, StoreError> {
        PostgresStore::open(&postgres.address().unwrap(), &postgres.options).await
    }

    async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://someone:secret@127.0.0.1:{}/records", listener.local_addr().unwrap().port());
        (listener, url)
    }

    /// A message as Postgres frames it, without its length.
    async fn message(stream: &mut TcpStream) -> Vec<u8> {
        let length = stream.read_u32().await.unwrap();
        let mut message = vec![0; length as usize - 4];
        stream.read_exact(&mut message).await.unwrap();
        message
    }

    #[tokio::test]
    async fn the_database_is_reached_where_its_file_says() {
        let (listener, url) = listener().await;
        let (_folder, postgres) =
            settings("url_file = \"url\"\n", &[("url", &format!("{url}?sslmode=disable\n"))]).unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            String::from_utf8_lossy(&message(&mut stream).await).into_owned()
        };
        let (opened, hello) = tokio::join!(open(&postgres), server);
        assert!(hello.contains("user\0someone\0") && hello.contains("database\0records\0"), "{hello:?}");
        assert!(hello.contains("-c synchronous_commit=on "), "{hello:?}");
        let error = opened.err().unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn a_call_takes_no_longer_than_configured() {
        let (listener, url) = listener().await;
        let store = "url_file = \"url\"\ndeadline = \"200ms\"\n";
        let (_folder, postgres) = settings(store, &[("url", &format!("{url}?sslmode=disable"))]).unwrap();
        let began = tokio::time::Instant::now();
        let error = open(&postgres).await.err().unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert!(error.to_string().contains("deadline"), "{error}");
        drop(listener);
        let late = settings("url_file = \"url\"\ndeadline = \"16s\"\n", &[]).unwrap_err();
        assert!(late.to_string().contains("half of"), "{late}");
    }

    fn signed_by(ca: &Issuer<'_, KeyPair>, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, ca).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[tokio::test]
    async fn the_server_is_verified_and_shown_the_certificate_as_configured() {
        use rustls_pki_types::pem::PemObject;

        let authority = || {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            (pem, Issuer::new(params, key))
        };
        let ((ca_pem, ca), (other_pem, _)) = (authority(), authority());
        let (chain, key) = signed_by(&ca, "127.0.0.1");
        let (own, own_key) = signed_by(&ca, "broker");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let asks = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(asks.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        for (trusted, is_right) in [(&ca_pem, true), (&other_pem, false)] {
            let (listener, url) = listener().await;
            let store = "url_file = \"url\"\nca_file = \"ca\"\ncertificate = \"own\"\nkey = \"own.key\"\n";
            let files = [("url", url.as_str()), ("ca", trusted), ("own", &own), ("own.key", &own_key)];
            let (_folder, postgres) = settings(store, &files).unwrap();
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert_eq!(
                    message(&mut stream).await,
                    80_877_103_u32.to_be_bytes(),
                    "TLS is asked for before all else"
                );
                stream.write_all(b"S").await.unwrap();
                let tls = acceptor.accept(stream).await.ok()?;
                tls.get_ref().1.peer_certificates().map(|shown| shown[0].to_vec())
            };
            let (opened, shown) = tokio::join!(open(&postgres), server);
            let error = opened.err().unwrap().to_string();
            let expected = CertificateDer::from_pem_slice(own.as_bytes()).unwrap().to_vec();
            assert_eq!(shown, is_right.then_some(expected), "{error}");
            assert_eq!(error.contains("invalid peer certificate"), !is_right, "{error}");
        }
        let half = settings("url_file = \"url\"\ncertificate = \"own\"\n", &[]).unwrap_err();
        assert!(half.to_string().contains("neither"), "{half}");
        let unused = settings("ca_file = \"ca\"\n", &[]).unwrap_err();
        assert!(unused.to_string().contains("url_file"), "{unused}");
    }
}
