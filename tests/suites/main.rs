//! Suites by feature, in one binary: real HTTP and TLS in-process, frozen clocks.

mod edges;
mod generated;
mod main_job;
