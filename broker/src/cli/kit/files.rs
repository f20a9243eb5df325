//! The files of a ceremony: the kit's own, and each holder's share.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::{paper, write_new};
use crate::custody::{MadeKit, RecordedKit};

/// Where a ceremony's files go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folders<'a> {
    /// The kit's file and the sealed shares.
    pub(super) output: &'a Path,
    /// The sheets with shares for paper.
    pub(super) paper: Option<&'a Path>,
}

impl Folders<'_> {
    /// Refuses a folder that takes no file, and for sheets one on a disk: a kit that is recorded and cannot be written is nobody's.
    pub(super) fn check(self) -> anyhow::Result<()> {
        self.paper.map_or(Ok(()), in_memory)?;
        [Some(self.output), self.paper].into_iter().flatten().try_for_each(takes_files)
    }

    /// Refuses where something has the name of one of this kit's files: the kit would be recorded, and not written whole.
    pub(super) fn check_names(self, kit: &MadeKit) -> anyhow::Result<()> {
        let facts = kit.facts();
        let shares = kit.recipients().zip(&facts.shares);
        let shares = shares.map(|(sealed, said)| self.share(facts.number, said.index, &said.holder, sealed.is_none()));
        let mut files = std::iter::once(self.kit(facts.number)).chain(shares);
        if let Some(there) = files.find(|file| file.symlink_metadata().is_ok()) {
            bail!(
                "`{}` is there already, and nothing was recorded; move it away, or name another folder, and run it again",
                there.display()
            );
        }
        Ok(())
    }

    /// Writes the kit's file and its shares. `files` gets what lies where, also where not all of it could be written.
    pub(super) fn write(self, kit: &RecordedKit, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
        let facts = &kit.facts;
        write(self.kit(facts.number), kit.text.as_bytes(), files)?;
        for share in &kit.shares {
            let is_paper = share.recipient.is_none();
            let path = self.share(facts.number, share.index, &share.holder, is_paper);
            if is_paper && self.paper.is_some() {
                write(path, paper::sheet(facts, share)?.as_bytes(), files)?;
            } else {
                write(path, &share.body, files)?;
            }
        }
        Ok(())
    }

    fn kit(self, number: u16) -> PathBuf {
        self.output.join(format!("kit-{number}.toml"))
    }

    fn share(self, number: u16, index: u8, holder: &str, is_paper: bool) -> PathBuf {
        let stem = format!("kit-{number}-share-{index}-{holder}");
        match self.paper {
            Some(dir) if is_paper => dir.join(format!("{stem}.txt")),
            _ => self.output.join(format!("{stem}.age")),
        }
    }
}

/// What is said of a kit that is recorded and not written whole: what of it lies there is to be removed, for shares are among it.
pub(super) fn unwritten(number: u16, files: &[PathBuf], at: &str) -> String {
    let there = files.iter().filter(|file| file.exists()).map(|file| format!("`{}`", file.display()));
    let there: Vec<String> = there.collect();
    let remove = if there.is_empty() { String::new() } else { format!(", remove {}", there.join(", ")) };
    format!(
        "kit {number} is recorded and not written whole; end it with `ichor-broker kit revoke {number} --reason …{at}`{remove}, and make \
         another"
    )
}

/// Writes one of a kit's files. `files` gets it also where it was not written to its end; what another put there is left alone.
fn write(path: PathBuf, bytes: &[u8], files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let is_ours = path.symlink_metadata().is_err();
    let written = write_new(&path, bytes);
    if is_ours {
        files.push(path);
    }
    written
}

/// Refuses a folder on a disk: what was written there can be read from it after it was removed.
fn in_memory(dir: &Path) -> anyhow::Result<()> {
    let found = statfs(dir).with_context(|| format!("cannot look at `{}`", dir.display()))?;
    if found.filesystem_type() != TMPFS_MAGIC {
        bail!(
            "`{}` is on a disk, which would keep the shares; name a folder in memory, as `--paper-dir /dev/shm`",
            dir.display()
        );
    }
    Ok(())
}

/// Refuses a folder that takes no file.
fn takes_files(dir: &Path) -> anyhow::Result<()> {
    tempfile::tempfile_in(dir)
        .map(drop)
        .with_context(|| format!("`{}` takes no file; name a folder that is there, and yours", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_kit_that_is_not_written_whole_what_lies_there_is_named_and_nothing_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two, away] = ["one", "two", "away"].map(|name| dir.path().join(name));
        std::fs::write(&two, "another's").unwrap();
        let mut files = Vec::new();
        write(one.clone(), b"ours", &mut files).unwrap();
        write(two.clone(), b"ours", &mut files).unwrap_err();
        assert_eq!(files, std::slice::from_ref(&one));
        assert_eq!(std::fs::read_to_string(&two).unwrap(), "another's");
        let said = unwritten(7, &[one.clone(), away], " --dir x");
        assert!(said.contains(&format!("`, remove `{}`, and make another", one.display())), "{said}");
        assert!(said.contains("kit revoke 7 --reason … --dir x`"), "{said}");
        assert!(!unwritten(7, &[], "").contains("remove"));
    }
}
