# A running broker that has one cluster's certificates issued by the PKI engine, mounted at `pki`. Which organization (and so
# which Talos role) a certificate gets is in the Vault role alone; this policy sees to it that the call cannot add to it.
#
# One mount holds one cluster's CA: the broker refuses a second cluster at it, for its certificates would be good for both.
#
#   sed s/CLUSTER/prod/g pki.hcl | bao policy write ichor-prod-pki -

# Nothing but the request and the time to live. So no common_name, alt_names, ip_sans, uri_sans, other_sans or user_ids (names that
# the node would see), no not_after (which beats max_ttl where the role does not bound it), no not_before, no serial_number.
# Refused without being named: sign-verbatim (takes the subject from the request), issue (makes the private key), the same under
# issuer/, and cel/ (a program makes the certificate).
path "pki/sign/ichor-CLUSTER-*" {
  capabilities        = ["update"]
  required_parameters = ["csr", "ttl"]
  allowed_parameters = {
    "csr"    = []
    "ttl"    = []
    "format" = ["pem"]
  }
}

# `ichor-broker check` compares each role with what it must be.
path "pki/roles/ichor-CLUSTER-*" {
  capabilities = ["read"]
}

# The CA's own certificate needs no token: pki/cert/ca, pki/ca/pem and pki/issuer/default/json are open to everybody.
