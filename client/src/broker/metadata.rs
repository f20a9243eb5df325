//! What the broker says of itself.

use http::{HeaderMap, Method};
use serde::Deserialize;
use url::Url;

use super::{Broker, VERSION};
use crate::error::Error;
use crate::forms;

/// What the broker's authorization server says of itself (RFC 8414), as far as we use it.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    /// Must equal the broker's URL.
    pub issuer: String,
    /// Where the browser goes.
    #[serde(deserialize_with = "forms::url")]
    pub authorization_endpoint: Url,
    /// Where a code becomes a token.
    #[serde(deserialize_with = "forms::url")]
    pub token_endpoint: Url,
    /// Where a session ends.
    #[serde(default, deserialize_with = "forms::optional_url")]
    pub revocation_endpoint: Option<Url>,
    /// Where a device login starts, if the broker allows one.
    #[serde(default, deserialize_with = "forms::optional_url")]
    pub device_authorization_endpoint: Option<Url>,
    /// The aliases of the broker's providers.
    #[serde(default)]
    pub ichor_providers: Vec<String>,
    /// The broker's page that shows a code to paste, if it allows that.
    #[serde(default, deserialize_with = "forms::optional_url")]
    pub ichor_paste_redirect_uri: Option<Url>,
    /// The oldest client that the broker serves.
    #[serde(default)]
    pub ichor_minimum_client_version: Option<String>,
}

// === impl Broker ===

impl Broker {
    /// What the broker's authorization server says of itself. Its endpoints are the broker's own: another host's are
    /// refused, and so is a broker for which this client is too old.
    ///
    /// # Errors
    /// When the broker cannot be reached or is not one.
    pub async fn metadata(&self) -> Result<Metadata, Error> {
        let url = self.at("/.well-known/oauth-authorization-server")?;
        let answer = self.send(Method::GET, &url, HeaderMap::new(), None).await?;
        if !answer.status.is_success() {
            return Err(self.not_a_broker(&format!("it answers {} for its metadata", answer.status.as_u16())));
        }
        let metadata: Metadata =
            serde_json::from_slice(&answer.body).map_err(|_| self.not_a_broker("its metadata cannot be read"))?;
        if metadata.issuer.trim_end_matches('/') != self.url() {
            return Err(self.not_a_broker(&format!("it calls itself `{}`", metadata.issuer)));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint].into_iter();
        let optional = [
            &metadata.revocation_endpoint,
            &metadata.device_authorization_endpoint,
            &metadata.ichor_paste_redirect_uri,
        ];
        for endpoint in endpoints.chain(optional.into_iter().flatten()) {
            self.own_page(endpoint, "its metadata")?;
        }
        if let Some(minimum) =
            metadata.ichor_minimum_client_version.as_deref().filter(|minimum| is_older(VERSION, minimum))
        {
            let message = format!("this client is {VERSION}; the broker takes {minimum} and later");
            return Err(Error::failed(message, format!("install ichor {minimum}")));
        }
        Ok(metadata)
    }
}

/// Whether `version` is older than `minimum`, by its three numbers. What cannot be read is not older.
fn is_older(version: &str, minimum: &str) -> bool {
    let numbers =
        |text: &str| text.split(['.', '-']).take(3).map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>();
    matches!((numbers(version), numbers(minimum)), (Some(version), Some(minimum)) if version < minimum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(is_older("0.9.0", "0.10.0"));
        assert!(!is_older("0.10.0", "0.10.0"));
        assert!(!is_older("1.0.0", "0.10.0"));
        assert!(!is_older("0.1.0", "soon"));
    }
}
