//! The ways to log in.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::client::Client;
use super::gate::Login;
use super::settings::Auth;
use super::{BaoError, Kind};
use crate::regular::{self, Links};

#[derive(Serialize)]
struct AppRole<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct WithJwt<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Serialize)]
struct ByCertificate<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Deserialize)]
struct Granted<'a> {
    client_token: &'a str,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct LookedUp {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

/// Logs in, as configured, before `end`.
pub(super) async fn log_in(client: &Client, end: Instant) -> Result<Login, BaoError> {
    let result = by_method(client, end).await;
    let outcome = result.as_ref().map_or_else(|error| error.kind().label(), |_| "ok");
    metrics::counter!("ichor_openbao_logins_total", "server" => client.name().to_owned(), "outcome" => outcome)
        .increment(1);
    match &result {
        Ok(_) => tracing::info!(server = client.name(), "logged in at OpenBao"),
        Err(error) => tracing::warn!(server = client.name(), %error, "no login at OpenBao"),
    }
    result
}

async fn by_method(client: &Client, end: Instant) -> Result<Login, BaoError> {
    let read = |path: &Path| {
        let secret = read(path).map_err(|why| client.error(Kind::Login(why), None))?;
        client.shared.hold(&secret);
        Ok::<_, BaoError>(secret)
    };
    let (mount, secret, body, next) = match &client.settings().auth {
        Auth::AppRole { mount, role_id, secret_id } => {
            let secret = read(secret_id)?;
            let body = json(&AppRole { role_id, secret_id: secret.expose_secret() });
            (mount, Some(secret), body, format!("look at `role` and at the secret id in `{}`", secret_id.display()))
        }
        Auth::Kubernetes { mount, role, token } | Auth::Jwt { mount, role, token } => {
            let jwt = read(token)?;
            let body = json(&WithJwt { role, jwt: jwt.expose_secret() });
            (mount, Some(jwt), body, format!("look at `role` and at the token in `{}`", token.display()))
        }
        Auth::Certificate { mount, role, certificate, .. } => {
            client.rebuild().map_err(|error| client.error(Kind::Login(error.to_string()), None))?;
            let body = json(&ByCertificate { name: role.as_deref() });
            (mount, None, body, format!("look at `role` and at the certificate in `{}`", certificate.display()))
        }
        Auth::Token { file } => return by_token(client, file, read(file)?, end).await,
    };
    let path = format!("auth/{mount}/login");
    let answer = client.once(Method::POST, &path, Some(Bytes::from_owner(body)), None, secret.as_ref(), end).await;
    let answer = answer.map_err(|error| {
        // what a login refuses is the login: not a path, and not a token that we have
        let why = match error.kind() {
            Kind::Refused(words) => format!("{words}; {next}"),
            // of a method that is not mounted there it says no more
            Kind::Denied(_) | Kind::Token => format!("permission denied; {next}, and at `auth_mount`"),
            Kind::Missing(_) | Kind::NoRoute(_) => {
                format!("it has no login at `{path}`; look at `auth_mount` and `namespace` under its [[openbao]]")
            }
            Kind::Garbled(what) => (*what).to_owned(),
            _ => return error,
        };
        client.error(Kind::Login(why), error.request().map(str::to_owned))
    })?;
    let none = |error: BaoError| {
        let why = "its answer holds no token; look at `address` and `auth_mount` under its [[openbao]]";
        client.error(Kind::Login(why.into()), error.request().map(str::to_owned))
    };
    let granted: Granted<'_> = answer.auth().map_err(none)?;
    let secret = SecretString::from(granted.client_token);
    client.shared.hold(&secret);
    Ok(Login { secret, lease: lease(granted.lease_duration), is_renewable: granted.renewable })
}

/// The token of this file, which something else wrote, or an operator: asked whether it is one, and for how long.
async fn by_token(client: &Client, file: &Path, secret: SecretString, end: Instant) -> Result<Login, BaoError> {
    let answer = client.once(Method::GET, "auth/token/lookup-self", None, Some(&secret), None, end).await;
    let answer = answer.map_err(|error| match error.kind() {
        Kind::Denied(_) | Kind::Token => {
            // the file itself is named: an operator's is another than the broker's own `secret_file`, which stays as it is
            let why = format!("the token in `{}` is not taken; make a new one and write it there", file.display());
            client.error(Kind::Login(why), error.request().map(str::to_owned))
        }
        _ => error,
    })?;
    let none = |error: BaoError| {
        let why = "its answer tells nothing of the token; look at `address` under its [[openbao]]";
        client.error(Kind::Login(why.into()), error.request().map(str::to_owned))
    };
    let found: LookedUp = answer.data().map_err(none)?;
    Ok(Login { secret, lease: lease(found.ttl), is_renewable: found.renewable })
}

/// The longest lease that is believed, in seconds: thirty days. Any longer one is renewed at two thirds of this.
const LONGEST_LEASE: u64 = 30 * 24 * 3600;

/// A lease of no seconds does not end.
pub(super) fn lease(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.min(LONGEST_LEASE)))
}

pub(super) fn json(body: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // plain structs of strings and numbers: there is no way for this to fail
    Zeroizing::new(serde_json::to_vec(body).unwrap_or_default())
}

/// A secret from a file, without the newline that editors add.
fn read(path: &Path) -> Result<SecretString, String> {
    let failed = |why: String| format!("`{}` cannot be read: {why}", path.display());
    let read = regular::read_text(path, regular::LINE, Links::Followed);
    let text = Zeroizing::new(read.map_err(|error| failed(error.to_string()))?);
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(failed("it is empty".into())),
        secret => Ok(SecretString::from(secret)),
    }
}
