//! Bodies: read once, up to a size, within a time of their own, and a stranger's never in the place of a request under way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ichor_wire::problem::Code;

use super::ClientAddress;
use super::error::ApiError;
use crate::domain::network;

/// The longest that a body may take to come. All of ours are a few kilobytes.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The largest form, in bytes.
const LARGEST_FORM: usize = 16 * 1024;

/// So many forms of one address may be on their way at once. A browser or client sends one at a time.
const FORMS_OF_ONE: usize = 16;

/// Forms on their way, by address.
#[derive(Debug)]
pub(super) struct Forms {
    waiting: Arc<Mutex<Waiting>>,
    most: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place of one form; dropping it gives it back.
struct Place {
    waiting: Arc<Mutex<Waiting>>,
    address: IpAddr,
}

// === impl Forms ===

impl Forms {
    /// So many at once.
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: Arc::default(), most }
    }

    fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = waiting.by_address.get(&address).copied().unwrap_or_default();
        if waiting.all >= self.most || of_one >= FORMS_OF_ONE {
            return None;
        }
        waiting.all += 1;
        waiting.by_address.insert(address, of_one + 1);
        Some(Place { waiting: Arc::clone(&self.waiting), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.all = waiting.all.saturating_sub(1);
        match waiting.by_address.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(waiting.by_address.remove(&self.address)),
        }
    }
}

/// Reads the forms of strangers, which is all that is posted outside the API, before the request takes one of the places of
/// requests under way: one that trickles in holds nobody up but its own address.
pub(super) async fn forms<F: Future<Output = Response>>(
    forms: &Forms,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let path = request.uri().path();
    if request.method() != Method::POST
        || !(path.starts_with("/oauth/") || path.starts_with("/break-glass/") || path == "/device")
    {
        return next(request).await;
    }
    let Some(&ClientAddress(address)) = request.extensions().get() else {
        return ApiError::internal(&"a request without an address").into_response();
    };
    let Some(place) = forms.enter(address) else {
        let text = "too many forms are on their way; try again in a moment";
        return ApiError::new(Code::TooManyRequests, text).retry_after(1).into_response();
    };
    let (parts, body) = request.into_parts();
    let body = match read(body, LARGEST_FORM).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    drop(place);
    next(Request::from_parts(parts, Body::from(body))).await
}

/// The whole body. Whoever calls this knows whose it is, or holds no place that others need.
pub(super) async fn read(body: Body, most: usize) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(BODY_TIME, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::new(Code::TooLarge, format!("a body has at most {most} bytes here")))
        }
        Ok(Err(_)) => Err(ApiError::new(Code::BadRequest, "the body could not be read")),
        Err(_) => Err(ApiError::new(Code::Timeout, "the body took too long to come")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_has_ten_seconds_and_a_size() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let began = tokio::time::Instant::now();
        assert_eq!(read(never, 10).await.unwrap_err().code(), Code::Timeout);
        assert_eq!(began.elapsed().as_secs(), BODY_TIME.as_secs());
        assert_eq!(read(Body::from("0123456789a"), 10).await.unwrap_err().code(), Code::TooLarge);
        assert_eq!(read(Body::from("0123456789"), 10).await.unwrap(), "0123456789");
    }

    #[test]
    fn one_address_takes_no_more_than_its_places() {
        let forms = Forms::new(FORMS_OF_ONE + 1);
        let (one, two, three) = ("192.0.2.1", "192.0.2.2", "192.0.2.3");
        let mut held: Vec<_> = (0..FORMS_OF_ONE).filter_map(|_| forms.enter(one.parse().unwrap())).collect();
        assert_eq!(held.len(), FORMS_OF_ONE);
        assert!(forms.enter(one.parse().unwrap()).is_none());
        let other = forms.enter(two.parse().unwrap());
        assert!(other.is_some());
        assert!(forms.enter(three.parse().unwrap()).is_none(), "all together have a bound too");
        held.pop();
        assert!(forms.enter(one.parse().unwrap()).is_some());
        drop((held, other));
        assert!(forms.waiting.lock().unwrap().by_address.is_empty());
    }
}
