//! `ichor-broker`: parse, run.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // before any TLS: two providers are linked through dependencies' features, and this one is ours
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ichor_broker::cli::Cli::parse().run(&mut anstream::stdout())
}
