//! `ca show`.

use std::io::Write;

use anyhow::bail;

use crate::app;
use crate::cli::{block_on, unlock};
use crate::config::Loaded;
use crate::custody::ca::CaFacts;

/// Prints what may be told of each CA in custody.
pub(super) fn show(loaded: &Loaded, only: Option<&str>, out: &mut dyn Write) -> anyhow::Result<()> {
    let custody = app::custody(loaded, unlock::vault(&loaded.settings)?)?;
    let names = custody.clusters()?;
    let names: Vec<_> = names.iter().filter(|name| only.is_none_or(|only| only == name.as_str())).collect();
    if names.is_empty() {
        bail!("no such CA in custody; `ichor-broker ca create` or `ca import` brings one");
    }
    let opened = block_on(async {
        let opened = names.iter().map(async |name| (*name, custody.open(name).await));
        Ok(futures_util::future::join_all(opened).await)
    })?;
    for (name, opened) in opened {
        let (record, opened) = (custody.record(name)?, opened?);
        let facts = CaFacts::of(&opened.certificate);
        writeln!(out, "{name}: {} ({})", facts.subject, facts.algorithm)?;
        writeln!(out, "  lives in {}", record.active.said())?;
        writeln!(out, "  valid {} to {}", facts.not_before, facts.not_after)?;
        writeln!(out, "  certificate sha256 {}\n  public key sha256  {}", facts.fingerprint, facts.key_fingerprint)?;
        if let Some(rotation) = &record.rotation {
            writeln!(out, "  a rotation is under way since {}: {}", rotation.begun, rotation.next.said())?;
            writeln!(out, "    go on with `ichor-broker ca rotate {name} --continue`")?;
        }
        for former in &record.former {
            let why = if former.compromised { ", compromised" } else { "" };
            writeln!(out, "  issued until {}{why}: {}", former.until, former.place.said())?;
        }
        opened.warnings.iter().try_for_each(|warning| writeln!(out, "  mind: {warning}"))?;
    }
    Ok(())
}
