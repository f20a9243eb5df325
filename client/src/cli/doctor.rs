//! `ichor doctor`

use ichor_wire::api::CertificateAnswer;
use ichor_wire::profile::CaCertificate;
use jiff::Timestamp;
use serde::Serialize;

use super::status::left;
use super::terminal::{Terminal, Tone};
use super::{Here, WishArgs, block_on};
use crate::broker::Broker;
use crate::certificate::Held;
use crate::error::{EXIT_FAILED, EXIT_OK, EXIT_UNREACHABLE, Error};
use crate::node::{NodeClient, Verdict};
use crate::settings::Settings;
use crate::talosconfig;

/// How far this clock may be from the broker's without a word, in seconds: proofs are dated, and a broker takes a minute.
const SKEW: i64 = 20;

/// Find out what stands in the way: at the broker, and with CLUSTER at each of its endpoints and nodes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The cluster whose endpoints and nodes are called
    cluster: Option<String>,
    #[command(flatten)]
    wish: WishArgs,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
    says: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    help: Vec<String>,
    /// Whether the patch of the certificate's CA would help.
    #[serde(skip)]
    patch: bool,
    /// Whether the broker, or what it needs, is out of reach.
    #[serde(skip)]
    is_out_of_reach: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    ok: bool,
    findings: &'a [Finding],
    /// What makes nodes accept the certificate's CA, where one does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'a str>,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let settings = Settings::find(&here.around.environment, &here.flags)?;
    let broker = here.broker()?;
    let mut patch = None;
    let mut findings = vec![Finding::good("settings", format!("broker {} from {}", broker.url(), settings.source))];
    findings.push(talosconfig_finding(here));
    findings.extend(block_on(async { Ok(broker_findings(here, &broker).await) })?);
    if let Some(cluster) = &args.cluster {
        let waiting = here.around.terminal.waiting(format!("calling the nodes of {cluster}"));
        let found = block_on(async {
            let held = here.held(&broker, &args.wish.wish(cluster)).await?;
            let found = node_findings(&held, here.around.clock.now()).await?;
            let patch = found.iter().any(|finding| finding.patch).then(|| accepting_patch(&held.answer)).flatten();
            Ok((found, patch))
        });
        drop(waiting);
        match found {
            Ok((found, needed)) => {
                findings.extend(found);
                patch = needed;
            }
            Err(error) => findings.push(Finding::bad(&format!("certificate for {cluster}"), &error)),
        }
    }
    let well = findings.iter().all(|finding| finding.ok);
    here.print(&Report { ok: well, findings: &findings, patch: patch.as_deref() }, |terminal| {
        findings.iter().try_for_each(|finding| show(terminal, finding))?;
        patch.iter().try_for_each(|patch| terminal.text(&format!("\naccepted-ca.yaml (it is public):\n\n{patch}")))
    })?;
    Ok(match findings.iter().any(|finding| finding.is_out_of_reach) {
        true => EXIT_UNREACHABLE,
        false if well => EXIT_OK,
        false => EXIT_FAILED,
    })
}

// === impl Finding ===

impl Finding {
    fn good(what: &str, says: impl Into<String>) -> Self {
        let (what, says, help) = (what.into(), says.into(), Vec::new());
        Self { what, ok: true, says, help, patch: false, is_out_of_reach: false }
    }

    fn bad(what: &str, error: &Error) -> Self {
        let is_out_of_reach = error.exit_code() == EXIT_UNREACHABLE;
        Self { ok: false, help: error.next_steps(), is_out_of_reach, ..Self::good(what, error.to_string()) }
    }
}

fn talosconfig_finding(here: &Here) -> Finding {
    let read =
        talosconfig::readable(&here.around.environment, None).and_then(|path| Ok((talosconfig::read(&path)?, path)));
    match read {
        Ok((file, path)) => {
            let contexts = match file.names().count() {
                1 => "1 context".to_owned(),
                count => format!("{count} contexts"),
            };
            Finding::good("talosconfig", format!("{} has {contexts}", path.display()))
        }
        Err(error) => Finding::bad("talosconfig", &error),
    }
}

async fn broker_findings(here: &Here, broker: &Broker) -> Vec<Finding> {
    let mut findings = Vec::new();
    match broker.metadata().await {
        Ok(_) => findings.push(Finding::good("broker", "reachable, and its certificate is trusted")),
        Err(error) => return vec![Finding::bad("broker", &error)],
    }
    if let Some(skew) = broker.clock_skew() {
        let mut finding = Finding::good("clock", format!("{} s from the broker's", skew.abs()));
        if skew.abs() > SKEW {
            let side = if skew > 0 { "behind" } else { "ahead of" };
            finding = Finding {
                ok: false,
                says: format!("this clock is {} s {side} the broker's", skew.abs()),
                help: vec!["set this machine's clock".into()],
                ..finding
            };
        }
        findings.push(finding);
    }
    let session = match here.sessions().and_then(|store| store.load(broker)) {
        Ok(session) => session.describe().await,
        Err(error) => Err(error),
    };
    findings.push(match session {
        Ok(session) => Finding::good(
            "session",
            format!("{}, ends {}", session.name, left(session.expires_at, here.around.clock.now())),
        ),
        Err(error) => Finding::bad("session", &error),
    });
    findings
}

/// Every endpoint by itself, and every node through the first endpoint that took the certificate.
async fn node_findings(held: &Held, now: Timestamp) -> Result<Vec<Finding>, Error> {
    let client = NodeClient::new(held)?;
    let mut findings = Vec::new();
    let mut through = None;
    for endpoint in &held.answer.endpoints {
        let verdict = client.version(endpoint, None).await;
        if matches!(verdict, Verdict::Accepted { .. }) {
            through = through.or(Some(endpoint));
        }
        findings.push(finding(&format!("endpoint {endpoint}"), verdict, held, now));
    }
    for node in &held.answer.nodes {
        let what = format!("node {node}");
        findings.push(match through {
            Some(endpoint) => finding(&what, client.version(endpoint, Some(node)).await, held, now),
            None => Finding { ok: false, ..Finding::good(&what, "not called: no endpoint took the certificate") },
        });
    }
    if held.answer.endpoints.is_empty() {
        let error = Error::failed("the broker knows no endpoint of this cluster", "tell the broker's operator");
        findings.push(Finding::bad("endpoints", &error));
    }
    Ok(findings)
}

fn finding(what: &str, verdict: Verdict, held: &Held, now: Timestamp) -> Finding {
    let cluster = &held.answer.cluster;
    let bad = |says: String, help: Vec<String>| Finding { ok: false, help, ..Finding::good(what, says) };
    match verdict {
        Verdict::Accepted { version, rbac: true } => Finding::good(what, format!("accepted, Talos {version}")),
        Verdict::Accepted { version, rbac: false } => bad(
            format!("accepted, but RBAC is off (Talos {version}): here every certificate is os:admin"),
            vec!["set `machine.features.rbac: true` in the machine configuration".into()],
        ),
        Verdict::UntrustedCa => {
            Finding { patch: true, ..bad("the certificate's CA is not in acceptedCAs".into(), untrusted_steps(held)) }
        }
        Verdict::ClockOff => {
            let margin = now
                .duration_since(held.answer.not_before)
                .as_secs()
                .min(held.answer.not_after.duration_since(now).as_secs());
            bad(
                format!("clock off by {} s or more: it holds the certificate for expired or not yet valid", margin.max(1)),
                vec!["compare this machine's clock, the broker's (`ichor doctor`) and the node's (`talosctl time`, on its console)".into()],
            )
        }
        Verdict::Refused(why) => bad(
            format!("accepted, but the call was refused: {why}"),
            vec!["ask for a role that may call `version`, as `--role reader`".into()],
        ),
        Verdict::NotTheCluster(why) => bad(
            format!("not a node of {cluster}: {why}"),
            vec!["compare the cluster's endpoints and CA at the broker".into()],
        ),
        Verdict::Unreachable(why) => bad(
            format!("unreachable: {why}"),
            vec!["check the network, a VPN, and that port 50000 is open to you".into()],
        ),
    }
}

fn untrusted_steps(held: &Held) -> Vec<String> {
    let cluster = &held.answer.cluster;
    vec![match accepting_patch(&held.answer) {
        Some(_) => "an os:admin there applies the patch below, once to each such node: \
                    `talosctl -n NODE patch machineconfig --patch @accepted-ca.yaml`"
            .into(),
        None => format!("apply the patch that `ichor-broker ca patch {cluster}` prints"),
    }]
}

/// The patch for the CA that the broker names, as `ichor-broker ca patch` prints it. `None` where it names none, as an older
/// broker does, or one that did not sign the certificate: nodes would be told to trust a CA that has no part in this.
fn accepting_patch(answer: &CertificateAnswer) -> Option<String> {
    let ca = CaCertificate::parse(answer.issuing_ca.as_deref()?).ok()?;
    let (_, issuer) = x509_parser::parse_x509_certificate(ca.der()).ok()?;
    let pem = x509_parser::pem::Pem::iter_from_buffer(answer.certificate.as_bytes()).find_map(Result::ok)?;
    let certificate = pem.parse_x509().ok()?;
    certificate.verify_signature(Some(issuer.public_key())).ok()?;
    Some(ca.accepting_patch())
}

fn show(terminal: &mut Terminal, finding: &Finding) -> std::io::Result<()> {
    let mark = if finding.ok { (Tone::Good, "✓") } else { (Tone::Bad, "✗") };
    terminal.toned_line(&[mark, (Tone::Plain, &format!(" {}: {}", finding.what, finding.says))])?;
    finding.help.iter().try_for_each(|step| terminal.line(&format!("    → {step}")))
}
