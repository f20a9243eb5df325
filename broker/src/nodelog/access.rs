//! The access log of machined and apid, one message a call:
//!
//! ```text
//! [stamp.micros ]machined YYYY/MM/DD HH:MM:SS CODE [/pkg.Service/Method] DURATION unary|stream MESSAGE (k=v;k=v,v;…)
//! ```
//!
//! machined's own log writer puts a second stamp, with microseconds, in front. Keys are metadata that the caller sent, but for
//! what apid sets: `talos-role` from the certificate. Everything between the method's `]` and the end may hold what the caller
//! chose: an error's message repeats a path, made-up metadata is printed as it is, and the value of a key that ends in `-bin`
//! may hold a newline. So nothing here is looked for at a place that a caller can move: what must be there once is counted in
//! the whole message, and twice is a [`Sign`].

mod keys;
mod piece;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use memchr::memmem;

use crate::store::NodeService;

use keys::Keys;
use piece::{named_kit, piece};

/// The metadata key by which the broker knows its own probes.
pub const PROBE_KEY: &str = "ichor-probe";

/// The longest method, `user:` value and peer that are kept, in bytes; the longest list of roles.
const LONGEST_METHOD: usize = 128;
const LONGEST_USER: usize = 64;
const LONGEST_PEER: usize = 64;
const LONGEST_ROLES: usize = 256;

/// Why a message may have been written, or bent, by a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// `talos-role=` stands in it more than once.
    TwoRoles,
    /// Another key that the node sets stands in it more than once, or the roles name two grants or two users.
    Twice,
    /// It does not end with a closing parenthesis: it was cut.
    Cut,
    /// A metadata key ends in `-bin`, so its value may hold a newline.
    Binary,
    /// It holds a control character.
    Control,
    /// It is a piece of a broken message: it does not begin as a line of the access log.
    Fragment,
    /// Its line is longer than is read.
    TooLong,
    /// Its times are out of order.
    Order,
    /// It came close to a line that may be part of a message that a caller broke in several: the rest may look like any other.
    Behind,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Not of the access log.
    Other,
    /// The last piece of a message that a caller broke in several, and no call: those before it may be pieces as well.
    End,
    /// A call, or what may be one.
    Call(Access),
}

/// A call as the message tells of it. Texts are cut to what may be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// When it was printed, by the stamp with microseconds where there is one, else to the second.
    pub printed: Option<Timestamp>,
    /// Whether `printed` has microseconds.
    pub is_exact: bool,
    /// The status code's number.
    pub code: Option<u8>,
    /// The method; empty where there is none to be read.
    pub method: String,
    /// How long it took.
    pub duration: SignedDuration,
    /// The roles in the caller's certificate, sorted, without those that Ichor adds.
    pub roles: Vec<String>,
    /// The `user:` value.
    pub user: Option<String>,
    /// What stands behind `grant:`, whether it is an id or not.
    pub grant: Option<String>,
    /// The caller's address, where told.
    pub peer: Option<String>,
    /// Whether it came over the node's own socket and not through apid.
    pub is_local: bool,
    /// The broker's own mark.
    pub probe: Option<String>,
    /// Whether it may be a part of what a caller broke by a newline in metadata: it has no end, has a key that ends in `-bin`, or does
    /// not begin as a line.
    pub is_broken: bool,
    /// Whether it is a [`Message::End`].
    pub is_end: bool,
    /// Whether its text, of an error, may be of the caller's choice and so break it.
    pub is_free: bool,
    /// Why it may not be what it seems.
    pub sign: Option<Sign>,
}

// === impl Sign ===

impl Sign {
    /// The sign in one sentence.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::TwoRoles => "its line has more than one `talos-role=`",
            Self::Twice => "its line says twice what a node says once",
            Self::Cut => "its line has no closing parenthesis",
            Self::Binary => "its line has a metadata key that ends in `-bin`",
            Self::Control => "its line holds a control character",
            Self::Fragment => "a piece of a line, which does not begin as one of the access log",
            Self::TooLong => "a line of more than 64 KiB",
            Self::Order => "its times are out of order",
            Self::Behind => {
                "it came close behind or before a line that a caller may have broken, and so may have written this one"
            }
        }
    }
}

// === reading ===

/// Reads a message of the service's log. Never fails: what cannot be read is [`Message::Other`], or a call with a [`Sign`].
#[must_use]
pub(super) fn read(service: NodeService, message: &str) -> Message {
    let (exact, rest) = match stamp(message) {
        // the second stamp's writer is machined's; in apid's log it would be someone's text
        Some((at, true, rest)) if service == NodeService::Machined => (Some(at), rest),
        _ => (None, message),
    };
    let sourced = if service == NodeService::Apid { sourced(message) } else { None };
    let is_exact = exact.is_some() || sourced.is_some();
    let Some((second, rest)) = sourced.or_else(|| prefixed(service, rest)) else { return piece(service, message) };
    let Some((code, rest)) = rest.split_once(" [/") else { return piece(service, message) };
    let Some(code) = code_number(code) else { return piece(service, message) };

    let mut access = Access { printed: exact.or(Some(second)), is_exact, code: Some(code), ..Access::default() };
    access.is_broken = !message.ends_with(')') || memmem::find(message.as_bytes(), b"-bin=").is_some();
    let Some(rest) = call(&mut access, rest) else {
        access.sign = Some(if message.ends_with(')') { Sign::Control } else { Sign::Cut });
        access.is_broken = true;
        access.grant = named_kit(message);
        return Message::Call(access);
    };
    access.is_free = is_free(access.code, rest);
    tail(&mut access, rest);
    if access.sign.is_none() && has_control(message) {
        access.sign = Some(Sign::Control);
    }
    if access.sign.is_some() && access.grant.is_none() {
        access.grant = named_kit(message);
    }
    Message::Call(access)
}

/// `SERVICE YYYY/MM/DD HH:MM:SS `, and what follows.
fn prefixed(service: NodeService, text: &str) -> Option<(Timestamp, &str)> {
    let rest = text.strip_prefix(service.as_str())?.strip_prefix(' ')?;
    match stamp(rest)? {
        (at, false, rest) => Some((at, rest)),
        _ => None,
    }
}

/// `YYYY/MM/DD HH:MM:SS.micros FILE.go:LINE: `, as apid 1.13 begins its lines, and what follows.
fn sourced(text: &str) -> Option<(Timestamp, &str)> {
    let (at, true, rest) = stamp(text)? else { return None };
    let (place, rest) = rest.split_once(": ")?;
    let (file, line) = place.split_once(".go:")?;
    let fits = !file.is_empty() && file.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    number(line).filter(|_| fits).map(|_| (at, rest))
}

/// `YYYY/MM/DD HH:MM:SS ` or the same with `.micros`; whether it has those; and what follows. Nodes' clocks show UTC.
fn stamp(text: &str) -> Option<(Timestamp, bool, &str)> {
    let (seconds, rest) = text.split_at_checked(19)?;
    let (micros, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let (micros, rest) = rest.split_at_checked(6)?;
            (Some(number(micros)?), rest)
        }
        None => (None, rest),
    };
    let rest = rest.strip_prefix(' ')?;
    let mut parts = [0i64; 6];
    let mut from = 0;
    for (part, (end, behind)) in parts.iter_mut().zip([(4, '/'), (7, '/'), (10, ' '), (13, ':'), (16, ':'), (19, '\0')])
    {
        *part = number(seconds.get(from..end)?)?;
        if end < 19 && !seconds.get(end..)?.starts_with(behind) {
            return None;
        }
        from = end + 1;
    }
    let [year, month, day, hour, minute, second] = parts;
    let small = |number: i64| i8::try_from(number).ok();
    let nanos = i32::try_from(micros.unwrap_or(0)).ok()?.checked_mul(1_000)?;
    let year = i16::try_from(year).ok()?;
    let at =
        DateTime::new(year, small(month)?, small(day)?, small(hour)?, small(minute)?, small(second)?, nanos).ok()?;
    Some((Offset::UTC.to_timestamp(at).ok()?, micros.is_some(), rest))
}

/// Digits only, at most 15.
fn number(text: &str) -> Option<i64> {
    let fits = !text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

/// The gRPC status codes as Go prints them, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

fn code_number(text: &str) -> Option<u8> {
    match CODES.iter().position(|name| *name == text) {
        Some(number) => u8::try_from(number).ok(),
        None => text.strip_prefix("Code(")?.strip_suffix(')')?.parse().ok(),
    }
}

/// The code's name as Go prints it.
#[must_use]
pub fn code_name(number: u8) -> String {
    CODES.get(usize::from(number)).map_or_else(|| format!("Code({number})"), |name| (*name).to_owned())
}

/// `pkg.Service/Method] DURATION unary|stream `, and what follows.
fn call<'a>(access: &mut Access, text: &'a str) -> Option<&'a str> {
    let (method, rest) = text.split_once("] ")?;
    let (service, name) = method.split_once('/')?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = method.len() < LONGEST_METHOD
        && !service.is_empty()
        && !name.is_empty()
        && service.bytes().all(|byte| is_word(byte) || byte == b'.')
        && name.bytes().all(is_word);
    if !fits {
        return None;
    }
    access.method = format!("/{method}");
    let (duration, rest) = rest.split_once(' ')?;
    access.duration = go_duration(duration)?;
    rest.strip_prefix("unary ").or_else(|| rest.strip_prefix("stream "))
}

/// What a node says of a call that failed without a word of the caller's.
const PLAIN: [&str; 5] = [
    "rpc error: code = PermissionDenied desc = not authorized",
    "rpc error: code = Canceled desc = context canceled",
    "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
    "context canceled",
    "context deadline exceeded",
];

/// Whether the text in front of the metadata may hold what the caller chose. The success of a call says so and no more.
fn is_free(code: Option<u8>, text: &str) -> bool {
    // the metadata follows, or what the authorizers decided
    let says =
        |said: &str| text.strip_prefix(said).is_some_and(|behind| behind.starts_with(" (") || behind.starts_with(" {"));
    match code {
        Some(0) => !says("Success"),
        _ => !PLAIN.into_iter().any(says),
    }
}

/// A duration as Go prints it: `1h2m3.5s`, `93.239µs`, `0s`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    let mut nanos: i128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (amount, behind) = rest.split_at_checked(end)?;
        let (unit, behind) = [("ns", 1), ("µs", 1_000), ("μs", 1_000), ("us", 1_000), ("ms", 1_000_000)]
            .into_iter()
            .chain([("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)])
            .find_map(|(name, unit)| Some((unit, behind.strip_prefix(name)?)))?;
        let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
        let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let whole = i128::from(number(whole)?).checked_mul(unit)?;
        let part = i128::from(number(fraction)?).checked_mul(unit)? / scale;
        nanos = nanos.checked_add(whole)?.checked_add(part)?;
        rest = behind;
    }
    let nanos = i64::try_from(nanos).ok()?;
    (!text.is_empty()).then(|| SignedDuration::from_nanos(nanos))
}

/// The message and the metadata behind it.
fn tail(access: &mut Access, text: &str) {
    let keys = Keys::of(text);
    access.sign = keys.sign();
    // behind apid machined of 1.14 prints `peer=@`, the unnamed end of a Unix socket: nobody's address
    let peer = keys.peer.once().filter(|peer| is_plain(peer, LONGEST_PEER) && peer.contains(':'));
    access.peer = peer.map(Into::into);
    access.is_local = keys.content_type.once() == Some("application/grpc");
    access.probe = keys.probe.once().filter(|probe| is_plain(probe, 64)).map(Into::into);
    let Some(roles) = keys.role.once() else { return };
    let mut length = 0;
    for role in roles.split(',').map(str::trim).filter(|role| !role.is_empty()) {
        let place = match role.split_once(':') {
            Some(("user", user)) => Some((&mut access.user, user)),
            Some(("grant", grant)) => Some((&mut access.grant, grant)),
            _ => None,
        };
        match place {
            Some((place @ None, value)) if is_plain(value, LONGEST_USER) => *place = Some(value.into()),
            Some(_) => access.sign = access.sign.or(Some(Sign::Twice)),
            // no node writes one, and PostgreSQL keeps no text with a NUL
            None if has_control(role) => access.sign = access.sign.or(Some(Sign::Control)),
            None => {
                length += role.len() + 1;
                if length > LONGEST_ROLES {
                    access.sign = access.sign.or(Some(Sign::Twice));
                    break;
                }
                access.roles.push(role.into());
            }
        }
    }
    access.roles.sort_unstable();
    access.roles.dedup();
}

/// Whether [`char::is_control`] is true of any of its characters: of ASCII's own, or of U+0080 to U+009F, which are two bytes of UTF-8.
/// Every byte is looked at, with no way out between: the compiler makes that many at once.
fn has_control(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_ascii = |found, byte: &u8| found | byte.is_ascii_control();
    let is_other = |found, (first, second): (&u8, &u8)| found | (*first == 0xc2 && (*second & 0xe0) == 0x80);
    bytes.iter().fold(false, is_ascii) || bytes.iter().zip(bytes.iter().skip(1)).fold(false, is_other)
}

fn is_plain(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
