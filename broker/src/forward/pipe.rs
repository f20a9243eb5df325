//! A named pipe that lines go into.

use std::io::ErrorKind;
use std::path::Path;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

/// What is wrong where a pipe's reader is gone, or takes nothing.
pub(super) const NOBODY: &str = "nobody reads the pipe";

/// So many bytes a pipe takes whole or not at all (POSIX: at least 512; Linux: 4,096).
const PIPE_BUF: usize = 4_096;

/// An open pipe. So many bytes at once go into it whole or not at all ([`PIPE_BUF`]); of a longer line a part may.
pub(super) struct Pipe {
    sender: pipe::Sender,
    /// What is to follow before anything else: the end of a line whose beginning the reader has, or will have.
    rest: Vec<u8>,
    /// Device and inode, by which it is known whether a path still leads there.
    pub(super) at: (u64, u64),
}

// === impl Pipe ===

impl Pipe {
    /// Opens it.
    ///
    /// # Errors
    /// When nobody reads it, or it cannot be opened.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let sender = match pipe::OpenOptions::new().open_sender(path) {
            Ok(sender) => sender,
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => {
                return Err(std::io::Error::other(NOBODY));
            }
            Err(error) => return Err(error),
        };
        let there = nix::sys::stat::fstat(&sender)?;
        Ok(Self { sender, rest: Vec::new(), at: (there.st_dev, there.st_ino) })
    }

    /// Returns once the lines are in the pipe. Where this is given up, nothing but [`Self::rest`] is of a line that was begun.
    ///
    /// # Errors
    /// When its reader is gone.
    pub(super) async fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
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
