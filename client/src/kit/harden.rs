//! Keeps what a kit is opened with out of core files.

use nix::sys::resource::{Resource, setrlimit};

/// Has the kernel write no core file of this process, and, on Linux, lets no other process of its user attach to it; to be called before
/// a share is read. Memory is not locked: it may reach the machine's swap. Answers whether it was achieved.
#[must_use]
pub fn harden_process() -> bool {
    let no_core = setrlimit(Resource::RLIMIT_CORE, 0, 0).is_ok();
    #[cfg(target_os = "linux")]
    let no_core = nix::sys::prctl::set_dumpable(false).is_ok() && no_core;
    no_core
}
