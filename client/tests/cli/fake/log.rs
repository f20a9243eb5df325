//! The audit log of the published vectors, as a broker serves it.

use std::collections::HashMap;
use std::path::PathBuf;

use ichor_wire::api::{AuditKeyAnswer, ConsistencyAnswer, ProofFile, Receipt};
use ichor_wire::problem::{Code, Problem};

use super::Hides;
use super::State;
use super::http::{Asked, Reply};

/// The token of the log's tiles.
pub const TOKEN: &str = "the-tiles-token";

/// A file of the published log.
pub fn vector(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/audit").join(name)
}

pub fn text(name: &str) -> String {
    std::fs::read_to_string(vector(name)).unwrap()
}

pub fn receipts() -> Vec<Receipt> {
    serde_json::from_str(&text("receipts.json")).unwrap()
}

fn plain(body: Vec<u8>) -> Reply {
    Reply { status: 200, headers: Vec::new(), body }
}

pub(super) fn answer(state: &mut State, path: &[&str], query: &HashMap<String, String>) -> Reply {
    let proof: ProofFile = serde_json::from_str(&text("proof-3.json")).unwrap();
    match path {
        ["key"] => {
            let key = text("key-2").trim().to_owned();
            let origin = key.split('+').next().unwrap().to_owned();
            Reply::json(200, &AuditKeyAnswer { origin, key, rotations: proof.rotations })
        }
        ["checkpoint"] if state.behind > 0 => {
            state.behind -= 1;
            plain(text("checkpoint-257").into())
        }
        ["checkpoint"] => plain(text(state.head.unwrap_or("checkpoint")).into()),
        ["consistency"] => {
            let known: Vec<serde_json::Value> = serde_json::from_str(&text("consistency.json")).unwrap();
            let found = known
                .into_iter()
                .find(|known| ["from", "to"].iter().all(|name| known[name].as_u64() == query[*name].parse().ok()));
            match found {
                Some(found) => Reply::json(
                    200,
                    &ConsistencyAnswer { proof: serde_json::from_value(found["proof"].clone()).unwrap() },
                ),
                None => Reply::problem(Problem::new(Code::BadRequest, "no such sizes")),
            }
        }
        ["receipts", index] => {
            let found = receipts().into_iter().find(|receipt| index.parse() == Ok(receipt.index));
            match (found, state.hides) {
                (Some(receipt), None) => Reply::json(200, &receipt),
                (Some(receipt), Some(Hides::Pending)) => {
                    let bare =
                        Receipt { index: receipt.index, leaf_hash: receipt.leaf_hash, ..Receipt::pending(0, &[0; 32]) };
                    Reply::json(200, &bare)
                }
                (_, Some(Hides::Refused)) => Reply::problem(Problem::new(Code::Refused, "not yours")),
                (None, _) => Reply::problem(Problem::new(Code::NotFound, "no such entry")),
            }
        }
        ["proofs", _] => Reply::json(200, &proof),
        ["export"] => plain(std::fs::read(vector("export.cbor")).unwrap()),
        _ => Reply::problem(Problem::new(Code::NotFound, "no such path")),
    }
}

pub(super) fn tiles(asked: &Asked, path: &str) -> Reply {
    if asked.headers.get("authorization").map(String::as_str) != Some(&format!("Bearer {TOKEN}")) {
        return Reply::problem(Problem::new(Code::NotLoggedIn, "the token is not the log's"));
    }
    match std::fs::read(vector(path.trim_start_matches("/log/"))) {
        Ok(bytes) => plain(bytes),
        Err(_) => Reply::problem(Problem::new(Code::NotFound, "no such tile")),
    }
}
