//! Where results and messages go: text for people, JSON for programs.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::OwoColorize;
use serde::Serialize;

use crate::error::Error;

/// Results go to `out`, everything else to `err`.
pub struct Terminal {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    colour: bool,
    interactive: bool,
}

/// How a word is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Of less weight.
    Faint,
    /// Of more weight.
    Strong,
}

/// A spinner, gone when this is dropped.
pub struct Waiting(Option<ProgressBar>);

// === impl Terminal ===

impl Terminal {
    /// Writes to `out` and `err`. `interactive`: a person sits there, so a spinner helps; `colour`: and wants colours.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, interactive: bool, colour: bool) -> Self {
        Self { out, err, colour, interactive }
    }

    /// Whether colours are wanted.
    #[must_use]
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// Whether a person sits there.
    #[must_use]
    pub fn interactive(&self) -> bool {
        self.interactive
    }

    /// Prints a result as it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn text(&mut self, text: &str) -> std::io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Prints one line of a result.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn line(&mut self, line: &str) -> std::io::Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// Prints a result as JSON, on one line each.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(&mut self, value: &impl Serialize) -> std::io::Result<()> {
        let json = serde_json::to_string(value)?;
        self.line(&json)
    }

    /// Prints columns: as wide as their widest cell, two blanks apart. Cells may hold what strangers typed, so control
    /// characters are left out: nothing of it may move the cursor.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn table(&mut self, rows: &[Vec<String>]) -> std::io::Result<()> {
        let printable = |cell: &String| cell.chars().filter(|c| !c.is_control()).collect::<String>();
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(printable).collect()).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            let line = line.trim_end();
            let line = if number == 0 { self.toned(line, Tone::Faint) } else { line.to_owned() };
            self.line(&line)?;
        }
        Ok(())
    }

    /// Tells the person something that is not the result. That nobody listens is no error.
    pub fn note(&mut self, line: &str) {
        self.error_text(&format!("{line}\n"));
    }

    /// Prints an error and its next steps.
    pub fn error(&mut self, error: &Error, json: bool) {
        let text = if json {
            let value = serde_json::json!({ "error": { "code": error.code(), "message": error.to_string(), "help": error.next_steps() } });
            format!("{value}\n")
        } else {
            // The words may be the broker's: control characters other than line ends are left out.
            let plain = |text: &str| text.chars().filter(|c| *c == '\n' || !c.is_control()).collect::<String>();
            let steps = error.next_steps().iter().map(|step| format!("  → {}\n", plain(step))).collect::<String>();
            format!("{} {}\n{steps}", self.toned("error:", Tone::Bad), plain(&error.to_string()))
        };
        self.error_text(&text);
    }

    /// Prints text as it is where errors go.
    pub fn error_text(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }

    /// The text in its tone, where colours are wanted.
    #[must_use]
    pub fn toned(&self, text: &str, tone: Tone) -> String {
        match tone {
            _ if !self.colour => text.to_owned(),
            Tone::Good => text.green().to_string(),
            Tone::Bad => text.red().bold().to_string(),
            Tone::Faint => text.dimmed().to_string(),
            Tone::Strong => text.bold().to_string(),
        }
    }

    /// A spinner while something takes time, where a person sits.
    #[must_use]
    pub fn waiting(&self, what: String) -> Waiting {
        if !self.interactive {
            return Waiting(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Waiting(Some(bar))
    }
}

// === impl Waiting ===

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}
