//! Reading regular files, bounded, and nothing else. Whatever else bears the name (a pipe, a device, a socket, a folder) is refused
//! before a byte of it is read: opening or reading one could last for ever, and with it whoever reads.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};

/// The largest file, in bytes, that holds one thing of a line: a token, a URL.
pub const LINE: u64 = 64 << 10;

/// Whether a symbolic link may stand for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It is followed, as where a Kubernetes volume or an operator puts links; what it leads to must be a regular file.
    Followed,
    /// It is refused, as in a folder where this program alone puts files.
    Refused,
}

/// Why a file was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is none.
    #[error("there is no such file")]
    Missing,
    /// A symbolic link where none may be.
    #[error("it is a symbolic link, and none is followed here; put the file itself there")]
    Link,
    /// Not a regular file.
    #[error("it is no regular file but a {0}, and is not read; put a file there")]
    Irregular(&'static str),
    /// More than may be.
    #[error("it has more than {0} bytes, the most that is read of it")]
    TooLarge(u64),
    /// The file system said no.
    #[error("{0}")]
    Failed(String),
}

/// The file, opened for reading; it is a regular one.
///
/// # Errors
/// When there is none, it is something else, or it cannot be opened. Never waits for another process.
pub fn open(path: &Path, links: Links) -> Result<File, ReadError> {
    let refuse = if links == Links::Refused { OFlag::O_NOFOLLOW } else { OFlag::empty() };
    // without waiting, or a pipe that nobody writes to would be waited for
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | refuse;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(|error| {
        match (error.kind(), error.raw_os_error().map(Errno::from_raw)) {
            (ErrorKind::NotFound, _) => ReadError::Missing,
            (_, Some(Errno::ELOOP)) if links == Links::Refused => ReadError::Link,
            // what a socket answers
            (_, Some(Errno::ENXIO)) => ReadError::Irregular("socket or device"),
            _ => ReadError::Failed(error.to_string()),
        }
    })?;
    let kind = file.metadata().map_err(|error| ReadError::Failed(error.to_string()))?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(ReadError::Irregular(if kind.is_dir() {
        "folder"
    } else if std::os::unix::fs::FileTypeExt::is_fifo(&kind) {
        "pipe"
    } else {
        "device"
    }))
}

/// The file's bytes, at most `most`.
///
/// # Errors
/// As [`open`], when it is larger, or when it cannot be read. Of a larger one no more than that is read.
pub fn read(path: &Path, most: u64, links: Links) -> Result<Vec<u8>, ReadError> {
    let failed = |error: std::io::Error| ReadError::Failed(error.to_string());
    let file = open(path, links)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > most {
        return Err(ReadError::TooLarge(most));
    }
    // room for all at once, so that growing leaves no copy of a secret behind
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default().saturating_add(1));
    // it may grow meanwhile, and in /proc it has no size
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most { Err(ReadError::TooLarge(most)) } else { Ok(bytes) }
}

/// The same as text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, most: u64, links: Links) -> Result<String, ReadError> {
    String::from_utf8(read(path, most, links)?).map_err(|error| {
        drop(zeroize::Zeroizing::new(error.into_bytes()));
        ReadError::Failed("it is not text in UTF-8".into())
    })
}

/// SHA-256 of the file, lower-case hex, whatever its size.
///
/// # Errors
/// As [`open`], and when it cannot be read.
pub fn digest(path: &Path, links: Links) -> Result<String, ReadError> {
    let (mut file, mut digest, mut chunk) = (open(path, links)?, Sha256::new(), [0; 8192]);
    loop {
        match file.read(&mut chunk).map_err(|error| ReadError::Failed(error.to_string()))? {
            0 => return Ok(data_encoding::HEXLOWER.encode(&digest.finalize())),
            some => digest.update(chunk.get(..some).unwrap_or_default()),
        }
    }
}

/// The folder that a path's last name stands in: of a name alone it is the current one.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_stands_in_the_current_folder() {
        for (path, folder) in [("vault.new", "."), ("./vault", "."), ("a/b", "a"), ("/a", "/"), ("a/", "."), ("/", ".")]
        {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder), "{path}");
        }
    }

    #[test]
    fn the_digest_is_of_all_of_a_regular_file_and_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        std::fs::write(&file, vec![b'a'; 20_000]).unwrap();
        let known = data_encoding::HEXLOWER.encode(&Sha256::digest(vec![b'a'; 20_000]));
        assert_eq!(digest(&file, Links::Refused), Ok(known));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (done, answer) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(digest(&pipe, Links::Followed)).unwrap());
        let answer = answer.recv_timeout(std::time::Duration::from_secs(10));
        assert_eq!(answer.expect("nobody waits"), Err(ReadError::Irregular("pipe")));
        assert_eq!(digest(&folder.path().join("none"), Links::Followed), Err(ReadError::Missing));
    }

    #[test]
    fn a_pipe_a_device_and_a_folder_are_refused_and_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let (done, answers) = std::sync::mpsc::channel();
        let all = [pipe, "/dev/zero".into(), folder.path().to_owned(), socket];
        std::thread::spawn(move || {
            for path in all {
                done.send(read(&path, 10, Links::Followed)).unwrap();
            }
        });
        for expected in ["pipe", "device", "folder", "socket or device"] {
            let answer = answers.recv_timeout(std::time::Duration::from_secs(10));
            assert_eq!(answer.expect("nobody waits"), Err(ReadError::Irregular(expected)));
        }
    }

    #[test]
    fn a_link_is_followed_only_where_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read_text(&link, 4, Links::Followed), Ok("text".to_owned()));
        assert_eq!(read(&link, 4, Links::Refused), Err(ReadError::Link));
        assert_eq!(read(&folder.path().join("none"), 4, Links::Refused), Err(ReadError::Missing));
    }

    #[test]
    fn no_more_than_the_cap_is_read_whatever_size_the_file_claims() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5, Links::Refused).unwrap(), b"12345");
        assert_eq!(read(&file, 4, Links::Refused), Err(ReadError::TooLarge(4)));
        // of size 0 by its metadata
        assert_eq!(read(Path::new("/proc/self/status"), 4, Links::Refused), Err(ReadError::TooLarge(4)));
    }
}
