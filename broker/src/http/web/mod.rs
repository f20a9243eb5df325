//! Pages. Rendered here, without a script, in no one's frame; every text of others is escaped by the template engine.

use askama::Template;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use url::{Host, Url};

use crate::login::Confirmation;

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    title: &'a str,
    text: &'a str,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm<'a> {
    ask: &'a Confirmation,
    user_is_made_up: bool,
}

#[derive(Template)]
#[template(path = "choose.html")]
struct Choose {
    links: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "device.html")]
struct Device<'a> {
    providers: &'a [String],
    error: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "code.html")]
struct Code<'a> {
    code: &'a str,
}

/// A page that says one thing.
#[must_use]
pub fn message(status: StatusCode, title: &str, text: &str) -> Response {
    page(status, &Message { title, text }, None)
}

/// The confirmation page.
#[must_use]
pub fn confirm(ask: &Confirmation) -> Response {
    let user_is_made_up = ask.user.starts_with('~');
    page(StatusCode::OK, &Confirm { ask, user_is_made_up }, ask.redirect.as_ref())
}

/// The choice of providers, as link and name.
#[must_use]
pub fn choose(links: Vec<(String, String)>) -> Response {
    page(StatusCode::OK, &Choose { links }, None)
}

/// The form for a device's code.
#[must_use]
pub fn device(providers: &[String], error: Option<&str>) -> Response {
    let status = if error.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    page(status, &Device { providers, error }, None)
}

/// The page with a code to paste.
#[must_use]
pub fn code(code: &str) -> Response {
    page(StatusCode::OK, &Code { code }, None)
}

/// The pages' stylesheet.
pub async fn stylesheet() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "public, max-age=3600")];
    (headers, include_str!("../../../templates/style.css")).into_response()
}

/// The page with its headers. `redirect` is where its form's answer may lead: `form-action` holds for redirects, too.
pub(super) fn page(status: StatusCode, template: &impl Template, redirect: Option<&Url>) -> Response {
    let Ok(html) = template.render() else {
        tracing::error!("a page could not be rendered");
        return (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made").into_response();
    };
    let mut response = (status, html).into_response();
    let headers = response.headers_mut();
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action 'self'{}; frame-ancestors 'none'; base-uri 'none'",
        redirect.map(form_target).unwrap_or_default()
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The client's loopback origin as a source of a policy. The grammar of sources has no IPv6 addresses (CSP Level 3 §2.3.1),
/// so for `[::1]` only the scheme can be named.
fn form_target(url: &Url) -> String {
    match url.host() {
        Some(Host::Ipv4(_)) => format!(" {}", url.origin().ascii_serialization()),
        _ => " http:".into(),
    }
}
