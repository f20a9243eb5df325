//! What an operator applies to nodes: patches on `machine.acceptedCAs`, each with its check.
//!
//! Talos merges lists by appending, so applying a patch twice lists a CA twice; and one element cannot be deleted, only the
//! whole list, other people's CAs with it. So a removal deletes the list and adds again what stays, in one command.

use std::path::Path;

use ichor_wire::profile::{CaCertificate, CaError, pem};

use super::documents::{self, DocumentError, Pair};
use crate::domain::ClusterName;

/// Takes CAs out of a node's `machine.acceptedCAs` and leaves the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalPatch {
    /// Deletes the list.
    pub first: String,
    /// Adds again what stays; `None` when nothing does.
    pub second: Option<String>,
    /// How many other CAs stay.
    pub kept: usize,
}

/// The names of a removal's files.
const REMOVALS: [&str; 2] = ["remove-1.yaml", "remove-2.yaml"];

// === impl RemovalPatch ===

impl RemovalPatch {
    /// Its files: name and text.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = std::iter::once(self.first.as_str()).chain(self.second.as_deref());
        REMOVALS.into_iter().zip(texts)
    }

    /// Writes the files into the folder, and takes out what is there of another node's: it would be applied with them.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        for name in REMOVALS {
            match std::fs::remove_file(folder.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.files().try_for_each(|(name, text)| std::fs::write(folder.join(name), text))
    }

    /// What to do with the files in this folder, a line: `Apply both in one command:`, and that command; `NODE` is to be filled in.
    #[must_use]
    pub fn how(&self, folder: &Path) -> [String; 2] {
        let patches = self.files().map(|(name, _)| {
            format!(" --patch @{}", if folder == Path::new(".") { name.into() } else { folder.join(name) }.display())
        });
        let said = match self.second {
            Some(_) => "wrote the patches; {} other CAs stay. Apply both in one command:",
            None => "wrote the patch; {} other CAs stay. Apply it:",
        };
        let said = said.replace("{}", &self.kept.to_string());
        [said, format!("  talosctl -n NODE patch machineconfig{}", patches.collect::<String>())]
    }
}

/// Why there is no patch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// The machine config cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The CA cannot be read.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// No machine config.
    #[error(
        "this is not a machine config; get it with `talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}'`"
    )]
    NotAMachineConfig,
    /// More than one `machine` section.
    #[error("there is more than one machine config in this; give one node's")]
    Several,
    /// The CA is not in the list.
    #[error("this node does not accept the CA; nothing to remove")]
    NotThere,
    /// An entry of the list cannot be written again as it stands, so it would be lost.
    #[error("entry {0} of `machine.acceptedCAs` is not base64 of PEM; correct it first, so that it is not lost")]
    OddEntry(usize),
}

/// The patch that makes nodes accept client certificates of this CA. Apply it only where [`is_accepted`] says no.
///
/// # Errors
/// When the text is not one CA certificate.
pub fn apply_patch(ca_pem: &str) -> Result<String, PatchError> {
    Ok(CaCertificate::parse(ca_pem)?.accepting_patch())
}

/// Whether a node with this machine config accepts the CA already, by `machine.acceptedCAs` or as its own.
///
/// # Errors
/// When either cannot be read.
pub fn is_accepted(machine_config: &str, ca_pem: &str) -> Result<bool, PatchError> {
    let ca = CaCertificate::parse(ca_pem)?;
    let documents = documents::read(machine_config)?;
    let mut machines = documents.iter().filter_map(|d| d.machine.as_ref()).peekable();
    if machines.peek().is_none() {
        return Err(PatchError::NotAMachineConfig);
    }
    Ok(machines.any(|m| m.accepted.iter().flatten().chain(&m.ca).any(|pair| is(pair, &ca))))
}

/// What takes the CAs out of the node with this machine config, those of them that it lists, and leaves every other that it accepts.
///
/// The list is read from the node's own config and differs from node to node; make one removal for each.
///
/// # Errors
/// When the config cannot be read, lists none of the CAs, or something that could not be kept.
pub fn removal_patch(machine_config: &str, ca_pems: &[String]) -> Result<RemovalPatch, PatchError> {
    let cas = ca_pems.iter().map(|pem| CaCertificate::parse(pem)).collect::<Result<Vec<_>, _>>()?;
    let documents = documents::read(machine_config)?;
    let mut machines = documents.iter().filter_map(|d| d.machine.as_ref());
    let machine = machines.next().ok_or(PatchError::NotAMachineConfig)?;
    if machines.next().is_some() {
        return Err(PatchError::Several);
    }
    let mut found = false;
    let mut stay = Vec::new();
    for (index, pair) in machine.accepted.iter().flatten().enumerate() {
        if cas.iter().any(|ca| is(pair, ca)) {
            found = true;
        } else {
            // Only the certificate counts for trust; a key has no business in this list and is not written again.
            stay.push(verbatim(pair).ok_or(PatchError::OddEntry(index + 1))?);
        }
    }
    if !found {
        return Err(PatchError::NotThere);
    }
    let lines: String = stay.iter().map(|crt| format!("    - crt: {crt}\n")).collect();
    let second = (!stay.is_empty()).then(|| format!("machine:\n  acceptedCAs:\n{lines}"));
    Ok(RemovalPatch { first: "machine:\n  acceptedCAs:\n    $patch: delete\n".to_owned(), second, kept: stay.len() })
}

/// What `ca create` tells an operator: how nodes come to trust the CA, how that is undone, and what os:admin means. `at` is
/// what commands need to find the folder, as ` --dir broker`, or nothing; `place` is where its key lives.
///
/// # Errors
/// When the text is not one CA certificate.
pub fn created_text(cluster: &ClusterName, ca_pem: &str, place: &str, at: &str) -> Result<String, PatchError> {
    let ca = CaCertificate::parse(ca_pem)?;
    let (subject, end) = (ca.subject(), ca.not_after());
    Ok(format!(
        "The client CA of `{cluster}` is in custody ({place}): {subject}, until {end}.\n\
         No node trusts it yet. The patch that makes nodes trust it (it is public):\n\
         \n\
         \x20 ichor-broker ca patch {cluster}{at} > accepted-ca.yaml\n\
         \n\
         Then, for every node, control plane and workers:\n\
         \n\
         \x20 crt=$(sed -n 's/.*crt: //p' accepted-ca.yaml) && [ -n \"$crt\" ] &&\n\
         \x20 config=$(talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}') && [ -n \"$config\" ] &&\n\
         \x20 case $config in\n\
         \x20   *\"$crt\"*) echo 'NODE accepts it already' ;;\n\
         \x20   *) talosctl -n NODE patch machineconfig --patch @accepted-ca.yaml ;;\n\
         \x20 esac\n\
         \n\
         The check before the patch matters: applied twice, the CA is listed twice. Where the config cannot be read, nothing is\n\
         patched.\n\
         To end everything that this CA ever signed, take it out again. For every node this writes the patches, from the\n\
         node's own config, so that other CAs stay, and prints the command that applies them:\n\
         \n\
         \x20 talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}' > node.yaml\n\
         \x20 ichor-broker ca removal-patch {cluster} --machine-config node.yaml{at}\n\
         \n\
         It acts on new connections; open ones go on. node.yaml holds the node's secrets: remove it afterwards.\n\
         \n\
         Mind os:admin. Whoever held it may hold the cluster: with it one can read the cluster's own CA key at a node, mint\n\
         certificates of any life, and edit acceptedCAs. Taking this CA out does not undo that; `talosctl rotate-ca` does.\n\
         Grant it rarely, for minutes, with a reason and a fresh second factor, as the shipped policies do.\n"
    ))
}

/// What `ca rotate` tells an operator once the new CA is made. `at` is what commands need to find the folder.
///
/// # Errors
/// When the text is not one CA certificate.
pub fn rotating_text(cluster: &ClusterName, ca_pem: &str, place: &str, at: &str) -> Result<String, PatchError> {
    let ca = CaCertificate::parse(ca_pem)?;
    Ok(format!(
        "A new client CA of `{cluster}` is in custody ({place}): {}, until {}.\n\
         The old one issues until every node accepts the new one. The patch, for every node that does not have it yet:\n\
         \n\
         \x20 ichor-broker ca patch {cluster} --next{at} > accepted-ca.yaml\n\
         \x20 talosctl -n NODE patch machineconfig --patch @accepted-ca.yaml\n\
         \n\
         Applied twice, the CA is listed twice; `ca patch --next --machine-config FILE` looks first. It is public, and reads:\n\
         \n\
         {}\n",
        ca.subject(),
        ca.not_after(),
        apply_patch(ca_pem)?
    ))
}

/// What `ca rotate` tells an operator once the new CA is in force: `until` is when the last certificate of the old one ends.
#[must_use]
pub fn rotated_text(cluster: &ClusterName, place: &str, until: jiff::Timestamp, at: &str) -> String {
    format!(
        "The new CA issues from now on ({place}).\n\
         Certificates of the old one may be valid until {until}. After that take it out of every node:\n\
         \n\
         \x20 talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}' > node.yaml\n\
         \x20 ichor-broker ca removal-patch {cluster} --former --machine-config node.yaml{at}\n\
         \n\
         and then out of custody: `ichor-broker ca retire {cluster} --reason …{at}`.\n"
    )
}

/// Whether the pair's certificate is this one, however it is written.
fn is(pair: &Pair, ca: &CaCertificate) -> bool {
    let text = pair.crt.as_deref().and_then(|crt| documents::pem_text("crt", crt).ok());
    let blocks = text.and_then(|text| pem::blocks(&text).ok()).unwrap_or_default();
    blocks.iter().any(|block| block.label == "CERTIFICATE" && block.der.as_slice() == ca.der())
}

/// The entry's certificate on one line, if it is what belongs there; so nothing else gets into the YAML.
fn verbatim(pair: &Pair) -> Option<String> {
    let crt: String = pair.crt.as_deref()?.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let text = documents::pem_text("crt", &crt).ok()?;
    let holds_one = pem::blocks(&text).ok()?.iter().any(|block| block.label == "CERTIFICATE");
    holds_one.then_some(crt)
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;
    use crate::custody::ca::create;

    fn ca() -> String {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        create(&ClusterName::new("prod").unwrap(), now, 1).unwrap().certificate().pem()
    }

    fn config(cas: &[&str]) -> String {
        let mut text = String::from("version: v1alpha1\nmachine:\n  type: worker\n  acceptedCAs:\n");
        for pem in cas {
            text.push_str(&format!("    - crt: {}\n      key: \"\"\n", BASE64.encode(pem.as_bytes())));
        }
        format!("{text}---\napiVersion: v1alpha1\nkind: HostnameConfig\nhostname: n1\n")
    }

    #[test]
    fn a_patch_makes_what_the_check_finds() {
        let (ours, theirs) = (ca(), ca());
        let patch = apply_patch(&ours).unwrap();
        assert_eq!(is_accepted(&patch, &ours), Ok(true));
        assert_eq!(is_accepted(&patch, &theirs), Ok(false));
        // However the PEM was written.
        assert_eq!(is_accepted(&config(&[&ours.replace('\n', "\r\n")]), &ours), Ok(true));
        assert_eq!(is_accepted("hello: world\n", &ours), Err(PatchError::NotAMachineConfig));
    }

    #[test]
    fn a_removal_keeps_other_peoples_cas() {
        let (ours, one, two) = (ca(), ca(), ca());
        let removal = removal_patch(&config(&[&one, &ours, &two, &ours]), std::slice::from_ref(&ours)).unwrap();
        assert_eq!(removal.kept, 2);
        assert_eq!(removal.first, "machine:\n  acceptedCAs:\n    $patch: delete\n");
        let second = removal.second.clone().unwrap();
        assert_eq!(is_accepted(&second, &ours), Ok(false));
        assert_eq!(is_accepted(&second, &one), Ok(true));
        assert_eq!(is_accepted(&second, &two), Ok(true));
        assert!(removal.how(Path::new("")).concat().ends_with("--patch @remove-1.yaml --patch @remove-2.yaml"));
    }

    #[test]
    fn several_go_by_one_patch_those_that_are_there() {
        let (ours, next, other, elsewhere) = (ca(), ca(), ca(), ca());
        let config = config(&[&ours, &other, &next]);
        let removal = removal_patch(&config, &[next.clone(), elsewhere, ours.clone()]).unwrap();
        assert_eq!(removal.kept, 1);
        let second = removal.second.clone().unwrap();
        assert_eq!([&ours, &next, &other].map(|ca| is_accepted(&second, ca).unwrap()), [false, false, true]);
    }

    #[test]
    fn the_last_one_leaves_no_list() {
        let ours = ca();
        let removal = removal_patch(&config(&[&ours]), &[ours]).unwrap();
        assert_eq!((&removal.second, removal.kept), (&None, 0));
        // what another node's removal left is not applied to this one
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("remove-2.yaml"), "another node's").unwrap();
        removal.write(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("remove-1.yaml")).unwrap(), removal.first);
        assert!(!folder.path().join("remove-2.yaml").exists());
        let [said, command] = removal.how(Path::new("out"));
        assert!(
            said.ends_with("Apply it:") && command.ends_with("machineconfig --patch @out/remove-1.yaml"),
            "{command}"
        );
    }

    #[test]
    fn refuses_what_would_lose_something() {
        let (ours, theirs) = (ca(), ca());
        let removal = |config: &str| removal_patch(config, std::slice::from_ref(&ours));
        assert_eq!(removal(&config(&[&theirs])), Err(PatchError::NotThere));
        assert_eq!(removal("a: b\n"), Err(PatchError::NotAMachineConfig));
        assert_eq!(removal(&config(&[&ours, "not pem"])), Err(PatchError::OddEntry(2)));
        let two = format!("{}---\n{}", config(&[&ours]), config(&[&theirs]));
        assert_eq!(removal(&two), Err(PatchError::Several));
    }

    #[test]
    fn the_text_says_what_matters() {
        let ours = ca();
        let text = created_text(&ClusterName::new("prod").unwrap(), &ours, "age file prod.age", " --dir x").unwrap();
        for needed in
            ["ca patch prod --dir x > accepted-ca.yaml", "case $config", "os:admin", "rotate-ca", "open ones go on"]
        {
            assert!(text.contains(needed), "{needed}");
        }
    }

    #[test]
    fn a_rotation_prints_its_patch() {
        let ours = ca();
        let said = rotating_text(&ClusterName::new("prod").unwrap(), &ours, "age file", "").unwrap();
        let patch = apply_patch(&ours).unwrap();
        assert!(said.ends_with(&format!("and reads:\n\n{patch}\n")), "{said}");
    }
}
