//! The few messages that are exchanged with a node, with the field numbers of the public Talos API (machine.proto,
//! common.proto). They are read in place, without copies: one of them holds a private key.

use jiff::SignedDuration;

/// Bytes that are not the message expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// What a node made (`GenerateClientConfigurationResponse`, of one node).
pub(super) struct Made<'a> {
    /// The certificate, PEM.
    pub(super) certificate: &'a str,
    /// The private key, PEM.
    pub(super) key: &'a str,
}

/// What a node says of itself (`VersionResponse`, of one node).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its Talos version, as `v1.13.9`.
    pub tag: String,
    /// Whether it checks roles at all.
    pub rbac: bool,
}

/// The value of a field.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// `GenerateClientConfigurationRequest`: roles = 1, crt_ttl = 2.
pub(super) fn request<'a>(roles: impl Iterator<Item = &'a str>, ttl: SignedDuration) -> Vec<u8> {
    let mut out = Vec::new();
    for role in roles {
        put(&mut out, 1, role.as_bytes());
    }
    // google.protobuf.Duration: seconds = 1
    let mut duration = vec![0x08];
    number(&mut duration, ttl.as_secs().unsigned_abs());
    put(&mut out, 2, &duration);
    out
}

impl<'a> Made<'a> {
    /// Reads the answer: messages = 1, of which exactly one; in it metadata = 1, crt = 3, key = 4. `Err` with a text
    /// is what the node says went wrong.
    pub(super) fn read(answer: &'a [u8]) -> Result<Result<Self, String>, Garbage> {
        let message = only(answer)?;
        let error = error(message)?;
        if !error.is_empty() {
            return Ok(Err(error));
        }
        let field = |wanted| std::str::from_utf8(text(message, wanted)?).map_err(|_| Garbage);
        Ok(Ok(Self { certificate: field(3)?, key: field(4)? }))
    }
}

impl Version {
    /// Reads the answer: messages = 1; in it metadata = 1, version = 2 {tag = 1}, features = 4 {rbac = 1}.
    pub(super) fn read(answer: &[u8]) -> Result<Result<Self, String>, Garbage> {
        let message = only(answer)?;
        let error = error(message)?;
        if !error.is_empty() {
            return Ok(Err(error));
        }
        let tag = String::from_utf8_lossy(text(text(message, 2)?, 1)?).into_owned();
        let mut rbac = false;
        for field in fields(text(message, 4)?) {
            if let (1, Value::Number(on)) = field? {
                rbac = on != 0;
            }
        }
        Ok(Ok(Self { tag, rbac }))
    }
}

/// The one message of an answer.
fn only(answer: &[u8]) -> Result<&[u8], Garbage> {
    let mut found = None;
    for field in fields(answer) {
        match field? {
            (1, Value::Bytes(message)) if found.is_none() => found = Some(message),
            (1, _) => return Err(Garbage),
            _ => {}
        }
    }
    found.ok_or(Garbage)
}

/// What common.Metadata (field 1) says went wrong: error = 2.
fn error(message: &[u8]) -> Result<String, Garbage> {
    Ok(String::from_utf8_lossy(text(text(message, 1)?, 2)?).into_owned())
}

/// The last value of a field, as protobuf has it; none is empty.
fn text(message: &[u8], wanted: u64) -> Result<&[u8], Garbage> {
    let mut found: &[u8] = &[];
    for field in fields(message) {
        match field? {
            (at, Value::Bytes(bytes)) if at == wanted => found = bytes,
            (at, _) if at == wanted => return Err(Garbage),
            _ => {}
        }
    }
    Ok(found)
}

/// Every field of a message, in order; the first that cannot be read ends it.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<(u64, Value<'_>), Garbage>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = field(&mut rest).ok_or(Garbage);
        if read.is_err() {
            rest = &[];
        }
        Some(read)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Value::Number(varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Other)?,
        2 => {
            let len = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(take(rest, len)?)
        }
        5 => take(rest, 4).map(|_| Value::Other)?,
        _ => return None,
    };
    (tag >> 3 != 0).then_some((tag >> 3, value))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(first & 0x7F) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(metadata: &[u8], fields: &[(u8, &str)]) -> Vec<u8> {
        let mut message = Vec::new();
        put(&mut message, 1, metadata);
        fields.iter().for_each(|(field, text)| put(&mut message, *field, text.as_bytes()));
        let mut answer = Vec::new();
        put(&mut answer, 1, &message);
        answer
    }

    #[test]
    fn the_request_is_protobuf() {
        let bytes = request(["os:reader", "os:etcd:backup"].into_iter(), SignedDuration::from_secs(300));
        assert_eq!(bytes, b"\x0a\x09os:reader\x0a\x0eos:etcd:backup\x12\x03\x08\xac\x02");
    }

    #[test]
    fn answers_are_read_in_place() {
        let answer = made(&[], &[(2, "ca"), (3, "crt"), (4, "key"), (5, "talosconfig"), (9, "newer")]);
        let read = Made::read(&answer).unwrap().unwrap();
        assert_eq!((read.certificate, read.key), ("crt", "key"));
        assert_eq!(Made::read(&made(b"\x12\x03bad", &[])).unwrap().err(), Some("bad".into()));
        assert!(Made::read(&[answer.clone(), answer.clone()].concat()).is_err(), "two answers");
        assert!(Made::read(&[]).is_err(), "none");
        assert!(Made::read(&answer[..answer.len() - 1]).is_err(), "cut");
        let version = made(&[], &[(2, "\x0a\x07v1.13.9"), (4, "\x08\x01")]);
        assert_eq!(Version::read(&version).unwrap().unwrap(), Version { tag: "v1.13.9".into(), rbac: true });
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Made::read(&bytes);
            let _ = Version::read(&bytes);
        }
    }
}
