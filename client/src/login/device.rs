//! The device grant (RFC 8628): a short code, typed into the broker's page in any browser.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::{Event, LoginOptions, TokenAnswer, extras, token};
use crate::broker::{Broker, CLIENT_ID, Metadata};
use crate::dpop::DpopKey;
use crate::error::Error;
use crate::forms;

#[derive(Deserialize)]
struct DeviceAnswer {
    #[serde(deserialize_with = "forms::wiped::deserialize")]
    device_code: Zeroizing<String>,
    user_code: String,
    #[serde(deserialize_with = "forms::url")]
    verification_uri: Url,
    /// Seconds between questions; five where it is not told (RFC 8628 §3.2).
    #[serde(default)]
    interval: Option<u64>,
}

pub(super) async fn login(
    broker: &Broker,
    metadata: &Metadata,
    key: &DpopKey,
    options: &LoginOptions,
) -> Result<TokenAnswer, Error> {
    let Some(url) = &metadata.device_authorization_endpoint else {
        return Err(Error::failed(
            "this broker does not allow `--device`",
            "run `ichor login` where a browser is, or ask the broker's operator for `device = true` under [session] in its \
             config.toml",
        ));
    };
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", CLIENT_ID)
        .append_pair("dpop_jkt", &key.thumbprint())
        .extend_pairs(extras(options))
        .finish();
    let body = ("application/x-www-form-urlencoded", form.into_bytes());
    let answer = broker.proved(Method::POST, url, key, None, Some(body)).await?;
    if !answer.status.is_success() {
        return Err(match answer.oauth_error() {
            Some(error) => Error::Login(error.error_description.unwrap_or(error.error)),
            None => broker.problem(&answer),
        });
    }
    let started: DeviceAnswer =
        serde_json::from_slice(&answer.body).map_err(|_| broker.not_a_broker("its device code cannot be read"))?;
    broker.own_page(&started.verification_uri, "its page for the device code")?;
    (options.on)(Event::Code { at: started.verification_uri.clone(), code: started.user_code.clone() });
    let mut pause = Duration::from_secs(started.interval.unwrap_or(5).clamp(1, 60));
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", started.device_code.as_str()),
        ("client_id", CLIENT_ID),
    ];
    loop {
        tokio::time::sleep(pause).await;
        match token(broker, metadata, key, &form).await? {
            Ok(answer) => return Ok(answer),
            Err((code, _)) if code == "authorization_pending" => {}
            Err((code, _)) if code == "slow_down" => pause += Duration::from_secs(5),
            Err((_, description)) => return Err(Error::Login(description)),
        }
    }
}
