//! `GET /break-glass/{id}`: one request with all that it says, and what its reader can do.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::{browser, named, said, unknown, view};
use crate::http::ClientAddress;
use crate::http::api::Api;

/// The page.
pub(super) async fn show(
    State(api): State<Api>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(id) = named(&id) else { return unknown() };
    let browser = match browser(&api, &headers, address, Some(id)).await {
        Ok(browser) => browser,
        Err(page) => return page,
    };
    match api.break_glass.show(&browser.identity, id).await {
        Ok(seen) => view::request(&api, &browser, &seen),
        Err(error) => said(&error.into()),
    }
}
