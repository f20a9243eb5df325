//! `cargo run --bin demo`: the whole main job on one machine, with nothing to install.
//!
//! A throwaway OpenID provider, a broker on a temporary folder, and two simulated Talos nodes start in this process. Three
//! people then do with the client's library what they would do with `ichor`; the transcript shows it. Afterwards everything
//! stays up, to be tried by hand from another terminal, until Ctrl-C.
//!
//! - [`world`]: provider, nodes, and the folder they live in; [`cast`]: the people.
//! - [`broker`]: the broker.
//! - [`person`]: someone at their terminal and in their browser; [`call`]: calls to the nodes.
//! - [`story`]: what happens, in order; [`emergency`]: its second act; [`transcript`]: how it is told; [`by_hand`]: what to try afterwards.

mod broker;
mod by_hand;
mod call;
mod cast;
mod emergency;
mod person;
mod story;
mod transcript;
mod world;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::broker::Broker;
use crate::call::Caller;
use crate::transcript::Transcript;
use crate::world::World;

/// The whole of Ichor on this machine: a provider, a broker, two simulated Talos nodes, and three people who use them.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Exit after the transcript, with its success as exit code, instead of staying up to be tried by hand.
    #[arg(long)]
    once: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut transcript = Transcript::new(anstream::stdout());
    match run(&arguments, &mut transcript).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            transcript.failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C, SIGTERM or a terminal that closes ends the demo at any moment, in order; the temporary folder goes with it.
async fn run(arguments: &Arguments, transcript: &mut Transcript) -> anyhow::Result<()> {
    ichor_standins::install_tls_provider();
    let mut ending = Ending::new()?;
    let (world, broker) = tokio::select! {
        started = start() => started?,
        () = ending.comes() => anyhow::bail!("interrupted"),
    };
    let caller = Caller::find();
    let told = tokio::select! {
        told = story::tell(&world, &broker, &caller, transcript) => told,
        () = ending.comes() => Err(anyhow::anyhow!("interrupted")),
    };
    if told.is_ok() && !arguments.once {
        by_hand::explain(&world, &broker, &caller, transcript)?;
        ending.comes().await;
        transcript.says("the broker stops, and the temporary folder goes at the end");
    }
    broker.stop().await;
    match told? {
        Some(kit) => emergency::open_kit(&world, &kit, &caller, transcript).await,
        None => Ok(()),
    }
}

/// What ends the demo from outside.
struct Ending(Signal, Signal, Signal);

impl Ending {
    fn new() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?))
    }

    async fn comes(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
            _ = self.2.recv() => {}
        }
    }
}

async fn start() -> anyhow::Result<(World, Broker)> {
    let world = World::start().await?;
    let broker = Broker::start(&world).await.context("the broker does not start")?;
    world.accept(&broker.client_ca)?;
    Ok((world, broker))
}
