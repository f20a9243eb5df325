//! The kit's file: facts in plain text, and sealed beside them the same facts with the secret.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;
use zeroize::{Zeroize, Zeroizing};

use super::facts::{Facts, FactsError, VERSION};
use super::split::{Gathered, SplitError, combine};
use crate::reason::is_unseen;

/// The largest kit's file, in bytes.
pub const MAX_FILE: usize = 256 * 1024;

/// What stands above everything else in the file, for who opens it in an editor.
const HEAD: &str = "\
# A break-glass kit of Ichor. Nothing in this file is secret by itself: the sealed part opens only with enough shares.
# Change nothing: what is written here is sealed too, and a kit whose two parts differ is not opened.
#
#   ichor kit show FILE     what it says of itself; that nobody changed this only opening it tells
#   ichor kit open FILE     open it, with the shares of as many holders as `threshold` says

";

/// What stood there before: files that are kept have it.
const FORMER_HEAD: &str = "\
# A break-glass kit of Ichor. Nothing in this file is secret by itself: the sealed part opens only with enough shares.
# Change nothing: what is written here is sealed too, and a kit whose two parts differ is not opened.
#
#   ichor kit show FILE     what it is, and whether its text is whole
#   ichor kit open FILE     open it, with the shares of as many holders as `threshold` says

";

/// A kit's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KitFile {
    kit: Facts,
    sealed: Sealed,
    /// SHA-256 of the text as it was read or made.
    #[serde(skip)]
    digest: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    /// How: [`CIPHER`].
    cipher: String,
    /// 12 bytes, lower-case hex.
    nonce: String,
    /// Base64, in lines.
    data: String,
}

const CIPHER: &str = "AES-256-GCM";

/// What a kit keeps: the private key of its CA, in a static kit that of its certificate, PKCS#8. Wiped when dropped.
pub struct Secret {
    key: Zeroizing<Vec<u8>>,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    kit: Facts,
    /// Base64 of the key.
    key: String,
}

/// Why a kit is not read, or not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KitError {
    /// Larger than any kit.
    #[error("the file has more than 256 KiB; it is no kit")]
    TooLarge,
    /// Not a kit's file.
    #[error("this is not a kit's file, or one that was damaged: {0}")]
    Malformed(String),
    /// The facts break a rule.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// Not enough shares.
    #[error("{0} more shares are needed")]
    Missing(usize),
    /// The shares are another kit's.
    #[error("these shares are of another kit")]
    OtherShares,
    /// The shares could not be put together.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The sealed part does not open.
    #[error(
        "the sealed part was changed or damaged, or the list of shares beside it was; take another copy of the file"
    )]
    Sealed,
    /// The plain part is not what was sealed.
    #[error(
        "the plain part was changed: `{0}` differs from what is sealed; trust neither, and take another copy of the file"
    )]
    Differs(String),
    /// A comment stands in the file that no broker wrote.
    #[error(
        "`{0}` was written into the file after it was made, and is not sealed; trust none of it, and take another copy of the file, or take \
         that line out"
    )]
    Comment(String),
    /// It cannot be sealed.
    #[error("the kit cannot be sealed")]
    NotSealed,
}

// === impl KitFile ===

impl KitFile {
    /// Seals the secret under the file key, with its facts. The key must be new: it is used for this and nothing else.
    ///
    /// # Errors
    /// When the facts break a rule.
    pub fn seal(kit: Facts, secret: &Secret, key: &[u8; 32], nonce: [u8; 12]) -> Result<Self, KitError> {
        kit.check()?;
        let mut payload = Payload { kit: kit.clone(), key: BASE64.encode(&secret.key) };
        // room for all, so that growing leaves no copy behind
        let mut data = Zeroizing::new(Vec::with_capacity(MAX_FILE));
        let written = serde_json::to_writer(&mut *data, &payload);
        payload.key.zeroize();
        written.map_err(|_| KitError::NotSealed)?;
        let sealed = cipher(key)?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(&kit), &mut *data);
        sealed.map_err(|_| KitError::NotSealed)?;
        let data = BASE64.encode(&data);
        let mut lines = String::with_capacity(data.len() + data.len() / 64 + 2);
        for (at, letter) in data.chars().enumerate() {
            if at % 64 == 0 {
                lines.push('\n');
            }
            lines.push(letter);
        }
        lines.push('\n');
        let sealed = Sealed { cipher: CIPHER.into(), nonce: HEXLOWER.encode(&nonce), data: lines };
        let mut file = Self { kit, sealed, digest: [0; 32] };
        file.digest = Sha256::digest(file.to_text()?).into();
        Ok(file)
    }

    /// The file's text.
    ///
    /// # Errors
    /// When it would be larger than [`MAX_FILE`].
    pub fn to_text(&self) -> Result<String, KitError> {
        let body = toml::to_string_pretty(self).map_err(|error| KitError::Malformed(error.to_string()))?;
        let text = format!("{HEAD}{body}");
        if text.len() > MAX_FILE { Err(KitError::TooLarge) } else { Ok(text) }
    }

    /// Reads a file. That the plain part is what was sealed only opening can tell.
    ///
    /// # Errors
    /// When it is no kit, of a newer version, breaks a rule of the format, or has a comment that is not a broker's.
    pub fn parse(text: &str) -> Result<Self, KitError> {
        if text.len() > MAX_FILE {
            return Err(KitError::TooLarge);
        }
        // the parser's message shows the line, and nothing here is secret
        let malformed = |error: toml::de::Error| KitError::Malformed(error.message().to_owned());
        let table: toml::Table = text.parse().map_err(malformed)?;
        // told from a damaged one by its version, whatever else a newer one has
        let version = table.get("kit").and_then(|kit| kit.get("version")).and_then(toml::Value::as_integer);
        match version {
            Some(version) if version > i64::from(VERSION) => {
                return Err(FactsError::Version(u8::try_from(version).unwrap_or(u8::MAX)).into());
            }
            Some(_) => {}
            None => return Err(KitError::Malformed("it has no `kit.version`".into())),
        }
        let mut file: Self = toml::from_str(text).map_err(malformed)?;
        file.digest = Sha256::digest(text).into();
        file.kit.check()?;
        check_comments(text)?;
        if file.sealed.cipher != CIPHER {
            return Err(KitError::Malformed("it is sealed by another cipher".into()));
        }
        Ok(file)
    }

    /// What stands in plain text. Only [`Self::open`] tells that it is what was sealed.
    #[must_use]
    pub fn unverified_facts(&self) -> &Facts {
        &self.kit
    }

    /// SHA-256 of the file's text as it was read, lower-case hex: by it a copy is known.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        HEXLOWER.encode(&self.digest)
    }

    /// The facts and the secret, if the shares are enough, the sealed part opens, and it says what the plain part says.
    ///
    /// # Errors
    /// Which of these is not so.
    pub fn open(&self, gathered: &Gathered) -> Result<(Facts, Secret), KitError> {
        if gathered.missing() > 0 {
            return Err(KitError::Missing(gathered.missing()));
        }
        if gathered.number() != self.kit.number {
            return Err(KitError::OtherShares);
        }
        let key = combine(gathered.shares())?;
        let nonce = HEXLOWER.decode(self.sealed.nonce.as_bytes()).map_err(|_| KitError::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| KitError::Sealed)?;
        let lines: Vec<u8> = self.sealed.data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let mut data = Zeroizing::new(BASE64.decode(&lines).map_err(|_| KitError::Sealed)?);
        let opened = cipher(&key)?.open_in_place(nonce, aad(&self.kit), &mut data).map_err(|_| KitError::Sealed)?;
        let payload: Payload = serde_json::from_slice(opened).map_err(|_| KitError::Sealed)?;
        let encoded = Zeroizing::new(payload.key);
        if let Some(differs) = self.kit.difference(&payload.kit) {
            return Err(KitError::Differs(differs));
        }
        let key = BASE64.decode(encoded.as_bytes()).map_err(|_| KitError::Sealed)?;
        Ok((payload.kit, Secret::new(&Zeroizing::new(key))))
    }
}

// === impl Secret ===

impl Secret {
    /// The key of a kit's CA, in a static kit that of its certificate, PKCS#8.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self { key: Zeroizing::new(key.to_vec()) }
    }

    /// The key, PKCS#8.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// Values are sealed; comments are not, and a person in a hurry reads them as instructions.
fn check_comments(text: &str) -> Result<(), KitError> {
    let tokens = Source::new(text).lex().filter(|token| token.kind() == TokenKind::Comment);
    let found: Vec<&str> =
        tokens.filter_map(|token| text.get(token.span().start()..token.span().end())).map(str::trim_end).collect();
    let ours = |head: &'static str| head.lines().filter(|line| line.starts_with('#'));
    if found.is_empty() || [HEAD, FORMER_HEAD].into_iter().any(|head| ours(head).eq(found.iter().copied())) {
        return Ok(());
    }
    let strange = found.iter().find(|line| !ours(HEAD).chain(ours(FORMER_HEAD)).any(|known| known == **line));
    let strange: String =
        strange.or(found.first()).unwrap_or(&"").chars().filter(|c| !is_unseen(*c)).take(80).collect();
    Err(KitError::Comment(strange))
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, KitError> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| KitError::NotSealed)?))
}

/// The facts are compared once the seal is open, so that the difference can be named; here only what they are of.
fn aad(kit: &Facts) -> Aad<Vec<u8>> {
    Aad::from([b"ichor break-glass kit 1\0".as_slice(), kit.id.as_bytes()].concat())
}
