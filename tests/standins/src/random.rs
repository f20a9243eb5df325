//! Random values.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// `N` random octets.
pub(crate) fn bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut out = [0; N];
    #[expect(clippy::disallowed_methods, reason = "the one place where a stand-in draws random values")]
    aws_lc_rs::rand::fill(&mut out).map_err(|_| anyhow::anyhow!("the system gave no random values"))?;
    Ok(out)
}

/// A random token of 192 bits, base64url.
pub(crate) fn token() -> anyhow::Result<String> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes::<24>()?))
}
