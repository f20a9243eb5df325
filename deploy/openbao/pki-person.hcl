# In place of pki.hcl, for a CA that was imported with `--role-per-person`: the broker makes a role for each person, so that the
# person stands in the nodes' logs.
#
# Whoever holds such a token can give any organization to such a role, and so any Talos role: the engine then bounds nothing but
# the life of what is made. Prefer pki.hcl where that matters more than names in the nodes' logs.
#
#   sed s/CLUSTER/prod/g pki-person.hcl | bao policy write ichor-prod -

path "pki/sign/ichor-CLUSTER-p-*" {
  capabilities        = ["update"]
  required_parameters = ["csr", "ttl"]
  allowed_parameters = {
    "csr"    = []
    "ttl"    = []
    "format" = ["pem"]
  }
}

path "pki/roles/ichor-CLUSTER-p-*" {
  capabilities = ["create", "read", "update"]
}
