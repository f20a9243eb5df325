//! The engines' migrations side by side: released steps are never edited, and both make one logical schema.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::copy::{Kind, TABLES};
use super::{postgres, sqlite};

/// Tables that Postgres alone has, because several brokers write to it.
const OF_SEVERAL_BROKERS: &[&str] = &["log_head", "proof", "allowance", "forward_holder"];

/// Tables that a copy leaves out: what readiness writes to is of no moment.
const NOT_COPIED: &[&str] = &["probe"];

/// A column: what it holds, and whether it may hold nothing.
type Column = (String, &'static str, bool);

#[derive(Debug, Default, PartialEq, Eq)]
struct Schema {
    tables: BTreeMap<String, Vec<Column>>,
    /// By name: the table, its columns and its condition.
    indexes: BTreeMap<String, String>,
}

/// What a step's statements make, as far as two dialects can be compared.
fn schema(steps: &[&str]) -> Schema {
    let mut schema = Schema::default();
    for step in steps {
        let lines = step.lines().map(|line| line.split("--").next().unwrap_or_default());
        let text = lines.collect::<Vec<_>>().join(" ").replace('"', "");
        for statement in text.split(';') {
            let words: Vec<_> = statement.split_whitespace().collect();
            match words[..] {
                ["CREATE", "TABLE", name, ..] | ["CREATE", "UNLOGGED", "TABLE", name, ..] => {
                    let inside = statement.split_once('(').unwrap().1.rsplit_once(')').unwrap().0;
                    // an option behind the columns, as WITH (fillfactor = 10)
                    let inside = inside.split(") WITH").next().unwrap();
                    schema
                        .tables
                        .insert(name.to_owned(), parts(inside).iter().filter_map(|part| column(part)).collect());
                }
                ["ALTER", "TABLE", name, "ADD", "COLUMN", ..] => {
                    let added = statement.split_once("COLUMN").unwrap().1;
                    schema.tables.get_mut(name).unwrap().push(column(added).unwrap());
                }
                ["DROP", "TABLE", name] => {
                    schema.tables.remove(name).unwrap();
                }
                ["CREATE", "INDEX", name, "ON", ref rest @ ..]
                | ["CREATE", "UNIQUE", "INDEX", name, "ON", ref rest @ ..] => {
                    schema.indexes.insert(name.to_owned(), rest.join(" "));
                }
                ["DROP", "INDEX", name] => {
                    schema.indexes.remove(name).unwrap();
                }
                ["INSERT" | "UPDATE" | "DELETE", ..] | [] => {}
                _ => panic!("this test does not know `{statement}`: teach it, or two dialects drift apart"),
            }
        }
    }
    schema
}

/// The parts between the commas that are in no parentheses.
fn parts(inside: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in inside.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(letter);
    }
    parts
}

fn column(part: &str) -> Option<Column> {
    let words: Vec<_> = part.split_whitespace().collect();
    let [name, kind, ..] = words[..] else { return None };
    if ["UNIQUE", "PRIMARY", "CHECK", "FOREIGN"].contains(&name) || name.starts_with("UNIQUE") {
        return None;
    }
    let kind = match kind {
        "BLOB" | "bytea" => "bytes",
        "TEXT" | "text" => "text",
        "INTEGER" | "bigint" | "integer" | "smallint" => "number",
        other => panic!("this test does not know the type `{other}` of `{name}`"),
    };
    let is_required = part.contains("NOT NULL") || part.contains("PRIMARY KEY");
    Some((name.to_owned(), kind, is_required))
}

#[test]
fn both_engines_have_one_logical_schema() {
    let (lite, mut post) = (schema(&sqlite::STEPS), schema(&postgres::STEPS));
    for own in OF_SEVERAL_BROKERS {
        assert!(post.tables.remove(*own).is_some(), "Postgres has no `{own}`");
        post.indexes.retain(|_, text| !text.starts_with(own));
    }
    for text in post.indexes.values_mut() {
        // SQLite's indexes end in the row's id by themselves
        *text = text.replace(", id,", ",").replace(", id)", ")");
    }
    assert!(lite.tables.len() >= 9 && lite.indexes.len() >= 8, "the schema was not read: {lite:?}");
    assert_eq!(lite.tables, post.tables);
    assert_eq!(lite.indexes, post.indexes);
}

#[test]
fn a_copy_takes_every_table_and_every_column() {
    let copied: BTreeMap<_, Vec<_>> = TABLES
        .iter()
        .map(|table| {
            let kind = |kind| match kind {
                Kind::Int | Kind::Small | Kind::Integer => "number",
                Kind::Bytes => "bytes",
                Kind::Text => "text",
            };
            let columns = table.columns.iter().map(|(name, is)| ((*name).to_owned(), kind(*is)));
            (table.name.to_owned(), columns.collect())
        })
        .collect();
    let mut made = schema(&sqlite::STEPS).tables;
    for left in NOT_COPIED {
        assert!(made.remove(*left).is_some());
    }
    let made: BTreeMap<_, Vec<_>> = made
        .into_iter()
        .map(|(name, columns)| (name, columns.into_iter().map(|(name, kind, _)| (name, kind)).collect()))
        .collect();
    assert_eq!(copied, made);
}

#[test]
fn released_steps_are_never_edited() {
    let digests: Vec<_> =
        postgres::STEPS.iter().map(|sql| data_encoding::HEXLOWER.encode(&Sha256::digest(sql))).collect();
    assert_eq!(
        digests,
        [
            "631de8e896e3db630df55d013e0b440fa491a496910626ac3546181755787f05",
            "9180afc7d72e9de6e2608707e0fc289d5f9d8da7d1e5c08a7b99acfb196853ce",
            "e36dfc0aabea2716a1d59f9c97dd9725688cd6d62689ee2feb7513b0623251cf",
            "48c8b6de43f1f04c677b6971f6c056434954d640e0aba0d2b52687462c9345ad",
            "7ff333f91193390d8382c6a7ffb6c60da2a1ae86f7d2a5eb0a941432ca189fe3",
            "b439e7c3a34913f0351ecef44e0bf4dff05a62076157a5318c603cbf9c468a41",
            "b91eac6e8487f148de1677e3ee7de0f5ca9a8fc5017f6ed2f3ff09ef9e1c2bf9",
            "5ecc40ddd4d57b201cd72b8948dc4ac4ac454f4474d8584e5f661eb61df7b91c",
            "b4c39ab8669d2de97a78c664790d0851b383a59ea2ae2b7c666a279cc03774c3",
            "b33b744d2d4a9570c29df0422c034ceb2bd7fea8b332679849e099120bf2e80f",
            "c92e4cc8b14ee659633ac12c936d9d8044b714b5e1aaedb334722df973ac6ef1",
            "b1d3e8bdca0457a50d1cb2067e7401eb6a560ff1a3a5502ff5576becd97c0845",
        ]
    );
}
