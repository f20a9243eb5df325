//! Tests named by where they are, as `tests/suites/http.rs::what_is_not_there_is_a_problem_too`: found in the sources, so that
//! a list of them cannot outlive them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Fails for a name that is no test, or one that is switched off.
pub(crate) fn assert_tests<'a>(names: impl Iterator<Item = &'a str>) {
    let mut files = BTreeMap::<&str, BTreeSet<String>>::new();
    for name in names {
        let (file, test) = name.split_once("::").unwrap_or_else(|| panic!("`{name}` names no file and function"));
        let tests = files.entry(file).or_insert_with(|| {
            let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            tests_in(&text)
        });
        assert!(tests.contains(test), "`{test}` is no test of {file}");
    }
}

fn tests_in(text: &str) -> BTreeSet<String> {
    let mut found = Tests::default();
    found.visit_file(&syn::parse_file(text).unwrap());
    found.0
}

#[derive(Default)]
struct Tests(BTreeSet<String>);

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let has = |name: &str| {
            item.attrs.iter().any(|attribute| attribute.path().segments.last().is_some_and(|last| last.ident == name))
        };
        if has("test") && !has("ignore") {
            self.0.insert(item.sig.ident.to_string());
        }
    }
}

#[test]
fn only_tests_that_run_are_found() {
    let found = tests_in(
        "#[test] fn a() {} mod tests { #[tokio::test(flavor = \"multi_thread\")] async fn b() {} }
        fn c() {} #[test] #[ignore] fn d() {}",
    );
    assert_eq!(found, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
}
