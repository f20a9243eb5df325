//! A share of one core for one process: a control group of ours (Linux, `Documentation/admin-guide/cgroup-v2.rst`, and the `cpu`
//! controller of its first version).

use std::path::{Path, PathBuf};

use anyhow::Context;

/// How long a period is in which the share is used up, in microseconds: short, so that a load is slowed and not stopped.
const PERIOD: u32 = 10_000;

/// The control group; it goes when this is dropped, and the process is free again.
pub(super) struct Share {
    group: PathBuf,
}

// === impl Share ===

impl Share {
    /// Holds the process with all its threads to `percent` of one core.
    pub(super) fn of(process: u32, percent: u32) -> anyhow::Result<Self> {
        let quota = PERIOD * percent / 100;
        let (above, limits) = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => ("/sys/fs/cgroup", vec![("cpu.max", format!("{quota} {PERIOD}"))]),
            false => (
                "/sys/fs/cgroup/cpu",
                vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())],
            ),
        };
        let group = Path::new(above).join(format!("ichor-bench-{process}"));
        std::fs::create_dir(&group).with_context(|| format!("cannot make the control group `{}`", group.display()))?;
        let share = Self { group };
        for (file, value) in limits {
            share.set(file, &value)?;
        }
        share.set("cgroup.procs", &process.to_string())?;
        Ok(share)
    }

    fn set(&self, file: &str, value: &str) -> anyhow::Result<()> {
        let file = self.group.join(file);
        std::fs::write(&file, value).with_context(|| format!("cannot write `{value}` into `{}`", file.display()))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let (Some(above), Ok(processes)) =
            (self.group.parent(), std::fs::read_to_string(self.group.join("cgroup.procs")))
        else {
            return;
        };
        for process in processes.lines() {
            let _ = std::fs::write(above.join("cgroup.procs"), process);
        }
        let _ = std::fs::remove_dir(&self.group);
    }
}
