//! The house rules that a machine can check: who may use whom, and who may name what permits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::Visit;

/// The broker's rooms in reading order: a room may use only rooms before it, and itself.
const ROOMS: &[&str] = &[
    "clock",
    "entropy",
    "regular",
    "durable",
    "disk",
    "outgoing",
    "telemetry",
    "domain",
    "openbao",
    "custody",
    "store",
    "identity",
    "policy",
    "audit",
    "login",
    "issuer",
    "readiness",
    "mint",
    "forward",
    "lock",
    "break_glass",
    "kit",
    "notify",
    "nodelog",
    "http",
    "config",
    "app",
    "cli",
];

/// The rooms that wire the others together; they may use one another.
const WIRING: &[&str] = &["config", "app", "cli"];

/// Who may name what permits something. Paths are relative to `broker/src`; a folder stands for all below it.
const NAMES: &[(&str, &[&str])] = &[
    ("Quorum", &["policy", "mint.rs", "break_glass", "http/api/certificates.rs"]),
    ("Permission", &["policy/answer.rs", "policy/grant.rs"]),
    // below policy there is none to name: a lock can be on one, by its id
    ("Grant", &["policy", "audit/recorded.rs", "issuer", "mint.rs", "domain/lock.rs"]),
    ("Recorded", &["audit", "issuer", "mint.rs"]),
    ("Recordable", &["audit", "issuer/issued.rs"]),
    // at OpenBao it says that a server is
    ("Sealed", &["audit", "issuer/issued.rs", "openbao/error.rs"]),
    ("ToBeSigned", &["custody", "audit/recorded.rs"]),
    ("ToBeCertified", &["custody", "audit/recorded.rs"]),
    ("Signer", &["custody", "issuer/local_ca.rs", "app.rs", "app"]),
    ("AuditKey", &["custody", "audit/notary.rs", "app/log.rs"]),
    // the broker's own grants are few, and each is made at one place
    ("Errand", &["policy"]),
    ("delegation", &["policy", "mint.rs", "app/delegating.rs"]),
    // makes certificates of the broker's own, which no policy decides
    ("Press", &["mint.rs", "app.rs", "app", "cli/desk.rs"]),
    // makes a kit, and signs what a static one holds
    ("make_kit", &["custody", "cli/kit/create.rs"]),
    // for which its files leave custody; made of an entry and its receipt
    ("KitEntry", &["custody", "cli/desk.rs"]),
    // what is concrete behind a trait: made at one place
    ("SqliteStore", &["store", "app.rs", "app", "cli"]),
    ("PostgresStore", &["store", "app"]),
    ("LocalCa", &["issuer", "app"]),
    ("PkiCa", &["issuer", "app"]),
    // what signs whatever it is given
    ("TransitEngine", &["openbao", "custody"]),
    (
        "DataKey",
        &[
            "custody",
            "identity",
            "login",
            "break_glass",
            "audit/dropping.rs",
            // the mark on an asking to unlock everything
            "lock",
            // the mark on a place in the log, and who hands its key on
            "forward",
            "notify/courier.rs",
            "http/api/mod.rs",
            "app.rs",
            "app",
        ],
    ),
    ("vouch", &["identity", "login/token.rs", "login/recheck"]),
    // the tree's edge is read back too
    // and whoever asked for everything to be unlocked is only asked about, at policy
    // two commands are files of that name
    ("restore", &["identity", "lock/asked.rs", "login/tagged.rs", "store", "cli/mod.rs", "cli/custody/mod.rs"]),
];

/// Who may call a method of such a name, whosever it is.
const CALLS: &[(&str, &[&str])] = &[
    // a certificate of os:admin, which no policy decides
    ("delegation", &["app/delegating.rs"]),
    // bytes that a CA's key signs, and what an engine certifies
    ("to_be_signed", &["custody", "issuer/local_ca.rs"]),
    ("to_be_certified", &["issuer/pki.rs"]),
];

/// Enums with variants that are called as what they tell of, and permit nothing.
const VARIANTS_OF: &[&str] = &["Kind", "Appended", "LockTarget", "LockKind", "LockOn", "LockWhat"];

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
    /// Every method called outside of tests.
    calls: BTreeSet<String>,
    /// Imports of everything that a module of ours has: they hide names from this test, so there are none.
    globs: Vec<String>,
    /// Modules in files of their own that only tests have.
    tests: Vec<Vec<String>>,
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

    /// A path that is used.
    fn used(&mut self, segments: Vec<String>) {
        self.path(&segments);
        // a variant such as `Kind::Grant` says that something happened; it is not the thing
        if !segments.iter().any(|segment| VARIANTS_OF.contains(&segment.as_str())) {
            self.names.extend(segments);
        }
    }

    /// The paths among these tokens.
    fn tokens(&mut self, mut at: Cursor<'_>) {
        let (mut path, mut colons) = (Vec::new(), 0);
        while !at.eof() {
            if let Some((ident, next)) = at.ident() {
                if colons != 2 {
                    self.used(std::mem::take(&mut path));
                }
                path.push(ident.to_string());
                (colons, at) = (0, next);
            } else if let Some((punct, next)) = at.punct() {
                colons = if punct.as_char() == ':' { colons + 1 } else { 3 };
                at = next;
            } else if let Some((inside, _, _, next)) = at.any_group() {
                self.tokens(inside);
                (colons, at) = (3, next);
            } else if let Some((_, next)) = at.token_tree() {
                (colons, at) = (3, next);
            } else {
                break;
            }
        }
        self.used(path);
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
            syn::UseTree::Glob(_) => {
                self.path(prefix);
                if prefix.first().is_some_and(|first| ["crate", "self", "super"].contains(&first.as_str())) {
                    self.globs.push(prefix.join("::"));
                }
            }
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
            if item.content.is_none() {
                self.tests.push([self.module.as_slice(), &[item.ident.to_string()]].concat());
            }
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
        self.used(path.segments.iter().map(|s| s.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.calls.insert(call.method.to_string());
        syn::visit::visit_expr_method_call(self, call);
    }

    /// What stands in a macro is tokens to `syn`; here every row of names joined by `::` is taken for a path.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(TokenBuffer::new2(item.tokens.clone()).begin());
        syn::visit::visit_macro(self, item);
    }
}

fn look(text: &str, module: Vec<String>) -> Seen {
    let mut seen = Seen { module, ..Seen::default() };
    seen.visit_file(&syn::parse_file(text).unwrap());
    seen
}

fn place(room: &str) -> Option<usize> {
    ROOMS.iter().position(|name| *name == room)
}

/// Every edge that goes up, as `from → to`.
fn wrong_edges(from: &str, seen: &Seen) -> Vec<String> {
    let own = place(from);
    seen.rooms
        .iter()
        .filter(|to| to.as_str() != from)
        .filter(|to| !(WIRING.contains(&from) && WIRING.contains(&to.as_str())))
        .filter(|to| match (own, place(to)) {
            (Some(own), Some(to)) => to > own,
            _ => false,
        })
        .map(|to| format!("{from} → {to}"))
        .collect()
}

/// Each source file that is part of the program: one that only tests have is left out, as their modules in other files are.
fn each_file(mut check: impl FnMut(&Path, &Seen)) {
    let mut found = Vec::new();
    files(&sources(), &mut found);
    assert!(found.len() > 30, "the sources were not found");
    let seen: Vec<(PathBuf, Seen)> = found
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(sources()).unwrap().to_path_buf();
            let seen = look(&std::fs::read_to_string(&path).unwrap(), module(&relative));
            (relative, seen)
        })
        .collect();
    let tests: BTreeSet<&Vec<String>> = seen.iter().flat_map(|(_, seen)| &seen.tests).collect();
    for (relative, seen) in &seen {
        // with all that is below it
        if !tests.iter().any(|test| seen.module.starts_with(test)) {
            check(relative, seen);
        }
    }
}

#[test]
fn a_room_uses_only_rooms_above_it() {
    let mut wrong = Vec::new();
    each_file(|relative, seen| {
        let Some(room) = seen.module.first() else { return };
        assert!(place(room).is_some() || room == "main", "room `{room}` is not in the reading order");
        wrong.extend(wrong_edges(room, seen).into_iter().map(|edge| format!("{}: {edge}", relative.display())));
    });
    assert!(wrong.is_empty(), "edges against the reading order:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_listed_rooms_name_what_permits() {
    let mut wrong = Vec::new();
    each_file(|relative, seen| {
        let at = relative.to_string_lossy();
        let is_allowed =
            |places: &[&str]| places.iter().any(|place| at == *place || at.starts_with(&format!("{place}/")));
        let named = NAMES.iter().filter(|(name, places)| seen.names.contains(*name) && !is_allowed(places));
        wrong.extend(named.map(|(name, _)| format!("{at} names `{name}`")));
        let called = CALLS.iter().filter(|(name, places)| seen.calls.contains(*name) && !is_allowed(places));
        wrong.extend(called.map(|(name, _)| format!("{at} calls `{name}`")));
        wrong.extend(seen.globs.iter().map(|path| format!("{at} imports all of `{path}`: name what is used")));
    });
    assert!(wrong.is_empty(), "names where they do not belong:\n{}", wrong.join("\n"));
}

#[test]
fn the_edge_check_sees_what_it_must() {
    let at = || vec!["store".to_owned(), "sqlite".to_owned()];
    let seen = look("use crate::http::x; use super::super::mint::Y; fn f() { crate::cli::run(); }", at());
    assert_eq!(wrong_edges("store", &seen), ["store → cli", "store → http", "store → mint"]);
    let fine = look("use crate::domain::Role; #[cfg(test)] mod tests { use crate::http::x; }", vec!["store".into()]);
    assert!(wrong_edges("store", &fine).is_empty());

    let inside = look("fn f() { select! { x = crate::mint::g(a, [Some(super::super::http::h)]) => {} } }", at());
    assert_eq!(wrong_edges("store", &inside), ["store → http", "store → mint"], "what stands in a macro is seen");
    let named = look("fn f() { println!(\"{}\", custody::ToBeSigned::certificate(b) , Kind::Grant ) }", at());
    assert!(named.names.contains("ToBeSigned") && !named.names.contains("Grant"), "{:?}", named.names);

    let called = look("async fn f(press: &P) { g(press.delegation(a).await?).to_be_signed(b) }", at());
    assert!(["delegation", "to_be_signed"].iter().all(|name| called.calls.contains(*name)), "{:?}", called.calls);
    // in a macro a method is a name among others
    assert!(look("fn f() { select! { x = press.delegation(a) => {} } }", at()).names.contains("delegation"));

    let glob = look("use crate::custody::{a, b::*}; use std::fmt::*; mod inner { use super::*; }", at());
    assert_eq!(glob.globs, ["crate::custody::b", "super"]);
    let aside = look("#[cfg(test)] mod tests;", at());
    assert_eq!(aside.tests, [["store", "sqlite", "tests"]]);

    // of two rooms one stands first
    let both = look("use crate::openbao::x; use crate::store::y;", vec!["custody".into()]);
    assert_eq!(wrong_edges("custody", &both), ["custody → store"]);
    let wiring = look("use crate::cli::x; use crate::http::y;", vec!["config".into()]);
    assert!(wrong_edges("config", &wiring).is_empty());
}
