//! YAML read strictly, and as a tree of values to compare.

use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::ParseError;

/// Any YAML value. Aliases are followed, mappings keep their order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Integer(i128),
    Float(u64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

/// Reads one document; duplicate keys and a second document are errors. Nothing but comments is `None`.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<Option<T>, ParseError> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        // What stands in another's field may read so, as `54e394` does; it is text to whoever wrote it.
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        // A snippet would print the lines around the error, and those hold keys.
        with_snippet: false,
    };
    // First without shape: a typed reader does not look into fields that it skips.
    serde_saphyr::from_str_with_options::<Option<Tree>>(text, options.clone()).map_err(|error| refusal(&error))?;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| refusal(&error))
}

/// `key:` without a value is the same as no key.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

// === impl Tree ===

impl Tree {
    /// The value under `key`, where this is a mapping that has it.
    pub(super) fn at_mut(&mut self, key: &str) -> Option<&mut Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter_mut().find(|(name, _)| name.reads(key)).map(|(_, value)| value)
    }

    /// Sets `key`; a null becomes a mapping. False where this is neither.
    pub(super) fn put(&mut self, key: &str, value: Self) -> bool {
        if *self == Self::Null {
            *self = Self::Map(Vec::new());
        }
        if let Some(old) = self.at_mut(key) {
            *old = value;
            return true;
        }
        let Self::Map(entries) = self else { return false };
        entries.push((Self::Text(key.into()), value));
        true
    }

    /// Whether two trees say the same: the order within mappings does not count.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Map(a), Self::Map(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(key, value)| b.iter().any(|(k, v)| key.same_key(k) && value.same(v)))
            }
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.same(y)),
            (a, b) => a == b,
        }
    }

    fn same_key(&self, other: &Self) -> bool {
        self == other || self.as_key().is_some_and(|key| other.reads(&key))
    }

    fn reads(&self, key: &str) -> bool {
        self.as_key().as_deref() == Some(key)
    }

    /// A key as talosctl reads it: text. A float is left out, as its spelling is lost; it can only be found by itself.
    fn as_key(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Bool(value) => Some(value.to_string()),
            Self::Integer(value) => Some(value.to_string()),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Tree, E> {
        Ok(Tree::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value.to_bits()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Text(data_encoding::BASE64.encode(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Tree::Map(map))
    }
}

fn refusal(error: &serde_saphyr::Error) -> ParseError {
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    ParseError { line, column, message: without_long_words(&error.without_snippet().render()) }
}

/// The parser's message without its place, which is told apart from it, its advice to programmers, and values that could
/// be keys: no word longer than 24 characters survives, nor a second line.
fn without_long_words(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let end =
        [" at line ", ", set ", "; use "].iter().filter_map(|noise| first.find(noise)).min().unwrap_or(first.len());
    let words = first.get(..end).unwrap_or_default().split(' ');
    words.map(|word| if word.chars().count() > 24 { "…" } else { word }).collect::<Vec<_>>().join(" ")
}
