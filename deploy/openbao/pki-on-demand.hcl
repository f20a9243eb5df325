# Beside pki.hcl, for a running broker that may make roles itself: one for each person and set of Talos roles, so that the
# person's name stands in the certificate and so in the node's log.
#
# Think twice: with it the broker chooses the organization, so that PKI bounds nothing against an intruder in the broker but the
# kind of certificate: a client's, without names, and not for longer than such a role says.

# As in pki-admin.hcl, without deleting.
path "pki/roles/ichor-CLUSTER-*" {
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
