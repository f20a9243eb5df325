//! The client of Ichor: log in once, and `talosctl` works with a short-lived certificate.
//!
//! The binary `ichor` is a thin layer over this library; whatever it does, a program can do:
//!
//! - [`settings`]: which broker, and how it is trusted ([`tls`]); [`environment`] is read once, in `main`.
//! - [`broker`]: the broker as a value; every request of a session carries a proof of possession ([`dpop`]).
//! - [`browser`]: opened as the person wants it.
//! - [`login`](login()): by loopback, pasted code or device grant, to a [`session`].
//! - [`certificate`](certificate()): a key made here, a certificate from the broker, kept for reuse.
//! - [`break_glass`]: access that others approve. [`locks`]: stopping all of it.
//! - [`audit`]: what is believed of the broker's audit log, and the receipts that it owes.
//! - [`talosconfig`]: found as talosctl finds it, written without damage.
//! - [`kit`]: a break-glass kit, opened with no broker.
//! - [`exec`]: a command with a talosconfig of its own.
//! - [`cli`]: one file per command.

pub mod agent;
pub mod audit;
pub mod break_glass;
pub mod broker;
pub mod browser;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod dpop;
mod entropy;
pub mod environment;
pub mod error;
pub mod exec;
mod forms;
pub mod kit;
pub mod locks;
pub mod login;
pub mod node;
pub mod private_file;
pub mod session;
pub mod settings;
pub mod talosconfig;
pub mod tls;

pub use broker::Broker;
pub use certificate::{Held, Wish, certificate};
pub use clock::Clock;
pub use environment::Environment;
pub use error::Error;
pub use login::{Event, LoginOptions, Way, login};
pub use session::{Session, SessionStore};
