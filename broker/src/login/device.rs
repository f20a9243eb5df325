//! The device grant (RFC 8628): off unless configured, bound to the client's key, confirmed like every login.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::ask::{Stronger, check_client, check_client_id, request};
use super::authorize::{LOGIN_LIFE, Start};
use super::pending::{Decision, Device, Target};
use super::{Login, LoginError, OauthError, hash};
use crate::entropy::{self, EntropyError};
use crate::store::DeviceLogin;

/// The grant type (RFC 8628 §3.4).
pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Seconds between two polls (RFC 8628 §3.5: the default).
const INTERVAL: i64 = 5;

/// Letters of a user code: consonants, so that no words come about (RFC 8628 §6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// Letters in a user code: 20¹⁰ codes, 43 bits. What that is worth against guessing: [`super::crowd`].
const LENGTH: usize = 10;

/// The answer of the device authorization endpoint. There is no `verification_uri_complete`: a person must type the code
/// that they see, so that a sent link is worth nothing.
#[derive(Debug, Serialize)]
pub struct DeviceStart {
    /// To be polled with.
    pub device_code: String,
    /// To be typed by the person.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// Seconds.
    pub expires_in: i64,
    /// Seconds between two polls.
    pub interval: i64,
}

/// When each device polled last.
#[derive(Debug, Default)]
pub(super) struct Polls {
    last: Mutex<HashMap<[u8; 32], Timestamp>>,
}

// === impl Login ===

impl Login {
    /// Begins a device login.
    ///
    /// # Errors
    /// When device logins are off, the request does not fit, or too many are under way.
    pub async fn begin_device(
        &self,
        client_id: Option<&str>,
        jkt: Option<&str>,
        host: Option<&str>,
        address: IpAddr,
    ) -> Result<DeviceStart, OauthError> {
        if !self.settings.device {
            return Err(OauthError::new("unauthorized_client", "device logins are switched off at this broker"));
        }
        check_client_id(client_id).map_err(|_| OauthError::new("invalid_client", "the `client_id` is not `ichor`"))?;
        let (jkt, host) = check_client(jkt, host).map_err(OauthError::invalid_request)?;
        let now = self.clock.now();
        let device_code = entropy::secret()?;
        let user_code = user_code()?;
        let device = Device { client: super::pending::Client { jkt, host, address }, decision: Decision::Waiting };
        let mut row = DeviceLogin {
            id: entropy::uuid_v7(now)?,
            version: 0,
            device_hash: hash(&device_code),
            user_code: user_code.clone(),
            state: Vec::new(),
            expires_at: now.saturating_add(LOGIN_LIFE).unwrap_or(now),
        };
        self.keep_device(&mut row, &device)?;
        let too_many = || OauthError::unavailable(&"too many device logins are under way");
        if !self.devices.begin(address, self.settings.max_pending_of_one, now) {
            return Err(too_many());
        }
        match self.store.begin_device(row, self.settings.max_pending, now).await {
            Ok(true) => {}
            refused => {
                self.devices.end(address);
                return Err(refused.err().map_or_else(too_many, OauthError::from));
            }
        }
        let (first, second) = user_code.split_at_checked(LENGTH / 2).unwrap_or((&user_code, ""));
        Ok(DeviceStart {
            device_code: device_code.to_string(),
            user_code: format!("{first}-{second}"),
            verification_uri: self.at("/device"),
            expires_in: LOGIN_LIFE.as_secs(),
            interval: INTERVAL,
        })
    }

    /// Takes the code that a person typed, and begins their login in this browser.
    ///
    /// # Errors
    /// When there is no such code.
    pub async fn enter_user_code(
        &self,
        typed: &str,
        provider: Option<&str>,
        address: IpAddr,
    ) -> Result<Start, LoginError> {
        let result = self.try_user_code(typed, provider, address).await;
        result.inspect_err(|error| self.refused(address, error.problem()))
    }

    async fn try_user_code(&self, typed: &str, provider: Option<&str>, address: IpAddr) -> Result<Start, LoginError> {
        if !self.settings.device {
            return Err(LoginError::SwitchedOff);
        }
        let now = self.clock.now();
        if self.wrong_codes.are_too_many(address, now) {
            return Err(LoginError::TooMany);
        }
        let code: String = typed.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_uppercase()).collect();
        if typed.len() > 64 {
            return Err(request("the code is too long"));
        }
        let row = match code.len() == LENGTH {
            true => self.store.device_by_user_code(&code, now).await?,
            false => None,
        };
        let device = row.map(|row| self.read_device(&row)).transpose()?;
        match device {
            Some(Device { client, decision: Decision::Waiting }) => {
                let target = Target::Device { user_code: code };
                self.choose_and_begin(target, client, provider, Stronger::default()).await
            }
            _ => {
                self.wrong_codes.note(address, now);
                Err(LoginError::UserCode)
            }
        }
    }
}

/// A code without bias: bytes from 240 on are thrown away.
fn user_code() -> Result<String, EntropyError> {
    let mut code = String::new();
    while code.len() < LENGTH {
        let bytes = entropy::bytes::<16>()?;
        let letters = bytes.iter().filter(|byte| **byte < 240).filter_map(|byte| LETTERS.get(usize::from(byte % 20)));
        code.extend(letters.take(LENGTH - code.len()).map(|letter| char::from(*letter)));
    }
    Ok(code)
}

// === impl Polls ===

impl Polls {
    /// Whether this device polled less than [`INTERVAL`] ago; notes the poll.
    pub(super) fn is_too_fast(&self, device: [u8; 32], now: Timestamp) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() > 4096 {
            last.retain(|_, at| now.duration_since(*at).abs() < LOGIN_LIFE);
        }
        let before = last.insert(device, now);
        before.is_some_and(|before| now.duration_since(before).abs() < SignedDuration::from_secs(INTERVAL))
    }
}
