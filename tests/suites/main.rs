//! Suites by feature, in one binary: real HTTP and TLS in-process, frozen clocks.

mod certificates;
mod edges;
mod faults;
mod generated;
mod http;
mod main_job;
