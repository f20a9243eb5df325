//! `ichor audit export`: entries as lines for other programs.

use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ichor_wire::api::AuditEntry;

use super::log::FilterArgs;
use crate::cli::{Here, block_on};
use crate::error::{EXIT_OK, Error};

/// Write entries as lines, oldest first, for other programs
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// As what: a JSON object a line, or comma-separated values
    #[arg(long, value_enum, default_value_t = Format::Jsonl, value_name = "FORMAT")]
    format: Format,
    /// Into this new file (mode 0600) instead of printing them
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Csv,
}

/// The columns of CSV; what an entry says besides is one JSON object in the last.
const COLUMNS: [&str; 11] =
    ["index", "time", "kind", "user", "issuer", "subject", "cluster", "grant", "session", "leaf_hash", "detail"];

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let query = args.filter.query(here.around.clock.now())?;
    let session = here.session()?;
    let mut file = match &args.to {
        Some(path) => Some(BufWriter::new(beside(path)?)),
        None => None,
    };
    let mut count: u64 = 0;
    let terminal = &mut here.around.terminal;
    let mut write = |line: &str| match &mut file {
        Some(file) => file.write_all(format!("{line}\n").as_bytes()),
        None => terminal.line(line),
    };
    let mut gone = false;
    let mut put = |line: &str| {
        write(line).map_err(|error| {
            gone = error.kind() == std::io::ErrorKind::BrokenPipe;
            Error::failed(format!("an entry cannot be written: {error}"), "check where the output goes")
        })
    };
    if args.format == Format::Csv {
        put(&COLUMNS.join(","))?;
    }
    let each = |entry: AuditEntry| {
        count += 1;
        match args.format {
            Format::Jsonl => put(&super::super::printable::printable_json(
                &serde_json::to_string(&entry).map_err(|_| Error::Bug("an entry is not JSON"))?,
            )),
            Format::Csv => put(&csv(&entry)),
        }
    };
    let done = block_on(session.broker().lines(&session, &["audit", "lines"], &query, each));
    if gone {
        return Ok(EXIT_OK);
    }
    done?;
    if let (Some(mut file), Some(path)) = (file, &args.to) {
        file.flush().and_then(|()| file.get_ref().as_file().sync_all()).map_err(Error::file("write", path))?;
        let whole = file.into_inner().map_err(|error| Error::file("write", path)(error.into_error()))?;
        // never through a link that lies there, and never over what someone keeps
        whole.persist_noclobber(path).map_err(|failed| taken_or(path, failed.error))?;
        here.around.terminal.note(&format!("{count} entries are in {}", path.display()));
    }
    Ok(EXIT_OK)
}

/// A file beside this one, 0600, which is gone where the export fails: what is there under the name itself is whole.
fn beside(path: &Path) -> Result<tempfile::NamedTempFile, Error> {
    if path.symlink_metadata().is_ok() {
        return Err(taken_or(path, ErrorKind::AlreadyExists.into()));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".ichor-export-").tempfile_in(folder).map_err(Error::file("write", path))
}

fn taken_or(path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::AlreadyExists => Error::failed(
            format!("`{}` exists, and is not written over", path.display()),
            "name another file, or remove it",
        ),
        _ => Error::file("write", path)(error),
    }
}

/// The entry as a row (RFC 4180), its line end left out.
fn csv(entry: &AuditEntry) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let detail = serde_json::to_string(&entry.detail).unwrap_or_default();
    let cells = [
        entry.index.to_string(),
        entry.time.to_string(),
        entry.kind.clone(),
        text(&entry.user),
        text(&entry.issuer),
        text(&entry.subject),
        text(&entry.cluster),
        text(&entry.grant_id.map(|id| id.to_string())),
        text(&entry.session_id.map(|id| id.to_string())),
        entry.leaf_hash.clone(),
        json_cell(&super::super::printable::printable_json(&detail)),
    ];
    cells.iter().map(|cell| self::cell(cell)).collect::<Vec<_>>().join(",")
}

/// What a spreadsheet may take for the end of a cell, whatever quotes it: many are set to semicolons or tabs, and then a comma ends none.
const SEPARATORS: [char; 5] = [';', '\t', '\n', '\r', '|'];

/// A cell. A spreadsheet takes one that begins with `=`, `+`, `-`, `@` or a blank that it skips for a formula: names and
/// reasons are other people's words, so such a one gets an apostrophe, which makes it text; so does what stands like that behind a
/// [separator](SEPARATORS) within it.
fn cell(text: &str) -> String {
    let is_skipped = |letter: char| letter.is_whitespace() || letter == '"';
    let is_formula = |rest: &str| {
        let first = rest.trim_start_matches(is_skipped).chars().next();
        first.is_some_and(|first| matches!(first, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠'))
    };
    let mut shown = String::with_capacity(text.len());
    if text.starts_with(['\t', '\r', '\n']) && !is_formula(text) {
        shown.push('\'');
    }
    let mut rest = text;
    loop {
        if is_formula(rest) {
            shown.push('\'');
        }
        let Some((before, behind)) = rest.split_inclusive(SEPARATORS).next().map(|part| rest.split_at(part.len()))
        else {
            break;
        };
        shown.push_str(before);
        rest = behind;
    }
    let text = shown;
    if text.contains(['"', ',', ';', '|', '\n', '\r', '\'', '\t']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// JSON as a cell, with the separators in its texts as JSON's own escapes: its values stay what they are.
fn json_cell(json: &str) -> String {
    json.replace(';', "\\u003b").replace('|', "\\u007c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_cell_is_a_formula() {
        for (text, shown) in [
            ("alice", "alice"),
            ("=1+1", "\"'=1+1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("-2", "\"'-2\""),
            ("+49", "\"'+49\""),
            ("  =x", "\"'  =x\""),
            ("\t=x", "\"'\t'=x\""),
            ("\tx", "\"'\tx\""),
            ("a;=1+1", "\"a;'=1+1\""),
            ("a; =1+1;b;@x", "\"a;' =1+1;b;'@x\""),
            ("a\t-2", "\"a\t'-2\""),
            ("a\r\n+2", "\"a\r'\n'+2\""),
            ("a|=x", "\"a|'=x\""),
            (";=x", "\";'=x\""),
            ("a;\"=x", "\"a;'\"\"=x\""),
            ("a;＝x", "\"a;'＝x\""),
            ("a;b", "\"a;b\""),
            ("＝x", "\"'＝x\""),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("a=b", "a=b"),
            ("", ""),
        ] {
            assert_eq!(cell(text), shown, "{text:?}");
        }
    }

    #[test]
    fn nor_is_what_stands_behind_a_separator_in_the_details() {
        let detail = serde_json::json!({ "reason": "a;=cmd|' /C calc'!A0;+1" });
        let json = json_cell(&detail.to_string());
        assert!(!json.contains([';', '|']), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), detail);
    }
}
