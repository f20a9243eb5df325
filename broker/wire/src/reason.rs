//! What passes for a reason, and how words of others are shown.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// The longest reason, in characters.
const LONGEST: usize = 500;

/// So many characters without a width of their own (accents, vowel signs) stand on one letter: more than any script needs. A higher pile is
/// painted over the lines around it.
const MARKS: usize = 4;

/// Why a text is no reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadReason {
    /// It is too long.
    #[error("a reason has at most 500 characters")]
    Long,
    /// It has a control character, a line break, or one that is not seen or changes how others are seen.
    #[error("a reason is one line without invisible characters and direction marks")]
    Unseen,
    /// More marks stand on one letter than any script has.
    #[error("a reason has at most four accents or signs on one letter")]
    Piled,
    /// It says nothing.
    #[error("a reason needs at least one letter or digit")]
    Empty,
}

/// Checks that a reason can be read by whoever reads the audit: one line of visible characters in the order in which they
/// stand, and at least one letter or digit.
///
/// # Errors
/// When it cannot.
pub fn check_reason(text: &str) -> Result<(), BadReason> {
    if text.chars().count() > LONGEST {
        return Err(BadReason::Long);
    }
    if text.chars().any(is_unseen) {
        return Err(BadReason::Unseen);
    }
    if is_piled(text) {
        return Err(BadReason::Piled);
    }
    if !text.chars().any(char::is_alphanumeric) {
        return Err(BadReason::Empty);
    }
    Ok(())
}

fn is_piled(text: &str) -> bool {
    let mut pile = 0;
    text.chars().any(|letter| {
        pile = if letter.width() == Some(0) { pile + 1 } else { 0 };
        pile > MARKS
    })
}

/// The text on one line, without what is not seen or changes how the rest is seen, of at most `most` characters: for places where
/// what was not checked is shown.
#[must_use]
pub fn visible(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().map(|c| if is_unseen(c) { ' ' } else { c }).take(most).collect();
    if text.chars().count() > most {
        shown.push('…');
    }
    shown.trim().to_owned()
}

/// The text with every control (C0, DEL, C1) and hidden character written out, as `\u{202e}`: nothing of it moves the cursor,
/// begins a line, or is invisible.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_unseen(letter) {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(letter));
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Whether nothing is seen of the character, or it changes how what is around it is seen: controls; Unicode's general category `Cf` (format, among them the bidirectional and zero-width ones); what has the property
/// `Default_Ignorable_Code_Point` (fillers, variation selectors, tags); line and paragraph separators; the blank Braille cell.
/// From UnicodeData.txt and DerivedCoreProperties.txt, Unicode 16.0.
#[must_use]
pub fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something() {
        for text in ["INC-42", "x", "Übung №7", "障害対応", "рестарт: CHG-7 (see wiki)", "7"] {
            assert_eq!(check_reason(text), Ok(()), "{text}");
        }
        for text in ["", " ", "-", "…", "?!", "\u{a0}", "\u{3000}"] {
            assert_eq!(check_reason(text), Err(BadReason::Empty), "{text:?}");
        }
        assert_eq!(check_reason(&"x".repeat(500)), Ok(()));
        for text in ["e\u{301}\u{323}x", "नि॰ स्त्री", "ที่นี่", "\u{1112}\u{1161}\u{11ab}"]
        {
            assert_eq!(check_reason(text), Ok(()), "{text}");
        }
        assert_eq!(check_reason(&format!("INC a{}", "\u{30d}".repeat(4))), Ok(()));
        assert_eq!(check_reason(&format!("INC a{}", "\u{30d}".repeat(5))), Err(BadReason::Piled));
        assert_eq!(check_reason(&"x".repeat(501)), Err(BadReason::Long));
    }

    #[test]
    fn what_is_not_seen_is_no_part_of_a_reason() {
        for unseen in [
            '\u{200b}',
            '\u{ad}',
            '\u{2800}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{200f}',
            '\u{61c}',
            '\u{feff}',
            '\u{3164}',
            '\u{ffa0}',
            '\u{115f}',
            '\u{e0041}',
            '\u{fe0f}',
            '\u{2028}',
            '\u{180e}',
            '\u{206a}',
            '\u{34f}',
            '\n',
            '\t',
            '\u{1b}',
            '\u{9b}',
            '\0',
            '\u{7f}',
        ] {
            for text in [unseen.to_string(), format!("INC-42{unseen}"), format!("{unseen}7")] {
                assert_eq!(check_reason(&text), Err(BadReason::Unseen), "{text:?}");
            }
        }
    }
}
