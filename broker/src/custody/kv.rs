//! A CA whose certificate and key are one secret version of KV.

mod powers;

use data_encoding::BASE64;
use ichor_wire::profile::{CaCertificate, pem};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub(super) use powers::warning;

use super::ca::CaMaterial;
use super::{LocalSigner, LockedBytes};
use crate::openbao::{BaoError, Kind, Kv, Version};

/// A CA read from KV, and the version that it is.
#[derive(Debug)]
pub struct KvCa {
    /// Certificate and key.
    pub material: CaMaterial,
    /// The secret's version.
    pub version: u64,
}

/// Why a secret is no CA.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The server said no.
    #[error(transparent)]
    Bao(#[from] BaoError),
    /// No such secret, or deleted.
    #[error(
        "there is no secret at `{0}`: where the CA was moved or replaced since this record was written, bring the newer record (`ca/CLUSTER.toml` of \
         the vault); where the secret was deleted, `bao kv undelete` brings it back; where there never was one, `ichor-broker ca create \
         --custody kv --reason …` or `ca import --custody kv --reason …` writes one"
    )]
    Missing(String),
    /// Another version was written than the one that was to be written over.
    #[error(
        "another version of the secret at `{0}` was written meanwhile; look at who writes there, then run this again"
    )]
    Raced(String),
    /// Something in it is wrong.
    #[error("the secret at `{path}` is no CA: {why}")]
    Content {
        /// Mount and path.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// The secret's fields. The key is base64, which JSON escapes nowhere, so that reading makes no copy of it.
#[derive(Serialize, Deserialize)]
struct Fields<'a> {
    certificate: String,
    key: &'a str,
}

/// The CA that is there now. Certificate: PEM, or its base64. Key: base64 of PKCS#8, or of PEM, as Talos' own files have it.
///
/// # Errors
/// When there is none that can be used.
pub async fn read(kv: &Kv, mount: &str, path: &str) -> Result<KvCa, KvError> {
    let version = kv.read(path).await?.ok_or_else(|| KvError::Missing(format!("{mount}/{path}")))?;
    let material = material(&version).map_err(|why| KvError::Content { path: format!("{mount}/{path}"), why })?;
    Ok(KvCa { material, version: version.number })
}

/// Returns the version that now holds this CA, if version `over` was the newest (0: there was none).
///
/// # Errors
/// When another was written meanwhile, or the server said no.
pub async fn write(kv: &Kv, mount: &str, path: &str, ca: &CaMaterial, over: u64) -> Result<u64, KvError> {
    let key = ca.signer().to_pkcs8().map_err(|e| KvError::Content { path: path.into(), why: e.to_string() })?;
    let key = Zeroizing::new(BASE64.encode(key.as_slice()));
    let fields = Fields { certificate: ca.certificate().pem(), key: &key };
    kv.write(path, &fields, over).await.map_err(|error| match error.kind() {
        Kind::Refused(words) if words.contains("check-and-set") => KvError::Raced(format!("{mount}/{path}")),
        _ => error.into(),
    })
}

fn material(version: &Version) -> Result<CaMaterial, String> {
    const SHAPE: &str = "it needs the fields `certificate` (PEM) and `key` (base64 of PEM or PKCS#8)";
    let fields: Fields<'_> = version.data().map_err(|_| SHAPE.to_owned())?;
    let certificate = if fields.certificate.trim_start().starts_with("-----BEGIN") {
        fields.certificate
    } else {
        let bytes = BASE64.decode(fields.certificate.trim().as_bytes()).map_err(|_| SHAPE)?;
        String::from_utf8(bytes).map_err(|_| SHAPE)?
    };
    let len = BASE64.decode_len(fields.key.len()).map_err(|_| SHAPE)?;
    let mut key = LockedBytes::zeroed(len);
    let len = BASE64.decode_mut(fields.key.as_bytes(), key.as_mut_slice()).map_err(|_| SHAPE)?;
    key.truncate(len);
    let certificate = CaCertificate::parse(&certificate).map_err(|error| error.to_string())?;
    let signer = match std::str::from_utf8(key.as_slice()) {
        Ok(text) if text.trim_start().starts_with("-----BEGIN") => {
            let blocks = pem::blocks(text).map_err(|error| error.to_string())?;
            let key = blocks.iter().find(|block| block.label.ends_with("PRIVATE KEY")).ok_or(SHAPE)?;
            LocalSigner::from_der(&key.der)
        }
        _ => LocalSigner::from_der(key.as_slice()),
    };
    CaMaterial::new(certificate, signer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}
