//! The broker's rooms against stand-ins of what they talk to: real HTTP on loopback, a frozen clock. And the broker as a
//! process, ended and starved from outside, in the host's time.

mod login;
mod process;
