# A running broker whose CA of one cluster lies in KV version 2, mounted at `secret`. It reads; it never writes.
#
#   sed s/CLUSTER/prod/g kv.hcl | bao policy write ichor-prod -
#
# The CA that comes after it has `.2` behind its name: write the policy once more then, with `prod.2` for CLUSTER, and give
# the broker both until the old CA is gone.

# Certificate and key, as one version. Without `list`, other names cannot be learnt.
path "secret/data/ichor/CLUSTER" {
  capabilities = ["read"]
}

# The number of the newest version: a broker looks at it again and again, and reads the key only when it has changed.
path "secret/metadata/ichor/CLUSTER" {
  capabilities = ["read"]
}
