//! Cores that are never idle.

use std::process::{Child, Command};

use anyhow::Context;

/// A loop on each of these cores, in whatever time nothing else wants (Linux, `SCHED_IDLE`); they end when this is dropped.
pub(super) struct Busy(Vec<Child>);

// === impl Busy ===

impl Busy {
    pub(super) fn on(cores: impl Iterator<Item = usize>) -> anyhow::Result<Self> {
        let mut busy = Self(Vec::new());
        for core in cores {
            let core = core.to_string();
            let command = ["--idle", "0", "taskset", "--cpu-list", &core, "sh", "-c", "while :; do :; done"];
            let started = Command::new("chrt").args(command).spawn();
            busy.0.push(started.context("`chrt` (util-linux) is needed to keep the other cores busy")?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for process in &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
