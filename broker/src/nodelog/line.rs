//! One line as Talos' `json_lines` sender makes it: a JSON object with the service and its message.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use crate::store::NodeService;

/// The longest line that is read, in bytes, without its newline.
pub const LONGEST: usize = 64 * 1024;

/// What is read of a line. Everything else in it, tags included, is left alone: the node is told by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The service whose line it is, where it is one that serves the API.
    pub service: Option<NodeService>,
    /// When the node's sender read the message. A caller who can break a line in two can choose it for the second half.
    pub time: Option<Timestamp>,
    /// The message.
    pub message: Cow<'a, str>,
}

/// The line is not what a node sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object with `talos-service` and `msg`")]
pub(super) struct BadLine;

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    msg: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "talos-service")]
    service: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "talos-time")]
    time: Option<Cow<'a, str>>,
}

// === impl Line ===

impl<'a> Line<'a> {
    /// Reads one line.
    ///
    /// # Errors
    /// When it is no JSON object, names a field twice, or names no service.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, BadLine> {
        let fields: Fields<'a> = serde_json::from_slice(bytes).map_err(|_| BadLine)?;
        // the kernel's lines have `facility` instead
        let service = match fields.service.as_deref() {
            Some("machined") => Some(NodeService::Machined),
            Some("apid") => Some(NodeService::Apid),
            _ => None,
        };
        let time = fields.time.and_then(|time| time.parse().ok());
        Ok(Self { service, time, message: fields.msg.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_as_a_node_sends_it() {
        let text = r#"{"extra":{"a":[1]},"msg":"machined \u003e \"x\"","talos-level":"info","talos-service":"machined","talos-time":"2026-11-22T16:01:11.123456789Z"}"#;
        let line = Line::read(text.as_bytes()).unwrap();
        assert_eq!(line.service, Some(NodeService::Machined));
        assert_eq!(line.message, "machined > \"x\"");
        assert_eq!(line.time, "2026-11-22T16:01:11.123456789Z".parse().ok());
        let kernel = Line::read(br#"{"facility":"kern","msg":"x","talos-level":"warn"}"#).unwrap();
        assert_eq!((kernel.service, kernel.time), (None, None));
    }

    #[test]
    fn what_is_no_line() {
        for bad in [
            &b""[..],
            b"[]",
            b"{",
            b"{\"msg\":1}",
            b"{} {}",
            b"\xff",
            br#"{"talos-service":"a","talos-service":"machined"}"#,
        ] {
            assert_eq!(Line::read(bad), Err(BadLine), "{}", String::from_utf8_lossy(bad));
        }
        let deep = [b"{\"a\":".repeat(10_000), b"1".to_vec(), b"}".repeat(10_000)].concat();
        assert!(Line::read(&deep).is_ok(), "what is not asked for is skipped, however deep, without recursion");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Line::read(&bytes);
        }
    }
}
