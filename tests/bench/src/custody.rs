//! `custody`: certificates through Ichor with the CA's key in each custody, beside what OpenBao does by itself: bare Transit
//! signatures and the PKI engine's own issuance. One broker serves all clusters; the loads take turns in short rounds, so that
//! whatever else the machine does meets them alike, and medians of the rounds are compared.
//!
//! What OpenBao does by itself is asked for with the same cheap client, over connections kept as ours are. All of it shares
//! the machine's cores: a certificate through Transit costs them the broker's work, OpenBao's and the generator's.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use serde_json::json;

use crate::Settings;
use crate::caller::Caller;
use crate::connection::Target;
use crate::load::{self, Done, Requests};
use crate::meter::{Times, each, micros, millis};
use crate::openbao::OpenBao;
use crate::report::{Goal, Report};
use crate::world::{self, World, admin};

/// Waiting requests at full load.
const MANY: usize = 64;
/// So few that each signature is a call of its own: the signer makes as many calls at once.
const FEW: usize = 2;
/// The rounds that each load is split into.
const ROUNDS: u32 = 10;
/// More than a broker could answer in one second; as many requests are prepared for each.
const PREPARED: f64 = 6000.0;
/// Clusters whose CA the server holds.
const CLUSTERS: usize = 50;
/// The bytes of a certificate that are signed, about.
const TO_BE_SIGNED: usize = 350;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Transit's own signatures, one a call.
    Bare,
    /// PKI's own issuance.
    Pki,
    /// Certificates of the cluster of this name.
    Ichor(&'static str),
}

/// One load over all rounds.
struct Lane {
    kind: Kind,
    connections: usize,
    rates: Vec<f64>,
    count: usize,
    cpu: Duration,
    bao_cpu: Duration,
    times: Times,
}

/// What the loads are made from.
struct Bench {
    bao: OpenBao,
    world: World,
    broker: Target,
    server: Target,
    caller: Caller,
    bare: Vec<Vec<u8>>,
    pki: Vec<Vec<u8>>,
    round: Duration,
}

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("custody");
    let Some(bao) = OpenBao::start(&settings.openbao, &settings.dir).await? else {
        report.note(format!("`{}` was not found, so nothing was measured", settings.openbao.display()));
        return Ok(report);
    };
    let (mut bench, logins) = Bench::start(settings, bao).await?;
    report.note(format!(
        "Ed25519 keys; {ROUNDS} rounds of {} ms for each load in turn, medians; SQLite, synchronous=FULL; OpenBao with TLS, \
         storage in memory, no audit device",
        bench.round.as_millis()
    ));

    let lane = Lane::new;
    let mut lanes = [
        lane(Kind::Bare, MANY),
        lane(Kind::Ichor("transit"), MANY),
        lane(Kind::Pki, MANY),
        lane(Kind::Ichor("prod"), MANY),
        lane(Kind::Ichor("kv"), MANY),
        lane(Kind::Bare, FEW),
        lane(Kind::Ichor("transit"), FEW),
        lane(Kind::Ichor("prod"), FEW),
    ];
    for round in 0..ROUNDS {
        // there and back, so that none always follows the same one
        let mut order: Vec<&mut Lane> = lanes.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for lane in order {
            bench.load(lane).await?;
        }
    }
    let [bare, transit, pki, age, kv, bare_few, transit_few, age_few] = &mut lanes;

    report.add(format!("bare Transit signatures, {MANY} at once"), median(&bare.rates), "1/s");
    report.add(format!("certificates through Transit, {MANY} at once"), median(&transit.rates), "1/s");
    report.hold("ratio to bare signatures", ratio(transit, bare), "×", Goal::AtLeast(3.0));
    report.add(format!("bare Transit signatures, {FEW} at once"), median(&bare_few.rates), "1/s");
    report.add(format!("certificates through Transit, {FEW} at once"), median(&transit_few.rates), "1/s");
    report.add(format!("certificates from an age file, {FEW} at once"), median(&age_few.rates), "1/s");
    report.hold("ratio without batches", ratio(transit_few, bare_few), "×", Goal::AtLeast(0.9));
    report.add(format!("PKI's own certificates, {MANY} at once"), median(&pki.rates), "1/s");
    report.hold("ratio of Transit to PKI's own", ratio(transit, pki), "×", Goal::AtLeast(1.5));
    report.add("certificates from an age file", median(&age.rates), "1/s");
    report.add("certificates from KV", median(&kv.rates), "1/s");
    report.hold("KV differs from age by", (ratio(kv, age) - 1.0).abs() * 100.0, "%", Goal::AtMost(3.0));
    report.add("broker CPU each, age", micros(age.cpu_each()?), "µs");
    report.add("broker CPU each, Transit", micros(transit.cpu_each()?), "µs");
    let added = micros(transit.cpu_each()?) - micros(age.cpu_each()?);
    report.hold("Transit's CPU over age's", added, "µs", Goal::AtMost(150.0));
    let few = micros(transit_few.cpu_each()?) - micros(age_few.cpu_each()?);
    report.add("the same without batches", few, "µs");
    report.add("OpenBao CPU each, bare", micros(bare.bao_cpu_each()?), "µs");
    report.add("OpenBao CPU each, Transit", micros(transit.bao_cpu_each()?), "µs");
    let (alone, ours) = (micros(bare.bao_cpu_each()?), micros(transit.bao_cpu_each()?));
    report.add("so one OpenBao bears, over bare ones", alone / ours, "×");
    report.add("OpenBao CPU each, PKI", micros(pki.bao_cpu_each()?), "µs");
    for lane in [bare, transit, pki, age, kv, bare_few, transit_few, age_few] {
        let name = format!("p50 of {}, {} at once", lane.kind.said(), lane.connections);
        report.add(name, millis(lane.times.percentile(0.5)), "ms");
    }
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let logins = logins as f64;
    report.hold(format!("logins at the start, {CLUSTERS} clusters there"), logins, "", Goal::AtMost(1.0));

    let verified = bench.world.verify_log()?;
    report.note(format!("afterwards: {}", verified.lines().next().unwrap_or_default()));
    Ok(report)
}

// === impl Kind ===

impl Kind {
    /// For people.
    fn said(self) -> &'static str {
        match self {
            Self::Bare => "a bare signature",
            Self::Pki => "PKI's own certificate",
            Self::Ichor("prod") => "a certificate, age",
            Self::Ichor("kv") => "a certificate, KV",
            Self::Ichor(_) => "a certificate, Transit",
        }
    }
}

// === impl Bench ===

impl Bench {
    /// Everything, and how often the broker logged in at its start.
    async fn start(settings: &Settings, bao: OpenBao) -> anyhow::Result<(Self, usize)> {
        let mut before = 0;
        let world = World::start_with(settings, async |dir| {
            prepare(dir, &bao)?;
            before = bao.logins().await?;
            Ok(())
        })
        .await?;
        let logins = bao.logins().await?.saturating_sub(before);
        let (broker, server) = (Target::new(&world.url, &world.tls_ca)?, bao.target()?);
        let caller = Caller::log_in(&world, &broker).await?;
        let token = bao.log_in().await?;
        let input = json!({ "input": BASE64_STANDARD.encode([7; TO_BE_SIGNED]) });
        let bare = vec![bao.request("POST", "transit/sign/bare", &token, &input)];
        let pki = (0..256).map(|_| {
            let key = KeyPair::generate_for(&PKCS_ED25519)?;
            let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
            Ok(bao.request("POST", "pki/sign/reader", &token, &json!({ "csr": csr, "ttl": "28800s" })))
        });
        let pki = pki.collect::<anyhow::Result<Vec<_>>>()?;
        let round = Duration::from_secs(settings.seconds) / ROUNDS;
        Ok((Self { bao, world, broker, server, caller, bare, pki, round }, logins))
    }

    /// One round of a load.
    async fn load(&mut self, lane: &mut Lane) -> anyhow::Result<()> {
        let bao = self.bao.pid();
        let (target, requests) = match lane.kind {
            Kind::Bare => (&self.server, Requests::again(self.bare.clone())),
            Kind::Pki => (&self.server, Requests::again(self.pki.clone())),
            Kind::Ichor(cluster) => {
                self.caller.turn_to(cluster)?;
                self.caller.renew(&self.broker).await?;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of requests")]
                let count = (PREPARED * self.round.as_secs_f64()) as u64;
                (&self.broker, Requests::once(self.caller.requests(count)?))
            }
        };
        let before = world::cpu(bao)?;
        let done = load::full(target, lane.connections, requests, self.round, || self.world.broker_cpu()).await?;
        lane.add(done, world::cpu(bao)?.saturating_sub(before));
        Ok(())
    }
}

// === impl Lane ===

impl Lane {
    fn new(kind: Kind, connections: usize) -> Self {
        let (cpu, bao_cpu) = Default::default();
        Self { kind, connections, rates: Vec::new(), count: 0, cpu, bao_cpu, times: Times::default() }
    }

    fn add(&mut self, done: Done, bao_cpu: Duration) {
        self.rates.push(done.rate());
        self.count += done.count;
        self.cpu += done.cpu;
        self.bao_cpu += bao_cpu;
        self.times.extend(done.times);
    }

    /// The broker's, for each request.
    fn cpu_each(&self) -> anyhow::Result<Duration> {
        each(self.cpu, self.count)
    }

    /// OpenBao's, for each request.
    fn bao_cpu_each(&self) -> anyhow::Result<Duration> {
        each(self.bao_cpu, self.count)
    }
}

/// Declares as many clusters as `prod`, and puts their CAs into the server: one into KV, the others into Transit.
fn prepare(dir: &Path, bao: &OpenBao) -> anyhow::Result<()> {
    let config = dir.join("config.toml");
    let text = std::fs::read_to_string(&config)? + &bao.section(dir)?;
    std::fs::write(&config, text)?;
    let more = (0..CLUSTERS.saturating_sub(2)).map(|number| (format!("more-{number}"), "transit"));
    let all = [("kv".to_owned(), "kv"), ("transit".to_owned(), "transit")].into_iter().chain(more);
    let folder = dir.to_str().context("a folder's name")?;
    for (name, custody) in all {
        std::fs::copy(dir.join("clusters/prod.toml"), dir.join(format!("clusters/{name}.toml")))?;
        admin(&["ca", "create", &name, "--custody", custody, "--reason", "bench", "--dir", folder])?;
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
    if sorted.len().is_multiple_of(2) { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) } else { at(middle) }
}

/// The median of what one load did over the other, round by round.
fn ratio(one: &Lane, other: &Lane) -> f64 {
    let ratios: Vec<f64> = one.rates.iter().zip(&other.rates).map(|(one, other)| one / other).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let lane = |rates: &[f64]| Lane { rates: rates.to_vec(), ..Lane::new(Kind::Bare, 1) };
        assert_eq!(ratio(&lane(&[2.0, 20.0, 6.0]), &lane(&[1.0, 10.0, 2.0])), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
