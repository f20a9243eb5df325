//! Who may sign in, and which programs may ask.

use serde_json::{Map, Value};
use url::Url;

/// Someone known to the provider.
#[derive(Clone, Debug)]
pub struct Person {
    /// What they type to sign in; unique.
    pub login: String,
    /// The subject in tokens.
    pub sub: String,
    /// The full name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
    /// `preferred_username`.
    pub preferred_username: String,
    /// The groups.
    pub groups: Vec<String>,
    /// The authentication context told when one is asked for; absent tells none.
    pub acr: Option<String>,
    /// Further claims, put into ID tokens and userinfo as they are.
    pub claims: Map<String, Value>,
    /// A disabled person cannot sign in, and their refresh gives `invalid_grant`.
    pub disabled: bool,
}

/// A program registered with the provider.
#[derive(Clone, Debug)]
pub struct Client {
    /// The client's id.
    pub id: String,
    /// The secret; absent for a public client.
    pub secret: Option<String>,
    /// Redirect URIs, compared exactly. An `http` one on a loopback address without a port stands for every port.
    pub redirect_uris: Vec<String>,
}

// === impl Person ===

impl Person {
    /// A person with names derived from `login`: subject `sub-<login>`, address `<login>@example.test`.
    #[must_use]
    pub fn new<'a>(login: &str, name: &str, groups: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            login: login.into(),
            sub: format!("sub-{login}"),
            name: name.into(),
            email: format!("{login}@example.test"),
            preferred_username: login.into(),
            groups: groups.into_iter().map(str::to_owned).collect(),
            acr: None,
            claims: Map::new(),
            disabled: false,
        }
    }

    /// The same person, whose sign-in is vouched for as `acr`.
    #[must_use]
    pub fn with_acr(mut self, acr: &str) -> Self {
        self.acr = Some(acr.into());
        self
    }
}

// === impl Client ===

impl Client {
    /// A public client.
    #[must_use]
    pub fn public<'a>(id: &str, redirect_uris: impl IntoIterator<Item = &'a str>) -> Self {
        Self { id: id.into(), secret: None, redirect_uris: redirect_uris.into_iter().map(str::to_owned).collect() }
    }

    /// A confidential client.
    #[must_use]
    pub fn confidential<'a>(id: &str, secret: &str, redirect_uris: impl IntoIterator<Item = &'a str>) -> Self {
        Self { secret: Some(secret.into()), ..Self::public(id, redirect_uris) }
    }

    /// Whether `uri` may be redirected to.
    pub(super) fn may_redirect_to(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|registered| registered == uri || same_but_for_port(registered, uri))
    }
}

/// RFC 8252 §7.3: on a loopback address the port is the client's to choose. Only where the registered URI names none.
fn same_but_for_port(registered: &str, uri: &str) -> bool {
    let (Ok(registered), Ok(mut uri)) = (Url::parse(registered), Url::parse(uri)) else { return false };
    let loopback = matches!(registered.host_str(), Some("127.0.0.1" | "[::1]"));
    if registered.scheme() != "http" || !loopback || registered.port().is_some() {
        return false;
    }
    uri.set_port(None).is_ok() && uri == registered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_exact_but_for_a_loopback_port_left_open() {
        let client =
            Client::public("c", ["http://127.0.0.1/cb", "http://127.0.0.1:4000/fixed", "https://b.example/cb"]);
        assert!(client.may_redirect_to("http://127.0.0.1:39999/cb"));
        assert!(client.may_redirect_to("https://b.example/cb"));
        for wrong in [
            "http://127.0.0.1:4001/fixed",
            "http://127.0.0.1:39999/cb?x=1",
            "http://127.0.0.2:39999/cb",
            "https://b.example:444/cb",
            "https://b.example/cb/",
            "http://127.0.0.1@evil.example/cb",
        ] {
            assert!(!client.may_redirect_to(wrong), "{wrong}");
        }
    }
}
