//! PEM as it is met: any label, any line length, text around the blocks. What was decoded is wiped when dropped.

use std::fmt;

use data_encoding::BASE64;
use zeroize::Zeroizing;

/// One block.
pub struct Block {
    /// The label, as `CERTIFICATE`.
    pub label: String,
    /// The body. It may be a private key.
    pub der: Zeroizing<Vec<u8>>,
}

/// Why a text is not PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// A BEGIN line without its END line.
    #[error("a PEM block has no end line that matches its beginning")]
    Unterminated,
    /// The body is not base64.
    #[error("a PEM block is not valid base64")]
    Base64,
    /// The body is encrypted with a passphrase (RFC 1421 headers).
    #[error("a PEM block is encrypted; decrypt it first")]
    Encrypted,
}

/// Every block of the text, in order; none is an empty list.
///
/// # Errors
/// When a block begins and is not whole.
pub fn blocks(text: &str) -> Result<Vec<Block>, PemError> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, after) = after.split_once("-----").ok_or(PemError::Unterminated)?;
        let (body, after) =
            after.split_once(format!("-----END {label}-----").as_str()).ok_or(PemError::Unterminated)?;
        if body.contains("-----BEGIN ") {
            return Err(PemError::Unterminated);
        }
        if body.contains("Proc-Type:") || label == "ENCRYPTED PRIVATE KEY" {
            return Err(PemError::Encrypted);
        }
        let mut compact = Zeroizing::new(Vec::with_capacity(body.len()));
        compact.extend(body.bytes().filter(|b| !b.is_ascii_whitespace()));
        let der = BASE64.decode(&compact).map_err(|_| PemError::Base64)?;
        blocks.push(Block { label: label.to_owned(), der: Zeroizing::new(der) });
        rest = after;
    }
    Ok(blocks)
}

/// The block as text, in lines of 64 characters, ending with a newline (RFC 7468 §2).
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(BASE64.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

// === impl Block ===

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("label", &self.label).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_is_around_in_the_wild() {
        let text = format!(
            "subject=O=talos\r\n{}junk\n{}",
            encode("CERTIFICATE", &[7; 100]).replace('\n', "\r\n"),
            *encode("ED25519 PRIVATE KEY", &[9; 48])
        );
        let blocks = blocks(&text).unwrap();
        assert_eq!(blocks[0].label, "CERTIFICATE");
        assert_eq!(*blocks[0].der, vec![7; 100]);
        assert_eq!(blocks[1].label, "ED25519 PRIVATE KEY");
        assert_eq!(*blocks[1].der, vec![9; 48]);
        assert!(!format!("{blocks:?}").contains('9'.to_string().repeat(2).as_str()));
    }

    #[test]
    fn refuses_what_is_not_whole() {
        let of = |text: &str| blocks(text).map(|b| b.len());
        assert_eq!(of("no blocks"), Ok(0));
        assert_eq!(of("-----BEGIN A-----\nAAAA\n"), Err(PemError::Unterminated));
        assert_eq!(of("-----BEGIN A-----\nAAAA\n-----END B-----"), Err(PemError::Unterminated));
        assert_eq!(of("-----BEGIN A-----\n!\n-----END A-----"), Err(PemError::Base64));
        assert_eq!(of("-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END A-----"), Err(PemError::Encrypted));
    }

    proptest! {
        #[test]
        fn round_trips(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = encode("CERTIFICATE", &der);
            let blocks = blocks(&text).unwrap();
            prop_assert_eq!(blocks.len(), 1);
            prop_assert_eq!(&*blocks[0].der, &der);
            prop_assert!(text.lines().all(|line| line.len() <= 64));
        }

        #[test]
        fn never_panics(text in "(-----BEGIN |-----END |-----|A|\n|[A-Za-z+/=]{0,5}|é){0,20}") {
            let _ = blocks(&text);
        }
    }
}
