//! The Ichor broker: it authenticates people, decides by policy, records durably, and issues short-lived Talos client
//! certificates from a CA that stays in a vault.
//!
//! # The guided tour
//!
//! Read the rooms in this order; each may use only those above it.
//!
//! 1. [`clock`], [`entropy`], [`regular`], [`durable`], `outgoing`, [`telemetry`], [`domain`]: time, randomness, reading files and writing
//!    them, HTTP clients, subscribers, and plain data.
//! 2. [`openbao`], [`custody`], [`store`]: a vault server, where CA keys live, and where state and the log live.
//! 3. [`identity`]: from a verified ID token, or a session that began with one, to an [`identity::Identity`].
//! 4. [`policy`]: from an identity and a request to a [`policy::Grant`], or a refusal that says what would help.
//! 5. [`audit`]: from a grant to an [`audit::Recorded`] grant, once its entry is durable.
//! 6. [`login`], [`issuer`]: sessions; and from a recorded grant to an [`issuer::Issued`] certificate.
//! 7. [`readiness`]: which dependency is out. [`mint`]: the product on one page. [`forward`]: the log, sent elsewhere.
//!    [`lock`]: what stops all of it. [`break_glass`]: access that others approve. [`kit`]: break-glass kits, as the log tells of
//!    them. [`notify`]: people are told.
//! 8. [`nodelog`]: nodes' own logs, held against grants.
//! 9. [`http`]: router, extraction, errors, one file per resource and page.
//! 10. [`config`], [`app`], [`cli`]: files to settings, the wiring, one file per command.
//!
//! There is one way to a certificate, and the types force it: `Identity → Grant → Recorded<Grant> → Issued →
//! Recorded<Issued>`. Each is built in one room by private fields.

pub mod app;
pub mod audit;
pub mod break_glass;
pub mod cli;
pub mod clock;
pub mod config;
pub mod custody;
pub mod domain;
pub mod durable;
pub mod entropy;
pub mod forward;
pub mod http;
pub mod identity;
pub mod issuer;
pub mod kit;
pub mod lock;
pub mod login;
pub mod mint;
pub mod nodelog;
pub mod notify;
pub mod openbao;
mod outgoing;
pub mod policy;
pub mod readiness;
pub mod regular;
pub mod store;
pub mod telemetry;
