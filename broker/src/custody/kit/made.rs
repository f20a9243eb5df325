//! A kit that was made: what may be told of it, and what is handed out once it is recorded.

use ichor_wire::api::Receipt;
use ichor_wire::kit::{Facts, Gathered, KitFile, Secret, Share};
use ichor_wire::log::{Content, Kind};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::MakeKitError;

/// A kit that was made, read back from its own text and opened with its own shares; nothing of it has left this room.
///
/// What the log is to say of it anyone can ask: its facts, of a static kit with the certificate. The file, with the key that is sealed in
/// it, and the shares are for whoever has evidence that the log has the entry of this very file,
/// ```
/// use ichor_broker::custody::{KitEntry, MadeKit, MakeKitError, RecordedKit};
///
/// fn files(made: MadeKit, entry: KitEntry) -> Result<RecordedKit, MakeKitError> {
///     made.recorded(entry)
/// }
/// ```
/// for nobody without it: not for a receipt, which may be of any entry,
/// ```compile_fail,E0308
/// use ichor_broker::custody::{MadeKit, MakeKitError, RecordedKit};
/// use ichor_wire::api::Receipt;
///
/// fn files(made: MadeKit, receipt: Receipt) -> Result<RecordedKit, MakeKitError> {
///     made.recorded(receipt)
/// }
/// ```
/// nor by another way.
/// ```compile_fail,E0616
/// use ichor_broker::custody::MadeKit;
///
/// fn files(made: MadeKit) -> impl Sized {
///     (made.text, made.shares)
/// }
/// ```
#[derive(Debug)]
pub struct MadeKit {
    file: KitFile,
    text: String,
    shares: Vec<MadeShare>,
}

/// Evidence that the log has the entry of a kit that was made: of the one whose file has the digest that the entry has. Only what records
/// such entries makes one, of the content that it recorded and the receipt that it got; nobody copies one,
/// ```compile_fail,E0277
/// fn twice<T: Clone>(value: &T) -> (T, T) {
///     (value.clone(), value.clone())
/// }
/// fn entries(entry: &ichor_broker::custody::KitEntry) -> impl Sized {
///     twice(entry)
/// }
/// ```
/// writes one out,
/// ```compile_fail,E0451
/// use ichor_broker::custody::KitEntry;
///
/// fn entry(file: Vec<u8>) -> KitEntry {
///     KitEntry { file }
/// }
/// ```
/// or has one made.
/// ```compile_fail,E0624
/// use ichor_broker::custody::KitEntry;
/// use ichor_wire::{api::Receipt, log::Content};
///
/// fn entry(content: &Content, receipt: &Receipt) -> Option<KitEntry> {
///     KitEntry::noted(content, receipt)
/// }
/// ```
#[derive(Debug)]
pub struct KitEntry {
    file: Vec<u8>,
}

/// A kit whose making is recorded: what is written, and given to its holders. Made by [`MadeKit::recorded`] alone.
#[derive(Debug)]
#[non_exhaustive]
pub struct RecordedKit {
    /// What stands in plain text.
    pub facts: Facts,
    /// The text of its file.
    pub text: String,
    /// Its shares, in the order of their holders.
    pub shares: Vec<MadeShare>,
}

/// A share of a kit that was made.
pub struct MadeShare {
    /// Its index, from 1.
    pub index: u8,
    /// Who holds it.
    pub holder: String,
    /// The recipient that it is sealed to, as age writes it.
    pub recipient: Option<String>,
    /// An age file, or, for paper, the share's text: the secret itself.
    pub body: Zeroizing<Vec<u8>>,
}

impl MadeKit {
    /// The kit of this file and these shares, whose texts are `plain`, if the text is read as the file, and each share is one of as
    /// many as are needed that open it to the secret.
    pub(super) fn proven(
        file: KitFile,
        text: String,
        shares: Vec<MadeShare>,
        plain: &[Zeroizing<String>],
        secret: &Secret,
    ) -> Result<Self, MakeKitError> {
        let read = KitFile::parse(&text)?;
        if read != file {
            return Err(MakeKitError::ReadBack);
        }
        let facts = read.unverified_facts();
        if plain.len() != facts.shares.len() || plain.len() != shares.len() {
            return Err(MakeKitError::ReadBack);
        }
        for texts in plain.windows(usize::from(facts.threshold).max(1)) {
            let mut gathered = Gathered::new(facts);
            for text in texts {
                let share = Share::parse(text).map_err(|_| MakeKitError::ReadBack)?;
                gathered.take(facts, share).map_err(|_| MakeKitError::ReadBack)?;
            }
            if read.open(&gathered)?.1.key() != secret.key() {
                return Err(MakeKitError::ReadBack);
            }
        }
        Ok(Self { file, text, shares })
    }

    /// What stands in plain text.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        self.file.unverified_facts()
    }

    /// SHA-256 of the file's text.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.text).into()
    }

    /// The recipient of each share, in the order of their holders; `None`: on paper.
    pub fn recipients(&self) -> impl Iterator<Item = Option<&str>> {
        self.shares.iter().map(|share| share.recipient.as_deref())
    }

    /// What is to be written, now that the log has the entry of it.
    ///
    /// # Errors
    /// When the entry is another kit's, or says another file.
    pub fn recorded(self, entry: KitEntry) -> Result<RecordedKit, MakeKitError> {
        let KitEntry { file } = entry;
        if file != self.digest() {
            return Err(MakeKitError::OtherEntry);
        }
        let facts = self.file.unverified_facts().clone();
        Ok(RecordedKit { facts, text: self.text, shares: self.shares })
    }
}

impl KitEntry {
    /// What this content, whose receipt it is, says; nothing where it tells of no kit that was made. Only what got the receipt for the
    /// content calls this; the source test lists where.
    pub(crate) fn noted(content: &Content, _: &Receipt) -> Option<Self> {
        let kit = content.kit.as_ref().filter(|_| content.kind == Kind::KitMade)?;
        Some(Self { file: kit.file.clone()? })
    }
}

impl std::fmt::Debug for MadeShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeShare").field("index", &self.index).field("holder", &self.holder).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ichor_wire::kit::{KitError, commitment, split};

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    /// The committed kit's facts with shares of `key`, sealed under `KEY`; the shares, and the secret.
    fn kit(key: &[u8; 32]) -> (KitFile, Vec<Zeroizing<String>>, Secret) {
        let committed = include_str!("../../../../tests/vectors/kit/v1/kit.toml");
        let mut facts = KitFile::parse(committed).unwrap().unverified_facts().clone();
        let limit = u8::try_from(facts.shares.len()).unwrap();
        let random = Zeroizing::new(crate::entropy::bytes().unwrap());
        let values = split(key, facts.threshold, limit, &random).unwrap();
        let mut plain = Vec::new();
        for ((value, said), index) in values.into_iter().zip(&mut facts.shares).zip(1..) {
            let share = Share::new(facts.number, facts.id, index, value);
            let salt = [index; 16];
            said.salt = data_encoding::HEXLOWER.encode(&salt);
            (said.commitment, said.proof_key) = commitment(&share, facts.id, &salt).unwrap();
            plain.push(share.to_text());
        }
        let secret = Secret::new(b"a key");
        (KitFile::seal(facts, &secret, &KEY, [1; 12]).unwrap(), plain, secret)
    }

    fn shares(plain: &[Zeroizing<String>]) -> Vec<MadeShare> {
        let body = |text: &Zeroizing<String>| Zeroizing::new(text.as_bytes().to_vec());
        let share = |(text, index)| MadeShare { index, holder: "ada".into(), recipient: None, body: body(text) };
        plain.iter().zip(1..).map(share).collect()
    }

    #[test]
    fn what_is_not_read_back_and_opened_is_no_kit() {
        let proven = |(file, plain, secret): &(KitFile, Vec<Zeroizing<String>>, Secret), text: String| {
            MadeKit::proven(file.clone(), text, shares(plain), plain, secret).map(drop)
        };
        let good = kit(&KEY);
        let text = good.0.to_text().unwrap();
        assert_eq!(proven(&good, text.clone()), Ok(()));

        let edited = text.replacen("192.0.2.1", "192.0.2.9", 1);
        assert_ne!(edited, text);
        assert_eq!(proven(&good, edited), Err(MakeKitError::ReadBack));
        let cut = text.get(..text.len() / 2).unwrap().to_owned();
        assert!(matches!(proven(&good, cut), Err(MakeKitError::Kit(KitError::Malformed(_)))));

        let other_key = kit(&[8; 32]);
        let text = other_key.0.to_text().unwrap();
        assert_eq!(proven(&other_key, text), Err(MakeKitError::Kit(KitError::Sealed)), "its shares do not open it");
        let (file, plain, _) = kit(&KEY);
        let text = file.to_text().unwrap();
        assert_eq!(proven(&(file, plain, Secret::new(b"other")), text), Err(MakeKitError::ReadBack));
        // one that is wrong among enough that are right
        let (file, mut plain, secret) = kit(&KEY);
        *plain.last_mut().unwrap() = kit(&KEY).1.pop().unwrap();
        let text = file.to_text().unwrap();
        assert_eq!(proven(&(file, plain, secret), text), Err(MakeKitError::ReadBack));
    }
}
