// What befalls an OpenBao in its working life. Whatever it is, a person waits a bounded time, the log says what is wrong in a
// sentence, readiness names it, clusters that do not need the server go on, and when the cause is gone so is the outage, without
// a restart of the broker. Part of suite `custody`.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { check, has, same } from '../driver/report.mjs';
import { OpenBao } from '../driver/openbao.mjs';
import { done, eventually } from '../driver/processes.mjs';

/** Seconds that a person waits at most: the deadline of a call, and what the client takes. */
const PATIENCE = 8;

/** Seconds until the broker looks at what serves, and some. */
const LOOK = 40;

export async function faults(world) {
  const { bao } = world;

  await check('sealed in mid-run: told, and a CA whose key was read before goes on', async () => {
    await bao.seal();
    await Promise.all(['via-transit', 'via-pki'].map((name) => fails(world, name, 'is sealed; unseal it')));
    await world.works('via-kv');
    await names(world, ['ca via-transit', 'ca via-pki', 'openbao transit'], 'is sealed; unseal it');
  });
  await check('unsealed: all is well again', async () => {
    await bao.unseal();
    await recovers(world);
  });

  await check('its token revoked: the broker logs in anew, and nobody notices', async () => {
    await revoke(world, 'transit');
    await world.works('via-transit');
    same((await world.tokens('transit')).length, 1, 'tokens of the broker');
  });
  await check('its secret id revoked as well: told', async () => {
    // a token that was replaced less than a second ago is not replaced again
    await new Promise((resolve) => { setTimeout(resolve, 1100); });
    await bao.does('POST', 'auth/approle/role/transit/secret-id/destroy', { secret_id: world.written.get('transit-secret-id') });
    await revoke(world, 'transit');
    await fails(world, 'via-transit', 'did not log us in: invalid');
    await names(world, ['ca via-transit', 'openbao transit'], 'did not log us in');
    await world.works('via-pki');
  });
  await check('a new secret id in the file is taken up', async () => {
    const { data: { secret_id: secret } } = await bao.does('POST', 'auth/approle/role/transit/secret-id', {});
    fs.writeFileSync(path.join(world.broker.dir, 'transit-secret-id'), secret);
    world.secrets.push(secret);
    await recovers(world);
  });

  const sentence = 'does not allow `transit/sign/ichor-via-transit.2` to our token';
  await check('its policy narrowed: told, with the path', async () => {
    await world.may('transit', []);
    await fails(world, 'via-transit', sentence);
    await names(world, ['ca via-transit'], 'does not allow `transit/keys/ichor-via-transit.2`', LOOK);
  });
  await check('its policy widened: all is well again', async () => {
    await world.may('transit', world.rules.transit);
    await world.works('via-transit');
    await recovers(world);
  });

  await check('stopped for 30 s: everyone waits a bounded time, and hears why', async () => {
    bao.pause();
    const until = Date.now() + 30_000;
    await fails(world, 'via-transit', 'did not answer in time');
    await Promise.all([
      fails(world, 'via-pki', 'did not answer in time'), world.works('via-kv'),
      names(world, ['ca via-transit', 'openbao transit'], 'did not answer in time', 20),
    ]);
    await new Promise((resolve) => { setTimeout(resolve, until - Date.now()); });
  });
  await check('continued: all is well again', async () => {
    bao.resume();
    await recovers(world);
  });

  await check('killed: told', async () => {
    await bao.kill();
    await fails(world, 'via-transit', 'cannot be reached');
    await world.works('via-kv');
    await names(world, ['ca via-transit'], 'cannot be reached');
  });
  await check('started again it is sealed, and unsealed all is well', async () => {
    await bao.launch();
    await fails(world, 'via-transit', 'is sealed');
    await bao.unseal();
    await recovers(world);
  });

  await versions(world);
  await login(world);
  await otherLogins(world);
}

/** The version that a CA's key is pinned to may be used no more. There is one way on: a new CA. */
async function versions(world) {
  const { bao, broker, cluster, node } = world;
  const key = 'transit/keys/ichor-via-transit.2';
  await check('a key\'s version that was taken out of use: told, and its cluster alone is out', async () => {
    await bao.does('POST', `${key}/rotate`);
    await bao.does('POST', `${key}/config`, { min_decryption_version: 2, min_encryption_version: 2 });
    await bao.does('POST', `${key}/trim`, { min_available_version: 2 });
    await fails(world, 'via-transit', 'less than the minimum encryption key version');
    await names(world, ['ca via-transit'], 'has no version 1', LOOK);
    await world.works('own');
  });
  await check('ca rotate makes the next CA beside it, and with the node\'s patch all is well again', async () => {
    const token = await world.operator('transit-admin.hcl', 'via-transit.3');
    await world.may('transit', [...world.rules.transit, ['transit.hcl', 'via-transit.3']]);
    const rotate = (...more) => ['ca', 'rotate', 'via-transit', '--reason', 'interop', '--wait', '0s', ...more];
    const said = await broker.refuses(rotate('--token-file', token));
    has(said, 'not every node accepts the new CA yet');
    const patch = (await broker.admin(['ca', 'patch', 'via-transit', '--next'])).stdout;
    cluster.trusting = await cluster.patchFrom(cluster.trusting, [patch], 'third.yaml');
    await node.apply(cluster.trusting);
    has((await broker.admin(rotate('--continue'))).stdout, 'The new CA issues from now on');
    await recovers(world);
  });
}

/** The other ways to log in, as `ichor-broker check` tells them: a client certificate, and a namespace. */
async function otherLogins({ broker, bao }) {
  const at = (file) => path.join(broker.dir, file);
  const config = (name, lines) => fs.appendFileSync(at('config.toml'),
    `\n[[openbao]]\nname = "${name}"\naddress = "${bao.url}"\nca_file = "${bao.ca}"\n${lines}\n`);
  const role = { token_policies: [await bao.policy('token.hcl', 'any')], token_no_default_policy: true };
  await check('a client certificate is taken as a login, and one of another name is not', async () => {
    await bao.does('POST', 'sys/auth/cert', { type: 'cert' });
    await bao.does('POST', 'auth/cert/certs/ichor', { ...role, certificate: fs.readFileSync(bao.ca, 'utf8'), allowed_common_names: ['ichor-broker'] });
    const issue = async (name) => {
      fs.writeFileSync(at('client.ext'), 'extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n');
      await done('openssl', ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', `/CN=${name}`,
        '-keyout', at('client.key'), '-out', at('client.csr')]);
      await done('openssl', ['x509', '-req', '-in', at('client.csr'), '-CA', bao.ca, '-CAkey', path.join(bao.dir, 'openbao-ca.key'),
        '-CAcreateserial', '-days', '2', '-extfile', at('client.ext'), '-out', at('client.pem')]);
    };
    config('by-cert', 'auth = "cert"\nrole = "ichor"\ncertificate = "client.pem"\nkey = "client.key"');
    await issue('someone-else');
    has(await broker.refuses(['check']), /FAIL {2}openbao by-cert: .*did not log us in/);
    await issue('ichor-broker');
    has((await broker.admin(['check'])).stdout, /ok {4}openbao by-cert/);
  });
  await check('a login in a namespace is good there, and the same ids are none outside of it', async () => {
    const inside = async (method, call, body) => {
      const answer = await bao.call(method, call, body, { token: bao.root, namespace: 'teams' });
      if (answer.status >= 300) throw new Error(`${method} ${call}: ${answer.status} ${answer.text}`);
      return answer.json;
    };
    await bao.does('POST', 'sys/namespaces/teams', {});
    await inside('PUT', 'sys/policies/acl/own', { policy: OpenBao.rules('token.hcl', '') });
    await inside('POST', 'sys/auth/approle', { type: 'approle' });
    await inside('POST', 'auth/approle/role/ichor', { token_policies: ['own'], token_no_default_policy: true });
    const { data: { role_id: id } } = await inside('GET', 'auth/approle/role/ichor/role-id');
    const { data: { secret_id: secret } } = await inside('POST', 'auth/approle/role/ichor/secret-id', {});
    fs.writeFileSync(at('teams-secret-id'), secret, { mode: 0o600 });
    const section = (more) => `auth = "approle"\nrole = "${id}"\nsecret_file = "teams-secret-id"\n${more}`;
    config('in-teams', section('namespace = "teams"'));
    has((await broker.admin(['check'])).stdout, /ok {4}openbao in-teams/);
    const before = fs.readFileSync(at('config.toml'));
    config('outside', section(''));
    has(await broker.refuses(['check']), /FAIL {2}openbao outside: .*did not log us in/);
    fs.writeFileSync(at('config.toml'), before);
  });
}

/** The person gets no certificate, within bounds; the log has why. */
async function fails({ alice }, name, sentence) {
  const began = Date.now();
  const text = await alice.fails(['exec', name, '--ttl', '30m', '--', 'true']);
  const seconds = (Date.now() - began) / 1000;
  has(text, 'the cluster\'s CA could not issue; the grant is recorded as failed', 'what the person sees');
  if (seconds > PATIENCE) throw new Error(`${name}: it took ${seconds} s`);
  const log = await alice.json(['audit', 'log', '--kind', 'issue-failed', '--cluster', name, '--limit', '1']);
  has(JSON.stringify(log), JSON.stringify(sentence).slice(1, -1), 'the newest failure in the log');
}

/** Readiness says so of these, and stays on the whole: other clusters go on. */
async function names(world, checks, sentence, seconds = 15) {
  await eventually(async () => {
    const readiness = await world.readiness();
    for (const name of checks) {
      const found = readiness.checks.find((each) => each.name === name);
      has(JSON.stringify(found ?? readiness.checks), `"ok":false`, name);
      has(found.detail, sentence, name);
    }
    same(readiness.ready, true, 'whether the broker is ready');
  }, seconds);
}

/** Each custody issues again, and readiness has nothing to say. */
async function recovers(world) {
  for (const name of ['via-transit', 'via-pki', 'via-kv', 'own']) await eventually(() => world.works(name), 30);
  await eventually(async () => same((await world.readiness()).checks.filter(({ ok }) => !ok), [], 'what is out'), LOOK);
  same(world.broker.process.code, undefined, 'how the broker ended');
}

/** Ends every token of the broker's at that server. */
async function revoke(world, server) {
  for (const { accessor } of await world.tokens(server)) await world.bao.does('POST', 'auth/token/revoke-accessor', { accessor });
}

/** A login by JWT whose issuer's clock is ahead, as `ichor-broker check` tells it. */
async function login({ broker, bao }) {
  const { publicKey, privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pem = publicKey.export({ type: 'spki', format: 'pem' });
  await bao.does('POST', 'sys/auth/jwt', { type: 'jwt' });
  await bao.does('POST', 'auth/jwt/config', { jwt_validation_pubkeys: [pem] });
  const role = { role_type: 'jwt', user_claim: 'sub', bound_audiences: ['bao'], token_policies: [await bao.policy('token.hcl', 'any')] };
  await bao.does('POST', 'auth/jwt/role/ichor', { ...role, token_no_default_policy: true });
  const file = path.join(broker.dir, 'jwt');
  fs.appendFileSync(path.join(broker.dir, 'config.toml'), `
[[openbao]]
name = "by-jwt"
address = "${bao.url}"
ca_file = "${bao.ca}"
auth = "jwt"
role = "ichor"
secret_file = "jwt"
`);
  const write = (ahead) => {
    const now = Math.floor(Date.now() / 1000) + ahead;
    const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const body = `${part({ alg: 'ES256' })}.${part({ sub: 'ichor', aud: 'bao', iat: now, nbf: now, exp: now + 600 })}`;
    const signature = crypto.sign('sha256', Buffer.from(body), { key: privateKey, dsaEncoding: 'ieee-p1363' });
    fs.writeFileSync(file, `${body}.${signature.toString('base64url')}`, { mode: 0o600 });
  };
  await check('a JWT from a clock ten minutes ahead is refused, and ichor-broker check says so', async () => {
    write(600);
    has(await broker.refuses(['check']), /FAIL {2}openbao by-jwt: .*did not log us in: .*(not yet|before|time)/);
  });
  await check('a JWT from a right clock is taken', async () => {
    write(0);
    has((await broker.admin(['check'])).stdout, /ok {4}openbao by-jwt/);
  });
}
