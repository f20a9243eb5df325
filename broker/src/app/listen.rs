//! Listening: TCP with or without TLS, each connection within bounds, or a Unix socket, whose peer is a proxy of this host.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::StartError;
use super::background::{Tasks, named};
use super::connections::Bounded;
use super::serve::told;

/// The longest that a client may take to send its request's headers.
const HEADER_TIME: Duration = Duration::from_secs(10);

pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(super) fn serve(
        self,
        routes: Router,
        tls: Option<axum_server::tls_rustls::RustlsConfig>,
        bounded: Bounded,
        handle: &Handle<SocketAddr>,
        stopped: &watch::Receiver<bool>,
        tasks: &mut Tasks,
    ) {
        match self {
            Self::Tcp(listener) => {
                let handle = handle.clone();
                tasks.spawn(named("a listener", async move {
                    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
                    let served = match tls {
                        Some(tls) => match axum_server::from_tcp_rustls(listener, tls) {
                            Ok(server) => {
                                let mut server = server.map(|tls| tls.acceptor(bounded));
                                bound(server.http_builder());
                                server.handle(handle).first_request_timeout(HEADER_TIME).serve(service).await
                            }
                            Err(error) => Err(error),
                        },
                        None => match axum_server::from_tcp(listener) {
                            Ok(server) => {
                                let mut server = server.acceptor(bounded);
                                bound(server.http_builder());
                                server.handle(handle).first_request_timeout(HEADER_TIME).serve(service).await
                            }
                            Err(error) => Err(error),
                        },
                    };
                    if let Err(error) = served {
                        tracing::error!(%error, "listener ended");
                    }
                }));
            }
            Self::Unix(listener) => {
                let stopped = stopped.clone();
                tasks.spawn(named("a listener", async move {
                    let served =
                        axum::serve(listener, routes.into_make_service()).with_graceful_shutdown(told(stopped));
                    if let Err(error) = served.await {
                        tracing::error!(%error, "listener ended");
                    }
                }));
            }
        }
    }
}

/// Bounds on what one connection may send and hold (rapid reset, header floods, slow headers).
fn bound(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(32 * 1024)
        .max_pending_accept_reset_streams(16)
        .max_local_error_reset_streams(256)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
}

pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let refused = |error: std::io::Error| StartError::Listen { at: address.to_string(), why: error.to_string() };
    let listener = TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

/// Whether somebody listens there, without waiting for whoever is too busy to answer.
fn is_listened_at(path: &Path) -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let (Ok(address), Ok(socket)) = (UnixAddr::new(path), socket(AddressFamily::Unix, SockType::Stream, flags, None))
    else {
        return false;
    };
    match connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &address) {
        Ok(()) => true,
        // its queue is full
        Err(error) => error == nix::errno::Errno::EAGAIN,
    }
}

/// A Unix socket of this mode. A socket left by a broker that was killed is removed; one at which somebody answers is not.
pub(super) fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, StartError> {
    let refused = |error: std::io::Error| StartError::Listen { at: path.display().to_string(), why: error.to_string() };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(refused)?;
    }
    if is_listened_at(path) {
        let why = "another broker listens there; stop it, or give this one a folder of its own";
        return Err(StartError::Listen { at: path.display().to_string(), why: why.into() });
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    // nobody else may connect between bind and chmod
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path).map_err(refused);
    nix::sys::stat::umask(before);
    let listener = listener?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(refused)?;
    Ok(listener)
}
