//! A load: connections that each send their next request when the last was answered.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use crate::connection::{Connection, Target};
use crate::meter::{Times, each, rate};

/// Whole requests, made before the clock starts.
pub(crate) enum Requests {
    /// Each is sent once.
    Once(Mutex<VecDeque<Vec<u8>>>),
    /// They are sent over and over.
    Again(Vec<Vec<u8>>, AtomicUsize),
}

/// What came of a load.
pub(crate) struct Done {
    /// How many requests were answered.
    pub(crate) count: usize,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// CPU that the measured process used meanwhile.
    pub(crate) cpu: Duration,
    /// Of single requests.
    pub(crate) times: Times,
}

// === impl Requests ===

impl Requests {
    pub(crate) fn once(requests: Vec<Vec<u8>>) -> Self {
        Self::Once(Mutex::new(requests.into()))
    }

    pub(crate) fn again(requests: Vec<Vec<u8>>) -> Self {
        Self::Again(requests, AtomicUsize::new(0))
    }

    async fn send(&self, connection: &mut Connection) -> anyhow::Result<()> {
        match self {
            Self::Once(requests) => {
                let next = requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                answered(connection, &next.context("the prepared requests have run out: prepare more")?).await
            }
            Self::Again(requests, sent) => {
                let place = sent.fetch_add(1, Ordering::Relaxed).checked_rem(requests.len());
                answered(connection, place.and_then(|place| requests.get(place)).context("no requests")?).await
            }
        }
    }
}

// === impl Done ===

impl Done {
    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        rate(self.count, self.took)
    }

    /// CPU a request.
    pub(crate) fn cpu_each(&self) -> anyhow::Result<Duration> {
        each(self.cpu, self.count)
    }
}

/// So many connections, before a clock starts.
pub(crate) async fn connect(target: &Target, connections: usize) -> anyhow::Result<Vec<Connection>> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(target.connect().await?);
    }
    Ok(open)
}

/// Keeps `connections` busy for so long; `used` tells the CPU of the process that is measured.
pub(crate) async fn full(
    target: &Target,
    connections: usize,
    requests: Requests,
    time: Duration,
    used: impl Fn() -> anyhow::Result<Duration>,
) -> anyhow::Result<Done> {
    over(connect(target, connections).await?, requests, time, used).await
}

/// As [`full`], over connections that are open.
pub(crate) async fn over(
    open: Vec<Connection>,
    requests: Requests,
    time: Duration,
    used: impl Fn() -> anyhow::Result<Duration>,
) -> anyhow::Result<Done> {
    let requests = Arc::new(requests);
    let (began, cpu) = (Instant::now(), used()?);
    let end = began + time;
    let tasks: Vec<_> = open
        .into_iter()
        .map(|mut connection| {
            let requests = Arc::clone(&requests);
            tokio::spawn(async move {
                let mut times = Times::default();
                while Instant::now() < end {
                    let sent = Instant::now();
                    requests.send(&mut connection).await?;
                    times.push(sent.elapsed());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Times::default();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(Done { count: times.len(), took: began.elapsed(), cpu: used()?.saturating_sub(cpu), times })
}

/// Returns once the request was answered with success.
pub(crate) async fn answered(connection: &mut Connection, request: &[u8]) -> anyhow::Result<()> {
    let answer = connection.send(request).await?;
    ensure!([200, 201].contains(&answer.status), "{}\n{}", answer.head, String::from_utf8_lossy(&answer.body));
    Ok(())
}
