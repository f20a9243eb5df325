//! What may reach a terminal of the words of others: a broker's, a provider's, a project file's.

use std::fmt::Write as _;

use ichor_wire::reason::is_unseen;
pub(super) use ichor_wire::reason::printable;

/// As [`printable`], for text that has lines.
pub(super) fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// The same JSON, with what [`printable`] writes out as JSON's own escapes, so that the values stay what they are.
pub(super) fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for letter in json.chars() {
        if is_unseen(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(letter);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        let hostile = "a\u{1b}[2J\r\n\t\u{7f}\u{9b}1m\u{202e}b\u{200b}\u{2066}\u{feff}\u{ad}\u{2800}\u{e0041}c";
        assert_eq!(
            printable(hostile),
            "a\\u{1b}[2J\\u{d}\\u{a}\\u{9}\\u{7f}\\u{9b}1m\\u{202e}b\\u{200b}\\u{2066}\\u{feff}\\u{ad}\\u{2800}\\u{e0041}c"
        );
        let well = "Zoë Ångström – 田中さん ✓ → ü ‚‘ naïve Ω";
        assert_eq!(printable(well), well);
        assert_eq!(printable_lines("a\r\nb\n"), "a\\u{d}\nb\n");
    }

    #[test]
    fn json_keeps_its_values() {
        let value = serde_json::json!({ "a\u{9b}": "\u{1b}\u{7f}\u{85}\u{202e}\u{e0041}é\n" });
        let json = printable_json(&value.to_string());
        assert!(json.chars().all(|letter| !is_unseen(letter)), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }
}
