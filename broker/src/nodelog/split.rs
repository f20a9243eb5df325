//! Bytes of a connection to lines, in bounded memory.

use super::line::LONGEST;

/// What was cut out of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A line without its newline, at most [`LONGEST`] bytes.
    Line(&'a [u8]),
    /// A line that is longer; its bytes are gone. Told once, at its newline.
    TooLong,
}

/// Holds the beginning of a line until its end comes; never more than [`LONGEST`] bytes.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    begun: Vec<u8>,
    is_too_long: bool,
}

// === impl Splitter ===

impl Splitter {
    /// Takes the next bytes and hands on the lines that end in them.
    pub(super) fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Piece<'_>)) {
        let mut rest = bytes;
        while let Some((part, behind)) = memchr::memchr(b'\n', rest).and_then(|end| rest.split_at_checked(end)) {
            rest = behind.get(1..).unwrap_or_default();
            if self.is_too_long || self.begun.len() + part.len() > LONGEST {
                take(Piece::TooLong);
            } else if self.begun.is_empty() {
                take(Piece::Line(part));
            } else {
                self.begun.extend_from_slice(part);
                take(Piece::Line(&self.begun));
            }
            self.begun.clear();
            self.is_too_long = false;
        }
        if self.is_too_long || self.begun.len() + rest.len() > LONGEST {
            self.is_too_long = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(rest);
        }
    }

    /// Whether the stream ended within a line.
    pub(super) fn is_within(&self) -> bool {
        self.is_too_long || !self.begun.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(chunks: &[&[u8]]) -> (Vec<Option<Vec<u8>>>, bool) {
        let (mut splitter, mut out) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, |piece| {
                out.push(match piece {
                    Piece::Line(line) => Some(line.to_vec()),
                    Piece::TooLong => None,
                });
            });
            assert!(splitter.begun.len() <= LONGEST);
        }
        (out, splitter.is_within())
    }

    #[test]
    fn a_line_that_is_too_long_is_gone_to_its_newline() {
        let long = vec![b'x'; LONGEST];
        let fits = pieces(&[&long, b"\ny\n"]);
        assert_eq!(fits, (vec![Some(long.clone()), Some(b"y".to_vec())], false));
        assert_eq!(pieces(&[&long, b"z", &long, b"\ny\n"]), (vec![None, Some(b"y".to_vec())], false));
        assert_eq!(pieces(&[&[&long[..], b"z\ny"].concat()]), (vec![None], true));
        assert_eq!(pieces(&[&long, b"z"]), (vec![], true));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_lines_are_the_same(text in "[ab\n]{0,60}", cuts in prop::collection::vec(0usize..60, 0..6)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(pieces(&chunks), pieces(&[text.as_bytes()]));
        }
    }
}
