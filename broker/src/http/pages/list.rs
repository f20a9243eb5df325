//! `GET /break-glass`: the requests that wait for this person.

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::{browser, said, view};
use crate::break_glass::ByPage;
use crate::domain::BreakGlassState;
use crate::http::ClientAddress;
use crate::http::api::Api;
use crate::store::BreakGlassFilter;

/// The most shown.
const SHOWN: usize = 50;

/// So many pending requests are looked through, in pages of so many.
const LOOKED_AT: (u32, u32) = (500, 100);

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
    let filter = BreakGlassFilter { states: vec![BreakGlassState::Pending], ..BreakGlassFilter::default() };
    let (most, page) = LOOKED_AT;
    let (mut waiting, mut before) = (Vec::new(), None);
    for _ in 0..most / page {
        let (seen, next) = match api.break_glass.list(&browser.identity, &filter, before, page).await {
            Ok(listed) => listed,
            Err(error) => return said(&error.into()),
        };
        let is_mine_to_decide = |seen: &crate::break_glass::Seen| {
            seen.state == BreakGlassState::Pending
                && !matches!(api.break_glass.by_page(&browser.identity, seen), ByPage::Nothing(_))
        };
        waiting.extend(seen.into_iter().filter(is_mine_to_decide));
        before = next;
        if before.is_none() || waiting.len() > SHOWN {
            break;
        }
    }
    let has_more = before.is_some() || waiting.len() > SHOWN;
    waiting.truncate(SHOWN);
    view::list(&api, &browser, &waiting, has_more)
}
