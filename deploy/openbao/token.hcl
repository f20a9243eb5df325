# What a broker's token may do to itself, for roles whose tokens go without the policy `default` (`token_no_default_policy=true`).
# Beside it goes what the broker has there: transit.hcl, kv.hcl, pki.hcl (pki-person.hcl), secrets.hcl, audit.hcl. Where tokens
# have `default`, this one is not needed.
#
#   bao policy write ichor-token token.hcl

# The lease, which decides when to renew.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

# Renewal at two thirds of the lease.
path "auth/token/renew-self" {
  capabilities = ["update"]
}

# A broker that is stopped ends its token. One that is killed leaves it to its lease.
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# `ichor-broker check` asks what the token may, and says where that is too little or too much.
path "sys/capabilities-self" {
  capabilities = ["update"]
}

# With a CA in PKI: which names its own policies have, so that `check` asks about those too.
path "sys/internal/ui/resultant-acl" {
  capabilities = ["read"]
}
