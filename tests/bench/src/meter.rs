//! Times, their percentiles, and the CPU that a process has used.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

/// Times of single operations.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

// === impl Times ===

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that `part` of all (0.5: the median) did not exceed.
    pub(crate) fn percentile(&mut self, part: f64) -> Duration {
        self.0.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list"
        )]
        let place = ((self.0.len() as f64 * part).ceil() as usize).saturating_sub(1);
        self.0.get(place).copied().unwrap_or_default()
    }
}

/// Runs `operation` and says how long it took.
pub(crate) fn timed<T>(operation: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let value = operation();
    (value, began.elapsed())
}

/// User and system time that this process has used, all threads.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)?;
    let part = |time: nix::sys::time::TimeVal| -> anyhow::Result<Duration> {
        Ok(Duration::from_secs(u64::try_from(time.tv_sec())?) + Duration::from_micros(u64::try_from(time.tv_usec())?))
    };
    Ok(part(usage.user_time())? + part(usage.system_time())?)
}

/// As microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// As milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// `count` in `time`, a second.
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let count = count as f64;
    count / time.as_secs_f64()
}

/// `time` shared by `count`.
pub(crate) fn each(time: Duration, count: usize) -> anyhow::Result<Duration> {
    time.checked_div(u32::try_from(count)?).context("nothing was done")
}

/// The most memory of this process that was ever resident, in MiB (`VmHWM` of proc_pid_status(5)).
pub(crate) fn peak() -> anyhow::Result<f64> {
    mebibytes("VmHWM:")
}

fn mebibytes(name: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kibibytes: u32 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(f64::from(kibibytes) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut times = Times::default();
        for ms in (1..=100).rev() {
            times.push(Duration::from_millis(ms));
        }
        assert_eq!(times.percentile(0.5), Duration::from_millis(50));
        assert_eq!(times.percentile(0.99), Duration::from_millis(99));
        assert_eq!(Times::default().percentile(0.99), Duration::ZERO);
    }
}
