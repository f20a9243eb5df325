//! What the loads of `custody` are made from: OpenBao, a broker with many clusters, requests made beforehand.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use serde_json::json;

use super::CLUSTERS;
use super::busy::Busy;
use super::lane::{Kind, Lane};
use super::share::Share;
use crate::Settings;
use crate::caller::Caller;
use crate::connection::Target;
use crate::load::{self, Requests};
use crate::openbao::OpenBao;
use crate::world::{self, World, admin};

/// The rounds that each load is split into.
pub(super) const ROUNDS: u32 = 10;
/// So many connections ask for certificates of an age file beside each load where OpenBao is held to a share.
const BESIDE: usize = 4;
/// More than those could have in one second: each waits for two commits in a row.
const PREPARED_BESIDE: f64 = 4_000.0;
/// More than a broker could answer in one second; as many requests are prepared for each.
const PREPARED: f64 = 20_000.0;
/// The bytes of a certificate that are signed, about.
const TO_BE_SIGNED: usize = 350;

/// What the loads are made from.
pub(super) struct Bench {
    bao: OpenBao,
    pub(super) world: World,
    broker: Target,
    server: Target,
    caller: Caller,
    bare: Vec<Vec<u8>>,
    bare_spread: Vec<Vec<u8>>,
    lean: Vec<Vec<u8>>,
    pki: Vec<Vec<u8>>,
    pub(super) round: Duration,
    /// So many requests are prepared for each second of a round.
    pub(super) prepared: f64,
    /// Connections that ask for certificates of an age file beside each load.
    beside: usize,
    /// Of the machine, before any was given away.
    cores: usize,
}

// === impl Bench ===

impl Bench {
    /// Everything, and how often the broker logged in at its start.
    pub(super) async fn start(settings: &Settings, bao: OpenBao) -> anyhow::Result<(Self, usize)> {
        let mut before = 0;
        let world = World::start_with(settings, async |dir| {
            prepare(dir, &bao)?;
            bao.narrow().await?;
            before = bao.logins().await?;
            Ok(())
        })
        .await?;
        let logins = bao.logins().await?.saturating_sub(before);
        let (broker, server) = (Target::new(&world.url, &world.tls_ca)?, bao.target()?);
        let caller = Caller::log_in(&world, &broker).await?;
        let token = bao.log_in().await?;
        let input = json!({ "input": BASE64_STANDARD.encode([7; TO_BE_SIGNED]) });
        let signs = |token: &str| vec![bao.request("POST", "transit/sign/bare", token, &input)];
        let of = |cluster: String| bao.request("POST", &format!("transit/sign/ichor-{cluster}"), &token, &input);
        let bare_spread = with_transit_keys().map(of).collect();
        let (bare, lean) = (signs(&token), signs(&bao.lean_token().await?));
        let pki = (0..256).map(|_| {
            let key = KeyPair::generate_for(&PKCS_ED25519)?;
            let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
            Ok(bao.request("POST", "pki/sign/reader", &token, &json!({ "csr": csr, "ttl": "28800s" })))
        });
        let pki = pki.collect::<anyhow::Result<Vec<_>>>()?;
        let round = Duration::from_secs(settings.seconds) / ROUNDS;
        let cores = std::thread::available_parallelism()?.get();
        let (prepared, beside) = (PREPARED, 0);
        let bench =
            Self { bao, world, broker, server, caller, bare, bare_spread, lean, pki, round, prepared, beside, cores };
        Ok((bench, logins))
    }

    /// So many rounds of these loads. They go there and back, so that none always follows the same one.
    pub(super) async fn rounds(&mut self, lanes: &mut [Lane], rounds: u32) -> anyhow::Result<()> {
        for round in 0..rounds {
            let mut order: Vec<&mut Lane> = lanes.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for lane in order {
                self.load(lane).await?;
            }
        }
        Ok(())
    }

    /// OpenBao on this core from now on, broker and generator on all others.
    pub(super) fn part(&self, server: usize) -> anyhow::Result<()> {
        let cores = self.cores;
        ensure!(server < cores && cores > 1, "there is no core {server} to give to OpenBao beside others");
        let others: Vec<String> = (0..cores).filter(|core| *core != server).map(|core| core.to_string()).collect();
        pin(self.bao.pid(), &server.to_string())?;
        for ours in [self.world.pid()?, std::process::id()] {
            pin(ours, &others.join(","))?;
        }
        Ok(())
    }

    /// OpenBao gets this share of the last core from now on, in percent, and has it to itself: what else ran there meanwhile would
    /// leave it cold caches, and more of that the more we do. Where cores are one core's threads, they share what makes them fast, and bare
    /// signatures would have the quieter neighbour: so the broker works beside each load from now on, bare or not, at certificates of an
    /// age file, and no other core is idle.
    pub(super) fn hold_to(&mut self, share: u32) -> anyhow::Result<(Share, Busy)> {
        let last = self.cores.saturating_sub(1);
        self.part(last)?;
        self.beside = BESIDE;
        Ok((Share::of(self.bao.pid(), share)?, Busy::on(0..last)?))
    }

    /// One round of a load.
    async fn load(&mut self, lane: &mut Lane) -> anyhow::Result<()> {
        let bao = self.bao.pid();
        let beside = match self.beside {
            0 => Vec::new(),
            _ => self.requests(&["prod".to_owned()], PREPARED_BESIDE).await?,
        };
        let (target, requests) = match lane.kind {
            Kind::Bare => (&self.server, Requests::again(self.bare.clone())),
            Kind::BareSpread => (&self.server, Requests::again(self.bare_spread.clone())),
            Kind::Lean => (&self.server, Requests::again(self.lean.clone())),
            Kind::Pki => (&self.server, Requests::again(self.pki.clone())),
            Kind::Ichor(cluster) => {
                let requests = self.requests(&[cluster.to_owned()], self.prepared).await?;
                (&self.broker, Requests::once(requests))
            }
            Kind::Spread => {
                let clusters: Vec<String> = with_transit_keys().collect();
                let requests = self.requests(&clusters, self.prepared).await?;
                (&self.broker, Requests::once(requests))
            }
        };
        let calls = || self.world.counted("ichor_openbao_calls_total", "outcome=\"ok\"");
        // the generator's handshakes are no work that a signature costs
        let open = load::connect(target, lane.connections).await?;
        let open_beside = load::connect(&self.broker, self.beside).await?;
        let (before, called) = (world::cpu(bao)?, calls()?);
        let (done, beside) = tokio::join!(
            load::over(open, requests, self.round, || self.world.broker_cpu()),
            load::over(open_beside, Requests::once(beside), self.round, || Ok(Duration::ZERO)),
        );
        let (done, _) = (done?, beside?);
        lane.add(done, world::cpu(bao)?.saturating_sub(before), calls()?.saturating_sub(called));
        Ok(())
    }

    /// Enough requests for a round in which there are fewer than `most` a second, of these clusters in turn.
    async fn requests(&mut self, clusters: &[String], most: f64) -> anyhow::Result<Vec<Vec<u8>>> {
        self.caller.renew(&self.broker).await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of requests")]
        let count = (most * self.round.as_secs_f64()) as u64;
        let each = count.div_ceil(u64::try_from(clusters.len())?.max(1));
        let mut of_each = Vec::new();
        for cluster in clusters {
            self.caller.turn_to(cluster)?;
            of_each.push(self.caller.requests(each)?.into_iter());
        }
        Ok((0..each).flat_map(|_| of_each.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>()).collect())
    }
}

/// Declares as many clusters as `prod`, and puts their CAs into the server: one into KV, the others into Transit.
fn prepare(dir: &Path, bao: &OpenBao) -> anyhow::Result<()> {
    let config = dir.join("config.toml");
    let text = std::fs::read_to_string(&config)? + &bao.section(dir)?;
    std::fs::write(&config, text)?;
    let in_transit = with_transit_keys().map(|cluster| (cluster, "transit"));
    let all = [("kv".to_owned(), "kv")].into_iter().chain(in_transit);
    let folder = dir.to_str().context("a folder's name")?;
    for (name, custody) in all {
        std::fs::copy(dir.join("clusters/prod.toml"), dir.join(format!("clusters/{name}.toml")))?;
        admin(&["ca", "create", &name, "--custody", custody, "--reason", "bench", "--dir", folder])?;
    }
    Ok(())
}

/// The clusters whose CA's key stays in Transit.
fn with_transit_keys() -> impl Iterator<Item = String> {
    let more = (0..CLUSTERS.saturating_sub(2)).map(|number| format!("more-{number}"));
    std::iter::once("transit".to_owned()).chain(more)
}

/// Every thread of the process runs on these cores alone from now on.
fn pin(process: u32, cores: &str) -> anyhow::Result<()> {
    let output =
        Command::new("taskset").args(["--all-tasks", "--cpu-list", "--pid", cores, &process.to_string()]).output();
    let output = output.context("`taskset` (util-linux) is needed to give OpenBao a core of its own")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
