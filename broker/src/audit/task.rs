//! The sequencer's task: batches are committed one after the other, and what they made of the tree is vouched for beside.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use ichor_wire::log::tree::FullTile;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::SharedClock;
use crate::store::{Append, Appended, Committed, Grown, LogHead, Store, StoreError, StoredCheckpoint};

use super::anchor::AnchorError;
use super::foreign::Foreign;
use super::notary::{Notary, Signed, Vouched};
use super::recorded::Place;
use super::sequencer::{Care, Settings, Waiting, note_size};
use super::standing::Standing;
use super::writers::{Committing, Writer, answer};

/// What runs beside the task.
type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A batch whose commit runs, with the writers to answer.
type Commit = Running<(Result<Committed, StoreError>, Vec<Writer>)>;

/// The task.
pub(super) struct Task {
    store: Arc<dyn Store>,
    clock: SharedClock,
    settings: Settings,
    notary: Option<Arc<Notary>>,
    standing: watch::Sender<Standing>,
    /// Encoded and stamped, for the next commit.
    gathered: Vec<(Append, Writer)>,
    /// The tree after the last commit, with all tiles that were completed since the oldest entry in `committed`.
    tree: Arc<Grown>,
    /// The tiles that were completed since the tree that is vouched for now.
    since: Vec<FullTile>,
    /// Durable, and waiting for a checkpoint.
    committed: Vec<Committing>,
    /// Entries of others that no tree that we signed has yet.
    foreign: Vec<Arc<Foreign>>,
    /// The newest checkpoint, until it is kept beside the log.
    unkept: Option<StoredCheckpoint>,
    /// How far the tree lags behind the log, which others append to.
    lag: Lag,
    /// How often in a row an anchor had seen more than the tree that it was shown.
    overtaken: usize,
    /// Why the last commit failed of which nobody waited for an answer.
    failed: Option<StoreError>,
}

/// Whether the tree is to be read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lag {
    /// As far as is known there is nothing new.
    None,
    /// Others have appended: the next commit, if only an empty one, brings the tree.
    Known,
    /// That commit runs.
    Read,
}

/// So often in a row a tree is read anew because an anchor has seen more; then the anchor counts as out, for its grace.
const MOST_OVERTAKEN: usize = 32;

/// Beyond so many stretches of others' entries, that wait while the key is out, all between them is read again instead.
const MOST_FOREIGN: usize = 256;

impl Task {
    pub(super) fn new(
        store: Arc<dyn Store>,
        clock: SharedClock,
        settings: Settings,
        notary: Option<Arc<Notary>>,
        standing: watch::Sender<Standing>,
    ) -> Self {
        let tree = standing.borrow().newest.as_ref().map(|signed| Arc::clone(&signed.tree)).unwrap_or_default();
        Self {
            store,
            clock,
            settings,
            notary,
            standing,
            gathered: Vec::new(),
            tree,
            since: Vec::new(),
            committed: Vec::new(),
            foreign: Vec::new(),
            unkept: None,
            lag: Lag::None,
            overtaken: 0,
            failed: None,
        }
    }

    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        let max_batch = self.settings.max_batch.max(1);
        let mut arrived = Vec::with_capacity(max_batch);
        let mut commit: Option<Commit> = None;
        // one for those who wait, one that tries again what is out
        let mut vouching: Option<(Running<Vouched>, Vec<Committing>)> = None;
        let mut trying: Option<Running<Vouched>> = None;
        let mut looking: Option<Running<Result<LogHead, StoreError>>> = None;
        let mut open = true;
        let mut ticks = tokio::time::interval_at(Instant::now() + self.settings.pace, self.settings.pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if commit.is_none() && (!self.gathered.is_empty() || self.lag == Lag::Known) {
                commit = Some(self.commit());
            }
            // two at once would race to the anchors; what tries again while something is out is not waited for
            let is_free = vouching.is_none() && (trying.is_none() || self.is_out());
            if is_free && !self.committed.is_empty() && self.lag == Lag::None {
                vouching = self.vouch();
                self.since.clear();
            }
            if !open && commit.is_none() && vouching.is_none() && self.committed.is_empty() {
                // whoever has gone waits for nothing
                drop((trying, looking));
                self.end().await;
                return;
            }
            let room = max_batch - self.gathered.len().min(max_batch);
            tokio::select! {
                // What has arrived joins the batch before the batch may start.
                biased;
                count = waiting.recv_many(&mut arrived, room), if open && room > 0 => {
                    open = count > 0;
                    for writer in arrived.drain(..) {
                        self.gather(writer);
                    }
                }
                (done, writers) = running(&mut commit) => {
                    commit = None;
                    let was_read = self.lag == Lag::Read;
                    self.committed(done, writers, vouching.is_some());
                    // whoever asks this broker waits for it
                    if was_read && self.committed.is_empty() && trying.is_none() && vouching.is_none() && self.is_behind() {
                        trying = self.attempt();
                    }
                }
                vouched = async { match &mut vouching { Some((vouching, _)) => vouching.await, None => pending().await } } => {
                    if let Some((_, writers)) = vouching.take() {
                        if self.is_overtaken(&vouched) {
                            self.wait_again(&vouched, writers);
                        } else {
                            let signed = self.take(vouched);
                            answer(signed.as_deref(), writers);
                        }
                    }
                }
                vouched = running(&mut trying) => {
                    trying = None;
                    if !self.is_overtaken(&vouched) {
                        self.take(vouched);
                    }
                }
                head = running(&mut looking) => {
                    looking = None;
                    if head.is_ok_and(|head| head.size > self.tree.edge.size()) && self.lag == Lag::None {
                        self.lag = Lag::Known;
                    }
                }
                _ = ticks.tick() => {
                    if trying.is_none() && vouching.is_none() && self.is_behind() {
                        trying = self.attempt();
                    } else if commit.is_none() && self.unkept.is_some() {
                        commit = Some(self.commit());
                    } else if commit.is_none() && looking.is_none() && self.notary.is_some() {
                        looking = Some(self.look());
                    }
                }
            }
        }
    }

    /// Stamps and encodes one entry. A writer whose entry cannot be is answered at once.
    fn gather(&mut self, Waiting { content, change, care, answer }: Waiting) {
        match self.settings.stamp(self.clock.now(), content, change) {
            Ok(append) => {
                let encoded = (care == Care::Proven).then(|| append.entry.encoded.clone());
                self.gathered.push((append, Writer { answer, care, encoded }));
            }
            Err(error) => answer.give(Err(error)),
        }
    }

    /// Asks how far the log has come: one that records nothing itself shows what others recorded all the same.
    fn look(&self) -> Running<Result<LogHead, StoreError>> {
        let store = Arc::clone(&self.store);
        Box::pin(async move { store.head().await })
    }

    /// Whether an anchor has seen more of the log than this tree has: then the tree is read anew before anyone is answered.
    fn is_overtaken(&mut self, vouched: &Vouched) -> bool {
        let is_ahead = matches!(vouched.anchored, Some(Err(AnchorError::Ahead { .. })));
        self.overtaken = if is_ahead && self.overtaken < MOST_OVERTAKEN { self.overtaken + 1 } else { 0 };
        if self.overtaken > 0 {
            self.lag = Lag::Known;
        }
        self.overtaken > 0
    }

    /// Has writers wait for the next tree, which then has the tiles too that were completed since the oldest of them.
    fn wait_again(&mut self, vouched: &Vouched, writers: Vec<Committing>) {
        if let Ok(signed) = &vouched.signed
            && signed.tree.edge.size() < self.tree.edge.size()
        {
            let since = Grown { edge: self.tree.edge.clone(), tiles: std::mem::take(&mut self.since) };
            self.tree = Arc::new(signed.tree.followed_by(&since));
        }
        self.committed.splice(0..0, writers);
    }

    fn commit(&mut self) -> Commit {
        if self.lag == Lag::Known {
            self.lag = Lag::Read;
        }
        let (batch, writers): (Vec<_>, Vec<_>) = self.gathered.drain(..).unzip();
        let (store, checkpoint) = (Arc::clone(&self.store), self.unkept.take());
        Box::pin(async move {
            let began = Instant::now();
            let committed = store.append(batch, checkpoint).await;
            metrics::histogram!("ichor_commit_seconds").record(began.elapsed());
            (committed, writers)
        })
    }

    /// Answers those who need no more, and keeps the others for the next checkpoint.
    fn committed(&mut self, committed: Result<Committed, StoreError>, writers: Vec<Writer>, is_vouching: bool) {
        if self.lag == Lag::Read {
            self.lag = Lag::None;
        }
        let Committed { parts, tree } = match committed {
            Ok(committed) => committed,
            Err(error) => {
                // said once where nobody waits, or it would be said each second
                if !writers.is_empty() || self.failed.as_ref() != Some(&error) {
                    tracing::error!(entries = writers.len(), %error, "entries could not be recorded");
                }
                self.failed = Some(error.clone());
                // the checkpoint that went with it is not kept either; the next one is newer
                for writer in writers {
                    writer.answer.give(Err(error.clone().into()));
                }
                return;
            }
        };
        self.failed = None;
        if tree.edge.size() > 0 {
            note_size(tree.edge.size());
        }
        let own = parts.iter().filter_map(|part| match part {
            Appended::Recorded { leaf_hash, .. } => Some(*leaf_hash),
            Appended::Refused(_) => None,
        });
        let foreign = self.notary.as_ref().and_then(|_| Foreign::between(&self.tree.edge, own, &tree.edge));
        self.foreign.extend(foreign.map(Arc::new));
        if self.foreign.len() > MOST_FOREIGN {
            self.foreign = Foreign::all(&self.foreign).into_iter().map(Arc::new).collect();
        }
        if tree.edge.size() >= self.tree.edge.size() {
            self.since.extend(tree.tiles.iter().filter(|_| is_vouching).cloned());
            self.tree = if self.committed.is_empty() { tree } else { Arc::new(self.tree.followed_by(&tree)) };
        }
        // A store that answers fewer parts than it was given drops the last writers' answers: they are refused.
        for (part, mut writer) in parts.into_iter().zip(writers) {
            match part {
                Appended::Refused(condition) => writer.answer.give(Err(condition.into())),
                Appended::Recorded { index, leaf_hash, retimed } => {
                    // what is proved is what was recorded
                    writer.encoded = writer.encoded.map(|given| retimed.unwrap_or(given));
                    let place = Place { index, leaf_hash, proof: None };
                    match writer.care {
                        Care::Step => writer.answer.give(Ok(place)),
                        Care::Vouched | Care::Proven => self.committed.push(Committing { place, writer }),
                    }
                }
            }
        }
    }

    /// Begins to vouch for what was committed. Where there is no notary, or its key is known to be out, the writers are
    /// answered without a checkpoint; anchors that are known to be out are not waited for.
    fn vouch(&mut self) -> Option<(Running<Vouched>, Vec<Committing>)> {
        let writers = std::mem::take(&mut self.committed);
        let (is_key_out, is_anchor_out) = {
            let standing = self.standing.borrow();
            (standing.key_out.is_some(), standing.anchor_out.is_some())
        };
        match &self.notary {
            Some(notary) if !is_key_out => Some((self.vouching(notary, !is_anchor_out), writers)),
            _ => {
                answer(None, writers);
                None
            }
        }
    }

    /// Tries again what is out, or signs what nobody waits for.
    fn attempt(&self) -> Option<Running<Vouched>> {
        Some(self.vouching(self.notary.as_ref()?, true))
    }

    /// Signs the newest tree once the entries of others in it may be.
    fn vouching(&self, notary: &Arc<Notary>, with_anchors: bool) -> Running<Vouched> {
        let (notary, store, tree) = (Arc::clone(notary), Arc::clone(&self.store), Arc::clone(&self.tree));
        let foreign = self.foreign.clone();
        Box::pin(async move {
            let began = Instant::now();
            for foreign in foreign {
                if let Err(error) = foreign.check(&*store, notary.log()).await {
                    return Vouched { signed: Err(error), anchored: None };
                }
            }
            let vouched = notary.vouch(&*store, tree, with_anchors).await;
            metrics::histogram!("ichor_vouch_seconds").record(began.elapsed());
            vouched
        })
    }

    fn is_out(&self) -> bool {
        let standing = self.standing.borrow();
        standing.key_out.is_some() || standing.anchor_out.is_some()
    }

    /// Whether the newest tree is not signed and anchored.
    fn is_behind(&self) -> bool {
        let signed = self.standing.borrow().newest.as_ref().map_or(0, |signed| signed.checkpoint.size());
        self.notary.is_some() && (self.is_out() || signed < self.tree.edge.size())
    }

    /// Takes in what came of vouching; the checkpoint is kept with the next commit.
    fn take(&mut self, vouched: Vouched) -> Option<Arc<Signed>> {
        let notary = self.notary.as_ref()?;
        let (grace, now) = (notary.grace, self.clock.now());
        let mut told = false;
        self.standing.send_if_modified(|standing| {
            told = standing.take(&vouched, grace, now);
            true
        });
        let standing = self.standing.borrow();
        if told {
            tell(&standing);
        }
        let signed = vouched.signed.ok()?;
        self.foreign.retain(|foreign| foreign.size() > signed.checkpoint.size());
        self.unkept = standing.newest.as_ref().map(|newest| newest.stored());
        drop(standing);
        Some(Arc::new(signed))
    }

    /// Vouches for the last entries and keeps the checkpoint, if that can be done.
    async fn end(mut self) {
        if self.is_behind()
            && let Some(last) = self.attempt()
        {
            let vouched = last.await;
            self.take(vouched);
        }
        if let Some(checkpoint) = self.unkept.take()
            && let Err(error) = self.store.append(Vec::new(), Some(checkpoint)).await
        {
            tracing::warn!(%error, "the newest checkpoint could not be kept; the next start goes on from the one before");
        }
    }
}

async fn running<T>(running: &mut Option<Running<T>>) -> T {
    match running {
        Some(running) => running.await,
        None => pending().await,
    }
}

/// Says once that something is out, or works again.
fn tell(standing: &Standing) {
    for (what, out) in [("audit key", &standing.key_out), ("anchor", &standing.anchor_out)] {
        match out {
            Some(out) => tracing::error!(what, why = out.why, until = %out.until, "the audit log is not vouched for"),
            None => tracing::info!(what, "the audit log is vouched for"),
        }
    }
}
