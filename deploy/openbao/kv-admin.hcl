# For whoever runs `ichor-broker ca create|import|move|rotate` with KV version 2, for the time that it takes. Not for a running
# broker.

# The next version, and what was written. Deleting and destroying versions is left to the vault's own people. They had better
# demand check-and-set, so that nobody overwrites what they have not seen; a policy cannot (`required_parameters` would bind
# reading too):
#
#   bao kv metadata put -cas-required secret/ichor/CLUSTER
path "secret/data/ichor/CLUSTER" {
  capabilities = ["create", "update", "read"]
  allowed_parameters = {
    "data"    = []
    "options" = []
    "version" = []
  }
}

# The number for the check-and-set.
path "secret/metadata/ichor/CLUSTER" {
  capabilities = ["read"]
}
