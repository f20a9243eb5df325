//! Cores that are never idle.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

/// A loop on each of these cores, in whatever time nothing else wants (Linux, `SCHED_IDLE`); they end when this is dropped, or with us.
pub(super) struct Busy(Vec<Child>);

// === impl Busy ===

impl Busy {
    pub(super) fn on(cores: impl Iterator<Item = usize>) -> anyhow::Result<Self> {
        let mut busy = Self(Vec::new());
        for core in cores {
            let core = core.to_string();
            let as_idle = ["--idle", "0", "taskset", "--cpu-list", &core];
            let until_our_end = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"];
            let mut command = Command::new("chrt");
            command.args(as_idle).args(until_our_end);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            busy.0.push(command.spawn().context("`chrt` (util-linux) is needed to keep the other cores busy")?);
        }
        Ok(busy)
    }

    /// # Errors
    /// When one of the loops ran not, or no longer.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for process in &mut self.0 {
            let ended = process.try_wait()?;
            ensure!(
                ended.is_none(),
                "a loop that was to keep a core busy (`chrt`, `taskset`, `setpriv`) has ended: {ended:?}"
            );
        }
        Ok(())
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
