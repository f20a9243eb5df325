//! Takes the standing credential out of a talosconfig.

use super::cluster_facts::{FactsError, chosen};
use super::documents::{self, SecretText};
use crate::custody::{StandingCredential, StandingError};

/// Why a talosconfig gave no standing credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The file, or the context in it, cannot be read.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// A file of another kind.
    #[error("this is not a talosconfig; give the file that `talosctl --talosconfig` takes")]
    NotATalosconfig,
    /// The context names endpoints and no certificate or key.
    #[error(
        "the context has no certificate and key of its own (a login in the browser cannot be adopted); give a talosconfig \
         that has `crt` and `key`"
    )]
    NoPair,
    /// What it has is no standing credential.
    #[error(transparent)]
    Standing(#[from] StandingError),
}

/// The certificate and key of a talosconfig's context (`context`, else the current one, else the only one). The caller wipes
/// the text.
///
/// # Errors
/// When there are none, or they could not make certificates; nothing of the key is quoted.
pub fn adopt(text: &str, context: Option<&str>) -> Result<StandingCredential, AdoptError> {
    let documents = documents::read(text).map_err(FactsError::from)?;
    let document = documents.iter().find(|d| d.contexts.is_some()).ok_or(AdoptError::NotATalosconfig)?;
    let context = chosen(document, context)?;
    let certificate = context.crt.as_deref().filter(|text| !text.is_empty()).ok_or(AdoptError::NoPair)?;
    let key = context.key.as_ref().map(SecretText::as_str).filter(|text| !text.is_empty());
    let key = key.ok_or(AdoptError::NoPair)?;
    let certificate = documents::pem_text("crt", certificate).map_err(FactsError::from)?;
    let key = documents::pem_text("key", key).map_err(FactsError::from)?;
    Ok(StandingCredential::from_pem(&certificate, &key)?)
}
