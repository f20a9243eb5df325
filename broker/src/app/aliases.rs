//! Whether each provider's alias still belongs to the issuer that it was pinned to.

use std::collections::BTreeMap;

use crate::config::Loaded;
use crate::domain::ProviderAlias;
use crate::login::another_issuer;
use crate::store::{Store, StoreError};

/// By alias, what is wrong with each provider of the configuration whose alias was pinned to another issuer: nobody could log in
/// there. Nothing is pinned.
///
/// # Errors
/// When the store cannot be read.
pub async fn foreign_issuers(loaded: &Loaded, store: &dyn Store) -> Result<BTreeMap<String, String>, StoreError> {
    let mut foreign = BTreeMap::new();
    for section in &loaded.file.provider {
        // one that is no alias is refused with the provider's other settings
        let Ok(alias) = ProviderAlias::new(&section.alias) else { continue };
        if let Some(pinned) = store.pinned_issuer(&alias).await?.filter(|pinned| *pinned != section.issuer) {
            foreign.insert(section.alias.clone(), another_issuer(&alias, &section.issuer, &pinned));
        }
    }
    Ok(foreign)
}
