# For whoever runs `ichor-broker custody plan|apply` with the PKI engine, for the time that it takes. Not for a running broker.
#
# Which organization a role gives is the point of it, so this policy cannot bound it. What it can see to: no role of Ichor's is
# good for a server, a name, a CA's key usage, or a life beyond what the role says.

# Writing a role replaces all of it, and what is left out takes the engine's default, which is wider. A policy cannot demand the
# fields (`required_parameters` would bind reading too), so `ichor-broker check` compares each role as it was stored.
path "pki/roles/ichor-CLUSTER-*" {
  capabilities = ["read", "update", "delete"]
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

# Which roles there are, for the plan.
path "pki/roles" {
  capabilities = ["list"]
}
path "pki/roles/" {
  capabilities = ["list"]
}
