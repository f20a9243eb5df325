//! The provider's token endpoint: codes and refresh tokens for tokens; and its revocation endpoint, which takes them back.

use data_encoding::BASE64;
use http::StatusCode;
use secrecy::ExposeSecret;
use serde::Deserialize;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::Recheck;
use super::discovery::Known;
use super::http_client::send;
use super::provider::{Provider, ProviderError, printable};

/// What the token endpoint gave.
pub(super) struct Tokens {
    pub(super) access_token: Zeroizing<String>,
    pub(super) refresh_token: Option<Zeroizing<String>>,
    pub(super) id_token: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    id_token: Option<String>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

// === impl Provider ===

impl Provider {
    /// Exchanges a code for tokens. Once: a code that is used twice ends the grant at many providers.
    pub(super) async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Tokens, ProviderError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect_uri),
        ];
        self.token(&form).await
    }

    /// Exchanges a refresh token. Once: a rotated token that is used twice ends the grant at many providers.
    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<Tokens, ProviderError> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }

    async fn token(&self, form: &[(&str, &str)]) -> Result<Tokens, ProviderError> {
        let known = self.known().await?;
        let request = self.form_request(&known, &known.document.token_endpoint, form);
        let (status, body) = send(request).await?;
        if status == StatusCode::OK {
            let answer: TokenAnswer = serde_json::from_slice(&body)
                .map_err(|_| ProviderError::Unavailable("the token endpoint's answer cannot be read".into()))?;
            return Ok(Tokens {
                access_token: Zeroizing::new(answer.access_token),
                refresh_token: answer.refresh_token.map(Zeroizing::new),
                id_token: answer.id_token,
            });
        }
        Err(refusal("token endpoint", status, &body))
    }

    /// Gives a session's token back (RFC 7009 §2.1). Returns false where the provider offers no revocation.
    ///
    /// # Errors
    /// When the provider is out of reach, or does not answer that the token is gone.
    pub(super) async fn revoke(&self, token: &str) -> Result<bool, ProviderError> {
        let known = self.known().await?;
        let Some(url) = &known.document.revocation_endpoint else { return Ok(false) };
        let hint = match self.settings.recheck {
            Recheck::Userinfo => "access_token",
            Recheck::Refresh | Recheck::LoginOnly => "refresh_token",
        };
        let request = self.form_request(&known, url, &[("token", token), ("token_type_hint", hint)]);
        let (status, body) = send(request).await?;
        if status == StatusCode::OK { Ok(true) } else { Err(refusal("revocation endpoint", status, &body)) }
    }

    /// The form, with our client id and secret where the provider wants them.
    fn form_request(&self, known: &Known, url: &Url, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let settings = &self.settings;
        let mut request = self.http.post(url.clone());
        let mut encoder = form_urlencoded::Serializer::new(String::new());
        encoder.extend_pairs(form);
        match &settings.client_secret {
            Some(secret) if !known.document.wants_secret_in_form() => {
                // RFC 6749 §2.3.1: both are form-encoded before they become Basic credentials
                let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let secret = Zeroizing::new(encode(secret.expose_secret()));
                let pair = Zeroizing::new(format!("{}:{}", encode(&settings.client_id), *secret));
                let value = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
                request = request.header(http::header::AUTHORIZATION, value.as_str());
            }
            Some(secret) => {
                encoder.append_pair("client_id", &settings.client_id);
                encoder.append_pair("client_secret", secret.expose_secret());
            }
            None => {
                encoder.append_pair("client_id", &settings.client_id);
            }
        }
        request
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(http::header::ACCEPT, "application/json")
            .body(encoder.finish())
    }
}

/// What an error of one of these endpoints means. Only an answer about the person's grant is a refusal: a wrong client secret or
/// a server in trouble ends nobody's session.
fn refusal(endpoint: &str, status: StatusCode, body: &[u8]) -> ProviderError {
    const REFUSALS: [&str; 6] = [
        "invalid_grant",
        "access_denied",
        "interaction_required",
        "login_required",
        "consent_required",
        "account_selection_required",
    ];
    let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(body) else {
        return ProviderError::Unavailable(format!("the {endpoint} answered {status}"));
    };
    let description = answer.error_description.map(|text| format!(": {}", printable(&text))).unwrap_or_default();
    let text = format!("{}{description}", printable(&answer.error));
    if status.is_client_error() && REFUSALS.contains(&answer.error.as_str()) {
        return ProviderError::Refused(text);
    }
    match status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        true => ProviderError::Misconfigured(format!("the {endpoint} says `{text}`")),
        false => ProviderError::Unavailable(format!("the {endpoint} answered {status}, {text}")),
    }
}
