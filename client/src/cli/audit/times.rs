//! Times as people write and read them.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use crate::error::Error;

/// In which zone times are shown.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ZoneArgs {
    /// Show times in UTC instead of this machine's zone
    #[arg(long)]
    utc: bool,
}

/// A zone that times are shown in.
#[derive(Clone, Debug)]
pub(super) struct Zone(TimeZone);

// === impl ZoneArgs ===

impl ZoneArgs {
    /// The zone; UTC where this machine has none.
    pub(super) fn zone(&self) -> Zone {
        let here = if self.utc { None } else { TimeZone::try_system().ok() };
        Zone(here.unwrap_or(TimeZone::UTC))
    }
}

// === impl Zone ===

impl Zone {
    /// The time to the second, with its offset from UTC.
    pub(super) fn show(&self, time: Timestamp) -> String {
        time.to_zoned(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string()
    }

    /// The same of an RFC 3339 text; one that is no time stays as it is.
    pub(super) fn show_text(&self, text: &str) -> String {
        text.parse().map_or_else(|_| text.to_owned(), |time| self.show(time))
    }
}

/// A time as someone writes it: RFC 3339, or how long ago, as `24h` or `30d`.
pub(super) fn time(text: &str, now: Timestamp) -> Result<Timestamp, Error> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let wrong =
        || Error::usage(format!("`{text}` is not a time"), "write 2026-11-22T10:00:00Z, or 24h or 30d for so long ago");
    let ago: Span = text.parse().map_err(|_| wrong())?;
    let ago: SignedDuration = ago.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    if ago.is_negative() {
        return Err(wrong());
    }
    now.checked_sub(ago).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        let now = Timestamp::from_second(10_000_000).unwrap();
        assert_eq!(time("1h", now).unwrap(), Timestamp::from_second(9_996_400).unwrap());
        assert_eq!(time("30d", now).unwrap(), Timestamp::from_second(10_000_000 - 30 * 86_400).unwrap());
        assert_eq!(time("1970-01-01T00:00:09Z", now).unwrap().as_second(), 9);
        for wrong in ["-1h", "yesterday", "", "1 month", "99999999999d"] {
            assert!(time(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_shown_with_their_offset() {
        let noon: Timestamp = "2026-07-22T12:00:00.5Z".parse().unwrap();
        let zone = |text: &str| Zone(TimeZone::posix(text).unwrap());
        assert_eq!(zone("XYZ-5:30").show(noon), "2026-07-22 17:30:00+05:30");
        assert_eq!(ZoneArgs { utc: true }.zone().show(noon), "2026-07-22 12:00:00+00:00");
        assert_eq!(zone("XYZ3").show_text("2026-07-22T12:00:00Z"), "2026-07-22 09:00:00-03:00");
        assert_eq!(zone("XYZ3").show_text("soon"), "soon");
    }
}
