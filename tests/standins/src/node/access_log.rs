//! machined's access log: one line for each call, printed when it ends.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::grpc::Status;
use crate::lock;

/// Metadata of a call, each key with its values in the order they came.
pub(super) type Metadata = BTreeMap<String, Vec<String>>;

/// The log of one node.
#[derive(Default)]
pub(super) struct AccessLog {
    lines: Mutex<Vec<String>>,
    file: Option<PathBuf>,
}

/// One call that ended.
pub(super) struct Line<'a> {
    pub(super) at: Timestamp,
    pub(super) method: &'a str,
    pub(super) took: Duration,
    pub(super) stream: bool,
    pub(super) failed: Option<&'a Status>,
    pub(super) metadata: &'a Metadata,
}

// === impl AccessLog ===

impl AccessLog {
    pub(super) fn to_file(file: Option<PathBuf>) -> Self {
        Self { lines: Mutex::default(), file }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }

    pub(super) fn print(&self, line: &Line<'_>) {
        let line = line.to_string();
        let mut lines = lock(&self.lines);
        if let Some(path) = &self.file {
            // A log that cannot be written stops no call, as on a node.
            if let Ok(mut file) = std::fs::File::options().create(true).append(true).open(path) {
                let _ = writeln!(file, "{line}");
            }
        }
        lines.push(line);
    }
}

// === impl Line ===

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = self.at.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d %H:%M:%S").to_string();
        let code = self.failed.map_or_else(|| "OK".to_owned(), |status| status.code.to_string());
        let message = self.failed.map_or_else(|| "Success".to_owned(), Status::to_string);
        let kind = if self.stream { "stream" } else { "unary" };
        let pairs: Vec<String> = self
            .metadata
            .iter()
            .map(|(key, values)| match key.as_str() {
                "token" => "token=<hidden>".to_owned(),
                _ => format!("{key}={}", values.join(",")),
            })
            .collect();
        let took = go_duration(self.took);
        write!(f, "machined {time} {code} [{}] {took} {kind} {message} ({})", self.method, pairs.join(";"))
    }
}

/// A duration as Go prints it: the largest unit of ns, µs, ms and s that gives at least 1, without trailing zeros.
fn go_duration(took: Duration) -> String {
    let nanos = took.as_nanos();
    let (unit, name) = match nanos {
        0 => return "0s".into(),
        1..=999 => (1, "ns"),
        1_000..=999_999 => (1_000, "µs"),
        1_000_000..=999_999_999 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let digits = usize::try_from(u128::ilog10(unit)).unwrap_or_default();
    let fraction = format!("{:0digits$}", nanos % unit);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() || digits == 0 { "" } else { "." };
    let fraction = if digits == 0 { "" } else { fraction };
    format!("{}{dot}{fraction}{name}", nanos / unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::grpc::Code;

    #[test]
    fn lines_look_as_on_a_node() {
        let metadata = Metadata::from([
            ("user-agent".into(), vec!["grpc-go/1.82.1".into()]),
            ("token".into(), vec!["secret".into()]),
            ("talos-role".into(), vec!["os:reader".into(), "user:alice".into()]),
        ]);
        let at = "2026-11-22T16:01:11Z".parse().unwrap();
        let failed = Status::new(Code::PermissionDenied, "not authorized");
        let method = "/machine.MachineService/Version";
        let took = Duration::from_nanos(93_239);
        let mut line = Line { at, method, took, stream: false, failed: None, metadata: &metadata };
        assert_eq!(
            line.to_string(),
            "machined 2026/11/22 16:01:11 OK [/machine.MachineService/Version] 93.239µs unary Success \
             (talos-role=os:reader,user:alice;token=<hidden>;user-agent=grpc-go/1.82.1)"
        );
        line.failed = Some(&failed);
        assert!(line.to_string().contains(
            "PermissionDenied [/machine.MachineService/Version] 93.239µs unary rpc error: code = PermissionDenied desc = not authorized ("
        ));
        for (nanos, text) in
            [(0, "0s"), (17, "17ns"), (1_000, "1µs"), (1_500_000, "1.5ms"), (2_000_000_001, "2.000000001s")]
        {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }
}
