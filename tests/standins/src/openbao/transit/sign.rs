//! `sign/<name>`: one input, or many in `batch_input`.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::call::Call;
use super::material::Form;
use super::{Transit, decode};

// === impl Transit ===

impl Transit {
    pub(super) fn sign(&mut self, call: &Call, name: &str, hash: Option<&str>) -> Answer {
        let items = call.body.get("batch_input").map(|items| items.as_array().cloned().unwrap_or_default());
        self.batches.push(items.as_ref().map_or(1, Vec::len));
        let Some(key) = self.keys.get(name) else { return Answer::bad("signing key not found") };
        if !key.kind.signs() {
            return Answer::bad(format!("key type {} does not support signing", key.kind.name()));
        }
        let hash = hash.or_else(|| call.body.get("hash_algorithm").and_then(Value::as_str)).unwrap_or("sha2-256");
        if !["sha2-224", "sha2-256", "sha2-384", "sha2-512"].contains(&hash) {
            return Answer::bad(format!("invalid hash algorithm {hash:?}"));
        }
        let form = Form {
            hash,
            pkcs1: call.text("signature_algorithm") == "pkcs1v15",
            jws: call.text("marshaling_algorithm") == "jws",
        };
        // One version for the whole request: what an item says of it counts for nothing.
        let version = call
            .body
            .get("key_version")
            .and_then(Value::as_u64)
            .and_then(|v| u32::try_from(v).ok())
            .unwrap_or_default();
        let wrong = self.wrong.get(name);
        let sign = |input: &str| -> Result<(u32, String), Answer> {
            let (number, material) = key.usable(version, "signing").map_err(|reason| Answer::failed(&reason))?;
            let message =
                decode(input).map_err(|reason| Answer::bad(format!("unable to decode input as base64: {reason}")))?;
            let signature =
                wrong.unwrap_or(material).sign(&message, &form).map_err(|error| Answer::failed(&error.to_string()))?;
            Ok((number, format!("vault:v{number}:{signature}")))
        };
        let Some(items) = items else {
            return match sign(call.text("input")) {
                Ok((number, signature)) => {
                    self.signatures += 1;
                    Answer::data(json!({ "key_version": number, "signature": signature }))
                }
                Err(refused) => refused,
            };
        };
        if items.is_empty() {
            return Answer::bad("missing batch input to process");
        }
        let mut made = 0;
        let results: Vec<Value> = items
            .iter()
            .map(|item| {
                let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
                match sign(text("input")) {
                    Ok((number, signature)) => {
                        made += 1;
                        json!({ "signature": signature, "key_version": number, "reference": text("reference") })
                    }
                    Err(refused) => {
                        json!({ "key_version": 0, "error": plain(&refused), "reference": text("reference") })
                    }
                }
            })
            .collect();
        self.signatures += made;
        Answer::data(json!({ "batch_results": results }))
    }
}

/// The reason in an answer, as a batch item tells it: without "1 error occurred".
fn plain(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let reason = body.pointer("/errors/0").and_then(Value::as_str).unwrap_or_default();
    reason.trim_start_matches("1 error occurred:\n\t* ").trim_end().to_owned()
}
