//! Memory for secrets: not swapped out where the limit allows, wiped when dropped.

use std::fmt;

use zeroize::Zeroize;

/// Bytes in pages of their own, locked into memory (`mlock`) where the process may, wiped when dropped.
///
/// Locking is best effort: a container's limit can be as small as 64 KiB. [`super::Hardening`] tells whether the whole
/// process is locked.
pub struct LockedBytes {
    // Held for its drop, and declared first so that the pages are unlocked before they are given back.
    _lock: Option<region::LockGuard>,
    pages: Vec<u8>,
    start: usize,
    len: usize,
}

// === impl LockedBytes ===

impl LockedBytes {
    /// `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        // Locks count pages, not allocations: dropping one lock would unlock a neighbour on the same page. So a value has
        // whole pages to itself, cut out of a larger allocation.
        let page = region::page::size();
        let whole = len.div_ceil(page).max(1) * page;
        let pages = vec![0; whole + page];
        let start = pages.as_ptr().align_offset(page);
        let start = if start.saturating_add(whole) <= pages.len() { start } else { 0 };
        let lock = pages.get(start..).and_then(|p| region::lock(p.as_ptr(), whole).ok());
        Self { _lock: lock, pages, start, len }
    }

    /// A copy of the bytes; whoever has the original wipes it.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.as_mut_slice().copy_from_slice(bytes);
        copy
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.pages.get(self.start..self.start + self.len).unwrap_or_default()
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.pages.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Forgets all but the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        if let Some(tail) = self.as_mut_slice().get_mut(len..) {
            tail.zeroize();
            self.len = len;
        }
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.pages.zeroize();
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedBytes(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in() {
        for len in [0, 1, 32, 4095, 4096, 4097, 10_000] {
            let bytes = vec![7; len];
            let mut locked = LockedBytes::copy_of(&bytes);
            assert_eq!(locked.as_slice(), bytes);
            locked.truncate(len / 2);
            assert_eq!(locked.as_slice().len(), len / 2);
            locked.truncate(len);
            assert_eq!(locked.as_slice().len(), len / 2, "truncating never grows");
        }
    }

    #[test]
    fn pages_are_its_own_and_nothing_is_shown() {
        let locked = LockedBytes::copy_of(b"secret");
        assert_eq!(locked.as_slice().as_ptr().align_offset(region::page::size()), 0);
        assert_eq!(format!("{locked:?}"), "LockedBytes(..)");
    }
}
