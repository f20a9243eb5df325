//! A file or named pipe, a line of JSON for each entry.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ichor_wire::api::AuditEntry;
use serde::Serialize;

use super::ForwardError;
use super::file::File;
use super::pipe::{NOBODY, Pipe};
use crate::disk::{Disk, DiskError, Waiter};

/// How long a disk, or whoever reads a pipe, may take for one batch. Both together are less than a cursor is surely held.
const PATIENCE: Duration = Duration::from_secs(10);

/// The destination, opened when it is first needed.
pub(super) struct Lines {
    path: PathBuf,
    /// What it lies on.
    pub(super) disk: Disk,
    file: Option<File>,
    pipe: Option<Pipe>,
}

/// What came of one try on the disk.
enum Done {
    /// The lines are in this file, and synced.
    Written(File),
    /// The path leads to a pipe: to the one that is open, or to this one.
    IsPipe(Option<Pipe>),
}

/// An entry as the API has it, and the name of its log.
#[derive(Serialize)]
struct Line<'a> {
    log: &'a str,
    #[serde(flatten)]
    entry: &'a AuditEntry,
}

// === impl Lines ===

impl Lines {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, disk: Disk::default(), file: None, pipe: None }
    }

    /// Returns once the lines are in the file and synced, or in the pipe. Gives up after [`PATIENCE`]; of a disk that answers later
    /// what it was doing then may still be done, and nothing after it.
    pub(super) async fn send(&mut self, log: &str, entries: &[AuditEntry]) -> Result<(), ForwardError> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, &Line { log, entry }).map_err(|error| ForwardError(error.to_string()))?;
            lines.push(b'\n');
        }
        self.put(lines.into()).await.map_err(|why| ForwardError(format!("`{}`: {why}", self.path.display())))
    }

    async fn put(&mut self, lines: Arc<[u8]>) -> Result<(), String> {
        let (path, file, pipe) = (self.path.clone(), self.file.take(), self.pipe.as_ref().map(|pipe| pipe.at));
        let to_write = Arc::clone(&lines);
        let done = self.disk.bounded(PATIENCE, move |waiter| put(&path, file, pipe, &to_write, waiter)).await;
        let opened = match done {
            Ok(Done::Written(file)) => {
                (self.file, self.pipe) = (Some(file), None);
                return Ok(());
            }
            Ok(Done::IsPipe(opened)) => opened,
            Err(error) => {
                // a pipe stays open where nothing is known of it: a line in it may have to be ended
                if !matches!(error, DiskError::Silent) {
                    self.pipe = None;
                }
                return Err(error.to_string());
            }
        };
        self.pipe = opened.or_else(|| self.pipe.take());
        let Some(pipe) = &mut self.pipe else { return Err("the pipe was closed at this moment".into()) };
        match tokio::time::timeout(PATIENCE, pipe.write(&lines)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                // opened anew next time: whatever was wrong with it may be over then
                self.pipe = None;
                Err(error.to_string())
            }
            // it stays open: whoever reads on finds the line that was begun ended, and the batch once more behind it
            Err(_) => Err(NOBODY.into()),
        }
    }
}

/// Writes into the file where the path leads to one: `file` if that is still it. `pipe` is where the open one is.
fn put(
    path: &Path,
    file: Option<File>,
    pipe: Option<(u64, u64)>,
    lines: &[u8],
    waiter: &Waiter,
) -> std::io::Result<Done> {
    // moved away or removed: what comes goes where the path leads now
    let there = std::fs::metadata(path).ok();
    let at = there.as_ref().map(|there| (there.dev(), there.ino()));
    if there.is_some_and(|there| there.file_type().is_fifo()) {
        let is_open = pipe.is_some() && pipe == at;
        return Ok(Done::IsPipe(if is_open { None } else { Some(Pipe::open(path)?) }));
    }
    let mut file = match file.filter(|file| Some(file.at) == at) {
        Some(file) => file,
        None => File::open(path, waiter)?,
    };
    file.append(lines, waiter)?;
    Ok(Done::Written(file))
}
