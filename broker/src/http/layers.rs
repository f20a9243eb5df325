//! What happens to every request before and after its handler.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use ichor_wire::api::CLIENT_VERSION_HEADER;
use ichor_wire::problem::{Code, MEDIA_TYPE, Problem};
use tracing::Instrument;

use super::ClientAddress;
use super::error::ApiError;
use crate::clock::SharedClock;
use crate::domain::{AddressRange, ClientVersion};
use crate::entropy;

/// What the outermost layer needs.
pub struct Edge {
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[AddressRange]>,
    /// Whether the broker is reached by https.
    pub https: bool,
    /// The oldest client that is served.
    pub minimum_client: Option<ClientVersion>,
    /// The time, for request ids.
    pub clock: SharedClock,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names the request, finds the client's address, refuses clients that are too old, and sets the headers that every answer
/// carries.
pub(super) async fn edge<F: Future<Output = Response>>(
    edge: &Edge,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let address = client_address(peer, request.headers(), &edge.trusted_proxies);
    request.extensions_mut().insert(ClientAddress(address));
    let id = entropy::uuid_v7(edge.clock.now()).map(|id| id.to_string()).unwrap_or_default();
    let span = tracing::info_span!("request", id, %address, method = %request.method(), path = request.uri().path());

    let too_old = edge.minimum_client.filter(|minimum| {
        let version = request.headers().get(CLIENT_VERSION_HEADER).and_then(|value| value.to_str().ok());
        version.is_some_and(|version| ClientVersion::parse(version).is_some_and(|version| version < *minimum))
    });
    let mut response = match too_old {
        Some(minimum) => {
            let text = format!("this broker serves ichor {minimum} and later");
            ApiError::new(Code::ClientTooOld, text).into_response()
        }
        None => next(request).instrument(span.clone()).await,
    };
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), "answered"));
    response = name_problem(response, &id);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if edge.https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}

/// Turns what axum itself answers (a path or method that does not exist) into problems.
pub async fn unknown_path() -> ApiError {
    ApiError::new(Code::NotFound, "there is nothing at this path")
}

/// The same for a method.
pub async fn unknown_method() -> ApiError {
    ApiError::new(Code::MethodNotAllowed, "the resource does not take this method")
}

/// The address behind trusted proxies: from the right of `X-Forwarded-For`, the first that is not a trusted proxy. Without
/// a peer address the listener is a Unix socket, whose peer is the proxy itself.
fn client_address(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[AddressRange]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if peer.is_some_and(|peer| !is_trusted(peer)) {
        return peer.unwrap_or(unknown).to_canonical();
    }
    let mut nearest = peer.unwrap_or(unknown);
    // a line that is no text is one hop that cannot be read
    let hops = headers.get_all("x-forwarded-for").iter().map(|value| value.to_str().unwrap_or_default());
    let hops: Vec<&str> = hops.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.into_iter().rev() {
        // what cannot be read was not written by a trusted proxy: stop at the last address known
        let Ok(address) = hop.parse::<IpAddr>() else { break };
        nearest = address;
        if !is_trusted(address) {
            break;
        }
    }
    nearest.to_canonical()
}

/// Puts the request's id into a problem's body.
fn name_problem(response: Response, id: &str) -> Response {
    let Some(problem) = response.extensions().get::<Problem>() else { return response };
    let mut problem = problem.clone();
    problem.request_id = Some(id.into());
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    Response::from_parts(parts, Body::from(serde_json::to_vec(&problem).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let trusted: Vec<_> = trusted.iter().map(|text| AddressRange::parse(text).unwrap()).collect();
        client_address(peer.parse().ok(), &headers, &trusted).to_string()
    }

    #[test]
    fn case_24_only_configured_proxies_are_believed() {
        assert_eq!(address("198.51.100.7", &["203.0.113.9"], &[]), "198.51.100.7");
        assert_eq!(address("198.51.100.7", &["203.0.113.9"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(address("10.0.0.1", &["203.0.113.9"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["1.2.3.4, 203.0.113.9, 10.0.0.2"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["1.2.3.4, nonsense"], &["10.0.0.0/8"]), "10.0.0.1");
        let unreadable = ["1.2.3.4", "203.0.113.9, Å"];
        assert_eq!(address("10.0.0.1", &unreadable, &["10.0.0.0/8"]), "10.0.0.1", "nothing left of it is believed");
        assert_eq!(address("", &["203.0.113.9"], &[]), "203.0.113.9", "a Unix socket's peer is the proxy");
    }
}
