//! Where nodes send their lines: TCP, one line behind the other, and UDP, one line a packet.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::line::LONGEST;
use super::reader::{Reader, Sink, count};
use super::sources::{Origin, Sources};
use super::split::{Piece, Splitter};
use crate::domain::network;

/// Connections of one address at once. A node has one for each destination; one that was cut off without a word keeps its
/// place until the kernel has noticed.
const OF_ONE: usize = 8;

/// What a connection reads at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// What is read is handed on when so many bytes wait, or when there is nothing more to read.
const LOAD: usize = 128 * 1024;

/// How long is waited after an error of accepting, of which being out of files is one.
const PAUSE: Duration = Duration::from_millis(100);

/// Reads connections from the sources' addresses, at most `most` at once, until `stop` ends.
pub async fn listen_tcp(
    listener: TcpListener,
    sources: Arc<Sources>,
    sink: Sink,
    most: usize,
    stop: impl Future<Output = ()>,
) {
    // one that is gone without a word is noticed
    let keep = nix::sys::socket::setsockopt(&listener, nix::sys::socket::sockopt::KeepAlive, &true);
    if let Err(error) = keep {
        tracing::warn!(%error, "connections of nodes are not kept alive");
    }
    let mut stop = std::pin::pin!(stop);
    let mut connections = JoinSet::new();
    let places = Arc::new(Mutex::new(HashMap::<IpAddr, usize>::new()));
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a node's connection cannot be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(origin) = known(&sources, peer.ip()) else { continue };
        let Some(place) = Place::take(&places, network(peer.ip()), connections.len() < most) else { continue };
        let sink = sink.clone();
        connections.spawn(async move {
            let end = read(stream, &origin, sink).await;
            tracing::debug!(cluster = &*origin.cluster, node = &*origin.node, error = ?end.err(), "a node's connection ended");
            drop(place);
        });
    }
}

/// Reads packets from the sources' addresses until `stop` ends. Where there is no room they are dropped and counted.
pub async fn listen_udp(socket: UdpSocket, sources: Arc<Sources>, sink: Sink, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let mut reader = Reader::new(sink, true);
    let mut packet = vec![0; LONGEST + 1];
    loop {
        let received = tokio::select! {
            () = &mut stop => return,
            received = socket.recv_from(&mut packet) => received,
        };
        let (len, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "a node's packet cannot be read");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(origin) = known(&sources, peer.ip()) else { continue };
        let line = packet.get(..len).unwrap_or_default();
        let piece = if len > LONGEST { Piece::TooLong } else { Piece::Line(line) };
        reader.take(&origin, piece);
        reader.send_or_drop();
    }
}

/// Whose address it is; one that is nobody's is counted.
fn known(sources: &Sources, address: IpAddr) -> Option<Origin> {
    let origin = sources.origin(address);
    if origin.is_none() {
        metrics::counter!("ichor_node_unknown_sources_total").increment(1);
    }
    origin
}

async fn read(mut stream: TcpStream, origin: &Origin, sink: Sink) -> io::Result<()> {
    let mut reader = Reader::new(sink, false);
    let mut splitter = Splitter::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let len = stream.read(&mut chunk).await?;
        let bytes = chunk.get(..len).unwrap_or_default();
        splitter.push(bytes, |piece| reader.take(origin, piece));
        if len == 0 || len < CHUNK || reader.waiting() >= LOAD {
            reader.send().await;
        }
        if len == 0 {
            if splitter.is_within() {
                count("unfinished", 1);
            }
            return Ok(());
        }
    }
}

/// A connection's place among those of its address. Dropping it gives it back.
#[derive(Debug)]
struct Place {
    places: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

// === impl Place ===

impl Place {
    fn take(places: &Arc<Mutex<HashMap<IpAddr, usize>>>, address: IpAddr, is_room: bool) -> Option<Self> {
        let mut taken = places.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = taken.get(&address).copied().unwrap_or_default();
        if !is_room || of_one >= OF_ONE {
            metrics::counter!("ichor_node_connections_refused_total").increment(1);
            return None;
        }
        taken.insert(address, of_one + 1);
        drop(taken);
        Some(Self { places: Arc::clone(places), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.address)),
        }
    }
}
