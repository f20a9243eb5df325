use super::*;

const ED25519: (&str, &str) =
    (include_str!("../../../../tests/keys/ed25519.pub"), include_str!("../../../../tests/keys/ed25519"));
const RSA: (&str, &str) = (include_str!("../../../../tests/keys/rsa.pub"), include_str!("../../../../tests/keys/rsa"));

fn with(identity: &str, dir: &Path) -> Result<Vault, VaultError> {
    Vault::open(dir, IdentitySource::Text(SecretString::from(identity.trim_end())))
}

#[test]
fn ssh_keys_open_a_vault() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("vault");
    Vault::create(&dir, Keep::DangerBeside, &[ED25519.0.to_owned(), RSA.0.to_owned()]).unwrap();
    for (_, identity) in [ED25519, RSA] {
        with(identity, &dir).unwrap().data_key().unwrap();
    }
    let told = open(&dir).unwrap().told();
    assert_eq!(told, "sealed to 1 X25519, 1 ssh-ed25519, 1 ssh-rsa; no plugins allowed");
}

#[test]
fn an_ssh_key_that_is_no_recipient_is_told() {
    let (_root, dir) = demo();
    let known = ED25519.0.split(' ').nth(1).unwrap();
    let error = with(ED25519.1, &dir).unwrap_err();
    assert_eq!(error, VaultError::NotARecipient(format!("ssh-ed25519 {known}")));
}

#[test]
fn what_ssh_has_and_a_vault_cannot_use_is_refused_in_words() {
    let (_root, dir) = demo();
    let sealed = include_str!("../../../../tests/keys/sealed");
    assert_eq!(with(sealed, &dir).unwrap_err(), VaultError::SshPassphrase);
    assert_eq!(with(include_str!("../../../../tests/keys/ecdsa"), &dir).unwrap_err(), VaultError::SshKind);
    for text in ["-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----", "-----BEGIN X"] {
        assert_eq!(with(text, &dir).unwrap_err(), VaultError::Identity, "{text}");
    }
    let refused = |line: &str| match Vault::create(&dir.join("other"), Keep::DangerBeside, &[line.to_owned()]) {
        Err(VaultError::Recipient(shown)) => shown,
        other => panic!("{other:?}"),
    };
    assert!(refused(include_str!("../../../../tests/keys/small.pub")).contains("fewer than 2048 bits"));
    assert_eq!(refused("ssh-ecdsa AAAA"), "ssh-ecdsa AAAA");
    assert_eq!(refused(ED25519.1), "(an identity)");
    assert_eq!(refused("AGE-PLUGIN-DOUBLE-10QH4Y7PM"), "(an identity)");
}
