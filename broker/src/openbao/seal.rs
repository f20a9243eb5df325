//! What Transit encrypts for us.

use data_encoding::BASE64;
use http::Method;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::login::json;
use super::{BaoError, Retry, TransitEngine};

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    associated_data: &'a str,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    associated_data: &'a str,
}

#[derive(Deserialize)]
struct Ciphertext {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Plaintext<'a> {
    plaintext: &'a str,
}

// === impl Transit ===

impl TransitEngine {
    /// The plaintext encrypted by the key, bound to `context`, as Transit writes it.
    ///
    /// # Errors
    /// When it was not encrypted.
    pub async fn encrypt(&self, name: &str, plaintext: &[u8], context: &str) -> Result<String, BaoError> {
        let plaintext = Zeroizing::new(BASE64.encode(plaintext));
        let body = json(&Encrypt { plaintext: &plaintext, associated_data: &BASE64.encode(context.as_bytes()) });
        let answer = self.call(Method::POST, &self.path("encrypt", name)?, Some(body), Retry::Safe).await?;
        Ok(answer.data::<Ciphertext>()?.ciphertext)
    }

    /// The plaintext of what [`Self::encrypt`] made for this `context`.
    ///
    /// # Errors
    /// When it was not decrypted.
    pub async fn decrypt(&self, name: &str, ciphertext: &str, context: &str) -> Result<Zeroizing<Vec<u8>>, BaoError> {
        let body = json(&Decrypt { ciphertext, associated_data: &BASE64.encode(context.as_bytes()) });
        let answer = self.call(Method::POST, &self.path("decrypt", name)?, Some(body), Retry::Safe).await?;
        let decrypted: Plaintext<'_> = answer.data()?;
        let bytes = BASE64.decode(decrypted.plaintext.as_bytes());
        bytes.map(Zeroizing::new).map_err(|_| answer.garbled("the plaintext is no base64"))
    }
}
