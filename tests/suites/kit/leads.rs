//! Where what a kit opens connects to: recorded at its ceremony, and looked at in every drill.

use ichor_standins::address::Refusing;
use ichor_standins::node::{Node, NodeOptions};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_kit_that_leads_nowhere_is_told_at_its_ceremony_and_by_no_drill_taken_for_one_that_serves()
-> anyhow::Result<()> {
    let ceremony = Ceremony::begin().await?;
    let refusing = Refusing::take()?;
    let nowhere = refusing.address();
    let elsewhere = Node::start(NodeOptions::new("another-clusters")?).await?;
    for (number, endpoint) in [(1, nowhere), (2, elsewhere.endpoint())] {
        let said = ceremony.create_at(&endpoint, &WITNESSES).await?;
        assert!(said.contains(&format!("warn  endpoint {endpoint}: it cannot be asked")), "{said}");
        let kit_ca = ceremony.kit(number).unverified_facts().kit_ca.clone();
        for node in [&ceremony.world.node, &elsewhere] {
            node.set_accepted_cas(&kit_ca)?;
        }
        // the cluster as it is declared is all well
        let refused = ceremony.drill(number, &ALL).await.unwrap_err().to_string();
        let declared = format!("ok    node {}: accepts the kit's CA", ceremony.world.node.endpoint());
        assert!(refused.contains(&declared) && refused.contains("needs a whole drill still"), "{refused}");
        assert!(
            refused
                .contains(&format!("kit {number} opens leads to {endpoint}, and no node of the cluster answers there"))
                && refused.contains(&format!("kit rotate {number} --endpoint ADDRESS")),
            "{refused}"
        );
        let list = ceremony.run(&["list"]).await?;
        assert!(list.contains(&format!("kit {number}  prod  undrilled")), "{list}");
        assert!(list.contains(&format!("leads to: {endpoint}")), "{list}");
    }
    let entries = ceremony.world.entries().await?;
    let drills: Vec<_> = entries.iter().filter_map(|entry| entry.detail.get("accepting")).collect();
    assert_eq!(drills, ["1 of 2", "1 of 2"], "and the log says so");
    Ok(())
}

/// As talosctl does: it takes another endpoint where one is away.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_endpoints_of_a_kit_one_that_answers_is_enough() -> anyhow::Result<()> {
    let ceremony = Ceremony::begin().await?;
    let refusing = Refusing::take()?;
    let nowhere = refusing.address();
    let said = ceremony.create(&[&WITNESSES[..], &["--endpoint", &nowhere]].concat()).await?;
    let answering = ceremony.world.node.endpoint();
    assert!(said.contains(&format!("warn  endpoint {nowhere}")) && !said.contains(&format!("endpoint {answering}")));
    let entries = ceremony.world.entries().await?;
    let made = entries.iter().find(|entry| entry.kind == "kit-made").context("the ceremony is in the log")?;
    assert_eq!(made.detail["kit_leads_to"], format!("{answering} {nowhere}"));
    ceremony.world.node.set_accepted_cas(&ceremony.kit(1).unverified_facts().kit_ca)?;
    let said = ceremony.drill(1, &ALL).await?;
    assert!(said.contains(&format!("warn  node {nowhere}, to which the kit leads: it cannot be asked")), "{said}");
    assert!(said.contains("is drilled and recorded"), "{said}");
    Ok(())
}

/// A node that the kit leads to and nobody declared is asked as any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_the_kit_alone_leads_to_must_accept_its_ca() -> anyhow::Result<()> {
    let ceremony = Ceremony::begin().await?;
    let authority = ceremony.world.node.authority().clone();
    let undeclared = Node::start(NodeOptions { authority, ..NodeOptions::new("node-b")? }).await?;
    let said = ceremony.create_at(&undeclared.endpoint(), &WITNESSES).await?;
    assert!(!said.contains("warn"), "it answers, whatever it accepts: {said}");
    let kit_ca = ceremony.kit(1).unverified_facts().kit_ca.clone();
    ceremony.world.node.set_accepted_cas(&kit_ca)?;
    undeclared.set_accepted_cas(&ceremony.world.node.ca_pem())?;
    let refused = ceremony.drill(1, &ALL).await.unwrap_err().to_string();
    assert!(
        refused.contains(&format!("FAIL  node {}: does not accept the kit's CA", undeclared.endpoint())),
        "{refused}"
    );
    undeclared.set_accepted_cas(&kit_ca)?;
    assert!(ceremony.drill(1, &ALL).await?.contains("is drilled and recorded"));
    Ok(())
}
