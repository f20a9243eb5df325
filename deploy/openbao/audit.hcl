# A running broker whose audit log has something here: the key that signs it (`ichor-broker audit rotate-key --to transit|kv`), or
# the newest checkpoint (`anchor_openbao` under [audit]). Take out what is not used.
#
#   bao policy write ichor-audit audit.hcl
#
# It signs and reads. It can make no key, and let none out; whoever runs `audit rotate-key` does that, with a token of their own.

# The key as one of Transit's own: each checkpoint is signed here. The parameters are those that Ichor sends.
path "transit/sign/ichor.audit" {
  capabilities       = ["update"]
  allowed_parameters = {
    "input"       = []
    "batch_input" = []
    "key_version" = []
  }
}

# The public key, and whether the key can get out: one that can is refused.
path "transit/keys/ichor.audit" {
  capabilities = ["read"]
}

# The key as a secret of KV: read once at each start. Each key has a secret of its own, with the beginning of its public key
# behind the name; `move-secrets --secret audit-key --to kv` writes the one without.
path "secret/data/ichor-broker/audit-key" {
  capabilities = ["read"]
}
path "secret/data/ichor-broker/audit-key-*" {
  capabilities = ["read"]
}

# The newest checkpoint, written before anyone is answered, each over the version that was seen. Deleting and destroying versions
# is left to the vault's own people. Who has this token can push old versions out by writing as many as stay: how many those are is
# the vault's people's to say, and the server's own audit log tells of each write:
#
#   bao kv metadata put -cas-required -max-versions=1000 secret/ichor-broker/checkpoint
path "secret/data/ichor-broker/checkpoint" {
  capabilities       = ["create", "update", "read"]
  allowed_parameters = {
    "data"    = []
    "options" = []
  }
}

# The number for the check-and-set, where there is no version that can be read.
path "secret/metadata/ichor-broker/checkpoint" {
  capabilities = ["read"]
}
