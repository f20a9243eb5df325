//! From a line to what may be a call: what each connection does on its own, before the intake.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::access::{self, Access, Message, Sign};
use super::board::Board;
use super::line::Line;
use super::reading_time::ReadingTime;
use super::sources::Origin;
use super::split::Piece;
use crate::clock::SharedClock;
use crate::store::NodeService;

/// So many bytes of lines may wait for the intake, all connections together.
const WAITING: usize = 16 << 20;

/// What a line costs beside its bytes.
const OVERHEAD: usize = 512;

/// How far a line's two times may be apart, and how far back a service's times may go from line to line: a second is cut off,
/// and Go takes the time before it takes the lock.
const SLACK: SignedDuration = SignedDuration::from_secs(2);

/// How far a node's clock may be ahead of ours before its times count for nothing.
const FUTURE: SignedDuration = SignedDuration::from_mins(10);

/// A line of an unlike kind is logged at most once in this time.
const SAMPLE: Duration = Duration::from_secs(60);

/// A line that may tell of a call, or is a piece of one.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) origin: Origin,
    pub(super) service: NodeService,
    pub(super) access: Access,
    /// When the call began, by the node's clock.
    pub(super) started: Timestamp,
    /// When it came, by a clock that stands still while readers wait for the intake.
    pub(super) heard: Duration,
    /// Whether it came in a packet, so that what was sent before it may come after it.
    pub(super) is_packet: bool,
    /// Whether it bears the mark of a probe on its way to this node.
    pub(super) is_probe: bool,
    /// The line's bytes.
    pub(super) raw: Vec<u8>,
}

/// Lines on their way to the intake, with the room that they take.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) lines: Lines,
    _room: OwnedSemaphorePermit,
}

/// Lines that were read and not taken yet. Those that are still here when it is dropped are lost with a stop, and counted.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<Arrived>);

/// Where readers put what they read. Cheap to clone.
#[derive(Clone)]
pub struct Sink {
    to: mpsc::Sender<Load>,
    room: Arc<Semaphore>,
    board: Arc<Board>,
    clock: SharedClock,
    waiting: Arc<ReadingTime>,
    sampled: Arc<Mutex<Option<Instant>>>,
}

/// Reads the lines of one connection, or of all packets.
#[derive(Debug)]
pub(super) struct Reader {
    sink: Sink,
    is_packet: bool,
    /// The last time printed by each service of this connection.
    last: HashMap<NodeService, Timestamp>,
    gathered: Lines,
    bytes: usize,
    /// What the board and the counters are told with the next load, not with each line.
    heard: Vec<(Origin, NodeService)>,
    calls: u64,
    others: u64,
}

// === impl Sink ===

impl Sink {
    /// A sink, and where the intake takes from it.
    pub(super) fn new(board: Arc<Board>, clock: SharedClock) -> (Self, mpsc::Receiver<Load>) {
        let (to, from) = mpsc::channel(1024);
        let sink = Self {
            to,
            room: Arc::new(Semaphore::new(WAITING)),
            board,
            clock,
            waiting: Arc::new(ReadingTime::new()),
            sampled: Arc::default(),
        };
        (sink, from)
    }

    /// Counts a line that is none, and shows one of them a minute.
    fn note_bad(&self, origin: &Origin, outcome: &'static str, line: &[u8]) {
        count(outcome, 1);
        let now = Instant::now();
        let mut sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        if sampled.is_none_or(|at| now.duration_since(at) >= SAMPLE) {
            *sampled = Some(now);
            let line: String = line.iter().take(200).map(|byte| printable(*byte)).collect();
            tracing::warn!(
                cluster = &*origin.cluster,
                node = &*origin.node,
                outcome,
                line,
                "a node's line is not read"
            );
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' }
}

/// Counts lines by what became of them.
pub(super) fn count(outcome: &'static str, lines: u64) {
    metrics::counter!("ichor_node_lines_total", "outcome" => outcome).increment(lines);
}

// === impl Lines ===

impl Lines {
    /// The lines, for whoever keeps or counts them.
    pub(super) fn take(&mut self) -> Vec<Arrived> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            tracing::error!(lines = self.0.len(), "lines of nodes that were read are lost with this stop");
            count("lost", self.0.len() as u64);
        }
    }
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(sink: Sink, is_packet: bool) -> Self {
        let (last, gathered, heard) = Default::default();
        Self { sink, is_packet, last, gathered, bytes: 0, heard, calls: 0, others: 0 }
    }

    /// Reads one line. What may be a call waits for [`Self::send`].
    pub(super) fn take(&mut self, origin: &Origin, piece: Piece<'_>) {
        let Piece::Line(raw) = piece else {
            self.sink.note_bad(origin, "too-long", b"");
            // its beginning may have been a call's, and what follows it may be its end
            for service in [NodeService::Machined, NodeService::Apid] {
                let access = Access { sign: Some(Sign::TooLong), is_broken: true, ..Access::default() };
                self.gather(origin, service, access, None, Vec::new());
            }
            return;
        };
        let Ok(line) = Line::read(raw) else { return self.sink.note_bad(origin, "bad", raw) };
        let Some(service) = line.service else {
            self.others += 1;
            return;
        };
        if !self.heard.iter().any(|(heard, of)| *of == service && heard == origin) {
            self.heard.push((origin.clone(), service));
        }
        match access::read(service, &line.message) {
            Message::Other => self.others += 1,
            Message::End => {
                self.others += 1;
                let access = Access { is_end: true, ..Access::default() };
                self.gather(origin, service, access, line.time, Vec::new());
            }
            Message::Call(access) => {
                self.calls += 1;
                self.gather(origin, service, access, line.time, raw.to_vec());
            }
        }
    }

    /// How many bytes wait for [`Self::send`].
    pub(super) fn waiting(&self) -> usize {
        self.bytes
    }

    /// Hands on what was read; waits for room, and so stops the connection from being read.
    pub(super) async fn send(&mut self) {
        let Some((lines, bytes)) = self.load() else { return };
        let _waits = self.sink.waiting.wait();
        let room = Arc::clone(&self.sink.room).acquire_many_owned(bytes).await;
        if let Ok(room) = room {
            let _ = self.sink.to.send(Load { lines, _room: room }).await;
        }
    }

    /// Hands on what was read, or drops it where there is no room.
    pub(super) fn send_or_drop(&mut self) {
        let Some((mut lines, bytes)) = self.load() else { return };
        let outcome = match Arc::clone(&self.sink.room).try_acquire_many_owned(bytes) {
            Ok(room) => match self.sink.to.try_send(Load { lines, _room: room }) {
                Ok(()) | Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(mut load)) => load.lines.take(),
            },
            Err(_) => lines.take(),
        };
        count("dropped", outcome.len() as u64);
    }

    fn load(&mut self) -> Option<(Lines, u32)> {
        self.tell();
        let bytes = u32::try_from(std::mem::take(&mut self.bytes).min(WAITING)).unwrap_or(u32::MAX);
        let lines = std::mem::take(&mut self.gathered);
        (!lines.0.is_empty()).then_some((lines, bytes))
    }

    /// Tells what was heard and counted.
    fn tell(&mut self) {
        let now = self.sink.clock.now();
        for (origin, service) in self.heard.drain(..) {
            self.sink.board.heard(&origin, service, now);
        }
        for (outcome, lines) in [("call", &mut self.calls), ("other", &mut self.others)] {
            if *lines > 0 {
                count(outcome, std::mem::take(lines));
            }
        }
    }

    fn gather(
        &mut self,
        origin: &Origin,
        service: NodeService,
        mut access: Access,
        read: Option<Timestamp>,
        raw: Vec<u8>,
    ) {
        let now = self.sink.clock.now();
        let ended = self.ended(service, &mut access, read, now);
        let mark = access.probe.as_deref().filter(|_| access.sign.is_none());
        if mark.is_some() {
            // which is noted of a service that was heard
            self.tell();
        }
        let is_probe = mark.is_some_and(|mark| self.sink.board.came_back(origin, service, mark, now));
        self.bytes += raw.len() + OVERHEAD;
        self.gathered.0.push(Arrived {
            origin: origin.clone(),
            service,
            started: ended.saturating_sub(access.duration).unwrap_or(ended),
            access,
            heard: self.sink.waiting.now(),
            is_packet: self.is_packet,
            is_probe,
            raw,
        });
    }

    /// When the line was printed: the call's end. Out of order, it is a sign.
    fn ended(
        &mut self,
        service: NodeService,
        access: &mut Access,
        read: Option<Timestamp>,
        now: Timestamp,
    ) -> Timestamp {
        let Some(printed) = access.printed else { return read.filter(|read| *read <= now).unwrap_or(now) };
        let after = |at: Timestamp, by| at.saturating_add(by).unwrap_or(at);
        let last = if self.is_packet { None } else { self.last.insert(service, printed) };
        let is_back = last.is_some_and(|last| after(printed, SLACK) < last);
        let is_read_before = read.is_some_and(|read| after(read, SLACK) < printed);
        if is_back || is_read_before || printed > after(now, FUTURE) {
            access.sign = access.sign.or(Some(Sign::Order));
        }
        match read {
            // to the second only, where the node's sender was not behind
            Some(read) if !access.is_exact && read >= printed && read < after(printed, SLACK) => read,
            _ => printed,
        }
    }
}

impl Drop for Reader {
    /// A connection that breaks off was heard all the same.
    fn drop(&mut self) {
        self.tell();
    }
}
