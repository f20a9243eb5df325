//! `ca show`.

use std::io::Write;

use anyhow::bail;

use crate::app;
use crate::cli::{block_on, vault_key};
use crate::config::Loaded;
use crate::custody::ca::CaFacts;
use crate::custody::{Custody, Left, Place};
use crate::domain::ClusterName;

/// Prints what may be told of each CA in custody.
pub(super) fn show(loaded: &Loaded, only: Option<&str>, out: &mut dyn Write) -> anyhow::Result<()> {
    let custody = app::custody(loaded, vault_key::vault(&loaded.settings)?)?;
    let names = custody.clusters()?;
    let names: Vec<_> = names.iter().filter(|name| only.is_none_or(|only| only == name.as_str())).collect();
    if names.is_empty() {
        bail!("no such CA in custody; `ichor-broker ca create` or `ca import` brings one");
    }
    let opened = block_on(async {
        let known = &app::known_cas(&loaded.settings).await?;
        let opened = names.iter().map(async |name| (*name, custody.open(name, known).await));
        Ok(futures_util::future::join_all(opened).await)
    })?;
    for (name, opened) in opened {
        let record = match custody.record(name) {
            Ok(record) => record,
            Err(error) => {
                writeln!(out, "{name}: cannot be opened: {error}")?;
                continue;
            }
        };
        match (&record.active, opened) {
            (Place::TalosApi, _) => adopted(&custody, name, out)?,
            (place, Ok(opened)) => {
                let facts = CaFacts::of(&opened.certificate);
                writeln!(out, "{name}: {} ({})", facts.subject, facts.algorithm)?;
                writeln!(out, "  lives in {}", place.said())?;
                writeln!(out, "  valid {} to {}", facts.not_before, facts.not_after)?;
                writeln!(out, "  certificate sha256 {}", facts.fingerprint)?;
                writeln!(out, "  public key sha256  {}", facts.key_fingerprint)?;
                if opened.is_delegated {
                    writeln!(out, "  the cluster makes the certificates, asked with short ones of this CA")?;
                }
                opened.warnings.iter().try_for_each(|warning| writeln!(out, "  mind: {warning}"))?;
            }
            // what the record tells is told although its CA cannot be opened
            (place, Err(error)) => writeln!(out, "{name}: lives in {}\n  cannot be opened: {error}", place.said())?,
        }
        if let Some(rotation) = &record.rotation {
            writeln!(out, "  a rotation is under way since {}: {}", rotation.begun, rotation.next.said())?;
            writeln!(out, "    go on with `ichor-broker ca rotate {name} --continue --reason …`")?;
        }
        for former in &record.former {
            let why = if former.compromised { ", compromised" } else { "" };
            writeln!(out, "  issued until {}{why}: {}", former.until, former.place.said())?;
        }
    }
    for file in custody.leftovers()? {
        writeln!(out, "{}", leftover(&file))?;
    }
    let only = only.and_then(|name| ClusterName::new(name).ok());
    let left_there = block_on(async {
        let known = app::known_cas(&loaded.settings).await?;
        Ok(custody.left_at_servers(only.as_ref(), &known).await?)
    })?;
    for it in left_there {
        writeln!(out, "{}", left(&it))?;
    }
    for cluster in custody.idle_credentials()? {
        writeln!(out, "{}", idle(&cluster))?;
    }
    Ok(())
}

/// What to say of a file with a key that no record needs.
pub(in crate::cli) fn leftover(file: &str) -> String {
    format!("`vault/ca/{file}` still holds the key of a CA, and no record needs it; remove it once nothing does")
}

/// What to say of a secret at a server in which a key was left that nothing needs.
pub(in crate::cli) fn left(it: &Left) -> String {
    let Left { cluster, place, is_seen } = it;
    let removal = place.removal().unwrap_or_default();
    match is_seen {
        true => format!(
            "{} still holds the key of a CA of `{cluster}` that nothing needs; remove it with all its versions, with a token that may: {removal}",
            place.said()
        ),
        false => format!(
            "{} may still hold the key of a CA of `{cluster}` that nothing needs, and our token may not look; where it was removed ({removal}), say so: \
             ichor-broker ca retire {cluster} --left --reason …",
            place.said()
        ),
    }
}

/// What to say of an adopted credential where a CA took its place.
pub(in crate::cli) fn idle(cluster: &ClusterName) -> String {
    format!(
        "`vault/secrets/talos-{cluster}.age` still holds the adopted credential of `{cluster}`, which makes any role there, and no \
         record needs it; `ichor-broker ca retire {cluster}` takes it out once what it made has ended"
    )
}

/// A cluster whose own API makes the certificates.
fn adopted(custody: &Custody, name: &ClusterName, out: &mut dyn Write) -> anyhow::Result<()> {
    let credential = custody.vault().open_talos_credential(name)?;
    writeln!(out, "{name}: {}", Place::TalosApi.said())?;
    writeln!(out, "  credential of {}, valid until {}", credential.roles().join(", "), credential.not_after())?;
    writeln!(out, "  certificate sha256 {}", credential.fingerprint())?;
    Ok(())
}
