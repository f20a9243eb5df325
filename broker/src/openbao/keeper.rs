//! What is done in the background for a client: its token is renewed, and a server that was out is asked whether it is back.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use tokio::time::Instant;

use super::client::Shared;
use super::gate::Token;
use super::login::{json, lease, log_in};
use super::{Client, Kind, Retry};

/// How long there may be nothing to do.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Renewed {
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// Runs until the client is gone.
pub(super) async fn keep(shared: Weak<Shared>) {
    let mut not_before = None;
    loop {
        let Some(client) = upgraded(&shared) else { return };
        let mut state = client.state();
        let login = Arc::clone(&client.shared.gate.changed);
        let wait = wait(&client, not_before);
        drop(client);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = login.notified() => continue,
            // the sender lives in the client: gone with it
            changed = state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        let Some(client) = upgraded(&shared) else { return };
        let is_done = look_after(&client).await;
        not_before = (!is_done).then(|| Instant::now() + client.settings().pace);
    }
}

fn upgraded(shared: &Weak<Shared>) -> Option<Client> {
    shared.upgrade().map(|shared| Client { shared })
}

/// Until when nothing has to be done.
fn wait(client: &Client, not_before: Option<Instant>) -> Duration {
    let now = Instant::now();
    let due = client.shared.gate.current().and_then(|token| token.due()).unwrap_or(now + IDLE);
    let due = not_before.map_or(due, |at| due.max(at));
    let is_out = !client.shared.state.borrow().ok;
    let due = if is_out { due.min(now + client.settings().pace) } else { due.min(now + IDLE) };
    due.saturating_duration_since(now)
}

/// Whether all that was due is done.
async fn look_after(client: &Client) -> bool {
    let token = client.shared.gate.current();
    match token.filter(|token| token.due().is_some_and(|due| due <= Instant::now())) {
        Some(token) => renew(client, &token).await,
        None if !client.shared.state.borrow().ok => {
            // its outcome is noted by the call itself
            client.call(Method::GET, "auth/token/lookup-self", None, Retry::Never).await.is_ok()
        }
        None => true,
    }
}

/// A new lease for the token, or a new token where that is refused or would soon end.
async fn renew(client: &Client, token: &Arc<Token>) -> bool {
    if token.is_renewable && !token.nears_its_end() {
        let end = Instant::now() + client.settings().deadline;
        let body = json(&serde_json::Map::new());
        let answer = client
            .once(Method::POST, "auth/token/renew-self", Some(Bytes::from_owner(body)), Some(&token.secret), None, end)
            .await;
        match answer.and_then(|answer| answer.auth::<Renewed>()) {
            // no seconds at all: it lives as long as it may
            Ok(Renewed { lease_duration: 0, .. }) => {}
            Ok(renewed) => {
                client.shared.gate.renewed(token, lease(renewed.lease_duration), renewed.renewable);
                client.note_outcome(Ok(()));
                return true;
            }
            // OpenBao has status 500 for a token that is past its longest life: a new one is all that helps, and if the server is out
            // the login says so
            Err(error) if error.is_passing() && !matches!(error.kind(), Kind::Token | Kind::Failed(500, _)) => {
                tracing::warn!(server = client.name(), %error, "the token was not renewed; it is tried again");
                client.note_outcome(Err(&error));
                return false;
            }
            Err(error) => {
                tracing::info!(server = client.name(), %error, "the token cannot be renewed; logging in anew")
            }
        }
    }
    let end = Instant::now() + client.settings().deadline;
    let replaced = client.shared.gate.replace(token, async || log_in(client, end).await).await;
    client.note_outcome(replaced.as_ref().copied());
    replaced.is_ok()
}
