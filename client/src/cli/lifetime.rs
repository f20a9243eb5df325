//! How long certificates are good, as people say it.

use ichor_wire::role::Role;
use jiff::{SignedDuration, Timestamp};

/// The roles, and how long from `now`: `os:reader for 59 min`.
pub(super) fn good_for(roles: &[Role], end: Timestamp, now: Timestamp) -> String {
    let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    format!("{} for {}", roles.join(","), spell(end.duration_since(now)))
}

/// A time that is not over, as people say it: `59 s`, `59 min`, `1 h 01 min`.
pub(super) fn spell(time: SignedDuration) -> String {
    let (hours, minutes) = (time.as_hours(), time.as_mins() % 60);
    match hours {
        0 if minutes == 0 => format!("{} s", time.as_secs().max(0)),
        0 => format!("{minutes} min"),
        _ => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_reads_well() {
        for (seconds, says) in [(-1, "0 s"), (59, "59 s"), (3540, "59 min"), (3660, "1 h 01 min")] {
            assert_eq!(spell(SignedDuration::from_secs(seconds)), says);
        }
    }
}
