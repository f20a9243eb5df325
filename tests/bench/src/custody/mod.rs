//! `custody`: certificates through Ichor with the CA's key in each custody, beside what OpenBao does by itself: bare Transit
//! signatures and the PKI engine's own issuance. One broker serves all clusters; the loads take turns in short rounds, so that
//! whatever else the machine does meets them alike, and medians of the rounds are compared; of custodies alone, all rounds together.
//!
//! What OpenBao does by itself is asked for with the same cheap client, over connections kept as ours are. In the first table all
//! of it shares the machine's cores: a certificate through Transit costs them the broker's work, OpenBao's and the generator's.
//! The second has the custodies alone, each as often after each other. In the last OpenBao is what there is too little of, held to
//! a share of one core that nothing else runs on, while the broker works on the others whatever the load; with `--server-core` one before it in which it has all of that core, as it
//! has a machine of its own in a company.

mod bench;
mod busy;
mod lane;
mod share;

use crate::Settings;
use crate::meter::{micros, millis};
use crate::openbao::OpenBao;
use crate::report::{Goal, Report};
use bench::{Bench, ROUNDS};
use lane::{Kind, Lane, median, ratio};

/// Waiting requests at full load.
const MANY: usize = 64;
/// A team's worth.
const SOME: usize = 16;
/// So few that each signature is a call of its own: the signer makes as many calls at once. On shared cores a certificate then waits
/// for its two commits, one after the other, and a bare signature for none.
const FEW: usize = 2;
/// So much longer is a round where OpenBao is held to a share: a crowd that each pays for a call of its own waits half a second there, and
/// a round of that would hold little but its beginning and end.
const LONGER: u32 = 4;
/// So many of those are enough.
const LONG_ROUNDS: u32 = 6;
/// More than a broker could answer in one second with a server that is held so.
const PREPARED_HELD: f64 = 5_000.0;
/// Clusters whose CA the server holds.
const CLUSTERS: usize = 50;

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("custody");
    let Some(bao) = OpenBao::start(settings).await? else {
        report.note(format!("`{}` was not found, so nothing was measured", settings.openbao.display()));
        return Ok(report);
    };
    let (mut bench, logins) = Bench::start(settings, bao).await?;
    let storage = if settings.openbao_in_memory { "in memory" } else { "raft on the same file system" };
    let without = if settings.no_default_policy { ", all tokens without the policy `default`" } else { "" };
    report.note(format!(
        "Ed25519 keys; {ROUNDS} rounds of {} ms for each load in turn, medians (of the custodies alone three times as many, \
         together); SQLite, synchronous=FULL; OpenBao with TLS, storage {storage}, no audit device{without}",
        bench.round.as_millis()
    ));

    beside(&mut bench, &mut report).await?;
    custodies(&mut bench, &mut report).await?;
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let logins = logins as f64;
    report.hold(format!("logins at the start, {CLUSTERS} clusters there"), logins, "", Goal::AtMost(1.0));
    if let Some(core) = settings.server_core {
        bench.part(core)?;
        apart(&mut bench, &format!("OpenBao on core {core}"), (Bounds::Cores, ROUNDS), &mut report).await?;
    }
    let share = settings.server_share;
    match bench.hold_to(share) {
        Ok((held, mut busy)) => {
            let place = format!("OpenBao with {share} % of a core");
            bench.round *= LONGER;
            bench.prepared = PREPARED_HELD;
            report.note(format!(
                "with {share} % of a core: {LONG_ROUNDS} rounds of {} ms; beside each load the broker makes certificates of an age file, and no \
                 other core is idle",
                bench.round.as_millis()
            ));
            apart(&mut bench, &place, (Bounds::Server, LONG_ROUNDS), &mut report).await?;
            busy.check()?;
            drop((held, busy));
        }
        Err(error) => report.note(format!("not measured with OpenBao held to a share of a core: {error:#}")),
    }
    let verified = bench.world.verify_log()?;
    report.note(format!("afterwards: {}", verified.lines().next().unwrap_or_default()));
    Ok(report)
}

/// Certificates through Transit beside what OpenBao does by itself, all on the same cores.
async fn beside(bench: &mut Bench, report: &mut Report) -> anyhow::Result<()> {
    let lane = Lane::new;
    let mut lanes = [
        lane(Kind::Bare, MANY),
        lane(Kind::Lean, MANY),
        lane(Kind::Ichor("transit"), MANY),
        lane(Kind::Pki, MANY),
        lane(Kind::Bare, FEW),
        lane(Kind::Ichor("transit"), FEW),
        lane(Kind::Ichor("prod"), FEW),
    ];
    bench.rounds(&mut lanes, ROUNDS).await?;
    let [bare, lean, transit, pki, bare_few, transit_few, age_few] = &mut lanes;
    report.add(format!("bare Transit signatures, {MANY} at once"), median(&bare.rates), "1/s");
    report.add(format!("certificates through Transit, {MANY} at once"), median(&transit.rates), "1/s");
    report.add(format!("ratio to bare signatures, {MANY} at once on shared cores"), ratio(transit, bare), "×");
    report.add(format!("bare Transit signatures, {FEW} at once"), median(&bare_few.rates), "1/s");
    report.add(format!("certificates through Transit, {FEW} at once"), median(&transit_few.rates), "1/s");
    report.add(format!("certificates from an age file, {FEW} at once"), median(&age_few.rates), "1/s");
    report.add(format!("ratio to bare signatures, {FEW} at once on shared cores"), ratio(transit_few, bare_few), "×");
    report.add(format!("PKI's own certificates, {MANY} at once"), median(&pki.rates), "1/s");
    report.hold("ratio of Transit to PKI's own", ratio(transit, pki), "×", Goal::AtLeast(1.5));
    report.add(format!("signatures in a call, {MANY} at once"), transit.signatures_each_call(), "");
    report.add("OpenBao CPU each, bare", micros(bare.bao_cpu_each()?), "µs");
    report.add("OpenBao CPU each, bare, by a token without `default`", micros(lean.bao_cpu_each()?), "µs");
    report.add("OpenBao CPU each, Transit", micros(transit.bao_cpu_each()?), "µs");
    let (alone, ours) = (micros(bare.bao_cpu_each()?), micros(transit.bao_cpu_each()?));
    report.add("so one OpenBao bears, over bare ones", alone / ours, "×");
    report.add("OpenBao CPU each, PKI", micros(pki.bao_cpu_each()?), "µs");
    let few = micros(transit_few.cpu_each()?) - micros(age_few.cpu_each()?);
    report.add(format!("Transit's CPU over age's, {FEW} at once"), few, "µs");
    for lane in [bare, lean, transit, pki, bare_few, transit_few, age_few] {
        let name = format!("p50 of {}, {} at once", lane.kind.said(), lane.connections);
        report.add(name, millis(lane.times.percentile(0.5)), "ms");
    }
    Ok(())
}

/// The custodies beside each other, with nothing else between them that would leave one of them more to wait for than another.
async fn custodies(bench: &mut Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut lanes = [
        Lane::new(Kind::Ichor("prod"), MANY),
        Lane::new(Kind::Ichor("kv"), MANY),
        Lane::new(Kind::Ichor("transit"), MANY),
    ];
    bench.rounds(&mut lanes, ROUNDS * 3).await?;
    let [age, kv, transit] = &mut lanes;
    report.add("certificates from an age file", age.rate(), "1/s");
    report.add("certificates from KV", kv.rate(), "1/s");
    report.add("certificates through Transit", transit.rate(), "1/s");
    // of all rounds together: two that should be the same differ by less than single rounds do
    report.hold("KV differs from age by", (kv.rate() / age.rate() - 1.0).abs() * 100.0, "%", Goal::AtMost(3.0));
    report.add("broker CPU each, age", micros(age.cpu_each()?), "µs");
    report.add("broker CPU each, KV", micros(kv.cpu_each()?), "µs");
    report.add("broker CPU each, Transit", micros(transit.cpu_each()?), "µs");
    let added = micros(transit.cpu_each()?) - micros(age.cpu_each()?);
    report.hold("Transit's CPU over age's", added, "µs", Goal::AtMost(150.0));
    for lane in [age, kv, transit] {
        let name = format!("p50 of {}, {} at once, custodies alone", lane.kind.said(), lane.connections);
        report.add(name, millis(lane.times.percentile(0.5)), "ms");
    }
    Ok(())
}

/// What there is too little of, and so what the ratios say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bounds {
    /// Cores of all that takes part: what a certificate costs everybody.
    Cores,
    /// The server: what a certificate costs it. The goals are of this.
    Server,
}

/// Certificates beside bare signatures with OpenBao where it is now.
async fn apart(
    bench: &mut Bench,
    place: &str,
    (bounds, rounds): (Bounds, u32),
    report: &mut Report,
) -> anyhow::Result<()> {
    // (load, at once, goal of the ratio where the server bounds it); a bare load before each, to hold it against. With fewer than
    // many at once nobody else's request fills the time that each is at the broker, with two commits in a row
    let loads = [
        (Kind::Ichor("transit"), FEW, None),
        (Kind::Ichor("transit"), SOME, None),
        (Kind::Spread, SOME, None),
        (Kind::Ichor("transit"), MANY, Some(3.0)),
        (Kind::Spread, MANY, Some(0.9)),
    ];
    let pair = |(kind, level, _): &(Kind, usize, _)| {
        let bare = if *kind == Kind::Spread { Kind::BareSpread } else { Kind::Bare };
        [Lane::new(bare, *level), Lane::new(*kind, *level)]
    };
    let mut lanes: Vec<Lane> = loads.iter().flat_map(pair).collect();
    bench.rounds(&mut lanes, rounds).await?;
    for (pair, (kind, level, goal)) in lanes.chunks_exact_mut(2).zip(loads) {
        let [bare, ours] = pair else { continue };
        let of = if kind == Kind::Spread { ", of many clusters" } else { "" };
        let at = format!("{place}, {level} at once{of}");
        report.add(format!("{at}: bare signatures"), median(&bare.rates), "1/s");
        report.add(format!("{at}: certificates"), median(&ours.rates), "1/s");
        match goal.filter(|_| bounds == Bounds::Server) {
            Some(goal) => report.hold(format!("{at}: ratio"), ratio(ours, bare), "×", Goal::AtLeast(goal)),
            None => report.add(format!("{at}: ratio"), ratio(ours, bare), "×"),
        }
        report.add(format!("{at}: signatures in a call"), ours.signatures_each_call(), "");
        if bounds == Bounds::Cores {
            report.add(format!("{at}: broker CPU each"), micros(ours.cpu_each()?), "µs");
        }
        report.add(format!("{at}: OpenBao CPU each, bare"), micros(bare.bao_cpu_each()?), "µs");
        report.add(format!("{at}: OpenBao CPU each, certificate"), micros(ours.bao_cpu_each()?), "µs");
        report.add(format!("{at}: p50 of a certificate"), millis(ours.times.percentile(0.5)), "ms");
    }
    Ok(())
}
