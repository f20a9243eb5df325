//! Whose backup it is: what it names itself by, held against the installation that is here.

use std::collections::BTreeSet;
use std::io::Write;

use data_encoding::HEXLOWER;
use ichor_wire::log::LogKey;

use crate::app;
use crate::cli::vault_key;
use crate::config::Loaded;
use crate::custody::ca::CaFacts;
use crate::custody::{Archived, Familiar, ForeignCa, KnownCas, LogPin};

/// The installation that is here, as far as its files say without any key.
pub(in crate::cli) struct Present {
    log: Option<LogPin>,
    cas: KnownCas,
    /// Who can open the vault, where there is one.
    opened_by: Option<BTreeSet<String>>,
}

impl Present {
    /// The one of this folder; `None` where there is neither vault nor log.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub(super) async fn of(loaded: &Loaded) -> anyhow::Result<Option<Self>> {
        let log = LogPin::read(&loaded.settings.vault)?;
        let cas = app::known_cas(&loaded.settings).await?;
        let sealer = vault_key::sealer(&loaded.settings).ok();
        let opened_by = sealer.map(|sealer| sealer.opened_by().into_iter().collect());
        Ok((log.is_some() || cas != KnownCas::default()).then_some(Self { log, cas, opened_by }))
    }
}

/// Prints what the backup names itself by, a line each, and how that differs from what is here; answers whether it does. Whoever holds the recipients can seal a
/// backup of their own: what it holds does not say whose it is, these do.
pub(in crate::cli) fn tell(archived: &Archived, here: Option<&Present>, out: &mut dyn Write) -> anyhow::Result<bool> {
    let pin = here.and_then(|here| here.log.as_ref());
    let mut differs = false;
    let mut line = |text: String, held: Option<Result<(), String>>| {
        differs |= matches!(held, Some(Err(_)));
        // a stranger's words add no line of their own, and speak to no terminal
        let text: String = text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        match held {
            None => writeln!(out, "{text}"),
            Some(Ok(())) => writeln!(out, "{text}: as here"),
            Some(Err(here)) => writeln!(out, "{text}: DIFFERS, here {here}"),
        }
    };
    match archived.log() {
        Some(log) => {
            let held =
                pin.map(|pin| if pin.origin == log.name { Ok(()) } else { Err(format!("it is `{}`", pin.origin)) });
            line(format!("log `{}`", log.name), held)?;
        }
        None => line("the backup does not name the log: it had not begun".into(), None)?,
    }
    match archived.audit_key() {
        Some(key) => {
            let own = pin.and_then(|pin| pin.key.parse::<LogKey>().ok());
            let held = own.map(|own| {
                if *own.public() == key { Ok(()) } else { Err(format!("it is {}", HEXLOWER.encode(own.public()))) }
            });
            line(format!("audit key, Ed25519 {}", HEXLOWER.encode(&key)), held)?;
        }
        None => line("the audit key is not in it: it lives elsewhere, or is missing".into(), None)?,
    }
    // whoever can open it reads the next key that is sealed there
    let to: BTreeSet<String> = archived.recipients().iter().cloned().collect();
    let said = |recipients: &BTreeSet<String>| recipients.iter().cloned().collect::<Vec<_>>().join(", ");
    let held = here.and_then(|here| here.opened_by.as_ref());
    let held = held.map(|own| if *own == to { Ok(()) } else { Err(said(own)) });
    line(format!("opened by {}", said(&to)), held)?;
    for ca in archived.cas() {
        let held = here.map(|here| match here.cas.check(&ca.cluster, &ca.certificate) {
            // dropped or retired before the backup was made, too
            Err(ForeignCa::Retired { .. }) if !ca.is_needed => Ok(()),
            said => familiar(said),
        });
        let whose = if ca.is_needed { "ca" } else { "a key that nothing needs, of a ca" };
        let fingerprint = CaFacts::of(&ca.certificate).fingerprint;
        line(format!("{whose} of `{}`, certificate sha256 {fingerprint}", ca.cluster), held)?;
    }
    for (cluster, fingerprint) in archived.credentials() {
        let held = here.map(|here| familiar(here.cas.check_fingerprint(&cluster, fingerprint.clone())));
        line(format!("adopted credential of `{cluster}`, certificate sha256 {fingerprint}"), held)?;
    }
    match (here, differs) {
        (None, _) => writeln!(out, "it was held against no installation: compare these with what you keep elsewhere")?,
        (Some(_), true) => writeln!(
            out,
            "what differs is another installation's, or of another time than what is here: be sure whose backup it is before you use it"
        )?,
        (Some(_), false) => {}
    }
    Ok(differs)
}

/// Whether the log that is here names it as this cluster's; else what it says.
fn familiar(said: Result<Familiar, ForeignCa>) -> Result<(), String> {
    match said {
        Ok(Familiar::Named) => Ok(()),
        Ok(Familiar::First) => Err("the log names none of this cluster".to_owned()),
        Err(ForeignCa::Retired { .. }) => Err("the log says that it was retired".to_owned()),
        Err(ForeignCa::Unknown { known, .. }) => Err(format!("the log names {known}")),
        Err(error @ ForeignCa::OthersKey { .. }) => Err(error.to_string()),
    }
}
