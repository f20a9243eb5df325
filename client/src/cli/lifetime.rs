//! How long certificates are good, as people say it.

use std::fmt;

use ichor_wire::api::CertificateAnswer;
use ichor_wire::role::Role;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use uuid::{Uuid, Version};

/// How far a life may be from the one asked for and still be that one, in seconds: the grant is dated before it is signed, and
/// a cluster that makes the certificate itself is asked for ten seconds less, for its clock's sake.
const SLACK: i64 = 15;

/// Less than was asked for, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Shortened {
    asked: i64,
    granted: i64,
}

/// When a certificate was granted: its grant's id says so (UUIDv7, RFC 9562 section 5.7), else its start, which a broker dates
/// back for clocks that run behind.
pub(super) fn granted_at(grant: &str, not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let dated = grant.parse::<Uuid>().ok().filter(|id| id.get_version() == Some(Version::SortRand));
    let seconds = dated.and_then(|id| id.get_timestamp()).and_then(|time| i64::try_from(time.to_unix().0).ok());
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.filter(|time| (not_before..=not_after).contains(time)).unwrap_or(not_before)
}

/// How long ago, as people say it; a minute or two are nothing.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    let past = now.duration_since(then);
    if past < SignedDuration::from_mins(2) { "just now".into() } else { format!("{} ago", spell(past)) }
}

/// That policy gave less time than was asked for, where it did.
pub(super) fn shortened(asked: Option<u64>, answer: &CertificateAnswer) -> Option<Shortened> {
    let start = granted_at(&answer.grant_id.to_string(), answer.not_before, answer.not_after);
    let granted = answer.not_after.as_second().saturating_sub(start.as_second());
    Shortened::of(asked, u64::try_from(granted).unwrap_or_default())
}

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

/// A time as `--ttl` takes it, to the minute: `8h`, `1h30m`, `90s`.
fn typed(seconds: i64) -> String {
    let (hours, minutes) = (seconds.saturating_add(SLACK) / 3600, seconds.saturating_add(SLACK) / 60 % 60);
    match (hours, minutes) {
        (0, 0..10) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m"),
        (_, 0) => format!("{hours}h"),
        _ => format!("{hours}h{minutes}m"),
    }
}

// === impl Shortened ===

impl Shortened {
    /// Where less was granted than was asked for, both in seconds.
    pub(super) fn of(asked: Option<u64>, granted: u64) -> Option<Self> {
        let seconds = |time| i64::try_from(time).unwrap_or(i64::MAX);
        let (asked, granted) = (seconds(asked?), seconds(granted));
        (granted.saturating_add(SLACK) < asked).then_some(Self { asked, granted })
    }
}

impl fmt::Display for Shortened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy shortened {} to {}", typed(self.asked), typed(self.granted))
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

    #[test]
    fn the_past_reads_well() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!([ago(at(0), at(119)), ago(at(9), at(0))], ["just now", "just now"]);
        assert_eq!(ago(at(0), at(180)), "3 min ago");
    }

    #[test]
    fn a_shortened_time_reads_as_it_was_typed() {
        let says = |asked, granted| Shortened { asked, granted }.to_string();
        assert_eq!(says(172_800, 28_800), "policy shortened 48h to 8h");
        assert_eq!(says(5400, 3599), "policy shortened 1h30m to 1h");
        assert_eq!(says(900, 90), "policy shortened 15m to 90s");
    }

    #[test]
    fn a_grants_id_dates_it_unless_it_cannot_be_true() {
        let at = |second: i64| Timestamp::from_second(1_645_557_742 + second).unwrap();
        // The example of RFC 9562, appendix A.6: 2022-02-22T19:22:22Z.
        let id = "017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
        assert_eq!(granted_at(id, at(-60), at(3600)), at(0));
        assert_eq!(granted_at(id, at(1), at(3600)), at(1), "before the certificate's start");
        assert_eq!(granted_at(id, at(-60), at(-1)), at(-60), "after its end");
        for undated in ["00000000-0000-0000-0000-000000000001", "g"] {
            assert_eq!(granted_at(undated, at(-60), at(3600)), at(-60));
        }
    }
}
