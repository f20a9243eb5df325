//! What the numbers were measured on.

use std::path::Path;

use anyhow::Context;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs,
};

/// One line: cores, processor, and the file system under `dir`.
pub(crate) fn describe(dir: &Path) -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism()?;
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("unknown processor", |(_, name)| name);
    Ok(format!("{cores} cores, {model}; databases on {} at `{}`", file_system(dir)?, dir.display()))
}

/// The kind of file system, by name.
fn file_system(dir: &Path) -> anyhow::Result<String> {
    let kind = statfs(dir).with_context(|| format!("cannot look at `{}`", dir.display()))?.filesystem_type();
    let known: [(FsType, &str); 5] = [
        (EXT4_SUPER_MAGIC, "ext4"),
        (XFS_SUPER_MAGIC, "xfs"),
        (BTRFS_SUPER_MAGIC, "btrfs"),
        (OVERLAYFS_SUPER_MAGIC, "overlayfs"),
        (TMPFS_MAGIC, "tmpfs (not durable)"),
    ];
    let name = known.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| (*name).to_owned());
    Ok(name.unwrap_or_else(|| format!("file system {:#x}", kind.0)))
}
