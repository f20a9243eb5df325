//! A text with a NUL, which no PostgreSQL text is ("Character Types" in its manual: the character with code zero cannot be stored): nothing
//! is found by one and nothing with one is kept, and the server, which would end the statement, is not asked.

/// Whether one of the texts has a NUL.
pub(in crate::store::postgres) fn has_nul(texts: impl IntoIterator<Item: AsRef<str>>) -> bool {
    texts.into_iter().any(|text| text.as_ref().contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_is_seen() {
        assert!(has_nul(["a", "b\0c"]) && has_nul(Some("\0".to_owned())));
        assert!(!has_nul(["a", ""]) && !has_nul(None::<String>));
    }
}
