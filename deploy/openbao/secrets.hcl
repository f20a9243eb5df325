# A running broker whose own data key lives here (`ichor-broker custody move-secrets`): encrypted by the Transit key
# `ichor.broker`, or as the KV secret `ichor-broker/data-key`. Take out the half that is not used. It reads and decrypts, once
# at each start; it cannot encrypt, write, or see another key.
#
#   bao write -f transit/keys/ichor.broker
#   bao policy write ichor-secrets secrets.hcl

# The data key, as `move-secrets --to transit` left it in the broker's vault folder.
path "transit/decrypt/ichor.broker" {
  capabilities       = ["update"]
  allowed_parameters = {
    "ciphertext"      = []
    "associated_data" = []
  }
}

# The data key, as `move-secrets --to kv` wrote it.
path "secret/data/ichor-broker/data-key" {
  capabilities = ["read"]
}
