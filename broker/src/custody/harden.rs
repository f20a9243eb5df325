//! Keeps this process's memory to itself.

use std::fmt;

use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// What [`harden_process`] achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardening {
    /// The kernel writes no core file of this process (`RLIMIT_CORE` is 0, and cannot be raised again).
    pub core_limit: bool,
    /// The process cannot be dumped, nor attached to by others of its user (`PR_SET_DUMPABLE` is 0).
    pub not_dumpable: bool,
    /// How much memory cannot be swapped out.
    pub memory: Memory,
}

/// How much of the process's memory cannot be swapped out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// All of it, now and later.
    All,
    /// Only the pages that hold decrypted files; a key in use lies in the crypto library's own memory, which can be swapped.
    Pages,
}

/// Turns core dumps off, and locks all memory where the limit (`LimitMEMLOCK=infinity` in a systemd unit) allows it.
///
/// With a finite limit nothing is locked as a whole: an allocation beyond the limit would end the process. Call it first
/// in `main`; it fails at nothing and answers what was achieved, for `check` to tell.
pub fn harden_process() -> Hardening {
    let core_limit = setrlimit(Resource::RLIMIT_CORE, 0, 0).is_ok();
    let not_dumpable = set_dumpable(false).is_ok();
    let unlimited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    // ONFAULT: pages are locked once they are used, so that untouched thread stacks do not become resident.
    let flags = MlockAllFlags::from_bits_retain(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT);
    let memory = if unlimited && mlockall(flags).is_ok() { Memory::All } else { Memory::Pages };
    Hardening { core_limit, not_dumpable, memory }
}

// === impl Hardening ===

impl Hardening {
    /// What an operator should know, a sentence each; nothing when all was achieved.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if !(self.core_limit && self.not_dumpable) {
            warnings.push("core dumps could not be turned off: a crash may write keys to disk");
        }
        if self.memory == Memory::Pages {
            warnings.push(
                "memory is not locked, so keys in use may reach swap; give the service `LimitMEMLOCK=infinity`, or turn \
                 swap off or encrypt it",
            );
        }
        warnings
    }
}

impl fmt::Display for Hardening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dumps = if self.core_limit && self.not_dumpable { "core dumps off" } else { "core dumps NOT off" };
        let memory = match self.memory {
            Memory::All => "memory locked",
            Memory::Pages => "only opened files locked into memory; give the service LimitMEMLOCK=infinity",
        };
        write!(f, "{dumps}, {memory}")
    }
}
