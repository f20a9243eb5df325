//! The authorization server: what it says of itself, the browser's part of a login, and tokens.

use std::collections::HashMap;

use ichor_wire::dpop::sha256_base64url;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::http::Reply;
use super::{Broker, TOKEN, Tamper};

impl Broker {
    pub(super) fn metadata(&self) -> Reply {
        let mut metadata = json!({
            "issuer": self.url, "authorization_endpoint": format!("{}/authorize", self.url),
            "token_endpoint": format!("{}/token", self.url), "revocation_endpoint": format!("{}/revoke", self.url),
            "ichor_providers": ["corp"],
        });
        for (name, value) in &self.state.lock().unwrap().metadata {
            metadata[name] = match value.as_str() {
                Some(path) if path.starts_with('/') => json!(format!("{}{path}", self.url)),
                _ => value.clone(),
            };
        }
        Reply::json(200, &metadata)
    }

    /// The browser: whoever comes here has confirmed everything.
    pub(super) fn authorize(&self, query: HashMap<String, String>) -> Reply {
        let mut state = self.state.lock().unwrap();
        let redirect = query["redirect_uri"].clone();
        for (name, expected) in [("response_type", "code"), ("client_id", "ichor"), ("code_challenge_method", "S256")] {
            if query.get(name).map(String::as_str) != Some(expected) {
                state.broken.push(format!("authorization without {name}={expected}"));
            }
        }
        let mut back: Url = redirect.parse().unwrap();
        let tamper = state.tamper;
        {
            let mut pairs = back.query_pairs_mut();
            match tamper {
                Some(Tamper::Denied) => {
                    pairs.append_pair("error", "access_denied").append_pair("error_description", "you said no")
                }
                _ => pairs.append_pair("code", "the-code"),
            };
            pairs.append_pair("state", if tamper == Some(Tamper::WrongState) { "wrong" } else { &query["state"] });
            match tamper {
                Some(Tamper::NoIssuer) => {}
                Some(Tamper::WrongIssuer) => drop(pairs.append_pair("iss", "https://evil.example")),
                _ => drop(pairs.append_pair("iss", &self.url)),
            }
        }
        let bound = (query["code_challenge"].clone(), query["dpop_jkt"].clone(), redirect);
        state.codes.insert("the-code".into(), bound);
        state.authorizations.push(query);
        Reply { status: 302, headers: vec![("location", back.into())], body: Vec::new() }
    }

    pub(super) fn token(&self, form: &HashMap<String, String>, thumbprint: &str) -> Reply {
        let mut state = self.state.lock().unwrap();
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        if field("client_id") != "ichor" {
            state.broken.push("token request without client_id".into());
        }
        if field("grant_type").ends_with("device_code") {
            if state.pending > 0 {
                state.pending -= 1;
                return Reply::json(400, &json!({ "error": "authorization_pending" }));
            }
        } else {
            let Some((challenge, jkt, redirect)) = state.codes.remove(&field("code")) else {
                return Reply::json(
                    400,
                    &json!({ "error": "invalid_grant", "error_description": "the code is not known" }),
                );
            };
            if sha256_base64url(field("code_verifier").as_bytes()) != challenge
                || jkt != thumbprint
                || redirect != field("redirect_uri")
            {
                state.broken.push("the code is not redeemed by the one who asked for it".into());
            }
        }
        state.session_ended = false;
        Reply::json(
            200,
            &json!({ "access_token": TOKEN, "token_type": "DPoP", "expires_in": 43200, "session_id": Uuid::nil() }),
        )
    }
}
