//! From provider sections to the login room's settings.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::file::File;
use super::folder::{read, read_toml};
use super::settings::{Settings, parse_duration};
use super::{ConfigError, Folder, provider as written};
use crate::domain::{ClaimsInForce, ProviderAlias};
use crate::identity::{BySubject, GroupsFrom, LocalGroups, Mapping};
use crate::login::{self, NonceKey, ProviderSettings, Recheck};

/// Builds the login room's settings; reads the secrets and groups files that they name.
///
/// # Errors
/// On the first value or file that does not fit.
pub fn login_settings(
    folder: &Folder,
    file: &File,
    settings: &Settings,
    nonce_key: NonceKey,
) -> Result<login::Settings, ConfigError> {
    let claims = ClaimsInForce::of(file.provider.iter().filter_map(|section| section.human_claim.as_deref()));
    let providers = file.provider.iter().map(|section| provider(folder, section, claims)).collect::<Result<_, _>>()?;
    let settings = login::Settings {
        public_url: settings.public_url.clone(),
        session_life: settings.session_life,
        idle: settings.session_idle,
        paste: file.session.paste,
        device: file.session.device,
        max_pending: settings.pending_logins,
        max_pending_of_one: settings.pending_per_address,
        minimum_client: settings.minimum_client,
        nonce_key,
        providers,
    };
    settings.check().map_err(|error| ConfigError::Value {
        path: folder.config(),
        key: "provider".into(),
        why: error.to_string(),
    })?;
    Ok(settings)
}

fn provider(
    folder: &Folder,
    section: &written::Provider,
    claims_in_force: ClaimsInForce,
) -> Result<ProviderSettings, ConfigError> {
    let value =
        |key: &str, why: String| ConfigError::Value { path: folder.config(), key: format!("provider.{key}"), why };
    let alias = ProviderAlias::new(&section.alias).map_err(|error| value("alias", error.to_string()))?;
    let client_secret = section.client_secret_file.as_deref().map(|path| secret(&folder.at(path))).transpose()?;
    let local_groups = match &section.groups_file {
        Some(path) => LocalGroups::new(load_groups(&folder.at(path))?),
        None => LocalGroups::default(),
    };
    let max_age = section.max_age.as_deref().map(|text| {
        parse_duration(text).ok_or_else(|| value("max_age", "write a duration above zero, as `12h`".into()))
    });
    Ok(ProviderSettings {
        mapping: Mapping {
            provider: alias,
            groups_claim: section.groups_claim.clone(),
            groups_from: match section.groups_from {
                written::GroupsFrom::IdToken => GroupsFrom::IdToken,
                written::GroupsFrom::Userinfo => GroupsFrom::Userinfo,
            },
            user_claims: section.user_claims.clone(),
            local_groups,
            human_claim: section.human_claim.clone(),
            claims_in_force,
        },
        issuer: section.issuer.clone(),
        client_id: section.client_id.clone(),
        client_secret,
        scopes: section.scopes.clone(),
        recheck: match section.recheck {
            written::Recheck::Refresh => Recheck::Refresh,
            written::Recheck::Userinfo => Recheck::Userinfo,
            written::Recheck::LoginOnly => Recheck::LoginOnly,
        },
        acr_values: section.acr_values.clone(),
        max_age: max_age.transpose()?,
        ca: section.ca_file.as_deref().map(|path| read(&folder.at(path)).map(String::into_bytes)).transpose()?,
        authorize_params: section.authorize_params.clone().into_iter().collect(),
        groups_file: section.groups_file.as_deref().map(|path| folder.at(path)),
    })
}

/// Every `groups_file` of the configuration.
#[must_use]
pub fn group_files(folder: &Folder, file: &File) -> Vec<PathBuf> {
    file.provider.iter().filter_map(|section| section.groups_file.as_deref()).map(|path| folder.at(path)).collect()
}

/// The groups of a `groups_file`.
///
/// # Errors
/// When it cannot be read or understood.
pub fn load_groups(path: &Path) -> Result<BySubject, ConfigError> {
    read_toml(path)
}

/// A secret from a file, without the newline that editors add.
fn secret(path: &Path) -> Result<SecretString, ConfigError> {
    let text = zeroize::Zeroizing::new(read(path)?);
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(ConfigError::Unreadable { path: path.into(), why: "it is empty".into() });
    }
    Ok(SecretString::from(secret))
}
