//! The keys of the metadata whose values are read, and those whose place alone counts, found in one pass: every line has it to itself.

use super::Sign;

/// What of the metadata was found.
#[derive(Debug, Default)]
pub(super) struct Keys<'a> {
    /// `talos-role`, which apid sets.
    pub(super) role: Key<'a>,
    /// `content-type`.
    pub(super) content_type: Key<'a>,
    /// The broker's own mark.
    pub(super) probe: Key<'a>,
    /// The caller's address.
    pub(super) peer: Key<'a>,
    /// `proxyfrom`, which apid sets.
    proxied: Key<'a>,
    /// Whether any key ends in `-bin`.
    is_binary: bool,
    /// Whether the last parenthesis is missing.
    is_cut: bool,
}

/// Where a key stands.
#[derive(Debug, Default)]
pub(super) struct Key<'a> {
    /// How often it stands anywhere with `=` behind it.
    times: usize,
    /// How often it is the beginning of a field.
    fields: usize,
    /// What stands behind the first of those.
    behind: &'a str,
}

// === impl Keys ===

impl<'a> Keys<'a> {
    /// Looks for them in this text, which ends with the message.
    pub(super) fn of(text: &'a str) -> Self {
        let mut keys = Self { is_cut: !text.ends_with(')'), ..Self::default() };
        for (at, _) in text.match_indices('=') {
            let (Some(before), Some(behind)) = (text.get(..at), text.get(at + 1..)) else { continue };
            keys.is_binary |= before.ends_with("-bin");
            for (name, key) in [
                ("talos-role", &mut keys.role),
                ("content-type", &mut keys.content_type),
                (super::PROBE_KEY, &mut keys.probe),
                ("proxyfrom", &mut keys.proxied),
                ("peer", &mut keys.peer),
            ] {
                if let Some(before) = before.strip_suffix(name) {
                    key.add(before, behind);
                }
            }
        }
        keys
    }

    /// Why a caller may have written the message, or bent it, as far as keys tell.
    pub(super) fn sign(&self) -> Option<Sign> {
        let Self { role, content_type, probe, peer, proxied, is_binary, is_cut } = self;
        if *is_cut {
            Some(Sign::Cut)
        } else if role.times > 1 {
            Some(Sign::TwoRoles)
        } else if *is_binary {
            Some(Sign::Binary)
        // other keys end like that of the address
        } else if [content_type.times, proxied.times, probe.times, peer.fields].into_iter().any(|times| times > 1) {
            Some(Sign::Twice)
        } else {
            None
        }
    }
}

// === impl Key ===

impl<'a> Key<'a> {
    fn add(&mut self, before: &str, behind: &'a str) {
        self.times += 1;
        if before.ends_with([';', '(']) {
            self.fields += 1;
            if self.fields == 1 {
                self.behind = behind;
            }
        }
    }

    /// The value of a key that stands exactly once, at the beginning of a field.
    pub(super) fn once(&self) -> Option<&'a str> {
        if self.fields != 1 {
            return None;
        }
        let end = self.behind.find(';');
        let end = end.unwrap_or_else(|| self.behind.strip_suffix(')').map_or(self.behind.len(), str::len));
        self.behind.get(..end)
    }
}
