//! The numbers of logs that were opened again: `NAME`, then `NAME#2`, `NAME#3`.

/// Between a log's name and its number.
const NUMBER: char = '#';

/// A log's name without its number, and the number: 1 where it was never opened again.
#[must_use]
pub fn numbered(origin: &str) -> (&str, u32) {
    let parts = origin.rsplit_once(NUMBER);
    // written as `with_number` writes it, else it is a part of the name
    let read = |(name, text): (_, &str)| {
        Some((name, text.parse::<u32>().ok().filter(|it| *it > 1 && it.to_string() == text)?))
    };
    parts.and_then(read).unwrap_or((origin, 1))
}

/// The log of this name under a number.
#[must_use]
pub fn with_number(name: &str, number: u32) -> String {
    match number {
        0 | 1 => name.to_owned(),
        _ => format!("{name}{NUMBER}{number}"),
    }
}

/// Whether `after` is what the log `before` is called once it was opened again, once or more often.
#[must_use]
pub fn is_opened_again(before: &str, after: &str) -> bool {
    let ((before, first), (after, second)) = (numbered(before), numbered(after));
    before == after && first < second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_only_as_it_is_written() {
        assert_eq!(numbered("ichor.example.com"), ("ichor.example.com", 1));
        assert_eq!(numbered("ichor.example.com#12"), ("ichor.example.com", 12));
        for name in ["a#1", "a#0", "a#02", "a#+2", "a#x", "a#", "a#4294967296"] {
            assert_eq!(numbered(name), (name, 1));
        }
        for (name, number) in [("a", 1), ("a", 2), ("a#b", 4_294_967_295)] {
            assert_eq!(numbered(&with_number(name, number)), (name, number));
        }
        assert!(is_opened_again("a", "a#2") && is_opened_again("a#2", "a#10"));
        for (before, after) in [("a", "a"), ("a#2", "a"), ("a#3", "a#2"), ("a", "b#2")] {
            assert!(!is_opened_again(before, after), "{before}, {after}");
        }
    }
}
