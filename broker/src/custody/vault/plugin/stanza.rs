//! The lines that age and a plugin exchange: `-> command arguments`, then base64 in lines of 64, the last one shorter.

use std::io::BufRead;

use age_core::format::Stanza;
use data_encoding::BASE64_NOPAD;
use zeroize::Zeroizing;

/// The length of a full line of base64 (C2SP `age`, "header").
const COLUMNS: usize = 64;

/// What a plugin is told: wiped when dropped, since it may hold a file's key.
pub(super) type Text = Zeroizing<String>;

/// A command as it is written.
pub(super) fn command(name: &str, arguments: &[&str], body: &[u8]) -> Text {
    let encoded = Zeroizing::new(BASE64_NOPAD.encode(body));
    let mut text = Zeroizing::new(String::with_capacity(encoded.len() * 2 + 512));
    text.push_str("-> ");
    text.push_str(name);
    for argument in arguments {
        text.push(' ');
        text.push_str(argument);
    }
    text.push('\n');
    let mut rest = encoded.as_str();
    while let Some((line, more)) = rest.split_at_checked(COLUMNS) {
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(rest);
    text.push('\n');
    text
}

/// The next command, its name as the tag; `None` at the end of what is said.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(super) fn read(from: &mut impl BufRead) -> Result<Option<Stanza>, String> {
    let mut line = Zeroizing::new(String::new());
    let mut next = |line: &mut String| -> Result<bool, String> {
        line.clear();
        from.read_line(line).map_err(|error| format!("cannot be read: {error}"))?;
        Ok(line.pop().is_some_and(|last| last == '\n'))
    };
    if !next(&mut line)? {
        return if line.is_empty() { Ok(None) } else { Err(CUT.to_owned()) };
    }
    let words = line.strip_prefix("-> ").ok_or("does not speak the language of age plugins")?;
    let mut words = words.split(' ').map(String::from);
    let tag = words.next().filter(|tag| !tag.is_empty()).ok_or("sent a command without a name")?;
    let args = words.collect();
    let mut encoded = Zeroizing::new(String::new());
    loop {
        if !next(&mut line)? {
            return Err(CUT.to_owned());
        }
        if line.len() > COLUMNS {
            return Err("sent a line that is too long".to_owned());
        }
        encoded.push_str(&line);
        if line.len() < COLUMNS {
            break;
        }
    }
    let body = BASE64_NOPAD.decode(encoded.as_bytes()).map_err(|_| "sent what is not base64")?;
    Ok(Some(Stanza { tag, args, body }))
}

const CUT: &str = "stopped in the middle of a command, or said too much";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_a_command_is_refused() {
        assert_eq!(read(&mut &b""[..]), Ok(None));
        for bad in ["hello\n\n", "-> \n\n", "-> x", "-> x\n", "-> x\nAA", "-> x\n!!\n", "->x\n\n"] {
            assert!(read(&mut bad.as_bytes()).is_err(), "{bad:?}");
        }
        let long = format!("-> x\n{}\n\n", "A".repeat(68));
        assert!(read(&mut long.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn a_command_is_read_as_it_was_written(body in proptest::collection::vec(any::<u8>(), 0..200), one in "[!-~]{1,9}") {
            let text = command("add", &[&one, "2"], &body);
            let stanza = Stanza { tag: "add".into(), args: vec![one, "2".into()], body };
            prop_assert_eq!(read(&mut text.as_bytes()), Ok(Some(stanza)));
        }

        #[test]
        fn nothing_that_is_said_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&mut bytes.as_slice());
        }
    }
}
