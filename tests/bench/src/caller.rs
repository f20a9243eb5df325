//! A session as the wire has it, and the requests for certificates that it makes.

use anyhow::Context;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ichor_client::dpop::{DpopKey, ProofOf};
use ichor_client::session::KeptIn;
use ichor_client::{Environment, SessionStore};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use url::Url;

use crate::connection::{Target, header};
use crate::world::World;

/// Whoever asks for certificates of one cluster.
pub(crate) struct Caller {
    token: String,
    key: DpopKey,
    url: Url,
    nonce: String,
}

// === impl Caller ===

impl Caller {
    /// Logs in with the client's library and takes token and key from where it keeps them.
    pub(crate) async fn log_in(world: &World, target: &Target) -> anyhow::Result<Self> {
        let session = world.log_in().await?;
        let kept = SessionStore::new(&Environment::isolated(world.scratch()))?.save(&session)?;
        let KeptIn::File(file) = kept else { anyhow::bail!("the session went into a keyring") };
        let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let text = |name: &str| kept.get(name).and_then(|value| value.as_str()).context("another form of session file");
        let key = DpopKey::from_pkcs8(BASE64_STANDARD.decode(text("key")?)?.into())?;
        let url = world.url.join("v1/clusters/prod/certificates")?;
        let mut caller = Self { token: text("token")?.into(), key, url, nonce: String::new() };
        caller.renew(target).await?;
        Ok(caller)
    }

    /// Asks for certificates of this cluster from now on.
    pub(crate) fn turn_to(&mut self, cluster: &str) -> anyhow::Result<()> {
        self.url = self.url.join(&format!("/v1/clusters/{cluster}/certificates"))?;
        Ok(())
    }

    /// Takes the broker's nonce of now.
    pub(crate) async fn renew(&mut self, target: &Target) -> anyhow::Result<()> {
        let answer = target.connect().await?.send(&self.request(None)?).await?;
        self.nonce = header(&answer.head, "dpop-nonce").context("the broker gave no nonce")?.into();
        Ok(())
    }

    /// So many requests, each with a key, a signing request and a proof of its own.
    pub(crate) fn requests(&self, count: u64) -> anyhow::Result<Vec<Vec<u8>>> {
        let half = count / 2;
        std::thread::scope(|scope| {
            let make =
                |count| move || (0..count).map(|_| self.request(Some(&self.nonce))).collect::<Result<Vec<_>, _>>();
            let other = scope.spawn(make(half));
            let mut requests = make(count - half)()?;
            requests.extend(other.join().map_err(|_| anyhow::anyhow!("a thread failed"))??);
            Ok(requests)
        })
    }

    /// A whole HTTP request with a key, a signing request and a proof of its own.
    fn request(&self, nonce: Option<&str>) -> anyhow::Result<Vec<u8>> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
        let body = serde_json::to_vec(&serde_json::json!({ "csr": csr }))?;
        let of = ProofOf { method: "POST", url: &self.url, token: Some(&self.token), nonce, body: Some(&body) };
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs in the machine's own time")]
        let proof = self.key.proof(of, Timestamp::now())?;
        let mut request = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nauthorization: DPoP {}\r\ndpop: {proof}\r\ncontent-type: application/json\r\n\
             ichor-client-version: {}\r\ncontent-length: {}\r\n\r\n",
            self.url.path(),
            self.url.authority(),
            self.token,
            env!("CARGO_PKG_VERSION"),
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        Ok(request)
    }
}
