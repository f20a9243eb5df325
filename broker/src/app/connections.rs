//! Bounds on connections: in total, and by address. Each holds its place for as long as it lives, idle or not.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::domain::{AddressRange, network};

/// Files that are kept back for all else: the database, providers, health, the admin socket.
const KEPT_BACK: u64 = 64;

/// Accepts connections as long as there is a place for them; one beyond is closed before a byte of it is read.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    places: Arc<Mutex<Places>>,
    most: usize,
    most_of_one: usize,
    /// Proxies speak for many, so only the total holds for them.
    proxies: Arc<[AddressRange]>,
}

#[derive(Debug, Default)]
struct Places {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection with its place.
#[derive(Debug)]
pub(super) struct Held {
    stream: TcpStream,
    _place: Place,
}

/// Dropping it gives the place back.
#[derive(Debug)]
struct Place {
    places: Arc<Mutex<Places>>,
    address: Option<IpAddr>,
}

// === impl Bounded ===

impl Bounded {
    /// At most so many, and so many of one address. Where the process may not open enough files for that, fewer: to be out of
    /// files stops everything, health and the database too.
    pub(super) fn new(most: usize, most_of_one: usize, proxies: Arc<[AddressRange]>) -> Self {
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        let fitting = fitting(most, files);
        if fitting < most {
            tracing::warn!(
                files,
                connections = fitting,
                "the process may open too few files for `limits.connections`; raise `LimitNOFILE=` in its unit"
            );
        }
        Self { places: Arc::default(), most: fitting, most_of_one, proxies }
    }

    fn enter(&self, peer: IpAddr) -> io::Result<Place> {
        let address = (!self.proxies.iter().any(|range| range.contains(peer))).then(|| network(peer));
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = address.and_then(|address| places.by_address.get(&address).copied()).unwrap_or_default();
        if places.all >= self.most || of_one >= self.most_of_one {
            drop(places);
            metrics::counter!("ichor_connections_refused_total").increment(1);
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "too many connections"));
        }
        places.all += 1;
        if let Some(address) = address {
            places.by_address.insert(address, of_one + 1);
        }
        Ok(Place { places: Arc::clone(&self.places), address })
    }
}

/// How many connections fit beside what is kept back, at least half of the files.
fn fitting(most: usize, files: u64) -> usize {
    let room = files.saturating_sub(KEPT_BACK).max(files / 2).max(1);
    most.min(usize::try_from(room).unwrap_or(usize::MAX))
}

impl<S> Accept<TcpStream, S> for Bounded {
    type Stream = Held;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Held, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let held = stream.peer_addr().and_then(|peer| {
            let place = self.enter(peer.ip())?;
            // a handshake's last bytes and an answer would else wait 40 ms for an acknowledgement each
            stream.set_nodelay(true)?;
            Ok((Held { stream, _place: place }, service))
        });
        std::future::ready(held)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.all = places.all.saturating_sub(1);
        let Some(address) = self.address else { return };
        match places.by_address.get_mut(&address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(places.by_address.remove(&address)),
        }
    }
}

impl AsyncRead for Held {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_lasts_as_long_as_its_connection() {
        let proxies = AddressRange::parse("10.0.0.0/8").into_iter().collect();
        let bounded = Bounded::new(4, 2, proxies);
        let one = [bounded.enter(address("192.0.2.1")), bounded.enter(address("192.0.2.1"))];
        assert!(one.iter().all(Result::is_ok));
        assert!(bounded.enter(address("192.0.2.1")).is_err(), "no third of one address");
        let proxy = [bounded.enter(address("10.1.1.1")), bounded.enter(address("10.1.1.1"))];
        assert!(bounded.enter(address("192.0.2.2")).is_err(), "no fifth at all");
        drop(one);
        let proxied = bounded.enter(address("10.1.1.1"));
        assert!(proxied.is_ok(), "a proxy speaks for many");
        drop((proxy, proxied));
        let places = bounded.places.lock().unwrap();
        assert_eq!((places.all, places.by_address.len()), (0, 0));
    }

    #[test]
    fn files_are_kept_back() {
        assert_eq!(fitting(4096, 1024), 960);
        assert_eq!(fitting(4096, 100), 50);
        assert_eq!(fitting(10, 1024), 10);
        assert_eq!(fitting(10, 0), 1);
    }
}
