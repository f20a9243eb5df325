//! `GET /break-glass`: the requests that wait for this person.

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::{browser, said, view};
use crate::http::ClientAddress;
use crate::http::api::Api;

/// The most shown.
const SHOWN: usize = 50;

/// So many that this person could decide are asked for at a time, and so often.
const PAGE: u32 = 51;
/// See [`PAGE`]: among them are those that they have approved.
const PAGES: u32 = 10;

/// The page.
pub(super) async fn show(
    State(api): State<Api>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
) -> Response {
    let browser = match browser(&api, &headers, address, None).await {
        Ok(browser) => browser,
        Err(page) => return page,
    };
    let (mut waiting, mut before) = (Vec::new(), None);
    for _ in 0..PAGES {
        let (mut seen, next) = match api.break_glass.to_decide(&browser.identity, before, PAGE).await {
            Ok(listed) => listed,
            Err(error) => return said(&error.into()),
        };
        waiting.append(&mut seen);
        before = next;
        if before.is_none() || waiting.len() > SHOWN {
            break;
        }
    }
    let has_more = before.is_some() || waiting.len() > SHOWN;
    waiting.truncate(SHOWN);
    view::list(&api, &browser, &waiting, has_more)
}
