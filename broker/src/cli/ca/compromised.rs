//! `ca retire --compromised`: a CA that may be in strangers' hands issues no more, at once. What is meant is named by its certificate
//! wherever it could be mistaken, so that the command run twice, or by two people, ends one CA and not the next as well.

use std::io::Write;

use anyhow::bail;

use super::retire::{Seen, Work, numbered};
use crate::cli::adopt;
use crate::cli::desk::Deed;
use crate::custody::{Aside, Former, Place, Record};

/// A CA that the operator may mean.
struct Candidate<'a> {
    which: Which<'a>,
    /// `None` where its certificate cannot be read.
    seen: Option<Seen>,
}

/// Which of a cluster's CAs it is.
#[derive(Clone, Copy)]
enum Which<'a> {
    /// The one in force.
    Active(&'a Place),
    /// The new one of a rotation.
    Next(&'a Place),
    /// One that issued before, by its place in the record.
    Former(usize, &'a Former),
    /// One that is out of custody.
    Gone,
}

/// The value of `--certificate`: lower-case hex.
pub(super) fn fingerprint(text: &str) -> Result<String, String> {
    let hex: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect::<String>().to_ascii_lowercase();
    let fits = (8..=64).contains(&hex.len()) && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then_some(hex).ok_or_else(|| {
        "write the SHA-256 of the CA's certificate, hex, or its first eight digits or more; `ichor-broker ca show` has it"
            .to_owned()
    })
}

// === impl Work ===

impl Work<'_> {
    /// The CA that is meant issues no more. Whether there is something to take out of the nodes.
    pub(super) async fn compromised(
        &self,
        record: &Record,
        named: Option<&str>,
        out: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let cluster = self.cluster;
        let candidates = self.candidates(record).await;
        let Some(named) = named else {
            // ended between the record and the key
            let left = record.former.iter().enumerate().find(|(_, former)| former.compromised && self.has_file(former));
            if let Some((number, former)) = left {
                // its file is there: what that holds counts, whatever the record says of it
                let seen = match self.seen(&former.place).await {
                    None => self.seen_before(former).await.into_iter().next(),
                    seen => seen,
                };
                return self.end_former(record, number, former, seen, out).await;
            }
            if let (Place::Retired, Some(next)) = (&record.active, record.next()) {
                bail!(
                    "the CA of cluster `{cluster}` was retired already: none is in force; `ichor-broker ca rotate {cluster} --continue --reason \
                     …` goes on with the one to come, {}",
                    next.said()
                );
            }
            if record.active == Place::Retired {
                bail!(
                    "the CA of cluster `{cluster}` was retired already: none is in force; `ichor-broker ca create {cluster} --replace \
                     --reason …` makes one"
                );
            }
            if record.rotation.is_some() || record.former.iter().any(|former| former.compromised) {
                bail!(
                    "say which CA of cluster `{cluster}` is compromised, with `--certificate SHA256`, so that none is retired that is not \
                     meant: {}",
                    said(&candidates)
                );
            }
            let seen = candidates.into_iter().next().and_then(|active| active.seen);
            return self.end_active(record, seen, out).await;
        };
        let Candidate { which, seen } = self.meant(candidates, named)?;
        match which {
            Which::Active(_) => self.end_active(record, seen, out).await,
            Which::Former(number, former) => self.end_former(record, number, former, seen, out).await,
            Which::Next(place) => bail!(
                "{} does not issue yet: `ichor-broker ca rotate {cluster} --abandon --reason …` drops it, and the log refuses it from then \
                 on",
                place.said()
            ),
            Which::Gone => {
                let is_named = seen.as_ref().is_some_and(|seen| !self.known.is_retired(cluster, &seen.fingerprint));
                if is_named {
                    // a command that failed beside the one that ended it had the log name it again
                    let message = "CA retired as compromised, which is out of custody already".to_owned();
                    let digests = numbered(seen.iter(), &[]);
                    self.desk.record(Deed { digests, ..self.deed(message) }).await?;
                    writeln!(out, "the log refuses that CA from now on")?;
                }
                writeln!(
                    out,
                    "no record leads to that CA any more: it was retired or dropped before; {}",
                    in_force(record)
                )?;
                self.aftermath(None, record, out)
            }
        }
    }

    /// The cluster's CAs, the one in force first.
    async fn candidates<'a>(&self, record: &'a Record) -> Vec<Candidate<'a>> {
        let mut found = Vec::new();
        if record.active != Place::Retired {
            found.push(Candidate { which: Which::Active(&record.active), seen: self.seen(&record.active).await });
        }
        if let Some(next) = record.next() {
            found.push(Candidate { which: Which::Next(next), seen: self.seen(next).await });
        }
        for (number, former) in record.former.iter().enumerate() {
            let which = Which::Former(number, former);
            match self.seen_before(former).await {
                none if none.is_empty() => found.push(Candidate { which, seen: None }),
                seen => found.extend(seen.into_iter().map(|seen| Candidate { which, seen: Some(seen) })),
            }
        }
        let gone = record.retired.iter().filter_map(|pem| Seen::of_pem(pem));
        found.extend(gone.map(|seen| Candidate { which: Which::Gone, seen: Some(seen) }));
        found
    }

    /// The one of them whose fingerprint begins so. One that cannot be read is meant where it alone can be the CA that the log names.
    fn meant<'a>(&self, candidates: Vec<Candidate<'a>>, named: &str) -> anyhow::Result<Candidate<'a>> {
        let cluster = self.cluster;
        let fits = |fingerprint: &str| fingerprint.starts_with(named);
        let mut found: Vec<&str> = candidates.iter().filter_map(Candidate::fingerprint).filter(|it| fits(it)).collect();
        found.sort_unstable();
        found.dedup();
        if found.len() > 1 {
            bail!("more than one CA has a certificate whose SHA-256 begins so; give more of it: {}", said(&candidates));
        }
        let listed = said(&candidates);
        if let [fingerprint] = found.as_slice() {
            let fingerprint = (*fingerprint).to_owned();
            let mut candidates = candidates.into_iter();
            let meant = candidates.find(|candidate| candidate.fingerprint() == Some(&fingerprint));
            return meant.ok_or_else(|| anyhow::anyhow!("no CA has that certificate"));
        }
        let logged: Vec<_> = self.known.in_use(cluster).filter(|it| fits(it)).collect();
        let [fingerprint] = logged.as_slice() else {
            bail!("cluster `{cluster}` has no CA with such a certificate; there are: {listed}")
        };
        let mut unread: Vec<_> = candidates.into_iter().filter(|candidate| candidate.seen.is_none()).collect();
        let secret = self.known.secret_of(cluster, fingerprint);
        let is_logged = |it: &Candidate<'_>| secret.is_some() && it.place().and_then(Place::in_kv).as_deref() == secret;
        if unread.iter().any(is_logged) {
            unread.retain(is_logged);
        }
        let (first, more) = {
            let mut unread = unread.into_iter();
            (unread.next(), unread.next())
        };
        match (first, more) {
            (Some(only), None) => {
                let seen = Seen { fingerprint: (*fingerprint).to_owned(), certificate: None };
                Ok(Candidate { seen: Some(seen), ..only })
            }
            (Some(_), Some(_)) => bail!(
                "which CA of cluster `{cluster}` that is cannot be told while their custody cannot be read; where a rotation is under way, \
                 `ichor-broker ca rotate {cluster} --abandon --reason …` drops its CA, then retire the one in force: {listed}"
            ),
            (None, _) => bail!("cluster `{cluster}` has no CA with such a certificate; there are: {listed}"),
        }
    }

    /// The CA in force issues no more. Its digest comes first: from then on the log refuses it everywhere, whatever ends this command.
    async fn end_active(&self, record: &Record, seen: Option<Seen>, out: &mut dyn Write) -> anyhow::Result<bool> {
        let (cluster, sealer) = (self.cluster, self.custody.vault().sealer());
        let mut next = record.next().cloned().unwrap_or(Place::Retired);
        // no rotation makes the same CA again: who writes the folder would have it stay in force
        if let (Some(it), Some(comes)) = (&seen, self.seen(&next).await)
            && it.fingerprint == comes.fingerprint
        {
            writeln!(
                out,
                "by the record the CA to come is the same, which no rotation makes: look at who writes the vault's folder"
            )?;
            next = Place::Retired;
        }
        let place = record.active.said();
        let deed = Deed {
            digests: numbered(seen.iter(), &[]),
            ..self.deed(format!("CA retired as compromised: {place}; from now on: {}", next.said()))
        };
        // its custody may be what is lost
        let certificate = seen.as_ref().and_then(|seen| seen.certificate.clone());
        let retired = record.compromised_by(next.clone(), self.now, certificate);
        let done = async || {
            retired.replace(sealer.dir(), cluster, record)?;
            if let Some(file) = record.active.file() {
                sealer.set_aside(file, Aside::Retired)?;
            }
            Ok(())
        };
        self.desk.act(deed, "what of it was done stays; run the same command again", done).await?;
        match &next {
            Place::Retired => {
                writeln!(
                    out,
                    "{place} issues no more, and nothing is issued for the cluster until a new CA is there:"
                )?;
                writeln!(out, "  ichor-broker ca create {cluster} --replace --reason …")?;
            }
            next => {
                writeln!(out, "{place} issues no more; from now on: {}", next.said())?;
                writeln!(out, "No node was asked whether it accepts that one; for those that do not yet:")?;
                writeln!(out, "  ichor-broker ca patch {cluster} > accepted-ca.yaml")?;
                writeln!(out, "  talosctl -n NODE patch machineconfig --patch @accepted-ca.yaml")?;
            }
        }
        if seen.is_none() {
            writeln!(
                out,
                "its certificate cannot be read, so the log has no digest by which one that is put back is refused"
            )?;
        }
        self.aftermath(Some(&record.active), &retired, out)
    }

    /// A CA that issued before is compromised: the log refuses it from now on, and its file is set aside. Also the end of what a
    /// command was ended in. What is in force stays.
    async fn end_former(
        &self,
        record: &Record,
        number: usize,
        former: &Former,
        seen: Option<Seen>,
        out: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let (cluster, sealer) = (self.cluster, self.custody.vault().sealer());
        let (place, in_force) = (former.place.said(), in_force(record));
        let is_known = seen.as_ref().is_some_and(|seen| self.known.is_retired(cluster, &seen.fingerprint));
        if former.compromised && is_known && !self.has_file(former) {
            writeln!(out, "{place} was retired as compromised before, and nothing is left to do; {in_force}")?;
            return self.aftermath(Some(&former.place), record, out);
        }
        let mut after = record.clone();
        if let Some(former) = after.former.get_mut(number) {
            former.compromised = true;
            former.certificate = former.certificate.take().or_else(|| seen.as_ref()?.certificate.clone());
        }
        let message = match former.compromised {
            true => format!("CA retired as compromised, ended before it was done: {place}"),
            false => format!("former CA retired as compromised: {place}; as before, {in_force}"),
        };
        let deed = Deed { digests: numbered(seen.iter(), &[]), ..self.deed(message) };
        let done = async || {
            after.replace(sealer.dir(), cluster, record)?;
            if let Some(file) = former.place.file() {
                sealer.set_aside(file, Aside::Retired)?;
            }
            Ok(())
        };
        self.desk.act(deed, "what of it was done stays; run the same command again", done).await?;
        match former.compromised {
            true if former.place.file().is_some() => {
                writeln!(out, "{place} was retired before, and its key is set aside now")?;
            }
            true => writeln!(out, "{place} was retired before, and the log refuses it from now on")?,
            false => writeln!(out, "{place}, which issued before, is refused from now on")?,
        }
        if record.active != Place::Retired {
            writeln!(
                out,
                "{in_force} as before; where it is compromised too, run this again with `--certificate` and its SHA-256"
            )?;
        }
        self.aftermath(Some(&former.place), record, out)
    }

    /// What is left to do at the nodes; whether that is a patch.
    fn aftermath(&self, place: Option<&Place>, after: &Record, out: &mut dyn Write) -> anyhow::Result<bool> {
        if place != Some(&Place::TalosApi) {
            writeln!(
                out,
                "Certificates it signed, and any a stranger signs with it, work until the nodes stop to accept it."
            )?;
            writeln!(out, "Take it out of every node now; for each node:")?;
            return Ok(true);
        }
        writeln!(
            out,
            "Nothing revokes a Talos certificate: whoever has a copy of that credential has the cluster until its own CA is another.\n\
             \u{20} 1. `talosctl rotate-ca --talos --kubernetes=false` ends every certificate that the old CA ever signed"
        )?;
        if after.active == Place::Retired {
            write!(
                out,
                "\u{20} 2. put the new CA into clusters/{}.toml, and adopt a new credential:\n{}",
                self.cluster,
                adopt::anew(self.cluster, "compromised")
            )?;
        }
        Ok(false)
    }

    /// Whether the former CA's key lies in a file of the vault, under a name that can be opened.
    fn has_file(&self, former: &Former) -> bool {
        former.place.file().is_some() && !self.custody.vault().sealer().lacks_key_of(&former.place)
    }
}

// === impl Candidate ===

impl Candidate<'_> {
    fn fingerprint(&self) -> Option<&str> {
        self.seen.as_ref().map(|seen| seen.fingerprint.as_str())
    }

    fn place(&self) -> Option<&Place> {
        match self.which {
            Which::Active(place) | Which::Next(place) => Some(place),
            Which::Former(_, former) => Some(&former.place),
            Which::Gone => None,
        }
    }
}

/// The CAs, for people.
fn said(candidates: &[Candidate<'_>]) -> String {
    let lines = candidates.iter().map(|candidate| {
        let fingerprint = candidate.fingerprint().unwrap_or("that cannot be read");
        match candidate.which {
            Which::Active(place) => format!("in force is {}, sha256 {fingerprint}", place.said()),
            Which::Next(place) => format!("to come by the rotation is {}, sha256 {fingerprint}", place.said()),
            Which::Former(_, former) => {
                let why = if former.compromised { "retired as compromised" } else { "in force before" };
                format!("{why} was {}, sha256 {fingerprint}", former.place.said())
            }
            Which::Gone => format!("out of custody is sha256 {fingerprint}"),
        }
    });
    lines.collect::<Vec<_>>().join("; ")
}

/// What is in force, for people.
fn in_force(record: &Record) -> String {
    match &record.active {
        Place::Retired => "none is in force".into(),
        place => format!("{} is in force", place.said()),
    }
}
