//! `POST /break-glass/{id}/decide`: yes or no to exactly what the page showed.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use ichor_wire::problem::Code;

use super::{browser, deciding, named, said, unknown};
use crate::http::api::Api;
use crate::http::error::ApiError;
use crate::http::oauth::form::{Params, is_form};
use crate::http::{ClientAddress, web};
use crate::login::PageError;

/// Records the decision, and goes back to the page, which says what became of it.
pub(super) async fn decide(
    State(api): State<Api>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(id) = named(&id) else { return unknown() };
    let browser = match browser(&api, &headers, address, Some(id)).await {
        Ok(browser) => browser,
        // the form is lost; whoever signs in again finds the request as it is
        Err(page) => return refused(page),
    };
    let bad = |text: &str| said(&ApiError::new(Code::BadRequest, text));
    let Some(params) = Params::parse(&body).ok().filter(|_| is_form(&headers)) else {
        return bad("the form cannot be read");
    };
    let sha256 = params.text("sha256").unwrap_or_default();
    let form = api.login.check_form(&browser.session, &deciding(id, sha256), params.text("csrf"), browser.address);
    if let Err(error) = form {
        return not_ours(&error);
    }
    let hash = data_encoding::HEXLOWER.decode(sha256.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    let Some(hash) = hash else { return bad("the form does not say what was looked at") };
    let comment = params.owned("comment");
    let done = match params.text("decision") {
        Some("approve") => api.break_glass.approve(&browser.identity, id, hash, comment, address).await,
        Some("deny") => api.break_glass.deny(&browser.identity, id, hash, comment, address).await,
        _ => return bad("the form has no decision"),
    };
    match done {
        Ok(()) => Redirect::to(&format!("/break-glass/{id}")).into_response(),
        Err(error) => said(&error.into()),
    }
}

/// A form that this browser's page did not make.
pub(super) fn not_ours(error: &PageError) -> Response {
    tracing::info!(%error, "a form was refused");
    let text = "The form did not come from a page that you have open here. Nothing was done. Open the request again and decide there.";
    web::message(StatusCode::FORBIDDEN, "This cannot be done", text)
}

/// The page, as an answer that says no.
fn refused(mut page: Response) -> Response {
    if page.status().is_success() {
        *page.status_mut() = StatusCode::FORBIDDEN;
    }
    page
}
