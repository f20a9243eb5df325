//! A home of its own, a fake broker, and the binary between them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ichor_wire::talosconfig::Talosconfig;
use url::Url;

use crate::fake::Fake;

pub struct World {
    pub fake: Fake,
    root: tempfile::TempDir,
    environment: HashMap<String, String>,
}

/// What one command printed, as a person would have seen it.
pub struct Ran {
    typed: String,
    pub out: String,
    pub err: String,
    pub code: i32,
}

impl World {
    pub fn new() -> Self {
        Self::with(Fake::start())
    }

    pub fn with(fake: Fake) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("bin")).unwrap();
        let environment = HashMap::from([
            ("HOME".into(), root.path().display().to_string()),
            ("PATH".into(), format!("{}:/usr/bin:/bin", root.path().join("bin").display())),
            ("ICHOR_KEYRING".into(), "off".into()),
            ("ICHOR_BROKER".into(), fake.url.clone()),
        ]);
        let world = Self { fake, root, environment };
        // So that no test opens a real browser.
        world.script("xdg-open", "exit 0");
        world
    }

    /// A world where someone has logged in.
    pub fn logged_in() -> Self {
        let world = Self::new();
        world.log_in(&[]).ok();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.into(), value.into());
    }

    pub fn unset(&mut self, name: &str) {
        self.environment.remove(name);
    }

    /// A program on PATH, by the text of a shell script.
    pub fn script(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn talosconfig(&self) -> Talosconfig {
        Talosconfig::parse(&self.text(".talos/config")).unwrap()
    }

    pub fn ichor<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ran {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        self.ran(arguments, output)
    }

    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ichor"));
        command.args(arguments).env_clear().envs(&self.environment).current_dir(self.root.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `ichor login`, with a browser that confirms.
    pub fn log_in(&self, more: &[&str]) -> Ran {
        let arguments = [&["login"], more].concat();
        let mut child = self.command(&arguments).spawn().unwrap();
        let (url, said) = address(&mut child);
        self.browse(&url);
        let mut output = child.wait_with_output().unwrap();
        output.stderr = [said.into_bytes(), output.stderr].concat();
        self.ran(&arguments, output)
    }

    /// A browser: follows redirects, and returns the last page.
    pub fn browse(&self, url: &str) -> String {
        browse(url)
    }

    pub fn ran<S: AsRef<OsStr>>(&self, arguments: &[S], output: Output) -> Ran {
        let typed: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).collect();
        let code = output.status.code().unwrap_or(-1);
        let text = |bytes: Vec<u8>| self.plain(&String::from_utf8(bytes).unwrap());
        Ran {
            typed: self.plain(&format!("ichor {}", typed.join(" "))),
            out: text(output.stdout),
            err: text(output.stderr),
            code,
        }
    }

    /// The text with what differs from run to run replaced.
    fn plain(&self, text: &str) -> String {
        let text = text
            .replace(&self.fake.url, "https://broker.example")
            .replace(&self.root.path().display().to_string(), "~");
        text.split_inclusive([' ', '\n', '"', ','])
            .map(|word| {
                let bare = word.trim_end_matches([' ', '\n', '"', ',', ';']);
                let is_time = bare.parse::<jiff::Timestamp>().is_ok() && !bare.starts_with("2027-01-15");
                if is_time { word.replace(bare, "<time>") } else { word.to_owned() }
            })
            .collect()
    }
}

impl Ran {
    /// What was typed and printed.
    pub fn transcript(&self) -> String {
        let mut text = format!("$ {}\n{}", self.typed, self.out);
        if !self.err.is_empty() {
            let _ = write!(text, "-- stderr\n{}", self.err);
        }
        if self.code != 0 {
            let _ = writeln!(text, "-- exit code {}", self.code);
        }
        text
    }

    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.transcript());
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.transcript()))
    }
}

/// Reads stderr until it names an address; returns it and all that was said.
pub fn address(child: &mut Child) -> (String, String) {
    let mut reader = BufReader::new(child.stderr.as_mut().unwrap());
    let mut said = String::new();
    loop {
        let mut line = String::new();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "no address in: {said}");
        if let Some(url) = line.trim().strip_prefix("http") {
            assert!(reader.buffer().is_empty(), "more was said at once");
            return (format!("http{url}"), said);
        }
        said.push_str(&line);
    }
}

/// As [`World::browse`].
pub fn browse(url: &str) -> String {
    let (mut url, mut page) = (url.to_owned(), String::new());
    for _ in 0..5 {
        let (location, body) = get(&url);
        page = body;
        match location {
            Some(location) => url = location,
            None => break,
        }
    }
    page
}

/// `GET`; the redirect's target, and the body.
pub fn get(url: &str) -> (Option<String>, String) {
    let url: Url = url.parse().unwrap();
    let mut stream = TcpStream::connect((url.host_str().unwrap(), url.port().unwrap())).unwrap();
    let target = &url[url::Position::BeforePath..];
    write!(stream, "GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let location = head.lines().find_map(|line| line.strip_prefix("location: ")).map(str::to_owned);
    (location, body.to_owned())
}

pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
