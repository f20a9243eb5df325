//! The KV engine, version 2: one secret with its versions.

use http::Method;
use serde::{Deserialize, Serialize};

use super::login::json;
use super::{Answer, BaoError, Client, Kind, NameError, Retry, check_mount};

/// KV version 2 at one mount.
#[derive(Clone, Debug)]
pub struct Kv {
    client: Client,
    mount: String,
}

/// One version of a secret, as it was read.
#[derive(Debug)]
pub struct Version {
    answer: Answer,
    /// Its number, from 1.
    pub number: u64,
}

#[derive(Deserialize)]
struct Read<T> {
    data: Option<T>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

/// What a write answers.
#[derive(Deserialize)]
struct Written {
    version: u64,
}

#[derive(Deserialize)]
struct Current {
    current_version: u64,
}

#[derive(Serialize)]
struct Write<'a, T> {
    data: &'a T,
    options: Options,
}

#[derive(Serialize)]
struct Options {
    cas: u64,
}

// === impl Kv ===

impl Kv {
    /// KV at this mount.
    ///
    /// # Errors
    /// When the mount cannot stand in a path.
    pub fn new(client: Client, mount: &str) -> Result<Self, NameError> {
        check_mount(mount)?;
        Ok(Self { client, mount: mount.to_owned() })
    }

    /// The client behind it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The newest version of a secret; `None` when the engine has none, or it was deleted.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn read(&self, path: &str) -> Result<Option<Version>, BaoError> {
        match self.client.call(Method::GET, &self.path("data", path)?, None, Retry::Safe).await {
            Ok(answer) => {
                let number = answer.data::<Read<serde::de::IgnoredAny>>()?.metadata.version;
                Ok(Some(Version { answer, number }))
            }
            Err(error) if matches!(error.kind(), Kind::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number of the newest version, deleted or not; 0 when there is none.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn newest(&self, path: &str) -> Result<u64, BaoError> {
        match self.client.call(Method::GET, &self.path("metadata", path)?, None, Retry::Safe).await {
            Ok(answer) => Ok(answer.data::<Current>()?.current_version),
            Err(error) if matches!(error.kind(), Kind::Missing(_)) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Returns the new version's number once it is written, if `over` is still the newest (0: there is none).
    ///
    /// # Errors
    /// When another was written meanwhile, or the write failed. A failed write may have been done: look at [`Self::newest`].
    pub async fn write<T: Serialize>(&self, path: &str, data: &T, over: u64) -> Result<u64, BaoError> {
        let body = json(&Write { data, options: Options { cas: over } });
        let answer = self.client.call(Method::POST, &self.path("data", path)?, Some(body), Retry::Never).await?;
        let written: Result<Written, _> = answer.data();
        let written = written.map_err(|_| {
            answer.garbled(
                "it tells of no version that was written, as an engine of KV version 1 does not: take out there what this wrote, and make it \
                 version 2 (`bao kv enable-versioning`)",
            )
        })?;
        Ok(written.version)
    }

    /// Where this is done with a secret: for asking what our token may do.
    ///
    /// # Errors
    /// When the secret's path cannot stand in one.
    pub fn path(&self, what: &str, path: &str) -> Result<String, BaoError> {
        check_mount(path).map_err(|error| self.client.error(Kind::Refused(error.to_string()), None))?;
        Ok(format!("{}/{what}/{path}", self.mount))
    }
}

// === impl Version ===

impl Version {
    /// What the version holds. Strings may be borrowed, so that a secret gets no second copy.
    ///
    /// # Errors
    /// When it holds something else. What that is, is not told.
    pub fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, BaoError> {
        let read: Read<T> = self.answer.data()?;
        read.data.ok_or_else(|| self.garbled("the secret holds other fields than expected"))
    }

    /// An error that says so of this version.
    #[must_use]
    pub fn garbled(&self, what: &'static str) -> BaoError {
        self.answer.garbled(what)
    }
}
