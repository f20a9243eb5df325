//! Login, end to end: a provider stand-in, a browser, our authorization server, and a client of its own making.

mod client;
mod database;
mod ending;
mod faults;
mod flow;
mod other_flows;
mod proofs;
mod provider;
mod recheck;
mod strangers;
mod world;
