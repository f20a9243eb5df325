//! `ichor kit`: one file per command. None of them needs a broker, a configuration file, or any network but the nodes', except to bring a
//! record back.

mod open;
mod prove;
mod report;
mod show;
mod wanted;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use ichor_wire::kit::{BadShare, Facts, Gathered, Share};
use zeroize::Zeroizing;

use super::Here;
use crate::error::Error;
use crate::kit::{Identities, harden_process, read_share};

/// Use a break-glass kit, when provider, network, vault and broker are gone
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::Args),
    Open(open::Args),
    Prove(prove::Args),
    Report(report::Args),
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let holds_shares = matches!(args.command, Command::Open(_) | Command::Prove(_));
    if holds_shares && !harden_process() {
        here.around.terminal.note("core dumps could not be turned off: a crash may write shares and keys to the disk");
    }
    match args.command {
        Command::Show(args) => show::run(here, args),
        Command::Open(args) => open::run(here, args),
        Command::Prove(args) => prove::run(here, args),
        Command::Report(args) => report::run(here, args),
    }
}

/// Where shares come from.
#[derive(Clone, Debug, clap::Args)]
struct ShareArgs {
    /// A file with a share: sealed by age, or its text; `-` is standard input. Several, in any order
    #[arg(long = "share", value_name = "FILE")]
    shares: Vec<PathBuf>,
    /// A holder's key that opens a sealed share: an age identity file or an OpenSSH private key. Several
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
}

/// The shares of the files, then of whoever sits at the terminal, until there are enough. One that does not count is told of and
/// changes nothing.
fn gather(here: &mut Here, facts: &Facts, args: &ShareArgs) -> Result<Gathered, Error> {
    let identities = Identities::read(&args.identities)?;
    let mut gathered = Gathered::new(facts);
    let mut faults = Vec::new();
    for path in &args.shares {
        let taken = read_share(path, &identities).and_then(|share| take(&mut gathered, facts, share, Some(path)));
        faults.extend(taken.err());
    }
    // each is told once: the last ends the command where nothing more can come
    let last = if gathered.missing() > 0 && here.around.ask.is_none() { faults.pop() } else { None };
    faults.iter().for_each(|fault| tell(here, fault));
    while gathered.missing() > 0 {
        let missing = gathered.missing();
        if here.around.ask.is_none() {
            return Err(last.unwrap_or_else(|| {
                let message = format!("{missing} more shares are needed of the {} that open this kit", facts.threshold);
                Error::failed(message, "name their files with `--share`, or run this at a terminal and type them")
            }));
        }
        here.around
            .terminal
            .note(&format!("{missing} more needed. A share's file, or the text of its sheet, row by row:"));
        let taken = typed(here, &identities).and_then(|share| take(&mut gathered, facts, share, None));
        match taken {
            Ok(()) => {}
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::failed(
                    "the kit stays shut: no more shares came",
                    "run it again with the holders present",
                ));
            }
            Err(error) => tell(here, &error),
        }
    }
    Ok(gathered)
}

/// Takes a share, of a file where there is one.
fn take(gathered: &mut Gathered, facts: &Facts, share: Share, from: Option<&Path>) -> Result<(), Error> {
    gathered.take(facts, share).map(drop).map_err(|fault| {
        let fault = from.map_or_else(|| fault.to_string(), |path| format!("`{}`: {fault}", path.display()));
        Error::failed(fault, "the other shares still count; bring the right one")
    })
}

/// Tells of what went wrong and is not the end, with what to do.
fn tell(here: &mut Here, error: &Error) {
    here.around.terminal.note(&error.to_string());
    for step in error.next_steps() {
        here.around.terminal.note(&format!("  → {step}"));
    }
}

/// A share that is typed: a file's name, or the rows of a sheet.
fn typed(here: &Here, identities: &Identities) -> Result<Share, Error> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    loop {
        let line = Zeroizing::new(asked(here)?);
        let line = line.trim();
        if text.is_empty() && line.is_empty() {
            continue;
        }
        if text.is_empty() && !line.to_ascii_uppercase().starts_with("ICHOR") {
            if !is_row(line) {
                return read_share(Path::new(line), identities);
            }
            // the heading says nothing that the first row does not need
            text.push_str("ICHOR-KIT1\n");
        }
        text.push_str(line);
        text.push('\n');
        match Share::parse(&text) {
            Ok(share) => return Ok(share),
            // the next row is still to come
            Err(BadShare::Length(length)) if length < 90 && !line.is_empty() => {}
            Err(error) => return Err(Error::failed(error.to_string(), "type the sheet again from its first row")),
        }
    }
}

/// Whether this is a row of a sheet rather than a file's name: groups of five, perhaps behind the row's number.
fn is_row(line: &str) -> bool {
    let is_group = |word: &str| word.len() == 5 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_number = |word: &str| word.len() <= 2 && word.bytes().all(|byte| byte.is_ascii_digit());
    let mut words = line.split(|c: char| c.is_whitespace() || c == '-').filter(|word| !word.is_empty()).peekable();
    words.next_if(|word| is_number(word));
    words.clone().count() > 1 && words.all(is_group)
}

/// A line that the person types.
fn asked(here: &Here) -> Result<String, Error> {
    let eof = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let line = here.around.ask.as_ref().map_or_else(|| Err(eof()), |ask| ask());
    line.map_err(Error::file("read", Path::new("(the terminal)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_no_name_of_a_file() {
        for row in ["0400C 2QTN5 FAX0G", "1  0400C  2QTN5  FAX0G", " 16 0400c 2qtn5 fax0g", "0400C-2QTN5-FAX0G"] {
            assert!(is_row(row), "{row}");
        }
        for name in ["share.age", "0400C", "1", "kit-1-share-4-dan.txt", "a b", "/media/usb/share 1.age"] {
            assert!(!is_row(name), "{name}");
        }
    }
}
