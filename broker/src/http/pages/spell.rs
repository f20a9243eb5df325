//! Times, lengths of time and roles, in words for people on a phone.

use jiff::{SignedDuration, Timestamp};

use crate::domain::Role;

/// As `2 hours 30 minutes`; less than a minute in seconds.
pub(super) fn length(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    if seconds < 60 {
        return counted(seconds, "second");
    }
    let (hours, minutes) = (seconds / 3600, seconds % 3600 / 60);
    let parts = [(hours, "hour"), (minutes, "minute")];
    let parts: Vec<_> = parts.into_iter().filter(|(count, _)| *count > 0).map(|(n, of)| counted(n, of)).collect();
    parts.join(" ")
}

fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// As `2026-11-28 12:00 UTC`.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// What a role gives.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Admin => {
            "everything on every node: read and change its configuration, its keys included; reset it; become anyone there"
        }
        Role::Operator => {
            "run the nodes: reboot, shut down, restart services, take a copy of etcd with every Kubernetes Secret"
        }
        Role::Reader => "look: state, logs, resources that are not secret",
        Role::EtcdBackup => "take a copy of etcd with every Kubernetes Secret",
        Role::ImageVerifier => "verify the signatures of images",
        Role::MetaWriter => "write the nodes' META partition",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_times_read_well() {
        for (seconds, said) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (60, "1 minute"),
            (1800, "30 minutes"),
            (3600, "1 hour"),
            (9000, "2 hours 30 minutes"),
            (-5, "0 seconds"),
        ] {
            assert_eq!(length(SignedDuration::from_secs(seconds)), said);
        }
        assert_eq!(time(Timestamp::UNIX_EPOCH), "1970-01-01 00:00 UTC");
    }
}
