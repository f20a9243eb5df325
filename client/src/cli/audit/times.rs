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

/// From when up to when, where it is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

// === impl Stretch ===

impl Stretch {
    /// As a question's parameters.
    pub(super) fn query(self) -> impl Iterator<Item = (&'static str, String)> {
        [("since", self.since), ("until", self.until)]
            .into_iter()
            .filter_map(|(name, time)| Some((name, time?.to_string())))
    }
}

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

/// The times of a stretch, as someone writes its ends.
///
/// # Errors
/// For what is no time, and for a stretch that ends before it begins: nothing is in it, which would read as if nothing had been.
pub(super) fn stretch(since: Option<&str>, until: Option<&str>, now: Timestamp) -> Result<Stretch, Error> {
    let since = since.map(|text| time(text, now)).transpose()?;
    let until = until.map(|text| time(text, now)).transpose()?;
    match (since, until) {
        (Some(since), Some(until)) if since >= until => Err(Error::usage(
            format!("the time ends ({until:.0}) before it begins ({since:.0})"),
            "`24h` is so long ago: write the longer one at `--since`, the shorter at `--until`",
        )),
        _ => Ok(Stretch { since, until }),
    }
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
    fn a_stretch_begins_before_it_ends() {
        let now = Timestamp::from_second(10_000_000).unwrap();
        let query: Vec<_> = stretch(Some("2h"), Some("1h"), now).unwrap().query().map(|(name, _)| name).collect();
        assert_eq!(query, ["since", "until"]);
        assert_eq!(stretch(None, None, now).unwrap().query().count(), 0);
        for (since, until) in [("1h", "2h"), ("1h", "1h")] {
            assert!(stretch(Some(since), Some(until), now).is_err(), "{since} to {until}");
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
