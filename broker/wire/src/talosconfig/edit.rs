//! Edits, each checked before it is believed.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use yaml_edit::{Mapping, MappingBuilder, Sequence, SequenceBuilder, YamlFile};
use zeroize::Zeroizing;

use super::tree::{self, Tree};
use super::{ParseError, Talosconfig, ours};

/// A context as it is first written.
#[derive(Clone)]
pub struct NewContext {
    /// Where talosctl connects.
    pub endpoints: Vec<String>,
    /// The default targets; none leaves the field out.
    pub nodes: Vec<String>,
    /// The CA certificates that nodes present, PEM.
    pub ca: String,
    /// The client certificate, PEM.
    pub crt: String,
    /// Its private key, PEM.
    pub key: Zeroizing<String>,
}

/// What a renewal changes.
#[derive(Clone)]
pub struct Renewal {
    /// New endpoints; `None` leaves what is there.
    pub endpoints: Option<Vec<String>>,
    /// The CA certificates that nodes present, PEM.
    pub ca: String,
    /// The client certificate, PEM.
    pub crt: String,
    /// Its private key, PEM.
    pub key: Zeroizing<String>,
}

/// Why an edit was not made. The file is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// There is no such context to renew or to switch to.
    #[error("there is no context `{0}`")]
    NoSuchContext(String),
    /// The editor and the reader disagree, or something else would have changed.
    #[error("the file cannot be edited safely: {0}; edit it by hand, or name another file with --talosconfig")]
    Unsafe(&'static str),
    /// The result would not be a talosconfig.
    #[error("the edited file would not be readable ({0}); nothing was written")]
    Unreadable(#[from] ParseError),
}

impl Talosconfig {
    /// With the context `name` added, or replaced whole if it is there. The current context stays.
    ///
    /// # Errors
    /// When the file's form does not allow the edit without touching anything else.
    pub fn put_context(&self, name: &str, context: &NewContext) -> Result<Self, EditError> {
        let old_tree = self.tree()?;
        let file = self.editable()?;
        let root = root(&file)?;
        let value = block(context)?;
        let allowed = match root.get_mapping("contexts") {
            Some(contexts) => {
                let allowed = find(&contexts, name).map(|(_, range)| range);
                if contexts.is_flow_style() && allowed.is_none() && !contexts.is_empty() {
                    // A flow mapping takes the new one in its own style.
                    contexts.set(name, &value);
                } else {
                    match find(&contexts, name) {
                        Some((key, _)) => contexts.set(key, &value),
                        None => contexts.set(name, &value),
                    }
                }
                allowed
            }
            None if self.names().next().is_some() => {
                return Err(EditError::Unsafe("`contexts` is not a plain mapping"));
            }
            None => {
                let wrapped = MappingBuilder::new().pair(name, &value).build_document();
                let wrapped = wrapped.as_mapping().ok_or(EditError::Unsafe("no mapping could be built"))?;
                let allowed = find(&root, "contexts").map(|(_, range)| range);
                root.set("contexts", &wrapped);
                allowed
            }
        };
        let mut wanted = old_tree;
        let put = wanted.at_mut("contexts").is_some() || wanted.put("contexts", Tree::Null);
        let put = put && wanted.at_mut("contexts").is_some_and(|contexts| contexts.put(name, context.tree()));
        self.checked(file.to_string(), &wanted, allowed, put)
    }

    /// With the certificate of context `name` renewed: only `ca`, `crt`, `key` and, where given, `endpoints` change.
    ///
    /// # Errors
    /// When there is no such context, or the file's form does not allow the edit without touching anything else.
    pub fn renew_context(&self, name: &str, renewal: &Renewal) -> Result<Self, EditError> {
        let missing = || EditError::NoSuchContext(name.into());
        let mut wanted = self.tree()?;
        let file = self.editable()?;
        let contexts = root(&file)?.get_mapping("contexts").ok_or_else(missing)?;
        let (key, range) = find(&contexts, name).ok_or_else(missing)?;
        let context = contexts
            .get_mapping(key)
            .ok_or(EditError::Unsafe("the context is not written as a mapping of its own (an alias, perhaps)"))?;
        let tree = wanted.at_mut("contexts").and_then(|contexts| contexts.at_mut(name)).ok_or_else(missing)?;
        let mut put = true;
        for (field, pem) in [("ca", &renewal.ca), ("crt", &renewal.crt), ("key", &*renewal.key)] {
            let value = Zeroizing::new(ours::encode(pem));
            context.set(field, value.as_str());
            put &= tree.put(field, Tree::Text(value.to_string()));
        }
        if let Some(endpoints) = &renewal.endpoints {
            context.set("endpoints", &sequence(endpoints)?);
            put &= tree.put("endpoints", texts(endpoints));
        }
        self.checked(file.to_string(), &wanted, Some(range), put)
    }

    /// With `name` as the current context.
    ///
    /// # Errors
    /// When there is no such context, or the file's form does not allow the edit without touching anything else.
    pub fn set_current(&self, name: &str) -> Result<Self, EditError> {
        if !self.contains(name) {
            return Err(EditError::NoSuchContext(name.into()));
        }
        if self.current() == Some(name) {
            return Ok(self.clone());
        }
        let mut wanted = self.tree()?;
        let file = self.editable()?;
        let root = root(&file)?;
        let allowed = find(&root, "context").map(|(_, range)| range);
        root.set("context", name);
        let put = wanted.put("context", Tree::Text(name.into()));
        self.checked(file.to_string(), &wanted, allowed, put)
    }

    fn tree(&self) -> Result<Tree, EditError> {
        Ok(tree::read(self.text())?.unwrap_or(Tree::Map(Vec::new())))
    }

    fn editable(&self) -> Result<YamlFile, EditError> {
        let text = self.text();
        // A file without a mapping has nothing for the editor to hold on to; this gives it one, after the comments.
        let file =
            YamlFile::from_str(text).map_err(|_| EditError::Unsafe("the editor does not understand its YAML"))?;
        if file.to_string() != text {
            return Err(EditError::Unsafe("the editor does not reproduce it"));
        }
        Ok(file)
    }

    /// The new text, believed only if it reads as `wanted` and differs from the old one within `allowed` alone (`None`: by
    /// insertion alone).
    fn checked(
        &self,
        text: String,
        wanted: &Tree,
        allowed: Option<Range<usize>>,
        put: bool,
    ) -> Result<Self, EditError> {
        let text = Zeroizing::new(text);
        let new = Self::parse(&text)?;
        if !put || !wanted.same(&new.tree()?) {
            return Err(EditError::Unsafe("another field would have changed with it"));
        }
        let changed = changed(self.text().as_bytes(), text.as_bytes());
        let inside = match allowed {
            // Nothing changed, so nothing did outside; of the empty range one cannot say where it is.
            _ if *text == *self.text() => true,
            Some(allowed) => changed.start >= allowed.start && changed.end <= allowed.end,
            None => changed.is_empty(),
        };
        if inside { Ok(new) } else { Err(EditError::Unsafe("text outside the context would have changed")) }
    }
}

// === impl NewContext ===

impl NewContext {
    fn tree(&self) -> Tree {
        let mut tree = Tree::Map(Vec::new());
        tree.put("endpoints", texts(&self.endpoints));
        if !self.nodes.is_empty() {
            tree.put("nodes", texts(&self.nodes));
        }
        for (field, pem) in [("ca", &self.ca), ("crt", &self.crt), ("key", &*self.key)] {
            tree.put(field, Tree::Text(ours::encode(pem)));
        }
        tree
    }
}

impl fmt::Debug for NewContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewContext").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

fn root(file: &YamlFile) -> Result<Mapping, EditError> {
    let document = file.ensure_document();
    if let Some(mapping) = document.as_mapping() {
        return Ok(mapping);
    }
    // Nothing but comments: the first key makes it a mapping.
    document.set("contexts", MappingBuilder::new().build_document());
    document.as_mapping().ok_or(EditError::Unsafe("its top level is not a mapping"))
}

/// The key and the byte range of the entry that reads as `name`, however the key is quoted.
fn find(mapping: &Mapping, name: &str) -> Option<(yaml_edit::YamlNode, Range<usize>)> {
    mapping.entries().find_map(|entry| {
        let key = entry.key_node()?;
        let text = key.as_scalar()?.as_string();
        let range = entry.byte_range();
        (text == name).then_some((key, range.start as usize..range.end as usize))
    })
}

fn block(context: &NewContext) -> Result<Mapping, EditError> {
    let mut builder = MappingBuilder::new().pair("endpoints", &sequence(&context.endpoints)?);
    if !context.nodes.is_empty() {
        builder = builder.pair("nodes", &sequence(&context.nodes)?);
    }
    for (field, pem) in [("ca", &context.ca), ("crt", &context.crt), ("key", &*context.key)] {
        builder = builder.pair(field, ours::encode(pem).as_str());
    }
    builder.build_document().as_mapping().ok_or(EditError::Unsafe("no mapping could be built"))
}

fn sequence(items: &[String]) -> Result<Sequence, EditError> {
    let builder = items.iter().fold(SequenceBuilder::new(), |builder, item| builder.item(item.as_str()));
    builder.build_document().as_sequence().ok_or(EditError::Unsafe("no list could be built"))
}

fn texts(items: &[String]) -> Tree {
    Tree::List(items.iter().cloned().map(Tree::Text).collect())
}

/// The bytes of `old` that are not in `new`, as one range: what is left between the longest common start and end.
fn changed(old: &[u8], new: &[u8]) -> Range<usize> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - start;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    start..old.len() - end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context() -> NewContext {
        NewContext {
            endpoints: vec!["10.0.0.2".into(), "10.0.0.3:50001".into(), "[fd00::1]:50000".into()],
            nodes: vec!["10.0.0.5".into()],
            ca: "CA".into(),
            crt: "CRT".into(),
            key: Zeroizing::new("KEY".into()),
        }
    }

    fn renewal(endpoints: Option<&[&str]>) -> Renewal {
        Renewal {
            endpoints: endpoints.map(|list| list.iter().map(ToString::to_string).collect()),
            ca: "CA2".into(),
            crt: "CRT2".into(),
            key: Zeroizing::new("KEY2".into()),
        }
    }

    #[test]
    fn a_new_file_reads_like_one_that_talosctl_wrote() {
        let file = Talosconfig::empty().put_context("prod", &context()).unwrap().set_current("prod").unwrap();
        let expected = "contexts:\n  prod:\n    endpoints:\n      - 10.0.0.2\n      - 10.0.0.3:50001\n      - '[fd00::1]:50000'\n    \
                        nodes:\n      - 10.0.0.5\n    ca: Q0E=\n    crt: Q1JU\n    key: S0VZ\ncontext: prod\n";
        assert_eq!(file.text(), expected);
        assert_eq!(file.context("prod").unwrap().nodes, ["10.0.0.5"]);
    }

    #[test]
    fn a_renewal_changes_three_values_and_nothing_else() {
        let text = "context: b # mine\ncontexts:\n  # the real one\n  prod:\n    endpoints: [10.0.0.2] # two more soon\n    \
                    nodes: [10.0.0.9]\n    ca: x # ca\n    crt: y\n    key: 'z'\n    proxy-url: socks5://h:1\n    v: 1.10\n  b: {}\n# end\n";
        let file = Talosconfig::parse(text).unwrap().renew_context("prod", &renewal(None)).unwrap();
        let expected =
            text.replace("ca: x", "ca: Q0Ey").replace("crt: y", "crt: Q1JUMg==").replace("key: 'z'", "key: 'S0VZMg=='");
        assert_eq!(file.text().replace("key: S0VZMg==", "key: 'S0VZMg=='"), expected);
    }

    #[test]
    fn a_renewal_with_what_is_there_already_changes_nothing() {
        let file =
            Talosconfig::empty().put_context("prod", &context()).unwrap().put_context("staging", &context()).unwrap();
        let renewed = file.renew_context("prod", &renewal(None)).unwrap();
        assert_eq!(renewed.renew_context("prod", &renewal(None)).unwrap().text(), renewed.text());
    }

    #[test]
    fn what_reads_as_a_number_that_is_none_survives() {
        for value in ["54e394", "-9e999", ".inf", ".nan"] {
            let theirs = format!("  old:\n    id: {value}\n    list: [{value}, b]\n    {value}: c\n");
            let text = format!("context: old\ncontexts:\n{theirs}");
            let file = Talosconfig::parse(&text).unwrap().put_context("prod", &context()).unwrap();
            let renewed = file.renew_context("prod", &renewal(None)).unwrap();
            assert!(renewed.text().contains(&theirs), "{}", renewed.text());
        }
    }

    #[test]
    fn endpoints_change_only_when_given() {
        let file = Talosconfig::empty().put_context("prod", &context()).unwrap();
        assert_eq!(
            file.renew_context("prod", &renewal(None)).unwrap().context("prod").unwrap().endpoints,
            context().endpoints
        );
        let renewed = file.renew_context("prod", &renewal(Some(&["10.9.9.9"]))).unwrap();
        assert_eq!(renewed.context("prod").unwrap().endpoints, ["10.9.9.9"]);
        assert_eq!(renewed.context("prod").unwrap().nodes, ["10.0.0.5"]);
    }

    #[test]
    fn a_context_that_others_share_is_not_edited() {
        let text = "contexts:\n  a: &a\n    ca: x\n  b: *a\n";
        let file = Talosconfig::parse(text).unwrap();
        assert!(matches!(file.renew_context("b", &renewal(None)), Err(EditError::Unsafe(_))));
        // `a` is written out, but `b` would change with it.
        assert!(matches!(file.renew_context("a", &renewal(None)), Err(EditError::Unsafe(_))));
        assert_eq!(file.put_context("c", &context()).unwrap().text().find(text), Some(0));
    }

    #[test]
    fn what_is_not_there_is_neither_renewed_nor_current() {
        let file = Talosconfig::parse("contexts: {a: {}}\n").unwrap();
        assert_eq!(file.renew_context("b", &renewal(None)).unwrap_err(), EditError::NoSuchContext("b".into()));
        assert_eq!(file.set_current("b").unwrap_err(), EditError::NoSuchContext("b".into()));
    }

    #[test]
    fn the_comparison_finds_a_change_elsewhere() {
        let file = Talosconfig::parse("contexts:\n  a: {v: 1.10}\n  b: {}\n").unwrap();
        let wanted = file.tree().unwrap();
        let same_model = "contexts:\n  a: {v: 1.1}\n  b: {}\n".to_owned();
        assert!(matches!(
            file.checked(same_model, &wanted, None, true),
            Err(EditError::Unsafe("text outside the context would have changed"))
        ));
        let other_model = "contexts:\n  a: {v: 2}\n  b: {}\n".to_owned();
        assert!(matches!(
            file.checked(other_model, &wanted, Some(0..100), true),
            Err(EditError::Unsafe("another field would have changed with it"))
        ));
        assert!(matches!(file.checked("contexts: [".into(), &wanted, None, true), Err(EditError::Unreadable(_))));
    }

    #[test]
    fn empty_files_of_every_kind_take_a_context() {
        for text in [
            "",
            "\n",
            "# only a comment\n",
            "context: \"\"\ncontexts: {}\n",
            "contexts:\n",
            "context: x\n",
            "---\n",
            "{}\n",
            "contexts: {}\r\n",
        ] {
            let file = Talosconfig::parse(text).unwrap().put_context("prod", &context());
            let file = file.unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert!(file.contains("prod"), "{text:?}");
            assert!(
                text.lines().filter(|line| line.starts_with('#')).all(|line| file.text().contains(line)),
                "{text:?}"
            );
        }
    }

    /// Someone else's context: its lines as they must survive, indented by `indent`, with `\n`.
    fn foreign() -> impl Strategy<Value = String> {
        let field = prop_oneof![
            Just("endpoints: [10.1.0.1, \"10.1.0.2\"]".to_owned()),
            Just("endpoints:\n  - 10.1.0.1   # first\n  - 10.1.0.2".to_owned()),
            Just("ca: |\n  LS0tLS1C\n  RUdJTg==".to_owned()),
            Just("version: 1.10".to_owned()),
            Just("# a comment of its own".to_owned()),
            Just("auth: { siderov1: { identity: alice@example.com } }".to_owned()),
            Just("auth:\n  basic:\n    username: \"a\\tb\"\n    password: 'it''s'".to_owned()),
            Just("base: &anchor\n  deep: [1, {a: b}]\nagain: *anchor".to_owned()),
            Just("unknown: yes".to_owned()),
            Just("mode: 0o755".to_owned()),
            Just("text: >-\n  folded\n  lines".to_owned()),
            "[a-z]{1,6}: [a-z0-9]([a-z0-9./:-]{0,9}[a-z0-9])?".prop_map(|line| format!("x{line}")),
        ];
        proptest::collection::vec(field, 1..4).prop_map(|mut fields| {
            fields.sort();
            fields.dedup_by_key(|field| field.split(':').next().map(str::to_owned));
            if fields.iter().all(|field| field.starts_with('#')) {
                fields.push("zz: 1".into());
            }
            fields.join("\n")
        })
    }

    fn indented(text: &str, by: usize) -> String {
        text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_not_ours_survives(
            before in foreign(), after in foreign(), indent in prop_oneof![Just(2usize), Just(4)], crlf: bool,
            head in prop_oneof![Just(""), Just("# head\n\n"), Just("---\n"), Just("x-team: {pin: 'a'}\n")],
            tail in prop_oneof![Just(""), Just("# tail\n"), Just("\n\n"), Just("later: [1.10]\n")],
            ours_is_flow: bool,
        ) {
            // Anchors are per document, so the second context must not repeat the first one's.
            let after = after.replace("anchor", "other");
            let wrap = |name: &str, body: &str| format!("{:indent$}{name}:\n{}", "", indented(body, 2 * indent));
            let (before, after) = (wrap("old-one", &before), wrap("zeta", &after));
            let ours = if ours_is_flow { format!("{:indent$}prod: {{ca: a, crt: b, key: c, v: 1.10}}\n", "") } else { wrap("prod", "ca: a # c\nv: 1.10\ncrt: b\nkey: c") };
            let mut text = format!("{head}context: zeta # now\ncontexts:\n{before}{ours}{after}{tail}");
            let mut pieces = vec![before, after, tail.to_owned(), head.to_owned(), "context: zeta # now\n".into()];
            if crlf {
                text = text.replace('\n', "\r\n");
                pieces.iter_mut().for_each(|piece| *piece = piece.replace('\n', "\r\n"));
            }
            let file = Talosconfig::parse(&text).unwrap();
            let renewed = file.renew_context("prod", &renewal(Some(&["10.9.9.9"]))).unwrap();
            let added = renewed.put_context("fresh", &context()).unwrap();
            let current = added.set_current("fresh").unwrap();
            for piece in &pieces {
                prop_assert!(added.text().contains(piece.as_str()), "{piece:?} is gone from\n{}", added.text());
            }
            prop_assert!(current.text().contains("# now"));
            prop_assert_eq!(current.current(), Some("fresh"));
            prop_assert_eq!(added.context("zeta"), file.context("zeta"));
            prop_assert!(added.text().contains("v: 1.10"));
            prop_assert!(!crlf || !added.text().replace("\r\n", "").contains('\n'), "a lone line feed");
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a-z:{}\\[\\]&*!|>'\"#\\- \\n\\r\\t]{0,60}") {
            if let Ok(file) = Talosconfig::parse(&text) {
                let _ = file.put_context("prod", &context());
                let _ = file.renew_context("a", &renewal(None));
                let _ = file.set_current("a");
            }
        }
    }
}
