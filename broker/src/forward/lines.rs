//! A file or named pipe, a line of JSON for each entry.

use std::io::SeekFrom;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ichor_wire::api::AuditEntry;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::ForwardError;

/// How long whoever reads a pipe may take for one batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// The destination, opened when it is first needed.
pub(super) struct Lines {
    path: PathBuf,
    open: Option<Open>,
}

enum Open {
    /// With device and inode, by which it is known whether the path still leads there.
    File(File, (u64, u64)),
    Pipe(pipe::Sender),
}

// === impl Lines ===

impl Lines {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Returns once the lines are in the file and synced, or in the pipe.
    pub(super) async fn send(&mut self, entries: &[AuditEntry]) -> Result<(), ForwardError> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry).map_err(|error| ForwardError(error.to_string()))?;
            lines.push(b'\n');
        }
        let sent = self.write(&lines).await;
        if sent.is_err() {
            // opened anew next time: whatever was wrong with it may be over then
            self.open = None;
        }
        sent.map_err(|error| ForwardError(format!("`{}`: {error}", self.path.display())))
    }

    async fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if let Some(Open::File(_, opened)) = &self.open {
            // moved away or removed: what comes goes where the path leads now
            let there = tokio::fs::metadata(&self.path).await.map(|file| (file.dev(), file.ino()));
            if there.ok() != Some(*opened) {
                self.open = None;
            }
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(open(&self.path).await?),
        };
        match open {
            Open::File(file, _) => {
                file.write_all(lines).await?;
                // what went wrong with the write is told here, and nowhere else: `sync_data` drops it
                file.flush().await?;
                file.sync_data().await
            }
            Open::Pipe(pipe) => match tokio::time::timeout(PATIENCE, pipe.write_all(lines)).await {
                Ok(written) => written,
                Err(_) => Err(std::io::Error::other("nobody reads the pipe")),
            },
        }
    }
}

async fn open(path: &Path) -> std::io::Result<Open> {
    let is_pipe = tokio::fs::metadata(path).await.is_ok_and(|there| there.file_type().is_fifo());
    if is_pipe {
        return match pipe::OpenOptions::new().open_sender(path) {
            Ok(pipe) => Ok(Open::Pipe(pipe)),
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => {
                Err(std::io::Error::other("nobody reads the pipe"))
            }
            Err(error) => Err(error),
        };
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
    Ok(Open::File(file, (there.dev(), there.ino())))
}
