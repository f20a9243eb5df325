//! Where results and messages go: text for people, JSON for programs.
//!
//! Names, groups, reasons and messages are what a broker or a provider said. They are made printable here and nowhere else:
//! every line, cell, note and error passes by.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::OwoColorize;
use serde::Serialize;

use super::printable::{printable, printable_json, printable_lines};
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
    /// As it is.
    Plain,
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

    /// Prints a result of our own making as it is: nothing that a broker said.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn text(&mut self, text: &str) -> std::io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Prints one line of a result; a line end within it is written out as any other control.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn line(&mut self, line: &str) -> std::io::Result<()> {
        self.toned_line(&[(Tone::Plain, line)])
    }

    /// As [`Terminal::line`], in parts that each have their tone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn toned_line(&mut self, parts: &[(Tone, &str)]) -> std::io::Result<()> {
        let line = self.shown(parts);
        self.text(&line)
    }

    /// Prints a result as JSON, on one line each.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(&mut self, value: &impl Serialize) -> std::io::Result<()> {
        let json = printable_json(&serde_json::to_string(value)?);
        self.text(&format!("{json}\n"))
    }

    /// Prints columns: as wide as their widest cell, two blanks apart.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn table(&mut self, rows: &[Vec<String>]) -> std::io::Result<()> {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            let line = line.trim_end();
            self.toned_line(&[(if number == 0 { Tone::Faint } else { Tone::Plain }, line)])?;
        }
        Ok(())
    }

    /// Tells the person something that is not the result. That nobody listens is no error.
    pub fn note(&mut self, line: &str) {
        self.toned_note(&[(Tone::Plain, line)]);
    }

    /// As [`Terminal::note`], in parts that each have their tone.
    pub fn toned_note(&mut self, parts: &[(Tone, &str)]) {
        let line = self.shown(parts);
        self.error_text(&line);
    }

    /// Prints an error and its next steps.
    pub fn error(&mut self, error: &Error, json: bool) {
        let text = if json {
            let value = serde_json::json!({ "error": { "code": error.code(), "message": error.to_string(), "help": error.next_steps() } });
            format!("{}\n", printable_json(&value.to_string()))
        } else {
            let steps = error.next_steps().iter().map(|step| format!("  → {}\n", printable(step))).collect::<String>();
            // What is wrong in a file is shown with its lines; what a broker said has none.
            let says = if error.has_lines() { printable_lines } else { printable };
            format!("{} {}\n{steps}", self.toned("error:", Tone::Bad), says(&error.to_string()))
        };
        self.error_text(&text);
    }

    /// Prints text of our own making as it is where errors go.
    pub fn error_text(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }

    /// The line: made printable before it gets its tones, which are escapes too.
    fn shown(&self, parts: &[(Tone, &str)]) -> String {
        let line: String = parts.iter().map(|(tone, part)| self.toned(&printable(part), *tone)).collect();
        line + "\n"
    }

    fn toned(&self, text: &str, tone: Tone) -> String {
        match tone {
            Tone::Plain => text.to_owned(),
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
        bar.set_message(printable(&what));
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ichor_wire::problem::{Code, Problem};

    use super::*;

    #[derive(Clone, Default)]
    struct Printed(Arc<Mutex<Vec<u8>>>);

    impl Write for Printed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is printed of `hostile`, by every way there is.
    fn printed(colour: bool, hostile: &str) -> String {
        let printed = Printed::default();
        let mut terminal = Terminal::new(Box::new(printed.clone()), Box::new(printed.clone()), false, colour);
        terminal.line(hostile).unwrap();
        terminal.toned_line(&[(Tone::Good, hostile), (Tone::Plain, hostile), (Tone::Strong, hostile)]).unwrap();
        terminal.table(&[vec![hostile.into()], vec![hostile.into(), hostile.into()]]).unwrap();
        terminal.json(&serde_json::json!({ hostile: hostile })).unwrap();
        terminal.note(hostile);
        terminal.toned_note(&[(Tone::Bad, hostile), (Tone::Faint, hostile)]);
        let refusal = || Problem { help: vec![hostile.into()], ..Problem::new(Code::Refused, hostile) };
        for json in [false, true] {
            terminal.error(&Error::Problem(Box::new(refusal())), json);
            terminal.error(&Error::Login(hostile.into()), json);
            terminal.error(&Error::usage("a file", hostile), json);
        }
        String::from_utf8(std::mem::take(&mut *printed.0.lock().unwrap())).unwrap()
    }

    #[test]
    fn nothing_that_a_broker_says_commands_the_terminal() {
        let hostile = "x\u{1b}[31my\u{9b}2J\u{7f}\r\nerror: forged\u{202e}\u{200b}";
        let plain = printed(false, hostile);
        let bad = |letter: char| letter.is_control() || matches!(letter, '\u{202e}' | '\u{200b}');
        assert!(plain.chars().all(|letter| letter == '\n' || !bad(letter)), "{plain:?}");
        assert!(!plain.lines().any(|line| line.starts_with("error: forged")), "{plain}");
        let mut coloured = printed(true, hostile);
        for ours in ["0", "1", "2", "22", "31", "32", "39"] {
            coloured = coloured.replace(&format!("\u{1b}[{ours}m"), "");
        }
        assert_eq!(coloured, plain, "with colours there are our own escapes besides, and no other");
    }
}
