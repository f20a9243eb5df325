//! `ichor break-glass list` and `show`

use serde_json::json;
use uuid::Uuid;

use super::shown;
use crate::break_glass;
use crate::cli::{Here, block_on};
use crate::error::Error;

/// List requests: your own, and those that you may approve or review
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only for this cluster
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Only in one of these states, separated by commas: pending, approved, denied, expired, cancelled, used, revoked, lapsed,
    /// reviewed
    #[arg(long, value_name = "STATES")]
    state: Option<String>,
    /// Only your own
    #[arg(long)]
    mine: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
}

/// Show one request: who asks for what, why, and who agreed
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The request: its id, or the address of its page
    #[arg(value_parser = super::request_id)]
    id: Uuid,
}

pub(super) fn list(here: &mut Here, args: ListArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let mut query = Vec::new();
    query.extend(args.cluster.map(|cluster| ("cluster", cluster)));
    query.extend(args.state.map(|state| ("state", state)));
    query.extend(args.mine.then(|| ("mine", "true".to_owned())));
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (glasses, next) = block_on(break_glass::list_up_to(&session, &query, limit))?;
    let answers: Vec<_> = glasses.iter().map(|glass| &glass.answer).collect();
    let heading = ["REQUEST", "STATE", "WHO", "CLUSTER", "ROLES", "AGREED", "YOU MAY", "WHY"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(glasses.iter().map(shown::row));
    here.print(&json!({ "requests": answers, "next": next }), |terminal| match glasses.len() {
        0 => terminal.line("no request, as far as you may see"),
        shown => {
            terminal.table(&rows)?;
            match next {
                None => Ok(()),
                Some(_) => terminal.line(&format!(
                    "there are more than these {shown}: what waits is shown by `--state pending`, more by `--limit N`"
                )),
            }
        }
    })
}

pub(super) fn show(here: &mut Here, args: ShowArgs) -> Result<u8, Error> {
    let session = here.session()?;
    let glass = block_on(break_glass::show(&session, args.id))?;
    let now = here.around.clock.now();
    here.print(&glass.answer, |terminal| shown::print(terminal, &glass, now))
}
