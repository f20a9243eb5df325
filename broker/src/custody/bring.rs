//! Brings a CA's key into Transit.

use std::collections::BTreeMap;

use super::ca::{CaMaterial, CreateError};
use super::settle_error::SettleError;
use super::transit::{self, TransitKeyError};
use super::wrap::wrap;
use crate::openbao::{KeyKind, TransitEngine};

/// The version of the Transit key that now is this CA's.
pub(super) async fn import(
    transit: &TransitEngine,
    mount: &str,
    name: &str,
    material: &CaMaterial,
    remarks: &mut Vec<String>,
) -> Result<u32, SettleError> {
    let algorithm = material.certificate().algorithm();
    let kind = KeyKind::of(algorithm).ok_or_else(|| SettleError::Kind(algorithm.to_string()))?;
    let version_of = |versions: &BTreeMap<u32, Vec<u8>>| {
        versions.iter().find(|(_, key)| *key == material.certificate().public_key()).map(|(version, _)| *version)
    };
    if let Some(found) = transit.key(name).await? {
        transit::check(name, &found)?;
        let version = version_of(&found.versions);
        let version = version.ok_or_else(|| SettleError::Other(format!("the Transit key `{mount}/{name}`")))?;
        if version < found.oldest_signing {
            return Err(TransitKeyError::TooOld { key: name.to_owned(), version, oldest: found.oldest_signing }.into());
        }
        remarks.push(format!("the Transit key `{mount}/{name}` held this CA's key already and is used"));
        return Ok(version);
    }
    let pkcs8 = material.signer().to_pkcs8().map_err(CreateError::from)?;
    let wrapping_key = transit.wrapping_key().await?;
    let wrapped = wrap(&wrapping_key, pkcs8.as_slice())?;
    if let Err(error) = transit.import(name, kind, &wrapped).await {
        // the server says only that it cannot decrypt
        let is_other = transit.wrapping_key().await.is_ok_and(|now| now != wrapping_key);
        return Err(if is_other { SettleError::WrappingKey(format!("{mount}/")) } else { error.into() });
    }
    let found = transit.key(name).await?.ok_or_else(|| TransitKeyError::Missing(format!("{mount}/{name}")))?;
    transit::check(name, &found)?;
    version_of(&found.versions).ok_or_else(|| SettleError::Swapped(format!("{mount}/{name}")))
}
