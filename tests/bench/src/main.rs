//! Benchmarks as programs: each prints a table of what it measured, with the goal beside it.
//!
//! They are programs and not timed tests, because a time on a shared machine fails by luck. Trust the CPU per operation and
//! ratios within one run more than single times.

mod ask;
mod audit;
mod break_glass;
mod caller;
mod connection;
mod custody;
mod exec;
mod idle;
mod issuance;
mod kills;
mod load;
mod login;
mod machine;
mod meter;
mod nodelog;
mod notify;
mod openbao;
mod policy;
mod postgres;
mod report;
mod step_ca;
mod tree_cost;
mod verify;
mod world;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};

/// Measures Ichor and prints a table.
#[derive(Parser)]
#[command(name = "ichor-bench")]
struct Cli {
    /// What to measure; everything when none is named.
    names: Vec<Name>,
    /// Print one JSON document a benchmark, for machines.
    #[arg(long)]
    json: bool,
    /// Where databases lie: on the file system whose durability is paid for.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
    /// How long each load runs.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    seconds: u64,
    /// smallstep's step-ca, to run beside `issuance`; skipped where it is not found.
    #[arg(long, value_name = "PROGRAM", default_value = "step-ca")]
    step_ca: PathBuf,
    /// OpenBao, which `custody` needs; tests/interop/peers/openbao/install brings it.
    #[arg(long, value_name = "PROGRAM", default_value = "bao")]
    openbao: PathBuf,
    /// Let `custody` also measure with OpenBao alone on this core and everything else on the others.
    #[arg(long, value_name = "CORE")]
    server_core: Option<usize>,
    /// Let `custody` also measure with OpenBao held to so many percent of one core, as a vault that is the bottleneck.
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    server_share: u32,
    /// Let all tokens at `custody`'s OpenBao, the broker's and those that it is held against, go without the policy `default`.
    #[arg(long)]
    no_default_policy: bool,
    /// Let `custody`'s OpenBao store in memory, which is lost with the process, and not in raft's files.
    #[arg(long)]
    openbao_in_memory: bool,
    /// How far `ask` and `verify` let the log grow, tenfold from 10,000 on.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    entries: u64,
    /// How often `kills` kills: so often on SQLite, a fifth of it on Postgres.
    #[arg(long, value_name = "N", default_value_t = 50)]
    rounds: u32,
    /// What starts the PostgreSQL that `kills` kills.
    #[arg(long, value_name = "PROGRAM", default_value = "tests/interop/peers/postgres/start")]
    postgres_start: PathBuf,
    /// An empty Postgres database, which `ask` and `audit` measure too.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// For `ask`, which starts itself so: open this database, ask, and print the most memory needed on the way.
    #[arg(long, value_name = "PLACE", hide = true)]
    peak_at: Option<String>,
    /// With that, verify the whole log too.
    #[arg(long, hide = true, requires = "peak_at")]
    with_verification: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// One decision, with 10, 100 and 1,000 policies.
    Policy,
    /// Durable appends to the audit log.
    Audit,
    /// Certificates over HTTPS with proofs, two durable entries each.
    Issuance,
    /// The same with the CA's key in each custody, beside what OpenBao does by itself.
    Custody,
    /// What `ichor exec` adds, and `ichor --help`.
    Exec,
    /// The broker's memory at rest.
    Idle,
    /// 500 whole logins.
    Login,
    /// Lines of nodes' logs, from TCP to calls kept.
    Nodelog,
    /// From asking for access to a sink's acceptance.
    Notify,
    /// Questions to the audit, a start and a verification, as the log grows.
    Ask,
    /// Break-glass while up to 10,000 requests are open.
    BreakGlass,
    /// A whole log checked offline, by its export and the log's key.
    Verify,
    /// kill -9 of the broker, and of PostgreSQL, while certificates are issued.
    Kills,
}

/// What every benchmark is told.
struct Settings {
    dir: PathBuf,
    seconds: u64,
    step_ca: PathBuf,
    openbao: PathBuf,
    server_core: Option<usize>,
    server_share: u32,
    no_default_policy: bool,
    openbao_in_memory: bool,
    entries: u64,
    postgres: Option<String>,
    rounds: u32,
    postgres_start: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    ichor_standins::install_tls_provider();
    if let Some(place) = &cli.peak_at {
        let peak = runtime()?.block_on(ask::peak_at(place, cli.with_verification))?;
        writeln!(std::io::stdout(), "{peak}")?;
        return Ok(());
    }
    std::fs::create_dir_all(&cli.dir).with_context(|| format!("cannot make `{}`", cli.dir.display()))?;
    let settings = Settings {
        dir: cli.dir,
        seconds: cli.seconds,
        step_ca: cli.step_ca,
        openbao: cli.openbao,
        server_core: cli.server_core,
        server_share: cli.server_share,
        no_default_policy: cli.no_default_policy,
        openbao_in_memory: cli.openbao_in_memory,
        entries: cli.entries,
        postgres: cli.postgres,
        rounds: cli.rounds,
        postgres_start: cli.postgres_start,
    };
    let names = if cli.names.is_empty() { Name::value_variants() } else { &cli.names };
    let mut out = std::io::stdout().lock();
    if !cli.json {
        writeln!(out, "{}", machine::describe(&settings.dir)?)?;
    }
    let mut is_lost = false;
    for name in names {
        let report = match name {
            Name::Policy => policy::run(&settings)?,
            Name::Audit => runtime()?.block_on(audit::run(&settings))?,
            Name::Issuance => runtime()?.block_on(issuance::run(&settings))?,
            Name::Custody => runtime()?.block_on(custody::run(&settings))?,
            Name::Exec => runtime()?.block_on(exec::run(&settings))?,
            Name::Idle => runtime()?.block_on(idle::run(&settings))?,
            Name::Login => runtime()?.block_on(login::run(&settings))?,
            Name::Nodelog => runtime()?.block_on(nodelog::run(&settings))?,
            Name::Notify => runtime()?.block_on(notify::run(&settings))?,
            Name::Ask => runtime()?.block_on(ask::run(&settings))?,
            Name::BreakGlass => runtime()?.block_on(break_glass::run(&settings))?,
            Name::Verify => verify::run(&settings)?,
            Name::Kills => runtime()?.block_on(kills::run(&settings))?,
        };
        if cli.json {
            writeln!(out, "{}", report.json())?;
        } else {
            writeln!(out, "\n{report}")?;
        }
        // its goals are no times: nothing may be lost, whatever the machine does
        is_lost |= *name == Name::Kills && report.is_missed();
    }
    anyhow::ensure!(!is_lost, "`kills` found what may never be: see what is MISSED in its table");
    Ok(())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
