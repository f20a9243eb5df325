//! What a browser's own session is for.

use uuid::Uuid;

use super::BreakGlassId;

/// What a browser that signed in at the pages may do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageUse {
    /// Look.
    Look,
    /// Decide on exactly these contents of a break-glass request, which the fresh login was for.
    Decide {
        /// The request.
        request: BreakGlassId,
        /// SHA-256 of its contents.
        hash: [u8; 32],
    },
}

// === impl PageUse ===

impl PageUse {
    /// As the database keeps it.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Look => Vec::new(),
            Self::Decide { request, hash } => [request.0.as_bytes().as_slice(), &hash].concat(),
        }
    }

    /// What the database kept; `None` for what it cannot have been.
    #[must_use]
    pub fn from_bytes(kept: &[u8]) -> Option<Self> {
        if kept.is_empty() {
            return Some(Self::Look);
        }
        let (id, hash) = kept.split_at_checked(16)?;
        Some(Self::Decide { request: BreakGlassId(Uuid::from_slice(id).ok()?), hash: hash.try_into().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back() {
        for page in [PageUse::Look, PageUse::Decide { request: BreakGlassId(Uuid::from_u128(7)), hash: [3; 32] }] {
            assert_eq!(PageUse::from_bytes(&page.to_bytes()), Some(page));
        }
        for damaged in [1, 16, 47, 49] {
            assert_eq!(PageUse::from_bytes(&vec![0; damaged]), None, "{damaged}");
        }
    }
}
