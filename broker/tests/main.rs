//! The broker's rooms against stand-ins of what they talk to: real HTTP on loopback, a frozen clock.

mod login;
