//! The form of a backup, inside its seal: a first line that says what it is, then each file as a line of JSON and its bytes, then a
//! line that says how many there were.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::regular::{self, Links};

/// The first line.
const FIRST: &str = "ichor backup 1\n";

/// The longest line of JSON.
const LONGEST: u64 = 8192;

/// The most files.
const MOST: u64 = 100_000;

/// What a line says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Line {
    /// A file follows.
    File {
        /// Where in the folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// How many bytes follow.
        size: u64,
    },
    /// All files are here.
    End {
        /// How many there were.
        files: u64,
    },
}

/// Writes files: where each is now, and its path in the archive.
pub(in crate::cli) fn write(out: &mut dyn Write, files: &[(PathBuf, PathBuf)]) -> io::Result<()> {
    out.write_all(FIRST.as_bytes())?;
    for (from, path) in files {
        let file = regular::open(from, Links::Refused)
            .map_err(|why| io::Error::other(format!("`{}`: {why}", from.display())))?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        line(out, &Line::File { path: path.clone(), mode: metadata.permissions().mode() & 0o777, size })?;
        if io::copy(&mut file.take(size), out)? != size {
            return Err(io::Error::other(format!("`{}` became shorter while it was read", from.display())));
        }
    }
    line(out, &Line::End { files: files.len() as u64 })
}

fn line(out: &mut dyn Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Makes the files in `folder`, which is empty, each synced; answers their paths in it.
pub(in crate::cli) fn read(from: impl Read, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut from = BufReader::new(from);
    let mut first = String::new();
    from.by_ref().take(LONGEST).read_line(&mut first).context("the backup is damaged")?;
    if first != FIRST {
        bail!("it is sealed, but no backup of a broker; a vault alone is restored by `ichor-broker custody restore`");
    }
    let mut made = Vec::new();
    loop {
        let mut text = String::new();
        from.by_ref().take(LONGEST).read_line(&mut text).context("the backup is damaged")?;
        if !text.ends_with('\n') {
            bail!("the backup is damaged, or was cut off");
        }
        match serde_json::from_str(&text).context("the backup is damaged, or was cut off")? {
            Line::End { files } if files == made.len() as u64 => break,
            Line::File { path, mode, size } if is_inside(&path) && (made.len() as u64) < MOST => {
                let to = folder.join(&path);
                if let Some(parent) = to.parent() {
                    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
                }
                // never others' to write, whatever the archive says
                let mode = mode & 0o755;
                let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&to)?;
                if io::copy(&mut from.by_ref().take(size), &mut file).context("the backup is damaged")? != size {
                    bail!("the backup was cut off");
                }
                file.sync_all()?;
                made.push(path);
            }
            _ => bail!("the backup is damaged"),
        }
    }
    // the seal's own end is only looked at by who reads on
    if from.read(&mut [0])? != 0 {
        bail!("the backup is damaged: something lies behind its end");
    }
    Ok(made)
}

/// Whether the path leads into the folder and nowhere else.
fn is_inside(path: &Path) -> bool {
    let mut parts = path.components();
    parts.clone().next().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(lines: &str) -> Vec<u8> {
        format!("{FIRST}{lines}").into_bytes()
    }

    #[test]
    fn files_come_back_as_they_were_but_never_others_to_write() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = from.path().join("secret");
        fs::write(&secret, "text\nwith lines\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o666)).unwrap();
        let mut bytes = Vec::new();
        write(&mut bytes, &[(secret.clone(), "deep/er/secret".into()), (secret, "again".into())]).unwrap();
        let made = read(bytes.as_slice(), to.path()).unwrap();
        assert_eq!(made, [PathBuf::from("deep/er/secret"), "again".into()]);
        let back = to.path().join("deep/er/secret");
        assert_eq!(fs::read(&back).unwrap(), b"text\nwith lines\n");
        assert_eq!(fs::metadata(&back).unwrap().permissions().mode() & 0o022, 0);
        for end in 1..bytes.len() {
            let to = tempfile::tempdir().unwrap();
            assert!(read(&bytes[..end], to.path()).is_err(), "cut off at {end}");
        }
        bytes.push(b'x');
        assert!(read(bytes.as_slice(), tempfile::tempdir().unwrap().path()).is_err());
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for path in ["../x", "/tmp/x", "a/../../x", "", "./x"] {
            let lines =
                format!("{{\"file\":{{\"path\":\"{path}\",\"mode\":384,\"size\":0}}}}\n{{\"end\":{{\"files\":1}}}}\n");
            let to = tempfile::tempdir().unwrap();
            assert!(read(archive(&lines).as_slice(), to.path()).is_err(), "{path}");
            assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
        }
        // nor a link: an archive has files, and makes each anew
        let x = "{\"file\":{\"path\":\"x\",\"mode\":384,\"size\":0}}\n";
        for more in ["{\"link\":{\"path\":\"l\",\"to\":\"/tmp\"}}\n", x] {
            let lines = format!("{x}{more}{{\"end\":{{\"files\":2}}}}\n");
            assert!(read(archive(&lines).as_slice(), tempfile::tempdir().unwrap().path()).is_err(), "{more}");
        }
        let lines = "{\"file\":{\"path\":\"x\",\"mode\":384,\"size\":0}}\n{\"end\":{\"files\":1}}\n";
        assert!(read(archive(lines).as_slice(), tempfile::tempdir().unwrap().path()).is_ok());
    }
}
