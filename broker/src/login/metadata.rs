//! The authorization server's metadata (RFC 8414).

use serde::Serialize;

use super::Login;

/// `/.well-known/oauth-authorization-server`.
#[derive(Clone, Debug, Serialize)]
pub struct Metadata {
    /// Our issuer: the configured `public_url`, never what a request's Host says.
    pub issuer: String,
    /// Where a browser begins.
    pub authorization_endpoint: String,
    /// Where a code becomes a session.
    pub token_endpoint: String,
    /// Where a session is ended (RFC 7009).
    pub revocation_endpoint: String,
    /// Where a device login begins (RFC 8628), where that is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_authorization_endpoint: Option<String>,
    /// Only codes.
    pub response_types_supported: [&'static str; 1],
    /// Codes, and device codes where that is on.
    pub grant_types_supported: Vec<&'static str>,
    /// Only S256.
    pub code_challenge_methods_supported: [&'static str; 1],
    /// The client holds no secret.
    pub token_endpoint_auth_methods_supported: [&'static str; 1],
    /// The same for revocation.
    pub revocation_endpoint_auth_methods_supported: [&'static str; 1],
    /// Proofs are signed so (RFC 9449 §5.1).
    pub dpop_signing_alg_values_supported: [&'static str; 1],
    /// Redirects back carry `iss` (RFC 9207).
    pub authorization_response_iss_parameter_supported: bool,
    /// The providers' aliases.
    pub ichor_providers: Vec<String>,
    /// The redirect URI of the page that shows a code to paste, where that is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ichor_paste_redirect_uri: Option<String>,
    /// The oldest client that is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ichor_minimum_client_version: Option<String>,
}

impl Login {
    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        let settings = &self.settings;
        let mut grants = vec!["authorization_code"];
        if settings.device {
            grants.push(super::device::GRANT_TYPE);
        }
        Metadata {
            issuer: settings.base_url().into(),
            authorization_endpoint: self.at("/oauth/authorize"),
            token_endpoint: self.at("/oauth/token"),
            revocation_endpoint: self.at("/oauth/revoke"),
            device_authorization_endpoint: settings.device.then(|| self.at("/oauth/device")),
            response_types_supported: ["code"],
            grant_types_supported: grants,
            code_challenge_methods_supported: ["S256"],
            token_endpoint_auth_methods_supported: ["none"],
            revocation_endpoint_auth_methods_supported: ["none"],
            dpop_signing_alg_values_supported: [ichor_wire::dpop::ALGORITHM],
            authorization_response_iss_parameter_supported: true,
            ichor_providers: settings.providers.iter().map(|one| one.alias().to_string()).collect(),
            ichor_paste_redirect_uri: settings.paste.then(|| self.paste_uri()),
            ichor_minimum_client_version: settings.minimum_client.map(|version| version.to_string()),
        }
    }

    /// A URL of ours.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.settings.base_url())
    }

    pub(super) fn paste_uri(&self) -> String {
        self.at("/oauth/paste")
    }
}
