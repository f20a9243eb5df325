//! What is believed of the database: rows that bear the broker's tag. Whoever can write the database, but has not the key
//! in the vault, must not become anyone; a row without the right tag is as if it were not there.

use super::Login;
use super::pending::{Device, Pending, Unreadable};
use crate::custody::TAG;
use crate::identity::{Forged, Identity, is_vouched};
use crate::store::{DeviceLogin, PendingLogin, SessionRow};

const LOGIN: &[u8] = b"ichor pending login 1\0";
const DEVICE: &[u8] = b"ichor device login 1\0";

impl Login {
    /// The row of a session, if the broker wrote it.
    pub(super) fn vouched(&self, row: SessionRow) -> Result<SessionRow, Forged> {
        if is_vouched(&row, &self.data_key) {
            return Ok(row);
        }
        alarm("session", &row.id);
        Err(Forged)
    }

    /// The identity of a session, if the broker wrote its row.
    pub(super) fn restored(&self, row: &SessionRow) -> Result<Identity, Forged> {
        let identity = Identity::restore(row, &self.data_key).inspect_err(|_| alarm("session", &row.id))?;
        Ok(match self.provider(row.person.provider.as_str()) {
            Some(provider) => identity.beside_file(&provider.settings.mapping.local_groups),
            None => identity,
        })
    }

    /// Puts the state into its row, bound to everything that finds the row. Call it last: a row changed afterwards is void.
    pub(super) fn keep_pending(&self, row: &mut PendingLogin, pending: &Pending) -> Result<(), Unreadable> {
        row.state = self.tagged(LOGIN, &login_key(row), &pending.encode()?);
        Ok(())
    }

    /// The state of a login's row.
    pub(super) fn read_pending(&self, row: &PendingLogin) -> Result<Pending, Unreadable> {
        let state = self.untagged(LOGIN, &login_key(row), &row.state);
        Pending::decode(state.ok_or(Unreadable).inspect_err(|_| alarm("login", &row.id))?)
    }

    /// As [`Self::keep_pending`], for a device login.
    pub(super) fn keep_device(&self, row: &mut DeviceLogin, device: &Device) -> Result<(), Unreadable> {
        row.state = self.tagged(DEVICE, &device_key(row), &device.encode()?);
        Ok(())
    }

    /// The state of a device login's row.
    pub(super) fn read_device(&self, row: &DeviceLogin) -> Result<Device, Unreadable> {
        let state = self.untagged(DEVICE, &device_key(row), &row.state);
        Device::decode(state.ok_or(Unreadable).inspect_err(|_| alarm("device", &row.id))?)
    }

    fn tagged(&self, context: &[u8], key: &[u8], state: &[u8]) -> Vec<u8> {
        let tag = self.data_key.tag(context, &[key, state].concat());
        [tag.as_slice(), state].concat()
    }

    fn untagged<'a>(&self, context: &[u8], key: &[u8], kept: &'a [u8]) -> Option<&'a [u8]> {
        let (tag, state) = kept.split_at_checked(TAG)?;
        self.data_key.has_tagged(context, &[key, state].concat(), tag).then_some(state)
    }
}

/// Everything of the row but its state and version, in parts of fixed lengths.
fn login_key(row: &PendingLogin) -> Vec<u8> {
    let mut out = row.id.as_bytes().to_vec();
    out.extend_from_slice(&row.cookie_hash);
    out.push(u8::from(row.code_hash.is_some()));
    out.extend_from_slice(&row.code_hash.unwrap_or_default());
    out.extend_from_slice(&row.expires_at.as_microsecond().to_be_bytes());
    out
}

/// As [`login_key`]; the user code has its length before it.
fn device_key(row: &DeviceLogin) -> Vec<u8> {
    let mut out = row.id.as_bytes().to_vec();
    out.extend_from_slice(&row.device_hash);
    out.extend_from_slice(&row.expires_at.as_microsecond().to_be_bytes());
    out.extend_from_slice(&(row.user_code.len() as u64).to_be_bytes());
    out.extend_from_slice(row.user_code.as_bytes());
    out
}

fn alarm(table: &'static str, id: &dyn std::fmt::Display) {
    tracing::error!(table, %id, "a row was not written by this broker and is not believed: someone else writes the database");
    metrics::counter!("ichor_forged_rows_total", "table" => table).increment(1);
}
