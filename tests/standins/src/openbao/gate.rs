//! The gate in front of every path: remembers requests, holds them or their answers back, and spoils answers.

use std::sync::Mutex;

use serde_json::Value;
use tokio::sync::watch;

use super::policy::matches;
use crate::lock;

/// How an answer is spoilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and no answer ever comes; the connection stays open.
    Stall,
    /// It is done, and no answer ever comes; the connection stays open.
    Silent,
    /// Nothing is done, and the connection is closed.
    Disconnect,
    /// It is done, and the connection is closed without an answer.
    Lost,
    /// Nothing is done: 429, `rate limit quota exceeded`.
    Quota,
    /// Nothing is done: this status with this reason.
    Status(u16, String),
    /// It is done, and the answer is 200 with a page that is no JSON.
    Garbage,
    /// It is done, and the body ends in its middle.
    Truncated,
    /// It is done, and the answer is 200 with JSON of this many octets.
    Huge(usize),
    /// It is done, and this body is answered with 200 in place of the real one.
    Instead(Value),
}

/// A request that came.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// The path without `/v1/`.
    pub path: String,
    /// The body; null where there is none, or none in JSON.
    pub body: Value,
}

/// While it lives, requests to its paths wait. Dropping it lets them go on.
pub struct Hold {
    release: watch::Sender<bool>,
    arrived: watch::Receiver<usize>,
}

#[derive(Default)]
pub(super) struct Gate {
    requests: Mutex<Vec<Request>>,
    holds: Mutex<Vec<Held>>,
    faults: Mutex<Vec<Spoilt>>,
}

struct Held {
    pattern: String,
    answers: bool,
    released: watch::Receiver<bool>,
    arrived: watch::Sender<usize>,
}

struct Spoilt {
    pattern: String,
    fault: Fault,
    /// So many are let through first.
    after: u32,
    times: Option<u32>,
}

// === impl Hold ===

impl Hold {
    /// Returns once `count` requests wait there.
    pub async fn arrived(&mut self, count: usize) {
        let _ = self.arrived.wait_for(|arrived| *arrived >= count).await;
    }

    /// Lets the waiting requests go on.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.release.send(true);
    }
}

// === impl Fault ===

impl Fault {
    /// Whether what was asked for is done nevertheless.
    pub(super) fn acts(&self) -> bool {
        matches!(self, Self::Silent | Self::Lost | Self::Garbage | Self::Truncated | Self::Huge(_) | Self::Instead(_))
    }
}

// === impl Gate ===

impl Gate {
    pub(super) fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    pub(super) fn note(&self, method: &http::Method, path: &str, body: Value) {
        lock(&self.requests).push(Request { method: method.to_string(), path: path.to_owned(), body });
    }

    pub(super) fn hold(&self, pattern: &str, answers: bool) -> Hold {
        let (release, released) = watch::channel(false);
        let (arrived, watch_arrived) = watch::channel(0);
        let mut holds = lock(&self.holds);
        holds.retain(|held| !*held.released.borrow());
        holds.push(Held { pattern: pattern.to_owned(), answers, released, arrived });
        Hold { release, arrived: watch_arrived }
    }

    /// Returns once no hold of this kind stands in the way.
    pub(super) async fn pass(&self, path: &str, answers: bool) {
        let waits: Vec<watch::Receiver<bool>> = lock(&self.holds)
            .iter()
            .filter(|held| held.answers == answers && matches(&held.pattern, path))
            .map(|held| {
                held.arrived.send_modify(|arrived| *arrived += 1);
                held.released.clone()
            })
            .collect();
        for mut released in waits {
            let _ = released.wait_for(|released| *released).await;
        }
    }

    pub(super) fn set_fault(&self, pattern: &str, fault: Option<Fault>, after: u32, times: Option<u32>) {
        let mut faults = lock(&self.faults);
        faults.retain(|spoilt| spoilt.pattern != pattern);
        if let Some(fault) = fault {
            faults.push(Spoilt { pattern: pattern.to_owned(), fault, after, times });
        }
    }

    /// The fault for this request, which uses up one of its times.
    pub(super) fn fault(&self, path: &str) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        faults.retain(|spoilt| spoilt.times != Some(0));
        let spoilt = faults.iter_mut().find(|spoilt| matches(&spoilt.pattern, path))?;
        if let Some(after) = spoilt.after.checked_sub(1) {
            spoilt.after = after;
            return None;
        }
        spoilt.times = spoilt.times.map(|times| times.saturating_sub(1));
        Some(spoilt.fault.clone())
    }
}
