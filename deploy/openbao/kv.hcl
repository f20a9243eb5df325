# A running broker whose CA of one cluster lies in KV version 2, mounted at `secret`. It reads; it never writes.
#
#   sed s/CLUSTER/prod/g kv.hcl | bao policy write ichor-prod-kv -
#
# The CA that comes after it has `.2` behind its name. A running broker's token keeps the policies that its login gave it, by
# name; so put both into the same one, which takes effect at once, until the old CA is gone:
#
#   for c in prod prod.2; do sed s/CLUSTER/$c/g kv.hcl; done | bao policy write ichor-prod-kv -

# Certificate and key, as one version: read at start, and each half minute to see whether there is a newer one. Without `list`, other names cannot be learnt.
path "secret/data/ichor/CLUSTER" {
  capabilities = ["read"]
}
