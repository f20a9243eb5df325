//! The house rules that a machine can check: who may use whom, and who may name what permits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// The broker's rooms in reading order: a room may use only rooms of a lower rank, and itself.
const RANKS: &[(&str, u8)] = &[
    ("clock", 1),
    ("entropy", 1),
    ("telemetry", 1),
    ("domain", 1),
    ("openbao", 2),
    ("custody", 2),
    ("store", 2),
    ("identity", 3),
    ("policy", 4),
    ("audit", 5),
    ("login", 6),
    ("issuer", 6),
    ("mint", 7),
    ("readiness", 7),
    ("break_glass", 7),
    ("lock", 7),
    ("notify", 7),
    ("gateway", 8),
    ("nodelog", 8),
    ("workload", 8),
    ("http", 9),
    ("config", 10),
    ("app", 10),
    ("cli", 10),
];

/// Who may name what permits something. Paths are relative to `broker/src`; a folder stands for all below it.
const NAMES: &[(&str, &[&str])] = &[
    ("Grant", &["policy", "audit/recorded.rs", "issuer", "mint.rs"]),
    ("Recorded", &["audit", "issuer", "mint.rs"]),
    ("ToBeSigned", &["custody", "issuer/local_ca.rs"]),
    ("Signer", &["custody", "issuer/local_ca.rs", "app.rs", "app"]),
];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../broker/src")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The module path of a file below `broker/src`, as `["store", "sqlite"]`.
fn module(relative: &Path) -> Vec<String> {
    let mut parts: Vec<String> = relative.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    let last = parts.pop().unwrap().trim_end_matches(".rs").to_owned();
    if last != "mod" && last != "lib" && last != "main" {
        parts.push(last);
    }
    parts
}

#[derive(Default)]
struct Seen {
    module: Vec<String>,
    /// Rooms named through `crate::` or `super::`.
    rooms: BTreeSet<String>,
    /// Every name used outside of tests, by import or path.
    names: BTreeSet<String>,
}

impl Seen {
    /// The room that a path beginning with `crate` or `super` leads into.
    fn path(&mut self, segments: &[String]) {
        let mut at = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super") => self.module.clone(),
            _ => return,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => {
                    at.pop();
                }
                name => at.push(name.to_owned()),
            }
        }
        if let Some(room) = at.first() {
            self.rooms.insert(room.clone());
        }
    }

    fn tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [prefix, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => {
                self.names.insert(name.ident.to_string());
                self.path(&with(&name.ident));
            }
            syn::UseTree::Rename(rename) => {
                self.names.insert(rename.ident.to_string());
                self.path(&with(&rename.ident));
            }
            syn::UseTree::Glob(_) => self.path(prefix),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(prefix, item)),
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test")
    })
}

impl<'ast> Visit<'ast> for Seen {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) {
            return;
        }
        // an inline module is one step deeper for `super`
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            syn::visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.path(&segments);
        // a variant such as `Kind::Grant` says that something happened; it is not the thing
        if !segments.iter().any(|segment| segment == "Kind" || segment == "Appended") {
            self.names.extend(segments);
        }
        syn::visit::visit_path(self, path);
    }
}

fn look(text: &str, module: Vec<String>) -> Seen {
    let mut seen = Seen { module, ..Seen::default() };
    seen.visit_file(&syn::parse_file(text).unwrap());
    seen
}

fn rank(room: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == room).map(|(_, rank)| *rank)
}

/// Every edge that goes up, as `from → to`.
fn wrong_edges(from: &str, seen: &Seen) -> Vec<String> {
    let own = rank(from);
    seen.rooms
        .iter()
        .filter(|to| to.as_str() != from)
        .filter(|to| match (own, rank(to)) {
            // wiring rooms of the last rank may use one another
            (Some(10), Some(_)) => false,
            (Some(own), Some(to)) => to >= own,
            _ => false,
        })
        .map(|to| format!("{from} → {to}"))
        .collect()
}

fn each_file(mut check: impl FnMut(&Path, &str, Vec<String>)) {
    let mut found = Vec::new();
    files(&sources(), &mut found);
    assert!(found.len() > 30, "the sources were not found");
    for path in found {
        let relative = path.strip_prefix(sources()).unwrap().to_path_buf();
        let text = std::fs::read_to_string(&path).unwrap();
        check(&relative, &text, module(&relative));
    }
}

#[test]
fn a_room_uses_only_rooms_above_it() {
    let mut wrong = Vec::new();
    each_file(|relative, text, module| {
        let Some(room) = module.first().cloned() else { return };
        assert!(rank(&room).is_some() || room == "main", "room `{room}` is not in the reading order");
        let seen = look(text, module);
        wrong.extend(wrong_edges(&room, &seen).into_iter().map(|edge| format!("{}: {edge}", relative.display())));
    });
    assert!(wrong.is_empty(), "edges against the reading order:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_listed_rooms_name_what_permits() {
    let mut wrong = Vec::new();
    each_file(|relative, text, module| {
        let seen = look(text, module);
        for (name, allowed) in NAMES {
            let at = relative.to_string_lossy();
            let is_allowed = relative.ends_with("tests.rs")
                || allowed.iter().any(|place| at == *place || at.starts_with(&format!("{place}/")));
            if seen.names.contains(*name) && !is_allowed {
                wrong.push(format!("{at} names `{name}`"));
            }
        }
    });
    assert!(wrong.is_empty(), "names where they do not belong:\n{}", wrong.join("\n"));
}

#[test]
fn the_edge_check_sees_what_it_must() {
    let seen = look(
        "use crate::http::x; use super::super::mint::Y; fn f() { crate::cli::run(); }",
        vec!["store".into(), "sqlite".into()],
    );
    assert_eq!(wrong_edges("store", &seen), ["store → cli", "store → http", "store → mint"]);
    let fine = look("use crate::domain::Role; #[cfg(test)] mod tests { use crate::http::x; }", vec!["store".into()]);
    assert!(wrong_edges("store", &fine).is_empty());
}
