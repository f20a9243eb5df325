//! `kit list`.

use std::io::Write;

use ichor_wire::reason::visible;

use super::all;
use crate::cli::block_on;
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;

/// A line for each kit, what it was opened for, and what is to be done.
pub(super) fn run(loaded: &Loaded, out: &mut dyn Write) -> anyhow::Result<()> {
    let kits = block_on(all(loaded))?;
    let now = SystemClock.now();
    if kits.is_empty() {
        writeln!(out, "no kit has been made; `ichor-broker kit create --help` says how")?;
        return Ok(());
    }
    let day = |at: jiff::Timestamp| at.to_string().chars().take(10).collect::<String>();
    for kit in &kits {
        let drilled = kit.drilled.map_or_else(|| "no whole drill yet".to_owned(), |at| format!("drilled {}", day(at)));
        writeln!(
            out,
            "kit {}  {}  {}  {} of {}  {}  until {}  {}{drilled}",
            kit.number,
            kit.cluster,
            kit.state(now).as_str(),
            kit.threshold,
            kit.holders.len(),
            kit.roles.join(","),
            day(kit.until),
            if kit.is_static() { "static  " } else { "" }
        )?;
        let holders: Vec<&str> = kit.holders.iter().map(|holder| holder.name.as_str()).collect();
        writeln!(out, "    holders: {}", holders.join(", "))?;
        if !kit.leads_to.is_empty() {
            writeln!(out, "    leads to: {}", kit.leads_to.join(", "))?;
        }
        for opening in &kit.openings {
            // nobody checked what an earlier build recorded
            let (name, reason) = (visible(&opening.name, 120), visible(&opening.reason, 500));
            writeln!(out, "    opened {:.0} by {name} ({}): {reason}", opening.opened, opening.labels.join(", "))?;
        }
        let mut uses: Vec<_> = kit.unreported.iter().collect();
        if !kit.is_static() {
            // each opening has a grant of its own: the first call under it says enough
            uses.dedup_by_key(|used| (used.grant, used.is_beyond));
        }
        for used in uses {
            let what = if used.is_beyond { "not as was reported" } else { "unreported" };
            let at = used.at.map(|at| format!(", from {at:.0}")).unwrap_or_default();
            writeln!(out, "    in use, {what}: grant kit-{}-{}{at}", kit.number, used.grant)?;
        }
        if let Some(successor) = kit.replaced_by {
            writeln!(out, "    replaced by kit {successor}")?;
        }
    }
    for complaint in kits.iter().filter_map(|kit| kit.complaint(now)) {
        writeln!(out, "warn  {complaint}")?;
    }
    Ok(())
}
