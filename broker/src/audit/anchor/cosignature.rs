//! Cosignatures of witnesses (C2SP tlog-cosignature): an Ed25519 signature over the checkpoint's text and a time.

use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::BASE64;
use ichor_wire::log::note::Note;
use sha2::{Digest, Sha256};

/// The number of cosignatures among the signature types of signed notes.
const COSIGNATURE: u8 = 4;

/// Verifies what a witness signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
}

/// The text is not a witness' key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a witness' key reads `name+01234567+base64`, the last part beginning with `B`; copy it from the witness, whole"
)]
pub struct WitnessKeyError;

// === impl WitnessKey ===

impl WitnessKey {
    /// The key of a witness of this name.
    #[must_use]
    pub fn new(name: &str, public: [u8; 32]) -> Self {
        let hash = Sha256::new().chain_update(name).chain_update([b'\n', COSIGNATURE]).chain_update(public).finalize();
        let [a, b, c, d, ..]: [u8; 32] = hash.into();
        Self { name: name.to_owned(), id: [a, b, c, d], public }
    }

    /// The witness' name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The one line of an answer, with its end, that is this witness' valid signature over the checkpoint's `text`.
    pub(super) fn find<'a>(&self, text: &str, answer: &'a str) -> Option<&'a str> {
        answer.split_inclusive('\n').find(|line| self.signs(text, line).unwrap_or(false))
    }

    fn signs(&self, text: &str, line: &str) -> Option<bool> {
        let (name, signature) = line.strip_prefix("\u{2014} ")?.strip_suffix('\n')?.split_once(' ')?;
        let bytes = BASE64.decode(signature.as_bytes()).ok()?;
        let (id, rest) = bytes.split_first_chunk::<4>()?;
        let (time, signature) = rest.split_first_chunk::<8>()?;
        if name != self.name || *id != self.id {
            return None;
        }
        let signed = format!("cosignature/v1\ntime {}\n{text}", u64::from_be_bytes(*time));
        // it must be readable as part of the note that it goes into
        Note::parse(&format!("{text}\n{line}")).ok()?;
        Some(UnparsedPublicKey::new(&ED25519, self.public).verify(signed.as_bytes(), signature).is_ok())
    }
}

impl FromStr for WitnessKey {
    type Err = WitnessKeyError;

    fn from_str(text: &str) -> Result<Self, WitnessKeyError> {
        let mut parts = text.trim().splitn(3, '+');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(WitnessKeyError);
        let (name, id, key) = (part()?, part()?, part()?);
        let key = BASE64.decode(key.as_bytes()).map_err(|_| WitnessKeyError)?;
        let (&COSIGNATURE, public) = key.split_first().ok_or(WitnessKeyError)? else { return Err(WitnessKeyError) };
        let key = Self::new(name, public.try_into().map_err(|_| WitnessKeyError)?);
        if data_encoding::HEXLOWER.encode(&key.id) != id || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(WitnessKeyError);
        }
        Ok(key)
    }
}

#[cfg(test)]
pub(in crate::audit) mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    /// The line that a witness with this seed signs.
    pub(in crate::audit) fn cosigned(seed: u8, name: &str, text: &str, time: u64) -> (WitnessKey, String) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = WitnessKey::new(name, pair.public_key().as_ref().try_into().unwrap());
        let signature = pair.sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes());
        let bytes = [&key.id[..], &time.to_be_bytes(), signature.as_ref()].concat();
        (key, format!("\u{2014} {name} {}\n", BASE64.encode(&bytes)))
    }

    #[test]
    fn a_witness_line_is_found_among_others_and_holds_for_its_text_alone() {
        let text = "log.example\n7\nCQkJ\n";
        let (key, line) = cosigned(5, "witness.example/w", text, 1_764_000_000);
        let (_, other) = cosigned(6, "witness.example/w", text, 1_764_000_000);
        assert_eq!(key.find(text, &format!("{other}{line}")), Some(line.as_str()));
        assert_eq!(key.find(text, &other), None, "another key's");
        assert_eq!(key.find("log.example\n8\nCQkJ\n", &line), None, "another checkpoint's");
        assert_eq!(key.find(text, line.trim_end()), None);
        for garbage in ["", "\n", "\u{2014} witness.example/w AAAA\n", "\u{2014} witness.example/w\n"] {
            assert_eq!(key.find(text, garbage), None);
        }
    }

    #[test]
    fn a_key_reads_back_and_one_with_a_typing_error_does_not() {
        let (key, _) = cosigned(5, "witness.example", "x\n", 1);
        let public = BASE64.encode(&[&[COSIGNATURE][..], &key.public].concat());
        let id = data_encoding::HEXLOWER.encode(&key.id);
        let text = format!("witness.example+{id}+{public}");
        assert_eq!(text.parse(), Ok(key));
        let of_a_log = BASE64.encode(&[&[1][..], &[9; 32]].concat());
        for bad in ["", "a+b", &text[1..], &text[..text.len() - 2], &format!("witness.example+{id}+{of_a_log}")] {
            assert_eq!(bad.parse::<WitnessKey>(), Err(WitnessKeyError), "{bad}");
        }
    }
}
