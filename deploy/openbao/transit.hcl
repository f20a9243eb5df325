# A running broker whose CA key of one cluster lives in Transit, mounted at `transit`. It has signatures made, and sees the
# public key. It cannot make, change, export, back up, rotate or delete a key.
#
#   sed s/CLUSTER/prod/g transit.hcl | bao policy write ichor-prod-transit -
#
# The CA that comes after it has `.2` behind its name. A running broker's token keeps the policies that its login gave it, by
# name; so put both into the same one, which takes effect at once, until the old CA is gone:
#
#   for c in prod prod.2; do sed s/CLUSTER/$c/g transit.hcl; done | bao policy write ichor-prod-transit -

# Every certificate is signed here. The parameters are those that Ichor sends.
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

# The public key, which every signature is verified with, and whether the key can get out (`exportable`,
# `allow_plaintext_backup`): one that can is refused.
path "transit/keys/ichor-CLUSTER" {
  capabilities = ["read"]
}
