//! Addresses on loopback: one that refuses everybody, and ports for programs that are told theirs before they start.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::bail;
use tokio::net::TcpSocket;

/// Where [`free_port`] looks from: below it are ports that well-known services have.
const FIRST: u32 = 10_000;
/// Where fewer are left below the ephemeral range, as on a server that was tuned for many connections, the kernel chooses.
const FEW: u32 = 1_000;
/// The kernel's ephemeral range where it does not say (RFC 6335, section 6: the dynamic ports).
const DYNAMIC: u32 = 49_152;

/// An address that refuses every connection for as long as this lives: it is taken, and nobody listens.
#[derive(Debug)]
pub struct Refusing {
    _held: TcpSocket,
    address: SocketAddr,
}

// === impl Refusing ===

impl Refusing {
    /// Takes a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Where the machine has none.
    pub fn take() -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = socket.local_addr()?;
        Ok(Self { _held: socket, address })
    }

    /// As `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

/// A port of 127.0.0.1 that nobody listens on now, as [`listener`] finds it, for a program that listens itself.
///
/// # Errors
/// Where all of them are taken.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(listener()?.local_addr()?.port())
}

/// A listener at a port of 127.0.0.1 that the kernel gives to no connection: one of its ephemeral range, free as it may be now, can be
/// some connection's own before it is listened on again. No two calls of a process are given the same. Where the range leaves no room,
/// at any that is free now.
///
/// # Errors
/// Where all of them are taken.
pub fn listener() -> anyhow::Result<TcpListener> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let ports = ephemeral().saturating_sub(FIRST);
    if ports < FEW {
        return Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    // processes side by side begin at places of their own
    let begin = std::process::id().wrapping_mul(7919);
    for _ in 0..ports {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        if call >= ports {
            break;
        }
        let port = u16::try_from(FIRST + begin.wrapping_add(call) % ports)?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener);
        }
    }
    bail!("no port from {FIRST} to {} is free", FIRST + ports - 1)
}

/// The first of the ports that the kernel gives to connections (ip(7), `ip_local_port_range`).
fn ephemeral() -> u32 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(DYNAMIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_calls_are_given_the_same_port_and_none_is_a_connections() {
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.iter().collect::<std::collections::BTreeSet<_>>().len(), 50);
        let is_apart = |port: &u16| (FIRST..ephemeral()).contains(&u32::from(*port));
        assert!(ephemeral() < FIRST + FEW || ports.iter().all(is_apart), "{ports:?}");
    }

    #[tokio::test]
    async fn a_refusing_address_refuses() {
        let refusing = Refusing::take().unwrap();
        let error = tokio::net::TcpStream::connect(refusing.address()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
