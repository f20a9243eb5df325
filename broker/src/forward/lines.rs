//! A file or named pipe, a line of JSON for each entry.

use std::io::{ErrorKind, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ichor_wire::api::AuditEntry;
use serde::Serialize;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::ForwardError;

/// How long whoever reads a pipe may take for one batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is wrong where a pipe's reader is gone, or takes nothing.
const NOBODY: &str = "nobody reads the pipe";

/// So many bytes a pipe takes whole or not at all (POSIX: at least 512; Linux: 4,096).
const PIPE_BUF: usize = 4_096;

/// The destination, opened when it is first needed.
pub(super) struct Lines {
    path: PathBuf,
    open: Option<Open>,
}

struct Open {
    to: To,
    /// Device and inode, by which it is known whether the path still leads there.
    at: (u64, u64),
}

enum To {
    File(File),
    Pipe(Pipe),
}

/// A pipe. So many bytes at once go into it whole or not at all ([`PIPE_BUF`]); of a longer line a part may.
struct Pipe {
    sender: pipe::Sender,
    /// What is to follow before anything else: the end of a line whose beginning the reader has, or will have.
    rest: Vec<u8>,
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
        Self { path, open: None }
    }

    /// Returns once the lines are in the file and synced, or in the pipe.
    pub(super) async fn send(&mut self, log: &str, entries: &[AuditEntry]) -> Result<(), ForwardError> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, &Line { log, entry }).map_err(|error| ForwardError(error.to_string()))?;
            lines.push(b'\n');
        }
        let sent = self.write(&lines).await;
        if sent.as_ref().is_err_and(|error| error.kind() != ErrorKind::TimedOut) {
            // opened anew next time: whatever was wrong with it may be over then
            self.open = None;
        }
        sent.map_err(|error| ForwardError(format!("`{}`: {error}", self.path.display())))
    }

    async fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if let Some(open) = &self.open {
            // moved away or removed: what comes goes where the path leads now
            let there = tokio::fs::metadata(&self.path).await.map(|file| (file.dev(), file.ino()));
            if there.ok() != Some(open.at) {
                self.open = None;
            }
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(open(&self.path).await?),
        };
        match &mut open.to {
            To::File(file) => {
                file.write_all(lines).await?;
                // what went wrong with the write is told here, and nowhere else: `sync_data` drops it
                file.flush().await?;
                file.sync_data().await
            }
            To::Pipe(pipe) => match tokio::time::timeout(PATIENCE, pipe.write(lines)).await {
                Ok(written) => written,
                // it stays open: whoever reads on finds the line that was begun ended, and the batch once more behind it
                Err(_) => Err(std::io::Error::new(ErrorKind::TimedOut, NOBODY)),
            },
        }
    }
}

impl Pipe {
    /// Returns once the lines are in the pipe. Where this is given up, nothing but [`Self::rest`] is of a line that was begun.
    async fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        self.end_line().await?;
        let mut left = lines;
        while !left.is_empty() {
            let (next, behind) = left.split_at_checked(whole_lines(left)).unwrap_or((left, &[]));
            let written = self.sender.write(next).await?;
            self.rest = next.get(written..).unwrap_or_default().to_vec();
            self.end_line().await?;
            left = behind;
        }
        Ok(())
    }

    async fn end_line(&mut self) -> std::io::Result<()> {
        while !self.rest.is_empty() {
            let written = self.sender.write(&self.rest).await?;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            self.rest.drain(..written.min(self.rest.len()));
        }
        Ok(())
    }
}

/// How many bytes of whole lines are written at once: as many as go in whole, or one longer line.
fn whole_lines(lines: &[u8]) -> usize {
    let ends = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place.saturating_add(1));
    let mut most = 0;
    for end in ends {
        if most > 0 && end > PIPE_BUF {
            break;
        }
        most = end;
    }
    if most == 0 { lines.len() } else { most }
}

async fn open(path: &Path) -> std::io::Result<Open> {
    let is_pipe = tokio::fs::metadata(path).await.is_ok_and(|there| there.file_type().is_fifo());
    if is_pipe {
        let sender = match pipe::OpenOptions::new().open_sender(path) {
            Ok(sender) => sender,
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => {
                return Err(std::io::Error::other(NOBODY));
            }
            Err(error) => return Err(error),
        };
        let there = nix::sys::stat::fstat(&sender)?;
        return Ok(Open { to: To::Pipe(Pipe { sender, rest: Vec::new() }), at: (there.st_dev, there.st_ino) });
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = options.open(path).await?;
    let there = file.metadata().await?;
    if there.len() > 0 {
        // a broker that was killed may have left half a line: what follows must not become part of it
        file.seek(SeekFrom::End(-1)).await?;
        let mut last = [0];
        file.read_exact(&mut last).await?;
        if last != *b"\n" {
            file.write_all(b"\n").await?;
        }
    }
    Ok(Open { to: To::File(file), at: (there.dev(), there.ino()) })
}
