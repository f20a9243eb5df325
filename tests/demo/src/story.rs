//! What happens, in order. Everything that is claimed is checked: a step that does not go as told ends the demo with an error.

use anyhow::{Context as _, bail, ensure};
use ichor_standins::node::Node;
use ichor_wire::role::Role;

use crate::broker::Broker;
use crate::call::{Caller, Outcome, Verb};
use crate::cast::{ADA, Actor, OTTO, UMA};
use crate::emergency::{self, Kit};
use crate::person::{Person, explained};
use crate::transcript::Transcript;
use crate::world::{CLUSTER, World};

/// Why the operator reboots: in production the shipped policies want to know.
const MAINTENANCE: &str = "CHG-7 new kernel";

/// Why the admin needs the cluster.
const INCIDENT: &str = "INC-42 etcd lost a member";

/// Tells the whole story, but for its end: a kit, which opens once the broker has stopped.
///
/// # Errors
/// At the first thing that goes otherwise than told.
pub(crate) async fn tell(
    world: &World,
    broker: &Broker,
    caller: &Caller,
    transcript: &mut Transcript,
) -> anyhow::Result<Option<Kit>> {
    let mut stage = Stage { world, broker, caller, transcript };
    stage.scene();
    let (uma, uma_grant) = stage.reader().await?;
    let otto_grant = stage.operator().await?;
    let ada = stage.admin().await?;
    stage.who_did_what(&ada, &[&uma_grant, &otto_grant]).await?;
    drop(uma);
    emergency::break_the_glass(world, broker, caller, transcript).await?;
    emergency::make_kit(world, broker, transcript).await
}

struct Stage<'a> {
    world: &'a World,
    broker: &'a Broker,
    caller: &'a Caller,
    transcript: &'a mut Transcript,
}

// === impl Stage ===

impl Stage<'_> {
    fn scene(&mut self) {
        self.transcript.part("Ichor, all of it, on this machine");
        self.transcript.says(&format!("provider   {}  (throwaway; no passwords)", self.world.provider.issuer()));
        self.transcript.says(&format!(
            "broker     {}  (SQLite and an age vault in a temporary folder)",
            self.broker.url.as_str().trim_end_matches('/')
        ));
        let nodes = self.world.endpoints().join(" and ");
        self.transcript.says(&format!("nodes      {nodes}  (simulated Talos; they accept the broker's client CA)"));
        self.transcript.says(match self.caller {
            Caller::Talosctl(_) => "calls      by the talosctl on your PATH",
            Caller::BuiltIn => "calls      by a small built-in client: there is no talosctl on your PATH",
        });
    }

    async fn reader(&mut self) -> anyhow::Result<(Person, String)> {
        self.transcript.part("Uma may look");
        let uma = self.log_in(UMA).await?;
        let grant = self.talosconfig(UMA, &uma, Role::Reader, None).await?;
        let [first, second] = self.targets();
        self.succeeds(UMA, &uma, &first, Verb::Version).await?;
        self.succeeds(UMA, &uma, &second, Verb::Dmesg).await?;
        let refused = self.call(UMA, &uma, &first, Verb::Reboot).await?;
        ensure!(!refused.ok && refused.text.contains("PermissionDenied"), "a reader rebooted a node: {}", refused.text);
        self.transcript.refused("the node refuses: her certificate carries os:reader");
        self.transcript.types(UMA.login, &typed(Role::Operator, None));
        let Err(error) = uma.write_talosconfig(Role::Operator, None).await else {
            bail!("a reader was given os:operator")
        };
        self.transcript.prints(&explained(&error).to_string());
        self.transcript.refused("the broker refuses, and says what she may hold");
        Ok((uma, grant))
    }

    async fn operator(&mut self) -> anyhow::Result<String> {
        self.transcript.part("Otto may reboot, and in production says why");
        let otto = self.log_in(OTTO).await?;
        let grant = self.talosconfig(OTTO, &otto, Role::Operator, Some(MAINTENANCE)).await?;
        let [first, _] = self.targets();
        self.succeeds(OTTO, &otto, &first, Verb::Reboot).await?;
        ensure!(
            self.world.nodes.iter().map(Node::reboots).sum::<u64>() == 1,
            "the nodes counted other reboots than Otto's"
        );
        Ok(grant)
    }

    async fn admin(&mut self) -> anyhow::Result<Person> {
        self.transcript.part("Ada may do everything, a quarter of an hour at a time, and says why");
        let ada = self.log_in(ADA).await?;
        self.transcript.types(ADA.login, &typed(Role::Admin, None));
        let Err(error) = ada.write_talosconfig(Role::Admin, None).await else {
            bail!("os:admin was given without a reason")
        };
        self.transcript.prints(&explained(&error).to_string());
        self.transcript.refused("not without a reason");
        self.talosconfig(ADA, &ada, Role::Admin, Some(INCIDENT)).await?;
        Ok(ada)
    }

    async fn who_did_what(&mut self, ada: &Person, grants: &[&str]) -> anyhow::Result<()> {
        self.transcript.part("Who got what");
        self.transcript.types(ADA.login, "ichor audit log");
        let entries = ada.audit().await?;
        for entry in entries.iter().filter(|entry| entry.user.is_some()) {
            let user = entry.user.as_deref().unwrap_or_default();
            let told = entry.detail.get("roles").or_else(|| entry.detail.get("message")).map_or("", String::as_str);
            let line = format!(
                "{:<3}  {}  {:<10}  {user:<20} {told}",
                entry.index,
                entry.time.strftime("%H:%M:%S"),
                entry.kind
            );
            self.transcript.prints(&line);
        }
        for grant in grants {
            let known =
                |kind| entries.iter().any(|e| e.kind == kind && e.grant_id.is_some_and(|id| id.to_string() == **grant));
            ensure!(known("grant") && known("issued"), "the audit does not know grant {grant}");
        }
        self.transcript.part("Who touched which node, as the node's own log has it");
        for (node, name) in self.world.nodes.iter().zip(&self.world.targets) {
            for line in node.log_lines().iter().filter(|line| line.contains("Reboot]")) {
                self.transcript.prints(&shortened(name, line));
            }
        }
        let named = self.world.nodes.iter().flat_map(Node::log_lines).filter(|line| {
            line.contains("Reboot]")
                && line.contains("Success")
                && grants.iter().any(|grant| line.contains(&format!("grant:{grant}")))
        });
        ensure!(named.count() == 1, "no node's log names the grant behind the reboot");
        self.transcript.good("the log of the node names person and grant; the grant is in the audit");
        Ok(())
    }

    async fn log_in(&mut self, actor: Actor) -> anyhow::Result<Person> {
        self.transcript.types(actor.login, "ichor login");
        let person = Person::log_in(actor, self.broker, self.world.folder())
            .await
            .with_context(|| format!("{}'s login", actor.login))?;
        let hours = (person.told.expires_at.as_second() - person.told.groups_at.as_second() + 1800) / 3600;
        self.transcript.good(&format!(
            "signed in as {} ({}); terminal and page both showed {}; for {hours} h",
            person.told.user,
            person.told.groups.join(", "),
            person.number,
        ));
        Ok(person)
    }

    async fn talosconfig(
        &mut self,
        actor: Actor,
        person: &Person,
        role: Role,
        reason: Option<&str>,
    ) -> anyhow::Result<String> {
        self.transcript.types(actor.login, &typed(role, reason));
        let wrote = person.write_talosconfig(role, reason).await.map_err(|error| explained(&error))?;
        ensure!(wrote.roles == [role], "other roles than asked for: {:?}", wrote.roles);
        self.transcript
            .good(&format!("context `{CLUSTER}` written: {role} for {} min, grant {}", wrote.minutes, wrote.grant));
        Ok(wrote.grant)
    }

    async fn succeeds(&mut self, actor: Actor, person: &Person, target: &str, verb: Verb) -> anyhow::Result<()> {
        let outcome = self.call(actor, person, target, verb).await?;
        ensure!(outcome.ok, "{} was refused: {}", verb.name(), outcome.text);
        self.transcript.good("the node did it");
        Ok(())
    }

    async fn call(&mut self, actor: Actor, person: &Person, target: &str, verb: Verb) -> anyhow::Result<Outcome> {
        self.transcript.types(actor.login, &format!("talosctl -n {target} {}", verb.name()));
        let outcome = self.caller.call(&person.talosconfig, CLUSTER, target, verb).await?;
        self.transcript.prints(&outcome.text);
        Ok(outcome)
    }

    fn targets(&self) -> [String; 2] {
        self.world.targets.clone()
    }
}

/// The command line for a role; os:reader needs no naming.
fn typed(role: Role, reason: Option<&str>) -> String {
    let mut line = format!("ichor talosconfig {CLUSTER}");
    if role != Role::Reader {
        line.push_str(&format!(" --role {role}"));
    }
    if let Some(reason) = reason {
        line.push_str(&format!(" --reason \"{reason}\""));
    }
    line
}

/// A node's log line with the metadata cut down to the roles.
fn shortened(node: &str, line: &str) -> String {
    let head = line.split(" (").next().unwrap_or_default();
    let roles = line.split(['(', ';', ')']).find(|pair| pair.starts_with("talos-role=")).unwrap_or_default();
    format!("{node}  {head} (… {roles} …)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_down_to_what_matters() {
        let line = "machined 2026/11/22 16:01:11 OK [/m.S/Reboot] 9µs unary Success (a=b;talos-role=os:operator,user:otto;z=y)";
        let short = "node-a  machined 2026/11/22 16:01:11 OK [/m.S/Reboot] 9µs unary Success (… talos-role=os:operator,user:otto …)";
        assert_eq!(shortened("node-a", line), short);
        assert_eq!(typed(Role::Admin, Some("x")), "ichor talosconfig demo --role os:admin --reason \"x\"");
    }
}
