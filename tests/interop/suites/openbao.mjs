// OpenBao, the real one: what the policies of deploy/openbao let a token do, and what they keep from it.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { check, has, same } from '../driver/report.mjs';
import { done } from '../driver/processes.mjs';
import { OpenBao } from '../driver/openbao.mjs';
import { parity } from './openbao-parity.mjs';

export const needs = ['openbao'];

/** The role that gives exactly what a client of Talos needs: O from the role, clientAuth, digitalSignature, no name. */
const ROLE = {
  organization: ['os:reader'],
  server_flag: false,
  client_flag: true,
  code_signing_flag: false,
  email_protection_flag: false,
  key_usage: ['DigitalSignature'],
  ext_key_usage: [],
  use_csr_common_name: false,
  use_csr_sans: false,
  require_cn: false,
  allow_any_name: false,
  allow_localhost: false,
  allow_ip_sans: false,
  allow_wildcard_certificates: false,
  basic_constraints_valid_for_non_ca: true,
  key_type: 'any',
  not_before_duration: '30s',
  not_before_bound: 'forbid',
  not_after_bound: 'forbid',
  ttl: '15m',
  max_ttl: '8h',
  no_store: true,
};

const DENIED = '{"errors":["1 error occurred:\\n\\t* permission denied\\n\\n"]}';

/** Where a token is told what its policies have rules for. */
const RULES = 'sys/internal/ui/resultant-acl';

/** What no token of Ichor's may, whatever it is for. */
const NEVER = [
  ['LIST', 'sys/policies/acl'],
  ['PUT', 'sys/policies/acl/own', { policy: 'path "*" { capabilities = ["sudo"] }' }],
  ['GET', 'sys/mounts'],
  ['POST', 'sys/mounts/own', { type: 'kv' }],
  ['PUT', 'sys/seal'],
  ['GET', 'sys/auth'],
  ['GET', 'sys/audit'],
  ['POST', 'auth/token/create', { policies: ['default'] }],
  ['GET', 'secret/data/other'],
  ['LIST', 'secret/metadata/ichor'],
  ['GET', 'identity/entity/id?list=true'],
];

export async function run(dir) {
  const bao = await OpenBao.start(path.join(dir, 'openbao'));
  const csr = await furnish(bao, dir);
  await policies(bao, csr);
  await toldItsRules(bao);
  await role(bao, dir, csr);
  await parity(dir, csr);
}

/** Engines, keys, secrets and roles, of the cluster `prod` and of another one; returns a request that asks for far too much. */
async function furnish(bao, dir) {
  await bao.mount('secret', 'kv', { version: '2' });
  await bao.mount('transit', 'transit');
  await bao.mount('pki', 'pki');
  await bao.does('POST', 'sys/mounts/pki/tune', { max_lease_ttl: '87600h' });
  await bao.does('POST', 'pki/root/generate/internal', { key_type: 'ed25519', organization: 'talos', ttl: '87600h' });
  for (const cluster of ['prod', 'other']) {
    await bao.does('POST', `transit/keys/ichor-${cluster}`, { type: 'ed25519' });
    await bao.does('POST', `secret/data/ichor/${cluster}`, { data: { key: 'a key' } });
    await bao.does('POST', `pki/roles/ichor-${cluster}-reader`, ROLE);
  }
  const [key, request] = [path.join(dir, 'greedy.key'), path.join(dir, 'greedy.csr')];
  await done('openssl', ['req', '-new', '-newkey', 'ed25519', '-nodes', '-keyout', key, '-out', request,
    '-subj', '/O=os:admin/CN=greedy', '-addext', 'subjectAltName=DNS:greedy.example']);
  return fs.readFileSync(request, 'utf8');
}

async function policies(bao, csr) {
  await check('every policy of deploy/openbao/ is proven here', () => {
    const own = fs.readFileSync(fileURLToPath(import.meta.url), 'utf8');
    same(OpenBao.policies().filter((file) => !own.includes(`proven(bao, '${file}'`)), [], 'policies without proof');
  });
  const input = Buffer.from('to be signed').toString('base64');
  const whole = { csr, ttl: '5m' };

  await proven(bao, 'token.hcl', {
    allows: [
      ['GET', 'auth/token/lookup-self'],
      ['POST', 'auth/token/renew-self', {}],
      ['POST', 'sys/capabilities-self', { paths: ['transit/sign/ichor-prod', 'pki/sign-verbatim'] }],
      ['GET', RULES],
      ['POST', 'auth/token/revoke-self'],
    ],
    denies: [['GET', 'transit/keys/ichor-prod'], ['GET', 'secret/data/ichor/prod']],
  });

  await proven(bao, 'kv.hcl', {
    allows: [['GET', 'secret/data/ichor/prod'], ['GET', 'secret/data/ichor/prod?version=1']],
    denies: [
      ['POST', 'secret/data/ichor/prod', { data: { key: 'mine' }, options: { cas: 1 } }],
      ['PATCH', 'secret/data/ichor/prod', { data: { key: 'mine' } }],
      ['DELETE', 'secret/data/ichor/prod'],
      ['POST', 'secret/destroy/ichor/prod', { versions: [1] }],
      ['POST', 'secret/delete/ichor/prod', { versions: [1] }],
      ['GET', 'secret/metadata/ichor/prod'],
      ['DELETE', 'secret/metadata/ichor/prod'],
      ['POST', 'secret/metadata/ichor/prod', { max_versions: 1 }],
      ['GET', 'secret/data/ichor/other'],
      ['GET', 'secret/metadata/ichor/other'],
      ['GET', 'secret/config'],
      ['POST', 'secret/config', { max_versions: 1 }],
    ],
  });

  await bao.does('POST', 'secret/metadata/ichor/prod', { cas_required: true });
  await proven(bao, 'kv-admin.hcl', {
    allows: [
      ['GET', 'secret/metadata/ichor/prod'],
      ['POST', 'secret/data/ichor/prod', { data: { key: 'the next' }, options: { cas: 1 } }],
      ['GET', 'secret/data/ichor/prod?version=2'],
      // The metadata demands check-and-set; what is denied here is denied by the engine.
      ['POST', 'secret/data/ichor/prod', { data: { key: 'unseen' } }, 400],
    ],
    denies: [
      ['DELETE', 'secret/data/ichor/prod'],
      ['POST', 'secret/destroy/ichor/prod', { versions: [1] }],
      ['DELETE', 'secret/metadata/ichor/prod'],
      ['POST', 'secret/metadata/ichor/prod', { cas_required: false }],
      ['POST', 'secret/data/ichor/other', { data: { key: 'mine' }, options: { cas: 1 } }],
      ['GET', 'secret/data/ichor/other'],
    ],
  });

  const keyIsLeft = [
    ['POST', 'transit/keys/ichor-prod/config', { deletion_allowed: true }],
    ['POST', 'transit/keys/ichor-prod/config', { exportable: true }],
    ['POST', 'transit/keys/ichor-prod/config', { allow_plaintext_backup: true }],
    ['POST', 'transit/keys/ichor-prod/config', { min_encryption_version: 1 }],
    ['POST', 'transit/keys/ichor-prod/trim', { min_available_version: 1 }],
    ['DELETE', 'transit/keys/ichor-prod'],
    ['GET', 'transit/export/signing-key/ichor-prod'],
    ['GET', 'transit/byok-export/ichor-other/ichor-prod'],
    ['GET', 'transit/backup/ichor-prod'],
    ['POST', 'transit/restore/ichor-prod', { backup: 'YQ==' }],
    ['LIST', 'transit/keys'],
    ['POST', 'transit/cache-config', { size: 10 }],
    ['POST', 'transit/keys/ichor-other', { type: 'ed25519' }],
    ['GET', 'transit/keys/ichor-other'],
    ['POST', 'transit/sign/ichor-other', { input }],
    ['POST', 'transit/sign/ichor-prod/sha2-256', { input }],
    ['POST', 'transit/sign/ichor-prod', { input, prehashed: true }],
    ['POST', 'transit/encrypt/ichor-prod', { plaintext: input }],
    ['POST', 'transit/hmac/ichor-prod', { input }],
  ];
  await proven(bao, 'transit.hcl', {
    allows: [
      ['GET', 'transit/keys/ichor-prod'],
      ['POST', 'transit/sign/ichor-prod', { input }],
      ['POST', 'transit/sign/ichor-prod', { batch_input: [{ input }, { input }], key_version: 1 }],
      ['POST', 'transit/sign/ichor-prod',
        { input, key_version: 1, prehashed: false, hash_algorithm: 'sha2-256', signature_algorithm: 'pkcs1v15', marshaling_algorithm: 'asn1' }],
    ],
    denies: [
      ...keyIsLeft,
      ['POST', 'transit/keys/ichor-prod', { type: 'ed25519' }],
      ['POST', 'transit/keys/ichor-new', { type: 'ed25519' }],
      ['POST', 'transit/keys/ichor-prod/rotate'],
      ['POST', 'transit/keys/ichor-prod/import', { type: 'ed25519', ciphertext: 'YQ==' }],
      ['GET', 'transit/wrapping_key'],
    ],
  });

  await bao.does('POST', 'transit/keys/ichor.broker', { type: 'aes256-gcm96' });
  await bao.does('POST', 'secret/data/ichor-broker/data-key', { data: { value: 'AA==' } });
  const { data: { ciphertext } } = await bao.does('POST', 'transit/encrypt/ichor.broker', { plaintext: input, associated_data: 'YQ==' });
  await proven(bao, 'secrets.hcl', {
    allows: [
      ['POST', 'transit/decrypt/ichor.broker', { ciphertext, associated_data: 'YQ==' }],
      ['GET', 'secret/data/ichor-broker/data-key'],
    ],
    denies: [
      ['POST', 'transit/encrypt/ichor.broker', { plaintext: input }],
      ['POST', 'transit/decrypt/ichor.broker', { batch_input: [{ ciphertext }] }],
      ['GET', 'transit/keys/ichor.broker'],
      ['POST', 'transit/keys/ichor.broker/rotate'],
      ['POST', 'secret/data/ichor-broker/data-key', { data: { value: 'AAA=' } }],
      ['GET', 'secret/data/ichor/prod'],
    ],
  });

  await bao.does('POST', 'transit/keys/ichor.audit', { type: 'ed25519' });
  for (const key of ['audit-key', 'audit-key-0a1b2c3d']) {
    await bao.does('POST', `secret/data/ichor-broker/${key}`, { data: { value: 'AA==' } });
  }
  const checkpoint = (cas) => ({ data: { checkpoint: 'a note' }, options: { cas } });
  await proven(bao, 'audit.hcl', {
    allows: [
      ['GET', 'transit/keys/ichor.audit'],
      ['POST', 'transit/sign/ichor.audit', { key_version: 1, batch_input: [{ input }] }],
      ['GET', 'secret/data/ichor-broker/audit-key'],
      ['GET', 'secret/data/ichor-broker/audit-key-0a1b2c3d'],
      // nothing is anchored yet
      ['GET', 'secret/data/ichor-broker/checkpoint', undefined, 404],
      ['GET', 'secret/metadata/ichor-broker/checkpoint', undefined, 404],
      ['POST', 'secret/data/ichor-broker/checkpoint', checkpoint(0)],
      ['POST', 'secret/data/ichor-broker/checkpoint', checkpoint(1)],
      ['GET', 'secret/data/ichor-broker/checkpoint'],
      // a version that was not seen is not written over: the engine says so
      ['POST', 'secret/data/ichor-broker/checkpoint', checkpoint(1), 400],
    ],
    denies: [
      ['POST', 'transit/keys/ichor.audit', { type: 'ed25519' }],
      ['POST', 'transit/keys/ichor.audit/rotate'],
      ['POST', 'transit/keys/ichor.audit/config', { exportable: true }],
      ['DELETE', 'transit/keys/ichor.audit'],
      ['GET', 'transit/export/signing-key/ichor.audit'],
      ['GET', 'transit/backup/ichor.audit'],
      ['POST', 'transit/sign/ichor.audit', { input, prehashed: true }],
      ['POST', 'transit/sign/ichor-prod', { batch_input: [{ input }] }],
      ['POST', 'transit/decrypt/ichor.broker', { ciphertext, associated_data: 'YQ==' }],
      ['POST', 'secret/data/ichor-broker/audit-key', { data: { value: 'AAA=' } }],
      ['POST', 'secret/data/ichor-broker/audit-key-new', { data: { value: 'AAA=' } }],
      ['LIST', 'secret/metadata/ichor-broker'],
      ['GET', 'secret/data/ichor-broker/data-key'],
      ['PATCH', 'secret/data/ichor-broker/checkpoint', { data: { checkpoint: 'mine' } }],
      ['DELETE', 'secret/data/ichor-broker/checkpoint'],
      ['POST', 'secret/delete/ichor-broker/checkpoint', { versions: [1] }],
      ['POST', 'secret/destroy/ichor-broker/checkpoint', { versions: [1] }],
      ['POST', 'secret/metadata/ichor-broker/checkpoint', { max_versions: 1 }],
      ['DELETE', 'secret/metadata/ichor-broker/checkpoint'],
    ],
  });

  await bao.does('POST', 'transit/keys/ichor-prod/config', { deletion_allowed: true });
  await bao.does('DELETE', 'transit/keys/ichor-prod');
  await proven(bao, 'transit-admin.hcl', {
    allows: [
      ['GET', 'transit/wrapping_key'],
      // It may try: a ciphertext that is none is the engine's own refusal, not the policy's.
      ['POST', 'transit/keys/ichor-prod/import',
        { type: 'ed25519', ciphertext: 'YQ==', hash_function: 'SHA256', exportable: false, allow_plaintext_backup: false }, 500],
      ['POST', 'transit/keys/ichor-prod', { type: 'ed25519', exportable: false, allow_plaintext_backup: false }],
      ['GET', 'transit/keys/ichor-prod'],
      ['POST', 'transit/sign/ichor-prod', { input, key_version: 1 }],
    ],
    denies: [
      ...keyIsLeft,
      ['POST', 'transit/keys/ichor-prod/rotate'],
      ['POST', 'transit/keys/ichor-prod', { type: 'ed25519', exportable: true }],
      ['POST', 'transit/keys/ichor-prod', { type: 'ed25519', allow_plaintext_backup: true }],
      ['POST', 'transit/keys/ichor-prod', { type: 'ed25519', derived: true }],
      ['POST', 'transit/keys/ichor-prod', { type: 'aes256-gcm96' }],
      ['POST', 'transit/keys/ichor-prod/import', { type: 'ed25519', ciphertext: 'YQ==', exportable: true }],
      ['POST', 'transit/keys/ichor-prod/import', { type: 'ed25519', ciphertext: 'YQ==', allow_plaintext_backup: true }],
      ['POST', 'transit/keys/ichor-other/import', { type: 'ed25519', ciphertext: 'YQ==' }],
      ['POST', 'transit/keys/ichor-other/rotate'],
    ],
  });

  const issuesNothingElse = [
    ['POST', 'pki/sign-verbatim', whole],
    ['POST', 'pki/sign-verbatim/ichor-prod-reader', whole],
    ['POST', 'pki/issuer/default/sign-verbatim', whole],
    ['POST', 'pki/issuer/default/sign-verbatim/ichor-prod-reader', whole],
    ['POST', 'pki/issuer/default/sign/ichor-prod-reader', whole],
    ['POST', 'pki/issue/ichor-prod-reader', { ttl: '5m' }],
    ['POST', 'pki/sign/ichor-other-reader', whole],
    ['POST', 'pki/root/sign-intermediate', whole],
    ['POST', 'pki/root/generate/exported', {}],
    ['POST', 'pki/config/ca', { pem_bundle: 'x' }],
    ['POST', 'pki/config/urls', {}],
    ['POST', 'pki/config/issuers', { default: 'x' }],
    ['POST', 'pki/cel/roles/ichor-prod-reader', { cel_program: { expression: 'true' } }],
    ['POST', 'pki/cel/sign/ichor-prod-reader', whole],
    ['POST', 'pki/cel/issue/ichor-prod-reader', { ttl: '5m' }],
    ['POST', 'pki/config/acme', { enabled: true }],
    ['POST', 'pki/config/est', { enabled: true }],
    ['DELETE', 'pki/root'],
    ['POST', 'pki/tidy', {}],
    ['POST', 'pki/revoke', { serial_number: '00' }],
    ...Object.entries({
      common_name: 'alice', alt_names: 'x.example', ip_sans: '10.0.0.1', uri_sans: 'spiffe://x', other_sans: '1.2.3;UTF8:x',
      user_ids: 'x', serial_number: 'x', not_after: '2099-01-01T00:00:00Z', not_before: '2020-01-01T00:00:00Z',
      exclude_cn_from_sans: true, format: 'der',
    }).map(([name, value]) => ['POST', 'pki/sign/ichor-prod-reader', { ...whole, [name]: value }]),
    ['POST', 'pki/sign/ichor-prod-reader', { csr }],
  ];
  await proven(bao, 'pki.hcl', {
    allows: [
      ['POST', 'pki/sign/ichor-prod-reader', whole],
      ['POST', 'pki/sign/ichor-prod-reader', { ...whole, format: 'pem' }],
      ['GET', 'pki/roles/ichor-prod-reader'],
      ['GET', 'pki/cert/ca'],
      ['GET', 'pki/issuer/default/json'],
    ],
    denies: [
      ...issuesNothingElse,
      ['LIST', 'pki/roles'],
      ['GET', 'pki/roles/ichor-other-reader'],
      ['POST', 'pki/roles/ichor-prod-reader', ROLE],
      ['POST', 'pki/roles/ichor-prod-new', ROLE],
      ['DELETE', 'pki/roles/ichor-prod-reader'],
    ],
  });

  const widerRoles = Object.entries({
    server_flag: true, client_flag: false, code_signing_flag: true, email_protection_flag: true, key_usage: ['CertSign'],
    ext_key_usage: ['ServerAuth'], ext_key_usage_oids: ['1.2.3'], use_csr_common_name: true, use_csr_sans: true,
    allow_any_name: true, allow_localhost: true, allow_ip_sans: true, not_after_bound: 'permit', not_before_bound: 'permit',
    basic_constraints_valid_for_non_ca: false, allowed_domains: ['example'], allowed_uri_sans: ['*'],
    allowed_other_sans: ['*'], allowed_user_ids: ['*'], allowed_serial_numbers: ['*'], not_after: '2099-01-01T00:00:00Z',
  }).map(([name, value]) => ['POST', 'pki/roles/ichor-prod-new', { ...ROLE, [name]: value }]);

  await proven(bao, 'pki-person.hcl', {
    allows: [
      ['POST', 'pki/roles/ichor-prod-p-alice', { ...ROLE, organization: ['os:reader', 'user:alice@example.com'] }],
      ['GET', 'pki/roles/ichor-prod-p-alice'],
      ['POST', 'pki/sign/ichor-prod-p-alice', whole],
    ],
    denies: [
      ...issuesNothingElse.map(([method, at, body]) => [method, at.replaceAll('prod-reader', 'prod-p-alice'), body]),
      ...widerRoles.map(([method, , body]) => [method, 'pki/roles/ichor-prod-p-alice', body]),
      ['DELETE', 'pki/roles/ichor-prod-p-alice'],
      ['POST', 'pki/roles/ichor-prod-reader', ROLE],
      ['POST', 'pki/sign/ichor-prod-reader', whole],
      ['POST', 'pki/roles/ichor-other-reader', ROLE],
      ['LIST', 'pki/roles'],
    ],
  });

  await proven(bao, 'pki-admin.hcl', {
    allows: [
      ['LIST', 'pki/roles'],
      ['POST', 'pki/roles/ichor-prod-new', ROLE],
      ['POST', 'pki/roles/ichor-prod-new', { ...ROLE, organization: ['os:operator'] }],
      ['GET', 'pki/roles/ichor-prod-new'],
      ['DELETE', 'pki/roles/ichor-prod-new'],
    ],
    denies: [
      ...issuesNothingElse,
      ['POST', 'pki/sign/ichor-prod-new', whole],
      ['POST', 'pki/sign/ichor-prod-reader', whole],
      ['POST', 'pki/roles/ichor-other-reader', ROLE],
      ['DELETE', 'pki/roles/ichor-other-reader'],
      ['POST', 'pki/roles/example', ROLE],
      ...widerRoles,
    ],
  });
}

/** Makes each call with a token that has this policy and no other. */
async function proven(bao, file, { allows, denies }) {
  const name = await bao.policy(file, 'prod');
  const said = ([method, at, body]) => `${method} ${at} ${JSON.stringify(body ?? {}).slice(0, 200)}`;
  await check(`${file} allows what it is for (${allows.length} calls)`, async () => {
    const token = await bao.token(name);
    const wrong = [];
    for (const call of allows) {
      const [method, at, body, status] = call;
      const answer = await bao.call(method, at, body, { token });
      const right = status === undefined ? answer.status < 300 : answer.status === status;
      if (!right) wrong.push(`${said(call)}: ${answer.status} ${answer.text}`);
    }
    same(wrong, [], 'calls that were not answered as they should');
  });
  const all = [...denies, ...NEVER];
  await check(`${file} allows nothing else (${all.length} calls)`, async () => {
    const token = await bao.token(name);
    const wrong = [];
    for (const call of all) {
      const [method, at, body] = call;
      const answer = await bao.call(method, at, body, { token });
      if (answer.status !== 403 || answer.text.trim() !== DENIED) wrong.push(`${said(call)}: ${answer.status} ${answer.text}`);
    }
    same(wrong, [], 'calls that were not denied');
  });
}

/** What `ichor-broker check` asks a PKI engine's token about is what the token itself names, and a stanza of token.hcl lets it know. */
async function toldItsRules(bao) {
  const stanza = new RegExp(`path "${RULES}" \\{[^}]*\\}`);
  const whole = OpenBao.rules('token.hcl', 'prod');
  const beside = `path "pki/issuer/older/sign-verbatim/*" { capabilities = ["update"] }
    path "pki/sign-verbatim/other" { capabilities = ["update"] }
    path "pki/issuer/+/sign-verbatim" { capabilities = ["update"] }`;
  const asks = async (text) => {
    await bao.does('PUT', 'sys/policies/acl/rules', { policy: `${text}\n${OpenBao.rules('pki.hcl', 'prod')}\n${beside}` });
    return bao.call('GET', RULES, undefined, { token: await bao.token('rules') });
  };
  await check('with its stanza of token.hcl a token is told what its policies name, but for rules with a `+`', async () => {
    const { status, json } = await asks(whole);
    same(status, 200, 'the status');
    const named = (paths) => Object.keys(paths).filter((each) => each.startsWith('pki/')).sort();
    same(named(json.data.exact_paths), ['pki/sign-verbatim/other'], 'rules of one path');
    same(named(json.data.glob_paths), ['pki/issuer/older/sign-verbatim/', 'pki/roles/ichor-prod-', 'pki/sign/ichor-prod-'],
      'rules of all that begins so');
  });
  await check('without that stanza it is told nothing', async () => {
    has(whole, stanza, 'token.hcl');
    const { status, text } = await asks(whole.replace(stanza, ''));
    same([status, text.trim()], [403, DENIED], 'the answer');
  });
}

/** The Vault role alone, without any policy: what the root token gets from it. */
async function role(bao, dir, csr) {
  const sign = (more) => bao.call('POST', 'pki/sign/ichor-prod-reader', { csr, ...more }, { token: bao.root });
  const told = async (answer) => {
    const file = path.join(dir, 'certificate.pem');
    fs.writeFileSync(file, answer.json.data.certificate);
    const extensions = 'keyUsage,extendedKeyUsage,basicConstraints,subjectAltName';
    return (await done('openssl', ['x509', '-in', file, '-noout', '-subject', '-dates', '-ext', extensions, '-nameopt', 'RFC2253'])).text;
  };

  await check("the role's certificate has the role's O, clientAuth, digitalSignature, and no name", async () => {
    const answer = await sign({ ttl: '15m' });
    const text = await told(answer);
    has(text, /^subject=O=os:reader$/m, 'the certificate');
    has(text, /Key Usage: critical\n\s+Digital Signature\n/, 'the certificate');
    has(text, /Extended Key Usage: ?\n\s+TLS Web Client Authentication\n/, 'the certificate');
    has(text, /Basic Constraints: critical\n\s+CA:FALSE/, 'the certificate');
    same(/Alternative/.test(text), false, 'a subject alternative name');
    const { not_before: from, expiration: until } = answer.json.data;
    same(until - from, 15 * 60 + 30, 'seconds of validity, 30 of them past');
  });

  await check('a longer life than the role gives is cut to it, with a warning', async () => {
    const answer = await sign({ ttl: '100h' });
    same(answer.json.data.expiration - answer.json.data.not_before, 8 * 3600 + 30, 'seconds of validity');
    has(answer.json.warnings[0], 'is longer than permitted maxTTL "8h0m0s"');
  });

  await check('the role refuses every name and every fixed time, also without a policy', async () => {
    const asked = {
      common_name: 'alice', alt_names: 'x.example', ip_sans: '10.0.0.1', uri_sans: 'spiffe://x', other_sans: '1.2.3;UTF8:x',
      user_ids: 'x', serial_number: 'x', not_after: '2099-01-01T00:00:00Z', not_before: '2020-01-01T00:00:00Z',
    };
    for (const [name, value] of Object.entries(asked)) same((await sign({ [name]: value })).status, 400, `${name}: the status`);
  });

  await check('sign-verbatim takes the subject from the request: why no token may use it', async () => {
    const answer = await bao.call('POST', 'pki/sign-verbatim', { csr, ttl: '5m' }, { token: bao.root });
    has(await told(answer), 'O=os:admin');
  });
}
