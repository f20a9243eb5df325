# In place of pki.hcl, for a CA that was imported with `--role-per-person`: the broker makes a role for each person and set of
# Talos roles, so that the person stands in the certificate and so in the nodes' logs.
#
# Think twice: whoever holds such a token can give any organization to such a role, and so any Talos role. The engine then
# bounds nothing but the kind of certificate: a client's, without names, and not for longer than such a role says. Prefer pki.hcl
# where that matters more than names in the nodes' logs.
#
#   sed s/CLUSTER/prod/g pki-person.hcl | bao policy write ichor-prod-pki -

# As in pki.hcl, for the roles of persons alone.
path "pki/sign/ichor-CLUSTER-p-*" {
  capabilities        = ["update"]
  required_parameters = ["csr", "ttl"]
  allowed_parameters = {
    "csr"    = []
    "ttl"    = []
    "format" = ["pem"]
  }
}

# As in pki-admin.hcl, without deleting.
path "pki/roles/ichor-CLUSTER-p-*" {
  capabilities = ["read", "update"]
  allowed_parameters = {
    "server_flag"                        = [false]
    "client_flag"                        = [true]
    "code_signing_flag"                  = [false]
    "email_protection_flag"              = [false]
    "key_usage"                          = [["DigitalSignature"]]
    "ext_key_usage"                      = [[]]
    "ext_key_usage_oids"                 = [[]]
    "use_csr_common_name"                = [false]
    "use_csr_sans"                       = [false]
    "allow_any_name"                     = [false]
    "allow_localhost"                    = [false]
    "allow_ip_sans"                      = [false]
    "not_after_bound"                    = ["forbid"]
    "not_before_bound"                   = ["forbid"]
    "basic_constraints_valid_for_non_ca" = [true]

    "organization"                = []
    "require_cn"                  = []
    "allow_wildcard_certificates" = []
    "enforce_hostnames"           = []
    "not_before_duration"         = []
    "ttl"                         = []
    "max_ttl"                     = []
    "key_type"                    = []
    "key_bits"                    = []
    "signature_bits"              = []
    "issuer_ref"                  = []
    "no_store"                    = []
    "generate_lease"              = []
  }
}
