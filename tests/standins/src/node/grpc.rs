//! gRPC over HTTP/2, as little of it as a stand-in needs: framing, status, trailers.

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;

/// The largest message that a node takes.
pub(super) const LARGEST_MESSAGE: usize = 32 << 20;

/// A gRPC status code, of those that a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 0.
    Ok,
    /// 1.
    Canceled,
    /// 2, and every code that the stand-in does not know.
    Unknown,
    /// 3.
    InvalidArgument,
    /// 7.
    PermissionDenied,
    /// 12.
    Unimplemented,
    /// 13.
    Internal,
    /// 14.
    Unavailable,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its code.
    pub code: Code,
    /// Its message.
    pub message: String,
}

pub(super) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Messages, each encoded.
pub(super) type Messages = BoxStream<'static, Vec<u8>>;

// === impl Code ===

impl Code {
    const ALL: [(Self, u8); 8] = [
        (Self::Ok, 0),
        (Self::Canceled, 1),
        (Self::Unknown, 2),
        (Self::InvalidArgument, 3),
        (Self::PermissionDenied, 7),
        (Self::Unimplemented, 12),
        (Self::Internal, 13),
        (Self::Unavailable, 14),
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        Self::ALL.into_iter().find(|(code, _)| *code == self).map_or(2, |(_, number)| number)
    }

    /// The code of a number on the wire.
    #[must_use]
    pub fn from_number(number: &str) -> Self {
        let number: Option<u8> = number.parse().ok();
        Self::ALL.into_iter().find(|(_, known)| Some(*known) == number).map_or(Self::Unknown, |(code, _)| code)
    }
}

impl fmt::Display for Code {
    /// As Go prints it and as node logs have it: `OK`, else the name in camel case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("OK"),
            other => write!(f, "{other:?}"),
        }
    }
}

// === impl Status ===

impl Status {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Status {
    /// As Go prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

/// A message with its five octets of prefix in front.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

/// The messages in a whole body.
pub(super) fn unframed(mut body: &[u8]) -> Result<Vec<Bytes>, Status> {
    let broken = || Status::new(Code::Internal, "a message is cut off or compressed");
    let mut out = Vec::new();
    while !body.is_empty() {
        let (prefix, rest) = body.split_at_checked(5).ok_or_else(broken)?;
        let [0, size @ ..] = prefix else { return Err(broken()) };
        let size = size.iter().fold(0, |size: usize, octet| (size << 8) | usize::from(*octet));
        let (message, rest) = rest.split_at_checked(size).ok_or_else(broken)?;
        out.push(Bytes::copy_from_slice(message));
        body = rest;
    }
    Ok(out)
}

/// An answer with messages, or with a status alone.
pub(super) fn response(outcome: Result<Messages, Status>) -> Response<Body> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let body = match outcome {
        Ok(messages) => {
            let data = messages.map(|message| Ok(Frame::data(framed(&message))));
            let end = stream::once(async { Ok(Frame::trailers(trailers(&Status::new(Code::Ok, "")))) });
            StreamBody::new(data.chain(end)).boxed_unsync()
        }
        Err(status) => {
            headers.extend(trailers(&status));
            Full::new(Bytes::new()).boxed_unsync()
        }
    };
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut out = HeaderMap::new();
    out.insert("grpc-status", HeaderValue::from(u16::from(status.code.number())));
    if !status.message.is_empty()
        && let Ok(message) = HeaderValue::from_str(&percent_encoded(&status.message))
    {
        out.insert("grpc-message", message);
    }
    out
}

/// What a status looks like in headers or trailers; `None` where there is none.
pub(super) fn status_in(headers: &HeaderMap) -> Option<Status> {
    let code = Code::from_number(headers.get("grpc-status")?.to_str().ok()?);
    let message = headers.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Some(Status { code, message: percent_decoded(message) })
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes() {
        match octet {
            b'%' => out.push_str("%25"),
            b' '..=b'~' => out.push(char::from(octet)),
            _ => out.push_str(&format!("%{octet:02X}")),
        }
    }
    out
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(octet) => {
                out.push(octet);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_texts_come_back() {
        let body = [framed(b"one"), framed(b""), framed(&[7; 300])].concat();
        assert_eq!(unframed(&body).unwrap(), [Bytes::from("one"), Bytes::new(), Bytes::from(vec![7; 300])]);
        assert!(unframed(&body[..body.len() - 1]).is_err() && unframed(&[1, 0, 0, 0, 0]).is_err());
        let text = "100% of ünïcode\n";
        assert_eq!(percent_decoded(&percent_encoded(text)), text);
        assert_eq!(percent_decoded("%"), "%");
    }
}
