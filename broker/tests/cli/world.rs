//! A folder to work in, and the binary run there.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use ichor_standins::authority::Authority;

/// A working folder with nothing else around: no environment, no terminal.
pub(super) struct World(tempfile::TempDir);

impl World {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a broker's folder `broker`, served over plain HTTP, and a talosconfig `operator` of the cluster `prod`.
    pub(super) fn with_folder(provider: &str) -> Self {
        let world = Self::new();
        world.run(&[
            "init",
            "broker",
            "--insecure-identity-beside",
            "--public-url",
            "http://127.0.0.1:8443",
            "--listen",
            "127.0.0.1:8443",
        ]);
        let config = world.read("broker/config.toml");
        let provider = format!("\n[[provider]]\nalias = \"corp\"\nissuer = \"{provider}\"\nclient_id = \"ichor\"\n");
        world.write("broker/config.toml", &(config + &provider));
        let ca = data_encoding::BASE64.encode(Authority::new("talos").unwrap().certificate().as_bytes());
        let context = format!("endpoints: [10.0.0.2]\n    nodes: [10.0.0.5]\n    ca: {ca}\n    crt: bm9uZQ==\n");
        world.write("operator", &format!("context: home\ncontexts:\n  home:\n    {context}"));
        world
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs one command to its end; what was typed and printed, as a person would have seen it, with what differs from run
    /// to run replaced.
    pub(super) fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let quoted =
            arguments.iter().map(|word| if word.contains(' ') { format!("\"{word}\"") } else { (*word).into() });
        let mut text = format!("$ ichor-broker {}\n", quoted.collect::<Vec<_>>().join(" "));
        text.push_str(&String::from_utf8(output.stdout).unwrap());
        if !output.stderr.is_empty() {
            let _ = write!(text, "-- stderr\n{}", String::from_utf8(output.stderr).unwrap());
        }
        if !output.status.success() {
            let _ = writeln!(text, "-- exit code {}", output.status.code().unwrap());
        }
        self.plain(&text)
    }

    /// What a command that must end well prints, as it is.
    pub(super) fn raw(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{}", self.run(arguments));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ichor-broker"));
        command.args(arguments).env_clear().current_dir(self.0.path()).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn plain(&self, text: &str) -> String {
        let text = without_pem(&text.replace(&self.0.path().display().to_string(), "~"));
        // told to root alone, and who runs the tests must not matter; it has a test of its own
        let text: String = text.split_inclusive('\n').filter(|line| !line.starts_with("made as root:")).collect();
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-:.+/=".contains(letter);
        let mut plain = String::new();
        for piece in text.split_inclusive(|letter| !is_word(letter)) {
            let word = piece.trim_end_matches(|letter| !is_word(letter));
            let bare = word.trim_end_matches(['.', ':']);
            plain.push_str(&match stands_for(bare) {
                Some(mark) => piece.replace(bare, mark),
                None => piece.to_owned(),
            });
        }
        plain
    }
}

/// The text with what stands between PEM's lines left out.
fn without_pem(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        inside &= !line.starts_with("-----END ");
        if !inside {
            kept.push_str(line);
        }
        if line.starts_with("-----BEGIN ") {
            inside = true;
            kept.push_str("<base64>\n");
        }
    }
    kept
}

/// What a word that differs from run to run is.
fn stands_for(word: &str) -> Option<&'static str> {
    if word.parse::<jiff::Timestamp>().is_ok() {
        return Some("<time>");
    }
    if word.len() == 62 && word.starts_with("age1") {
        return Some("<recipient>");
    }
    match word.len() {
        64 if word.chars().all(|letter| letter.is_ascii_hexdigit()) => Some("<sha256>"),
        200.. => Some("<base64>"),
        _ => None,
    }
}
