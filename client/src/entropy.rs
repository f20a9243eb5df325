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
