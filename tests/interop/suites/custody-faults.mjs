// What befalls an OpenBao in its working life. Whatever it is, a person waits a bounded time, the log says what is wrong in a
// sentence, readiness names it, clusters that do not need the server go on, and when the cause is gone so is the outage, without
// a restart of the broker. Part of suite `custody`.
import fs from 'node:fs';
import path from 'node:path';
import { check, has, same } from '../driver/report.mjs';
import { eventually } from '../driver/processes.mjs';

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

/** The person gets no certificate, within bounds; the log has why. */
export async function fails({ alice }, name, sentence) {
  const began = Date.now();
  const text = await alice.fails(['exec', name, '--ttl', '30m', '--', 'true']);
  const seconds = (Date.now() - began) / 1000;
  has(text, 'the cluster\'s CA could not issue; the grant is recorded as failed', 'what the person sees');
  if (seconds > PATIENCE) throw new Error(`${name}: it took ${seconds} s`);
  const log = await alice.json(['audit', 'log', '--kind', 'issue-failed', '--cluster', name, '--limit', '1']);
  has(JSON.stringify(log), JSON.stringify(sentence).slice(1, -1), 'the newest failure in the log');
}

/** Readiness says so of these, and stays on the whole: other clusters go on. */
export async function names(world, checks, sentence, seconds = 15) {
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
