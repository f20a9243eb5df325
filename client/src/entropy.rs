//! The only place that makes random values; they come from the operating system each time.

use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use crate::error::Error;

/// A 256-bit secret as base64url without padding, 43 characters: states, PKCE verifiers, proof ids.
///
/// # Errors
/// When the system's generator fails.
#[expect(clippy::disallowed_methods, reason = "this is the room where random values are made")]
pub(crate) fn secret() -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|_| Error::Bug("the system's random generator failed"))?;
    Ok(Zeroizing::new(BASE64URL_NOPAD.encode(&*bytes)))
}

/// `N` random bytes.
///
/// # Errors
/// When the system's generator fails.
#[expect(clippy::disallowed_methods, reason = "this is the room where random values are made")]
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut out = [0; N];
    getrandom::fill(&mut out).map_err(|_| Error::Bug("the system's random generator failed"))?;
    Ok(out)
}

/// A UUIDv7 (RFC 9562 §5.7) for `now`: ids sort by time.
///
/// # Errors
/// When the system's generator fails.
pub(crate) fn uuid_v7(now: jiff::Timestamp) -> Result<uuid::Uuid, Error> {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Ok(uuid::Builder::from_unix_timestamp_millis(millis, &bytes::<10>()?).into_uuid())
}
