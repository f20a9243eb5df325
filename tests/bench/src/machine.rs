//! What the numbers were measured on.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs,
};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};
use tokio::time::Instant;

/// How long each yardstick is laid on.
const YARD: Duration = Duration::from_millis(300);

/// What is written before a sync: about what a full batch of the log writes.
const BATCH: usize = 512 << 10;

/// One line: cores, processor, and the file system under `dir`; and what this machine does of two things that every number here
/// rests on, so that numbers of two machines, or of one machine on two days, can be held against each other.
pub(crate) fn describe(dir: &Path) -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism()?;
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("unknown processor", |(_, name)| name);
    let (signatures, sync) = (signatures()?, sync(dir)?);
    Ok(format!(
        "{cores} cores, {model}; databases on {} at `{}`; just now one core made {signatures:.0} Ed25519 signatures/s, and writing \
         and syncing 512 KiB took {:.2} ms",
        file_system(dir)?,
        dir.display(),
        sync.as_secs_f64() * 1e3
    ))
}

/// Ed25519 signatures a second on one core.
fn signatures() -> anyhow::Result<f64> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < YARD {
        for _ in 0..50 {
            std::hint::black_box(key.sign(&[7; 350])?);
        }
        count += 50;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// The median time of writing and syncing as much as a full batch of the log.
fn sync(dir: &Path) -> anyhow::Result<Duration> {
    let mut file = tempfile::tempfile_in(dir)?;
    let (began, bytes) = (Instant::now(), vec![7; BATCH]);
    let mut times = Vec::new();
    while began.elapsed() < YARD {
        let wrote = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        times.push(wrote.elapsed());
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied().context("no sync")
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
