//! Files that only their owner may read, written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg, OFlag};
use zeroize::Zeroizing;

use crate::error::Error;

/// Holds a folder's lock until dropped: one writer at a time.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

/// How long a second writer waits for the first.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Returns once the file holds exactly `content`, mode 0600, and both it and its name are on disk. A reader sees the old
/// content or the new one, nothing between.
///
/// # Errors
/// When the folder cannot be made or the file not be written; the old file is then as it was.
pub fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let folder = folder_of(path);
    ensure_folder(folder)?;
    beside(path, content)?.persist(path).map_err(|error| Error::file("write", path)(error.error))?;
    sync_folder(folder)
}

/// As [`write`], for a file that is never written over; the names of the folders that were made for it are on disk as well.
///
/// # Errors
/// As [`write`]; also where there is a file of that name.
pub fn write_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut folder = folder_of(path);
    let there = nearest(folder);
    ensure_folder(folder)?;
    beside(path, content)?.persist_noclobber(path).map_err(|error| Error::file("write", path)(error.error))?;
    loop {
        sync_folder(folder)?;
        if folder == there {
            return Ok(());
        }
        folder = folder_of(folder);
    }
}

/// The content on disk under a name of its own, in the folder of `path`.
fn beside(path: &Path, content: &[u8]) -> Result<tempfile::NamedTempFile, Error> {
    let failed = |source| Error::File { what: "write", path: path.into(), source };
    let mut beside = tempfile::Builder::new().prefix(".ichor-").tempfile_in(folder_of(path)).map_err(failed)?;
    beside.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
    beside.write_all(content).and_then(|()| beside.as_file().sync_all()).map_err(failed)?;
    Ok(beside)
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::file("write", folder))
}

/// The folder itself where it is there, else the nearest one above that is.
fn nearest(folder: &Path) -> &Path {
    let mut there = folder;
    while !there.exists() && there != folder_of(there) {
        there = folder_of(there);
    }
    there
}

/// The file's content; `None` where there is no file.
///
/// # Errors
/// When it cannot be read, is larger than `limit` bytes, or is not UTF-8.
pub fn read(path: &Path, limit: usize) -> Result<Option<Zeroizing<String>>, Error> {
    let failed = |source| Error::File { what: "read", path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(failed(std::io::Error::new(ErrorKind::FileTooLarge, "the file is too large")));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
        Err(error) => Err(failed(std::io::Error::new(ErrorKind::InvalidData, error))),
    }
}

/// The bytes of a regular file, or of what a link to one leads to. Anything else (a pipe, a device) is refused before a byte of it is
/// read: someone else may have named it, and it could last for ever.
///
/// # Errors
/// When there is none, it is no regular file, is larger than `limit` bytes, or cannot be read.
pub fn read_regular(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    // without waiting, or a pipe that nobody writes to would be waited for
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()).is_ok_and(|size| size <= limit) {
        true => Ok(bytes),
        false => Err(std::io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {limit} bytes"))),
    }
}

/// Like [`read`], for secrets of our own: a file that others may read, or that belongs to someone else, is refused.
///
/// # Errors
/// As [`read`], and for a file that is not private.
pub fn read_secret(path: &Path, limit: usize) -> Result<Option<Zeroizing<String>>, Error> {
    match fs::metadata(path) {
        Ok(found) if found.mode() & 0o077 != 0 || found.uid() != nix::unistd::geteuid().as_raw() => Err(Error::failed(
            format!("`{}` can be read by others, so it is not used", path.display()),
            format!("run `rm {}` and `ichor login`", path.display()),
        )),
        _ => read(path, limit),
    }
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes the folder and its parents, 0700, where they are missing; an existing one keeps its mode.
///
/// # Errors
/// When it cannot be made.
pub fn ensure_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::file("make", path))
}

/// Returns if nobody else can change what is in the folder: whoever can may put a file of theirs in the place of one of ours.
///
/// # Errors
/// When it, or a link that leads to it, belongs to another user, or others may write in it.
pub fn check_ours(folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::File { what: "read", path: folder.into(), source };
    let (link, found) = (fs::symlink_metadata(folder).map_err(failed)?, fs::metadata(folder).map_err(failed)?);
    let me = nix::unistd::geteuid().as_raw();
    if let Some(other) = [&link, &found].into_iter().find(|found| found.uid() != me) {
        return Err(Error::failed(
            format!("`{}` belongs to another user (id {}), so nothing is kept in it", folder.display(), other.uid()),
            "take it away, or set XDG_RUNTIME_DIR to a folder of your own",
        ));
    }
    if found.mode() & 0o022 != 0 {
        return Err(Error::failed(
            format!("`{}` can be written by others, so nothing is kept in it", folder.display()),
            format!("look at what is in it, then run `chmod 700 {}`", folder.display()),
        ));
    }
    Ok(())
}

/// Creates a new file, 0600, in a 0700 folder; fails if it is there. What cannot be written whole is taken away again.
///
/// # Errors
/// When it cannot be created or written.
pub fn create_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    ensure_folder(folder_of(path))?;
    let failed = |source| Error::File { what: "write", path: path.into(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(content).map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })
}

/// Returns if the folder takes files, or, where it is not there yet, the folder above that it would be made in. Nothing is left behind.
///
/// # Errors
/// Why it does not: it is no folder, somebody else's, or the disk is full.
pub fn takes_files(folder: &Path) -> std::io::Result<()> {
    tempfile::tempfile_in(nearest(folder))?.write_all(&[0; 16 * 1024])
}

/// Returns once no other process of ours writes in the folder of `path`. The folder itself is what is locked, so nothing
/// is left behind.
///
/// # Errors
/// When another writer does not finish within 10 s.
pub fn lock(path: &Path) -> Result<Lock, Error> {
    let folder = folder_of(path);
    ensure_folder(folder)?;
    let failed = |source| Error::File { what: "lock", path: folder.into(), source };
    let mut waited = Duration::ZERO;
    let mut handle = File::open(folder).map_err(failed)?;
    loop {
        match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Lock(lock)),
            Err((_, errno)) if waited >= LOCK_PATIENCE => return Err(failed(errno.into())),
            Err((unlocked, nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR)) => handle = unlocked,
            Err((_, errno)) => return Err(failed(errno.into())),
        }
        let pause = Duration::from_millis(20);
        std::thread::sleep(pause);
        waited += pause;
    }
}

/// Where writing goes when `path` is a symbolic link: the file it leads to, even one that is not there yet.
///
/// # Errors
/// When the links lead in a circle.
pub fn follow(path: &Path) -> Result<PathBuf, Error> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = folder_of(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(Error::failed(format!("`{}` leads in a circle", path.display()), "correct the symbolic link"))
}

/// The one name of a file that may be named in several ways: links followed, its folder as the file system has it. A file or folder
/// that is not there yet is named as given.
#[must_use]
pub fn real(path: &Path) -> PathBuf {
    let path = follow(path).unwrap_or_else(|_| path.to_owned());
    match (fs::canonicalize(folder_of(&path)), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

/// The folder of a file.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_written_is_private_and_so_are_its_folders() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/file");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read_secret(&path, 10).unwrap().unwrap().as_str(), "two");
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_never_written_over_is_not_though_it_came_in_between() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/record");
        write_new(&path, b"one").unwrap();
        assert!(write_new(&path, b"two").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("session");
        write(&path, b"token").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_secret(&path, 10).unwrap_err().to_string().contains("can be read by others"));
    }

    #[test]
    fn a_folder_that_others_can_change_is_not_ours() {
        let root = tempfile::tempdir().unwrap();
        let (folder, link) = (root.path().join("run"), root.path().join("link"));
        ensure_folder(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        check_ours(&folder).unwrap();
        check_ours(&link).unwrap();
        for mode in [0o720, 0o702, 0o777] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            let error = check_ours(&folder).unwrap_err();
            assert!(error.to_string().contains("can be written by others"), "{error}");
            let next = error.next_steps().concat();
            assert!(next.contains(&format!("`chmod 700 {}`", folder.display())), "{next}");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        check_ours(&folder).unwrap();
        // whoever may give things away
        if std::os::unix::fs::lchown(&link, Some(12_345), None).is_ok() {
            assert!(check_ours(&link).unwrap_err().to_string().contains("another user (id 12345)"));
            std::os::unix::fs::chown(&folder, Some(12_345), None).unwrap();
            assert!(check_ours(&folder).unwrap_err().to_string().contains("another user (id 12345)"));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_none_and_too_large_a_one_an_error() {
        let root = tempfile::tempdir().unwrap();
        assert!(read(&root.path().join("none"), 10).unwrap().is_none());
        fs::write(root.path().join("big"), "01234567890").unwrap();
        assert!(read(&root.path().join("big"), 10).is_err());
    }

    #[test]
    fn of_a_regular_file_so_much_is_read_and_of_a_device_or_a_pipe_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (file, link, pipe) = (root.path().join("file"), root.path().join("link"), root.path().join("pipe"));
        fs::write(&file, "12345").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_regular(&link, 5).unwrap(), b"12345");
        assert!(read_regular(&file, 4).unwrap_err().to_string().contains("more than 4 bytes"));
        let (done, answers) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for path in [pipe, "/dev/zero".into()] {
                done.send(read_regular(&path, 1 << 40).map_err(|error| error.to_string())).unwrap();
            }
        });
        for _ in 0..2 {
            let answer = answers.recv_timeout(Duration::from_secs(10)).expect("nobody waits");
            assert_eq!(answer, Err("it is no regular file".to_owned()));
        }
    }

    #[test]
    fn a_folder_that_takes_files_is_known_and_left_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        for (folder, takes) in [("", true), ("not/yet/there", true), ("file", false), ("file/below/it", false)] {
            assert_eq!(takes_files(&root.path().join(folder)).is_ok(), takes, "{folder}");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_second_writer_waits_for_the_first() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("config");
        let held = lock(&path).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            move || {
                let _lock = lock(&path).unwrap();
                sender.send(()).unwrap();
            }
        });
        assert!(receiver.recv_timeout(Duration::from_millis(60)).is_err());
        drop(held);
        receiver.recv_timeout(Duration::from_secs(5)).unwrap();
        second.join().unwrap();
    }

    #[test]
    fn links_are_followed_to_where_they_lead() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("real", root.path().join("link")).unwrap();
        assert_eq!(follow(&root.path().join("link")).unwrap(), root.path().join("real"));
        std::os::unix::fs::symlink("loop", root.path().join("loop")).unwrap();
        assert!(follow(&root.path().join("loop")).is_err());
    }

    #[test]
    fn a_file_has_one_name_however_it_is_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(root.path()).unwrap();
        fs::create_dir(folder.join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.join("linked")).unwrap();
        std::os::unix::fs::symlink("real/config", folder.join("config")).unwrap();
        for name in ["real/config", "linked/config", "real/../linked/./config", "config"] {
            assert_eq!(real(&folder.join(name)), folder.join("real/config"), "{name}");
        }
        assert_eq!(real(&folder.join("none/config")), folder.join("none/config"));
    }
}
