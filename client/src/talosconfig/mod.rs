//! The talosconfig on disk: found as talosctl finds it, written without damage.

mod location;
mod written;

use std::path::{Path, PathBuf};

use ichor_wire::talosconfig::{Context, MAX_SIZE, NewContext, Renewal, Talosconfig, fingerprint};
use jiff::Timestamp;
use serde::Serialize;

pub use location::{readable, writable};
pub use written::{Known, Record, Written};

use crate::certificate::{Held, Wish};
use crate::error::Error;
use crate::private_file;

/// What a write would do, or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// There was no such context.
    Added,
    /// Its certificate is a new one.
    Renewed,
    /// Another context was replaced whole, as `--replace` said.
    Replaced,
    /// Its certificate still serves.
    UpToDate,
}

/// Where and how a context is written.
#[derive(Clone, Debug)]
pub struct Target {
    /// The file; symbolic links are followed.
    pub path: PathBuf,
    /// The context's name.
    pub context: String,
    /// Make it the current one. It becomes that anyway where none is set.
    pub set_current: bool,
    /// Replace a context that is not ours.
    pub replace: bool,
}

/// Reads a talosconfig; one that is not there is empty.
///
/// # Errors
/// When it cannot be read or is malformed.
pub fn read(path: &Path) -> Result<Talosconfig, Error> {
    match private_file::read(path, MAX_SIZE)? {
        Some(text) => Talosconfig::parse(&text).map_err(|source| Error::Talosconfig { path: path.into(), source }),
        None => Ok(Talosconfig::empty()),
    }
}

/// What writing `wish` to `target` would do now, without a certificate: a context that must not be replaced is refused
/// here, before anything is asked of the broker.
///
/// # Errors
/// When the file is malformed, or holds a context of that name that is not ours or is another cluster's.
pub fn plan(target: &Target, wish: &Wish, broker: &str, records: &Written, now: Timestamp) -> Result<Outcome, Error> {
    let file = read(&target.path)?;
    let Some(context) = file.context(&target.context) else { return Ok(Outcome::Added) };
    let record = records.find(&target.path, &target.context);
    if let Some(refusal) = refusal(target, &context, wish, broker, record) {
        return if target.replace { Ok(Outcome::Replaced) } else { Err(refusal) };
    }
    let current_needed = target.set_current && file.current() != Some(&target.context) || file.current().is_none();
    let ours = written::ours(&context, record);
    let serves = ours.is_some_and(|ours| ours.is_fresh(now) && ours.roles == wish.effective_roles());
    Ok(if serves && wish.may_reuse() && !current_needed && context.key.is_some() {
        Outcome::UpToDate
    } else {
        Outcome::Renewed
    })
}

/// Writes a certificate into `target`. Returns once the file is on disk, whole; everything that is not ours is as it was.
///
/// # Errors
/// As [`plan`], and when the file cannot be locked, edited or written; it is then as it was.
pub fn write(
    target: &Target,
    wish: &Wish,
    broker: &str,
    held: &Held,
    records: &mut Written,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let path = private_file::follow(&target.path)?;
    let _lock = private_file::lock(&path)?;
    let planned = plan(target, wish, broker, records, now)?;
    let old = read(&path)?;
    let edit = |source| Error::Edit { path: target.path.clone(), source };
    let name = &target.context;
    let mut new = match planned {
        Outcome::Added | Outcome::Replaced => old.put_context(name, &new_context(held)),
        Outcome::Renewed | Outcome::UpToDate => old.renew_context(name, &renewal(&old, target, held, records)),
    }
    .map_err(edit)?;
    if target.set_current || new.current().is_none() {
        new = new.set_current(name).map_err(edit)?;
    }
    // talosctl takes no lock: if it wrote meanwhile, its work is not ours to undo.
    if read(&path)?.text() != old.text() {
        return Err(Error::failed(
            format!("`{}` changed meanwhile; it was left as it is", path.display()),
            "try again",
        ));
    }
    private_file::write(&path, new.text().as_bytes())?;
    records.put(Record {
        path: target.path.clone(),
        context: name.clone(),
        broker: broker.into(),
        cluster: wish.cluster.clone(),
        roles: wish.effective_roles(),
        ttl: wish.ttl,
        needs_reason: wish.reason.is_some(),
        endpoints: held.answer.endpoints.clone(),
        certificate: fingerprint(held.answer.certificate.as_bytes()).map(|fingerprint| Known {
            fingerprint,
            grant: held.answer.grant_id.to_string(),
            key_made_by_cluster: held.key_made_by_cluster,
        }),
    });
    Ok(if planned == Outcome::UpToDate { Outcome::Renewed } else { planned })
}

fn refusal(target: &Target, context: &Context, wish: &Wish, broker: &str, record: Option<&Record>) -> Option<Error> {
    let name = &target.context;
    let next = format!("write to another one with `--context {name}-ichor`, or replace it with `--replace`");
    if written::ours(context, record).is_none() {
        let message = format!("context `{name}` in `{}` was not written by ichor", target.path.display());
        return Some(Error::failed(message, next));
    }
    let Some(record) = record else {
        let path = target.path.display();
        let message = format!("of which broker and cluster context `{name}` in `{path}` is was not written down here");
        return Some(Error::failed(message, next));
    };
    let other = Some(record).filter(|record| record.cluster != wish.cluster || record.broker != broker)?;
    Some(Error::failed(format!("context `{name}` is for the cluster `{}` of {}", other.cluster, other.broker), next))
}

fn new_context(held: &Held) -> NewContext {
    NewContext {
        endpoints: held.answer.endpoints.clone(),
        nodes: held.answer.nodes.clone(),
        ca: held.answer.ca.clone(),
        crt: held.answer.certificate.clone(),
        key: held.key.clone(),
    }
}

/// Endpoints change only if they still are what we last wrote: a person who edited them meant it.
fn renewal(old: &Talosconfig, target: &Target, held: &Held, records: &Written) -> Renewal {
    let there = old.context(&target.context).map(|context| context.endpoints);
    let last = records.find(&target.path, &target.context).map(|record| &record.endpoints);
    let untouched = last.is_some() && there.as_ref() == last && there.as_ref() != Some(&held.answer.endpoints);
    Renewal {
        endpoints: untouched.then(|| held.answer.endpoints.clone()),
        ca: held.answer.ca.clone(),
        crt: held.answer.certificate.clone(),
        key: held.key.clone(),
    }
}

#[cfg(test)]
mod tests;
