//! What does not begin as a line of the access log: another message of the service, or a piece of a line that a caller broke.
//!
//! Whatever stands in metadata, a line of the access log ends in `)`, and where a value held a newline that is the end of a line of its
//! own. A sender takes the JSON at the end of a line for fields, but never that line: no JSON ends so. It can be made to look like
//! another message of machined's, or like one of apid's, but not like both, and both services print the caller's metadata.

use ichor_wire::profile::GrantName;

use super::{Access, Message, Sign, sourced, stamp};
use crate::store::NodeService;

/// What such a message is.
pub(super) fn piece(service: NodeService, message: &str) -> Message {
    let ends_a_line = message.is_empty() || message.ends_with(')');
    let is_end = ends_a_line && !is_other(service, message);
    match service {
        // of another message the second line may end so
        NodeService::Machined if is_end && !message.contains("talos-role=") => Message::End,
        // apid says nothing in more than a line: such a piece is a finding
        _ if is_end || message.contains("talos-role=") => {
            let grant = named_kit(message);
            Message::Call(Access { sign: Some(Sign::Fragment), is_broken: true, grant, ..Access::default() })
        }
        _ => Message::Other,
    }
}

/// Whether the message begins as the service's others do, those that are not of the access log.
fn is_other(service: NodeService, message: &str) -> bool {
    match service {
        // machined's own log writer puts a stamp in front of each message, and those of the boot end in `)`
        NodeService::Machined => match stamp(message) {
            Some((_, true, rest)) => !rest.starts_with("machined ") && sourced(message).is_none(),
            _ => message.starts_with("[talos] ") || message.starts_with("machined/"),
        },
        NodeService::Apid => sourced(message).is_some() || message.starts_with("apid/"),
    }
}

/// The first grant of a kit that the message names anywhere: whoever uses a kit may bend their line so that its roles cannot be read.
pub(super) fn named_kit(message: &str) -> Option<String> {
    const BEGIN: &str = "grant:";
    message.match_indices(BEGIN).find_map(|(at, _)| {
        let rest = message.get(at + BEGIN.len()..)?;
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').unwrap_or(rest.len());
        let name: GrantName = rest.get(..end)?.parse().ok()?;
        name.kit().map(|_| name.to_string())
    })
}
