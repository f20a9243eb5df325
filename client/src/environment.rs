//! The process environment, read once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the client takes from the environment. Read once in `main`; everything else gets it handed in, so a test never
/// touches the process it runs in.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `ICHOR_BROKER`: the broker's URL.
    pub broker: Option<String>,
    /// `ICHOR_KEYRING=off`: sessions in a file instead of the OS keyring.
    pub keyring_off: bool,
    /// `TALOSCONFIG`: the talosconfig file.
    pub talosconfig: Option<PathBuf>,
    /// `TALOS_HOME`: the folder of talosctl's `config`.
    pub talos_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub state_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `SSL_CERT_FILE`: the system's CA certificates, where they are not in a usual place.
    pub ssl_cert_file: Option<PathBuf>,
    /// `BROWSER`: the commands that open a page, the first that works.
    pub browser: Option<String>,
    /// `PATH`: where commands are looked for.
    pub search_path: Option<OsString>,
    /// Whether `NO_COLOR` is set to anything but nothing.
    pub no_color: bool,
    /// The working folder.
    pub working_dir: PathBuf,
}

// === impl Environment ===

impl Environment {
    /// Reads the process environment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn read() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let absolute = |name: &str| path(name).filter(|path| path.is_absolute());
        Self {
            broker: std::env::var("ICHOR_BROKER").ok().filter(|value| !value.is_empty()),
            keyring_off: std::env::var("ICHOR_KEYRING").is_ok_and(|value| value == "off"),
            talosconfig: path("TALOSCONFIG"),
            talos_home: path("TALOS_HOME"),
            home: absolute("HOME"),
            config_home: absolute("XDG_CONFIG_HOME"),
            state_home: absolute("XDG_STATE_HOME"),
            runtime_dir: absolute("XDG_RUNTIME_DIR"),
            ssl_cert_file: path("SSL_CERT_FILE"),
            browser: std::env::var("BROWSER").ok().filter(|value| !value.trim().is_empty()),
            search_path: std::env::var_os("PATH"),
            no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            working_dir: std::env::current_dir().unwrap_or_default(),
        }
    }

    /// A world of its own below `root`, for tests and the demo: home, state, configuration and run folder are in it, and
    /// the keyring is left alone.
    #[must_use]
    pub fn isolated(root: &Path) -> Self {
        Self {
            keyring_off: true,
            home: Some(root.into()),
            config_home: Some(root.join("config")),
            state_home: Some(root.join("state")),
            runtime_dir: Some(root.join("run")),
            working_dir: root.into(),
            ..Self::default()
        }
    }

    /// Where the client keeps what it must remember (0700): `$XDG_STATE_HOME/ichor`, else `~/.local/state/ichor`.
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        let base = self.state_home.clone().or_else(|| Some(self.home.as_ref()?.join(".local/state")))?;
        Some(base.join("ichor"))
    }

    /// Where a user's settings are: `$XDG_CONFIG_HOME/ichor`, else `~/.config/ichor`.
    #[must_use]
    pub fn config_dir(&self) -> Option<PathBuf> {
        let base = self.config_home.clone().or_else(|| Some(self.home.as_ref()?.join(".config")))?;
        Some(base.join("ichor"))
    }

    /// Where files live that end with the command (0700): `$XDG_RUNTIME_DIR/ichor`, else a folder of the state.
    #[must_use]
    pub fn run_dir(&self) -> Option<PathBuf> {
        match &self.runtime_dir {
            Some(dir) => Some(dir.join("ichor")),
            None => Some(self.state_dir()?.join("run")),
        }
    }
}
