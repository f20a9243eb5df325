//! A certificate: its key made here, its request sent, its answer checked and kept for reuse.

use std::path::PathBuf;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use data_encoding::{BASE64, HEXLOWER};
use ichor_wire::api::{CertificateAnswer, CertificateRequest};
use ichor_wire::profile::pem;
use ichor_wire::role::Role;
use ichor_wire::talosconfig::{Ours, is_endpoint, is_fresh};
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::broker::Broker;
use crate::environment::Environment;
use crate::error::Error;
use crate::forms;
use crate::private_file;
use crate::session::{Session, no_home};

/// What is asked of the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The cluster's name at the broker.
    pub cluster: String,
    /// The roles; none asks for `os:reader`.
    pub roles: Vec<Role>,
    /// The lifetime in seconds; `None` asks for the broker's default.
    pub ttl: Option<u64>,
    /// Why.
    pub reason: Option<String>,
}

/// A certificate with its private key, as the broker answered it and as it is kept.
#[derive(Serialize, Deserialize)]
pub struct Held {
    /// The broker's answer.
    pub answer: CertificateAnswer,
    /// The private key, PEM with the label that Talos writes.
    #[serde(with = "forms::wiped")]
    pub key: Zeroizing<String>,
    /// The cluster made the key, not this machine: it came with the answer, where it is not kept a second time.
    #[serde(default)]
    pub key_made_by_cluster: bool,
}

/// Certificates kept for reuse, 0600, by broker, cluster and roles.
#[derive(Clone, Debug)]
pub struct CertificateStore {
    folder: PathBuf,
}

/// Makes a key, asks for a certificate for it, and checks that the answer is one. The key exists only in the result.
///
/// Where the cluster itself makes the certificates it makes the keys too: then the answer's key is the one in the result, and
/// the one made here is dropped, unused.
///
/// # Errors
/// The broker's refusal or problem, or an answer that is not for this key or grant.
pub async fn certificate(session: &Session, wish: &Wish) -> Result<Held, Error> {
    let request = |csr| CertificateRequest {
        csr,
        roles: wish.roles.iter().map(ToString::to_string).collect(),
        ttl: wish.ttl,
        reason: wish.reason.clone(),
    };
    issued(session, &["clusters", &wish.cluster, "certificates"], wish, request).await
}

/// As [`certificate`], asked for at this path with what `request` makes of the CSR.
pub(crate) async fn issued<T: Serialize>(
    session: &Session,
    path: &[&str],
    wish: &Wish,
    request: impl FnOnce(String) -> T,
) -> Result<Held, Error> {
    let key = Ed25519KeyPair::generate().map_err(|_| Error::Bug("no key could be made"))?;
    let pkcs8 = key.to_pkcs8v1().map_err(|_| Error::Bug("no key could be made"))?;
    let request = request(request_pem(pkcs8.as_ref())?);
    let mut answer: CertificateAnswer = session.broker().post(session, path, &request).await?;
    let other = || session.broker().not_a_broker("the certificate it answered is not the one asked for");
    let (key, pem, key_made_by_cluster) = match answer.private_key.take() {
        None => (key, talos_pem(pkcs8.as_ref()), false),
        Some(given) => {
            let (key, pem) = given_key(given.as_str()).ok_or_else(other)?;
            (key, pem, true)
        }
    };
    if !is_for(&answer, wish, key.public_key().as_ref()) {
        return Err(other());
    }
    if let Some(target) = not_a_target(&answer) {
        return Err(session.broker().not_a_broker(&format!("`{target}`, which it answered, is no host or address")));
    }
    Ok(Held { answer, key: pem, key_made_by_cluster })
}

/// What among the cluster's endpoints and nodes is neither a host nor an address: a talosconfig gets nothing else.
fn not_a_target(answer: &CertificateAnswer) -> Option<&str> {
    answer.endpoints.iter().chain(&answer.nodes).map(String::as_str).find(|target| !is_endpoint(target))
}

/// A key that the cluster made, written anew: nothing else that came with it is kept.
fn given_key(pem: &str) -> Option<(Ed25519KeyPair, Zeroizing<String>)> {
    let blocks = pem::blocks(pem).ok()?;
    let [block] = blocks.as_slice() else { return None };
    let key = Ed25519KeyPair::from_pkcs8(&block.der).ok().filter(|_| block.label == "ED25519 PRIVATE KEY")?;
    let pkcs8 = key.to_pkcs8v1().ok()?;
    let pem = talos_pem(pkcs8.as_ref());
    Some((key, pem))
}

// === impl Wish ===

impl Wish {
    /// The roles in one order, with the default made plain.
    #[must_use]
    pub fn effective_roles(&self) -> Vec<Role> {
        let mut roles = if self.roles.is_empty() { vec![Role::Reader] } else { self.roles.clone() };
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// Whether a certificate that is held already may serve: nothing was asked for that only a new one can have.
    #[must_use]
    pub fn may_reuse(&self) -> bool {
        self.ttl.is_none() && self.reason.is_none()
    }
}

// === impl Held ===

impl Held {
    /// Whether it still serves: valid, and a fifth of its life is left.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        is_fresh(self.answer.not_before, self.answer.not_after, now)
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("answer", &self.answer).finish_non_exhaustive()
    }
}

// === impl CertificateStore ===

impl CertificateStore {
    /// The store of this user.
    ///
    /// # Errors
    /// When there is no home to keep anything in.
    pub fn new(environment: &Environment) -> Result<Self, Error> {
        Ok(Self { folder: environment.state_dir().ok_or_else(no_home)?.join("certificates") })
    }

    /// Keeps it for reuse.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, broker: &Broker, held: &Held) -> Result<(), Error> {
        let mut roles = held.answer.roles.clone();
        roles.sort_unstable();
        let json = Zeroizing::new(serde_json::to_vec(held).map_err(|_| Error::Bug("a certificate is not JSON"))?);
        private_file::write(&self.file(&broker.url(), &held.answer.cluster, &roles), &json)
    }

    /// One that still serves this wish; no network is used.
    ///
    /// # Errors
    /// When there is one that others can read.
    pub fn find(&self, broker: &Broker, wish: &Wish) -> Result<Option<Held>, Error> {
        if !wish.may_reuse() {
            return Ok(None);
        }
        let path = self.file(&broker.url(), &wish.cluster, &wish.effective_roles());
        let Some(json) = private_file::read_secret(&path, 256 * 1024)? else { return Ok(None) };
        // A file of another version is as good as none.
        let held: Option<Held> = serde_json::from_str(&json).ok();
        Ok(held.filter(|held| held.is_fresh(broker.clock().now()) && not_a_target(&held.answer).is_none()))
    }

    /// Forgets every certificate of this broker.
    ///
    /// # Errors
    /// When one is there and cannot be removed.
    pub fn forget(&self, broker: &Broker) -> Result<(), Error> {
        let folder = self.folder.join(short_hash(&broker.url()));
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", &folder)(error)),
            _ => Ok(()),
        }
    }

    fn file(&self, broker: &str, cluster: &str, roles: &[Role]) -> PathBuf {
        let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let name = short_hash(&format!("{cluster}\0{}", roles.join("\0")));
        self.folder.join(short_hash(broker)).join(format!("{name}.json"))
    }
}

/// A short name for a file, by what it is about.
pub(crate) fn short_hash(text: &str) -> String {
    HEXLOWER.encode(Sha256::digest(text.as_bytes()).get(..8).unwrap_or_default())
}

/// A request that says nothing but the key: the broker takes nothing else from it.
fn request_pem(pkcs8: &[u8]) -> Result<String, Error> {
    let failed = |_| Error::Bug("no certificate request could be made");
    let key = rcgen::KeyPair::try_from(pkcs8).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)
}

/// The label that Talos writes: its body is PKCS#8 all the same.
fn talos_pem(pkcs8: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(BASE64.encode(pkcs8));
    let mut pem = Zeroizing::new(String::with_capacity(body.len() + 80));
    pem.push_str("-----BEGIN ED25519 PRIVATE KEY-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END ED25519 PRIVATE KEY-----\n");
    pem
}

/// Whether the answer is for our key, our cluster, no role beyond those asked for, and says of itself what it is.
fn is_for(answer: &CertificateAnswer, wish: &Wish, public_key: &[u8]) -> bool {
    let pem = x509_parser::pem::Pem::iter_from_buffer(answer.certificate.as_bytes()).find_map(Result::ok);
    let key = pem
        .as_ref()
        .and_then(|pem| pem.parse_x509().ok())
        .map(|certificate| certificate.public_key().subject_public_key.data.to_vec());
    // Not everyone who makes certificates can name the grant; one that is named must be the answer's.
    let grant = answer.grant_id.to_string();
    let Some(ours) = Ours::read_granted(answer.certificate.as_bytes(), &grant) else { return false };
    key.as_deref() == Some(public_key)
        && answer.cluster == wish.cluster
        && ours.grant == grant
        && ours.roles.iter().all(|role| wish.effective_roles().contains(role))
        && ours.not_after == answer.not_after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_has_the_label_that_talos_writes_and_reads_as_pkcs8() {
        let key = Ed25519KeyPair::generate().unwrap();
        let pem = talos_pem(key.to_pkcs8v1().unwrap().as_ref());
        assert!(pem.starts_with("-----BEGIN ED25519 PRIVATE KEY-----\n"));
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let again = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&BASE64.decode(body.as_bytes()).unwrap()).unwrap();
        assert_eq!(again.public_key().as_ref(), key.public_key().as_ref());
    }

    #[test]
    fn a_request_names_nobody() {
        let key = Ed25519KeyPair::generate().unwrap();
        let pem = request_pem(key.to_pkcs8v1().unwrap().as_ref()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        use x509_parser::prelude::FromDer;
        let (_, request) =
            x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).unwrap();
        assert_eq!(request.certification_request_info.subject.iter().count(), 0);
        request.verify_signature().unwrap();
    }

    #[test]
    fn a_time_or_a_reason_asks_for_a_new_one() {
        assert!(Wish::default().may_reuse());
        assert!(!Wish { ttl: Some(60), ..Wish::default() }.may_reuse());
        assert!(!Wish { reason: Some("x".into()), ..Wish::default() }.may_reuse());
        assert_eq!(Wish::default().effective_roles(), [Role::Reader]);
    }
}
