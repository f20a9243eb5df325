//! The tables of both engines, as a copy sees them.

use sha2::{Digest, Sha256};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole number of 64 bits.
    Int,
    /// A whole number of 16 bits at Postgres.
    Small,
    /// A whole number of 32 bits at Postgres.
    Integer,
    /// Bytes.
    Bytes,
    /// Text.
    Text,
}

/// A table that is copied.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// Its columns; those that tell the rows' order come first, [`Table::key`] of them.
    pub(crate) columns: &'static [(&'static str, Kind)],
    pub(crate) key: usize,
    /// Whether Postgres numbers its rows, so that the numbering must go on behind those that were copied.
    pub(crate) is_numbered: bool,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Int(i64),
    Bytes(Vec<u8>),
    Text(String),
}

/// A row, in the order of its table's columns.
pub(super) type Row = Vec<Value>;

use Kind::{Bytes, Int, Integer, Small, Text};

/// Everything but what is of one engine alone or of the moment: the probe, the log's lock, used proofs, allowances.
pub(crate) const TABLES: &[Table] = &[
    Table {
        name: "session",
        columns: &[
            ("id", Bytes),
            ("token_hash", Bytes),
            ("jkt", Text),
            ("provider", Text),
            ("issuer", Text),
            ("subject", Text),
            ("name", Text),
            ("user", Text),
            ("groups", Text),
            ("groups_at", Int),
            ("acr", Text),
            ("auth_time", Int),
            ("refresh_sealed", Bytes),
            ("version", Int),
            ("created_at", Int),
            ("expires_at", Int),
            ("used_at", Int),
            ("ended_at", Int),
            ("lease_until", Int),
            ("tag", Bytes),
            ("human", Bytes),
            ("page", Bytes),
        ],
        key: 1,
        is_numbered: false,
    },
    Table {
        name: "login",
        columns: &[
            ("id", Bytes),
            ("version", Int),
            ("cookie_hash", Bytes),
            ("code_hash", Bytes),
            ("state", Bytes),
            ("expires_at", Int),
        ],
        key: 1,
        is_numbered: false,
    },
    Table {
        name: "device",
        columns: &[
            ("id", Bytes),
            ("version", Int),
            ("device_hash", Bytes),
            ("user_code", Text),
            ("state", Bytes),
            ("expires_at", Int),
        ],
        key: 1,
        is_numbered: false,
    },
    Table { name: "provider", columns: &[("alias", Text), ("issuer", Text)], key: 1, is_numbered: false },
    Table {
        name: "log_person",
        columns: &[("id", Int), ("provider", Text), ("issuer", Text), ("subject", Text), ("user", Text)],
        key: 1,
        is_numbered: true,
    },
    Table { name: "log_cluster", columns: &[("id", Int), ("name", Text)], key: 1, is_numbered: true },
    Table {
        name: "leaf",
        columns: &[
            ("idx", Int),
            ("time", Int),
            ("kind", Small),
            ("person", Int),
            ("cluster", Int),
            ("grant_id", Bytes),
            ("leaf", Bytes),
        ],
        key: 1,
        is_numbered: false,
    },
    Table { name: "body", columns: &[("idx", Int), ("body", Bytes)], key: 1, is_numbered: false },
    Table { name: "certificate", columns: &[("prefix", Int), ("idx", Int)], key: 2, is_numbered: false },
    Table { name: "forward", columns: &[("name", Text), ("next", Int), ("tag", Bytes)], key: 1, is_numbered: false },
    Table {
        name: "drop_request",
        columns: &[
            ("id", Bytes),
            ("provider", Text),
            ("issuer", Text),
            ("subject", Text),
            ("person", Text),
            ("before", Int),
            ("next", Int),
            ("expires_at", Int),
            ("approved_at", Int),
            ("done_at", Int),
            ("human", Bytes),
            ("session", Bytes),
        ],
        key: 1,
        is_numbered: false,
    },
    Table {
        name: "tile",
        columns: &[("level", Small), ("idx", Int), ("root", Bytes), ("hashes", Bytes)],
        key: 2,
        is_numbered: false,
    },
    Table {
        name: "checkpoint",
        columns: &[("id", Integer), ("size", Int), ("note", Text)],
        key: 1,
        is_numbered: false,
    },
    Table {
        name: "call_node",
        columns: &[("id", Int), ("cluster", Text), ("name", Text), ("held", Int)],
        key: 1,
        is_numbered: true,
    },
    Table { name: "call_method", columns: &[("id", Int), ("name", Text)], key: 1, is_numbered: true },
    Table { name: "call_user", columns: &[("id", Int), ("name", Text)], key: 1, is_numbered: true },
    Table {
        name: "call",
        columns: &[
            ("id", Int),
            ("batch", Int),
            ("node", Int),
            ("service", Small),
            ("method", Int),
            ("code", Small),
            ("started", Int),
            ("duration", Int),
            ("roles", Text),
            ("owner", Int),
            ("user", Int),
            ("grant_id", Bytes),
            ("peer", Text),
            ("class", Small),
            ("why", Text),
            ("entry", Int),
        ],
        key: 1,
        is_numbered: false,
    },
    Table {
        name: "call_taken",
        columns: &[("cluster", Text), ("calls", Int), ("youngest", Int)],
        key: 1,
        is_numbered: false,
    },
    Table {
        name: "node_seen",
        columns: &[("cluster", Text), ("node", Text), ("service", Small), ("line", Int), ("probe", Int)],
        key: 3,
        is_numbered: false,
    },
    Table {
        name: "break_glass",
        columns: &[
            ("id", Bytes),
            ("state", Small),
            ("provider", Text),
            ("issuer", Text),
            ("subject", Text),
            ("human", Bytes),
            ("cluster", Text),
            ("contents", Text),
            ("hash", Bytes),
            ("tag", Bytes),
            ("quorum", Int),
            ("uses", Int),
            ("life", Int),
            ("waits_until", Int),
            ("good_until", Int),
            ("used", Int),
            ("jkt", Text),
            ("closed_by", Text),
            ("closed_at", Int),
            ("comment", Text),
            ("label", Text),
            ("note", Text),
            ("reviewed_by", Text),
            ("reviewed_at", Int),
            ("self_service", Small),
            ("reminded_at", Int),
            ("asked_at", Int),
        ],
        key: 1,
        is_numbered: false,
    },
    Table {
        name: "break_glass_approval",
        columns: &[
            ("request", Bytes),
            ("human", Bytes),
            ("hash", Bytes),
            ("provider", Text),
            ("issuer", Text),
            ("subject", Text),
            ("name", Text),
            ("user", Text),
            ("session", Bytes),
            ("comment", Text),
            ("at", Int),
            ("tag", Bytes),
        ],
        key: 2,
        is_numbered: false,
    },
    Table {
        name: "break_glass_use",
        columns: &[
            ("grant_id", Bytes),
            ("request", Bytes),
            ("at", Int),
            ("returned", Small),
            ("touched_at", Int),
            ("issued_at", Int),
        ],
        key: 1,
        is_numbered: false,
    },
    Table {
        name: "break_glass_told",
        columns: &[("request", Bytes), ("hash", Bytes), ("sink", Text), ("at", Int), ("tag", Bytes)],
        key: 1,
        is_numbered: false,
    },
    Table {
        name: "lock",
        columns: &[
            ("id", Bytes),
            ("kind", Small),
            ("one", Text),
            ("two", Text),
            ("set_by", Text),
            ("reason", Text),
            ("at", Int),
            ("until", Int),
            ("asked_provider", Text),
            ("asked_issuer", Text),
            ("asked_subject", Text),
            ("asked_user", Text),
            ("asked_until", Int),
            ("ended_by", Text),
            ("ended_at", Int),
            ("asked_human", Bytes),
            ("set_issuer", Text),
            ("set_subject", Text),
            ("asked_session", Bytes),
        ],
        key: 1,
        is_numbered: false,
    },
];

// === impl Table ===

impl Table {
    /// The columns' names, each in quotes: `user` is a word of SQL.
    pub(super) fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    }

    /// All rows in the order of their key. Bytes and numbers order alike in both engines; so does text, told to by `collate`.
    pub(super) fn select(&self, collate: &str) -> String {
        let order: Vec<_> = self
            .columns
            .iter()
            .take(self.key)
            .map(
                |(name, kind)| {
                    if *kind == Text { format!("\"{name}\" COLLATE {collate}") } else { format!("\"{name}\"") }
                },
            )
            .collect();
        format!("SELECT {} FROM {} ORDER BY {}", self.names(), self.name, order.join(", "))
    }
}

// === impl Value ===

impl Value {
    pub(super) fn digest_into(&self, digest: &mut Sha256) {
        let mut sized = |mark: u8, bytes: &[u8]| {
            digest.update([mark]);
            digest.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(bytes);
        };
        match self {
            Self::Null => sized(0, &[]),
            Self::Int(number) => sized(1, &number.to_be_bytes()),
            Self::Bytes(bytes) => sized(2, bytes),
            Self::Text(text) => sized(3, text.as_bytes()),
        }
    }
}
