// The stand-in of the in-process tests answers as the real server does: same status, same fields, same words. Part of suite
// `openbao`.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { check, skip } from '../driver/report.mjs';
import { Background } from '../driver/processes.mjs';
import { OpenBao } from '../driver/openbao.mjs';

const SENTENCE = 'the stand-in answers each call as OpenBao does';

/** The token of a login at each server. */
const LOGGED_IN = 'logged in';

/** Fields whose values differ from run to run. */
const VOLATILE = /^(request_id|public_key|signature|ciphertext|client_token|accessor|certificate|issuing_ca|serial_number|id|issuer_id|entity_id|creation_time|created_time|updated_time|deletion_time|issue_time|expire_time|expiration|not_before|ttl|server_time_utc|commit_date|cluster_name|cluster_id)$/;

/** Fields that the stand-in does without, or fills in its own way; nothing of ours reads them. */
const IGNORED = /^(commit_date|cluster_name|cluster_id|storage_type|metadata|meta|policies|token_policies|entity_id|ca_chain|uuid|config|description|local|external_entropy_access|running_plugin_version|deprecation_status|seal_wrap|plugin_version|running_sha256)$/;

export async function parity(dir, csr) {
  const program = path.join(process.env.INTEROP_RELEASE ?? '', 'examples', 'openbao');
  if (!process.env.INTEROP_RELEASE || !fs.existsSync(program)) {
    skip(SENTENCE, 'INTEROP_RELEASE names no folder with the stand-in');
    return;
  }
  const real = await OpenBao.start(path.join(dir, 'parity'));
  await furnish(real);
  const standIn = await standInServer(dir, program);
  for (const server of [real, standIn]) {
    server.login = (await server.must('POST', 'auth/approle/login', { role_id: 'role', secret_id: 'secret' })).auth.client_token;
  }
  await check(SENTENCE, async () => {
    const differing = [];
    for (const call of await calls(real, standIn, csr)) {
      const [method, at, body, token = 'root'] = call;
      const asked = (server) => {
        const filled = typeof body === 'function' ? body(server) : body;
        const known = { root: server.root, [LOGGED_IN]: server.login };
        return server.call(method, at, filled, { token: known[token] ?? token });
      };
      const [there, here] = [told(await asked(real)), told(await asked(standIn))];
      if (there !== here) differing.push(`${method} ${at}\n  OpenBao:  ${there}\n  stand-in: ${here}`);
    }
    if (differing.length > 0) throw new Error(differing.join('\n'));
  });
  await standIn.process.end();
  await real.end();
}

/** As the stand-in is when it starts. */
async function furnish(real) {
  await real.mount('secret', 'kv', { version: '2' });
  await real.mount('transit', 'transit');
  await real.mount('pki', 'pki');
  await real.does('POST', 'sys/mounts/pki/tune', { max_lease_ttl: '87600h' });
  await real.does('POST', 'pki/root/generate/internal', { key_type: 'ed25519', organization: 'talos', ttl: '87600h' });
  await real.does('POST', 'sys/auth/approle', { type: 'approle' });
  await real.does('POST', 'auth/approle/role/ichor', { role_id: 'role', token_ttl: '1h', token_max_ttl: '4h' });
  await real.does('POST', 'auth/approle/role/ichor/role-id', { role_id: 'role' });
  await real.does('POST', 'auth/approle/role/ichor/custom-secret-id', { secret_id: 'secret' });
}

async function standInServer(dir, program) {
  const server = new OpenBao();
  server.process = new Background('stand-in openbao', program, [], { log: path.join(dir, 'stand-in.log') });
  const { url, ca } = JSON.parse((await server.process.says(/^\{.*\}$/m))[0]);
  server.url = url;
  server.root = 'root';
  server.ca = path.join(dir, 'stand-in-ca.pem');
  fs.writeFileSync(server.ca, ca);
  return server;
}

async function calls(real, standIn, csr) {
  const input = Buffer.from('to be signed').toString('base64');
  const wrapped = new Map();
  for (const server of [real, standIn]) wrapped.set(server, wrap((await server.does('GET', 'transit/wrapping_key')).data.public_key));
  const importing = (type) => (server) => ({ type, ciphertext: wrapped.get(server), hash_function: 'SHA256' });
  const role = { organization: ['os:reader'], key_type: 'any', server_flag: false, require_cn: false, use_csr_common_name: false,
    use_csr_sans: false, max_ttl: '1h', ttl: '10m', not_after_bound: 'forbid', not_before_bound: 'forbid' };
  return [
    ['GET', 'sys/health'],
    ['GET', 'sys/seal-status'],
    ['POST', 'sys/capabilities-self', { paths: ['a/b', 'c'] }],
    ['POST', 'sys/capabilities-self', { paths: ['a/b'] }],
    ['POST', 'sys/capabilities-self', {}],
    ['POST', 'auth/approle/login', { role_id: 'role', secret_id: 'secret' }],
    ['POST', 'auth/approle/login', { role_id: 'role', secret_id: 'wrong' }],
    ['POST', 'auth/approle/login', {}],
    ['POST', 'auth/nowhere/login', {}],
    ['POST', 'auth/nowhere/login', {}, ''],
    ['GET', 'auth/token/lookup-self', undefined, LOGGED_IN],
    ['POST', 'auth/token/renew-self', {}, LOGGED_IN],
    ['POST', 'auth/token/revoke-self', undefined, LOGGED_IN],
    ['POST', 'auth/token/renew-self', {}, LOGGED_IN],
    ['GET', 'auth/token/lookup-self', undefined, 'unknown'],
    ['GET', 'nowhere/x'],

    ['GET', 'transit/keys/none'],
    ['LIST', 'transit/keys'],
    ['POST', 'transit/keys/bad', { type: 'nonsense' }],
    ['POST', 'transit/keys/e', { type: 'ed25519', exportable: false }],
    ['POST', 'transit/keys/e', { type: 'ecdsa-p256' }],
    ['POST', 'transit/keys/p', { type: 'ecdsa-p256' }],
    ['POST', 'transit/keys/r', { type: 'rsa-2048' }],
    ['POST', 'transit/keys/a', { type: 'aes256-gcm96' }],
    ['GET', 'transit/keys/p'],
    ['POST', 'transit/sign/e', { input }],
    ['POST', 'transit/sign/e', { input, key_version: 1 }],
    ['POST', 'transit/sign/e', { input, key_version: 2 }],
    ['POST', 'transit/sign/e', { input: '!!' }],
    ['POST', 'transit/sign/e', { batch_input: [] }],
    ['POST', 'transit/sign/e', { batch_input: [{ input }, { input: '!!' }, { input, key_version: 9, reference: 'third' }] }],
    ['POST', 'transit/sign/e', { key_version: 9, batch_input: [{ input }] }],
    ['POST', 'transit/sign/e', { batch_input: Array.from({ length: 499 }, () => ({ input })) }],
    ['POST', 'transit/sign/e', { batch_input: Array.from({ length: 500 }, () => ({ input })) }],
    ['POST', 'transit/sign/none', { input }],
    ['POST', 'transit/sign/a', { input }],
    ['POST', 'transit/sign/p', { input, hash_algorithm: 'nonsense' }],
    ['POST', 'transit/sign/p', { input, hash_algorithm: 'sha2-256', marshaling_algorithm: 'asn1' }],
    ['POST', 'transit/sign/r', { input, hash_algorithm: 'sha2-256', signature_algorithm: 'pkcs1v15' }],
    ['POST', 'transit/keys/i/import', { type: 'ed25519', ciphertext: '!!' }],
    ['POST', 'transit/keys/i/import', { type: 'ed25519', ciphertext: 'AAAA' }],
    ['POST', 'transit/keys/i/import', importing('ed25519')],
    ['POST', 'transit/keys/i/import', importing('ed25519')],
    ['GET', 'transit/keys/i'],
    ['POST', 'transit/keys/i/rotate', {}],
    ['POST', 'transit/keys/none/rotate', {}],
    ['POST', 'transit/keys/e/rotate', {}],
    ['POST', 'transit/keys/e/trim', { min_available_version: 2 }],
    ['POST', 'transit/keys/none/trim', { min_available_version: 2 }],
    ['POST', 'transit/keys/e/config', { min_decryption_version: 2 }],
    ['POST', 'transit/keys/e/config', { min_decryption_version: 5 }],
    ['POST', 'transit/keys/e/config', { min_encryption_version: 2 }],
    ['POST', 'transit/sign/e', { input, key_version: 1 }],
    ['POST', 'transit/keys/e/trim', { min_available_version: 2 }],
    ['POST', 'transit/keys/e/config', { min_decryption_version: 1 }],
    ['POST', 'transit/keys/e/config', { exportable: true, allow_plaintext_backup: true }],
    ['POST', 'transit/keys/e/config', { exportable: false, allow_plaintext_backup: false }],
    ['POST', 'transit/keys/none/config', { deletion_allowed: true }],
    ['DELETE', 'transit/keys/p'],
    ['POST', 'transit/keys/p/config', { deletion_allowed: true }],
    ['DELETE', 'transit/keys/p'],
    ['DELETE', 'transit/keys/p'],
    ['POST', 'transit/encrypt/a', { plaintext: input, associated_data: input }],
    ['POST', 'transit/decrypt/a', { ciphertext: 'nonsense' }],
    ['POST', 'transit/decrypt/a', { ciphertext: 'vault:v1:AAAA' }],
    ['POST', 'transit/encrypt/e', { plaintext: input }],
    ['GET', 'transit/nonsense'],

    ['GET', 'secret/data/none'],
    ['GET', 'secret/metadata/none'],
    ['POST', 'secret/data/x', { data: { a: '1' }, options: { cas: 1 } }],
    ['POST', 'secret/data/x', { data: { a: '1' }, options: { cas: 0 } }],
    ['POST', 'secret/data/x', { data: { a: '2' }, options: { cas: 0 } }],
    ['POST', 'secret/data/x', { data: { a: '2' }, options: { cas: 1 } }],
    ['POST', 'secret/data/x', { options: { cas: 2 } }],
    ['GET', 'secret/data/x'],
    ['GET', 'secret/data/x?version=1'],
    ['GET', 'secret/data/x?version=7'],
    ['GET', 'secret/metadata/x'],
    ['DELETE', 'secret/data/x'],
    ['GET', 'secret/data/x'],
    ['POST', 'secret/destroy/x', { versions: [1] }],
    ['GET', 'secret/data/x?version=1'],

    ['LIST', 'pki/roles'],
    ['GET', 'pki/roles/none'],
    ['DELETE', 'pki/roles/none'],
    ['POST', 'pki/roles/plain', {}],
    ['POST', 'pki/roles/reader', { ...role, exclude_cn_from_sans: true }],
    ['GET', 'pki/roles/reader'],
    ['LIST', 'pki/roles'],
    ['POST', 'pki/sign/none', { csr }],
    ['POST', 'pki/sign/reader', {}],
    ['POST', 'pki/sign/reader', { csr: 'garbage' }],
    ['POST', 'pki/sign/reader', { csr }],
    ['POST', 'pki/sign/reader', { csr, ttl: '9h' }],
    ...Object.entries({
      common_name: 'alice', alt_names: 'x.example', uri_sans: 'spiffe://x', not_after: '2099-01-01T00:00:00Z',
      not_before: '2020-01-01T00:00:00Z', key_usage: ['CertSign'],
    }).map(([name, value]) => ['POST', 'pki/sign/reader', { csr, [name]: value }]),
    ['POST', 'pki/sign/plain', { csr }],
    ['POST', 'pki/sign-verbatim', { csr, ttl: '5m' }],
    ['GET', 'pki/cert/ca'],
    ['GET', 'pki/issuer/default/json'],
    ['GET', 'pki/nonsense'],
    ['DELETE', 'pki/roles/reader'],

    ['POST', 'auth/token/revoke-self', undefined, 'unknown'],
  ];
}

/** A new Ed25519 key, wrapped as Transit takes it. */
function wrap(publicKey) {
  const key = crypto.generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'der' });
  const kek = crypto.randomBytes(32);
  // RFC 5649 §3: the first half of the integrity value; the second one is the length, which OpenSSL adds.
  const cipher = crypto.createCipheriv('id-aes256-wrap-pad', kek, Buffer.from('a65959a6', 'hex'));
  const padding = crypto.constants.RSA_PKCS1_OAEP_PADDING;
  const sealed = crypto.publicEncrypt({ key: publicKey, padding, oaepHash: 'sha256' }, kek);
  return Buffer.concat([sealed, cipher.update(key), cipher.final()]).toString('base64');
}

/** Status and body, without what differs from run to run. */
function told({ status, json, text }) {
  return `${status} ${json === undefined ? text.trim() : JSON.stringify(masked(json))}`;
}

function masked(value) {
  if (Array.isArray(value)) return value.map(masked);
  if (value === null || typeof value !== 'object') return value;
  const fields = Object.keys(value).filter((name) => !IGNORED.test(name)).sort();
  return Object.fromEntries(fields.map((name) => [name, VOLATILE.test(name) ? typeof value[name] : masked(value[name])]));
}
