//! The command lines that README and `docs/` have people type.

use std::fs;
use std::path::{Path, PathBuf};

/// The pages, from the repository's root.
fn pages() -> std::io::Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    for page in fs::read_dir(root.join("docs"))? {
        pages.push(page?.path());
    }
    pages.retain(|page| page.extension().is_some_and(|kind| kind == "md"));
    Ok(pages)
}

/// The words of a command line as a shell makes them of it, up to a comment, a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '>' | '<' | '&' | ';') => break,
            (None, ' ') => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Any id in the place of one that a page leaves to its reader.
fn with_id(word: String) -> String {
    match word == "ID" || (word.starts_with("0193") && word.ends_with('…')) {
        true => "0193533d-9c00-7000-8000-000000000000".into(),
        false => word,
    }
}

/// Every command line of `program` in a block of a shell's, in words, with the page and the line that have it; a line that ends in
/// `\` goes on. Where a page writes `ID` or `0193…` an id stands.
///
/// # Errors
/// Where a page cannot be read.
pub fn lines(program: &str) -> std::io::Result<Vec<(String, Vec<String>)>> {
    let mut found = Vec::new();
    for page in pages()? {
        let text = fs::read_to_string(&page)?.replace("\\\n", " ");
        let mut is_inside = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                is_inside = !is_inside;
                continue;
            }
            let words = words(line.trim_start().trim_start_matches("$ ")).into_iter().map(with_id).collect::<Vec<_>>();
            if is_inside && words.first().is_some_and(|word| word == program) {
                found.push((format!("{}: {line}", page.display()), words));
            }
        }
    }
    Ok(found)
}
