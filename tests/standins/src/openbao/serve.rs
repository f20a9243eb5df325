//! Accepting connections, and the way of a request: gate, seal, namespace, token, policy, engine.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::Answer;
use super::call::{self, Call, no_path, no_route};
use super::gate::Fault;
use super::{Mounted, OpenBao, Shared, State, auth, sys};
use crate::lock;

/// Serves until the task is aborted.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Owned by this task, so that stopping the server ends open connections too.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // A failed accept or handshake is that connection's trouble, not the listener's.
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(connection(stream, Arc::clone(&shared)));
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let Some(config) = shared.tls.as_ref().map(|tls| Arc::clone(&tls.config)) else {
        return http(stream, shared, false).await;
    };
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let certified = stream.get_ref().1.peer_certificates().is_some_and(|certificates| !certificates.is_empty());
    http(stream, shared, certified).await
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
    certified: bool,
) -> anyhow::Result<()> {
    let service = hyper::service::service_fn(move |request| respond(Arc::clone(&shared), request, certified));
    let served = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    served.map_err(|error| anyhow::anyhow!(error))
}

/// An error closes the connection (or, in HTTP/2, the stream) without an answer.
async fn respond(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
    certified: bool,
) -> io::Result<hyper::Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let Some(mut call) = Call::parse(&parts, &body, certified) else { return Ok(write(no_path())) };
    let entered = call.enter(&shared);
    let path = call.path.clone();
    shared.gate.note(&parts.method, &path, call.body.clone());
    shared.gate.pass(&path, false).await;
    let fault = shared.gate.fault(&path);
    let answer = match &fault {
        Some(fault) if !fault.acts() => None,
        _ => Some(entered.map_or_else(|refused| refused, |()| act(&shared, &call))),
    };
    shared.gate.pass(&path, true).await;
    let answer = spoil(answer, fault, &path).await?;
    Ok(write(answer))
}

/// Seal, token, policy, engine, in the order of the real server.
fn act(shared: &Shared, call: &Call) -> Answer {
    let now = (shared.now)();
    let mut guard = lock(&shared.state);
    let state: &mut State = &mut guard;
    if let Some(answer) = sys::open(state, call, now) {
        return answer;
    }
    if state.sealed {
        return Answer::error(http::StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed");
    }
    if state.standby {
        // Port 1: the active one is named, and not to be had.
        return Answer::elsewhere(format!("https://127.0.0.1:1/v1/{}", call.path));
    }
    if call.strings() > call::MOST_STRINGS {
        return Answer::bad("refused JSON input due to high complexity: exceeded maximum number of strings");
    }
    let auth = call.path.strip_prefix("auth/");
    // a path of no method is one like any: without a token it is not even told that nothing is there
    if let Some(mount) = auth.and_then(|path| path.strip_suffix("/login"))
        && state.logins.contains_key(mount)
    {
        return auth::login(state, call, mount, now);
    }
    let Some(token) = call.token.as_deref().filter(|token| state.tokens.is_live(token, now)) else {
        return Answer::bad_token();
    };
    let root = token == OpenBao::ROOT_TOKEN;
    let mounted = state.mounts.iter_mut().find_map(|(mount, mounted)| {
        let rest = call.path.strip_prefix(mount.as_str())?.strip_prefix('/')?;
        Some((mounted, rest))
    });
    let needed = call.needs(mounted.as_ref().map(|(mounted, rest)| (&**mounted, *rest)));
    if !root && !state.policy.allows(&call.path, needed) {
        return Answer::denied();
    }
    if let Some(act) = auth.and_then(|path| path.strip_prefix("token/")) {
        return auth::own(state, call, token, act, now);
    }
    if call.path.starts_with("sys/") {
        return sys::answer(state, call, root);
    }
    match mounted {
        Some((Mounted::Transit(transit), rest)) => transit.answer(call, rest, now),
        Some((Mounted::Kv(kv), rest)) => kv.answer(call, rest, now),
        Some((Mounted::Pki(pki), rest)) => pki.answer(call, rest, now),
        None => no_route(&call.path),
    }
}

/// The answer as the fault leaves it. `answer` is `None` where nothing was done.
async fn spoil(answer: Option<Answer>, fault: Option<Fault>, path: &str) -> io::Result<Answer> {
    let closed = || io::Error::from(io::ErrorKind::ConnectionReset);
    let status = |code: u16| http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let Some(fault) = fault else { return answer.ok_or_else(closed) };
    match fault {
        Fault::Stall | Fault::Silent => std::future::pending().await,
        Fault::Disconnect | Fault::Lost => Err(closed()),
        Fault::Quota => Ok(Answer::error(status(429), format!("request path {path:?}: rate limit quota exceeded"))),
        Fault::Status(code, reason) => Ok(Answer::error(status(code), reason)),
        Fault::Garbage => Ok(Answer::text("application/json", "<html>\u{1}not the page you look for</html>")),
        Fault::Truncated => {
            let mut answer = answer.ok_or_else(closed)?;
            answer.body.truncate(answer.body.len() / 2);
            Ok(answer)
        }
        Fault::Huge(octets) => {
            let (head, tail) = (r#"{"data":{"filler":""#, r#""}}"#);
            let filler = "x".repeat(octets.saturating_sub(head.len() + tail.len()));
            Ok(Answer::text("application/json", &format!("{head}{filler}{tail}")))
        }
        Fault::Instead(body) => Ok(Answer::bare(http::StatusCode::OK, &body)),
    }
}

fn write(answer: Answer) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(answer.content_type));
    if let Some(location) = answer.location.and_then(|url| http::HeaderValue::from_str(&url).ok()) {
        headers.insert(http::header::LOCATION, location);
    }
    headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}
