//! What is printed at a ceremony, and what stands in the kit for who has nothing else.

use std::path::PathBuf;

use ichor_wire::kit::Facts;

use crate::domain::ClusterName;
use crate::kit::probe::ProbeError;

/// The instructions in the kit.
pub(super) fn instructions(number: u16, threshold: u8, cluster: &ClusterName, is_static: bool) -> String {
    let ends = if is_static {
        "   It lasts as long as the kit: remove it as soon as you are done, for nothing but `kit revoke` ends it before."
    } else {
        "   It ends by itself."
    };
    format!(
        "This kit gives access to the nodes of cluster `{cluster}` when Ichor itself cannot. It is loud: nodes log its use, and the\n\
         broker alarms until it is reported.\n\
         \n\
         1. Make sure that it is an emergency: talk to another holder, by voice.\n\
         2. Take a machine that reaches the nodes. It needs `ichor`, `talosctl` and this file, and no other network.\n\
         3. Bring {threshold} holders together, with their shares: files that they open with their own keys, or sheets of paper.\n\
         4. Run:  ichor kit open FILE --share SHARE --identity KEY …      (what is missing is asked for)\n\
         5. Do what is needed with the talosconfig that it writes.\n\
         {ends}\n\
         6. Afterwards:  ichor kit report  and, at the broker,  ichor-broker kit report FILE --label emergency\n\
            then  ichor-broker kit rotate {number}  and  ichor-broker kit revoke {number}\n"
    )
}

/// What `kit create` and `kit rotate` say. `at` is what commands need to find the folder.
pub(super) fn made(facts: &Facts, files: &[PathBuf], replaces: Option<u16>, at: &str) -> anyhow::Result<String> {
    let Facts { number, cluster, threshold, until, .. } = facts;
    let mut text = format!(
        "Kit {number} of cluster `{cluster}` is made and recorded: {threshold} of {} shares open it, until {until:.0}.\n",
        facts.shares.len()
    );
    text.push_str(&what_it_holds(facts));
    for file in files {
        text.push_str(&format!("  {}\n", file.display()));
    }
    text.push_str(
        "\nGive each holder their share and remove it here; print sheets, then remove them. Keep copies of the kit's file where it\n\
         is reached when everything is down: it is no secret by itself.\n",
    );
    text.push_str(&format!(
        "\nNo node trusts it yet. The patch, for every node, control plane and workers (applied twice, the CA is listed twice):\n\n{}\n\
         \x20 ichor-broker kit patch {number}{at} > accepted-kit.yaml\n\
         \x20 talosctl -n NODE patch machineconfig --patch @accepted-kit.yaml\n\
         \nThen see that nodes accept it, and that every holder can use their share: `ichor-broker kit drill {number}{at}`.\n",
        facts.kit_certificate()?.accepting_patch()
    ));
    if let Some(old) = replaces {
        text.push_str(&format!(
            "\nOnce nodes accept it, end the old one: `ichor-broker kit revoke {old} --reason …{at}`. Its shares are worthless once no node accepts its CA.\n"
        ));
    }
    Ok(text)
}

/// What is said of an endpoint of a kit's at which no node of the cluster answers.
pub(super) fn unanswered(endpoint: &str, why: &ProbeError, number: u16) -> String {
    format!(
        "\nwarn  endpoint {endpoint}: {why}. What is opened connects there. Away from the cluster's network this says nothing: see that the\n\
         \x20     address is right, and what `ichor-broker kit drill {number}` says; if it is not, run the ceremony again with the right `--endpoint`.\n"
    )
}

/// What is sealed in it, and what a static kit gives away.
fn what_it_holds(facts: &Facts) -> String {
    if !facts.is_static() {
        return "Its key is in the kit's file, sealed, and nowhere else.\n\n".to_owned();
    }
    let roles: Vec<&str> = facts.roles.iter().map(|role| role.as_str()).collect();
    let (roles, until, user) = (roles.join(" and "), facts.until, facts.fixed_user());
    format!(
        "It is static: one client certificate and its key are in the kit's file, sealed, and nowhere else. The CA's key signed it and is\n\
         wiped, so this CA will never sign anything more. What a static kit gives away:\n\
         \x20 - whoever opens it holds {roles} until {until:.0}, not for minutes, and copies of it last as long;\n\
         \x20 - nodes log every opener as user:{user}: who it was, the record alone says, by their own word;\n\
         \x20 - nothing but the patch of `kit revoke` ends it before, for everyone who has it.\n\n"
    )
}
