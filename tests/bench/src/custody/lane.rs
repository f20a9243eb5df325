//! One load over all rounds, and how two of them compare.

use std::time::Duration;

use crate::load::Done;
use crate::meter::{Times, each, rate};

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Transit's own signatures, one a call.
    Bare,
    /// The same of the keys of all clusters that have one, in turn.
    BareSpread,
    /// The same as `Bare` by a token without the policy `default`.
    Lean,
    /// PKI's own issuance.
    Pki,
    /// Certificates of the cluster of this name.
    Ichor(&'static str),
    /// Certificates of all clusters with a Transit key in turn. Each has a signer of its own, so hardly two signatures travel
    /// together.
    Spread,
}

/// One load over all rounds.
pub(super) struct Lane {
    pub(super) kind: Kind,
    pub(super) connections: usize,
    pub(super) rates: Vec<f64>,
    count: usize,
    took: Duration,
    cpu: Duration,
    bao_cpu: Duration,
    calls: u64,
    pub(super) times: Times,
}

// === impl Kind ===

impl Kind {
    /// For people.
    pub(super) fn said(self) -> &'static str {
        match self {
            Self::Bare => "a bare signature",
            Self::BareSpread => "a bare signature, of many keys",
            Self::Lean => "a bare signature, by a token without `default`",
            Self::Pki => "PKI's own certificate",
            Self::Ichor("prod") => "a certificate, age",
            Self::Ichor("kv") => "a certificate, KV",
            Self::Ichor(_) => "a certificate, Transit",
            Self::Spread => "a certificate, Transit, of many clusters",
        }
    }
}

// === impl Lane ===

impl Lane {
    pub(super) fn new(kind: Kind, connections: usize) -> Self {
        let (took, cpu, bao_cpu) = Default::default();
        Self { kind, connections, rates: Vec::new(), count: 0, took, cpu, bao_cpu, calls: 0, times: Times::default() }
    }

    /// One more round: what it did, OpenBao's CPU meanwhile, and the broker's calls to it.
    pub(super) fn add(&mut self, done: Done, bao_cpu: Duration, calls: u64) {
        self.rates.push(done.rate());
        self.count += done.count;
        self.took += done.took;
        self.cpu += done.cpu;
        self.bao_cpu += bao_cpu;
        self.calls += calls;
        self.times.extend(done.times);
    }

    /// Requests a second over all rounds together.
    pub(super) fn rate(&self) -> f64 {
        rate(self.count, self.took)
    }

    /// The broker's, for each request.
    pub(super) fn cpu_each(&self) -> anyhow::Result<Duration> {
        each(self.cpu, self.count)
    }

    /// How many certificates' signatures travelled in one call.
    pub(super) fn signatures_each_call(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let (count, calls) = (self.count as f64, self.calls as f64);
        count / calls
    }

    /// OpenBao's, for each request.
    pub(super) fn bao_cpu_each(&self) -> anyhow::Result<Duration> {
        each(self.bao_cpu, self.count)
    }
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
    if sorted.len().is_multiple_of(2) { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) } else { at(middle) }
}

/// The median of what one load did over the other, round by round.
pub(super) fn ratio(one: &Lane, other: &Lane) -> f64 {
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
