//! The engine KV, version 2: `data/<path>`, `metadata/<path>`, `delete/<path>`, `destroy/<path>`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::call::{Call, Verb, no_path};

/// Secrets by path.
#[derive(Default)]
pub(super) struct Kv {
    secrets: BTreeMap<String, Secret>,
}

#[derive(Default)]
struct Secret {
    /// Never deleted from: a version that is gone still counts.
    versions: Vec<Version>,
}

struct Version {
    data: Value,
    created: Timestamp,
    deleted: Option<Timestamp>,
    destroyed: bool,
}

// === impl Kv ===

impl Kv {
    pub(super) fn answer(&mut self, call: &Call, rest: &str, now: Timestamp) -> Answer {
        let (kind, path) = rest.split_once('/').unwrap_or((rest, ""));
        match (kind, call.verb) {
            ("data", Verb::Read) => self.read(call, path),
            ("data", Verb::Write) => self.write(call, path, now),
            ("data", Verb::Delete) => self.delete(path, now),
            ("metadata", Verb::Read) => self.secrets.get(path).map_or_else(Answer::missing, Secret::metadata),
            ("metadata", Verb::List) => self.list(path),
            ("metadata", Verb::Delete) => {
                self.secrets.remove(path);
                Answer::empty()
            }
            ("destroy", Verb::Write) => self.destroy(call, path),
            _ => no_path(),
        }
    }

    /// Whether the secret was ever written: the first version needs another capability than the next.
    pub(super) fn has(&self, path: &str) -> bool {
        self.secrets.contains_key(path)
    }

    /// Writes the next version.
    pub(super) fn put(&mut self, path: &str, data: Value, now: Timestamp) {
        let version = Version { data, created: now, deleted: None, destroyed: false };
        self.secrets.entry(path.to_owned()).or_default().versions.push(version);
    }

    pub(super) fn newest(&self, path: &str) -> Option<Value> {
        self.secrets.get(path)?.versions.last().filter(|version| version.is_there()).map(|version| version.data.clone())
    }

    fn read(&self, call: &Call, path: &str) -> Answer {
        let Some(secret) = self.secrets.get(path) else { return Answer::missing() };
        let wanted = call.query.get("version").and_then(|version| version.parse().ok()).unwrap_or(0);
        let number = if wanted == 0 { secret.versions.len() } else { wanted };
        let Some(version) = number.checked_sub(1).and_then(|index| secret.versions.get(index)) else {
            return Answer::missing();
        };
        let data = |data: &Value| json!({ "data": data, "metadata": version.metadata(number) });
        if version.is_there() { Answer::data(data(&version.data)) } else { Answer::gone(data(&Value::Null)) }
    }

    fn write(&mut self, call: &Call, path: &str, now: Timestamp) -> Answer {
        let Some(data @ Value::Object(_)) = call.body.get("data") else { return Answer::bad("no data provided") };
        let current = self.secrets.get(path).map_or(0, |secret| secret.versions.len());
        let cas = call.body.get("options").and_then(|options| options.get("cas")).and_then(Value::as_u64);
        if cas.is_some_and(|cas| usize::try_from(cas) != Ok(current)) {
            return Answer::bad("check-and-set parameter did not match the current version");
        }
        self.put(path, data.clone(), now);
        let written = self.secrets.get(path).and_then(|secret| secret.versions.last());
        Answer::data(written.map_or(Value::Null, |version| version.metadata(current + 1)))
    }

    fn delete(&mut self, path: &str, now: Timestamp) -> Answer {
        if let Some(version) = self.secrets.get_mut(path).and_then(|secret| secret.versions.last_mut()) {
            version.deleted = Some(now);
        }
        Answer::empty()
    }

    fn destroy(&mut self, call: &Call, path: &str) -> Answer {
        let numbers = call.body.get("versions").and_then(Value::as_array).cloned().unwrap_or_default();
        for number in numbers.iter().filter_map(Value::as_u64) {
            let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
            let secret = self.secrets.get_mut(path);
            if let Some(version) = secret.zip(index).and_then(|(secret, index)| secret.versions.get_mut(index)) {
                version.data = Value::Null;
                version.destroyed = true;
            }
        }
        Answer::empty()
    }

    fn list(&self, path: &str) -> Answer {
        let folder = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut keys: Vec<String> = Vec::new();
        for rest in self.secrets.keys().filter_map(|key| key.strip_prefix(&folder)) {
            let key = rest.split_once('/').map_or_else(|| rest.to_owned(), |(first, _)| format!("{first}/"));
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if keys.is_empty() { Answer::missing() } else { Answer::data(json!({ "keys": keys })) }
    }
}

// === impl Secret ===

impl Secret {
    fn metadata(&self) -> Answer {
        let versions: Map<String, Value> = self
            .versions
            .iter()
            .enumerate()
            .map(|(index, version)| {
                let told = json!({
                    "created_time": version.created.to_string(),
                    "deletion_time": version.deletion_time(),
                    "destroyed": version.destroyed,
                });
                ((index + 1).to_string(), told)
            })
            .collect();
        let time = |version: Option<&Version>| version.map(|version| version.created.to_string());
        Answer::data(json!({
            "cas_required": false,
            "created_time": time(self.versions.first()),
            "current_metadata_version": 0,
            "current_version": self.versions.len(),
            "custom_metadata": null,
            "delete_version_after": "0s",
            "max_versions": 0,
            "metadata_cas_required": false,
            "oldest_version": 0,
            "updated_time": time(self.versions.last()),
            "versions": versions,
        }))
    }
}

// === impl Version ===

impl Version {
    fn is_there(&self) -> bool {
        self.deleted.is_none() && !self.destroyed
    }

    fn deletion_time(&self) -> String {
        self.deleted.map(|at| at.to_string()).unwrap_or_default()
    }

    fn metadata(&self, number: usize) -> Value {
        json!({
            "created_time": self.created.to_string(),
            "custom_metadata": null,
            "deletion_time": self.deletion_time(),
            "destroyed": self.destroyed,
            "version": number,
        })
    }
}
