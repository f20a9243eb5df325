# One OpenBao server, as far from its development mode as a production one: TLS of its own, sealed when it starts, audited.
# The driver fills in what stands in braces.

{{STORAGE}}

listener "tcp" {
  address         = "127.0.0.1:{{PORT}}"
  cluster_address = "127.0.0.1:{{CLUSTER_PORT}}"
  tls_cert_file   = "{{CERTIFICATE}}"
  tls_key_file    = "{{KEY}}"
  tls_min_version = "tls12"

  # Client certificates are for the login `cert`; nobody must have one.
  tls_client_ca_file                 = "{{CLIENT_CA}}"
  tls_require_and_verify_client_cert = false
}

api_addr     = "https://127.0.0.1:{{PORT}}"
cluster_addr = "https://127.0.0.1:{{CLUSTER_PORT}}"
log_level    = "warn"

# Since 2.7 an audit device is there from the start or not at all.
audit "file" "to-file" {
  options {
    file_path = "{{AUDIT_LOG}}"
    mode      = "0600"
  }
}
