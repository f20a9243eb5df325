//! `ichor break-glass`: one file per thing that is done with a request.

mod decide;
mod list;
mod request;
mod review;
mod shown;
mod take;

use uuid::Uuid;

use super::Here;
use crate::error::Error;

const AFTER_HELP: &str = "\
In an emergency:
  ichor break-glass request prod --role os:admin --reason \"INC-42 etcd down\" --wait
      asks, waits until enough others approve, and writes the context `prod-break-glass`
  ichor break-glass request prod --role os:admin --reason \"INC-42\" --self-service --wait
      where nobody can be reached and policy allows it: opens once a notification of it was accepted outside
  ichor break-glass list
      what waits for you, if you may approve
  ichor break-glass approve ID
      shows exactly what will be possible, and asks before it approves
Afterwards:
  ichor break-glass report ID         what was done under it
  ichor break-glass review ID --as emergency --note \"restored etcd from the snapshot\"";

/// The id of a request, or the address of its page, which is what people send each other.
fn request_id(text: &str) -> Result<Uuid, String> {
    let id = text.split_once("/break-glass/").map_or(text, |(_, rest)| rest);
    id.trim_end_matches('/').parse().map_err(|_| {
        "an id has 36 characters, as `ichor break-glass list` prints it; the address of the request's page will do"
            .into()
    })
}

/// Ask for access that others must approve, and approve what others ask for
///
/// Everything done here is recorded, and every use is reviewed afterwards. Who may ask, for what, and how many must approve is the
/// broker's policy; nobody approves their own request.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    #[command(subcommand)]
    command: BreakGlassCommand,
}

#[derive(Debug, clap::Subcommand)]
enum BreakGlassCommand {
    Request(request::Args),
    List(list::ListArgs),
    Show(list::ShowArgs),
    Approve(decide::ApproveArgs),
    Deny(decide::DenyArgs),
    Use(take::Args),
    Cancel(decide::CancelArgs),
    Revoke(decide::RevokeArgs),
    Review(review::ReviewArgs),
    Report(review::ReportArgs),
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    match args.command {
        BreakGlassCommand::Request(args) => request::run(here, args),
        BreakGlassCommand::List(args) => list::list(here, args),
        BreakGlassCommand::Show(args) => list::show(here, args),
        BreakGlassCommand::Approve(args) => decide::approve(here, args),
        BreakGlassCommand::Deny(args) => decide::deny(here, args),
        BreakGlassCommand::Use(args) => take::run(here, args),
        BreakGlassCommand::Cancel(args) => decide::cancel(here, args),
        BreakGlassCommand::Revoke(args) => decide::revoke(here, args),
        BreakGlassCommand::Review(args) => review::review(here, args),
        BreakGlassCommand::Report(args) => review::report(here, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_its_id_or_its_page() {
        let id = "0193a5c0-0000-7000-8000-000000000001";
        for text in [
            id.to_owned(),
            format!("https://ichor.example.com/break-glass/{id}"),
            format!("https://a/break-glass/{id}/"),
        ] {
            assert_eq!(request_id(&text).unwrap().to_string(), id, "{text}");
        }
        for text in ["01a224aa", "", "https://a/break-glass/", "https://a/break-glass/x/decide"] {
            assert!(request_id(text).unwrap_err().contains("36 characters"), "{text}");
        }
    }
}
