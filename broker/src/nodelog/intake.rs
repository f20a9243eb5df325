//! The one task that holds lines against the grants and has them kept: gathers by cluster, waits for what comes behind them, classes,
//! has what there is to tell recorded, then commits calls and digests together. While the store is slow or out it takes nothing, so
//! readers wait, and the nodes with them.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ichor_wire::profile::GrantName;
use jiff::SignedDuration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::alarm::{self, Alarms, NamedKit};
use super::batch::{BATCH, Gathered, call, content, is_evidence, next_batch};
use super::board::Board;
use super::classify::{Classed, Found, classify};
use super::doubt::Doubts;
use super::findings::Findings;
use super::grants::Grants;
use super::kits::Kits;
use super::quota_watch::QuotaWatch;
use super::reader::{Arrived, Load, Sink, count};
use super::touched::Touched;
use super::tries::Tries;
use super::unkept::Unkept;
use crate::audit::{RecordError, Sequencer};
use crate::clock::SharedClock;
use crate::domain::{ClusterName, GrantId};
use crate::mint::Issuers;
use crate::store::{Call, CallClass, Change, Store, StoreError};

/// How long calls are gathered, and for how many such times they are held then before they are judged and kept. So each waits for a
/// second at least for what comes close behind it, and somebody hears of it in less than two. A time ends early where it has a full batch
/// of one cluster. A cluster costs at most one entry for each such time, and one more for each full batch.
const GATHER: Duration = Duration::from_millis(500);
const HELD: usize = 2;
const _: () =
    assert!(HELD == 2 && GATHER.as_millis() >= 500 && GATHER.as_millis() < 650, "a second, and less than two");

/// How long is waited before the store is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// So long after a stop is waited for what readers have read, and so long the store may take for what is not kept then.
const PARTING: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(10);

/// So many grants' peers are remembered; beyond, memory is emptied and fills again.
const REMEMBERED: usize = 20_000;

/// What the intake works with.
#[derive(Clone)]
pub struct Parts {
    /// Reads grants.
    pub store: Arc<dyn Store>,
    /// Records.
    pub sequencer: Sequencer,
    /// The time.
    pub clock: SharedClock,
    /// Which clusters' certificates name their grants.
    pub issuers: watch::Receiver<Issuers>,
    /// The quota.
    pub max_calls: u64,
    /// For how long calls are expected to be kept; `None`: nothing is told where the quota takes younger ones.
    pub kept_for: Option<SignedDuration>,
}

/// Takes lines in.
pub struct Intake {
    parts: Parts,
    from: mpsc::Receiver<Load>,
    grants: Grants,
    alarms: Alarms,
    doubts: Doubts,
    /// The address by which each grant was first used.
    peers: HashMap<GrantId, String>,
    kits: Kits,
    quota_watch: QuotaWatch,
    touched: Touched,
}

/// Whether the broker stops.
struct Stop<S> {
    /// Ends when it does; not to be waited for again.
    told: S,
    is_told: bool,
    /// Until when the store may take what is not kept.
    last: Option<Instant>,
}

// === impl Intake ===

impl Intake {
    /// An intake, and where lines for it are put.
    #[must_use]
    pub fn new(parts: Parts, board: Arc<Board>) -> (Self, Sink) {
        let (sink, from) = Sink::new(board, Arc::clone(&parts.clock));
        let kits = Kits::new(Arc::clone(&parts.store));
        let quota_watch = QuotaWatch::new(Arc::clone(&parts.store), Arc::clone(&parts.clock), parts.kept_for);
        let intake = Self {
            grants: Grants::new(Arc::clone(&parts.store)),
            parts,
            from,
            alarms: Alarms::default(),
            doubts: Doubts::default(),
            peers: HashMap::new(),
            kits,
            quota_watch,
            touched: Touched::default(),
        };
        (intake, sink)
    }

    /// Takes lines in until `stop` ends or every sink is gone; what was taken is kept then, where the store takes it.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = Stop { told: std::pin::pin!(stop), is_told: false, last: None };
        let mut held = VecDeque::new();
        while !stop.is_told {
            let mut came = Gathered::default();
            let mut due = std::pin::pin!(tokio::time::sleep(GATHER));
            loop {
                tokio::select! {
                    () = &mut stop.told => stop.hear(),
                    load = self.from.recv() => match load {
                        Some(load) => {
                            came.take(load);
                            if came.lines.values().all(|lines| lines.len() < BATCH) {
                                continue;
                            }
                        }
                        None => stop.hear(),
                    },
                    () = &mut due => {}
                }
                break;
            }
            self.hold(came, &mut held);
            while held.len() > HELD {
                self.keep_next(&mut held, &mut stop).await;
            }
            if stop.is_told {
                let rest = self.drain().await;
                self.hold(rest, &mut held);
                while !held.is_empty() {
                    self.keep_next(&mut held, &mut stop).await;
                }
            }
            self.alarms.over();
            match in_time(stop.last, self.quota_watch.look(Instant::now())).await {
                Ok(due) => due.into_iter().for_each(|content| self.alarms.again(content)),
                Err(error) => tracing::warn!(error, "what the quota took is not known"),
            }
            if let Err(error) = in_time(stop.last, self.tell()).await {
                tracing::error!(error, "what nodes' logs tell could not be recorded");
            }
        }
    }

    /// Takes what was read when the broker was told to stop. The listeners end then, and with them every sink.
    async fn drain(&mut self) -> Gathered {
        let mut came = Gathered::default();
        let until = Instant::now() + PARTING;
        while let Ok(Some(load)) = tokio::time::timeout_at(until, self.from.recv()).await {
            came.take(load);
        }
        self.from.close();
        while let Ok(load) = self.from.try_recv() {
            came.take(load);
        }
        came
    }

    /// Holds what came behind what is held, and marks in both what a caller may have written.
    fn hold(&mut self, mut came: Gathered, held: &mut VecDeque<Gathered>) {
        for (cluster, came) in &mut came.lines {
            let before = held.iter_mut().filter_map(|held| held.lines.get_mut(cluster)).flatten();
            self.doubts.mark(before, came);
        }
        held.push_back(came);
    }

    /// Judges and keeps what is held longest.
    async fn keep_next<S>(&mut self, held: &mut VecDeque<Gathered>, stop: &mut Stop<S>)
    where
        S: Future<Output = ()> + Unpin,
    {
        if let Some(gathered) = held.pop_front() {
            self.keep_all(gathered, stop).await;
        }
    }

    /// Classes and keeps what was gathered, batch by batch.
    async fn keep_all<S>(&mut self, gathered: Gathered, stop: &mut Stop<S>)
    where
        S: Future<Output = ()> + Unpin,
    {
        let Gathered { lines, room: _room } = gathered;
        for (cluster, lines) in lines {
            let mut rest = lines.into_iter().filter(is_evidence).peekable();
            while rest.peek().is_some() {
                let batch = next_batch(&mut rest);
                self.keep(&cluster, batch, stop).await;
            }
        }
    }

    /// Classes and keeps one batch; returns once it is durable, or given up because the broker stops.
    async fn keep<S>(&mut self, cluster: &Arc<str>, lines: Vec<Arrived>, stop: &mut Stop<S>)
    where
        S: Future<Output = ()> + Unpin,
    {
        let mut tries = Tries::default();
        loop {
            let was_told = stop.is_told;
            let done = {
                let mut attempt = std::pin::pin!(self.attempt(cluster, &lines, &mut tries));
                let done = tokio::select! {
                    done = &mut attempt, if !was_told => Some(done),
                    () = &mut stop.told, if !was_told => {
                        stop.hear();
                        None
                    }
                    else => None,
                };
                match done {
                    Some(done) => done,
                    None => in_time(stop.last, attempt).await.map_err(Unkept::Now),
                }
            };
            match done {
                Ok(()) => return,
                // what there is to tell of it was recorded before, and behind it wait the lines of every cluster
                Err(Unkept::Ever(error)) => {
                    tracing::error!(
                        calls = lines.len(),
                        error,
                        "calls that nodes told of can never be kept, so they are left out"
                    );
                    return count("refused", lines.len() as u64);
                }
                Err(Unkept::Now(error)) if was_told => {
                    tracing::error!(calls = lines.len(), error, "calls that nodes told of are lost with this stop");
                    return count("lost", lines.len() as u64);
                }
                Err(Unkept::Now(error)) => {
                    tracing::warn!(calls = lines.len(), error, "calls that nodes told of cannot be kept; tried again");
                    tokio::select! {
                        // they get one more try
                        () = &mut stop.told, if !stop.is_told => stop.hear(),
                        () = tokio::time::sleep(AGAIN) => {}
                    }
                }
            }
        }
    }

    /// Commits the batch with its digest, unless an earlier try did, whose answer was lost. What there is to tell of it is recorded before:
    /// whoever is to be told must be, also when the broker ends in between.
    async fn attempt(&mut self, cluster: &Arc<str>, lines: &[Arrived], tries: &mut Tries) -> Result<(), Unkept> {
        let kept = tries.kept(&*self.parts.store, cluster).await?;
        let findings = match kept {
            Some(findings) => findings,
            None => {
                let classed = self.class(cluster, lines).await?;
                let findings = Findings::of(classed.iter().map(|(call, kit)| (call, *kit)));
                let calls: Vec<Call> = classed.into_iter().map(|(call, _)| call).collect();
                let told = self.touched.record(&self.parts.sequencer, &self.parts.clock).await;
                told.map_err(|error| Unkept::Now(error.to_string()))?;
                for (finding, (count, why, began)) in &findings.wanting {
                    if tries.is_news(finding) {
                        self.alarms.note(finding, *count, why.as_deref(), *began);
                    }
                }
                self.tell().await.map_err(|error| Unkept::Now(error.to_string()))?;
                let content = content(cluster, lines, &calls);
                tries.begin(self.parts.clock.now(), &content, findings.clone());
                let change = Change::CallsKept { calls, most: self.parts.max_calls };
                self.parts.sequencer.note(content, Some(change)).await?;
                findings
            }
        };
        findings.count(cluster);
        Ok(())
    }

    /// Each line's call, and the kit that it names where no report explains it.
    async fn class(
        &mut self,
        cluster: &Arc<str>,
        lines: &[Arrived],
    ) -> Result<Vec<(Call, Option<NamedKit>)>, StoreError> {
        if lines.iter().any(|line| line.access.grant.as_deref().is_some_and(|grant| grant.starts_with("kit-"))) {
            self.kits.learn().await?;
        }
        let names_grants = ClusterName::new(cluster)
            .ok()
            .and_then(|name| self.parts.issuers.borrow().get(&name).map(|issuer| issuer.names_grants()))
            .unwrap_or(true);
        let mut calls = Vec::with_capacity(lines.len());
        for line in lines {
            calls.push(self.call(line, names_grants).await?);
        }
        Ok(calls)
    }

    async fn call(&mut self, line: &Arrived, names_grants: bool) -> Result<(Call, Option<NamedKit>), StoreError> {
        let access = &line.access;
        let name: Option<Option<GrantName>> = access.grant.as_deref().map(|text| text.parse().ok());
        let id = name.map(|name| name.map(|name| GrantId(name.id())));
        let kit = name.flatten().and_then(|name| name.kit());
        // of a line that explains nothing what it names: a kit in use and a grant of break-glass are told of though it be bent
        let named = match id {
            Some(Some(id)) => match kit {
                Some(number) => self.grants.find_reported(number, id, line.started).await?,
                None => self.grants.find(id).await?,
            },
            None if access.sign.is_none() && !names_grants && !line.is_probe => {
                self.grants.fits(&line.origin.cluster, access, line.started).await?
            }
            _ => None,
        };
        let known = named.clone().filter(|_| access.sign.is_none());
        let found = match (&known, id) {
            (Some(known), Some(_)) => Found::Known(known),
            (None, Some(_)) => kit.map_or(Found::NoSuchGrant, |kit| Found::Unreported { kit }),
            (fits, None) => Found::Nameless { is_expected: !names_grants, fits: fits.as_deref() },
        };
        let (class, mut why): Classed = match found {
            Found::Nameless { is_expected: true, .. } if line.is_probe => (CallClass::Explained, None),
            _ => classify(access, &line.origin.cluster, line.started, found),
        };
        let fits = !matches!(class, CallClass::Suspect | CallClass::Unexplained);
        let in_use = match (kit, id) {
            // a report explains what it tells of, and not whatever else is done under its grant
            (Some(number), Some(Some(GrantId(grant)))) if !fits || class == CallClass::AfterExpiry => {
                let is_made = self.kits.has(&line.origin.cluster, number, grant);
                Some(NamedKit { number, grant, is_made, is_reported: named.is_some() })
            }
            _ => None,
        };
        if let (Some(named), Some(Some(id))) = (&named, id) {
            match class {
                CallClass::Unexplained => {}
                CallClass::Suspect => self.touched.doubt(id, named, &line.origin, &access.method, why.as_deref()),
                _ => self.touched.note(id, named, &line.origin, &access.method),
            }
        }
        if let (Some(named), None, true) = (&named, id, fits) {
            self.touched.resembles(named, &line.origin, &access.method);
        }
        let known = known.filter(|_| fits);
        if let (Some(peer), Some(Some(id)), true) = (&access.peer, id, fits) {
            why = match (why, self.second_peer(id, peer)) {
                (Some(why), Some(second)) => Some(format!("{why}; {second}")),
                (why, second) => why.or(second),
            };
        }
        Ok((call(line, class, why, id.flatten(), known.as_deref()), in_use))
    }

    /// What there is to say where a grant is used from another address than at first.
    fn second_peer(&mut self, grant: GrantId, peer: &str) -> Option<String> {
        let host = |peer: &str| peer.parse().map_or_else(|_| peer.to_owned(), |at: SocketAddr| at.ip().to_string());
        if self.peers.len() >= REMEMBERED {
            self.peers.clear();
        }
        let first = self.peers.entry(grant).or_insert_with(|| host(peer));
        (*first != host(peer)).then(|| format!("its grant is used from a second address; the first was {first}"))
    }

    /// Returns once all that is due is recorded. What cannot be now stays due: nothing that was found is forgotten.
    async fn tell(&mut self) -> Result<(), RecordError> {
        let due = self.alarms.due();
        let recorded = join_all(due.iter().map(|content| self.parts.sequencer.note(content.clone(), None))).await;
        let mut failed = None;
        for (content, recorded) in due.into_iter().zip(recorded) {
            match recorded {
                Ok(_) => alarm::show(&content),
                Err(RecordError::Entry(why)) => tracing::error!(why, "a finding in a node's log is no entry"),
                Err(error) => {
                    self.alarms.again(content);
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// What this ends with, or that it took too long.
async fn in_time<T, E: ToString>(last: Option<Instant>, what: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    let Some(last) = last else { return what.await.map_err(|error| error.to_string()) };
    match tokio::time::timeout_at(last, what).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("the store takes too long".into()),
    }
}

// === impl Stop ===

impl<S> Stop<S> {
    fn hear(&mut self) {
        self.is_told = true;
        self.last.get_or_insert_with(|| Instant::now() + LAST);
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}
