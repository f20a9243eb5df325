//! `ichor kit prove`

use std::path::PathBuf;

use data_encoding::HEXLOWER_PERMISSIVE;
use ichor_wire::kit::prove;
use serde_json::json;

use super::{ShareArgs, typed};
use crate::cli::Here;
use crate::error::Error;
use crate::kit::{Identities, read, read_share};

/// Prove, for a drill, that you have your share, without showing it
///
/// What is printed is no secret: send it to whoever runs the drill at the broker.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The kit's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    shares: ShareArgs,
    /// The drill's challenge, as `ichor-broker kit drill` prints it
    #[arg(long, value_name = "CHALLENGE")]
    challenge: String,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let file = read(&args.file)?;
    let challenge = HEXLOWER_PERMISSIVE.decode(args.challenge.trim().as_bytes()).ok();
    let challenge: [u8; 32] = challenge
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Error::usage("the challenge is none: it has 64 hexadecimal digits", "copy it whole"))?;
    let identities = Identities::read(&args.shares.identities)?;
    let share = match args.shares.shares.as_slice() {
        [path] => read_share(path, &identities)?,
        [] if here.around.ask.is_some() => {
            here.around.terminal.note("Your share's file, or the text of its sheet, row by row:");
            typed(here, &identities)?
        }
        [] => return Err(Error::usage("`--share` is missing", "name your share's file with `--share`")),
        _ => return Err(Error::usage("each holder proves one share, their own", "name one file with `--share`")),
    };
    let proof = prove(file.unverified_facts(), &share, &challenge);
    let proof = proof.map_err(|fault| Error::failed(fault.to_string(), "bring the share that belongs to this kit"))?;
    here.print(&json!({ "proof": proof }), |terminal| terminal.line(&proof))
}
