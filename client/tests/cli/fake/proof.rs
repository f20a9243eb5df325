//! What a broker checks of a proof of possession (RFC 9449); where a client's is wrong, the test hears why.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use data_encoding::BASE64URL_NOPAD;
use ichor_client::Clock;
use ichor_wire::api::CLIENT_VERSION_HEADER;
use ichor_wire::dpop::{ProofClaims, ProofHeader, sha256_base64url};
use ichor_wire::problem::{Code, Problem};
use serde_json::json;
use url::Url;

use super::Broker;
use super::http::{Asked, Reply};

const NONCE: &str = "nonce-2";

impl Broker {
    /// `None` if the proof is right; else what a broker says.
    pub(super) fn proved(&self, asked: &Asked, url: &Url, token: Option<&str>) -> Option<Reply> {
        let broken =
            |what: String| self.state.lock().unwrap().broken.push(format!("{} {}: {what}", asked.method, asked.target));
        let (header, claims) = match proof(asked) {
            Ok(proof) => proof,
            Err(why) => {
                broken(why);
                return Some(Reply::problem(Problem::new(Code::BadProof, "the proof does not fit")));
            }
        };
        if claims.nonce.as_deref() != Some(NONCE) {
            return Some(
                match token {
                    Some(_) => Reply::problem(Problem::new(Code::UseNonce, "a nonce is needed")),
                    None => Reply::json(400, &json!({ "error": "use_dpop_nonce" })),
                }
                .with("dpop-nonce", NONCE),
            );
        }
        let mut plain = url.clone();
        plain.set_query(None);
        if claims.htu != plain.as_str() || claims.htm != asked.method {
            broken(format!("htu {} htm {}", claims.htu, claims.htm));
        }
        if claims.ath != token.map(|token| sha256_base64url(token.as_bytes())) {
            broken("ath".into());
        }
        if claims.body_sha256 != (asked.method == "POST").then(|| sha256_base64url(&asked.body)) {
            broken("body_sha256".into());
        }
        if (claims.iat - Clock::system().now().as_second()).abs() > 60 || header.alg != "ES256" || claims.jti.len() < 20
        {
            broken("iat, alg or jti".into());
        }
        let authorization = token.map(|token| format!("DPoP {token}"));
        if asked.headers.get("authorization") != authorization.as_ref() {
            return Some(Reply::problem(Problem::new(Code::NotLoggedIn, "no valid session")));
        }
        if !asked.headers.contains_key(CLIENT_VERSION_HEADER) {
            broken("no client version".into());
        }
        None
    }
}

fn proof(asked: &Asked) -> Result<(ProofHeader, ProofClaims), String> {
    let proof = asked.headers.get("dpop").ok_or("no proof")?;
    let (signed, signature) = proof.rsplit_once('.').ok_or("not a JWT")?;
    let (header, claims) = signed.split_once('.').ok_or("not a JWT")?;
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| "not base64url".to_owned());
    let header: ProofHeader = serde_json::from_slice(&decode(header)?).map_err(|error| error.to_string())?;
    let claims = serde_json::from_slice(&decode(claims)?).map_err(|error| error.to_string())?;
    let point = [&[4][..], &decode(&header.jwk.x)?, &decode(&header.jwk.y)?].concat();
    let verified =
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &decode(signature)?);
    verified.map_err(|_| "the signature does not fit".to_owned())?;
    Ok((header, claims))
}

pub(super) fn thumbprint(asked: &Asked) -> String {
    proof(asked).map(|(header, _)| header.jwk.thumbprint()).unwrap_or_default()
}
