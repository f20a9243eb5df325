//! Tests named by where they are, as `tests/suites/http.rs::case_08_what_is_not_there_is_a_problem_too`: found in the sources, so that
//! a list of them cannot outlive them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every source below these folders of the repository, parsed.
pub(crate) fn sources(folders: &[&str]) -> Vec<syn::File> {
    texts(folders).iter().map(|text| syn::parse_file(text).unwrap()).collect()
}

/// The text of every source below these folders of the repository.
fn texts(folders: &[&str]) -> Vec<String> {
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

/// Fails for a name that is no test, or one that is switched off.
pub(crate) fn assert_tests<'a>(names: impl Iterator<Item = &'a str>) {
    names.for_each(|name| drop(text_of(name)));
}

/// The paths and texts that the test names and what its macros are given, tokens with blanks between. Fails as
/// [`assert_tests`] does.
pub(crate) fn text_of(name: &str) -> String {
    let (file, test) = name.split_once("::").unwrap_or_else(|| panic!("`{name}` names no file and function"));
    let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    tests_in(&text).remove(test).unwrap_or_else(|| panic!("`{test}` is no test of {file}"))
}

fn tests_in(text: &str) -> BTreeMap<String, String> {
    let mut found = Tests::default();
    found.visit_file(&syn::parse_file(text).unwrap());
    found.0
}

#[derive(Default)]
struct Tests(BTreeMap<String, String>);

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let has = |name: &str| {
            item.attrs.iter().any(|attribute| attribute.path().segments.last().is_some_and(|last| last.ident == name))
        };
        if has("test") && !has("ignore") {
            let mut said = Said::default();
            said.visit_block(&item.block);
            self.0.insert(item.sig.ident.to_string(), said.0);
        }
    }
}

#[derive(Default)]
struct Said(String);

impl<'ast> Visit<'ast> for Said {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.0.push_str(&format!("{}\n", segments.join(" :: ")));
        syn::visit::visit_path(self, path);
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.0.push_str(&format!("{:?}\n", text.value()));
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        // not Rust yet, so nothing to visit
        self.0.push_str(&format!("{}\n", item.tokens));
    }
}

/// The product's promises.
const PROMISES: std::ops::RangeInclusive<u8> = 1..=8;

/// The cases to survive, each from an advisory or an incident.
const CASES: std::ops::RangeInclusive<u8> = 1..=28;

/// Cases of parts that do not exist yet.
const NOT_YET: &[(u8, &str)] = &[
    (1, "a gateway forwards paths; there is none"),
    (5, "a gateway forwards metadata; there is none"),
    (6, "a gateway speaks to nodes for people; there is none"),
    (11, "a verifier of our own for clients' certificates; nothing is verified by callbacks"),
];

/// The numbers that tests of this sort are named by, as `promise_4_…` or `case_07_…`.
fn numbers(sort: &str) -> BTreeSet<u8> {
    texts(&["broker", "client", "tests"]).iter().flat_map(|text| numbers_in(sort, text)).collect()
}

/// By the text, not the syntax: some stand inside a macro that makes many cases of one.
fn numbers_in(sort: &str, text: &str) -> Vec<u8> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let number = |line: &str| {
        let name = line.trim_start_matches("async ").strip_prefix("fn ")?.strip_prefix(sort)?;
        name.split_once('_')?.0.parse().ok()
    };
    let is_test = |above: &[&str]| {
        let attributes = || above.iter().rev().take_while(|line| line.starts_with("#["));
        attributes().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
            && !attributes().any(|line| line.starts_with("#[ignore"))
    };
    let tests = lines.iter().enumerate().filter(|(at, _)| is_test(&lines[..*at]));
    tests.filter_map(|(_, line)| number(line)).collect()
}

#[test]
fn every_promise_and_every_case_has_a_test_by_its_name() {
    assert_eq!(numbers("promise_"), PROMISES.collect());
    let waiting: BTreeSet<u8> = NOT_YET.iter().map(|(number, _)| *number).collect();
    let tried = numbers("case_");
    assert!(tried.is_disjoint(&waiting), "a case that has a test is not waiting: {tried:?}");
    assert_eq!(&tried | &waiting, CASES.collect());
}

#[test]
fn a_number_counts_only_where_a_test_runs() {
    let text = "#[tokio::test(flavor = \"multi_thread\")]\nasync fn case_07_x() {}\n  #[test]\n  fn case_12_y() {}\n\
                fn case_13_z() {}\n#[test]\n#[ignore]\nfn case_14_w() {}\n#[test]\nfn case_of_its_own() {}";
    assert_eq!(numbers_in("case_", text), [7, 12]);
}

#[test]
fn only_tests_that_run_are_found() {
    let found = tests_in(
        "#[test] fn a() {} mod tests { #[tokio::test(flavor = \"multi_thread\")] async fn b() { x::Y; assert!(x::Z) } }
        fn c() {} #[test] #[ignore] fn d() {}",
    );
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(found["b"].contains("x :: Y") && found["b"].contains("x :: Z"), "{found:?}");
}
