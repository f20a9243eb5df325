//! How the story is told: short, and the same in a pipe but for the colours.

use std::io::Write;

use owo_colors::OwoColorize as _;

/// Output lines of a command beyond these are left out.
const MOST_LINES: usize = 8;

/// Writes the transcript. A reader that went away ends nothing.
pub(crate) struct Transcript {
    out: Box<dyn Write + Send>,
}

// === impl Transcript ===

impl Transcript {
    /// A transcript that is written to `out`.
    pub(crate) fn new(out: impl Write + Send + 'static) -> Self {
        Self { out: Box::new(out) }
    }

    /// A new part of the story.
    pub(crate) fn part(&mut self, title: &str) {
        self.line(&format!("\n{}", title.bold()));
    }

    /// What someone types.
    pub(crate) fn types(&mut self, who: &str, command: &str) {
        self.line(&format!("  {} {}", format!("{who} $").cyan(), command));
    }

    /// What a command prints.
    pub(crate) fn prints(&mut self, text: &str) {
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in lines.iter().take(MOST_LINES) {
            self.line(&format!("      {}", line.trim().dimmed()));
        }
        if lines.len() > MOST_LINES {
            self.line(&format!("      {}", format!("… {} more lines", lines.len() - MOST_LINES).dimmed()));
        }
    }

    /// Something went as it should.
    pub(crate) fn good(&mut self, text: &str) {
        self.line(&format!("    {} {text}", "✓".green()));
    }

    /// Something was refused, as it should be.
    pub(crate) fn refused(&mut self, text: &str) {
        self.line(&format!("    {} {text}", "✗".yellow()));
    }

    /// A plain line.
    pub(crate) fn says(&mut self, text: &str) {
        self.line(&format!("  {text}"));
    }

    /// Something that should not have happened.
    pub(crate) fn failed(&mut self, text: &str) {
        self.line(&format!("\n{} {text}", "the demo failed:".red().bold()));
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}
