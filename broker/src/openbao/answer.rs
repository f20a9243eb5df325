//! What a server answered.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::id;
use super::{BaoError, Client, Kind};

/// An answer, whole. Its bytes are wiped when it is dropped; `Debug` shows none of them.
pub struct Answer {
    client: Client,
    /// Looked for when an error needs it: that costs a walk through the body.
    request: OnceLock<Option<String>>,
    body: Zeroizing<Vec<u8>>,
    /// Whether it is told to metrics, once it is known whether it could be read.
    is_counted: bool,
    is_garbled: AtomicBool,
}

/// What every answer looks like.
#[derive(Deserialize)]
struct Envelope<T> {
    #[serde(default = "Option::default")]
    data: Option<T>,
    #[serde(default = "Option::default")]
    auth: Option<T>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    request_id: Option<String>,
}

// === impl Answer ===

impl Answer {
    pub(super) fn new(client: Client, body: Zeroizing<Vec<u8>>) -> Self {
        Self { client, request: OnceLock::new(), body, is_counted: false, is_garbled: AtomicBool::new(false) }
    }

    /// The same, told to metrics when it is dropped: as what could be read, or as none.
    pub(super) fn counted(mut self) -> Self {
        self.is_counted = true;
        self
    }

    /// The server's id of the request.
    #[must_use]
    pub fn request(&self) -> Option<&str> {
        let look = || {
            let head: Option<Head> = serde_json::from_slice(&self.body).ok();
            head.and_then(|head| head.request_id).as_deref().and_then(id)
        };
        self.request.get_or_init(look).as_deref()
    }

    /// What is asked for, from the answer's `data`. Strings may be borrowed, so that a secret gets no second copy.
    ///
    /// # Errors
    /// When it is not of this shape. What it is instead is not told: it may hold a secret.
    pub fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, BaoError> {
        let envelope: Option<Envelope<T>> = serde_json::from_slice(&self.body).ok();
        envelope.and_then(|envelope| envelope.data).ok_or_else(|| self.garbled("its data has another shape"))
    }

    /// The same from the answer's `auth`.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub(super) fn auth<'a, T: Deserialize<'a>>(&'a self) -> Result<T, BaoError> {
        let envelope: Option<Envelope<T>> = serde_json::from_slice(&self.body).ok();
        envelope.and_then(|envelope| envelope.auth).ok_or_else(|| self.garbled("it holds no login"))
    }

    /// An error that says so of this answer.
    #[must_use]
    pub fn garbled(&self, what: &'static str) -> BaoError {
        self.is_garbled.store(true, Ordering::Relaxed);
        self.client.error(Kind::Garbled(what), self.request().map(str::to_owned))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.is_counted {
            self.client.count(if *self.is_garbled.get_mut() { "garbled" } else { "ok" });
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("request", &self.request()).finish_non_exhaustive()
    }
}
