//! Sinks that are slow, fail and lie; restarts; what stands between people's words and other people's eyes; and what opens, or
//! does not, when someone lets themselves in.

mod formats;
mod letting_in;
mod mail;
mod sending;
mod unasked;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;

use super::*;
use crate::break_glass::tests::Glass;
use crate::identity::fixture::key;

/// A secret, and what it is the text of.
pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a sink does at one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answers {
    Takes,
    Says(u16),
    /// A success with this body.
    With(&'static str),
    LeadsElsewhere,
    /// Asks to be left alone for so many seconds.
    Rests(u64),
    Never,
}

/// An HTTP sink that does as planned, and then takes everything.
#[derive(Default)]
pub(crate) struct Hook {
    plan: Mutex<Vec<Answers>>,
    came: Mutex<Vec<(HeaderMap, Bytes)>>,
}

async fn take(State(hook): State<Arc<Hook>>, headers: HeaderMap, body: Bytes) -> (StatusCode, HeaderMap, &'static str) {
    hook.came.lock().unwrap().push((headers, body));
    let answers = hook.plan.lock().unwrap().pop().unwrap_or(Answers::Takes);
    let with = |name: axum::http::HeaderName, value: String| HeaderMap::from_iter([(name, value.parse().unwrap())]);
    match answers {
        Answers::Takes => (StatusCode::NO_CONTENT, HeaderMap::new(), ""),
        Answers::Says(status) => (StatusCode::from_u16(status).unwrap(), HeaderMap::new(), "no"),
        Answers::With(body) => (StatusCode::OK, HeaderMap::new(), body),
        Answers::LeadsElsewhere => (StatusCode::FOUND, with(axum::http::header::LOCATION, "/hook".into()), ""),
        Answers::Rests(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, with(axum::http::header::RETRY_AFTER, seconds.to_string()), "")
        }
        Answers::Never => std::future::pending().await,
    }
}

impl Hook {
    /// A sink on loopback, and its URL.
    pub(crate) async fn new(plan: &[Answers]) -> (Arc<Self>, String) {
        ichor_standins::install_tls_provider();
        let hook = Arc::new(Self { plan: Mutex::new(plan.iter().rev().copied().collect()), ..Self::default() });
        let routes = Router::new().route("/hook", post(take)).with_state(Arc::clone(&hook));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (hook, url)
    }

    /// How many requests came.
    pub(super) fn count(&self) -> usize {
        self.came.lock().unwrap().len()
    }

    /// Every body that came, as JSON.
    pub(super) fn bodies(&self) -> Vec<Value> {
        self.came.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }

    /// The log's places of the entries that came.
    pub(crate) fn places(&self) -> Vec<u64> {
        self.bodies().iter().map(|body| body["data"]["entry"]["index"].as_u64().unwrap()).collect()
    }
}

pub(crate) fn webhook(url: &str) -> Settings {
    to(url, HttpFormat::Webhook(SigningKey::parse(SECRET).unwrap()))
}

pub(super) fn to(url: &str, format: HttpFormat) -> Settings {
    let to = Destination::Http(HttpSink { url: url.into(), ca: None, format });
    Settings { name: "pager".into(), events: Event::ALL.into_iter().collect(), classes: None, to }
}

/// A courier that has seen the log's end, so that what comes now is told.
pub(super) async fn courier(glass: &Glass, settings: Settings) -> Courier {
    let mut courier = restarted(glass, settings);
    courier.begin(false).await.unwrap();
    assert_eq!(courier.step().await, Ok(courier::Step::Idle));
    courier
}

/// A courier that goes on where the one before it was.
pub(super) fn restarted(glass: &Glass, settings: Settings) -> Courier {
    let store: Arc<dyn crate::store::Store> = glass.room.store.clone();
    let (glass, clock, key) = (Arc::clone(&glass.glass), glass.room.clock.clone(), Arc::new(key()));
    Courier::new(settings, "https://ichor.example.com", store, glass, clock, key).unwrap()
}

/// What the store says is next.
pub(super) async fn cursor(glass: &Glass) -> u64 {
    use crate::store::Store;
    glass.room.store.forward_cursor("notify/pager").await.unwrap().unwrap().next
}
