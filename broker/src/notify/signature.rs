//! Signing webhooks as Standard Webhooks 1.0 has it, so that receivers verify with a library of theirs.

use std::sync::Arc;

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use jiff::Timestamp;
use zeroize::Zeroizing;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// How many bytes a secret has, least and most.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that signs webhooks (HMAC-SHA-256).
#[derive(Clone)]
pub struct SigningKey(Arc<hmac::Key>);

/// The text is no such secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a webhook's secret is `whsec_` and the base64 of 24 to 64 random bytes; make one with `echo whsec_$(openssl rand -base64 32)`"
)]
pub struct BadSecret;

// === impl SigningKey ===

impl SigningKey {
    /// The key from its text, as `whsec_…`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(BadSecret)?;
        let key = Zeroizing::new(BASE64.decode(text.as_bytes()).map_err(|_| BadSecret)?);
        if !BYTES.contains(&key.len()) {
            return Err(BadSecret);
        }
        Ok(Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key))))
    }

    /// The headers that say when what was sent, and that it was sent by whoever has the key.
    pub(super) fn headers(&self, id: &str, at: Timestamp, body: &[u8]) -> [(&'static str, String); 3] {
        let seconds = at.as_second().to_string();
        let mut signed = hmac::Context::with_key(&self.0);
        for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
            signed.update(part);
        }
        let signature = format!("v1,{}", BASE64.encode(signed.sign().as_ref()));
        [("webhook-id", id.to_owned()), ("webhook-timestamp", seconds), ("webhook-signature", signature)]
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors that others published: Svix' documentation, and the tests of Standard Webhooks' libraries.
    #[test]
    fn signatures_are_those_of_other_implementations() {
        for (secret, id, at, body, signature) in [
            (
                "whsec_plJ3nmyCDGBKInavdOK15jsl",
                "msg_loFOjxBNrRLzqYUf",
                1_731_705_121,
                "{\"event_type\":\"ping\",\"data\":{\"success\":true}}",
                "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
            ),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                "{\"test\": 2432232314}",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ] {
            // one of them is shorter than Standard Webhooks allows by now
            let bytes = BASE64.decode(secret.trim_start_matches(PREFIX).as_bytes()).unwrap();
            let key = SigningKey(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
            let headers = key.headers(id, Timestamp::from_second(at).unwrap(), body.as_bytes());
            assert_eq!(headers[2], ("webhook-signature", signature.to_owned()));
            assert_eq!(headers[1].1, at.to_string());
        }
    }

    #[test]
    fn a_secret_is_long_enough_and_not_shown() {
        let secret = |bytes: usize| format!("whsec_{}", BASE64.encode(&vec![7; bytes]));
        for wrong in ["", "whsec_", "secret", "whsec_%%%", &secret(23), &secret(65), &BASE64.encode(&[7; 32])] {
            assert_eq!(SigningKey::parse(wrong).err(), Some(BadSecret), "{wrong}");
        }
        assert_eq!(format!("{:?}", SigningKey::parse(&format!("{}\n", secret(24))).unwrap()), "SigningKey(..)");
    }
}
