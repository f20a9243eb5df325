//! The OpenID providers: `[[provider]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// An OpenID provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its alias, `[a-z0-9-]+`: policies name groups as `alias/group`. Pinned to its issuer at first use: another issuer needs an
    /// alias of its own.
    pub alias: String,
    /// Its issuer URL, exactly as its discovery document says it.
    pub issuer: String,
    /// The broker's client id there.
    pub client_id: String,
    /// A file with the client secret, for confidential clients.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// A CA certificate (PEM) for the provider's TLS, beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Scopes to ask for.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// The claim that lists groups; a path as `realm_access.roles` reaches into objects.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// Whether groups come from the `id-token` or from `userinfo`.
    #[serde(default)]
    pub groups_from: GroupsFrom,
    /// Claims that may become `user:` in certificates, in order; name only claims that people cannot edit themselves. An `email`
    /// beside which `email_verified` is not true is passed over.
    #[serde(default = "default_user_claims")]
    pub user_claims: Vec<String>,
    /// The claim that tells which human is behind an account, as an employee's number, where people have several accounts; name
    /// one that people cannot edit themselves and that all providers tell alike. Whoever has none can neither ask nor approve.
    #[serde(default)]
    pub human_claim: Option<String>,
    /// How groups are asked again during a session: `refresh` (by refresh token), `userinfo` (by access token), or
    /// `login-only` (never; then keep sessions short).
    #[serde(default)]
    pub recheck: Recheck,
    /// Authentication contexts to ask for; needed where policies speak of `acr`.
    #[serde(default)]
    pub acr_values: Vec<String>,
    /// Ask the provider for `auth_time`, and for a new login when the last one is older than this; needed where policies
    /// speak of `auth_age`.
    #[serde(default)]
    pub max_age: Option<String>,
    /// Further parameters of the authorization request, as `prompt = "consent"`.
    #[serde(default)]
    pub authorize_params: BTreeMap<String, String>,
    /// A TOML file that maps people to groups (`"subject" = ["group", …]`), where the provider has none. Loaded anew when it changes; a session has
    /// it when its groups are asked again, with `login-only` at the next login.
    #[serde(default)]
    pub groups_file: Option<PathBuf>,
}

/// Where groups come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupsFrom {
    /// The ID token.
    #[default]
    IdToken,
    /// The userinfo endpoint.
    Userinfo,
}

/// How groups are asked again during a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recheck {
    /// By refresh token.
    #[default]
    Refresh,
    /// By access token at the userinfo endpoint.
    Userinfo,
    /// Never.
    LoginOnly,
}

// === defaults ===

fn default_scopes() -> Vec<String> {
    ["openid", "profile", "email", "groups", "offline_access"].map(String::from).into()
}

fn default_groups_claim() -> String {
    "groups".into()
}

fn default_user_claims() -> Vec<String> {
    ["email", "preferred_username"].map(String::from).into()
}
