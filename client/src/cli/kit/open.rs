//! `ichor kit open`

use std::path::{Path, PathBuf};

use ichor_wire::kit::{Facts, Gathered};
use ichor_wire::role::Role;
use serde_json::json;

use super::wanted::{Given, wanted};
use super::{ShareArgs, gather};
use crate::cli::{Here, role, seconds};
use crate::error::Error;
use crate::kit::{LocallyRecorded, Machine, Opened, check_time, folder, read};
use crate::private_file;

/// Open a kit with the shares of its holders, and write a talosconfig with a short-lived certificate
///
/// Before a certificate exists, a record of who opens the kit, and why, is on this machine's disk, signed by the kit's key.
/// Nodes log the use by name and grant, and a broker that hears of it alarms until the record is brought back:
/// `ichor kit report`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The kit's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    shares: ShareArgs,
    /// Your name, as nodes are to log it: `user:claimed:NAME`
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// A role to hold, of those that the kit gives; several by comma or repetition [default: its only one]
    #[arg(long = "role", value_name = "ROLE", value_parser = role, value_delimiter = ',')]
    roles: Vec<Role>,
    /// How long the certificate is good, as 30m; of a static kit, how long you say to need it [default: as long as the kit allows]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    ttl: Option<u64>,
    /// The file to write, which must not exist [default: kit-NUMBER.talosconfig, here]
    #[arg(long, value_name = "FILE")]
    talosconfig: Option<PathBuf>,
    /// The folder for the record [default: ~/.local/state/ichor/kit-records]
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let file = read(&args.file)?;
    let facts: Facts = file.unverified_facts().clone();
    let path = args.talosconfig.clone().unwrap_or_else(|| PathBuf::from(format!("kit-{}.talosconfig", facts.number)));
    // known before anyone brings a share
    if path.symlink_metadata().is_ok() {
        return Err(Error::failed(
            format!("`{}` exists already and is not overwritten", path.display()),
            "name another file with `--talosconfig`",
        ));
    }
    let records = match args.records.clone() {
        Some(records) => records,
        None => folder(&here.around.environment)?,
    };
    check_time(&facts, here.around.clock.now())?;
    takes_files(private_file::folder_of(&path), "--talosconfig FILE")?;
    takes_files(&records, "--records DIR")?;
    let until = facts.until;
    here.around.terminal.note(&format!("kit {} of cluster {}, good until {until:.0}", facts.number, facts.cluster));
    // what cannot be given is known before anyone brings a share
    let asked = wanted(here, &facts, Given { name: args.name, reason: args.reason, roles: args.roles, ttl: args.ttl })?;
    let gathered: Gathered = gather(here, &facts, &args.shares)?;
    let now = here.around.clock.now();
    let opened = Opened::open(&file, &gathered, now)?;
    drop(gathered);
    let grant = opened.grant(&asked, now)?;
    let machine = Machine { os_user: os_user(), host: here.around.host.clone() };
    let recorded = LocallyRecorded::record(&opened, grant, &machine, &records)?;
    let record = recorded.path().to_owned();
    let (name, not_after) = (recorded.value().name(), recorded.value().not_after());
    let roles = recorded.value().roles().to_vec();
    let is_static = facts.is_static();
    let minted = opened.mint(recorded, now)?;
    drop(opened);
    private_file::create_new(&path, minted.talosconfig.text().as_bytes())?;
    let value = json!({
        "kit": facts.number,
        "cluster": facts.cluster,
        "grant": name.to_string(),
        "roles": roles,
        // what the node heeds; a static kit's certificate outlives what its opener said to need
        "expires": if is_static { facts.until } else { not_after },
        "recorded_until": not_after,
        "talosconfig": path,
        "record": record,
    });
    here.print(&value, |terminal| {
        let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let until = if is_static { facts.until } else { not_after };
        terminal.line(&format!("✓ {} until {until:.0}, grant {name}", roles.join(" ")))?;
        if is_static {
            terminal.line(&format!("  A static kit: everyone who opens it holds this certificate. By its record you use it until {not_after:.0};"))?;
            terminal.line("  calls after that are alarmed on. Nothing but `ichor-broker kit revoke` ends it before its time.")?;
        }
        terminal.line(&format!("  talosctl --talosconfig {} -n NODE version", path.display()))?;
        terminal.line(&format!("  recorded in {}", record.display()))?;
        terminal.line("  Afterwards remove the talosconfig, and bring the record to the broker: `ichor kit report`.")
    })
}

/// Says that a folder takes no file, before it has to.
fn takes_files(folder: &Path, flag: &str) -> Result<(), Error> {
    private_file::takes_files(folder).map_err(|error| {
        let next = format!("name another place with `{flag}`, on a disk that is yours and has room");
        Error::failed(format!("nothing can be written in `{}`: {error}", folder.display()), next)
    })
}

fn os_user() -> String {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| user.name)
}
