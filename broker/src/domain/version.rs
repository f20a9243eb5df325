//! Versions of the client.

use std::fmt;

/// A client's version; a suffix such as `-rc.1` does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientVersion([u64; 3]);

impl ClientVersion {
    /// A version from `major.minor.patch`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let core = text.split(['-', '+']).next()?;
        let mut parts = core.split('.').map(|part| part.parse().ok());
        let version = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(Self(version))
    }
}

impl fmt::Display for ClientVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers_and_compare_as_such() {
        let version = |text| ClientVersion::parse(text);
        assert!(version("0.10.0") > version("0.9.9"));
        assert_eq!(version("1.2.3-rc.1").unwrap().to_string(), "1.2.3");
        for bad in ["1.2", "1.2.3.4", "", "v1.2.3", "one"] {
            assert_eq!(version(bad), None, "{bad}");
        }
    }
}
