# For whoever runs `ichor-broker ca create|import|move|rotate` with Transit, for the time that it takes. Not for a running broker.
#
# Nothing here lets a key out, and `config` is missing on purpose: `exportable` and `allow_plaintext_backup` can be switched on
# there, and never off again. Deleting a key and destroying its versions is left to the vault's own people.

# Makes the key of a dedicated CA (Transit asks for `update` here, not `create`), and reads it. Both flags may be sent as false only.
path "transit/keys/ichor-CLUSTER" {
  capabilities = ["read", "update"]
  allowed_parameters = {
    "type"                   = ["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]
  }
}

# The CA's certificate signs itself once.
path "transit/sign/ichor-CLUSTER" {
  capabilities = ["update"]
  allowed_parameters = {
    "input"                = []
    "batch_input"          = []
    "key_version"          = []
    "hash_algorithm"       = []
    "signature_algorithm"  = []
    "marshaling_algorithm" = []
    "prehashed"            = [false]
  }
}

# The public half of the key that an existing CA key is wrapped with for its one journey.
path "transit/wrapping_key" {
  capabilities = ["read"]
}

# Takes the wrapped key in. It may not be made exportable on the way.
path "transit/keys/ichor-CLUSTER/import" {
  capabilities        = ["update"]
  required_parameters = ["type", "ciphertext"]
  allowed_parameters = {
    "type"                   = ["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
    "ciphertext"             = []
    "hash_function"          = ["SHA256"]
    "allow_rotation"         = []
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]
  }
}
