//! The only place that makes random values. They come from the operating system each time, not from a generator of our own
//! process: a virtual machine that is restored twice from one snapshot must not give two people one token.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The operating system's random generator failed. Nothing that needs a random value may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct EntropyError;

/// `N` random bytes.
///
/// # Errors
/// When the system's generator fails.
#[expect(clippy::disallowed_methods, reason = "this is the room where random values are made")]
pub fn bytes<const N: usize>() -> Result<[u8; N], EntropyError> {
    let mut out = [0; N];
    getrandom::fill(&mut out).map_err(|_| EntropyError)?;
    Ok(out)
}

/// A span between half of `most` and all of it, so that what began together does not go on in step; all of it when the system's
/// generator fails.
#[must_use]
pub fn within(most: Duration) -> Duration {
    let half = most / 2;
    let random = bytes::<2>().map_or(u16::MAX, u16::from_be_bytes);
    half + half.mul_f64(f64::from(random) / f64::from(u16::MAX))
}

/// A 256-bit secret as base64url without padding, 43 characters: tokens, codes, states, nonces.
///
/// # Errors
/// When the system's generator fails.
pub fn secret() -> Result<Zeroizing<String>, EntropyError> {
    Ok(Zeroizing::new(BASE64URL_NOPAD.encode(&*Zeroizing::new(bytes::<32>()?))))
}

/// A UUIDv7 (RFC 9562 §5.7) for `now`: ids sort by time.
///
/// # Errors
/// When the system's generator fails.
pub fn uuid_v7(now: Timestamp) -> Result<Uuid, EntropyError> {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Ok(uuid::Builder::from_unix_timestamp_millis(millis, &bytes::<10>()?).into_uuid())
}
